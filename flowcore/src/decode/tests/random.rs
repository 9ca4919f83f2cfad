//! Whatever the bytes are: no panic, nothing lost; and valid packets against etherparse's own walk.

use etherparse::{LaxNetSlice, LaxSlicedPacket, PacketBuilder, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::key::AddrWords;

const LINKS: [u32; 33] = [
    0,
    1,
    6,
    8,
    9,
    10,
    11,
    12,
    14,
    50,
    51,
    100,
    101,
    104,
    105,
    107,
    108,
    109,
    113,
    117,
    123,
    127,
    129,
    138,
    166,
    192,
    204,
    228,
    229,
    239,
    276,
    147,
    u32::MAX,
];

/// Frames that lead far into the decoder once some of their bytes are changed.
fn seeds() -> Vec<Vec<u8>> {
    let frame = ethernet(0x0800, &inner());
    let ip6 = ipv6(17, &udp(1000, 2000, b"hello"));
    let in_udp = |port, bytes: &[u8]| ethernet(0x0800, &ipv4(17, &udp(9, port, bytes)));
    let (first, later) = (ipv4_fragment(1, 0x2000, 17, &inner()), ipv4_fragment(1, 1, 17, &inner()));
    vec![
        frame.clone(),
        ethernet(0x8100, &join(&[&[0, 9, 0x86, 0xDD], &ip6])),
        in_udp(4789, &join(&[&[8, 0, 0, 0, 0, 0, 7, 0], &frame])),
        in_udp(6081, &join(&[&[1, 0, 0x65, 0x58, 0, 0, 3, 0], &[0; 4], &frame])),
        in_udp(2152, &join(&[&[0x34, 255, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0x85], &[1, 0, 0, 0], &ip6])),
        in_udp(3544, &join(&[&[0, 1, 0, 0], &[0; 9], &[0, 0], &[0; 6], &ip6])),
        ethernet(
            0x0800,
            &ipv4(47, &join(&[&[0xF0, 0, 8, 0], &[0; 12], &[0, 0, 0, 4, 9, 9, 9, 9], &[0; 4], &inner()])),
        ),
        ethernet(
            0x86DD,
            &ipv6(0, &join(&[&[44, 0], &[0; 6], &[17, 0, 0, 1, 0, 0, 0, 1], &udp(1, 2, &[0; 30])])),
        ),
        ethernet(0x86DD, &ipv6(44, &join(&[&[17, 0, 0, 16, 0, 0, 0, 1], &[0; 40]]))),
        ethernet(0x0800, &first),
        ethernet(0x0800, &later),
        ethernet(0x8847, &join(&[&[0, 1, 0, 64, 0, 1, 1, 64], &[0; 4], &frame])),
        ethernet(0x0800, &ipv4(6, &tcp(2, &[2, 4, 5, 180, 3, 3, 7, 0], b"x"))),
    ]
}

fn check(frames: &[(usize, Vec<u8>, u32, u32)], options: DecodeOptions) {
    let mut bench = Bench::new(options);
    for (link, data, more, second) in frames {
        let wire_len = data.len() as u32 + more;
        bench.raw(i64::from(*second), LINKS[link % LINKS.len()], data, wire_len);
        bench.balance();
    }
    bench.finish();
    bench.balance();
    assert_eq!(bench.decoder.counts().fragments.held, 0);
    for seen in &bench.seen {
        assert!(seen.payload.len() as u64 <= seen.facts.payload_len);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(
        frames in prop::collection::vec(
            (0usize..LINKS.len(), prop::collection::vec(any::<u8>(), 0..120), 0u32..2, 0u32..1000), 1..8),
        decap: bool,
        checksums: bool,
    ) {
        check(&frames, DecodeOptions { decap, checksums, ..DecodeOptions::default() });
    }

    #[test]
    fn changed_and_cut_frames(
        frames in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
             any::<prop::sample::Index>(), any::<bool>(), 0u32..1000),
            1..12),
        decap: bool,
        checksums: bool,
    ) {
        let seeds = seeds();
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(seed, changes, end, cut, second)| {
                let mut data = seeds[seed.index(seeds.len())].clone();
                for (at, value) in changes {
                    let at = at.index(data.len());
                    data[at] = value;
                }
                let length = if cut { end.index(data.len() + 1) } else { data.len() };
                let missing = data.len() - length;
                data.truncate(length);
                (1, data, missing as u32, second)
            })
            .collect();
        check(&frames, DecodeOptions { decap, checksums, ..DecodeOptions::default() });
    }

    #[test]
    fn valid_packets_as_etherparse_slices_them(
        vlan in prop::option::of(1u16..4095),
        addresses: [u8; 32],
        is_v6: bool,
        is_tcp: bool,
        ports: (u16, u16),
        numbers: (u32, u32, u16),
        ttl: u8,
        payload in prop::collection::vec(any::<u8>(), 0..200),
        padding in 0usize..20,
    ) {
        let (src, dst) = addresses.split_at(16);
        let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let ip = |builder: etherparse::PacketBuilderStep<etherparse::IpHeaders>, out: &mut Vec<u8>| {
            if is_tcp {
                let (seq, ack, window) = numbers;
                builder.tcp(ports.0, ports.1, seq, window).ack(ack).psh().write(out, &payload).unwrap();
            } else {
                builder.udp(ports.0, ports.1).write(out, &payload).unwrap();
            }
        };
        let mut frame = Vec::new();
        let words = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).unwrap();
        let four = |bytes: &[u8]| <[u8; 4]>::try_from(&bytes[..4]).unwrap();
        match (vlan, is_v6) {
            (None, true) => ip(ethernet.ipv6(words(src), words(dst), ttl), &mut frame),
            (None, false) => ip(ethernet.ipv4(four(src), four(dst), ttl), &mut frame),
            (Some(vlan), true) => {
                ip(ethernet.single_vlan(vlan.try_into().unwrap()).ipv6(words(src), words(dst), ttl), &mut frame)
            }
            (Some(vlan), false) => {
                ip(ethernet.single_vlan(vlan.try_into().unwrap()).ipv4(four(src), four(dst), ttl), &mut frame)
            }
        }
        frame.resize(frame.len() + padding, 0);
        // Without opening, so that a random port of a tunnel makes no difference.
        let mut bench = Bench::new(DecodeOptions { decap: false, ..DecodeOptions::default() });
        prop_assert_eq!(bench.frame(0, &frame), Outcome::Packet);
        let seen = &bench.seen[0];

        let oracle = LaxSlicedPacket::from_ethernet(&frame).unwrap();
        let (src, dst, ip_len, hops) = match oracle.net.as_ref().unwrap() {
            LaxNetSlice::Ipv4(slice) => {
                let header = slice.header();
                (AddrWords::v4(header.source()), AddrWords::v4(header.destination()), u64::from(header.total_len()), header.ttl())
            }
            LaxNetSlice::Ipv6(slice) => {
                let header = slice.header();
                (AddrWords::v6(header.source()), AddrWords::v6(header.destination()), 40 + u64::from(header.payload_length()), header.hop_limit())
            }
            other => panic!("{other:?}"),
        };
        let sender = seen.facts.sender;
        prop_assert_eq!(seen.facts.key.words(sender), src);
        prop_assert_eq!(seen.facts.key.words(sender.other()), dst);
        prop_assert_eq!((seen.facts.ip_len, seen.facts.ttl), (ip_len, hops));
        match oracle.transport.as_ref().unwrap() {
            TransportSlice::Tcp(slice) => {
                prop_assert_eq!(seen.ports(), Some((slice.source_port(), slice.destination_port())));
                prop_assert_eq!(&seen.payload[..], slice.payload());
                let tcp = seen.facts.tcp.unwrap();
                let expected = (slice.sequence_number(), slice.acknowledgment_number(), slice.window_size());
                prop_assert_eq!((tcp.seq, tcp.ack, tcp.window), expected);
            }
            TransportSlice::Udp(slice) => {
                prop_assert_eq!(seen.ports(), Some((slice.source_port(), slice.destination_port())));
                prop_assert_eq!(&seen.payload[..], slice.payload());
            }
            other => panic!("{other:?}"),
        }
        let expected: Vec<u16> = oracle.vlan_ids().iter().map(|id| id.value()).collect();
        prop_assert_eq!(&seen.labels.vlans, &expected);
        prop_assert_eq!(seen.payload.len() as u64, seen.facts.payload_len);
    }
}
