//! Making a flow key and hashing it: what every packet pays before its flow is found.

use std::collections::HashSet;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowcore::key::{AddrWords, End, FlowKey, Proto, TunnelKey, VlanStack};

type Tuple = (u8, AddrWords, AddrWords, (u16, u16));

fn key_hash(c: &mut Criterion) {
    let tuples: Vec<Tuple> = (0..COUNT).map(tuple).collect();
    let key = |(version, src, dst, ports): Tuple| {
        FlowKey::new(version, src, dst, Proto::TCP, Some(ports), VlanStack::default(), TunnelKey::default())
    };
    let flip = |(version, src, dst, (sport, dport)): Tuple| (version, dst, src, (dport, sport));
    let hashes: HashSet<u64> = tuples.iter().map(|tuple| key(*tuple).0.stable_hash(0)).collect();
    assert_eq!(hashes.len(), tuples.len(), "two of few keys with the same hash");
    for tuple in &tuples {
        let (there, back) = (key(*tuple), key(flip(*tuple)));
        assert_eq!((there.0, there.1), (back.0, back.1.other()));
    }

    let from_low = tuples.iter().filter(|tuple| key(**tuple).1 == End::Low).count();
    let digest = tuples.iter().fold(0, |sum: u64, tuple| sum.wrapping_add(key(*tuple).0.stable_hash(0)));
    let keys: Vec<FlowKey> = tuples.iter().map(|tuple| key(*tuple).0).collect();
    let mut group = c.benchmark_group("key_hash");
    group.throughput(Throughput::Elements(tuples.len() as u64));
    group.bench_function("new", |b| {
        b.iter(|| {
            let low = black_box(&tuples).iter().filter(|tuple| black_box(key(**tuple)).1 == End::Low).count();
            assert_eq!(low, from_low);
        });
    });
    group.bench_function("stable_hash", |b| {
        b.iter(|| {
            let sum = black_box(&keys).iter().fold(0, |sum: u64, key| sum.wrapping_add(key.stable_hash(0)));
            assert_eq!(sum, digest);
        });
    });
    group.finish();
}

/// Makes a tuple that no other number has, every fifth one of IPv6.
fn tuple(number: u32) -> Tuple {
    let ports = (1024 + (number % 60_000) as u16, 443);
    if number.is_multiple_of(5) {
        let end = |net: u64, host: u32| AddrWords(0x2001_0DB8_0000_0000 | net, u64::from(host) << 7 | 1);
        (6, end(0xBEEF, number), end(0xA, number / 3), ports)
    } else {
        let end =
            |net: u8, host: u32| AddrWords::v4([net, (host >> 16) as u8, (host >> 8) as u8, host as u8]);
        (
            4,
            end(198, number.wrapping_mul(0x9E37_79B9)),
            end(if number.is_multiple_of(2) { 10 } else { 203 }, number),
            ports,
        )
    }
}

/// Few enough to stay in a first-level cache: the hash is measured, not memory.
const COUNT: u32 = 256;

criterion_group!(benches, key_hash);
criterion_main!(benches);
