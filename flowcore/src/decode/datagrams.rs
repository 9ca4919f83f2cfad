//! The datagrams of which fragments were seen.
//!
//! A datagram is known by its id from its first seen fragment on, for 30 s of table time. Until the
//! fragment with the transport header comes, the others are held. Everything is bounded: number, bytes, time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::datagram::{Datagram, Flow, MAX_PARTS, NEW_DATAGRAM_BYTES, Released, State};
use super::ip::Chain;
use super::walk::{DatagramId, Piece};
use crate::packet::{Facts, Labels, Message};
use crate::time::Timestamp;

/// The datagrams of which fragments were seen, oldest first.
#[derive(Default, Debug)]
pub(super) struct Datagrams {
    ages: HashMap<DatagramId, u64>,
    datagrams: BTreeMap<u64, Datagram>,
    next_age: u64,
    next_arrival: u64,
    pub(super) memory: usize,
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

/// The place of a datagram in the store.
#[derive(Clone, Copy)]
pub(super) struct Place(u64);

impl Datagrams {
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
        let labels = labels.clone();
        datagram.outside += payload.len() + labels.heap_bytes();
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
        let mut chain = Chain::of_datagram(proto, &self.assembled);
        chain.skip(version);
        let transport = chain.transport();
        if chain.piece.is_some() { None } else { transport.message() }
    }
}

impl Datagrams {
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
        let need = bytes * 2 + NEW_DATAGRAM_BYTES;
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
            debug_assert!(old.held.is_empty(), "what is held is let go when the flow is known");
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

fn sort(released: &mut [Released]) {
    released.sort_unstable_by_key(|fragment| fragment.arrival);
}

/// How long a datagram is known (definitions.md, "Fragments").
const LIFETIME: Duration = Duration::from_secs(30);
/// Datagrams at a time.
const MAX_DATAGRAMS: usize = 4096;
/// Held fragments at a time.
const MAX_HELD: u64 = 4096;
/// Memory on the account. What goes beyond (a list that grows, spare room of the tables, the datagram put
/// together) fits into the rest of the 8 MiB.
const MAX_MEMORY: usize = 5 << 20;
