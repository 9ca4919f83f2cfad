//! Frames read back by a small reader of their own and compared with the totals.

use std::collections::HashMap;
use std::net::IpAddr;

use super::*;
use crate::Count;
use crate::script::flags;
use crate::wire::{checksum, sum};

/// A frame as the wire shows it.
struct Seen<'a> {
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    proto: u8,
    /// From the transport header to the end of the IP packet.
    body: &'a [u8],
    payload: usize,
}

#[test]
fn the_totals_are_what_a_reader_finds() {
    let is_read = |shape: &Shape| *shape != Shape::Fragments;
    for shape in Shape::ALL.into_iter().chain(Shape::HOSTILE).filter(is_read) {
        let frames = Frames::new(shape, 0.01, 1, usize::MAX);
        let mut flows = HashMap::<_, u32>::new();
        let (mut packets, mut wire, mut payload, mut last) = (0, 0, 0, 0);
        for frame in frames.iter() {
            assert!(frame.ts_ns >= last, "{shape:?}: time goes back at packet {packets}");
            last = frame.ts_ns;
            packets += 1;
            wire += frame.bytes.len() as u64;
            let Some(seen) = read(frame.bytes) else { continue };
            payload += seen.payload as u64;
            let key = (seen.src.min(seen.dst), seen.src.max(seen.dst), seen.proto);
            *flows.entry(key).or_default() += 1;
        }
        let all = frames.totals().all;
        assert_eq!((all.packets, all.wire_bytes, all.payload_bytes), (packets, wire, payload), "{shape:?}");
        assert_eq!(all.flows, flows.len() as u64, "{shape:?}");
        let sum = |of: fn(&Count) -> u64| frames.totals().kinds.values().map(of).sum::<u64>();
        assert_eq!(sum(|kind| kind.packets), all.packets);
        assert_eq!(sum(|kind| kind.flows), all.flows);
    }
}

#[test]
fn sequence_numbers_go_on_and_acknowledgements_stay_behind() {
    for shape in [Shape::Smallpkt, Shape::Mix, Shape::Bigflow, Shape::Siege] {
        let frames = Frames::new(shape, 0.003, 2, usize::MAX);
        let mut next = HashMap::new();
        let (mut again, mut segments) = (0, 0);
        for seen in frames.iter().filter_map(|frame| read(frame.bytes)).filter(|seen| seen.proto == 6) {
            let word = |at: usize| u32::from_be_bytes(*seen.body[at..].first_chunk().expect("a TCP header"));
            let (seq, ack, bits) = (word(4), word(8), seen.body[13]);
            let after = seq.wrapping_add(seen.payload as u32 + flags::length(bits));
            match next.insert((seen.src, seen.dst), after) {
                Some(expected) if seq != expected => {
                    assert_eq!(after, expected, "{shape:?}: a hole");
                    again += 1;
                }
                Some(_) => {}
                None => assert!(bits & (flags::SYN | flags::RST) != 0, "{shape:?}: begins in the middle"),
            }
            if bits & flags::ACK != 0 {
                assert_eq!(next.get(&(seen.dst, seen.src)), Some(&ack), "{shape:?}");
            }
            segments += 1;
        }
        assert!(segments > 1000 && again * 20 < segments, "{shape:?}: {again} of {segments} twice");
    }
}

#[test]
fn the_shapes_have_their_sizes() {
    let all = |shape, scale| Frames::new(shape, scale, 1, usize::MAX).totals().clone();
    let small = &all(Shape::Smallpkt, 0.01);
    assert_eq!(small.all.flows, 10_000);
    near(small.all.packets, 53_300, 3);
    near(small.all.wire_bytes / small.all.packets * 100, 7_061, 2);
    for (kind, flows) in
        [("dns4", 3_179), ("dns6", 821), ("scan closed", 1_444), ("tcp4", 2_394), ("tcp6", 606)]
    {
        near(small.kinds[kind].flows, flows, 10);
    }
    let mix = all(Shape::Mix, 0.1).all;
    near(mix.packets, 200_000, 15);
    near(mix.wire_bytes, 107_000_000, 15);
    near(mix.flows, 10_000, 5);
    let big = all(Shape::Bigflow, 0.01).all;
    near(big.packets, 9_500, 5);
    near(big.wire_bytes, 9_840_000, 2);
    assert_eq!(big.flows, 8);
    for (shape, packets, payload) in [
        (Shape::Flows, 17_500, None),
        (Shape::Syns, 10_000, Some(0)),
        (Shape::Handshakes, 20_000, Some(0)),
        (Shape::Exchanges, 20_000, Some(1_200_000)),
        (Shape::Lookups, 20_000, None),
        (Shape::Keys, 10_000, Some(80_000)),
    ] {
        let found = all(shape, 0.01).all;
        assert_eq!((found.flows, found.packets), (10_000, packets), "{shape:?}");
        assert_eq!(found.payload_bytes, payload.unwrap_or(found.payload_bytes), "{shape:?}");
    }
}

