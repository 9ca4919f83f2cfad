//! Records to JSON lines, into nothing: the default fields and all of them.

mod replay;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::{Frames, Shape};
use flowcore::record::{Column, EndReason, FlowRecord, Record};
use flowcore::sink::{self, Existing, Format};
use flowcore::table::{FlowTable, TableOptions};

use replay::{Packets, scale};

fn json(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    for (shape, full) in [(Shape::Smallpkt, 0.02), (Shape::Mix, 0.05)] {
        let records = records(&Packets::new(&Frames::new(shape, scale(full), 1, usize::MAX)));
        assert!(!records.is_empty());
        group.throughput(Throughput::Elements(records.len() as u64));
        for list in ["@core", "@all"] {
            let columns = Column::parse(list).expect("a ready-made list");
            assert_eq!(lines(&records, &columns), records.len());
            group.bench_function(format!("{}/{list}", shape.name()), |b| {
                b.iter(|| write(&records, &columns, "/dev/null"));
            });
        }
    }
    group.finish();
}

fn records(packets: &Packets) -> Vec<FlowRecord> {
    let mut table: FlowTable = FlowTable::new(TableOptions::default());
    let mut records = Vec::new();
    for packet in packets.iter() {
        table.ingest(&packet, |record| records.push(record));
    }
    table.drain(EndReason::Eof, |record| records.push(record));
    records
}

fn write(records: &[FlowRecord], columns: &[Column], destination: &str) {
    let mut sink = sink::open(destination, Format::Jsonl, Some(columns), &Existing::Overwrite.into())
        .expect("an output");
    for record in records {
        sink.write(Record::Flow(record)).expect("room");
    }
    sink.finish().expect("room");
}

/// Writes the records to a file and counts the lines that are JSON objects by their first and last byte.
fn lines(records: &[FlowRecord], columns: &[Column]) -> usize {
    let file = std::env::temp_dir().join(format!("flowcap-bench-{}.jsonl", std::process::id()));
    write(records, columns, &file.display().to_string());
    let text = std::fs::read_to_string(&file).expect("the output");
    std::fs::remove_file(&file).expect("the output");
    text.lines().filter(|line| line.starts_with("{\"type\":\"flow\"") && line.ends_with('}')).count()
}

criterion_group!(benches, json);
criterion_main!(benches);
