//! The writer: merged records to the sinks, and the stats record.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::builder::{Beside, NamedSink};
use super::reader::{ReaderReport, wall_clock};
use super::stats;
use super::{Aides, Progress, Reopen, Stop, Watched};
use crate::enrich::{Attribution, Requests};
use crate::error::Error;
use crate::record::{AttributionStats, HostNews, Record, SinkStats, StatsRecord};
use crate::shard::{LAST_REPORT, Merge, Merged};
use crate::sink::{Sink, SinkCounts};
use crate::time::{TableTime, Timestamp};

/// The writing end of a meter.
pub(super) struct Writer {
    pub(super) sinks: Vec<NamedSink>,
    pub(super) besides: Vec<Beside>,
    pub(super) stats: Option<NamedSink>,
    pub(super) merge: Merge,
    pub(super) attribution: Option<Attribution>,
    pub(super) requests: Option<Requests>,
    pub(super) watched: Option<Watched>,
    pub(super) aides: Aides,
    pub(super) reports: Receiver<ReaderReport>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
    /// Records are to be seen as they come: the input may be a pipe or an interface.
    pub(super) flushes: bool,
    /// Sinks are told the time of day, else table time.
    pub(super) is_live: bool,
    pub(super) reopen: Reopen,
}

/// How writing went.
pub(super) struct Written {
    pub(super) stats: StatsRecord,
    /// The first that were found.
    pub(super) false_identities: Vec<String>,
    pub(super) failure: Option<Error>,
}

/// What the writer knows of the whole run.
#[derive(Default)]
struct Known {
    stats: StatsRecord,
    false_identities: Vec<String>,
    /// The reader or a shard has panicked.
    panicked: bool,
}

/// Records that come from beside the flows, and the sinks that they go to.
struct HostRecords {
    news: Receiver<HostNews>,
    /// Until no more are.
    wanted: Option<Box<dyn Send>>,
    sinks: Range<usize>,
    is_own: bool,
}

impl HostRecords {
    /// Returns what comes until there is nobody to tell more; flows wait for it no longer than to a point in time.
    fn rest(&self, end: Instant) -> impl Iterator<Item = HostNews> {
        std::iter::from_fn(move || self.news.recv_timeout(end.saturating_duration_since(Instant::now())).ok())
    }

    /// Returns what is there, as far as flows need not wait for it.
    fn ready(&self) -> impl Iterator<Item = HostNews> {
        self.news.try_iter().take(NEWS_PER_TURN)
    }
}

/// All sinks of records, with their counters.
struct Outputs {
    /// A sink that has failed is taken away; its counters stay. Those of flows are the first.
    sinks: Vec<Option<NamedSink>>,
    /// How many take flows.
    of_flows: usize,
    counts: Vec<SinkStats>,
    /// Where stats records go.
    stats: Option<NamedSink>,
    failure: Option<Error>,
    stop: Stop,
}

impl Writer {
    /// Writes until all shards have stopped, or to a panic, then ends the sinks.
    pub(super) fn run(mut self) -> Written {
        let (sinks, besides) = (std::mem::take(&mut self.sinks), std::mem::take(&mut self.besides));
        let (mut outputs, mut besides) = Outputs::new(sinks, besides, self.stats.take(), self.stop.clone());
        let mut known = Known::default();
        let worked =
            catch_unwind(AssertUnwindSafe(|| self.work(&mut outputs, &mut besides, &mut known))).is_ok();
        if !worked {
            outputs.note(Err(panic_of("the writer's thread")));
        }
        outputs.finish();
        let Known { mut stats, mut false_identities, panicked } = known;
        if panicked {
            stats::count_lost(&mut stats);
        }
        stats.sinks = outputs.counts(true);
        stats.attribution = attribution_stats(self.attribution.as_ref(), self.requests.as_ref());
        stats.restarts = self.aides.restarts();
        if worked && false_identities.is_empty() {
            false_identities = stats::false_identities(&stats, outputs.of_flows, true);
        }
        if let Some(watched) = &self.watched {
            watched.show(&stats);
        }
        outputs.write_stats(&stats);
        outputs.finish_stats();
        if self.merge.has_panicked() && outputs.failure.is_none() {
            outputs.failure = Some(panic_of("a shard's thread"));
        }
        Written { stats, false_identities, failure: outputs.failure }
    }

