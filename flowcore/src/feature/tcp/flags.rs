//! How many packets carried each TCP flag.

use crate::packet::TcpFlags;

/// Counts the packets with each of the eight flags FIN, SYN, RST, PSH, ACK, URG, ECE and CWR.
///
/// The counts are narrow, so that a short flow is small; before they can overflow they are
/// emptied into wide ones that the owner keeps elsewhere.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct FlagCounts {
    counts: [u16; 8],
    packets: u16,
}

impl FlagCounts {
    /// Counts a packet; returns whether the counts must be emptied before the next one.
    #[inline]
    pub(super) fn count(&mut self, flags: TcpFlags) -> bool {
        for (count, flag) in self.counts.iter_mut().zip(BITS) {
            *count += u16::from(flags.0 & flag != 0);
        }
        self.packets += 1;
        self.packets == u16::MAX
    }

    /// Moves the counts into wide ones.
    pub(super) fn empty_into(&mut self, wide: &mut [u64; 8]) {
        *wide = self.plus(wide);
        *self = FlagCounts::default();
    }

    /// Returns the sum of the counts and those emptied before.
    pub(super) fn plus(&self, wide: &[u64; 8]) -> [u64; 8] {
        std::array::from_fn(|bit| wide[bit] + u64::from(self.counts[bit]))
    }
}

/// The eight flags that are counted. Compared with all at once, where shifts would go one by one.
const BITS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
