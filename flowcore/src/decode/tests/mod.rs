//! Hand-made frames; the corpus and random bytes stand in `tests/decode_corpus.rs` and `random.rs`.

mod bytes;
mod fragments;
mod links;
mod random;
mod tunnels;

use super::*;
use crate::error::Reason;
use crate::key::FiveTuple;
use crate::packet::{LinkType, TcpFacts};

/// What was handed out, with everything borrowed copied.
#[derive(Clone, Debug)]
struct Seen {
    facts: Facts,
    payload: Vec<u8>,
    message: Option<(Vec<u8>, u32, bool)>,
    labels: Labels,
}

impl Seen {
    fn tuple(&self) -> FiveTuple {
        self.facts.tuple()
    }

    fn ports(&self) -> Option<(u16, u16)> {
        self.tuple().src.port.zip(self.tuple().dst.port)
    }
}

/// A decoder with what it handed out so far.
struct Bench {
    decoder: Decoder,
    seen: Vec<Seen>,
}

impl Bench {
    fn new(options: DecodeOptions) -> Self {
        Bench { decoder: Decoder::new(options), seen: Vec::new() }
    }

    fn frame(&mut self, second: i64, data: &[u8]) -> Outcome {
        self.raw(second, 1, data, data.len() as u32)
    }

    fn raw(&mut self, second: i64, link: u32, data: &[u8], wire_len: u32) -> Outcome {
        let time = Some(Timestamp::from_nanos(second * 1_000_000_000));
        let frame = Frame { data, time, wire_len, link: LinkType(link), interface: None };
        let seen = &mut self.seen;
        self.decoder.decode(&frame, |packet| seen.push(copy(packet)))
    }

    fn finish(&mut self) {
        let seen = &mut self.seen;
        self.decoder.finish(|packet| seen.push(copy(packet)));
    }

    fn stopped(&self) -> Vec<(StopReason, u64)> {
        self.decoder.counts().stopped.iter().filter(|(_, n)| *n > 0).collect()
    }

    /// Checks that nothing was lost or doubled.
    fn balance(&self) {
        let counts = self.decoder.counts();
        let out: u64 = self.seen.iter().map(|seen| u64::from(seen.facts.wire_len)).sum();
        let handed_out = self.seen.len() as u64;
        assert_eq!(counts.packets, handed_out + counts.dropped.total() + counts.fragments.held);
        assert_eq!(counts.bytes, out + counts.dropped_bytes + counts.fragments.held_bytes);
    }
}

fn copy(packet: Packet<'_>) -> Seen {
    Seen {
        facts: *packet.facts,
        payload: packet.payload.to_vec(),
        message: packet.message.map(|message| (message.bytes.to_vec(), message.seq, message.complete)),
        labels: packet.labels.clone(),
    }
}

/// Decodes one frame that must make one packet.
fn one(link: u32, data: &[u8]) -> Seen {
    let mut bench = Bench::new(DecodeOptions::default());
    assert_eq!(bench.raw(0, link, data, data.len() as u32), Outcome::Packet, "link type {link}");
    bench.balance();
    bench.seen.remove(0)
}

/// Decodes one frame that must make none.
fn dropped(link: u32, data: &[u8]) -> DropReason {
    let mut bench = Bench::new(DecodeOptions::default());
    let outcome = bench.raw(0, link, data, data.len() as u32);
    bench.balance();
    match outcome {
        Outcome::Dropped(reason) => reason,
        other => panic!("{other:?} for {data:02x?}"),
    }
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ethertype.to_be_bytes(), payload])
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16 + 8;
    join(&[&src.to_be_bytes(), &dst.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload])
}

fn tcp(flags: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let offset_and_flags = ((5 + options.len() as u16 / 4) << 12) | flags;
    let fields = [0x04, 0xD2, 0x00, 0x50, 0, 0, 0, 7, 0, 0, 0, 9];
    join(&[&fields, &offset_and_flags.to_be_bytes(), &[1, 0, 0, 0, 0, 0], options, payload])
}

/// IPv4 from 10.0.0.1 to 10.0.0.2; `fragment` is the field of flags and offset.
fn ipv4_fragment(id: u16, fragment: u16, proto: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16 + 20;
    let head = join(&[&[0x45, 0xB8], &length.to_be_bytes(), &id.to_be_bytes(), &fragment.to_be_bytes()]);
    join(&[&head, &[64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], payload])
}

