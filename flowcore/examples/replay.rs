//! A capture file through the whole pipeline, to standard output as JSON lines.
//!
//! `cargo run --example replay [capture]`

use flowcore::capture::FileSource;
use flowcore::record::Column;
use flowcore::sink::{self, Existing, Format};
use flowcore::{Meter, Stop};

fn main() -> Result<(), flowcore::Error> {
    let capture = std::env::args().nth(1).unwrap_or(HTTP.to_owned());
    let columns = Column::parse("@core,history,tcp_state")?;
    let out = sink::open("-", Format::Jsonl, Some(&columns), &Existing::Refuse.into())?;
    let meter = Meter::builder().sink("-", out).build()?;
    let summary = meter.run(Box::new(FileSource::open(&[capture])?), &Stop::new());
    eprintln!("{} packets in {} flows", summary.stats.packets, summary.stats.flows_opened);
    summary.failure.map_or(Ok(()), Err)
}

const HTTP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/captures/http.pcap");
