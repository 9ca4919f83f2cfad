//! Fragments: which flow they belong to, and the datagram put together.
//!
//! A datagram is known by its id from its first seen fragment on, for 30 s of table time. Until the
//! fragment with the transport header comes, the others are held. Everything is bounded: number, bytes, time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::ip::Chain;
use super::walk::{DatagramId, Piece};
use crate::key::{End, FlowKey};
use crate::packet::{Facts, Labels, Message, TcpFlags};
use crate::time::Timestamp;

/// The datagrams of which fragments were seen, oldest first.
#[derive(Default, Debug)]
pub(super) struct Fragments {
    ages: HashMap<DatagramId, u64>,
    datagrams: BTreeMap<u64, Datagram>,
    next_age: u64,
    next_arrival: u64,
    memory: usize,
    assembled: Vec<u8>,
    pub(super) counts: FragmentCounts,
}

/// What happened to fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentCounts {
    /// Fragments that are held now, because the first one of their datagram has not come.
    pub held: u64,
    /// Bytes of those on the wire.
    pub held_bytes: u64,
    /// Fragments whose first one did not come in time; they went to flows without ports.
    pub expired: u64,
    /// Fragments that went to flows without ports for want of room.
    pub evicted: u64,
    /// Datagrams that were forgotten for want of room before they were complete.
    pub datagrams_evicted: u64,
    /// Fragments with bytes that an earlier fragment had brought already.
    pub overlapping: u64,
}

/// The flow of a datagram's first fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) sender: End,
}

/// A fragment that was held, on its way out.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) facts: Facts,
    pub(super) labels: Labels,
    pub(super) payload: Box<[u8]>,
    arrival: u64,
}

/// The place of a datagram in the store.
#[derive(Clone, Copy)]
pub(super) struct Place(u64);

#[derive(Debug)]
struct Datagram {
    id: DatagramId,
    since: Timestamp,
    flow: Option<Flow>,
    /// Held fragments; none once the flow is known.
    held: Vec<Released>,
    /// What the first byte belongs to.
    proto: u8,
    parts: Vec<Part>,
    /// The bytes that are there, as ascending ranges that do not touch.
    covered: Vec<(u32, u32)>,
    /// Length, once the last fragment was seen.
    total: Option<u32>,
    state: State,
    /// Bytes that `parts` and `held` point to, and what all of it is accounted for.
    outside: usize,
    memory: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
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

impl Fragments {
    /// Tells whether no datagram is known.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Finds the datagram of a later fragment, or makes it.
    pub(super) fn find(
        &mut self,
        id: &DatagramId,
        piece: &Piece<'_>,
        now: Timestamp,
    ) -> (Place, Option<Flow>) {
        let known = self.ages.get(id).copied();
        if let Some(datagram) = known.and_then(|age| self.datagrams.get(&age))
            && (datagram.state != State::Complete || datagram.repeats(piece))
        {
            return (Place(known.unwrap_or_default()), datagram.flow);
        }
        (self.open(*id, now), None)
    }

    /// Finds the datagram of a first fragment, or makes it; lets go what was held for it.
    pub(super) fn begin(
        &mut self,
        id: &DatagramId,
        flow: Flow,
        now: Timestamp,
        released: &mut Vec<Released>,
    ) -> Place {
        let known = self.ages.get(id).copied();
        let age = match known.and_then(|age| Some((age, self.datagrams.get(&age)?))) {
            Some((age, datagram))
                if datagram.state != State::Complete && datagram.flow.is_none_or(|known| known == flow) =>
            {
                age
            }
            _ => self.open(*id, now).0,
        };
        if let Some(datagram) = self.datagrams.get_mut(&age) {
            datagram.flow = Some(flow);
            let counts = &mut self.counts;
            released.extend(datagram.let_go().map(|mut fragment| {
                counts.let_go(&fragment.facts);
                (fragment.facts.key, fragment.facts.sender) = (flow.key, flow.sender);
                fragment
            }));
            self.account(age);
        }
        Place(age)
    }

