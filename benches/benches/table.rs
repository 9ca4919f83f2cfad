//! Packets to records: the flow table alone, with few flows, with many, and as it fills up.
//!
//! The time holds that of reading the decoded packets from memory, some 200 bytes each.

mod replay;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::{Frames, Shape};
use flowcore::record::EndReason;
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
        table.drain(EndReason::Eof, |_| drained += 1);
        assert_eq!((drained, table.counts().opened), (open, (open + before) as u64), "{shape:?}");
    }
    group.finish();
}

fn packets_of(record: &flowcore::record::FlowRecord) -> u64 {
    let volume = &record.features.volume;
    volume.src.packets + volume.dst.packets
}

criterion_group!(benches, table);
criterion_main!(benches);
