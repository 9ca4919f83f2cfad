//! The entropy of payload: bytes per second for each content, from runs of one byte to noise, and for each size of
//! packets; and what the value at the end of a flow costs.

mod replay;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::rng::Rng;
use flowcap_benches::{Frames, Shape};
use flowcore::feature::{Entropy, Feature, FeatureOptions};
use flowcore::key::Dir;
use flowcore::packet::Packet;

use replay::{Packets, scale};

fn entropy(c: &mut Criterion) {
    let mut group = c.benchmark_group("entropy");
    let packets = Packets::new(&Frames::new(Shape::Bigflow, scale(0.02), 1, usize::MAX));
    let options = FeatureOptions::default();
    for (nth, flow) in packets.flows().iter().enumerate() {
        let (name, expected) = CONTENTS[nth];
        let segments: Vec<&Packet<'_>> = flow.iter().filter(|packet| !packet.payload.is_empty()).collect();
        let bytes = segments.iter().map(|packet| packet.payload.len() as u64).sum();
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut entropy = Entropy::default();
                segments.iter().for_each(|packet| entropy.update(packet, Dir::Fwd, &options));
                let found = entropy.finish();
                assert_eq!(found.bytes, bytes, "{name}");
                assert!(found.src.is_some_and(|found| (found - expected).abs() < 0.2), "{name}: {found:?}");
            });
        });
    }
    group.finish();
}

fn sizes(c: &mut Criterion) {
    let mut noise = vec![0; 1 << 20];
    Rng::new(1).fill(&mut noise);
    let packets = Packets::new(&Frames::new(Shape::Exchanges, scale(0.0001), 1, 1));
    let any = packets.iter().next().expect("a packet");
    let options = FeatureOptions::default();
    let mut group = c.benchmark_group("entropy/size");
    for size in [40, 192, 500, 1460, 9000] {
        let payloads = || noise.chunks_exact(size).map(|payload| Packet { payload, ..any });
        let bytes = payloads().map(|packet| packet.payload.len() as u64).sum();
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(size.to_string(), |b| {
            b.iter(|| {
                let mut entropy = Entropy::default();
                payloads().for_each(|packet| entropy.update(&packet, Dir::Fwd, &options));
                let found = entropy.finish();
                assert_eq!(found.bytes, bytes);
                assert!(found.both.is_some_and(|found| found > 7.999), "{found:?}");
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("entropy/finish");
    for (bytes, expected) in [(120, 6.5), (1 << 20, 8.0)] {
        let mut entropy = Entropy::default();
        entropy.update(&Packet { payload: &noise[..bytes], ..any }, Dir::Fwd, &options);
        group.bench_function(bytes.to_string(), |b| {
            b.iter(|| {
                let found = std::hint::black_box(&entropy).finish().both;
                assert!(found.is_some_and(|found| (found - expected).abs() < 0.5), "{found:?}");
            });
        });
    }
    group.finish();
}

/// The eight flows in the order in which they begin, and the entropy of each.
const CONTENTS: [(&str, f64); 8] = [
    ("zeros", 0.0),
    ("two symbols", 0.47),
    ("digits", 3.32),
    ("text", 5.2),
    ("base64", 6.0),
    ("records", 5.5),
    ("random", 8.0),
    ("random and zeros", 5.0),
];

criterion_group!(benches, entropy, sizes);
criterion_main!(benches);