    /// Writes until all shards have stopped.
    fn work(&mut self, outputs: &mut Outputs, besides: &mut [HostRecords], known: &mut Known) {
        let mut clock = if self.is_live {
            Clock::OfDay(i64::MIN, Timestamp::MIN)
        } else {
            Clock::OfTable(TableTime::START)
        };
        let (mut wait, mut records) = (false, 0u64);
        outputs.turn(&mut clock, &self.reopen, false);
        while let Some(merged) = self.merge.next(wait) {
            wait = matches!(merged, Merged::Pause);
            match merged {
                Merged::Record(record) => {
                    records += 1;
                    if let Some(attribution) = &mut self.attribution {
                        attribution.attach(record);
                    }
                    if clock.is_passed_by(record.due) {
                        outputs.advance(record.due.time);
                    }
                    outputs.write(0..outputs.of_flows, Record::Flow(record));
                    // Where records come so fast that there is never a pause.
                    if records.is_multiple_of(RECORDS_PER_TURN) {
                        besides.iter().for_each(|beside| outputs.take(beside, beside.ready()));
                        outputs.turn(&mut clock, &self.reopen, self.flushes);
                    }
                }
                Merged::Pause => {
                    self.progress.records.store(records, Ordering::Relaxed);
                    besides.iter().for_each(|beside| outputs.take(beside, beside.ready()));
                    if self.flushes {
                        outputs.flush(0..outputs.of_flows);
                    }
                    outputs.turn(&mut clock, &self.reopen, false);
                    if self.merge.has_panicked() {
                        outputs.stop.request();
                    }
                }
                Merged::Report(shards) => {
                    let number = shards.first().map_or(LAST_REPORT, |shard| shard.number);
                    // One that a busy shard never saw is made good by the next: so is the record that was due.
                    let mut is_record = false;
                    let mut reader = self.reports.iter().inspect(|report| is_record |= report.is_record);
                    let Some(reader) = reader.find(|report| report.number == number) else { continue };
                    known.panicked |= reader.panicked;
                    known.stats = stats::gather(&reader, &shards, &outputs.counts(false));
                    let stats = &mut known.stats;
                    if number != LAST_REPORT && known.false_identities.is_empty() {
                        known.false_identities = stats::false_identities(stats, outputs.of_flows, false);
                    }
                    stats.attribution = attribution_stats(self.attribution.as_ref(), self.requests.as_ref());
                    stats.restarts = self.aides.restarts();
                    if let Some(watched) = &self.watched {
                        watched.show(stats);
                    }
                    if is_record && number != LAST_REPORT {
                        outputs.write_stats(stats);
                    }
                }
            }
        }
        known.panicked |= self.merge.has_panicked();
        self.progress.records.store(records, Ordering::Relaxed);
        besides.iter_mut().for_each(|beside| drop(beside.wanted.take()));
        let end = Instant::now() + LAST_NEWS;
        besides.iter().for_each(|beside| outputs.take(beside, beside.rest(end)));
    }
}

/// What the sinks take for the time.
enum Clock {
    /// The time of day: its last second, and when records were flushed last.
    OfDay(i64, Timestamp),
    /// Table time: when the next second of it begins.
    OfTable(TableTime),
}

impl Clock {
    /// Tells whether table time enters a new second with a record.
    #[inline]
    fn is_passed_by(&mut self, due: TableTime) -> bool {
        match self {
            Clock::OfTable(next) if due >= *next => {
                let second = due.time.parts().0 + 1;
                let time = Timestamp::from_wide_nanos(i128::from(second) * 1_000_000_000).0;
                *next = TableTime { epoch: due.epoch, time };
                true
            }
            _ => false,
        }
    }
}

