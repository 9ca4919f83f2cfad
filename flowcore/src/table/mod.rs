//! The flow table: packets in, flow records out, without threads, files or clocks.
//!
//! A table is told the time by the packets themselves (their table time) and, while none come, by
//! [`FlowTable::expire`]. Whatever the moment of the sweep, the records are the same: an end is decided by
//! times alone (definitions.md, "End of a flow").
#![forbid(unsafe_code)]

mod direction;
mod flow;
mod options;
mod store;
mod wheel;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Counters;
use crate::feature::Feature;
use crate::l7::L7Counts;
use crate::packet::{Labels, Packet};
use crate::record::{EndReason, FlowRecord};
use crate::time::{TableTime, Timestamp};

use flow::{Fate, Flow};
use options::Timeouts;
pub use options::{IdleTimeouts, TableOptions};
use store::{Store, WheelLinks, YoungLinks};
use wheel::{List, Wheel, slot_of, slot_start};

/// A table of open flows.
///
/// Records leave through the `out` that each call is given, in the order of replay: by the table time at
/// which they were due, then by flow id and slice. `X` is a feature of one's own beside the built-in ones.
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
    now: TableTime,
    started: bool,
    /// Records that are due in the wheel's present slot; they leave, sorted, when it is over.
    waiting: Vec<FlowRecord>,
    due: Vec<Due>,
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

/// A flow that has ended, and its place in the order of replay.
#[derive(Clone, Copy)]
struct Due {
    time: Timestamp,
    order: (u64, u32),
    at: u32,
    reason: EndReason,
}

impl<X: Feature> FlowTable<X> {
    /// Makes an empty table.
    pub fn new(options: TableOptions) -> Self {
        FlowTable {
            timeouts: Timeouts::new(&options),
            options,
            store: Store::new(),
            wheel: Wheel::new(),
            young: List::EMPTY,
            now: TableTime::default(),
            started: false,
            waiting: Vec::new(),
            due: Vec::new(),
            labels: None,
            heap: 0,
            counts: TableCounts::default(),
        }
    }

    /// Counts a packet in its flow; flows that were due by its table time end first.
    #[inline]
    pub fn ingest(&mut self, packet: &Packet<'_>, mut out: impl FnMut(FlowRecord)) {
        let tag = self.store.tag(&packet.key);
        self.take(packet, tag, None, &mut out);
    }

