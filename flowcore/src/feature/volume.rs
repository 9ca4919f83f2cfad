//! Packets and bytes of each direction.

use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;

/// Counts packets, wire bytes, IP bytes and payload bytes of each direction.
#[derive(Clone, Copy, Default, Debug)]
pub struct Volume {
    side: [Side; 2],
}

/// What one direction sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Side {
    /// Packets.
    pub packets: u64,
    /// Frame lengths on the wire, in bytes.
    pub bytes: u64,
    /// Lengths by the IP header, in bytes.
    pub ip_bytes: u64,
    /// Transport payload by the headers, in bytes.
    pub payload_bytes: u64,
}

impl Feature for Volume {
    type Values = VolumeValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, _: &FeatureOptions) {
        let side = &mut self.side[dir.index()];
        side.packets += 1;
        side.bytes += u64::from(packet.wire_len);
        side.ip_bytes += packet.ip_len;
        side.payload_bytes += packet.payload_len;
    }

    fn turn(&mut self) {
        self.side.swap(0, 1);
    }

    fn finish(&self) -> VolumeValues {
        VolumeValues { src: self.side[0], dst: self.side[1] }
    }
}

/// Packets and bytes of a flow record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumeValues {
    /// What the initiator sent.
    pub src: Side,
    /// What the responder sent.
    pub dst: Side,
}

impl Values for VolumeValues {
    const FIELDS: &'static [Field] = &[
        Field::core_and_stats("bytes"),
        Field::core_and_stats("packets"),
        Field::core_and_stats("src_packets"),
        Field::core_and_stats("dst_packets"),
        Field::core_and_stats("src_bytes"),
        Field::core_and_stats("dst_bytes"),
        Field::stats("src_ip_bytes"),
        Field::stats("dst_ip_bytes"),
        Field::stats("src_payload_bytes"),
        Field::stats("dst_payload_bytes"),
    ];

    #[inline]
    fn value(&self, index: usize) -> Scalar<'_> {
        Scalar::U64(match index {
            0 => self.src.bytes + self.dst.bytes,
            1 => self.src.packets + self.dst.packets,
            2 => self.src.packets,
            3 => self.dst.packets,
            4 => self.src.bytes,
            5 => self.dst.bytes,
            6 => self.src.ip_bytes,
            7 => self.dst.ip_bytes,
            8 => self.src.payload_bytes,
            9 => self.dst.payload_bytes,
            _ => return Scalar::Absent,
        })
    }
}
