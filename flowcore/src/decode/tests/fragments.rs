//! Fragments: their flow, the order in which they leave, the datagram put together, and the bounds.

use super::*;

const MORE: u16 = 0x2000;

/// A fragment of a UDP datagram, in an Ethernet frame: `from..to` of the datagram's bytes.
fn fragment(id: u16, datagram: &[u8], from: usize, to: usize) -> Vec<u8> {
    let more = if to < datagram.len() { MORE } else { 0 };
    ethernet(0x0800, &ipv4_fragment(id, more | (from / 8) as u16, 17, &datagram[from..to]))
}

fn fragment6(id: u8, datagram: &[u8], from: usize, to: usize) -> Vec<u8> {
    let field = (from as u16 | u16::from(to < datagram.len())).to_be_bytes();
    let header = join(&[&[17, 0], &field, &[0, 0, 0, id]]);
    ethernet(0x86DD, &ipv6(44, &join(&[&header, &datagram[from..to]])))
}

fn datagram(port: u16) -> (Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = (0..56u8).collect();
    (udp(port, 7777, &payload), payload)
}

fn bench() -> Bench {
    Bench::new(DecodeOptions::default())
}

type Cut = fn(u16, &[u8], usize, usize) -> Vec<u8>;

#[test]
fn in_order() {
    let cuts: [Cut; 2] = [fragment, |id, bytes, from, to| fragment6(id as u8, bytes, from, to)];
    for cut in cuts {
        let (bytes, payload) = datagram(8000);
        let mut bench = bench();
        for (from, to) in [(0, 24), (24, 48), (48, 64)] {
            assert_eq!(bench.frame(1, &cut(1, &bytes, from, to)), Outcome::Packet);
        }
        let seen = &bench.seen;
        let kinds: Vec<Fragment> = seen.iter().map(|seen| seen.facts.fragment).collect();
        assert_eq!(kinds, [Fragment::First, Fragment::Later, Fragment::Later]);
        assert!(seen.iter().all(|seen| seen.ports() == Some((8000, 7777))));
        let lengths: Vec<u64> = seen.iter().map(|seen| seen.facts.payload_len).collect();
        assert_eq!(lengths, [16, 24, 16]);
        assert_eq!((&seen[0].message, &seen[1].message), (&None, &None));
        assert_eq!(seen[2].message, Some((payload, 0, true)));
        bench.balance();
    }
}

#[test]
fn held_fragments_leave_before_their_first_one_in_order_of_arrival() {
    let (bytes, payload) = datagram(8000);
    let mut bench = bench();
    assert_eq!(bench.frame(1, &fragment(1, &bytes, 48, 64)), Outcome::Held);
    assert_eq!(bench.frame(2, &fragment(1, &bytes, 24, 48)), Outcome::Held);
    let counts = bench.decoder.counts().fragments;
    assert_eq!((counts.held, counts.held_bytes), (2, 50 + 58));
    bench.balance();
    assert_eq!(bench.frame(3, &fragment(1, &bytes, 0, 24)), Outcome::Packet);
    let times: Vec<(i64, i64)> = bench
        .seen
        .iter()
        .map(|seen| (seen.facts.time.parts().0, seen.facts.table_time.time.parts().0))
        .collect();
    assert_eq!(times, [(1, 3), (2, 3), (3, 3)]);
    assert!(bench.seen.iter().all(|seen| seen.ports() == Some((8000, 7777))));
    assert_eq!(bench.seen[0].payload, &bytes[48..]);
    assert_eq!(bench.seen[2].message, Some((payload, 0, true)));
    assert_eq!(bench.decoder.counts().fragments, FragmentCounts::default());
    bench.balance();
}

#[test]
fn without_a_first_fragment_they_go_to_a_flow_without_ports() {
    let (bytes, _) = datagram(8000);
    let mut bench = bench();
    bench.frame(10, &fragment(1, &bytes, 48, 64));
    bench.frame(11, &fragment(2, &bytes, 24, 48));
    bench.frame(12, &fragment(1, &bytes, 24, 48));
    let other = ethernet(0x0800, &inner());
    bench.frame(40, &other); // exactly 30 s: still held
    assert_eq!(bench.seen.len(), 1);
    bench.frame(42, &other);
    let leaving: Vec<i64> = bench.seen[1..4].iter().map(|seen| seen.facts.time.parts().0).collect();
    assert_eq!(leaving, [10, 11, 12], "both datagrams in order of arrival");
    assert!(bench.seen[1..4].iter().all(|seen| seen.ports().is_none() && seen.message.is_none()));
    assert_eq!(bench.seen[1].facts.table_time.time.parts().0, 42);
    assert_eq!(bench.decoder.counts().fragments, FragmentCounts { expired: 3, ..Default::default() });
    bench.balance();
}

