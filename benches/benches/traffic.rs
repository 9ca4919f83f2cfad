//! The traffic maker: frames per second of each shape, and the checksum it spends its time on.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::{Frames, Shape, Traffic, wire};

fn make(c: &mut Criterion) {
    let mut group = c.benchmark_group("traffic");
    for shape in Shape::ALL {
        let expected = Frames::new(shape, SCALE, 1, usize::MAX).totals().all;
        group.throughput(Throughput::Elements(expected.packets));
        group.bench_function(shape.name(), |b| {
            b.iter(|| {
                let mut traffic = Traffic::new(shape, SCALE, 1);
                let mut wire_bytes = 0;
                while let Some(frame) = traffic.next() {
                    wire_bytes += frame.bytes.len() as u64;
                }
                assert_eq!(wire_bytes, expected.wire_bytes);
            });
        });
    }
    group.finish();
}

fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    let bytes = [0xFF; 1460];
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("1460", |b| {
        b.iter(|| assert_eq!(wire::checksum(wire::sum(std::hint::black_box(&bytes))), [0, 0]))
    });
    group.finish();
}

const SCALE: f64 = 0.005;

criterion_group!(benches, make, checksum);
criterion_main!(benches);
