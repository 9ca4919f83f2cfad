//! The writer: merged records to the sinks, and the stats record.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use super::builder::NamedSink;
use super::reader::ReaderReport;
use super::stats;
use super::{Progress, Stop};
use crate::enrich::{Attribution, Requests};
use crate::error::Error;
use crate::record::{AttributionStats, Record, SinkStats, StatsRecord};
use crate::shard::{LAST_REPORT, Merge, Merged};

/// The writing end of a meter.
pub(super) struct Writer {
    pub(super) sinks: Vec<NamedSink>,
    pub(super) stats: Option<NamedSink>,
    pub(super) merge: Merge,
    pub(super) attribution: Option<Attribution>,
    pub(super) requests: Option<Requests>,
    pub(super) reports: Receiver<ReaderReport>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
    /// Records are to be seen as they come: the input may be a pipe or an interface.
    pub(super) flushes: bool,
}

/// How writing went.
pub(super) struct Written {
    pub(super) stats: StatsRecord,
    pub(super) failure: Option<Error>,
}

/// The sinks of flow records, with their counters.
struct Outputs {
    /// A sink that has failed is taken away; its counters stay.
    sinks: Vec<Option<NamedSink>>,
    counts: Vec<SinkStats>,
    failure: Option<Error>,
    stop: Stop,
}

impl Writer {
    /// Writes until all shards have stopped, then ends the sinks.
    pub(super) fn run(mut self) -> Written {
        let mut outputs = Outputs::new(self.sinks, self.stop);
        let (mut stats, mut wait, mut records) = (StatsRecord::default(), false, 0u64);
        while let Some(merged) = self.merge.next(wait) {
            wait = matches!(merged, Merged::Pause);
            match merged {
                Merged::Record(record) => {
                    records += 1;
                    if let Some(attribution) = &mut self.attribution {
                        attribution.attach(record);
                    }
                    outputs.write(Record::Flow(record));
                }
                Merged::Pause => {
                    self.progress.records.store(records, Ordering::Relaxed);
                    if self.flushes {
                        outputs.flush();
                    }
                    if self.merge.has_panicked() {
                        outputs.stop.request();
                    }
                }
                Merged::Report(shards) => {
                    let number = shards.first().map_or(LAST_REPORT, |shard| shard.number);
                    let Some(reader) = self.reports.iter().find(|report| report.number == number) else {
                        continue;
                    };
                    outputs.count_filtered();
                    stats = stats::gather(&reader, &shards, &outputs.counts);
                    stats.attribution = attribution_stats(self.attribution.as_ref(), self.requests.as_ref());
                    if number != LAST_REPORT {
                        outputs.write_stats(self.stats.as_mut(), &stats);
                    }
                }
            }
        }
        self.progress.records.store(records, Ordering::Relaxed);
        outputs.finish();
        outputs.count_filtered();
        stats.sinks.clone_from(&outputs.counts);
        stats.attribution = attribution_stats(self.attribution.as_ref(), self.requests.as_ref());
        outputs.write_stats(self.stats.as_mut(), &stats);
        if let Some(stats_sink) = &mut self.stats {
            let finished = stats_sink.sink.finish();
            outputs.note(finished);
        }
        if self.merge.has_panicked() && outputs.failure.is_none() {
            outputs.failure = Some(Error::Internal("a shard's thread panicked".into()));
        }
        Written { stats, failure: outputs.failure }
    }
}

impl Outputs {
    fn new(sinks: Vec<NamedSink>, stop: Stop) -> Self {
        let counts = sinks.iter().map(|sink| SinkStats { to: sink.name.clone(), ..SinkStats::default() });
        Outputs {
            counts: counts.collect(),
            sinks: sinks.into_iter().map(Some).collect(),
            failure: None,
            stop,
        }
    }

    fn write(&mut self, record: Record<'_>) {
        for nth in 0..self.sinks.len() {
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

    fn write_stats(&mut self, sink: Option<&mut NamedSink>, stats: &StatsRecord) {
        if let Some(sink) = sink {
            let wrote = sink.sink.write(Record::Stats(stats));
            self.note(wrote.and_then(|()| sink.sink.flush()));
        }
    }

    /// Asks the sinks which records they did not let through.
    fn count_filtered(&mut self) {
        for (counts, sink) in self.counts.iter_mut().zip(&self.sinks) {
            let Some(sink) = sink else { continue };
            let filtered = sink.sink.counts().filtered;
            counts.written -= filtered - counts.filtered;
            counts.filtered = filtered;
        }
    }

    fn flush(&mut self) {
        for nth in 0..self.sinks.len() {
            let flushed = self.sinks[nth].as_mut().map(|sink| sink.sink.flush());
            self.note_of(nth, flushed);
        }
    }

    fn finish(&mut self) {
        for nth in 0..self.sinks.len() {
            let finished = self.sinks[nth].as_mut().map(|sink| sink.sink.finish());
            self.note_of(nth, finished);
        }
    }

    /// Takes a sink away that has failed; a reader that went away (a closed pipe) leaves the other sinks at work.
    fn note_of(&mut self, nth: usize, result: Option<Result<(), Error>>) {
        let Some(Err(error)) = result else { return };
        self.count_filtered();
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
