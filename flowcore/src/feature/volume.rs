//! Packets and bytes of each direction, and how long its packets were.

use super::length::Lengths;
use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;

/// Counts packets, wire bytes, IP bytes and payload bytes of each direction, and measures IP lengths.
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
    /// The spread of the lengths that make up `ip_bytes`.
    pub lengths: Lengths,
}

impl Side {
    /// Returns the mean IP length in bytes, none where there was no packet.
    pub fn len_mean(&self) -> Option<f64> {
        (self.packets > 0).then(|| self.ip_bytes as f64 / self.packets as f64)
    }

    /// Returns the sample standard deviation of the IP lengths, none below two packets.
    pub fn len_std(&self) -> Option<f64> {
        self.lengths.std(self.packets, self.ip_bytes)
    }
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
        side.lengths.add(packet.ip_len);
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

impl VolumeValues {
    /// Returns the packets of both directions.
    #[inline]
    pub fn packets(&self) -> u64 {
        self.src.packets + self.dst.packets
    }

    /// Returns the wire bytes of both directions.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.src.bytes + self.dst.bytes
    }
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
        Field::stats("src_len_min"),
        Field::stats("src_len_mean"),
        Field::stats("src_len_max"),
        Field::stats("src_len_std"),
        Field::stats("dst_len_min"),
        Field::stats("dst_len_mean"),
        Field::stats("dst_len_max"),
        Field::stats("dst_len_std"),
    ];

    #[inline(always)]
    fn value(&self, index: usize) -> Scalar<'_> {
        let (src, dst) = (&self.src, &self.dst);
        match index {
            0 => Scalar::U64(self.bytes()),
            1 => Scalar::U64(self.packets()),
            2 => Scalar::U64(src.packets),
            3 => Scalar::U64(dst.packets),
            4 => Scalar::U64(src.bytes),
            5 => Scalar::U64(dst.bytes),
            6 => Scalar::U64(src.ip_bytes),
            7 => Scalar::U64(dst.ip_bytes),
            8 => Scalar::U64(src.payload_bytes),
            9 => Scalar::U64(dst.payload_bytes),
            10 => Scalar::number(src.lengths.min()),
            11 => Scalar::float(src.len_mean()),
            12 => Scalar::number(src.lengths.max()),
            13 => Scalar::float(src.len_std()),
            14 => Scalar::number(dst.lengths.min()),
            15 => Scalar::float(dst.len_mean()),
            16 => Scalar::number(dst.lengths.max()),
            17 => Scalar::float(dst.len_std()),
            _ => Scalar::Absent,
        }
    }
}