    /// Counts packets one after the other, as [`FlowTable::ingest`] does.
    ///
    /// Looks several flows up, and then at all of them, before it counts the first packet: so memory is waited for
    /// once and not for each.
    pub fn ingest_all<'p>(
        &mut self,
        mut packets: impl Iterator<Item = Packet<'p>> + Clone,
        mut out: impl FnMut(FlowRecord),
    ) {
        loop {
            let mut places = [(0, None); AT_ONCE];
            let mut taken = 0;
            for (place, packet) in places.iter_mut().zip(packets.clone()) {
                let tag = self.store.tag(&packet.key);
                *place = (tag, self.store.guess(tag));
                taken += 1;
            }
            self.look_at(places.iter().filter_map(|place| place.1));
            for ((tag, at), packet) in places.into_iter().zip(packets.by_ref().take(taken)) {
                self.take(&packet, tag, at, &mut out);
            }
            if taken < AT_ONCE {
                return;
            }
        }
    }

    /// Moves table time on while no packet comes, and ends what is due; a time that is not later does nothing.
    pub fn expire(&mut self, now: TableTime, mut out: impl FnMut(FlowRecord)) {
        self.advance(now, &mut out);
    }

    /// Returns the table time at which [`FlowTable::expire`] has something to do next; `None` if the table is empty.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let flows = self.wheel.first_occupied();
        let waiting = (!self.waiting.is_empty()).then(|| self.wheel.cursor());
        let slot = flows.into_iter().chain(waiting).min()?;
        Some(slot_start(slot.saturating_add(1)))
    }

    /// Ends all flows: [`EndReason::Eof`] at the end of input, [`EndReason::Shutdown`] when the program is
    /// stopped. A flow that was silent for too long by now, or closed, keeps its own reason.
    pub fn drain(&mut self, reason: EndReason, mut out: impl FnMut(FlowRecord)) {
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
    fn take(&mut self, packet: &Packet<'_>, tag: u32, at: Option<u32>, out: &mut impl FnMut(FlowRecord)) {
        self.advance(packet.table_time, out);
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
                    self.unpark(at);
                    let mut ended = None;
                    self.finish(at, reason, due, &mut |record| ended = Some(record));
                    ended.into_iter().for_each(|record| self.wait(record, out));
                }
            }
        }
        self.open(packet, tag, out);
    }

    #[inline]
    fn advance(&mut self, now: TableTime, out: &mut impl FnMut(FlowRecord)) {
        if now <= self.now && self.started {
            return;
        }
        if now.epoch != self.now.epoch || !self.started {
            self.end_all(EndReason::Eof, out);
            self.wheel.reset(slot_of(now.time.as_nanos()));
            self.started = true;
        }
        self.now = now;
        let slot = slot_of(now.time.as_nanos());
        if slot > self.wheel.cursor() {
            self.sweep(slot, out);
        }
    }

    /// Ends what is due in the slots before `until`.
    #[cold]
    fn sweep(&mut self, until: i64, out: &mut impl FnMut(FlowRecord)) {
        while let Some(parked) = self.wheel.turn(until) {
            let slot = self.wheel.cursor();
            let mut next = parked.head;
            while let Some(flow) = self.store.flow(next) {
                let (at, due) = (next, flow.due(&self.timeouts));
                next = flow.in_wheel.next;
                if slot_of(due.as_nanos()) <= slot {
                    let reason = flow.end_reason(EndReason::Idle);
                    self.due.push(Due { time: due, order: flow.order(), at, reason });
                } else {
                    self.park(at);
                }
            }
            self.release(out);
        }
        self.release(out);
    }

    /// Lets all flows that are due, and the records that waited for them, leave in order.
    fn release(&mut self, out: &mut impl FnMut(FlowRecord)) {
        let mut due = std::mem::take(&mut self.due);
        let mut waiting = std::mem::take(&mut self.waiting);
        due.sort_unstable_by_key(|due| (due.time, due.order, due.at));
        // The first one last, so that it can be popped.
        waiting.sort_by_key(|record| std::cmp::Reverse(replay_order(record)));
        for (nth, ended) in due.iter().enumerate() {
            if nth % AT_ONCE == 0 {
                let next = due[nth..].iter().take(AT_ONCE).map(|due| due.at);
                self.look_at(next.clone());
                self.look_up(next);
            }
            let place = (ended.time, ended.order.0, ended.order.1);
            while waiting.last().is_some_and(|record| replay_order(record) <= place) {
                waiting.pop().into_iter().for_each(&mut *out);
            }
            self.finish(ended.at, ended.reason, ended.time, out);
        }
        waiting.drain(..).rev().for_each(&mut *out);
        due.clear();
        (self.due, self.waiting) = (due, waiting);
    }

    /// Reads a little of each flow, so that memory is waited for once for all.
    #[inline]
    fn look_at(&self, flows: impl Iterator<Item = u32>) {
        let glances = flows.map(|at| self.store.flow(at).map_or(0, Flow::glance));
        std::hint::black_box(glances.fold(0, u64::wrapping_add));
    }

    /// The same for what they hold outside, and for their places in the index.
    fn look_up(&self, flows: impl Iterator<Item = u32>) {
        let glances = flows.map(|at| self.store.flow(at).map_or(0, |flow| flow.glance_outside() + self.store.guess(flow.tag).map_or(0, u64::from)));
        std::hint::black_box(glances.fold(0, u64::wrapping_add));
    }

    #[cold]
    fn end_all(&mut self, reason: EndReason, out: &mut impl FnMut(FlowRecord)) {
        let now = self.now.time;
        for (at, flow) in self.store.iter() {
            let (time, reason) = match flow.ended(now, &self.timeouts) {
                Some(reason) => (flow.due(&self.timeouts), reason),
                None => (now, flow.end_reason(reason)),
            };
            self.due.push(Due { time, order: flow.order(), at, reason });
        }
        self.wheel.clear();
        self.release(out);
        self.young = List::EMPTY;
    }

    fn open(&mut self, packet: &Packet<'_>, tag: u32, out: &mut impl FnMut(FlowRecord)) {
        while self.store.len() >= self.options.max_flows.max(1) {
            self.evict(out);
        }
        let labels = self.shared_labels(packet.labels);
        let at = self.store.insert(Flow::open(packet, tag, labels));
        self.counts.opened += 1;
        self.young.push_back(at, &mut YoungLinks(&mut self.store));
        if let Some(flow) = self.store.flow_mut(at) {
            self.heap += flow.count(packet, true, &self.options, &mut self.counts.l7).heap;
        }
        self.park(at);
        self.shed(out);
    }

    #[inline]
    fn count(&mut self, at: u32, packet: &Packet<'_>, out: &mut impl FnMut(FlowRecord)) {
        let Some(flow) = self.store.flow_mut(at) else { return };
        let change = flow.count(packet, false, &self.options, &mut self.counts.l7);
        self.heap += change.heap;
        if change.grew_up {
            self.young.unlink(at, &mut YoungLinks(&mut self.store));
        }
        if change.closes {
            self.unpark(at);
            self.park(at);
        }
        self.shed(out);
    }

    /// Ends flows until the rest fits into the memory that is allowed.
    #[inline]
    fn shed(&mut self, out: &mut impl FnMut(FlowRecord)) {
        while self.memory() > self.options.max_memory && self.store.len() > 1 {
            self.evict(out);
        }
    }

    /// Ends the flow that can best be spared: the oldest that has hardly begun, else the one nearest to its end.
    ///
    /// Its record leaves at once: what waits for its turn takes memory too.
    #[cold]
    fn evict(&mut self, out: &mut impl FnMut(FlowRecord)) {
        let at = if self.young.is_empty() { self.nearest_to_its_end() } else { self.young.head };
        if let Some(flow) = self.store.flow(at) {
            let reason = flow.end_reason(EndReason::Resource);
            self.unpark(at);
            self.finish(at, reason, self.now.time, out);
        }
    }

    /// Parks the first flows anew that got packets since; gives up after a few, to keep the cost bounded.
    fn nearest_to_its_end(&mut self) -> u32 {
        let mut best = (Timestamp::MAX, wheel::NONE);
        for _ in 0..64 {
            let Some((at, slot)) = self.wheel.front() else { break };
            let Some(flow) = self.store.flow(at) else { break };
            let due = flow.due(&self.timeouts);
            best = best.min((due, at));
            if slot_of(due.as_nanos()) <= slot {
                break;
            }
            self.unpark(at);
            self.park(at);
        }
        best.1
    }

    /// Writes the record of a flow that is not parked any more, and drops the flow.
    #[inline]
    fn finish(&mut self, at: u32, reason: EndReason, due: Timestamp, out: &mut impl FnMut(FlowRecord)) {
        let Some(flow) = self.store.flow_mut(at) else { return };
        let (young, heap) = (flow.young, flow.heap);
        let record = flow.record(reason, TableTime { epoch: self.now.epoch, time: due }, &self.options);
        self.heap -= i64::from(heap);
        if young {
            self.young.unlink(at, &mut YoungLinks(&mut self.store));
        }
        self.store.remove(at);
        self.tally(&record);
        out(record);
    }

    /// Holds a record back until all that are due before it have left, or until too many wait.
    fn wait(&mut self, record: FlowRecord, out: &mut impl FnMut(FlowRecord)) {
        self.waiting.push(record);
        if self.waiting.len() >= MOST_WAITING {
            self.release(out);
        }
    }

    fn tally(&mut self, record: &FlowRecord) {
        let volume = &record.features.volume;
        self.counts.records.count(record.end_reason);
        self.counts.record_packets += volume.packets();
        self.counts.record_bytes += volume.bytes();
    }

    fn park(&mut self, at: u32) {
        let Some(flow) = self.store.flow(at) else { return };
        let slot = slot_of(flow.due(&self.timeouts).as_nanos());
        let place = self.wheel.park(at, slot, &mut WheelLinks(&mut self.store));
        if let Some(flow) = self.store.flow_mut(at) {
            flow.parked = place;
        }
    }

    fn unpark(&mut self, at: u32) {
        if let Some(place) = self.store.flow(at).map(|flow| flow.parked) {
            self.wheel.unpark(at, place, &mut WheelLinks(&mut self.store));
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

fn replay_order(record: &FlowRecord) -> (Timestamp, u64, u32) {
    (record.due.time, record.flow_id, record.slice)
}

/// Records that wait for a quarter of a second to be over; more leave early, sorted among themselves only.
/// Only an input that ends so many flows in that time by new connections, or by cuts, gets there.
const MOST_WAITING: usize = 8192;
/// How many flows are looked up before the first is worked on: about as many as the processor fetches at once.
const AT_ONCE: usize = 32;
