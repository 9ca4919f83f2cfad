//! One packet per tunnel; what is in the key, what is only a label, and where opening ends.

use super::*;
use crate::packet::TunnelKind;

fn in_udp(dst: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(17, &udp(40000, dst, payload)))
}

fn in_ip(proto: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(proto, payload))
}

fn vxlan(id: u8, frame: &[u8]) -> Vec<u8> {
    in_udp(4789, &join(&[&[8, 0, 0, 0, 0, 0, id, 0], frame]))
}

fn gre(flags: u16, ethertype: u16, rest: &[&[u8]]) -> Vec<u8> {
    in_ip(47, &join(&[&flags.to_be_bytes(), &ethertype.to_be_bytes(), &rest.concat()]))
}

#[test]
fn each_tunnel_is_opened_and_labelled() {
    let ip = inner();
    let ip6 = ipv6(17, &udp(1000, 2000, b"hello"));
    let frame = ethernet(0x0800, &ip);
    let ppp = join(&[&[0xFF, 3, 0, 0x21], &ip]);
    use TunnelKind as Kind;
    let cases: Vec<(TunnelKind, Option<u32>, Vec<u8>)> = vec![
        (Kind::IpInIpv4, None, in_ip(4, &ip)),
        (Kind::IpInIpv4, None, in_ip(41, &ip6)),
        (Kind::IpInIpv6, None, ethernet(0x86DD, &ipv6(4, &ip))),
        (Kind::IpInIpv6, None, ethernet(0x86DD, &ipv6(41, &ip6))),
        (Kind::Gre, None, gre(0, 0x0800, &[&ip])),
        (Kind::Gre, Some(77), gre(0xB000, 0x86DD, &[&[0; 4], &[0, 0, 0, 77], &[0; 4], &ip6])),
        (Kind::Gre, None, gre(0x4000, 0x0800, &[&[0; 4], &[0, 0, 0, 4, 9, 9, 9, 9], &[0; 4], &ip])),
        (Kind::Gre, None, gre(0, 0x6558, &[&frame])),
        (Kind::Gre, None, gre(0, 0x883E, &[&[1, 2, 3, 4], &ip])),
        (Kind::Gre, None, gre(0, 0x883E, &[&ip])),
        (Kind::Gre, None, gre(0, 0x8909, &[&[0x08, 0, 0, 0, 0, 0, 0, 0], &ip])),
        (Kind::Erspan, None, gre(0, 0x88BE, &[&frame])),
        (Kind::Erspan, Some(5), gre(0x1000, 0x88BE, &[&[0; 4], &[0x10, 1, 0x04, 5, 0, 0, 0, 0], &frame])),
        (
            Kind::Erspan,
            Some(6),
            gre(0x1000, 0x22EB, &[&[0; 4], &[0x20, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1], &[0; 8], &frame]),
        ),
        (
            Kind::Pptp,
            Some(9),
            in_ip(47, &join(&[&[0x30, 0x81, 0x88, 0x0B, 0, 37, 0, 9], &[0; 8], &ppp, b"padding"])),
        ),
        (Kind::Vxlan, Some(7), vxlan(7, &frame)),
        (Kind::Vxlan, Some(7), in_udp(8472, &join(&[&[8, 0, 0, 0, 0, 0, 7, 0], &frame]))),
        (Kind::VxlanGpe, Some(1), in_udp(4790, &join(&[&[12, 0, 0, 1, 0, 0, 1, 0], &ip]))),
        (Kind::VxlanGpe, Some(1), in_udp(4790, &join(&[&[12, 0, 0, 2, 0, 0, 1, 0], &ip6]))),
        (Kind::VxlanGpe, Some(1), in_udp(4790, &join(&[&[12, 0, 0, 3, 0, 0, 1, 0], &frame]))),
        (Kind::Geneve, Some(3), in_udp(6081, &join(&[&[1, 0, 0x65, 0x58, 0, 0, 3, 0], &[0; 4], &frame]))),
        (Kind::Gtp, Some(11), in_udp(2152, &join(&[&[0x30, 255, 0, 33, 0, 0, 0, 11], &ip]))),
        (
            Kind::Gtp,
            Some(11),
            in_udp(2152, &join(&[&[0x34, 255, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0x85], &[1, 0, 0, 0], &ip6])),
        ),
        (Kind::Teredo, None, in_udp(3544, &ip6)),
        (Kind::Teredo, None, in_udp(3544, &join(&[&[0, 1, 0, 0], &[0; 9], &[0, 0], &[0; 6], &ip6]))),
        (Kind::L2tp, Some(2), in_udp(1701, &join(&[&[0, 2, 0, 1, 0, 2], &ppp]))),
        (
            Kind::L2tp,
            Some(2),
            in_udp(1701, &join(&[&[0x4A, 2, 0, 60, 0, 1, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0], &ppp])),
        ),
        (Kind::EtherIp, None, in_ip(97, &join(&[&[0x30, 0], &frame]))),
        (Kind::MplsInIp, None, in_ip(137, &join(&[&[0, 1, 1, 64], &ip]))),
        (Kind::MplsInIp, None, in_udp(6635, &join(&[&[0, 1, 1, 64], &ip]))),
        (Kind::Gre, None, in_udp(4754, &join(&[&[0, 0, 8, 0], &ip]))),
    ];
    for (number, (kind, id, frame)) in cases.into_iter().enumerate() {
        let seen = one(1, &frame);
        assert!(is_inner(&seen), "case {number}, {kind:?}: {seen:?}");
        let tunnel = &seen.labels.tunnels[0];
        assert_eq!((tunnel.kind, tunnel.id), (kind, id), "case {number}");
        let outer = tunnel.src_ip.unwrap().to_string();
        assert!(outer == "10.0.0.1" || outer == "2001:db8::1", "case {number}: {outer}");

        // Not opened, the flow is that of the outermost header and nothing is labelled.
        let mut bench = Bench::new(DecodeOptions { decap: false, ..DecodeOptions::default() });
        assert_eq!(bench.frame(0, &frame), Outcome::Packet);
        assert!(!is_inner(&bench.seen[0]) && bench.seen[0].labels.is_empty() && bench.stopped().is_empty());
    }
}

