//! Packets to records: the flow table alone, with few flows, with many, and as it fills up.
//!
//! The time holds that of reading the decoded packets from memory, some 200 bytes each.

mod replay;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::{Frames, Shape};
use flowcore::record::{EndReason, FlowRecord};
use flowcore::table::{FlowTable, TableOptions};

use replay::{Packets, scale};

fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.sample_size(10);
    for (shape, full) in
        [(Shape::Smallpkt, 0.2), (Shape::Mix, 0.2), (Shape::Bigflow, 0.1), (Shape::Flows, 1.0)]
    {
        let packets = Packets::new(&Frames::new(shape, scale(full), 1, usize::MAX));
        let count = packets.iter().count() as u64;
        group.throughput(Throughput::Elements(count));
        let ingest = |mut table: FlowTable| {
            let (mut records, mut in_records) = (0, 0);
            let mut count_record = |packets| {
                records += 1;
                in_records += packets;
            };
            for packet in packets.iter() {
                table.ingest(&packet, |record| count_record(packets_of(&record)));
            }
            let open = table.open_volume().0;
            assert_eq!(open + in_records, count, "{shape:?}");
            (table, records)
        };
        group.bench_function(shape.name(), |b| {
            b.iter_batched(|| FlowTable::new(TableOptions::default()), ingest, BatchSize::PerIteration);
        });
        let (mut table, before) = ingest(FlowTable::new(TableOptions::default()));
        let (open, mut drained) = (table.len(), 0);
        table.drain(EndReason::Eof, |_: FlowRecord| drained += 1);
        assert_eq!((drained, table.counts().opened), (open, (open + before) as u64), "{shape:?}");
    }
    group.finish();
}

/// One thing at a time: flows that open, flows that are found, flows that end, with ever more of them alive at once.
fn parts(c: &mut Criterion) {
    let options = || TableOptions { max_flows: usize::MAX, max_memory: u64::MAX, ..TableOptions::default() };
    for full in [10_000, 100_000, 1_000_000, 4_000_000] {
        let packets = Packets::new(&Frames::new(Shape::Syns, scale(f64::from(full) / 1e6), 1, usize::MAX));
        let (flows, name) = (packets.len(), full.to_string());
        let ingest = |mut table: FlowTable| {
            packets.ingest(&mut table, |_| panic!("a record too early"));
            assert_eq!(table.len(), flows);
            table
        };
        let mut group = c.benchmark_group("table");
        group.sample_size(10).throughput(Throughput::Elements(flows as u64));
        group.bench_function(format!("insert/{name}"), |b| {
            b.iter_batched(|| packets.table(options()), ingest, BatchSize::PerIteration);
        });
        group.bench_function(format!("find/{name}"), |b| {
            let mut table = Some(ingest(packets.table(options())));
            b.iter(|| table = table.take().map(ingest));
        });
        group.bench_function(format!("expire/{name}"), |b| {
            let expire = |mut table: FlowTable| {
                let (mut ended, mut now) = (0, table.settled());
                now.time = now.time.saturating_add_nanos(3_600_000_000_000);
                while ended < flows {
                    now.time = now.time.saturating_add_nanos(1_000_000);
                    table.expire(now, |_: FlowRecord| ended += 1);
                }
                assert!(table.is_empty());
                table
            };
            b.iter_batched(|| ingest(packets.table(options())), expire, BatchSize::PerIteration);
        });
        group.finish();
    }
}

fn packets_of(record: &flowcore::record::FlowRecord) -> u64 {
    let volume = &record.features.volume;
    volume.src.packets + volume.dst.packets
}

criterion_group!(benches, table, parts);
criterion_main!(benches);