#[test]
fn a_tick_and_the_end_of_input_let_go() {
    let (bytes, _) = datagram(8000);
    let mut bench = bench();
    bench.frame(10, &fragment(1, &bytes, 48, 64));
    let tick = |bench: &mut Bench, second: i64| {
        let seen = &mut bench.seen;
        let time = Timestamp::from_nanos(second * 1_000_000_000);
        bench.decoder.tick(time, |packet| seen.push(copy(packet)));
    };
    tick(&mut bench, 39);
    assert!(bench.seen.is_empty());
    tick(&mut bench, 41);
    assert_eq!(bench.seen[0].facts.table_time.time.parts().0, 41);
    bench.frame(50, &fragment(2, &bytes, 48, 64));
    bench.finish();
    assert_eq!(bench.seen.len(), 2);
    assert_eq!(bench.decoder.counts().fragments.held, 0);
    bench.balance();
}

#[test]
fn a_time_jump_lets_go_at_the_old_table_time() {
    let (bytes, _) = datagram(8000);
    let mut bench = bench();
    bench.frame(5000, &fragment(1, &bytes, 48, 64));
    bench.frame(5001, &fragment(2, &bytes, 0, 24));
    bench.frame(100, &fragment(2, &bytes, 24, 48));
    let seen: Vec<(u64, i64)> = bench
        .seen
        .iter()
        .map(|seen| (seen.facts.table_time.epoch, seen.facts.table_time.time.parts().0))
        .collect();
    assert_eq!(seen, [(0, 5001), (0, 5001)]);
    assert_eq!(bench.decoder.counts().fragments.held, 1, "nothing is known of the time before");
    bench.balance();
}

#[test]
fn an_id_used_again_starts_anew() {
    let (first, _) = datagram(8000);
    let (second, payload) = datagram(9000);
    let mut bench = bench();
    bench.frame(1, &fragment(1, &first, 0, 32));
    bench.frame(1, &fragment(1, &first, 32, 64));
    // After the datagram is complete: the next one, last fragment first.
    assert_eq!(bench.frame(2, &fragment(1, &second, 40, 64)), Outcome::Held);
    bench.frame(2, &fragment(1, &second, 0, 40));
    assert!(bench.seen[2..].iter().all(|seen| seen.ports() == Some((9000, 7777))));
    assert_eq!(bench.seen[3].message, Some((payload, 0, true)));
    // After 30 s, though the one before is not complete.
    bench.frame(3, &fragment(5, &first, 0, 32));
    bench.frame(40, &fragment(5, &second, 32, 64));
    assert_eq!(bench.decoder.counts().fragments.held, 1);
    // Another flow's first fragment, though the one before is not complete.
    bench.frame(40, &fragment(6, &first, 0, 32));
    bench.frame(40, &fragment(6, &second, 0, 32));
    bench.frame(40, &fragment(6, &second, 32, 64));
    assert_eq!(bench.seen.last().unwrap().ports(), Some((9000, 7777)));
    bench.balance();
}

#[test]
fn a_repeated_fragment_stays_with_its_datagram() {
    let (bytes, payload) = datagram(8000);
    let mut bench = bench();
    for (from, to) in [(0, 32), (0, 32), (32, 64), (32, 64)] {
        assert_eq!(bench.frame(1, &fragment(1, &bytes, from, to)), Outcome::Packet);
    }
    assert!(bench.seen.iter().all(|seen| seen.ports() == Some((8000, 7777))));
    let messages: Vec<bool> = bench.seen.iter().map(|seen| seen.message.is_some()).collect();
    assert_eq!(messages, [false, false, true, false]);
    assert_eq!(bench.seen[2].message, Some((payload, 0, true)));
    assert_eq!(bench.decoder.counts().fragments.overlapping, 2);
}

