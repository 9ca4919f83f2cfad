//! The stream of frames that a shape sends.

use crate::pools::Pools;
use crate::shapes::{Maker, Shape};
use crate::totals::Totals;
use crate::wire::Wire;

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Nanoseconds since the Unix epoch, whole microseconds.
    pub ts_ns: i64,
    /// The bytes, from the Ethernet header on.
    pub bytes: &'a [u8],
}

/// Frames one by one, in time order, and their totals.
pub struct Traffic {
    maker: Box<dyn Maker + Send>,
    pools: Pools,
    wire: Wire,
    totals: Totals,
}

impl Traffic {
    /// Begins the traffic of a shape; `scale` multiplies its size.
    pub fn new(shape: Shape, scale: f64, seed: u64) -> Self {
        Traffic {
            maker: shape.maker(scale, seed),
            pools: Pools::new(seed),
            wire: Wire::default(),
            totals: Totals::default(),
        }
    }

    /// Makes the next frame; none at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "the frame borrows from the maker, as no Iterator's item can"
    )]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let sent = self.maker.next(&self.pools, &mut self.wire)?;
        let bytes = self.wire.bytes();
        self.totals.add(sent.kind, bytes.len(), sent.payload, sent.opens);
        Some(Frame { ts_ns: START_NS + sent.at_us as i64 * 1000, bytes })
    }

    /// Returns the totals so far.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").field("totals", &self.totals).finish_non_exhaustive()
    }
}

/// All frames of a run in one piece of memory, for measurements that must not pay for making them.
#[derive(Clone, Default, Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    ends: Vec<(i64, usize)>,
    totals: Totals,
}

impl Frames {
    /// Makes all frames of a shape, or the first `most`.
    pub fn new(shape: Shape, scale: f64, seed: u64, most: usize) -> Self {
        let mut frames = Frames::default();
        let mut traffic = Traffic::new(shape, scale, seed);
        while frames.ends.len() < most
            && let Some(frame) = traffic.next()
        {
            frames.bytes.extend_from_slice(frame.bytes);
            frames.ends.push((frame.ts_ns, frames.bytes.len()));
        }
        frames.totals = traffic.totals;
        frames
    }

    /// Returns the frames in time order.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        begins
            .zip(&self.ends)
            .map(|(begin, (ts_ns, end))| Frame { ts_ns: *ts_ns, bytes: &self.bytes[begin..*end] })
    }

    /// Returns the totals.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }
}

/// 14 November 2023, 22:13:20 UTC.
const START_NS: i64 = 1_700_000_000_000_000_000;

#[cfg(test)]
mod tests;
