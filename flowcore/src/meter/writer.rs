//! The writer: merged records to the sinks, and the stats record.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use super::builder::NamedSink;
use super::reader::ReaderReport;
use super::stats;
use super::{Progress, Stop};
use crate::error::Error;
use crate::record::{Record, SinkStats, StatsRecord};
use crate::shard::{Merge, Merged};

/// The writing end of a meter.
pub(super) struct Writer {
    pub(super) sinks: Vec<NamedSink>,
    pub(super) stats: Option<NamedSink>,
    pub(super) merge: Merge,
    pub(super) reports: Receiver<ReaderReport>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
    pub(super) is_live: bool,
}

/// How writing went.
pub(super) struct Written {
    pub(super) stats: StatsRecord,
    pub(super) failure: Option<Error>,
}

/// The sinks of flow records, with their counters.
struct Outputs {
    sinks: Vec<NamedSink>,
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
                    outputs.write(Record::Flow(record));
                }
                Merged::Pause => {
                    self.progress.records.store(records, Ordering::Relaxed);
                    if self.is_live {
                        outputs.flush();
                    }
                }
                Merged::Report(shards) => {
                    let Ok(reader) = self.reports.recv() else { continue };
                    stats = stats::gather(&reader, &shards, &outputs.counts);
                    if !shards.iter().all(|shard| shard.is_last) {
                        outputs.write_stats(self.stats.as_mut(), &stats);
                    }
                }
            }
        }
        self.progress.records.store(records, Ordering::Relaxed);
        outputs.finish();
        stats.sinks.clone_from(&outputs.counts);
        outputs.write_stats(self.stats.as_mut(), &stats);
        if let Some(stats_sink) = &mut self.stats {
            outputs.note(stats_sink.sink.finish());
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
        Outputs { counts: counts.collect(), sinks, failure: None, stop }
    }

    fn write(&mut self, record: Record<'_>) {
        for nth in 0..self.sinks.len() {
            let wrote = self.sinks[nth].sink.write(record);
            let counts = &mut self.counts[nth];
            counts.records += 1;
            if wrote.is_ok() {
                counts.written += 1;
            } else {
                counts.failed += 1;
            }
            self.note(wrote);
        }
    }

    fn write_stats(&mut self, sink: Option<&mut NamedSink>, stats: &StatsRecord) {
        if let Some(sink) = sink {
            let wrote = sink.sink.write(Record::Stats(stats));
            self.note(wrote.and_then(|()| sink.sink.flush()));
        }
    }

    fn flush(&mut self) {
        for nth in 0..self.sinks.len() {
            let flushed = self.sinks[nth].sink.flush();
            self.note(flushed);
        }
    }

    fn finish(&mut self) {
        for nth in 0..self.sinks.len() {
            let finished = self.sinks[nth].sink.finish();
            self.note(finished);
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