#[test]
fn the_first_bytes_of_a_place_win() {
    let (bytes, payload) = datagram(8000);
    let mut liar = bytes.clone();
    liar[16..].fill(0xEE);
    let mut bench = bench();
    bench.frame(1, &fragment(1, &bytes, 24, 48));
    bench.frame(1, &fragment(1, &liar, 16, 40)); // 24..40 are there already
    bench.frame(1, &fragment(1, &bytes, 0, 24)); // 16..24 are there already
    bench.frame(1, &fragment(1, &bytes, 48, 64));
    let mut expected = payload;
    expected[8..16].fill(0xEE);
    assert_eq!(bench.seen[3].message, Some((expected, 0, true)));
    assert_eq!(bench.decoder.counts().fragments.overlapping, 2);
}

#[test]
fn a_transport_header_over_several_fragments() {
    let segment = tcp(0x18, &[], b"0123456789ab");
    let part = |from: usize, to: usize| {
        let more = if to < segment.len() { MORE } else { 0 };
        ethernet(0x0800, &ipv4_fragment(1, more | (from / 8) as u16, 6, &segment[from..to]))
    };
    let mut bench = bench();
    for (from, to) in [(0, 8), (8, 24), (24, 32)] {
        bench.frame(1, &part(from, to));
    }
    assert!(bench.seen.iter().all(|seen| seen.ports() == Some((1234, 80)) && seen.facts.tcp.is_none()));
    assert_eq!(bench.seen[0].facts.payload_len, 8);
    assert_eq!(bench.seen[2].message, Some((b"0123456789ab".to_vec(), 7, true)));
}

#[test]
fn a_first_fragment_without_ports_makes_a_flow_without_ports() {
    let mut bench = bench();
    bench.frame(1, &ethernet(0x0800, &ipv4_fragment(1, MORE, 17, &[0x1F, 0x40])));
    bench.frame(1, &ethernet(0x0800, &ipv4_fragment(1, 1, 17, &[0; 8])));
    assert!(bench.seen.iter().all(|seen| seen.ports().is_none()));
    assert_eq!(bench.seen[0].facts.fragment, Fragment::First);
    assert_eq!(bench.seen[0].facts.key, bench.seen[1].facts.key);
}

#[test]
fn extension_headers_behind_the_fragment_header() {
    let (transport, payload) = datagram(8000);
    let body = join(&[&[17, 0, 1, 4, 0, 0, 0, 0], &transport]);
    let part = |from: usize, to: usize| {
        let field = (from as u16 | u16::from(to < body.len())).to_be_bytes();
        ethernet(0x86DD, &ipv6(44, &join(&[&[60, 0], &field, &[0, 0, 0, 1], &body[from..to]])))
    };
    let mut bench = bench();
    bench.frame(1, &part(32, 72));
    bench.frame(1, &part(0, 32));
    assert!(bench.seen.iter().all(|seen| seen.ports() == Some((8000, 7777))));
    assert!(bench.seen.iter().all(|seen| seen.tuple().proto == Proto::UDP));
    assert_eq!(bench.seen[1].message, Some((payload, 0, true)));
    // An atomic fragment is none.
    let atomic = join(&[&[17, 0, 0, 0, 0, 0, 0, 2], &transport]);
    bench.frame(2, &ethernet(0x86DD, &ipv6(44, &atomic)));
    assert_eq!(bench.seen[2].facts.fragment, Fragment::No);
}

#[test]
fn fragments_inside_a_tunnel_and_of_a_tunnel() {
    let (bytes, payload) = datagram(8000);
    let vxlan = |id: u8, frame: &[u8]| {
        ethernet(0x0800, &ipv4(17, &udp(5, 4789, &join(&[&[8, 0, 0, 0, 0, 0, id, 0], frame]))))
    };
    let mut bench = bench();
    bench.frame(1, &vxlan(1, &fragment(1, &bytes, 0, 32)));
    // The same id in another network is another datagram.
    assert_eq!(bench.frame(1, &vxlan(2, &fragment(1, &bytes, 32, 64))), Outcome::Held);
    bench.frame(1, &vxlan(1, &fragment(1, &bytes, 32, 64)));
    assert_eq!(bench.seen[1].message, Some((payload, 0, true)));
    assert_eq!(bench.seen[1].labels.tunnels.len(), 1);

    // The outer packet in two: its later fragment belongs to the flow that its first one carries.
    let outer = ipv4(17, &udp(1000, 2000, &[7; 100]));
    bench.seen.clear();
    bench.frame(2, &ethernet(0x0800, &ipv4_fragment(9, MORE, 4, &outer[..64])));
    bench.frame(2, &ethernet(0x0800, &ipv4_fragment(9, 8, 4, &outer[64..])));
    assert!(bench.seen.iter().all(|seen| seen.ports() == Some((1000, 2000))));
    assert_eq!(bench.seen[0].message, Some((vec![7; 36], 0, false)));
    assert_eq!(bench.seen[1].message, None);
    bench.finish();
}