impl Outputs {
    fn new(
        mut sinks: Vec<NamedSink>,
        besides: Vec<Beside>,
        stats: Option<NamedSink>,
        stop: Stop,
    ) -> (Self, Vec<HostRecords>) {
        let of_flows = sinks.len();
        let besides = besides.into_iter().map(|Beside { news, wanted, sinks: own }| {
            let (is_own, first) = (!own.is_empty(), sinks.len());
            sinks.extend(own);
            let sinks = if is_own { first..sinks.len() } else { 0..of_flows };
            HostRecords { news, wanted: Some(wanted), sinks, is_own }
        });
        let besides = besides.collect();
        let counts = sinks.iter().map(|sink| SinkStats { to: sink.name.clone(), ..SinkStats::default() });
        let outputs = Outputs {
            counts: counts.collect(),
            sinks: sinks.into_iter().map(Some).collect(),
            of_flows,
            stats,
            failure: None,
            stop,
        };
        (outputs, besides)
    }

    /// Writes what came from beside the flows, wherever it is taken.
    fn take(&mut self, beside: &HostRecords, news: impl Iterator<Item = HostNews>) {
        for news in news {
            match news.record() {
                Some(record) => {
                    for nth in beside.sinks.clone() {
                        if self.sinks[nth].as_ref().is_some_and(|sink| sink.sink.takes(record)) {
                            self.counts[nth].host_records += 1;
                            self.write(nth..nth + 1, record);
                        }
                    }
                }
                // The sinks of flows are flushed in the pauses of those.
                None if beside.is_own => self.flush(beside.sinks.clone()),
                None => {}
            }
        }
    }

    fn write(&mut self, sinks: Range<usize>, record: Record<'_>) {
        for nth in sinks {
            let wrote = self.sinks[nth].as_mut().map(|sink| sink.sink.write(record));
            let counts = &mut self.counts[nth];
            counts.records += 1;
            match wrote {
                Some(Ok(())) => counts.written += 1,
                _ => counts.failed += 1,
            }
            self.note_of(nth, wrote);
        }
    }

    fn write_stats(&mut self, stats: &StatsRecord) {
        if let Some(sink) = &mut self.stats {
            let wrote = sink.sink.write(Record::Stats(stats));
            let wrote = wrote.and_then(|()| sink.sink.flush());
            self.note(wrote);
        }
    }

    fn finish_stats(&mut self) {
        if let Some(sink) = &mut self.stats {
            let finished = sink.sink.finish();
            self.note(finished);
        }
    }

    /// Sees to what has to be seen to though nothing may be written: the time of day, files that were moved away.
    fn turn(&mut self, clock: &mut Clock, reopen: &Reopen, flushes: bool) {
        if reopen.take() {
            self.each(|sink| sink.reopen());
        }
        let Clock::OfDay(second, flushed) = clock else { return };
        let now = wall_clock();
        if flushes && now.as_nanos().abs_diff(flushed.as_nanos()) >= FLUSH_INTERVAL {
            *flushed = now;
            self.flush(0..self.of_flows);
        }
        if now.parts().0 != *second {
            *second = now.parts().0;
            self.advance(now);
        }
    }

    fn advance(&mut self, now: Timestamp) {
        self.each(|sink| sink.advance(now));
    }

    fn flush(&mut self, sinks: Range<usize>) {
        for nth in sinks {
            let flushed = self.sinks[nth].as_mut().map(|sink| sink.sink.flush());
            self.note_of(nth, flushed);
        }
    }

    fn finish(&mut self) {
        for nth in 0..self.sinks.len() {
            // One that panics does not keep the others from their end.
            let finish = |sink: &mut NamedSink| catch_unwind(AssertUnwindSafe(|| sink.sink.finish()));
            let finished = self.sinks[nth].as_mut().map(finish);
            let finished = finished.map(|ended| ended.unwrap_or_else(|_| Err(panic_of("an output"))));
            let failed = matches!(finished, Some(Err(_)));
            if let (Some(sink), true) = (&self.sinks[nth], failed) {
                settle(&mut self.counts[nth], &sink.sink.counts(), true);
            }
            self.note_failure(nth, finished);
        }
    }

