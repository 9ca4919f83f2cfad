//! A sink of one's own: the bytes that each address sent, counted as the records come.
//!
//! `cargo run --example own_sink [capture]`

use std::collections::BTreeMap;
use std::net::IpAddr;

use flowcore::capture::FileSource;
use flowcore::record::Record;
use flowcore::sink::Sink;
use flowcore::{Error, Meter, Stop};

/// Adds up what each address sent, and prints it at the end.
#[derive(Default)]
struct Talkers(BTreeMap<IpAddr, u64>);

impl Sink for Talkers {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        if let Record::Flow(flow) = record {
            let volume = &flow.features.volume;
            *self.0.entry(flow.key.endpoint(flow.src).addr).or_default() += volume.src.bytes;
            *self.0.entry(flow.key.endpoint(flow.src.other()).addr).or_default() += volume.dst.bytes;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        for (addr, bytes) in &self.0 {
            println!("{addr} sent {bytes} bytes");
        }
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let capture = std::env::args().nth(1).unwrap_or(HTTP.to_owned());
    let meter = Meter::builder().sink("talkers", Box::new(Talkers::default())).build()?;
    let summary = meter.run(Box::new(FileSource::open(&[capture])?), &Stop::new());
    summary.failure.map_or(Ok(()), Err)
}

const HTTP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/captures/http.pcap");
