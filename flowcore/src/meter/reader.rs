//! The reader: frames from the source, through the decoder, to the shards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Progress, Stop, Watched};
use crate::capture::{Next, Source, SourceCounts};
use crate::decode::{DecodeCounts, DecodeOptions, Decoder};
use crate::error::Error;
use crate::packet::Frame;
use crate::record::EndReason;
use crate::shard::{Dropped, LAST_REPORT, Router};
use crate::time::{TableTime, Timestamp};

/// The reading end of a meter.
pub(super) struct Reader {
    pub(super) decode: DecodeOptions,
    pub(super) router: Router,
    pub(super) reports: SyncSender<ReaderReport>,
    pub(super) progress: Arc<Progress>,
    pub(super) stats_interval: Option<Duration>,
    pub(super) watched: Option<Watched>,
    pub(super) packet_limit: Option<u64>,
    pub(super) deadline: Option<Instant>,
    pub(super) started: Instant,
}

/// The reader's counters at a point of the input, under the number of the shards' reports.
pub(super) struct ReaderReport {
    pub(super) number: u64,
    /// A stats record is to be written of it.
    pub(super) is_record: bool,
    pub(super) at: Timestamp,
    pub(super) uptime: Duration,
    pub(super) decode: DecodeCounts,
    pub(super) source: SourceCounts,
    /// Interfaces that are gone.
    pub(super) missing: Vec<String>,
    pub(super) dropped: Dropped,
    /// Reading ended in a panic.
    pub(super) panicked: bool,
}

/// How reading went.
pub(super) struct Read {
    pub(super) damage: Vec<Error>,
    pub(super) failure: Option<Error>,
}

impl Reader {
    /// Reads to the end, or to a panic, and closes the shards.
    pub(super) fn run(mut self, source: &mut dyn Source, stop: &Stop) -> Read {
        let mut decoder = Decoder::new(self.decode.clone());
        let mut read = Read { damage: Vec::new(), failure: None };
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let reason = self.read(source, &mut decoder, stop, &mut read);
            if source.is_live() && self.packet_limit.is_none() && read.failure.is_none() {
                self.catch_up(source, &mut decoder);
            }
            decoder.finish(|packet| self.router.send(&packet));
            reason
        }));
        let panicked = ran.is_err();
        if panicked {
            read.failure = Some(Error::Internal("the reader's thread panicked".into()));
        }
        self.router.tick(decoder.now());
        self.note_progress(source, &decoder);
        let dropped = self.router.finish(ran.unwrap_or(EndReason::Shutdown));
        let report = report(LAST_REPORT, true, self.started, source, &decoder, dropped);
        // The writer waits for this last report; it is gone only if it has panicked.
        let _ = self.reports.send(ReaderReport { panicked, ..report });
        read
    }

    fn read(
        &mut self,
        source: &mut dyn Source,
        decoder: &mut Decoder,
        stop: &Stop,
        read: &mut Read,
    ) -> EndReason {
        let is_live = source.is_live();
        let mut left = self.packet_limit.unwrap_or(u64::MAX);
        let may_wait = source.may_wait();
        let frames_per_check = if may_wait { FRAMES_PER_CHECK_WAITING } else { FRAMES_PER_CHECK };
        let (mut until_check, mut flushed, mut reports) = (0u32, Timestamp::EPOCH, 0);
        let mut quiet = Quiet::default();
        let mut next_stats = self.stats_interval.map(|interval| self.started + interval);
        let (mut next_look, mut is_record) = (self.started, false);
        while left > 0 {
            if until_check == 0 {
                until_check = frames_per_check;
                self.note_progress(source, decoder);
                let now = Instant::now();
                if self.deadline.is_some_and(|deadline| now >= deadline) {
                    return EndReason::Eof;
                }
                if next_stats.is_some_and(|due| now >= due) {
                    next_stats = self.stats_interval.map(|interval| now + interval);
                    (is_record, next_look) = (true, now);
                }
                if self.watched.as_ref().is_some_and(Watched::takes_request) {
                    (is_record, next_look) = (true, now);
                }
                if (is_record || self.watched.is_some()) && now >= next_look {
                    next_look = now + BETWEEN_LOOKS;
                    let dropped = self.router.dropped();
                    let report = report(reports + 1, is_record, self.started, source, decoder, dropped);
                    // While an output holds the writer up, it takes none.
                    if self.reports.try_send(report).is_ok() {
                        (reports, is_record) = (reports + 1, false);
                        self.router.ask_for_report(reports);
                    }
                }
            }
            if stop.is_requested() {
                return EndReason::Shutdown;
            }
            let in_a_hurry = !may_wait || self.router.holds_packets();
            let patience = if in_a_hurry { BATCH_PATIENCE } else { IDLE_PATIENCE };
            match source.next(patience) {
                Ok(Next::Frame(frame)) => {
                    until_check -= 1;
                    left -= 1;
                    let time = frame.time.unwrap_or_default();
                    self.take(&frame, decoder);
                    // Packets that trickle in must not wait until their batch is full.
                    if is_live
                        && time.as_nanos().abs_diff(flushed.as_nanos()) > BATCH_PATIENCE.as_nanos() as u64
                    {
                        flushed = time;
                        self.router.tick(decoder.now());
                    }
                }
                Ok(Next::Idle) => {
                    until_check = 0;
                    if is_live {
                        let time = quiet.table_time(decoder.now());
                        decoder.tick(time, |packet| self.router.send(&packet));
                    }
                    self.router.tick(decoder.now());
                }
                Ok(Next::End) => return EndReason::Eof,
                Err(error @ Error::Damaged { .. }) => read.damage.push(error),
                Err(error) => {
                    read.failure = Some(error);
                    return EndReason::Shutdown;
                }
            }
        }
        EndReason::Eof
    }

    #[inline]
    fn take(&mut self, frame: &Frame<'_>, decoder: &mut Decoder) {
        if decoder.jumps_at(frame) {
            // Each shard ends its flows by the last time of the epoch, not by its own last packet's.
            self.router.end_epoch(decoder.now());
        }
        decoder.decode(frame, |packet| self.router.send(&packet));
    }

    /// Reads what the kernel has captured before the end, but no longer than a moment.
    fn catch_up(&mut self, source: &mut dyn Source, decoder: &mut Decoder) {
        let until = Instant::now() + CATCH_UP;
        while Instant::now() < until
            && let Ok(Next::Frame(frame)) = source.next(KERNEL_HOLDS)
        {
            self.take(&frame, decoder);
        }
    }

    fn note_progress(&self, source: &mut dyn Source, decoder: &Decoder) {
        self.progress.packets.store(decoder.packets(), Ordering::Relaxed);
        // A live source would have to ask the kernel.
        if !source.is_live() {
            self.progress.file_bytes.store(source.counts().file_bytes, Ordering::Relaxed);
        }
    }
}

