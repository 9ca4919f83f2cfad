//! Flows that are due, in the order in which they leave.

use std::cmp::Ordering;

use crate::key::FlowKey;
use crate::record::EndReason;
use crate::time::Timestamp;

/// A flow that has ended, and its place in the order of replay.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) time: Timestamp,
    /// Flow id and slice.
    pub(super) order: (u64, u32),
    pub(super) at: u32,
    pub(super) reason: EndReason,
}

/// Flows that are due at the same time, as far as the timing wheel tells times apart.
///
/// A million flows can be due at once, and sorting them would take too long for a packet to wait. So they are
/// gathered as they come, and then halved until the first part is small enough to be sorted; the rest is
/// sorted when its turn comes (incremental quicksort).
#[derive(Default)]
pub(super) struct DueList {
    /// The last one leaves first.
    list: Vec<Due>,
    /// Where parts begin; whatever is in a part leaves after all parts behind it.
    parts: Vec<usize>,
    /// The last part, from here on, is sorted.
    sorted: usize,
}

impl Due {
    /// Returns the place in the order of replay.
    pub(super) fn place(&self) -> (Timestamp, u64, u32) {
        (self.time, self.order.0, self.order.1)
    }

    /// Compares places; where they are the same, the keys of the flows.
    fn last_first(&self, other: &Due, key: impl Fn(u32) -> Option<FlowKey>) -> Ordering {
        let keys = || key(other.at).cmp(&key(self.at)).then(other.at.cmp(&self.at));
        other.place().cmp(&self.place()).then_with(keys)
    }
}

impl DueList {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a flow; all are to be added before the first one is taken out.
    pub(super) fn push(&mut self, due: Due) {
        self.list.push(due);
        self.sorted = self.list.len();
    }

    /// Takes out the flow that leaves next; `key` says whose flow lies where.
    #[inline]
    pub(super) fn pop(&mut self, key: impl Fn(u32) -> Option<FlowKey>) -> Option<Due> {
        if self.sorted == self.list.len() {
            self.sort_last_part(key);
        }
        let due = self.list.pop();
        if self.list.is_empty() {
            self.parts.clear();
            self.sorted = 0;
            self.list.shrink_to(KEPT);
        }
        due
    }

    fn sort_last_part(&mut self, key: impl Fn(u32) -> Option<FlowKey>) {
        while self.parts.last().is_some_and(|start| *start >= self.list.len()) {
            self.parts.pop();
        }
        let mut start = self.parts.last().copied().unwrap_or_default();
        while let Some(part) = self.list.get_mut(start..).filter(|part| part.len() > SORTED_AT_ONCE) {
            let half = part.len() / 2;
            part.select_nth_unstable_by(half, |one, other| one.last_first(other, &key));
            start += half;
            self.parts.push(start);
        }
        if let Some(part) = self.list.get_mut(start..) {
            part.sort_unstable_by(|one, other| one.last_first(other, &key));
        }
        self.sorted = start;
    }
}

/// Flows that are sorted in one go: some 100 µs.
const SORTED_AT_ONCE: usize = 2048;
/// Memory for so many is kept.
const KEPT: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{AddrWords, Proto, TunnelKey, VlanStack};

    #[test]
    fn all_leave_in_order() {
        for count in [0, 1, 2, 2048, 2049, 5000, 40_000u32] {
            let mut list = DueList::default();
            for at in 0..count {
                let time = Timestamp::from_nanos(i64::from(at.wrapping_mul(2_654_435_761) % 1000));
                list.push(Due { time, order: (u64::from(at % 7), 0), at, reason: EndReason::Idle });
            }
            // Places are alike, keys are not; they go the other way than the slots.
            let key = |at: u32| {
                let source = AddrWords::v4((u32::MAX - at).to_be_bytes());
                let (proto, labels) = (Proto::UDP, (VlanStack::default(), TunnelKey::default()));
                Some(FlowKey::new(4, source, source, proto, None, labels.0, labels.1).0)
            };
            let all: Vec<_> = std::iter::from_fn(|| list.pop(key)).collect();
            let places: Vec<_> = all.iter().map(|due| (due.place(), key(due.at))).collect();
            assert!(places.is_sorted() && places.len() == count as usize && list.is_empty());
        }
    }
}
