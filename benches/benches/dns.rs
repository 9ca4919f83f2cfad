//! DNS exchanges: a query and its response read, and the transaction that comes of them.

mod replay;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcap_benches::{Frames, Shape};
use flowcore::key::Dir;
use flowcore::l7::{App, Conversation, L7Counts};

use replay::{Packets, scale};

fn dns(c: &mut Criterion) {
    let packets = Packets::new(&Frames::new(Shape::Smallpkt, scale(0.02), 1, usize::MAX));
    let is_dns = |key: &flowcore::key::FlowKey| {
        [flowcore::key::End::Low, flowcore::key::End::High].iter().any(|end| key.port_or_zero(*end) == 53)
    };
    let exchanges: Vec<_> = packets.flows().into_iter().filter(|flow| is_dns(&flow[0].key)).collect();
    assert!(exchanges.iter().all(|flow| flow.len() == 2) && !exchanges.is_empty());
    let mut group = c.benchmark_group("dns");
    group.throughput(Throughput::Elements(exchanges.len() as u64));
    group.bench_function("exchange", |b| {
        b.iter(|| {
            let (mut counts, mut transactions) = (L7Counts::default(), 0);
            for exchange in &exchanges {
                let mut conversation = Conversation::default();
                for (packet, dir) in exchange.iter().zip([Dir::Fwd, Dir::Rev]) {
                    conversation.read(packet, dir, &mut counts);
                }
                assert_eq!(conversation.app(), Some(App::Dns));
                transactions += conversation.finish(true).dns.len();
            }
            assert_eq!(transactions, exchanges.len());
            assert_eq!(counts.dns_whole, 2 * exchanges.len() as u64);
        });
    });
    group.finish();
}

criterion_group!(benches, dns);
criterion_main!(benches);
