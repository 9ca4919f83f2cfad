//! The spread of IP lengths: smallest, largest, sample standard deviation.

use super::squares::Squares;

/// The spread of the IP lengths of one direction.
///
/// Lengths count up to 4,294,967,295 here, which only a jumbogram of 4 GiB could pass, or one that says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lengths {
    squares: Squares,
    min: u32,
    max: u32,
}

impl Lengths {
    #[inline]
    pub(super) fn add(&mut self, ip_len: u64) {
        let short = u32::try_from(ip_len).unwrap_or(u32::MAX);
        self.min = self.min.min(short);
        self.max = self.max.max(short);
        self.squares.add(ip_len);
    }

    /// Returns the smallest length in bytes, none where there was no packet.
    pub fn min(&self) -> Option<u32> {
        (self.min <= self.max).then_some(self.min)
    }

    /// Returns the largest length in bytes, none where there was no packet.
    pub fn max(&self) -> Option<u32> {
        (self.min <= self.max).then_some(self.max)
    }

    /// Returns the sample standard deviation of `packets` lengths that add up to `bytes`.
    pub(super) fn std(&self, packets: u64, bytes: u64) -> Option<f64> {
        self.squares.sample_std(packets, bytes)
    }
}

impl Default for Lengths {
    fn default() -> Self {
        Lengths { squares: Squares::default(), min: u32::MAX, max: 0 }
    }
}
