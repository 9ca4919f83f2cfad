//! Threads: a router that gives each packet to the shard of its flow, one table per shard, and the merge of
//! what they write.
//!
//! All packets of a biflow reach one shard in capture order, so that a shard owns its table and no lock is on
//! a packet's way. Whenever a batch is sent, every shard is told the table time; so the merge always knows
//! how far each of them has come, and no shard waits for another for want of input.
#![forbid(unsafe_code)]

mod batch;
mod channel;
mod merge;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::packet::Packet;
use crate::record::EndReason;
use crate::table::{KeyHash, TableOptions};
use crate::time::TableTime;

use batch::Batch;
use channel::{AtomicBool, JoinHandle, Receiver, Sender, TrySendError, bounded, spawn};
pub use merge::{Merge, Merged, ShardReport};
#[cfg(test)]
pub(crate) use tests::{FATAL, datagram};
use worker::Worker;

/// What happens to packets when a shard does not keep up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// The reader waits: replay.
    Wait,
    /// The reader waits for a moment, while the kernel's ring holds what comes; then the packets are dropped and
    /// counted: live capture must go on.
    Drop,
}

/// The reader's side: takes packets and gives them to the shards.
pub struct Router {
    lanes: Vec<Lane>,
    hash: KeyHash,
    when_full: WhenFull,
    now: TableTime,
    dropped: Dropped,
}

/// Packets that shards had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packets.
    pub packets: u64,
    /// Their wire bytes.
    pub bytes: u64,
}

impl Dropped {
    fn count(&mut self, batch: &Batch) {
        self.packets += batch.len() as u64;
        self.bytes += batch.wire_bytes();
    }
}

/// The way to one shard.
struct Lane {
    batch: Batch,
    to_shard: Sender<Input>,
    emptied: Receiver<Batch>,
}

/// What a shard is sent.
enum Input {
    Batch(Batch),
    End(EndReason),
}

/// Starts `count` shards (at least one); each has an equal part of the table's limits.
///
/// # Errors
/// [`Error::Internal`] if a thread cannot be started.
pub fn start(
    count: usize,
    options: &TableOptions,
    when_full: WhenFull,
) -> Result<(Router, Merge, Vec<JoinHandle<()>>), Error> {
    start_with(KeyHash::default(), count, options, when_full)
}