#[test]
fn small_packets_are_small_and_others_fit_their_link() {
    let range = |shape| {
        let frames = Frames::new(shape, 0.005, 1, usize::MAX);
        let lengths = || frames.iter().map(|frame| frame.bytes.len());
        (lengths().min(), lengths().max())
    };
    assert_eq!(range(Shape::Smallpkt), (Some(60), Some(100)));
    assert_eq!(range(Shape::Bigflow), (Some(66), Some(1514)));
    assert_eq!(range(Shape::Mix), (Some(60), Some(1518)));
}

#[test]
fn a_seed_determines_every_byte() {
    for shape in Shape::ALL.into_iter().chain(Shape::HOSTILE) {
        assert_eq!(digest(shape, 1), digest(shape, 1), "{shape:?}");
        let has_chance = !matches!(shape, Shape::Fragments | Shape::Bulks);
        assert_eq!(digest(shape, 1) != digest(shape, 2), has_chance, "{shape:?}");
    }
    let found = Shape::ALL.map(|shape| digest(shape, 1));
    assert_eq!(found, DIGESTS, "the traffic changed: results before and after are not comparable");
}

#[test]
fn frames_can_be_cut_short() {
    let frames = Frames::new(Shape::Mix, 1.0, 1, 100);
    assert_eq!(frames.iter().count(), 100);
    assert_eq!(frames.totals().all.packets, 100);
}

/// Reads a frame and checks its checksums; none for ARP.
fn read(frame: &[u8]) -> Option<Seen<'_>> {
    let at = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    let ip = &frame[at..];
    let number = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    let (src, dst, proto, body): (IpAddr, IpAddr, u8, &[u8]) = match number(&frame[at - 2..]) {
        0x0806 => return None,
        0x0800 => {
            assert_eq!(checksum(sum(&ip[..20])), [0, 0]);
            let address = |at: usize| IpAddr::from(*ip[at..].first_chunk::<4>().expect("an address"));
            (address(12), address(16), ip[9], &ip[20..usize::from(number(&ip[2..]))])
        }
        0x86DD => {
            let address = |at: usize| IpAddr::from(*ip[at..].first_chunk::<16>().expect("an address"));
            (address(8), address(24), ip[6], &ip[40..40 + usize::from(number(&ip[4..]))])
        }
        other => panic!("ethertype {other:#x}"),
    };
    let addresses = if src.is_ipv6() { &ip[8..40] } else { &ip[12..20] };
    let pseudo = sum(addresses) + sum(&(body.len() as u32).to_be_bytes()) + sum(&[0, proto]);
    let (header, pseudo) = match proto {
        6 => (usize::from(body[12] >> 4) * 4, pseudo),
        17 => {
            assert_eq!(usize::from(number(&body[4..])), body.len());
            (8, pseudo)
        }
        58 => (8, pseudo),
        1 => (8, 0),
        50 => {
            return Some(Seen { src: (src, 0), dst: (dst, 0), proto, body, payload: body.len() });
        }
        other => panic!("protocol {other}"),
    };
    assert_eq!(checksum(pseudo + sum(body)), [0, 0], "checksum of protocol {proto}");
    let port = |at: usize| if matches!(proto, 6 | 17) { number(&body[at..]) } else { 0 };
    Some(Seen { src: (src, port(0)), dst: (dst, port(2)), proto, body, payload: body.len() - header })
}

/// FNV-1a over the first frames and their times.
fn digest(shape: Shape, seed: u64) -> u64 {
    Frames::new(shape, 0.01, seed, 2_000).iter().fold(0xCBF2_9CE4_8422_2325, |state, frame| {
        let bytes = frame.ts_ns.to_le_bytes().into_iter().chain(frame.bytes.iter().copied());
        bytes.fold(state, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    })
}

#[test]
fn fragments_never_make_a_datagram() {
    let frames = Frames::new(Shape::Fragments, 0.01, 1, usize::MAX);
    let mut firsts = 0;
    for frame in frames.iter() {
        let ip = &frame.bytes[14..];
        assert_eq!(checksum(sum(&ip[..20])), [0, 0]);
        let place = u16::from_be_bytes([ip[6], ip[7]]);
        let (offset, more) = ((place & 0x1FFF) * 8, place & 0x2000 != 0);
        assert!(offset > 0 || more, "a whole datagram");
        firsts += u32::from(offset == 0);
    }
    assert_eq!((frames.iter().count(), firsts), (10_000, 2_500));
}

fn near(found: u64, expected: u64, per_cent: u64) {
    let slack = expected * per_cent / 100;
    assert!(found.abs_diff(expected) <= slack, "{found}, expected about {expected}");
}

const DIGESTS: [u64; 8] = [
    7276146779856622402,
    9044335876580594982,
    3515533090134242729,
    9545104959902351146,
    1974351638381348745,
    17871958553437270418,
    8362403383772949583,
    14077275629966323846,
];
