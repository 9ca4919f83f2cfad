//! An exact sum of squares, and the standard deviation that follows from it.

/// A sum of squares in 128 bits, kept as two words so that it needs no wider alignment than they do.
///
/// It cannot overflow where the sum of the numbers themselves fits 64 bits, as with the gaps of one
/// population, which add up to a span of time; nor before 2^64 numbers below 2^32.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Squares {
    high: u64,
    low: u64,
}

impl Squares {
    #[inline]
    pub(super) fn add(&mut self, number: u64) {
        let sum = self.total().wrapping_add(u128::from(number) * u128::from(number));
        (self.high, self.low) = ((sum >> 64) as u64, sum as u64);
    }

    #[inline]
    fn total(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// Returns the sample standard deviation of `count` numbers that add up to `sum`, none below two.
    ///
    /// In whole numbers up to the last division: with sum = q·n + r, Σ(x − q)² = Σx² − q·(sum + r), and
    /// n·Σ(x − mean)² = n·Σ(x − q)² − r².
    pub(super) fn sample_std(self, count: u64, sum: u64) -> Option<f64> {
        if count < 2 {
            return None;
        }
        let (quotient, rest) = (sum / count, sum % count);
        let shift = u128::from(quotient) * (u128::from(sum) + u128::from(rest));
        let around = self.total().saturating_sub(shift);
        let rest = u128::from(rest) * u128::from(rest);
        let deviations = match around.checked_mul(u128::from(count)) {
            Some(scaled) => nearest(scaled.saturating_sub(rest)) / count as f64,
            // So wide a spread that the rest is beyond the last digit of a float.
            None => around as f64,
        };
        Some((deviations / (count - 1) as f64).sqrt())
    }
}

/// Returns the float next to a number; to look whether it fits 64 bits is faster than to treat all alike.
#[inline]
fn nearest(number: u128) -> f64 {
    u64::try_from(number).map_or(number as f64, |short| short as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn std(numbers: &[u64]) -> Option<f64> {
        let mut squares = Squares::default();
        numbers.iter().for_each(|&number| squares.add(number));
        squares.sample_std(numbers.len() as u64, numbers.iter().sum())
    }

    #[test]
    fn by_hand() {
        assert_eq!(std(&[]), None);
        assert_eq!(std(&[7]), None);
        assert_eq!(std(&[7, 7, 7]), Some(0.0));
        // mean 5, deviations 3 1 1 1 0 0 2 4, squares 32, 32 / 7
        assert_eq!(std(&[2, 4, 4, 4, 5, 5, 7, 9]), Some((32f64 / 7.0).sqrt()));
        // mean 1.5: 0.25 + 0.25, over one
        assert_eq!(std(&[1, 2]), Some(0.5f64.sqrt()));
    }

    #[test]
    fn a_small_spread_far_from_zero_is_exact() {
        let base = 1 << 62;
        assert_eq!(std(&[base, base + 1]), Some(0.5f64.sqrt()));
        assert_eq!(std(&[0, u64::MAX]), Some(u64::MAX as f64 * 0.5f64.sqrt()));
    }
}