fn ipv4(proto: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_fragment(1, 0, proto, payload)
}

/// IPv6 from 2001:db8::1 to 2001:db8::2.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let address = |last: u8| join(&[&[0x20, 0x01, 0x0d, 0xb8], &[0; 11], &[last]]);
    let length = (payload.len() as u16).to_be_bytes();
    join(&[&[0x6B, 0x80, 0, 0], &length, &[next, 63], &address(1), &address(2), payload])
}

/// The packet that stands inside everything in these tests.
fn inner() -> Vec<u8> {
    ipv4(17, &udp(1000, 2000, b"hello"))
}

fn is_inner(seen: &Seen) -> bool {
    seen.ports() == Some((1000, 2000)) && seen.payload == b"hello"
}

fn is_inner6(seen: &Seen) -> bool {
    is_inner(seen) && seen.tuple().src.addr.is_ipv6()
}

#[test]
fn every_fact_of_a_plain_packet() {
    let frame = ethernet(0x0800, &ipv4(6, &tcp(0x119, &[], b"data")));
    let mut bench = Bench::new(DecodeOptions::default());
    assert_eq!(bench.raw(5, 1, &frame, 100), Outcome::Packet);
    let seen = &bench.seen[0];
    assert_eq!(seen.tuple().src.addr.to_string(), "10.0.0.1");
    assert_eq!(seen.tuple().dst.addr.to_string(), "10.0.0.2");
    assert_eq!((seen.tuple().proto, seen.ports()), (Proto::TCP, Some((1234, 80))));
    let facts = &seen.facts;
    assert_eq!((facts.wire_len, facts.ip_len, facts.payload_len), (100, 44, 4));
    assert_eq!((facts.ttl, facts.dscp, facts.fragment, facts.icmp), (64, 46, Fragment::No, None));
    assert_eq!(facts.time, Timestamp::from_nanos(5_000_000_000));
    assert_eq!(facts.table_time, TableTime { epoch: 0, time: facts.time });
    let tcp = facts.tcp.unwrap();
    assert_eq!((tcp.flags.0, tcp.seq, tcp.ack, tcp.window), (0x119, 7, 9, 256));
    assert_eq!((tcp.mss, tcp.window_scale), (None, None));
    assert_eq!(seen.message, Some((b"data".to_vec(), 7, true)));
    assert!(seen.labels.is_empty());
}

#[test]
fn table_time_covers_frames_without_flow() {
    let mut bench = Bench::new(DecodeOptions::default());
    let arp = ethernet(0x0806, &[0; 28]);
    assert_eq!(bench.frame(100, &arp), Outcome::Dropped(DropReason::Arp));
    bench.frame(90, &ethernet(0x0800, &inner()));
    assert_eq!(bench.seen[0].facts.table_time.time, Timestamp::from_nanos(100_000_000_000));
    assert_eq!(bench.seen[0].facts.time, Timestamp::from_nanos(90_000_000_000));
    assert_eq!(bench.decoder.counts().clock.out_of_order, 1);
    assert_eq!(bench.decoder.now().time, Timestamp::from_nanos(100_000_000_000));
    bench.balance();
}

#[test]
fn reasons_have_different_names() {
    for names in [
        DropReason::ALL.iter().map(|reason| reason.name()).collect::<Vec<_>>(),
        StopReason::ALL.iter().map(|reason| reason.name()).collect(),
    ] {
        let unique: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
}

#[test]
fn the_interface_is_kept_and_changed() {
    let (first, second): (Arc<str>, Arc<str>) = ("eth0".into(), "eth1".into());
    let data = ethernet(0x0800, &inner());
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut seen = Vec::new();
    for interface in [Some(&first), Some(&first), Some(&second), None] {
        let frame = Frame { data: &data, time: None, wire_len: 60, link: LinkType(1), interface };
        decoder.decode(&frame, |packet| seen.push(packet.labels.interface.clone()));
    }
    assert_eq!(seen, [Some(first.clone()), Some(first), Some(second), None]);
    assert_eq!(decoder.counts().clock.without_time, 4);
}
