//! One datagram of which fragments were seen: its bytes, and the fragments that wait for its first one.

use super::walk::{DatagramId, Piece};
use crate::key::{End, FlowKey};
use crate::packet::{Facts, Labels};
use crate::time::Timestamp;

/// A datagram.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) id: DatagramId,
    pub(super) since: Timestamp,
    pub(super) flow: Option<Flow>,
    /// Held fragments; none once the flow is known.
    pub(super) held: Vec<Released>,
    /// What the first byte belongs to.
    pub(super) proto: u8,
    parts: Vec<Part>,
    /// The bytes that are there, as ascending ranges that do not touch.
    covered: Vec<(u32, u32)>,
    /// Length, once the last fragment was seen.
    total: Option<u32>,
    pub(super) state: State,
    /// Bytes that `parts` and `held` point to, and what all of it is accounted for.
    pub(super) outside: usize,
    pub(super) memory: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Bytes are collected.
    Open,
    /// All bytes came, and were handed out.
    Complete,
    /// It will not be put together: too long, or of a kind that is not.
    Apart,
}

/// A fragment as it came: its place, and its bytes while they are needed.
#[derive(Debug)]
struct Part {
    offset: u32,
    len: u64,
    bytes: Box<[u8]>,
}

/// The flow of a datagram's first fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) sender: End,
}

impl Flow {
    /// Takes the flow of a packet.
    pub(super) fn of(facts: &Facts) -> Self {
        Flow { key: facts.key, sender: facts.sender }
    }
}

/// A fragment that was held, on its way out.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) facts: Facts,
    pub(super) labels: Labels,
    pub(super) payload: Box<[u8]>,
    pub(super) arrival: u64,
}

impl Datagram {
    pub(super) fn new(id: DatagramId, since: Timestamp) -> Self {
        Datagram {
            id,
            since,
            flow: None,
            held: Vec::new(),
            proto: 0,
            parts: Vec::new(),
            covered: Vec::new(),
            total: None,
            state: State::Open,
            outside: 0,
            memory: 0,
        }
    }

    /// Takes the held fragments out.
    pub(super) fn let_go(&mut self) -> impl Iterator<Item = Released> + use<> {
        let held = std::mem::take(&mut self.held);
        let bytes: usize = held.iter().map(|held| held.payload.len() + held.labels.heap_bytes()).sum();
        self.outside = self.outside.saturating_sub(bytes);
        held.into_iter()
    }

    /// Tells whether a fragment of the same place and length came before.
    pub(super) fn repeats(&self, piece: &Piece<'_>) -> bool {
        self.parts.iter().any(|part| part.offset == piece.offset && part.len == piece.len)
    }

    /// Adds a fragment; tells whether some of its bytes were there already.
    pub(super) fn add(&mut self, piece: &Piece<'_>) -> bool {
        let announced_end = u64::from(piece.offset).saturating_add(piece.len);
        if announced_end > MAX_DATAGRAM || self.parts.len() >= MAX_PARTS {
            self.give_up();
            return false;
        }
        if piece.offset == 0 {
            self.proto = piece.proto;
        }
        if !piece.more && self.total.is_none() {
            self.total = u32::try_from(announced_end).ok();
        }
        let end = piece.offset.saturating_add(u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX));
        let overlap = cover(&mut self.covered, piece.offset, end);
        if overlap != Overlap::Whole {
            self.outside += piece.bytes.len();
            self.parts.push(Part { offset: piece.offset, len: piece.len, bytes: piece.bytes.into() });
        }
        overlap != Overlap::No
    }

    /// Returns the datagram's length when all its bytes are there for the first time.
    pub(super) fn complete_length(&self) -> Option<usize> {
        match (self.state, self.total, self.covered.as_slice()) {
            (State::Open, Some(total), [(0, end)]) if *end >= total => usize::try_from(total).ok(),
            _ => None,
        }
    }

    /// Puts the datagram together and lets go of its bytes. The first bytes of a place win.
    pub(super) fn write_to(&mut self, datagram: &mut Vec<u8>, total: usize) {
        datagram.clear();
        datagram.resize(total, 0);
        for part in self.parts.iter_mut().rev() {
            let place = datagram.get_mut(part.offset as usize..).unwrap_or_default();
            for (to, from) in place.iter_mut().zip(&part.bytes) {
                *to = *from;
            }
            self.outside = self.outside.saturating_sub(part.bytes.len());
            part.bytes = Box::default();
        }
        self.state = State::Complete;
    }

    pub(super) fn give_up(&mut self) {
        self.state = State::Apart;
        let bytes: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        self.outside = self.outside.saturating_sub(bytes);
        (self.parts, self.covered) = (Vec::new(), Vec::new());
    }

    pub(super) fn memory(&self) -> usize {
        DATAGRAM_BYTES
            + self.outside
            + self.held.capacity() * size_of::<Released>()
            + self.parts.capacity() * size_of::<Part>()
            + self.parts.len() * ALLOCATION_BYTES
            + self.covered.capacity() * size_of::<(u32, u32)>()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Overlap {
    No,
    Partly,
    Whole,
}

/// Adds `from..to` to ascending ranges that do not touch; tells how much of it they had.
fn cover(ranges: &mut Vec<(u32, u32)>, from: u32, to: u32) -> Overlap {
    let first = ranges.partition_point(|range| range.1 < from);
    let touching = ranges.get(first..).unwrap_or_default().iter().take_while(|range| range.0 <= to).count();
    let (mut start, mut end, mut had) = (from, to, 0u32);
    for range in ranges.drain(first..first + touching) {
        had += range.1.min(to).saturating_sub(range.0.max(from));
        (start, end) = (start.min(range.0), end.max(range.1));
    }
    ranges.insert(first, (start, end));
    match had {
        0 => Overlap::No,
        _ if had >= to - from => Overlap::Whole,
        _ => Overlap::Partly,
    }
}

/// Fragments of a datagram that is put together or held; 1,024 cover 64 KiB in pieces of 64 bytes.
pub(super) const MAX_PARTS: usize = 1024;
/// What a datagram costs beside its bytes; both tables may be half empty.
const DATAGRAM_BYTES: usize = 2 * (size_of::<Datagram>() + size_of::<DatagramId>() + 2 * size_of::<u64>());
/// What a datagram costs with its first fragment, beside that one's bytes: lists begin with room for four.
pub(super) const NEW_DATAGRAM_BYTES: usize = DATAGRAM_BYTES
    + 4 * (size_of::<Released>() + size_of::<Part>() + size_of::<(u32, u32)>())
    + ALLOCATION_BYTES;
/// What an allocation costs beside its bytes.
const ALLOCATION_BYTES: usize = 16;
/// The longest IP payload.
const MAX_DATAGRAM: u64 = 65_535;
