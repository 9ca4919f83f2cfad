//! The merge: what the shards write, in the one order of replay.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::record::FlowRecord;
use crate::table::TableCounts;
use crate::time::TableTime;

/// Takes records from all shards and returns them in the order of replay (definitions.md).
///
/// A record leaves once no shard can still write an earlier one.
pub struct Merge {
    shards: Vec<Shard>,
    panicked: bool,
}

/// What comes out of a [`Merge`].
pub enum Merged<'a> {
    /// The next record.
    Record(&'a FlowRecord),
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

/// Records of a shard, and how far it has come.
pub(super) struct Chunk {
    pub(super) records: Vec<FlowRecord>,
    /// No record due before this will follow.
    pub(super) settled: TableTime,
    pub(super) report: Option<Box<ShardReport>>,
    pub(super) panicked: bool,
    pub(super) last: bool,
}

impl Chunk {
    pub(super) fn new(records: Vec<FlowRecord>, settled: TableTime) -> Self {
        Chunk { records, settled, report: None, panicked: false, last: false }
    }
}

struct Shard {
    output: Receiver<Chunk>,
    give_back: Sender<Vec<FlowRecord>>,
    records: Vec<FlowRecord>,
    next: usize,
    settled: TableTime,
    reports: VecDeque<ShardReport>,
    ended: bool,
}

/// A place in the order of replay; whether a record is known to stand there; its id and slice.
type Place = (TableTime, bool, u64, u32);

impl Merge {
    pub(super) fn new(outputs: Vec<(Receiver<Chunk>, Sender<Vec<FlowRecord>>)>) -> Self {
        let shards = outputs.into_iter().map(|(output, give_back)| Shard {
            output,
            give_back,
            records: Vec::new(),
            next: 0,
            settled: TableTime::START,
            reports: VecDeque::new(),
            ended: false,
        });
        Merge { shards: shards.collect(), panicked: false }
    }

    /// Returns what comes next; waits for it after a [`Merged::Pause`]. `None` once all shards have stopped.
    pub fn next(&mut self, wait: bool) -> Option<Merged<'_>> {
        let mut wait = wait;
        loop {
            if let Some(reports) = self.common_report() {
                return Some(Merged::Report(reports));
            }
            let places = self.shards.iter().enumerate();
            let first = places.filter_map(|(nth, shard)| Some((shard.place()?, nth))).min();
            let ((_, is_record, ..), nth) = first?;
            if is_record {
                let shard = &mut self.shards[nth];
                shard.next += 1;
                return Some(Merged::Record(&shard.records[shard.next - 1]));
            }
            let shard = &mut self.shards[nth];
            let chunk = match shard.output.try_recv() {
                Err(TryRecvError::Empty) if !wait => return Some(Merged::Pause),
                Err(TryRecvError::Empty) => shard.output.recv().ok(),
                Ok(chunk) => Some(chunk),
                Err(TryRecvError::Disconnected) => None,
            };
            wait = false;
            self.panicked |= shard.take(chunk);
        }
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
    /// Returns where the next record stands, or the earliest place where one may.
    fn place(&self) -> Option<Place> {
        match self.records.get(self.next) {
            Some(record) => Some((record.due, true, record.flow_id, record.slice)),
            None if self.ended => None,
            None => Some((self.settled, false, 0, 0)),
        }
    }

    /// Takes the next chunk in, or the end; returns whether the shard has panicked.
    fn take(&mut self, chunk: Option<Chunk>) -> bool {
        let Some(chunk) = chunk else {
            self.ended = true;
            return true;
        };
        self.next = 0;
        self.settled = chunk.settled;
        self.ended = chunk.last;
        self.reports.extend(chunk.report.map(|report| *report));
        let mut old = std::mem::replace(&mut self.records, chunk.records);
        old.clear();
        let _ = self.give_back.try_send(old);
        chunk.panicked
    }
}
