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
    use super::*;

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