fn report(
    number: u64,
    is_record: bool,
    started: Instant,
    source: &mut dyn Source,
    decoder: &Decoder,
    dropped: Dropped,
) -> ReaderReport {
    ReaderReport {
        number,
        is_record,
        at: wall_clock(),
        uptime: started.elapsed(),
        decode: decoder.counts(),
        source: source.counts(),
        missing: source.missing(),
        dropped,
        panicked: false,
    }
}

/// Returns the time of day, by which the kernel stamps packets: the one place where the library reads it, for stats and as
/// the clock of a [`Resolver`](crate::enrich::Resolver).
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_wide_nanos(since.as_nanos() as i128).0
}

/// Table time while no packet comes: it goes on as fast as time does, and not by the time of day, which may be set anew.
#[derive(Default)]
struct Quiet {
    /// What table time was when packets had just ceased, and what it is now.
    since: Option<(Instant, TableTime)>,
    now: TableTime,
}

impl Quiet {
    fn table_time(&mut self, table: TableTime) -> Timestamp {
        let (start, before) = match self.since {
            Some(since) if self.now == table => since,
            _ => *self.since.insert((Instant::now(), table)),
        };
        // The kernel may still hold packets back: a tick must not overtake them.
        let passed = start.elapsed().saturating_sub(KERNEL_HOLDS);
        let time = before.time.saturating_add_nanos(passed.as_nanos() as u64);
        self.now = TableTime { time, ..table };
        self.now.time
    }
}

/// How often a meter that is watched counts together.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Frames between two looks at the clock.
const FRAMES_PER_CHECK: u32 = 1024;
/// The same where each frame may have to be waited for.
const FRAMES_PER_CHECK_WAITING: u32 = 8;
/// Longer than the kernel keeps a block of packets that is not full.
const KERNEL_HOLDS: Duration = Duration::from_millis(10);
/// How long to read on after the end, at most.
const CATCH_UP: Duration = Duration::from_millis(100);
/// How long packets wait for their batch to fill: each batch wakes three threads.
const BATCH_PATIENCE: Duration = Duration::from_millis(20);
/// How long to wait for a packet before the tables are told the time.
const IDLE_PATIENCE: Duration = Duration::from_millis(50);
