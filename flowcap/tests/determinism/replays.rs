//! Replays by the library: every number of shards, batches of any size.

use std::fs;
use std::path::Path;
use std::time::Duration;

use flowcap_benches::rng::Rng;
use flowcore::capture::{FileSource, Next, Source, SourceCounts};
use flowcore::record::{Column, StatsRecord};
use flowcore::sink::{self, Existing, Format};
use flowcore::{Error, Meter, Stop};

use crate::Captures;

#[test]
fn shards_and_batches_change_nothing() {
    let captures = Captures::all();
    let out = captures.folder.path().join("out");
    let mut records = 0;
    for (nth, path) in captures.paths.iter().enumerate() {
        let format = if nth % 5 == 0 { Format::Csv } else { Format::Jsonl };
        let (expected, stats) = replay(path, format, 1, 0, &out);
        assert!(!stats.records.contains_key("resource"), "{}: flows had to make room", path.display());
        records += stats.records.values().sum::<u64>();
        for (shards, halts) in [(2, 0), (3, 0), (4, 0), (8, 0), (1, 1000), (3, 30)] {
            let (bytes, others) = replay(path, format, shards, halts, &out);
            assert!(bytes == expected, "{}: {shards} shards, {halts} halts", path.display());
            assert_eq!((others.packets, others.flow_bytes), (stats.packets, stats.flow_bytes));
        }
    }
    assert!(records > 10_000, "only {records} records");
}

/// Replays a capture and returns the bytes that were written.
fn replay(path: &Path, format: Format, shards: usize, halts: u32, out: &Path) -> (Vec<u8>, StatsRecord) {
    let file = FileSource::open(&[path]).unwrap();
    let source = Halting { file, rng: Rng::new(7), often: halts, halted: false };
    let columns = Column::parse("@all").unwrap();
    let name = out.to_str().unwrap();
    let sink = sink::open(name, format, Some(&columns), &Existing::Overwrite.into()).unwrap();
    let meter = Meter::builder().shards(shards).sink("out", sink).build().unwrap();
    let summary = meter.run(Box::new(source), &Stop::new());
    assert!(summary.failure.is_none(), "{}: {:?}", path.display(), summary.failure);
    assert!(summary.false_identities.is_empty(), "{}: {:?}", path.display(), summary.false_identities);
    (fs::read(out).unwrap(), summary.stats)
}

/// A file that comes as from a pipe: it halts between packets, and what there is is sent on.
struct Halting {
    file: FileSource,
    rng: Rng,
    /// In a thousand packets; at a thousand, each is a batch of its own.
    often: u32,
    halted: bool,
}

impl Source for Halting {
    fn next(&mut self, patience: Duration) -> Result<Next<'_>, Error> {
        self.halted = !self.halted && self.rng.chance(self.often);
        if self.halted {
            return Ok(Next::Idle);
        }
        self.file.next(patience)
    }

    fn counts(&mut self) -> SourceCounts {
        self.file.counts()
    }
}
