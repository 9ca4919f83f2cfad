//! The timing wheel: which flows to look at when table time has moved on.
//!
//! A flow is parked in the slot of the time at which it would end if nothing more came. Packets do not
//! move it: when its slot is over, a flow whose time has moved on is parked anew (so it is visited once
//! per idle period, and a packet costs nothing).

use super::list::{Links, List};
use crate::time::Timestamp;

/// The slots, each with the flows parked in it.
pub(super) struct Wheel {
    slots: Vec<List>,
    links: Links,
    /// One bit for each slot that is not empty.
    occupied: [u64; SLOTS / 64],
    /// The slot number that table time is in; all slots before it are empty.
    cursor: i64,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Wheel {
            slots: vec![List::EMPTY; SLOTS],
            links: Links::default(),
            occupied: [0; SLOTS / 64],
            cursor: i64::MIN,
        }
    }

    /// Sets the wheel, which must be empty, to a new time.
    pub(super) fn reset(&mut self, slot: i64) {
        self.cursor = slot;
    }

    pub(super) fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Returns the slot that is half the wheel's reach away.
    #[inline]
    pub(super) fn far(&self) -> i64 {
        self.cursor.saturating_add(SLOTS as i64 / 2)
    }

    /// Forgets all flows.
    pub(super) fn clear(&mut self) {
        self.links = Links::default();
        self.slots.fill(List::EMPTY);
        self.occupied.fill(0);
    }

    /// Parks a flow in the slot of its due time, or in the last one there is.
    pub(super) fn park(&mut self, at: u32, due_slot: i64) {
        let last = self.cursor.saturating_add(SLOTS as i64 - 1);
        let place = place(due_slot.clamp(self.cursor, last));
        self.slots[place].push_back(at, place as u16, &mut self.links);
        self.occupied[place / 64] |= 1 << (place % 64);
    }

    /// Takes a flow out of its slot, if it is parked.
    pub(super) fn unpark(&mut self, at: u32) {
        if let Some(list) = self.links.list_of(at) {
            let place = usize::from(list);
            self.slots[place].unlink(at, &mut self.links);
            if self.slots[place].is_empty() {
                self.occupied[place / 64] &= !(1 << (place % 64));
            }
        }
    }

    /// Tells whether a flow is parked.
    pub(super) fn holds(&self, at: u32) -> bool {
        self.links.list_of(at).is_some()
    }

    /// Moves the cursor to the first slot before `until` that holds flows, without one to `until`.
    pub(super) fn turn(&mut self, until: i64) {
        let slot = self.first_occupied().filter(|slot| *slot < until);
        self.cursor = slot.unwrap_or(until.max(self.cursor));
    }

    /// Returns the flows of the cursor's slot, in the order in which they were parked.
    pub(super) fn present(&self) -> impl Iterator<Item = u32> {
        self.slots[place(self.cursor)].iter(&self.links)
    }

    /// Returns the number of the first slot that holds flows.
    pub(super) fn first_occupied(&self) -> Option<i64> {
        let start = place(self.cursor);
        let words = self.occupied.len();
        // The word of the cursor is looked at twice: its upper bits first, its lower bits last.
        (0..=words).find_map(|step| {
            let word = (start / 64 + step) % words;
            let mask = match step {
                0 => u64::MAX << (start % 64),
                step if step == words => !(u64::MAX << (start % 64)),
                _ => u64::MAX,
            };
            let bits = self.occupied[word] & mask;
            (bits != 0).then(|| {
                let place = word * 64 + bits.trailing_zeros() as usize;
                self.cursor + ((place + SLOTS - start) % SLOTS) as i64
            })
        })
    }

    /// Returns the flow parked first in the first slot that holds any, and that slot's number.
    pub(super) fn front(&self) -> Option<(u32, i64)> {
        let slot = self.first_occupied()?;
        self.slots[place(slot)].front().map(|at| (at, slot))
    }
}

fn place(slot: i64) -> usize {
    slot.rem_euclid(SLOTS as i64) as usize
}

/// The slot number of a time in nanoseconds: slots of 2^28 ns, about a quarter of a second.
pub(super) const fn slot_of(nanos: i64) -> i64 {
    nanos >> 28
}

/// The time at which a slot begins.
pub(super) const fn slot_start(slot: i64) -> Timestamp {
    Timestamp::from_nanos(slot.saturating_mul(1 << 28))
}

/// 4096 slots reach 18 minutes; a flow with a longer timeout is parked anew on the way.
const SLOTS: usize = 4096;