    /// Does something with every sink, that of stats records too.
    fn each(&mut self, act: impl Fn(&mut dyn Sink) -> Result<(), Error>) {
        for nth in 0..self.sinks.len() {
            let done = self.sinks[nth].as_mut().map(|sink| act(sink.sink.as_mut()));
            self.note_of(nth, done);
        }
        if let Some(sink) = &mut self.stats {
            let done = act(sink.sink.as_mut());
            self.note(done);
        }
    }

    /// Returns what became of the records; at the end by what the sinks have counted themselves.
    fn counts(&self, at_the_end: bool) -> Vec<SinkStats> {
        let mut all = self.counts.clone();
        for (counts, sink) in all.iter_mut().zip(&self.sinks) {
            if let Some(sink) = sink {
                settle(counts, &sink.sink.counts(), at_the_end);
            }
        }
        all
    }

    /// Takes a sink away that has failed, after a last try to write what waits there.
    fn note_of(&mut self, nth: usize, result: Option<Result<(), Error>>) {
        if let (Some(Err(_)), Some(sink)) = (&result, &mut self.sinks[nth]) {
            // It is known already that it fails.
            _ = sink.sink.finish();
            settle(&mut self.counts[nth], &sink.sink.counts(), true);
        }
        self.note_failure(nth, result);
    }

    /// A reader that went away (a closed pipe) leaves the other sinks at work.
    fn note_failure(&mut self, nth: usize, result: Option<Result<(), Error>>) {
        let Some(Err(error)) = result else { return };
        self.sinks[nth] = None;
        let others = self.sinks.iter().any(Option::is_some);
        if !(others && error.is_closed_pipe()) {
            self.note(Err(error));
        }
    }

    /// Keeps the first failure, and asks the meter to stop: what cannot be written need not be read.
    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.stop.request();
            self.failure.get_or_insert(error);
        }
    }
}

/// Takes what a sink has counted into the counters of what it was given; `written` are those that it took until then.
fn settle(counts: &mut SinkStats, by_sink: &SinkCounts, at_the_end: bool) {
    counts.filtered = by_sink.filtered;
    counts.spooled = by_sink.spooled;
    counts.spool_lost = by_sink.spool_lost;
    counts.restarts = by_sink.restarts;
    counts.server.clone_from(&by_sink.server);
    counts.dropped.clone_from(&by_sink.dropped);
    counts.problem.clone_from(&by_sink.problem);
    let dropped: u64 = by_sink.dropped.values().sum();
    let elsewhere = by_sink.filtered + by_sink.spooled + by_sink.failed + dropped;
    counts.failed += by_sink.failed;
    // What waits in a buffer is as good as written until the end, where the sink knows better.
    let taken = counts.written.saturating_sub(elsewhere);
    counts.written = by_sink.written.filter(|_| at_the_end).unwrap_or(taken);
}

/// Returns what attribution and its lookups have counted until now.
fn attribution_stats(
    attribution: Option<&Attribution>,
    requests: Option<&Requests>,
) -> Option<AttributionStats> {
    let mut stats = attribution?.stats();
    if let Some(requests) = requests {
        requests.count(&mut stats);
    }
    Some(stats)
}

fn panic_of(what: &str) -> Error {
    Error::Internal(format!("{what} panicked"))
}

/// How long the last records from beside the flows are waited for.
const LAST_NEWS: Duration = Duration::from_secs(3);

/// Records from beside the flows that are written before flows have their turn again.
const NEWS_PER_TURN: usize = 16_384;

/// Records between two looks at the clock where none but these come.
const RECORDS_PER_TURN: u64 = 256;

/// How long records may wait where more come all the time, in nanoseconds.
const FLUSH_INTERVAL: u64 = 400_000_000;
