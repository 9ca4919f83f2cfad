//! A flow table fed by hand, without threads: frames in, records out.
//!
//! `cargo run --example by_hand [capture]`

use std::time::Duration;

use flowcore::capture::{FileSource, Next, Source};
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::record::{EndReason, FlowRecord};
use flowcore::table::{FlowTable, TableOptions};

fn main() -> Result<(), flowcore::Error> {
    let capture = std::env::args().nth(1).unwrap_or(HTTP.to_owned());
    let mut source = FileSource::open(&[capture])?;
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut table: FlowTable = FlowTable::new(TableOptions::default());

    while let Next::Frame(frame) = source.next(Duration::ZERO)? {
        decoder.decode(&frame, |packet| table.ingest(&packet, show));
    }
    decoder.finish(|packet| table.ingest(&packet, show));
    table.drain(EndReason::Eof, show);
    println!("{:?}", decoder.counts());
    Ok(())
}

fn show(record: FlowRecord) {
    let tuple = record.key.tuple(record.src);
    let volume = &record.features.volume;
    println!(
        "{} {} -> {} {} bytes there, {} back",
        tuple.proto, tuple.src, tuple.dst, volume.src.bytes, volume.dst.bytes
    );
}

const HTTP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/captures/http.pcap");
