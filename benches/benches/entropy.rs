//! The entropy of bulk payload: bytes per second for each content, from runs of one byte to noise.

mod replay;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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

criterion_group!(benches, entropy);
criterion_main!(benches);
