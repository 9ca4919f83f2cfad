//! A shard's thread: one table, fed by batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::channel::{AtomicBool, Receiver, Sender};
use super::merge::{Chunk, Outcome, ShardReport};
use super::{Batch, Input, LAST_REPORT, TINY, WhenFull};
use crate::record::EndReason;
use crate::table::{EndedFlow, FlowTable, KeyHash, TableOptions};
use crate::time::TableTime;

/// A table and the way out of it.
pub(super) struct Worker {
    table: FlowTable,
    out: Out,
    when_full: WhenFull,
    /// Its input has come to an end.
    drains: Arc<AtomicBool>,
}

/// Collects records into chunks and sends them.
struct Out {
    chunk: Chunk,
    to_merge: Sender<Chunk>,
    emptied: Receiver<Vec<Outcome>>,
    /// The writer has enough to do: the shard makes the records itself.
    makes_records: bool,
}

impl Worker {
    pub(super) fn new(
        options: &TableOptions,
        hash: KeyHash,
        when_full: WhenFull,
        to_merge: Sender<Chunk>,
        emptied: Receiver<Vec<Outcome>>,
        drains: Arc<AtomicBool>,
    ) -> Self {
        Worker {
            table: FlowTable::with_hash(options.clone(), hash),
            when_full,
            drains,
            out: Out {
                chunk: Chunk::new(Vec::new(), TableTime::START),
                to_merge,
                emptied,
                makes_records: false,
            },
        }
    }

    /// Works until the input ends; a panic is reported, and what the table held is written as far as it can be.
    pub(super) fn run(mut self, input: &Receiver<Input>, give_back: &Sender<Batch>) {
        let ran = catch_unwind(AssertUnwindSafe(|| self.work(input, give_back)));
        let reason = match ran {
            Ok(reason) => {
                self.drains.store(true, Ordering::Relaxed);
                reason
            }
            Err(_) => {
                self.out.chunk.panicked = true;
                EndReason::Shutdown
            }
        };
        let drained = catch_unwind(AssertUnwindSafe(|| {
            self.table.drain(reason, |record| self.out.push(record));
        }));
        self.out.chunk.panicked |= drained.is_err();
        self.report(LAST_REPORT);
        self.out.chunk.last = true;
        self.out.send();
    }

    fn work(&mut self, input: &Receiver<Input>, give_back: &Sender<Batch>) -> EndReason {
        for next in input {
            let mut batch = match next {
                Input::Batch(batch) => batch,
                Input::End(reason) => return reason,
            };
            #[cfg(test)]
            super::tests::may_panic(&batch);
            self.table.ingest_all(batch.tags(), batch.packets(), |record| self.out.push(record));
            self.expire(batch.now, input);
            if let Some(number) = batch.report {
                self.report(number);
            }
            let settled = self.table.settled();
            if self.out.has_news() || settled != self.out.chunk.settled {
                self.out.chunk.settled = settled;
                self.out.send();
            }
            batch.clear();
            let _ = give_back.try_send(batch);
        }
        EndReason::Shutdown
    }

    /// Ends what is due: only some of it where other batches wait, and none where those could be lost while this
    /// one waits for the writer.
    fn expire(&mut self, now: TableTime, input: &Receiver<Input>) {
        let mut left = ENDED_PER_BATCH;
        loop {
            let must_wait = self.when_full == WhenFull::Drop && !self.out.has_room();
            if (left == 0 || must_wait) && !input.is_empty() {
                return;
            }
            if !self.table.expire_some(now, ENDED_AT_ONCE, |record| self.out.push(record)) {
                return;
            }
            left = left.saturating_sub(ENDED_AT_ONCE);
        }
    }

    fn report(&mut self, number: u64) {
        let (open_packets, open_bytes) = self.table.open_volume();
        self.out.chunk.report = Some(Box::new(ShardReport {
            counts: self.table.counts().clone(),
            open_flows: self.table.len() as u64,
            open_packets,
            open_bytes,
            memory: self.table.memory(),
            number,
        }));
    }
}

impl Out {
    #[inline]
    fn push(&mut self, mut ended: EndedFlow) {
        self.chunk.records.push(if self.makes_records {
            Outcome::Made(ended.record())
        } else {
            Outcome::Ended(ended)
        });
        if self.chunk.records.len() == RECORDS_PER_CHUNK {
            self.send();
        }
    }

    fn has_room(&self) -> bool {
        !self.to_merge.is_full()
    }

    fn has_news(&self) -> bool {
        !self.chunk.records.is_empty() || self.chunk.report.is_some()
    }

    /// Sends the chunk; the next one goes on from the same settled time.
    fn send(&mut self) {
        let records = self.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(RECORDS_PER_CHUNK));
        let next = Chunk::new(records, self.chunk.settled);
        // A merge that is gone wants no more records.
        let _ = self.to_merge.send(std::mem::replace(&mut self.chunk, next));
        self.makes_records = self.to_merge.len() > 1;
    }
}

/// Few where fuzz targets are to fill some.
const RECORDS_PER_CHUNK: usize = match (TINY, cfg!(fuzzing)) {
    (true, _) => 1,
    (_, true) => 4,
    _ => 256,
};
/// Flows that end between two looks at what waits: a quarter of a millisecond.
const ENDED_AT_ONCE: usize = 256;
/// Flows that end for a batch of packets while others wait: four times as many as it can open.
const ENDED_PER_BATCH: usize = 4096;