    /// Keeps a later fragment until its first one comes.
    pub(super) fn hold(&mut self, place: Place, facts: Facts, payload: &[u8], labels: &Labels) {
        let Some(datagram) = self.datagrams.get_mut(&place.0) else { return };
        datagram.outside += payload.len() + heap_bytes(labels);
        let labels = labels.clone();
        datagram.held.push(Released { facts, labels, payload: payload.into(), arrival: self.next_arrival });
        self.next_arrival += 1;
        self.counts.held += 1;
        self.counts.held_bytes += u64::from(facts.wire_len);
        self.account(place.0);
    }

    /// Says that a datagram will not be put together.
    pub(super) fn keep_apart(&mut self, place: Place) {
        if let Some(datagram) = self.datagrams.get_mut(&place.0) {
            datagram.give_up();
            self.account(place.0);
        }
    }

    /// Adds a fragment's bytes; returns the transport payload if they were the last that were missing.
    pub(super) fn add(&mut self, place: Place, piece: &Piece<'_>) -> Option<Message<'_>> {
        let datagram = self.datagrams.get_mut(&place.0)?;
        if datagram.state == State::Open {
            self.counts.overlapping += u64::from(datagram.add(piece));
        } else if datagram.state == State::Complete {
            self.counts.overlapping += 1;
        }
        let total = datagram.complete_length();
        if let Some(total) = total {
            datagram.write_to(&mut self.assembled, total);
        }
        let (version, proto) = (datagram.id.version(), datagram.proto);
        self.account(place.0);
        total?;
        let chain = Chain::of_datagram(proto, &self.assembled);
        let chain = chain.skip(version);
        let transport = chain.transport();
        if !transport.sound || chain.piece.is_some() {
            return None;
        }
        let seq = transport.tcp.map_or(0, |tcp| first_payload_seq(tcp.seq, tcp.flags));
        let complete = transport.payload.len() as u64 == transport.payload_len;
        Some(Message { bytes: transport.payload, seq, complete })
    }
}

impl Fragments {
    /// Lets go the datagrams that are older than 30 s at `now`.
    pub(super) fn expire(&mut self, now: Timestamp, released: &mut Vec<Released>) {
        let before = released.len();
        while let Some((&age, datagram)) = self.datagrams.first_key_value()
            && u128::from(now.nanos_since(datagram.since)) > LIFETIME.as_nanos()
        {
            self.forget(age, released);
        }
        self.count_expired(before, released);
    }

    /// Lets go everything.
    pub(super) fn clear(&mut self, released: &mut Vec<Released>) {
        let before = released.len();
        while let Some((&age, _)) = self.datagrams.first_key_value() {
            self.forget(age, released);
        }
        self.count_expired(before, released);
    }

    /// Lets go the oldest datagrams, and the datagram `id` if it has too many parts, until there is room
    /// for `bytes` more of it.
    pub(super) fn make_room(&mut self, id: &DatagramId, bytes: usize, released: &mut Vec<Released>) {
        let before = released.len();
        if let Some(&age) = self.ages.get(id)
            && self.datagrams.get(&age).is_some_and(|datagram| datagram.held.len() >= MAX_PARTS)
        {
            self.evict(age, released);
        }
        // A held fragment's bytes are kept twice: to be handed out, and to be put together.
        let need = bytes * 2 + DATAGRAM_BYTES;
        while self.memory + need > MAX_MEMORY
            || self.datagrams.len() >= MAX_DATAGRAMS
            || self.counts.held >= MAX_HELD
        {
            let Some((&oldest, _)) = self.datagrams.first_key_value() else { break };
            self.evict(oldest, released);
        }
        self.counts.evicted += (released.len() - before) as u64;
        sort(released.get_mut(before..).unwrap_or_default());
    }

    fn evict(&mut self, age: u64, released: &mut Vec<Released>) {
        let complete = self.datagrams.get(&age).is_some_and(|datagram| datagram.state == State::Complete);
        self.counts.datagrams_evicted += u64::from(!complete);
        self.forget(age, released);
    }

    fn count_expired(&mut self, before: usize, released: &mut [Released]) {
        self.counts.expired += (released.len() - before) as u64;
        sort(released.get_mut(before..).unwrap_or_default());
    }

    /// Makes a datagram, in the place of one with the same id.
    fn open(&mut self, id: DatagramId, now: Timestamp) -> Place {
        let age = self.next_age;
        self.next_age += 1;
        if let Some(old) = self.ages.insert(id, age)
            && let Some(old) = self.datagrams.remove(&old)
        {
            self.memory = self.memory.saturating_sub(old.memory);
        }
        self.datagrams.insert(age, Datagram::new(id, now));
        self.account(age);
        Place(age)
    }