#[test]
fn ah_is_skipped_without_being_a_tunnel() {
    let transport = udp(1000, 2000, b"hello");
    let ah = |next: u8| join(&[&[next, 1, 0, 0], &[0; 8], &transport]);
    for frame in [in_ip(51, &ah(17)), ethernet(0x86DD, &ipv6(51, &ah(17)))] {
        let seen = one(1, &frame);
        assert!(is_inner(&seen) && seen.labels.is_empty());
        assert_eq!(seen.tuple().proto, Proto::UDP);
    }
    let mut bench = Bench::new(DecodeOptions::default());
    bench.frame(0, &in_ip(51, &[17, 9, 0, 0, 0, 0, 0, 0]));
    assert_eq!(bench.stopped(), [(StopReason::ExtensionCut, 1)]);
    assert_eq!((bench.seen[0].tuple().proto, bench.seen[0].facts.payload_len), (Proto(51), 0));
}

#[test]
fn ids_that_both_directions_share_are_in_the_key() {
    let frame = ethernet(0x0800, &inner());
    let bare = one(1, &frame).facts.key;
    let key = |frame: &[u8]| one(1, frame).facts.key;
    let gtp = |id: u8| in_udp(2152, &join(&[&[0x30, 255, 0, 33, 0, 0, 0, id], &inner()]));
    assert_ne!(key(&vxlan(1, &frame)), key(&vxlan(2, &frame)));
    assert_ne!(key(&vxlan(1, &frame)), bare);
    assert_eq!(key(&gtp(1)), key(&gtp(2)));
    assert_eq!(key(&gtp(1)), bare);
    // GENEVE and VXLAN with the same id are different networks.
    let geneve = in_udp(6081, &join(&[&[0, 0, 0x65, 0x58, 0, 0, 1, 0], &frame]));
    assert_ne!(key(&geneve), key(&vxlan(1, &frame)));
    // The innermost id counts, and a tunnel without one inside leaves it.
    let nested = vxlan(1, &in_ip(4, &inner()));
    assert_eq!(key(&nested), key(&vxlan(1, &frame)));
    assert_eq!(one(1, &nested).labels.tunnels.len(), 2);
    // VLAN tags of all layers count.
    let tagged = ethernet(0x8100, &join(&[&[0, 9, 8, 0], &inner()]));
    let seen = one(1, &vxlan(1, &tagged));
    assert_eq!(seen.labels.vlans, [9]);
    assert_ne!(seen.facts.key, key(&vxlan(1, &frame)));
}

