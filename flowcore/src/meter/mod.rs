//! The pipeline wired together: a source in, flow records out to any number of sinks.
//!
//! The calling thread reads and decodes; each shard has a thread with a flow table of its own; one thread
//! merges what they write and gives it to the sinks.
#![forbid(unsafe_code)]

mod aides;
mod builder;
mod reader;
mod stats;
mod tap;
mod watched;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::capture::Source;
use crate::error::Error;
use crate::record::StatsRecord;
use crate::shard::{self, WhenFull};

pub use crate::stop::Stop;
pub use aides::Aides;
pub use builder::{Beside, MOST_SHARDS, Meter, MeterBuilder};
use reader::Reader;
pub use reader::wall_clock;
pub use tap::PacketTap;
pub use watched::Watched;
use writer::Writer;

/// Has a running [`Meter`] open its files again, after somebody has moved them away; can be cloned and sent to another
/// thread.
#[derive(Clone, Debug, Default)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// Makes one that asks for nothing yet.
    pub fn new() -> Self {
        Reopen::default()
    }

    /// Asks for it, once: within a second every sink is told ([`Sink::reopen`](crate::sink::Sink::reopen)).
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// How far a running [`Meter`] has come; for a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    packets: AtomicU64,
    records: AtomicU64,
    file_bytes: AtomicU64,
}

impl Progress {
    /// Returns the packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Returns the flow records written so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the input files read so far, as they lie on disk.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }
}

/// How a run of a [`Meter`] went.
#[derive(Debug)]
pub struct Summary {
    /// All counters.
    pub stats: StatsRecord,
    /// Inputs that were damaged; every packet before the damage was used.
    pub damage: Vec<Error>,
    /// What ended the run before its time: a device or an output that failed, a panic.
    pub failure: Option<Error>,
    /// Conservation identities that do not hold (faults.md); empty if all is well.
    pub false_identities: Vec<String>,
    /// How long the run took.
    pub elapsed: Duration,
}

impl Meter {
    /// Returns a handle on how far the meter has come.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Runs until the source is at its end, a limit is reached or `stop` is requested; then writes every open
    /// flow and ends the sinks.
    ///
    /// A panic of one of its threads becomes [`Summary::failure`]; the packets that the thread had in its hands are counted
    /// as dropped (`panic`), and the sinks are ended.
    pub fn run(self, mut source: Box<dyn Source>, stop: &Stop) -> Summary {
        let started = Instant::now();
        let is_live = source.is_live();
        let when_full = if is_live { WhenFull::Drop } else { WhenFull::Wait };
        let (router, merge, threads) = match shard::start(self.shards, &self.table, when_full) {
            Ok(shards) => shards,
            Err(error) => return Summary::of_failure(error, started.elapsed()),
        };
        let (to_writer, from_reader) = std::sync::mpsc::sync_channel(REPORTS_WAITING);
        let writer = Writer {
            sinks: self.sinks,
            besides: self.besides,
            stats: self.stats_sink,
            merge,
            attribution: self.attribution,
            requests: self.requests,
            watched: self.watched.clone(),
            aides: self.aides,
            reports: from_reader,
            progress: self.progress.clone(),
            stop: stop.clone(),
            flushes: source.may_wait(),
            is_live,
            reopen: self.reopen,
        };
        let reader = Reader {
            decode: self.decode,
            router,
            reports: to_writer,
            progress: self.progress,
            stats_interval: self.stats_interval.filter(|_| is_live),
            watched: self.watched,
            packet_limit: self.packet_limit,
            deadline: self.duration.map(|duration| started + duration),
            started,
        };
        let (read, written) = std::thread::scope(|scope| {
            let writer = std::thread::Builder::new().name("writer".into()).spawn_scoped(scope, || {
                // However the writer ends: without it nothing more need be read.
                let _guard = RequestOnDrop(stop);
                writer.run()
            });
            // Without a writer the merge is gone, and the shards' records with it.
            let read = reader.run(source.as_mut(), stop);
            (read, writer.map(|thread| thread.join()))
        });
        for thread in threads {
            let _ = thread.join();
        }
        let elapsed = started.elapsed();
        match written {
            Ok(Ok(written)) => Summary {
                false_identities: written.false_identities,
                stats: written.stats,
                damage: read.damage,
                failure: written.failure.or(read.failure),
                elapsed,
            },
            Ok(Err(_)) => {
                Summary::of_failure(Error::Internal("the writer's thread panicked".into()), elapsed)
            }
            Err(error) => {
                Summary::of_failure(Error::Internal(format!("cannot start a thread: {error}")), elapsed)
            }
        }
    }
}

/// Requests a stop when it goes, also in a panic.
struct RequestOnDrop<'a>(&'a Stop);

impl Drop for RequestOnDrop<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

impl Summary {
    fn of_failure(error: Error, elapsed: Duration) -> Self {
        Summary {
            stats: StatsRecord::default(),
            damage: Vec::new(),
            failure: Some(error),
            false_identities: Vec::new(),
            elapsed,
        }
    }
}

/// Reports of the reader that wait for the writer.
const REPORTS_WAITING: usize = 64;