fn start_with(
    hash: KeyHash,
    count: usize,
    options: &TableOptions,
    when_full: WhenFull,
) -> Result<(Router, Merge, Vec<JoinHandle<()>>), Error> {
    let count = count.max(1);
    let mut options = options.clone();
    options.max_flows = options.max_flows.div_ceil(count);
    options.max_memory /= count as u64;
    let (mut lanes, mut outputs, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for nth in 0..count {
        let (to_shard, from_router) = bounded(BATCHES_IN_FLIGHT);
        let (give_back, emptied) = bounded(BATCHES_IN_FLIGHT + 2);
        let (to_merge, output) = bounded(CHUNKS_IN_FLIGHT);
        let (give_back_chunk, emptied_chunks) = bounded(CHUNKS_IN_FLIGHT + 2);
        let drains = Arc::new(AtomicBool::new(false));
        let worker = Worker::new(&options, hash.clone(), when_full, to_merge, emptied_chunks, drains.clone());
        let thread = spawn(format!("shard-{nth}"), move || worker.run(&from_router, &give_back));
        threads.push(thread.map_err(|error| Error::Internal(format!("cannot start a thread: {error}")))?);
        lanes.push(Lane { batch: Batch::new(), to_shard, emptied });
        outputs.push((output, give_back_chunk, drains));
    }
    let router = Router { lanes, hash, when_full, now: TableTime::default(), dropped: Dropped::default() };
    Ok((router, Merge::new(outputs), threads))
}

impl Router {
    /// Takes a packet on its way to the shard of its flow.
    #[inline]
    pub fn send(&mut self, packet: &Packet<'_>) {
        let hashed = self.hash.of(&packet.key);
        let nth = hashed.pick(self.lanes.len());
        let lane = &mut self.lanes[nth];
        lane.batch.push(hashed.tag(), packet);
        self.now = packet.table_time;
        if lane.batch.is_full() {
            self.flush();
        }
    }

    /// Tells all shards the time, and sends what waits to be sent.
    pub fn tick(&mut self, now: TableTime) {
        self.now = now;
        self.flush();
    }

    /// Does the same at the end of an epoch; where none of its packets came here there is nothing to be told.
    pub fn end_epoch(&mut self, last: TableTime) {
        if self.now.epoch == last.epoch {
            self.tick(last);
        }
    }

    /// Sends what waits to be sent, and asks each shard to report its counters behind it, under a number
    /// that counts up.
    ///
    /// Where a shard has no room for a while nobody is told its counters under this number: packets that came later would
    /// be among them.
    pub fn ask_for_report(&mut self, number: u64) {
        for lane in &mut self.lanes {
            lane.batch.report = Some(number);
        }
        self.flush();
    }

    /// Tells whether packets wait to be sent.
    pub fn holds_packets(&self) -> bool {
        self.lanes.iter().any(|lane| lane.batch.len() > 0)
    }

    /// Returns what was dropped.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Ends the input: the shards write all flows they hold, with this reason, and stop.
    pub fn finish(mut self, reason: EndReason) -> Dropped {
        // Nothing is captured any more that could be lost by waiting.
        self.when_full = WhenFull::Wait;
        self.flush();
        for lane in &self.lanes {
            // A shard that is gone has panicked; the merge reports that.
            let _ = lane.to_shard.send(Input::End(reason));
        }
        self.dropped
    }

    /// Sends every lane's batch, also the empty ones, for the time they carry.
    ///
    /// First to all that have room, then, waiting, to the others: so a shard that the reader waits for never
    /// waits in turn for one that was not told the time.
    fn flush(&mut self) {
        let mut late = Vec::new();
        for (nth, lane) in self.lanes.iter_mut().enumerate() {
            let mut batch = lane.emptied.try_recv().unwrap_or_else(|_| Batch::new());
            std::mem::swap(&mut batch, &mut lane.batch);
            batch.now = self.now;
            match lane.to_shard.try_send(Input::Batch(batch)) {
                Ok(()) => {}
                // The shard has panicked: the merge says so.
                Err(TrySendError::Disconnected(Input::Batch(batch))) => self.dropped.count(&batch),
                // There is room in the batch itself until it is full.
                Err(TrySendError::Full(Input::Batch(batch)))
                    if self.when_full == WhenFull::Drop && !batch.is_full() && batch.report.is_none() =>
                {
                    lane.batch = batch;
                }
                Err(TrySendError::Full(input)) => late.push((nth, input)),
                Err(TrySendError::Disconnected(Input::End(_))) => {}
            }
        }
        for (nth, input) in late {
            let lane = &mut self.lanes[nth];
            let refused = match self.when_full {
                WhenFull::Wait => lane.to_shard.send(input).err().map(|refused| refused.0),
                WhenFull::Drop => {
                    lane.to_shard.send_timeout(input, PATIENCE).err().map(|refused| refused.into_inner())
                }
            };
            let Some(Input::Batch(mut batch)) = refused else { continue };
            if self.when_full == WhenFull::Wait || batch.is_full() {
                self.dropped.count(&batch);
            } else {
                batch.report = None;
                lane.batch = batch;
            }
        }
    }
}

/// The number of the report that each shard makes when it ends.
pub const LAST_REPORT: u64 = u64::MAX;
/// Batches that wait for a shard; each holds up to 256 KiB of payload.
const BATCHES_IN_FLIGHT: usize = if TINY { 1 } else { 8 };
/// How long live capture waits for a shard: as long as some ten thousand packets fit in the kernel's ring meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);
/// Chunks of records that wait for the merge.
const CHUNKS_IN_FLIGHT: usize = if TINY { 1 } else { 4 };
/// Every interleaving can be tried only where everything is full at once.
const TINY: bool = cfg!(feature = "__interleaved");
