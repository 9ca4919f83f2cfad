//! Any bytes as a capture file, through the whole meter: it never fails, and its counters add up.
#![no_main]

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowcore::capture::FileSource;
use flowcore::record::Record;
use flowcore::sink::Sink;
use flowcore::{Error, Meter, Stop};
use libfuzzer_sys::fuzz_target;

/// Counts the packets of the records.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU64>);

impl Sink for Count {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        if let Record::Flow(flow) = record {
            assert!(flow.first <= flow.last);
            self.0.fetch_add(flow.features.volume.packets(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let source = FileSource::from_reader("fuzz", Cursor::new(data.to_vec()));
    let count = Count::default();
    // Threads take most of the time.
    let shards = 1 + usize::from(data.len() % 8 == 7);
    // A small compressed input can hold very many packets.
    let meter =
        Meter::builder().shards(shards).packet_limit(Some(500)).sink("count", Box::new(count.clone()));
    let summary = meter.build().expect("a meter").run(Box::new(source), &Stop::new());
    assert!(summary.failure.is_none(), "{:?}", summary.failure);
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
    assert_eq!(summary.stats.flow_packets, count.0.load(Ordering::Relaxed));
});