#[test]
fn what_cannot_be_opened_leaves_the_outer_flow() {
    use StopReason as Why;
    let frame = ethernet(0x0800, &inner());
    let tagged_arp = ethernet(0x8100, &join(&[&[0, 9, 0x08, 0x06], &[0; 28]]));
    let cases = [
        (vxlan(7, &tagged_arp), Some(Why::TunnelPayload)),
        (vxlan(7, &frame[..20]), Some(Why::InnerIp)),
        (vxlan(7, &frame[..13]), None), // too short to be VXLAN
        (in_udp(4789, b"a text that is no VXLAN, but long enough"), None),
        (gre(0, 0, &[]), Some(Why::TunnelPayload)),
        (gre(5, 0x0800, &[&inner()]), Some(Why::TunnelHeader)),
        (in_ip(47, &[0, 0]), Some(Why::TunnelHeader)),
        (in_ip(97, &[0x30]), Some(Why::TunnelHeader)),
        (in_ip(115, &[0; 20]), Some(Why::TunnelPayload)),
        (in_ip(4, &[0x65; 30]), Some(Why::InnerIp)),
        (in_udp(2152, &[0x34, 255, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0x85, 0]), Some(Why::TunnelHeader)),
        (in_udp(2152, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]), None),
        (in_udp(1701, &[0xC8, 2, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0]), None),
        (in_udp(3544, &[0x60; 39]), None),
    ];
    for (number, (frame, reason)) in cases.into_iter().enumerate() {
        let mut bench = Bench::new(DecodeOptions::default());
        assert_eq!(bench.frame(0, &frame), Outcome::Packet, "case {number}");
        let seen = &bench.seen[0];
        assert_eq!(
            bench.stopped(),
            reason.map(|reason| (reason, 1)).into_iter().collect::<Vec<_>>(),
            "case {number}"
        );
        assert!(!is_inner(seen), "case {number}");
        assert!(seen.labels.is_empty(), "case {number}: {:?}", seen.labels);
        assert_eq!(seen.facts.key.vlans(), Default::default(), "case {number}");
    }
}

#[test]
fn an_icmp_error_never_opens_what_it_quotes() {
    let seen = one(1, &in_ip(1, &join(&[&[3, 3, 0, 0, 0, 0, 0, 0], &inner()])));
    assert_eq!((seen.tuple().proto, seen.ports(), seen.facts.icmp), (Proto::ICMP, None, Some((3, 3))));
    assert_eq!(seen.facts.payload_len, 33);
}

#[test]
fn nesting_ends_at_eight_ip_headers() {
    let nest = |times: usize| {
        let mut packet = inner();
        for _ in 1..times {
            packet = ipv4(4, &packet);
        }
        ethernet(0x0800, &packet)
    };
    assert!(is_inner(&one(1, &nest(8))));
    let mut bench = Bench::new(DecodeOptions::default());
    bench.frame(0, &nest(9));
    assert_eq!(bench.stopped(), [(StopReason::TooDeep, 1)]);
    assert_eq!((bench.seen[0].tuple().proto, bench.seen[0].facts.ip_len), (Proto(4), 53));
    assert_eq!(bench.seen[0].labels.tunnels.len(), 7);
    // Nesting below IP has no such bound and must not exhaust the stack.
    let mut frame = ethernet(0x0800, &inner());
    for _ in 0..20_000 {
        frame = join(&[&[0; 12], &[0x65, 0x58], &frame]);
    }
    assert!(is_inner(&one(1, &frame)));
}
