//! How flows end by time: a little at a go, and in the order of replay.

use std::cmp::Ordering;

use super::due::Due;
use super::ended::EndedFlow;
use super::flow::Flow;
use super::list::{Links, List};
use super::wheel::slot_of;
use super::{AT_ONCE, FlowTable};
use crate::feature::Feature;
use crate::record::EndReason;
use crate::time::{TableTime, Timestamp};

/// A record that others come before; the first one in the order of replay is the greatest. Flows of one key that began and
/// ended at the same time have the same place in it: of these the first one, by its number, is.
pub(super) struct Waiting(Box<EndedFlow>, u64);

impl<X: Feature> FlowTable<X> {
    /// Tells whether flows or records are left whose time has passed.
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        self.started && slot_of(self.now.time.as_nanos()) > self.wheel.cursor()
    }

    /// Ends up to `most` flows of the slots that table time has passed.
    #[inline]
    pub(super) fn sweep(&mut self, most: usize, out: &mut impl FnMut(EndedFlow)) {
        if self.is_behind() {
            self.sweep_slots(most, out);
        }
    }

    #[cold]
    fn sweep_slots(&mut self, mut most: usize, out: &mut impl FnMut(EndedFlow)) {
        let until = slot_of(self.now.time.as_nanos());
        let mut looks = most.saturating_mul(LOOKS);
        while self.wheel.cursor() < until {
            if !self.gather(&mut looks) || !self.release(&mut most, out) {
                return;
            }
            let slot = self.wheel.cursor();
            self.let_go(out, |record| slot_of(record.due.time.as_nanos()) <= slot);
            self.wheel.turn(until);
        }
        self.let_go(out, |record| slot_of(record.due.time.as_nanos()) < until);
    }

    /// Takes the flows out of the cursor's slot that are due, and parks the others anew; returns whether it is empty.
    fn gather(&mut self, looks: &mut usize) -> bool {
        let slot = self.wheel.cursor();
        let mut group = [0; AT_ONCE];
        while *looks > 0 {
            let mut count = 0;
            for (place, at) in group.iter_mut().zip(self.wheel.present()) {
                *place = at;
                count += 1;
            }
            if count == 0 {
                return true;
            }
            *looks = looks.saturating_sub(count);
            self.store.touch(group.into_iter().take(count));
            for at in group.into_iter().take(count) {
                self.wheel.unpark(at);
                let Some(flow) = self.store.flow(at) else { continue };
                let time = flow.due(&self.timeouts);
                if slot_of(time.as_nanos()) <= slot {
                    let reason = flow.end_reason(EndReason::Idle);
                    self.due.push(Due { time, order: flow.order(), at, reason });
                } else {
                    self.wheel.park(at, slot_of(time.as_nanos()));
                }
            }
        }
        false
    }

    /// Lets flows that are due, and the records that come before them, leave in order; returns whether all have left.
    fn release(&mut self, most: &mut usize, out: &mut impl FnMut(EndedFlow)) -> bool {
        while *most > 0 && !self.due.is_empty() {
            let key = |at| self.store.flow(at).map(|flow| flow.key);
            let group: [Option<Due>; AT_ONCE] =
                std::array::from_fn(|nth| if nth < *most { self.due.pop(key) } else { None });
            *most = most.saturating_sub(AT_ONCE);
            let group = group.into_iter().flatten();
            self.store.touch(group.clone().map(|due| due.at));
            self.store.touch_last(group.clone().map(|due| due.at));
            for ended in group {
                if !self.waiting.is_empty() {
                    let key = self.store.flow(ended.at).map(|flow| flow.key);
                    self.let_go(out, |record| {
                        let keys = || Some(record.key).cmp(&key);
                        replay_order(record).cmp(&ended.place()).then_with(keys).is_le()
                    });
                }
                // A packet may have ended it already, and another flow may be in its place.
                let is_it = |flow: &Flow<X>| flow.order() == ended.order;
                if !self.wheel.holds(ended.at) && self.store.flow(ended.at).is_some_and(is_it) {
                    self.finish(ended.at, ended.reason, ended.time, out);
                }
            }
        }
        self.due.is_empty()
    }

    /// Lets records that waited leave, as long as the first of them may.
    #[inline]
    fn let_go(&mut self, out: &mut impl FnMut(EndedFlow), may: impl Fn(&EndedFlow) -> bool) {
        while self.waiting.peek().is_some_and(|first| may(&first.0)) {
            self.waiting.pop().into_iter().for_each(|first| out(*first.0));
        }
    }

    /// Ends all flows, for this reason those that were not due or closed.
    #[cold]
    pub(super) fn end_all(&mut self, reason: EndReason, out: &mut impl FnMut(EndedFlow)) {
        self.sweep(usize::MAX, out);
        let now = self.now.time;
        for (at, flow) in self.store.iter() {
            let (time, reason) = match flow.ended(now, &self.timeouts) {
                Some(reason) => (flow.due(&self.timeouts), reason),
                None => (now, flow.end_reason(reason)),
            };
            self.due.push(Due { time, order: flow.order(), at, reason });
        }
        self.wheel.clear();
        let mut all = usize::MAX;
        self.release(&mut all, out);
        self.let_go(out, |_| true);
        (self.young, self.young_links) = (List::EMPTY, Links::default());
    }

    /// Holds a record back until all that are due before it have left, or until too many wait.
    pub(super) fn wait(&mut self, record: EndedFlow, out: &mut impl FnMut(EndedFlow)) {
        self.waited += 1;
        self.waiting.push(Waiting(Box::new(record), self.waited));
        if self.waiting.len() >= MOST_WAITING {
            self.sweep(usize::MAX, out);
        }
        if self.waiting.len() >= MOST_WAITING {
            self.let_go(out, |_| true);
        }
    }

    /// Writes the record of a flow that is not parked any more, and drops the flow.
    #[inline]
    pub(super) fn finish(
        &mut self,
        at: u32,
        reason: EndReason,
        due: Timestamp,
        out: &mut impl FnMut(EndedFlow),
    ) {
        let Some(flow) = self.store.flow_mut(at) else { return };
        let (young, heap) = (flow.young, flow.heap);
        let record = flow.end(reason, TableTime { epoch: self.now.epoch, time: due }, &self.options);
        self.heap -= i64::from(heap);
        if young {
            self.young.unlink(at, &mut self.young_links);
        }
        self.store.remove(at);
        self.tally(&record);
        out(record);
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = |waiting: &Self| (waiting.0.key, waiting.1);
        replay_order(&other.0).cmp(&replay_order(&self.0)).then_with(|| rest(other).cmp(&rest(self)))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

fn replay_order(record: &EndedFlow) -> (Timestamp, u64, u32) {
    let (due, flow_id, slice) = record.place();
    (due.time, flow_id, slice)
}

/// Looks at parked flows for each flow that may end.
const LOOKS: usize = 8;
/// Records that wait for those before them; more leave early, sorted among themselves only.
/// Only an input that ends so many flows in a quarter of a second by new connections, or by cuts, gets there.
const MOST_WAITING: usize = 8192;
