//! The merge: what the shards write, in the one order of replay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::TINY;
use super::channel::{AtomicBool, Receiver, RecvTimeoutError, Sender, TryRecvError};
use crate::key::FlowKey;
use crate::record::FlowRecord;
use crate::table::{EndedFlow, TableCounts};
use crate::time::TableTime;

/// Takes records from all shards and returns them in the order of replay (definitions.md).
///
/// A record leaves once no shard can still write an earlier one. A shard without input cannot say so, and where the
/// reader waits for another shard, that one for the merge, and the merge for the first, the merge takes more in than
/// it can use yet. That has a limit, beyond which records leave early.
pub struct Merge {
    shards: Vec<Shard>,
    /// Records in all chunks ahead.
    ahead: usize,
    panicked: bool,
}

/// What comes out of a [`Merge`].
pub enum Merged<'a> {
    /// The next record; who takes it may add to it.
    Record(&'a mut FlowRecord),
    /// All shards have reported their counters, each at the same point of the input.
    Report(Vec<ShardReport>),
    /// Nothing more is there now; the next call waits.
    Pause,
}

/// The counters of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// What its table counted.
    pub counts: TableCounts,
    /// Flows in the table.
    pub open_flows: u64,
    /// Packets that those flows hold and no record has told yet.
    pub open_packets: u64,
    /// Their wire bytes.
    pub open_bytes: u64,
    /// Bytes of memory that the table's flows take.
    pub memory: u64,
    /// The number it was asked for under; [`LAST_REPORT`](super::LAST_REPORT) at the shard's end.
    pub number: u64,
}

/// A flow that has ended, or its record: made by whichever thread has less to do.
#[expect(
    clippy::large_enum_variant,
    reason = "it becomes the larger one where it lies, in a buffer that is used again"
)]
pub(super) enum Outcome {
    Ended(EndedFlow),
    Made(FlowRecord),
}

impl Outcome {
    fn place(&self) -> (TableTime, u64, u32) {
        match self {
            Outcome::Ended(ended) => ended.place(),
            Outcome::Made(record) => (record.due, record.flow_id, record.slice),
        }
    }

    fn key(&self) -> FlowKey {
        match self {
            Outcome::Ended(ended) => ended.key(),
            Outcome::Made(record) => record.key,
        }
    }
}

/// Records of a shard, and how far it has come.
pub(super) struct Chunk {
    pub(super) records: Vec<Outcome>,
    /// No record due before this will follow.
    pub(super) settled: TableTime,
    pub(super) report: Option<Box<ShardReport>>,
    pub(super) panicked: bool,
    pub(super) last: bool,
}

impl Chunk {
    pub(super) fn new(records: Vec<Outcome>, settled: TableTime) -> Self {
        Chunk { records, settled, report: None, panicked: false, last: false }
    }
}

struct Shard {
    output: Receiver<Chunk>,
    give_back: Sender<Vec<Outcome>>,
    records: Vec<Outcome>,
    next: usize,
    /// Chunks that were taken in before their turn.
    ahead: VecDeque<Chunk>,
    settled: TableTime,
    reports: VecDeque<ShardReport>,
    /// It writes what it holds, and nobody waits for it any more.
    drains: Arc<AtomicBool>,
    ended: bool,
}

/// Where a shard's records come from, where empty chunks go to, and whether the shard drains.
pub(super) type Output = (Receiver<Chunk>, Sender<Vec<Outcome>>, Arc<AtomicBool>);

/// A place in the order of replay; whether a record is known to stand there; its id and slice.
type Place = (TableTime, bool, u64, u32);

impl Merge {
    pub(super) fn new(outputs: Vec<Output>) -> Self {
        let shards = outputs.into_iter().map(|(output, give_back, drains)| Shard {
            output,
            give_back,
            records: Vec::new(),
            next: 0,
            ahead: VecDeque::new(),
            settled: TableTime::START,
            reports: VecDeque::new(),
            drains,
            ended: false,
        });
        Merge { shards: shards.collect(), ahead: 0, panicked: false }
    }

