//! The whole way: a capture in memory, decoded, in tables of one and two shards, as JSON lines into nothing.

mod replay;

use std::io::Cursor;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::pcap::Pcap;
use flowcap_benches::{Shape, Totals, Traffic};
use flowcore::capture::FileSource;
use flowcore::sink::{self, Existing, Format};
use flowcore::{Meter, Stop};

use replay::scale;

fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.sample_size(10);
    for (shape, full) in [(Shape::Smallpkt, 0.1), (Shape::Mix, 0.1), (Shape::Bigflow, 0.1)] {
        let (capture, sent) = capture(shape, scale(full));
        group.throughput(Throughput::Elements(sent.all.packets));
        for shards in [1, 2] {
            group.bench_function(format!("{}/{shards}", shape.name()), |b| {
                b.iter(|| run(&capture, shards, &sent))
            });
        }
    }
    group.finish();
}

fn capture(shape: Shape, scale: f64) -> (Arc<[u8]>, Totals) {
    let mut traffic = Traffic::new(shape, scale, 1);
    let mut pcap = Pcap::new(Vec::new());
    while let Some(frame) = traffic.next() {
        pcap.write(&frame).expect("memory");
    }
    (pcap.finish().expect("memory").into(), traffic.totals().clone())
}

fn run(capture: &Arc<[u8]>, shards: usize, sent: &Totals) {
    let source = FileSource::from_reader("memory", Cursor::new(Arc::clone(capture)));
    let sink = sink::open("/dev/null", Format::Jsonl, None, &Existing::Overwrite.into()).expect("an output");
    let meter = Meter::builder().shards(shards).sink("null", sink).build().expect("a meter");
    let summary = meter.run(Box::new(source), &Stop::new());
    assert!(summary.failure.is_none() && summary.damage.is_empty(), "{summary:?}");
    assert_eq!(summary.false_identities, [""; 0]);
    assert_eq!(summary.stats.packets, sent.all.packets);
    assert!(summary.stats.flows_opened >= sent.all.flows);
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
