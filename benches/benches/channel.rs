//! Packets through the router to one, two and four shards, and their records through the merge.

mod replay;

use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::{Frames, Shape};
use flowcore::record::EndReason;
use flowcore::shard::{self, Merged, WhenFull};
use flowcore::table::TableOptions;

use replay::{Packets, scale};

fn channel(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel");
    group.sample_size(10);
    for shape in [Shape::Smallpkt, Shape::Bigflow] {
        let packets = Packets::new(&Frames::new(shape, scale(0.1), 1, usize::MAX));
        let count = packets.iter().count() as u64;
        let records = through_shards(&packets, 1);
        group.throughput(Throughput::Elements(count));
        for shards in [1, 2, 4] {
            group.bench_function(format!("{}/{shards}", shape.name()), |b| {
                b.iter(|| assert_eq!(through_shards(&packets, shards), records));
            });
        }
    }
    group.finish();
}

/// Sends all packets and returns how many records came back and how many packets are in them.
fn through_shards(packets: &Packets, shards: usize) -> (u64, u64) {
    let (mut router, mut merge, threads) =
        shard::start(shards, &TableOptions::default(), WhenFull::Wait).expect("threads");
    let sums = thread::scope(|scope| {
        scope.spawn(|| {
            packets.iter().for_each(|packet| router.send(&packet));
            router.finish(EndReason::Eof);
        });
        let (mut records, mut in_records) = (0, 0);
        while let Some(merged) = merge.next(true) {
            if let Merged::Record(record) = merged {
                let volume = &record.features.volume;
                records += 1;
                in_records += volume.src.packets + volume.dst.packets;
            }
        }
        (records, in_records)
    });
    assert!(threads.into_iter().all(|thread| thread.join().is_ok()) && !merge.has_panicked());
    sums
}

criterion_group!(benches, channel);
criterion_main!(benches);
