//! Frames to packets: nanoseconds per packet of each shape.

mod replay;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::{Frames, Shape};
use flowcore::decode::{DecodeOptions, Decoder};

use replay::{Packets, captured, scale};

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for shape in Shape::ALL {
        let frames = Frames::new(shape, scale(0.1), 1, 20_000);
        let sent = frames.totals();
        let arp = sent.kinds.get("arp").map_or(0, |kind| kind.packets);
        assert_eq!(Packets::new(&frames).iter().count() as u64, sent.all.packets - arp);
        group.throughput(Throughput::Elements(sent.all.packets));
        group.bench_function(shape.name(), |b| {
            let mut decoder = Decoder::new(DecodeOptions::default());
            b.iter(|| {
                let mut payload = 0;
                for frame in frames.iter() {
                    decoder.decode(&captured(frame), |packet| payload += packet.payload.len() as u64);
                }
                assert_eq!(payload, sent.all.payload_bytes);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
