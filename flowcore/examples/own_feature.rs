//! A per-flow number of one's own: how many packets of each direction were full-sized.
//!
//! `cargo run --example own_feature [capture]`

use std::time::Duration;

use flowcore::capture::{FileSource, Next, Source};
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::feature::{Feature, FeatureOptions, Values};
use flowcore::field::{Field, Scalar};
use flowcore::key::Dir;
use flowcore::packet::Packet;
use flowcore::record::{Column, EndReason, FlowRecord};
use flowcore::table::{FlowTable, TableOptions};

/// Packets of at least 1400 bytes by the IP header, of each direction.
#[derive(Clone, Copy, Default, Debug)]
struct FullSized([u64; 2]);

impl Feature for FullSized {
    type Values = FullSized;

    fn update(&mut self, packet: &Packet<'_>, dir: Dir, _: &FeatureOptions) {
        self.0[dir.index()] += u64::from(packet.ip_len >= 1400);
    }

    fn turn(&mut self) {
        self.0.swap(0, 1);
    }

    fn finish(&self) -> FullSized {
        *self
    }
}

impl Values for FullSized {
    const FIELDS: &'static [Field] = &[Field::stats("src_full_sized"), Field::stats("dst_full_sized")];

    fn value(&self, index: usize) -> Scalar<'_> {
        Scalar::number(self.0.get(index).copied())
    }
}

fn main() -> Result<(), flowcore::Error> {
    let capture = std::env::args().nth(1).unwrap_or(HTTP.to_owned());
    let mut columns = Column::parse("src_ip,src_port,dst_ip,dst_port,packets")?;
    columns.extend(Column::added::<FullSized>());
    let show = |record: FlowRecord| {
        let values =
            columns.iter().map(|column| format!("{}={:?}", column.field.name, column.value(&record)));
        println!("{}", values.collect::<Vec<_>>().join(" "));
    };

    let mut source = FileSource::open(&[capture])?;
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut table: FlowTable<FullSized> = FlowTable::new(TableOptions::default());
    while let Next::Frame(frame) = source.next(Duration::ZERO)? {
        decoder.decode(&frame, |packet| table.ingest(&packet, &show));
    }
    table.drain(EndReason::Eof, show);
    Ok(())
}

const HTTP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/captures/http.pcap");
