//! The flow table: packets in, flow records out, without threads, files or clocks.
//!
//! A table is told the time by the packets themselves (their table time) and, while none come, by
//! [`FlowTable::expire`]. Whatever the moment of the sweep, the records are the same: an end is decided by
//! times alone (definitions.md, "End of a flow").
#![forbid(unsafe_code)]

mod direction;
mod due;
mod ended;
mod expiry;
mod flow;
mod hash;
mod list;
mod options;
mod store;
mod wheel;

#[cfg(test)]
mod tests;

use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::error::Counters;
use crate::feature::Feature;
use crate::l7::L7Counts;
use crate::packet::{Labels, Packet};
use crate::record::EndReason;
use crate::time::{TableTime, Timestamp};

use due::DueList;
pub use ended::EndedFlow;
use expiry::Waiting;
use flow::{Fate, Flow};
pub use hash::{HashedKey, KeyHash, KeyTag};
use list::{Links, List};
use options::Timeouts;
pub use options::{IdleTimeouts, TableOptions};
use store::Store;
use wheel::{Wheel, slot_of, slot_start};

/// A table of open flows.
///
/// Records leave through the `out` that each call is given, in the order of replay: by the table time at
/// which they were due, then by flow id and slice. What `out` takes is a [`FlowRecord`](crate::record::FlowRecord), or
/// an [`EndedFlow`] where another thread makes the record of it. `X` is a feature of one's own beside the built-in ones.
///
/// Cost: one look-up per packet, and one visit per flow and idle period; never a sweep over all flows.
/// Panics: never, whatever the packets are.
pub struct FlowTable<X: Feature = ()> {
    options: TableOptions,
    timeouts: Timeouts,
    store: Store<X>,
    wheel: Wheel,
    /// Flows with one packet or half a handshake, oldest first.
    young: List,
    young_links: Links,
    now: TableTime,
    started: bool,
    /// Records that others come before; they leave in order when table time has passed theirs.
    waiting: BinaryHeap<Waiting>,
    /// How many ever did.
    waited: u64,
    due: DueList,
    labels: Option<Arc<Labels>>,
    heap: i64,
    counts: TableCounts,
}

/// What a table counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableCounts {
    /// Flows ever opened.
    pub opened: u64,
    /// Packets counted in flows.
    pub packets: u64,
    /// Wire bytes counted in flows.
    pub bytes: u64,
    /// Records made, by end reason.
    pub records: Counters<EndReason>,
    /// Packets in those records.
    pub record_packets: u64,
    /// Wire bytes in those records.
    pub record_bytes: u64,
    /// Messages read by the protocol parsers.
    pub l7: L7Counts,
}

impl<X: Feature> FlowTable<X> {
    /// Makes an empty table.
    pub fn new(options: TableOptions) -> Self {
        FlowTable::with_hash(options, KeyHash::default())
    }

    /// Makes an empty table that keys are hashed for elsewhere, with this hash.
    pub fn with_hash(options: TableOptions, hash: KeyHash) -> Self {
        FlowTable {
            timeouts: Timeouts::new(&options),
            options,
            store: Store::new(hash),
            wheel: Wheel::new(),
            young: List::EMPTY,
            young_links: Links::default(),
            now: TableTime::default(),
            started: false,
            waiting: BinaryHeap::new(),
            waited: 0,
            due: DueList::default(),
            labels: None,
            heap: 0,
            counts: TableCounts::default(),
        }
    }

    /// Counts a packet in its flow, after the records of flows that were due by its table time.
    ///
    /// Where very many are due at once, some of them leave with later packets, so that none has to wait for all.
    #[inline]
    pub fn ingest<R: From<EndedFlow>>(&mut self, packet: &Packet<'_>, mut out: impl FnMut(R)) {
        let mut out = |ended: EndedFlow| out(ended.into());
        self.advance(packet.table_time, &mut out);
        self.sweep(AT_ONCE, &mut out);
        let tag = self.store.tag(&packet.key);
        self.take(packet, tag, None, &mut out);
    }