#[test]
fn a_fragment_inside_a_fragment_of_the_same_id_is_not_held() {
    // Its datagram is the one around it, which is known by this very packet.
    let inner = ipv4_fragment(7, 1, 4, &[0; 16]);
    let nested = ethernet(0x0800, &ipv4_fragment(7, MORE, 4, &inner));
    let other = ethernet(0x0800, &ipv4_fragment(7, MORE, 4, &ipv4(17, &udp(1000, 2000, b"hi"))));
    let inner6 = ipv6(44, &join(&[&[17, 0, 0, 8, 0, 0, 0, 7], &[0; 16]]));
    let nested6 = ethernet(0x86DD, &ipv6(44, &join(&[&[41, 0, 0, 1, 0, 0, 0, 7], &inner6])));
    let carried6 = ipv6(17, &udp(1, 2, b"hi"));
    let other6 = ethernet(0x86DD, &ipv6(44, &join(&[&[41, 0, 0, 1, 0, 0, 0, 7], &carried6])));
    for (nested, other) in [(nested, other), (nested6, other6)] {
        let mut bench = bench();
        for frame in [&nested, &other, &nested, &nested, &other] {
            assert_eq!(bench.frame(1, frame), Outcome::Packet);
            bench.balance();
        }
        assert_eq!(bench.decoder.counts().fragments.held, 0);
        bench.finish();
        assert_eq!(bench.seen.len(), 5);
    }
}

#[test]
fn a_datagram_beyond_64_kib_is_not_put_together() {
    let mut bench = bench();
    bench.frame(1, &fragment(1, &[0; 64], 0, 32));
    bench.frame(1, &ethernet(0x0800, &ipv4_fragment(1, 8191, 17, &[0; 24])));
    assert_eq!(bench.seen[1].facts.fragment, Fragment::Later);
    assert_eq!(bench.seen[1].message, None);
    bench.balance();
}

#[test]
fn number_and_memory_are_bounded() {
    let mut bench = bench();
    let big = vec![0u8; 1480];
    for id in 0..20_000u32 {
        // Half of them first fragments, half of them held; all of different datagrams.
        let (field, size) = if id % 2 == 0 { (MORE, 1480) } else { (MORE | 185, (id % 1480) as usize) };
        let mut packet = ipv4_fragment(id as u16, field, 17, &big[..size]);
        packet[12..16].copy_from_slice(&id.to_be_bytes());
        bench.frame(1, &ethernet(0x0800, &packet));
        assert!(bench.decoder.fragments.memory() <= 5 << 20);
    }
    let counts = bench.decoder.counts().fragments;
    assert!(counts.evicted > 5000 && counts.datagrams_evicted > 10_000, "{counts:?}");
    assert!(counts.held > 100 && counts.held <= 4096, "{counts:?}");
    bench.finish();
    assert_eq!(bench.decoder.fragments.memory(), 0);
    bench.balance();
}

#[test]
fn many_pieces_of_one_datagram_are_bounded() {
    let mut bench = bench();
    for round in 0..3u16 {
        for offset in 1..3000u16 {
            bench.frame(1, &ethernet(0x0800, &ipv4_fragment(1, MORE | offset, 17, &[round as u8; 8])));
        }
    }
    assert!(bench.decoder.counts().fragments.evicted >= 7000);
    bench.balance();
    bench.frame(1, &fragment(1, &[0; 64], 0, 32));
    bench.finish();
    bench.balance();
    assert_eq!(bench.seen.len(), 3 * 2999 + 1);
}
