//! The smallest and largest TTL or hop limit of each direction.

use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;

/// Keeps the smallest and the largest TTL or hop limit that each direction sent.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ttl {
    side: [Range; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    min: u8,
    max: u8,
}

impl Feature for Ttl {
    type Values = TtlValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, _: &FeatureOptions) {
        let side = &mut self.side[dir.index()];
        side.min = side.min.min(packet.ttl);
        side.max = side.max.max(packet.ttl);
    }

    fn turn(&mut self) {
        self.side.swap(0, 1);
    }

    fn finish(&self) -> TtlValues {
        TtlValues { src: self.side[0].bounds(), dst: self.side[1].bounds() }
    }
}

/// The TTLs of a flow record, smallest and largest; none where a direction sent nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TtlValues {
    /// Of the initiator's packets.
    pub src: Option<(u8, u8)>,
    /// Of the responder's packets.
    pub dst: Option<(u8, u8)>,
}

impl Values for TtlValues {
    const FIELDS: &'static [Field] = &[
        Field::stats("src_ttl_min"),
        Field::stats("src_ttl_max"),
        Field::stats("dst_ttl_min"),
        Field::stats("dst_ttl_max"),
    ];

    #[inline(always)]
    fn value(&self, index: usize) -> Scalar<'_> {
        Scalar::number(match index {
            0 => self.src.map(|bounds| bounds.0),
            1 => self.src.map(|bounds| bounds.1),
            2 => self.dst.map(|bounds| bounds.0),
            3 => self.dst.map(|bounds| bounds.1),
            _ => None,
        })
    }
}

impl Range {
    fn bounds(self) -> Option<(u8, u8)> {
        (self.min <= self.max).then_some((self.min, self.max))
    }
}

impl Default for Range {
    fn default() -> Self {
        Range { min: u8::MAX, max: 0 }
    }
}
