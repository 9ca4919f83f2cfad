//! Any bytes as a capture file, through the whole meter: it never fails, and its counters add up.
#![no_main]

use std::io::Cursor;

use flowcore::capture::FileSource;
use flowcore::record::Record;
use flowcore::sink::Sink;
use flowcore::{Error, Meter, Stop};
use libfuzzer_sys::fuzz_target;

struct Count;

impl Sink for Count {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        if let Record::Flow(flow) = record {
            assert!(flow.first <= flow.last);
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
    // A small compressed input can hold very many packets.
    let meter = Meter::builder().shards(2).packet_limit(Some(5_000)).sink("count", Box::new(Count));
    let summary = meter.build().expect("a meter").run(Box::new(source), &Stop::new());
    assert!(summary.failure.is_none(), "{:?}", summary.failure);
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
});
