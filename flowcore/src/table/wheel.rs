//! The timing wheel: which flows to look at when table time has moved on.
//!
//! A flow is parked in the slot of the time at which it would end if nothing more came. Packets do not
//! move it: when its slot is over, a flow whose time has moved on is parked anew (so it is visited once
//! per idle period, and a packet costs nothing).

use crate::time::Timestamp;

/// The slots, each with the flows parked in it.
pub(super) struct Wheel {
    slots: Vec<List>,
    /// One bit for each slot that is not empty.
    occupied: [u64; SLOTS / 64],
    /// The slot number that table time is in; all slots before it are empty.
    cursor: i64,
}

/// The ends of an intrusive doubly linked list of flows.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
}

/// A flow's place in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
}

/// Where the links of a list's members are.
pub(super) trait Links {
    fn link(&mut self, at: u32) -> &mut Link;
}

impl List {
    pub(super) const EMPTY: List = List { head: NONE, tail: NONE };

    pub(super) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(super) fn push_back(&mut self, at: u32, links: &mut impl Links) {
        *links.link(at) = Link { prev: self.tail, next: NONE };
        if self.tail == NONE {
            self.head = at;
        } else {
            links.link(self.tail).next = at;
        }
        self.tail = at;
    }

    pub(super) fn unlink(&mut self, at: u32, links: &mut impl Links) {
        let Link { prev, next } = std::mem::replace(links.link(at), Link::NONE);
        if prev == NONE {
            self.head = next;
        } else {
            links.link(prev).next = next;
        }
        if next == NONE {
            self.tail = prev;
        } else {
            links.link(next).prev = prev;
        }
    }
}

impl Link {
    pub(super) const NONE: Link = Link { prev: NONE, next: NONE };
}

impl Wheel {
    pub(super) fn new() -> Self {
        Wheel { slots: vec![List::EMPTY; SLOTS], occupied: [0; SLOTS / 64], cursor: i64::MIN }
    }

    /// Sets the wheel, which must be empty, to a new time.
    pub(super) fn reset(&mut self, slot: i64) {
        self.cursor = slot;
    }

    pub(super) fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Forgets all flows.
    pub(super) fn clear(&mut self) {
        self.slots.fill(List::EMPTY);
        self.occupied.fill(0);
    }

    /// Parks a flow in the slot of its due time, or in the last one there is; returns the place.
    pub(super) fn park(&mut self, at: u32, due_slot: i64, links: &mut impl Links) -> u16 {
        let last = self.cursor.saturating_add(SLOTS as i64 - 1);
        let place = place(due_slot.clamp(self.cursor, last));
        self.slots[place].push_back(at, links);
        self.occupied[place / 64] |= 1 << (place % 64);
        place as u16
    }

    pub(super) fn unpark(&mut self, at: u32, place: u16, links: &mut impl Links) {
        let place = usize::from(place);
        self.slots[place].unlink(at, links);
        if self.slots[place].is_empty() {
            self.occupied[place / 64] &= !(1 << (place % 64));
        }
    }

    /// Moves the cursor to the first slot before `until` that holds flows, without one to `until`.
    pub(super) fn turn(&mut self, until: i64) {
        let slot = self.first_occupied().filter(|slot| *slot < until);
        self.cursor = slot.unwrap_or(until.max(self.cursor));
    }

    /// Takes out the flow that was parked first in the cursor's slot.
    pub(super) fn pop(&mut self, links: &mut impl Links) -> Option<u32> {
        let place = place(self.cursor);
        let at = self.slots[place].head;
        (at != NONE).then(|| {
            self.unpark(at, place as u16, links);
            at
        })
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
        self.first_occupied().map(|slot| (self.slots[place(slot)].head, slot))
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

/// The place of a flow that was taken out of its slot because it is due.
pub(super) const NOWHERE: u16 = u16::MAX;

/// No flow.
pub(super) const NONE: u32 = u32::MAX;

/// 4096 slots reach 18 minutes; a flow with a longer timeout is parked anew on the way.
const SLOTS: usize = 4096;
