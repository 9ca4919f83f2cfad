//! A small generator of pseudo-random numbers, all in integers, so that every machine makes the same traffic.

/// A stream of numbers that its seed determines (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts the stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Rng(mix(seed))
    }

    /// Returns the next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Returns a number below `bound`; 0 for a bound of 0.
    pub const fn below(&mut self, bound: u32) -> u32 {
        (((self.bits() >> 32) * bound as u64) >> 32) as u32
    }

    /// Returns a number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// Answers yes with a chance of `per_mille` in a thousand.
    pub const fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille
    }

    /// Returns one of the values.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }

    /// Returns a heavy-tailed size of at least `base`: above `base * 2^k` with a chance of `1 / 2^k`, `k` at most
    /// `doublings` (a Pareto distribution with exponent 1, cut off).
    pub const fn heavy(&mut self, base: u32, doublings: u32) -> u32 {
        let zeros = self.bits().trailing_zeros();
        let low = base << if zeros < doublings { zeros } else { doublings };
        low + self.below(low)
    }

    /// Fills a slice with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let bits = self.bits().to_le_bytes();
            chunk.copy_from_slice(&bits[..chunk.len()]);
        }
    }
}

/// Mixes 64 bits, one to one.
pub const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Mixes 32 bits, one to one: neighbours land far apart and none meet.
pub const fn scatter(index: u32) -> u32 {
    let bits = (index ^ (index >> 16)).wrapping_mul(0x85EB_CA6B);
    let bits = (bits ^ (bits >> 13)).wrapping_mul(0xC2B2_AE35);
    bits ^ (bits >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut rng = Rng::new(7);
        let drawn: Vec<u32> = (0..1000).map(|_| rng.between(3, 6)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&6));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn heavy_sizes_halve_with_every_doubling() {
        let mut rng = Rng::new(7);
        let drawn: Vec<u32> = (0..100_000).map(|_| rng.heavy(100, 10)).collect();
        let above = |limit: u32| drawn.iter().filter(|size| **size >= limit).count();
        assert_eq!(above(100), 100_000);
        assert!((24_000..26_000).contains(&above(400)), "{}", above(400));
        assert_eq!(above(100 << 11), 0);
    }

    #[test]
    fn scattered_numbers_never_meet() {
        let mut seen: Vec<u32> = (0..100_000).map(scatter).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100_000);
    }
}