    /// Counts packets one after the other, given the tags of their hashed keys; the records of flows that are due
    /// leave with [`FlowTable::expire_some`].
    ///
    /// Looks several flows up, and then at all of them, before it counts the first packet: so memory is waited for
    /// once and not for each.
    pub fn ingest_all<'p, R: From<EndedFlow>>(
        &mut self,
        tags: impl IntoIterator<Item = KeyTag>,
        packets: impl IntoIterator<Item = Packet<'p>>,
        mut out: impl FnMut(R),
    ) {
        let mut out = |ended: EndedFlow| out(ended.into());
        let (mut tags, mut packets) = (tags.into_iter(), packets.into_iter());
        loop {
            let mut places = [(KeyTag::default(), None); AT_ONCE];
            let mut taken = 0;
            for (place, tag) in places.iter_mut().zip(&mut tags) {
                *place = (tag, self.store.guess(tag));
                taken += 1;
            }
            self.store.touch(places.iter().filter_map(|place| place.1));
            for ((tag, at), packet) in places.into_iter().take(taken).zip(&mut packets) {
                self.advance(packet.table_time, &mut out);
                self.take(&packet, tag, at, &mut out);
            }
            if taken < AT_ONCE {
                return;
            }
        }
    }

    /// Moves table time on while no packet comes, and ends what is due; a time that is not later moves nothing.
    pub fn expire<R: From<EndedFlow>>(&mut self, now: TableTime, mut out: impl FnMut(R)) {
        let mut out = |ended: EndedFlow| out(ended.into());
        self.advance(now, &mut out);
        self.sweep(usize::MAX, &mut out);
    }

    /// Does the same for at most `most` flows, and a few times as many looks at flows that are not due after all;
    /// returns whether more is left to do.
    pub fn expire_some<R: From<EndedFlow>>(
        &mut self,
        now: TableTime,
        most: usize,
        mut out: impl FnMut(R),
    ) -> bool {
        let mut out = |ended: EndedFlow| out(ended.into());
        self.advance(now, &mut out);
        self.sweep(most, &mut out);
        self.is_behind()
    }

    /// Returns the table time at which [`FlowTable::expire`] has something to do next; `None` if the table is empty.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let flows = self.wheel.first_occupied();
        let leaving = !self.waiting.is_empty() || !self.due.is_empty();
        let waiting = leaving.then(|| self.wheel.cursor());
        let slot = flows.into_iter().chain(waiting).min()?;
        Some(slot_start(slot.saturating_add(1)))
    }

    /// Ends all flows: [`EndReason::Eof`] at the end of input, [`EndReason::Shutdown`] when the program is
    /// stopped. A flow that was silent for too long by now, or closed, keeps its own reason.
    pub fn drain<R: From<EndedFlow>>(&mut self, reason: EndReason, mut out: impl FnMut(R)) {
        let mut out = |ended: EndedFlow| out(ended.into());
        self.end_all(reason, &mut out);
    }

    /// Returns the table time before which every record that was due has left.
    pub fn settled(&self) -> TableTime {
        TableTime { epoch: self.now.epoch, time: slot_start(self.wheel.cursor()) }
    }

    /// Returns how many flows are open.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Tells whether no flow is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> &TableCounts {
        &self.counts
    }

    /// Returns packets and wire bytes that open flows hold and no record has told yet; walks over all flows.
    pub fn open_volume(&self) -> (u64, u64) {
        let flows = self.store.iter().map(|(_, flow)| flow.volume());
        flows.fold((0, 0), |sum, one| (sum.0 + one.packets(), sum.1 + one.bytes()))
    }

    /// Returns the bytes that flows take: states, index, payload and parsers.
    pub fn memory(&self) -> u64 {
        let states = self.store.len() as u64 * Store::<X>::BYTES_PER_FLOW;
        states.saturating_add_signed(self.heap)
    }

    /// Counts a packet in its flow, which is at `at` if anywhere near.
    #[inline]
    fn take(&mut self, packet: &Packet<'_>, tag: KeyTag, at: Option<u32>, out: &mut impl FnMut(EndedFlow)) {
        self.counts.packets += 1;
        self.counts.bytes += u64::from(packet.wire_len);
        let is_it = |at: &u32| self.store.flow(*at).is_some_and(|flow| flow.key == packet.key);
        if let Some(at) = at.filter(is_it).or_else(|| self.store.find(&packet.key, tag))
            && let Some(flow) = self.store.flow_mut(at)
        {
            match flow.fate(packet, &self.timeouts) {
                Fate::Goes => return self.count(at, packet, out),
                Fate::Cuts => {
                    let record = flow.cut(packet, &self.options);
                    self.tally(&record);
                    self.wait(record, out);
                    return self.count(at, packet, out);
                }
                Fate::Ended(reason, due) => {
                    self.wheel.unpark(at);
                    let mut ended = None;
                    self.finish(at, reason, due, &mut |record| ended = Some(record));
                    ended.into_iter().for_each(|record| self.wait(record, out));
                }
            }
        }
        self.open(packet, tag, out);
    }

    #[inline]
    fn advance(&mut self, now: TableTime, out: &mut impl FnMut(EndedFlow)) {
        if now <= self.now && self.started {
            return;
        }
        if now.epoch != self.now.epoch || !self.started {
            self.end_all(EndReason::Eof, out);
            self.wheel.reset(slot_of(now.time.as_nanos()));
            self.started = true;
        }
        self.now = now;
        // Where the wheel would have to turn far, flows that are opened now could not be parked where they belong.
        if slot_of(now.time.as_nanos()) > self.wheel.far() {
            self.sweep(usize::MAX, out);
        }
    }

    fn open(&mut self, packet: &Packet<'_>, tag: KeyTag, out: &mut impl FnMut(EndedFlow)) {
        while self.store.len() >= self.options.max_flows.max(1) {
            self.make_room(out);
        }
        let labels = self.shared_labels(packet.labels);
        let at = self.store.insert(Flow::open(packet, tag, labels));
        self.counts.opened += 1;
        self.young.push_back(at, 0, &mut self.young_links);
        if let Some(flow) = self.store.flow_mut(at) {
            self.heap += flow.count(packet, true, &self.options, &mut self.counts.l7).heap;
        }
        self.park(at);
        self.shed(out);
    }

    #[inline]
    fn count(&mut self, at: u32, packet: &Packet<'_>, out: &mut impl FnMut(EndedFlow)) {
        let Some(flow) = self.store.flow_mut(at) else { return };
        let change = flow.count(packet, false, &self.options, &mut self.counts.l7);
        self.heap += change.heap;
        if change.grew_up {
            self.young.unlink(at, &mut self.young_links);
        }
        if change.closes {
            self.wheel.unpark(at);
            self.park(at);
        }
        self.shed(out);
    }

    /// Ends flows until the rest fits into the memory that is allowed.
    #[inline]
    fn shed(&mut self, out: &mut impl FnMut(EndedFlow)) {
        while self.memory() > self.options.max_memory && self.store.len() > 1 {
            self.make_room(out);
        }
    }

    /// Ends what is due, and where nothing is, the flow that can best be spared.
    #[cold]
    fn make_room(&mut self, out: &mut impl FnMut(EndedFlow)) {
        if self.is_behind() { self.sweep(AT_ONCE, out) } else { self.evict(out) }
    }

    /// Ends the flow that can best be spared: the oldest that has hardly begun, else the one nearest to its end.
    ///
    /// Its record leaves at once: what waits for its turn takes memory too.
    fn evict(&mut self, out: &mut impl FnMut(EndedFlow)) {
        let at = self.young.front().unwrap_or_else(|| self.nearest_to_its_end());
        if let Some(flow) = self.store.flow(at) {
            let reason = flow.end_reason(EndReason::Resource);
            self.wheel.unpark(at);
            self.finish(at, reason, self.now.time, out);
        }
    }

    /// Parks the first flows anew that got packets since; gives up after a few, to keep the cost bounded.
    fn nearest_to_its_end(&mut self) -> u32 {
        let mut best = (Timestamp::MAX, list::NONE);
        for _ in 0..64 {
            let Some((at, slot)) = self.wheel.front() else { break };
            let Some(flow) = self.store.flow(at) else { break };
            let due = flow.due(&self.timeouts);
            best = best.min((due, at));
            if slot_of(due.as_nanos()) <= slot {
                break;
            }
            self.wheel.unpark(at);
            self.park(at);
        }
        best.1
    }

    fn tally(&mut self, record: &EndedFlow) {
        let volume = record.volume();
        self.counts.records.count(record.end_reason());
        self.counts.record_packets += volume.packets();
        self.counts.record_bytes += volume.bytes();
    }

    fn park(&mut self, at: u32) {
        if let Some(flow) = self.store.flow(at) {
            self.wheel.park(at, slot_of(flow.due(&self.timeouts).as_nanos()));
        }
    }

    /// Returns labels for a new flow; flows that come one after the other and have the same share them.
    fn shared_labels(&mut self, labels: &Labels) -> Option<Arc<Labels>> {
        if labels.is_empty() {
            return None;
        }
        if self.labels.as_deref() != Some(labels) {
            self.labels = Some(Arc::new(labels.clone()));
        }
        self.labels.clone()
    }
}

/// How many flows are looked up before the first is worked on: about as many as the processor fetches at once.
const AT_ONCE: usize = 32;
