//! Inter-arrival times of the flow and of each of its directions.

use super::squares::Squares;
use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;
use crate::time::Timestamp;

/// Measures the gaps between packets, of the flow and of each direction (definitions.md, "Statistics").
///
/// A gap is `max(0, t − newest time of that population in this slice)`, so the gaps of a population
/// add up to its newest time less its first.
#[derive(Default, Debug)]
pub struct Iat {
    /// The time of the slice's first packet.
    first: Timestamp,
    flow: Spread,
    side: [Population; 2],
    /// Gaps that ran backwards: flow, src, dst.
    negative: Option<Box<[u64; 3]>>,
}

impl Feature for Iat {
    type Values = IatValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, _: &FeatureOptions) {
        let (time, newest) = (packet.time, self.newest());
        if self.packets() == 0 {
            self.first = time;
        } else {
            self.flow.add(time.nanos_since(newest));
        }
        let own = &mut self.side[dir.index()];
        if time < newest {
            let counts = self.negative.get_or_insert_default();
            counts[0] += 1;
            counts[1 + dir.index()] += u64::from(time < own.newest);
        }
        own.add(time);
    }

    fn turn(&mut self) {
        self.side.swap(0, 1);
        if let Some([_, src, dst]) = self.negative.as_deref_mut() {
            std::mem::swap(src, dst);
        }
    }

    fn finish(&self) -> IatValues {
        let [flow, src, dst] = self.negative.as_deref().copied().unwrap_or_default();
        let [from_src, from_dst] = &self.side;
        IatValues {
            flow: Intervals::new(self.packets(), self.first, self.newest(), self.flow, flow),
            src: from_src.intervals(src),
            dst: from_dst.intervals(dst),
        }
    }

    fn heap_bytes(&self) -> usize {
        self.negative.as_deref().map_or(0, size_of_val)
    }
}

/// The inter-arrival times of a flow record.
#[derive(Clone, Copy, Default, Debug)]
pub struct IatValues {
    /// Between all packets.
    pub flow: Intervals,
    /// Between packets of the initiator.
    pub src: Intervals,
    /// Between packets of the responder.
    pub dst: Intervals,
}

/// The gaps of one population.
#[derive(Clone, Copy, Default, Debug)]
pub struct Intervals {
    /// How many gaps ran backwards; they count as gaps of 0.
    pub negative: u64,
    gaps: u64,
    sum: u64,
    spread: Spread,
}

impl Intervals {
    fn new(packets: u64, first: Timestamp, newest: Timestamp, spread: Spread, negative: u64) -> Self {
        Intervals { negative, gaps: packets.saturating_sub(1), sum: newest.nanos_since(first), spread }
    }

    /// Returns the smallest gap in nanoseconds, none below two packets.
    pub fn min(&self) -> Option<u64> {
        (self.gaps > 0).then_some(self.spread.min)
    }

    /// Returns the mean gap in nanoseconds, none below two packets.
    pub fn mean(&self) -> Option<f64> {
        (self.gaps > 0).then(|| self.sum as f64 / self.gaps as f64)
    }

    /// Returns the largest gap in nanoseconds, none below two packets.
    pub fn max(&self) -> Option<u64> {
        (self.gaps > 0).then_some(self.spread.max)
    }

    /// Returns the sample standard deviation of the gaps in nanoseconds, none below three packets.
    pub fn std(&self) -> Option<f64> {
        self.spread.squares.sample_std(self.gaps, self.sum)
    }
}

impl Values for IatValues {
    const FIELDS: &'static [Field] = &[
        Field::core_and_stats("iat_min_us"),
        Field::core_and_stats("iat_mean_us"),
        Field::core_and_stats("iat_max_us"),
        Field::core_and_stats("iat_std_us"),
        Field::stats("src_iat_min_us"),
        Field::stats("src_iat_mean_us"),
        Field::stats("src_iat_max_us"),
        Field::stats("src_iat_std_us"),
        Field::stats("dst_iat_min_us"),
        Field::stats("dst_iat_mean_us"),
        Field::stats("dst_iat_max_us"),
        Field::stats("dst_iat_std_us"),
        Field::stats("iat_negative"),
        Field::stats("src_iat_negative"),
        Field::stats("dst_iat_negative"),
    ];

    #[inline(always)]
    fn value(&self, index: usize) -> Scalar<'_> {
        let population = match index {
            0..4 => &self.flow,
            4..8 => &self.src,
            8..12 => &self.dst,
            12 => return Scalar::U64(self.flow.negative),
            13 => return Scalar::U64(self.src.negative),
            14 => return Scalar::U64(self.dst.negative),
            _ => return Scalar::Absent,
        };
        match index % 4 {
            0 => population.min().map_or(Scalar::Absent, Scalar::Micros),
            1 => Scalar::micros(population.mean()),
            2 => population.max().map_or(Scalar::Absent, Scalar::Micros),
            _ => Scalar::micros(population.std()),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Population {
    packets: u64,
    first: Timestamp,
    newest: Timestamp,
    spread: Spread,
}

/// Of the gaps of one population; their sum follows from its first and newest time.
#[derive(Clone, Copy, Debug)]
struct Spread {
    min: u64,
    max: u64,
    squares: Squares,
}

impl Iat {
    fn packets(&self) -> u64 {
        self.side[0].packets + self.side[1].packets
    }

    fn newest(&self) -> Timestamp {
        self.side[0].newest.max(self.side[1].newest)
    }
}

impl Population {
    #[inline]
    fn add(&mut self, time: Timestamp) {
        if self.packets == 0 {
            self.first = time;
        } else {
            self.spread.add(time.nanos_since(self.newest));
        }
        self.packets += 1;
        self.newest = self.newest.max(time);
    }

    fn intervals(&self, negative: u64) -> Intervals {
        Intervals::new(self.packets, self.first, self.newest, self.spread, negative)
    }
}

impl Default for Population {
    fn default() -> Self {
        let spread = Spread::default();
        Population { packets: 0, first: Timestamp::MIN, newest: Timestamp::MIN, spread }
    }
}

impl Spread {
    #[inline]
    fn add(&mut self, gap: u64) {
        self.min = self.min.min(gap);
        self.max = self.max.max(gap);
        self.squares.add(gap);
    }
}

impl Default for Spread {
    fn default() -> Self {
        Spread { min: u64::MAX, max: 0, squares: Squares::default() }
    }
}
