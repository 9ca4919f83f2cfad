//! Shannon entropy of the payload bytes.

mod held;
mod measure;

use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;

use held::Held;

/// Measures the entropy of the captured payload bytes (definitions.md, "Entropy").
///
/// The first bytes, up to 254, are kept as they are, since a histogram would cost more time and memory; it is
/// made when they no longer fit. A flow without payload holds nothing.
#[derive(Default, Debug)]
pub struct Entropy {
    held: Held,
}

impl Feature for Entropy {
    type Values = EntropyValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, options: &FeatureOptions) {
        if !packet.payload.is_empty() {
            self.held.take(packet.payload, dir.index(), options.entropy_bytes);
        }
    }

    fn turn(&mut self) {
        self.held.turn();
    }

    fn finish(&self) -> EntropyValues {
        self.held.measure()
    }

    fn heap_bytes(&self) -> usize {
        self.held.heap_bytes()
    }
}

impl Entropy {
    /// Reads the first and the last of the bytes that are held.
    pub(super) fn touch(&self) -> u64 {
        let [src, dst] = self.held.sides();
        [src.first(), dst.last()].into_iter().flatten().map(|&byte| u64::from(byte)).sum()
    }
}

/// The entropy of a flow record, in bits per byte; none where there was no payload.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct EntropyValues {
    /// Over the bytes of both directions.
    pub both: Option<f64>,
    /// Over the initiator's bytes.
    pub src: Option<f64>,
    /// Over the responder's bytes.
    pub dst: Option<f64>,
    /// How many bytes were measured.
    pub bytes: u64,
}

impl Values for EntropyValues {
    const FIELDS: &'static [Field] = &[
        Field::core_and_stats("entropy"),
        Field::stats("src_entropy"),
        Field::stats("dst_entropy"),
        Field::core_and_stats("entropy_bytes"),
    ];

    #[inline(always)]
    fn value(&self, index: usize) -> Scalar<'_> {
        match index {
            0 => Scalar::float(self.both),
            1 => Scalar::float(self.src),
            2 => Scalar::float(self.dst),
            3 => Scalar::U64(self.bytes),
            _ => Scalar::Absent,
        }
    }
}

#[cfg(test)]
mod tests;
