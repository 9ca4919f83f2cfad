//! The hash of flow keys: one for each packet, for the choice of its shard and for its place in a table.

use std::hash::{BuildHasher, Hasher};

use crate::key::FlowKey;

/// A keyed hash of flow keys; its own key is drawn at random, so that nobody can make keys that meet (faults.md).
#[derive(Clone, Debug, Default)]
pub struct KeyHash(foldhash::fast::RandomState);

/// The hash of a flow's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashedKey(u64);

/// What a table keeps of it: the lower half.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KeyTag(u32);

impl KeyHash {
    /// Hashes a key.
    #[inline]
    pub fn of(&self, key: &FlowKey) -> HashedKey {
        let mut hasher = self.0.build_hasher();
        for word in key.as_words() {
            hasher.write_u64(word);
        }
        HashedKey(hasher.finish())
    }
}

impl HashedKey {
    /// Chooses one of `count`, by the upper bits.
    #[inline]
    pub fn pick(self, count: usize) -> usize {
        ((u128::from(self.0) * count as u128) >> 64) as usize
    }

    /// Returns what a table keeps of it; it does not follow from what was picked.
    #[inline]
    pub fn tag(self) -> KeyTag {
        KeyTag(self.0 as u32)
    }
}

impl KeyTag {
    /// Spreads a tag over 64 bits: hashbrown takes its bucket from the low and its own tag from the high ones.
    #[inline]
    pub(super) fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::key::{Endpoint, FiveTuple, Proto};

    /// Keys of which only the smaller address differs, in two words that `craft` makes of a number.
    fn keys(craft: fn(u64) -> [u64; 2]) -> Vec<FlowKey> {
        let end = |bits| Endpoint { addr: IpAddr::V6(Ipv6Addr::from_bits(bits)), port: Some(9) };
        let keys = (1..=30_000).map(|nth| {
            let [high, low] = craft(nth << 40 | nth).map(u128::from);
            let tuple = FiveTuple { src: end(high << 64 | low), dst: end(u128::MAX), proto: Proto::UDP };
            FlowKey::from_tuple(&tuple).0
        });
        keys.collect()
    }

    #[test]
    fn keys_that_meet_in_hashes_without_a_key_do_not_meet_here() {
        const FX: u64 = 0x517C_C1B7_2722_0A95;
        const RUSTC: u64 = 0xF135_7AEA_2E62_A9C5;
        let fx: fn(&FlowKey) -> u64 = |key| {
            key.as_words()
                .into_iter()
                .fold(0, |hash: u64, word| (hash.rotate_left(5) ^ word).wrapping_mul(FX))
        };
        let rustc: fn(&FlowKey) -> u64 = |key| {
            key.as_words().into_iter().fold(0, |hash: u64, word| hash.wrapping_add(word).wrapping_mul(RUSTC))
        };
        for (fixed, keys) in [
            (fx, keys(|free| [free, free.wrapping_mul(FX).rotate_left(5)])),
            (rustc, keys(|free| [free, 0_u64.wrapping_sub(free.wrapping_mul(RUSTC))])),
            // One factor of a folded multiplication is 0.
            (|key| key.stable_hash(7), keys(|free| [free, 0x1319_8A2E_0370_7344])),
        ] {
            assert_eq!(keys.iter().map(fixed).collect::<HashSet<_>>().len(), 1, "they are crafted badly");
            let hash = KeyHash::default();
            let tags: HashSet<u32> = keys.iter().map(|key| hash.of(key).tag().0).collect();
            // Of 30,000 random numbers below 2^32, one in ten times two are the same.
            assert!(tags.len() > keys.len() - 20, "{} of {}", tags.len(), keys.len());
            let first = keys.iter().filter(|key| hash.of(key).pick(2) == 0).count();
            assert!((14_000..16_000).contains(&first), "{first} of {} for the first shard", keys.len());
        }
    }

    #[test]
    fn picks_are_even_and_tags_do_not_follow_from_them() {
        let hashed = |nth: u64| HashedKey(nth.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for count in [1, 2, 3, 8] {
            let mut picked = vec![0; count];
            (0..8000).for_each(|nth| picked[hashed(nth).pick(count)] += 1);
            assert!(picked.iter().all(|&n| n >= 7000 / count), "{picked:?}");
        }
        assert_eq!(HashedKey(u64::MAX).pick(3), 2);
        assert_eq!(HashedKey(0xF000_0000_1234_5678).tag(), HashedKey(0x1234_5678).tag());
    }
}