    /// Returns what comes next; waits for it after a [`Merged::Pause`], but no longer than a
    /// third of a second. `None` once all shards have stopped.
    pub fn next(&mut self, wait: bool) -> Option<Merged<'_>> {
        let (mut wait, mut patience, mut waited) = (wait, PATIENCE, Duration::ZERO);
        loop {
            if let Some(reports) = self.common_report() {
                return Some(Merged::Report(reports));
            }
            let ((_, is_record, ..), nth) = self.first(|_| true)?;
            if is_record {
                return self.shards[nth].record();
            }
            let early = if self.ahead > MOST_AHEAD { self.first(|place| place.1) } else { None };
            let shard = &mut self.shards[nth];
            let chunk = match shard.ahead.pop_front() {
                Some(chunk) => {
                    self.ahead -= chunk.records.len();
                    Ok(chunk)
                }
                None => match shard.output.try_recv() {
                    Err(TryRecvError::Empty) if !wait => return Some(Merged::Pause),
                    Err(TryRecvError::Empty) if let Some((_, nth)) = early => {
                        return self.shards[nth].record();
                    }
                    Err(TryRecvError::Empty) => shard.output.recv_timeout(patience),
                    Ok(chunk) => Ok(chunk),
                    Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
                },
            };
            match chunk {
                Err(RecvTimeoutError::Timeout) => {
                    waited += patience;
                    patience = if self.look_ahead() { PATIENCE } else { patience * 2 };
                    if waited >= LONGEST_WAIT {
                        return Some(Merged::Pause);
                    }
                }
                chunk => {
                    wait = false;
                    self.panicked |= shard.take(chunk.ok());
                }
            }
        }
    }

    /// Takes in what shards wait with, so that they can go on; not where they only have to write the flows that are left,
    /// which may be very many. Returns whether one waited.
    fn look_ahead(&mut self) -> bool {
        let mut has_any = false;
        let may_wait = |shard: &Shard| shard.drains.load(Ordering::Relaxed);
        for shard in self.shards.iter_mut().filter(|shard| shard.output.is_full() && !may_wait(shard)) {
            has_any = true;
            for chunk in shard.output.try_iter() {
                self.ahead += chunk.records.len();
                shard.ahead.push_back(chunk);
            }
        }
        has_any
    }

    /// Returns the first of the shards' places that may be taken, and its shard.
    fn first(&self, may: impl Fn(&Place) -> bool) -> Option<(Place, usize)> {
        let places = self.shards.iter().enumerate();
        let places = places.filter_map(|(nth, shard)| Some((shard.place().filter(&may)?, nth)));
        // Flows may have one id, if somebody made their keys so.
        places.min_by(|(place, nth), (other, mth)| {
            let key = |nth: &usize| self.shards.get(*nth).and_then(Shard::key);
            place.cmp(other).then_with(|| key(nth).cmp(&key(mth)))
        })
    }

    /// Takes the next report that all shards made under the same number; what only some made is left out.
    fn common_report(&mut self) -> Option<Vec<ShardReport>> {
        let fronts = self.shards.iter().map(|shard| shard.reports.front().map(|report| report.number));
        let newest = fronts.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        for shard in &mut self.shards {
            while shard.reports.front().is_some_and(|report| report.number < newest) {
                shard.reports.pop_front();
            }
        }
        let all =
            self.shards.iter().all(|shard| shard.reports.front().is_some_and(|one| one.number == newest));
        all.then(|| self.shards.iter_mut().filter_map(|shard| shard.reports.pop_front()).collect())
    }

    /// Tells whether a shard has panicked.
    pub fn has_panicked(&self) -> bool {
        self.panicked
    }
}

impl Shard {
    /// Hands out the next record.
    fn record(&mut self) -> Option<Merged<'_>> {
        let outcome = self.records.get_mut(self.next)?;
        self.next += 1;
        if let Outcome::Ended(ended) = outcome {
            *outcome = Outcome::Made(ended.record());
        }
        match outcome {
            Outcome::Made(record) => Some(Merged::Record(record)),
            Outcome::Ended(_) => None,
        }
    }

    /// Returns where the next record stands, or the earliest place where one may.
    fn place(&self) -> Option<Place> {
        match self.records.get(self.next).map(Outcome::place) {
            Some((due, flow_id, slice)) => Some((due, true, flow_id, slice)),
            None if self.ended => None,
            None => Some((self.settled, false, 0, 0)),
        }
    }

    /// Returns the key of the next record's flow.
    fn key(&self) -> Option<FlowKey> {
        self.records.get(self.next).map(Outcome::key)
    }

    /// Takes the next chunk in, or the end; returns whether the shard has panicked.
    fn take(&mut self, chunk: Option<Chunk>) -> bool {
        let Some(chunk) = chunk else {
            self.ended = true;
            return true;
        };
        self.settled = chunk.settled;
        self.ended = chunk.last;
        self.reports.extend(chunk.report.map(|report| *report));
        self.next = 0;
        let mut old = std::mem::replace(&mut self.records, chunk.records);
        old.clear();
        let _ = self.give_back.try_send(old);
        chunk.panicked
    }
}

/// How long to wait for a shard before looking at whether others wait for the merge; then twice as long each time, as
/// long as none does.
const PATIENCE: Duration = Duration::from_millis(5);
/// How long to wait before it says that nothing comes.
const LONGEST_WAIT: Duration = if TINY { PATIENCE } else { Duration::from_millis(200) };
/// Records that are held while a shard has not passed their time: some 200 MB.
const MOST_AHEAD: usize = 1 << 18;

#[cfg(all(test, not(feature = "__interleaved")))]
mod tests {
    use super::super::channel::bounded;
    use super::*;

    #[test]
    fn a_shard_that_drains_has_to_wait_for_the_others() {
        for drains in [false, true] {
            let (_working, silent) = bounded(1);
            let (draining, output) = bounded(1);
            draining.send(Chunk::new(Vec::new(), TableTime::START)).unwrap();
            let shard = |output, drains| (output, bounded(1).0, Arc::new(AtomicBool::new(drains)));
            let mut merge = Merge::new(vec![shard(silent, false), shard(output.clone(), drains)]);
            assert!(matches!(merge.next(true), Some(Merged::Pause)));
            assert_eq!(output.is_full(), drains);
        }
    }
}