    fn forget(&mut self, age: u64, released: &mut Vec<Released>) {
        let Some(mut datagram) = self.datagrams.remove(&age) else { return };
        self.ages.remove(&datagram.id);
        self.memory = self.memory.saturating_sub(datagram.memory);
        let counts = &mut self.counts;
        released.extend(datagram.let_go().inspect(|fragment| counts.let_go(&fragment.facts)));
    }

    /// Brings the memory account up to date after a change of a datagram.
    fn account(&mut self, age: u64) {
        if let Some(datagram) = self.datagrams.get_mut(&age) {
            let memory = datagram.memory();
            self.memory = self.memory.saturating_sub(datagram.memory).saturating_add(memory);
            datagram.memory = memory;
        }
    }
}

impl FragmentCounts {
    fn let_go(&mut self, facts: &Facts) {
        self.held = self.held.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(u64::from(facts.wire_len));
    }
}

impl Datagram {
    fn new(id: DatagramId, since: Timestamp) -> Self {
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
    fn let_go(&mut self) -> impl Iterator<Item = Released> + use<> {
        let held = std::mem::take(&mut self.held);
        let bytes: usize = held.iter().map(|held| held.payload.len() + heap_bytes(&held.labels)).sum();
        self.outside = self.outside.saturating_sub(bytes);
        held.into_iter()
    }

    /// Tells whether a fragment of the same place and length came before.
    fn repeats(&self, piece: &Piece<'_>) -> bool {
        self.parts.iter().any(|part| part.offset == piece.offset && part.len == piece.len)
    }

    /// Adds a fragment; tells whether some of its bytes were there already.
    fn add(&mut self, piece: &Piece<'_>) -> bool {
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
    fn complete_length(&self) -> Option<usize> {
        match (self.state, self.total, self.covered.as_slice()) {
            (State::Open, Some(total), [(0, end)]) if *end >= total => usize::try_from(total).ok(),
            _ => None,
        }
    }

    /// Puts the datagram together and lets go of its bytes. The first bytes of a place win.
    fn write_to(&mut self, datagram: &mut Vec<u8>, total: usize) {
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

    fn give_up(&mut self) {
        self.state = State::Apart;
        let bytes: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        self.outside = self.outside.saturating_sub(bytes);
        (self.parts, self.covered) = (Vec::new(), Vec::new());
    }

    fn memory(&self) -> usize {
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

/// Returns the sequence number of the first payload byte: a SYN takes one for itself.
pub(super) fn first_payload_seq(seq: u32, flags: TcpFlags) -> u32 {
    seq.wrapping_add(u32::from(flags.contains(TcpFlags::SYN)))
}

fn sort(released: &mut [Released]) {
    released.sort_unstable_by_key(|fragment| fragment.arrival);
}

fn heap_bytes(labels: &Labels) -> usize {
    labels.vlans.len() * size_of::<u16>()
        + labels.mpls.len() * size_of::<u32>()
        + labels.tunnels.len() * size_of::<crate::packet::Tunnel>()
}

/// How long a datagram is known (definitions.md, "Fragments").
const LIFETIME: Duration = Duration::from_secs(30);
/// Datagrams at a time.
const MAX_DATAGRAMS: usize = 4096;
/// Held fragments at a time.
const MAX_HELD: u64 = 4096;
/// Fragments of a datagram that is put together or held; 1,024 cover 64 KiB in pieces of 64 bytes.
const MAX_PARTS: usize = 1024;
/// Memory on the account; what it does not see (spare room of tables, the datagram put together) fits into
/// the rest of the 8 MiB.
const MAX_MEMORY: usize = 6 << 20;
/// What a datagram costs beside its bytes; both tables may be half empty.
const DATAGRAM_BYTES: usize = 2 * (size_of::<Datagram>() + size_of::<DatagramId>() + 2 * size_of::<u64>());
/// What an allocation costs beside its bytes.
const ALLOCATION_BYTES: usize = 16;
/// The longest IP payload.
const MAX_DATAGRAM: u64 = 65_535;
