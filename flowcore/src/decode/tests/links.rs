//! One frame per link type and shim.

use super::*;

fn ppp(payload: &[u8]) -> Vec<u8> {
    join(&[&[0xFF, 0x03, 0x00, 0x21], payload])
}

fn snap(oui: [u8; 3], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[0xAA, 0xAA, 3], &oui, &ethertype.to_be_bytes(), payload])
}

#[test]
fn link_types() {
    let ip = inner();
    let ip6 = ipv6(17, &udp(1000, 2000, b"hello"));
    let llc = snap([0, 0, 0], 0x0800, &ip);
    let frames: Vec<(u32, Vec<u8>)> = vec![
        (0, join(&[&[2, 0, 0, 0], &ip])),
        (0, join(&[&[0, 0, 0, 2], &ip])),
        (0, join(&[&[30, 0, 0, 0], &ip6])),
        (6, join(&[&[0x10, 0x40], &[0; 12], &llc])),
        (6, join(&[&[0x10, 0x40], &[0; 6], &[0x80, 0, 0, 0, 0, 0], &[0x04, 0, 0, 0], &llc])),
        (8, join(&[&[0; 16], &ip6])),
        (9, ppp(&ip)),
        (9, join(&[&[0x21], &ip])),
        (9, join(&[&[0x0F, 0, 0x08, 0x00], &ip])),
        (50, ppp(&ip)),
        (166, ppp(&ip)),
        (166, join(&[&[1, 3, 0, 0x21], &ip])),
        (204, join(&[&[1], &ppp(&ip)])),
        (204, join(&[&[1, 0, 0x21], &ip])),
        (10, join(&[&[0; 13], &llc])),
        (11, llc.clone()),
        (100, llc.clone()),
        (12, ip.clone()),
        (14, ip6.clone()),
        (101, ip.clone()),
        (51, join(&[&[0x11, 0, 0, 1, 0, ip.len() as u8 + 2, 0x00, 0x21], &ip])),
        (104, join(&[&[0x0F, 0, 0x86, 0xDD], &ip6])),
        (107, join(&[&[0x18, 0x41, 3, 0xCC], &ip])),
        (107, join(&[&[0x18, 0x41, 3, 0, 0x80, 0, 0, 0, 0x08, 0x00], &ip])),
        (107, join(&[&[0x18, 0x41, 0x08, 0x00], &ip])),
        (107, join(&[&[0x18, 0x41, 3, 0x8E], &ip6])),
        (108, join(&[&[0, 0, 0, 24], &ip6])),
        (109, join(&[&[2, 0, 0, 0], &[0; 8], &ip])),
        (113, join(&[&[0, 0, 0, 1, 0, 6], &[0; 8], &[0x08, 0x00], &ip])),
        (113, join(&[&[0, 0, 3, 10, 0, 6], &[0; 8], &[0, 0], &ip])),
        (113, join(&[&[0, 0, 0, 1, 0, 6], &[0; 8], &[0, 4], &llc])),
        (117, join(&[&[61, 2, 0, 0], &[0; 60], &ip])),
        (123, join(&[&[0; 4], &llc])),
        (129, join(&[&[1, 2, 0, 0, 212, 0, 0, 1], &ip])),
        (138, join(&[&[0; 16], &[0x08, 0x00], &ip])),
        (228, ip.clone()),
        (229, ip6.clone()),
        (239, join(&[&[2, 0, 0, 0], &[5, 0, 1, 0, 9, 0, 0, 0], &[ip.len() as u8 + 4, 0, 9, 0], &ip])),
        (276, join(&[&[0x08, 0x00], &[0; 6], &[0, 1], &[0; 10], &ip])),
    ];
    for (link, frame) in frames {
        let seen = one(link, &frame);
        assert!(is_inner(&seen), "link type {link}: {seen:?}");
        assert_eq!(seen.facts.ip_len, if seen.tuple().src.addr.is_ipv6() { 53 } else { 33 });
    }
    assert_eq!(dropped(147, &ip), DropReason::UnknownLinkType);
    assert_eq!(dropped(0, &[7, 0, 0, 0, 1, 2]), DropReason::UnknownFamily);
}

#[test]
fn radio_frames() {
    let llc = snap([0, 0, 0], 0x0800, &inner());
    let plain = join(&[&[0x08, 0x01], &[0; 22], &llc]);
    let four_addresses = join(&[&[0x08, 0x03], &[0; 28], &llc]);
    let qos = join(&[&[0x88, 0x01], &[0; 24], &llc]);
    let ordered = join(&[&[0x88, 0x81], &[0; 28], &llc]);
    for frame in [&plain, &four_addresses, &qos, &ordered] {
        assert!(is_inner(&one(105, frame)));
        let radiotap = join(&[&[0, 0, 8, 0, 0, 0, 0, 0], frame]);
        assert!(is_inner(&one(127, &radiotap)));
        let ppi = join(&[&[0, 0, 8, 0, 105, 0, 0, 0], frame]);
        assert!(is_inner(&one(192, &ppi)));
    }
    // Flags field (0x20: padded) behind an extra presence word and the timer.
    let padded = join(&[&[0x88, 0x01], &[0; 24], &[0; 2], &llc]);
    let header = join(&[&[0, 0, 25, 0, 3, 0, 0, 0x80], &[0; 4], &[0; 4], &[0; 8], &[0x20], &padded]);
    assert!(is_inner(&one(127, &header)));

    for (control, flags) in [(0x80, 0), (0xC8, 0), (0x08, 0x40), (0x08, 0x04)] {
        let frame = join(&[&[control, flags], &[0; 22], &llc]);
        assert_eq!(dropped(105, &frame), DropReason::Ieee80211, "{control:02x} {flags:02x}");
    }
    assert_eq!(dropped(105, &plain[..20]), DropReason::LinkHeaderCut);
    // A PPI header that names its own link type and a length of 0 must not loop.
    assert_eq!(dropped(192, &[0, 0, 0, 0, 192, 0, 0, 0]), DropReason::LinkHeaderCut);
}

#[test]
fn vlan_tags_make_the_key_and_the_label() {
    let tagged = |tags: &[(u16, u16)]| {
        let mut frame = vec![2; 12];
        for (kind, id) in tags {
            frame.extend(join(&[&kind.to_be_bytes(), &(0xE000 | id).to_be_bytes()]));
        }
        one(1, &join(&[&frame, &[0x08, 0x00], &inner()]))
    };
    let none = tagged(&[]);
    let priority = tagged(&[(0x8100, 0)]);
    assert_eq!((priority.facts.key, &priority.labels), (none.facts.key, &Labels::default()));
    let ten = tagged(&[(0x8100, 10)]);
    assert_ne!(ten.facts.key, none.facts.key);
    assert_eq!(ten.labels.vlans, [10]);
    let stacked = tagged(&[(0x88A8, 100), (0x9100, 0), (0x9200, 7), (0x8100, 4095)]);
    assert_eq!(stacked.labels.vlans, [100, 7, 4095]);
    assert!(is_inner(&stacked));
    let many: Vec<(u16, u16)> = (1..=200).map(|id| (0x8100, id)).collect();
    assert_eq!(tagged(&many).labels.vlans.len(), 64);
    assert_ne!(tagged(&many).facts.key, tagged(&many[..199]).facts.key);
}

#[test]
fn shims() {
    let ip = inner();
    let ip6 = ipv6(17, &udp(1000, 2000, b"hello"));
    let frame = ethernet(0x0800, &ip);
    let mpls = |label: u32, bottom: bool| ((label << 12) | u32::from(bottom) << 8 | 64).to_be_bytes();
    let length = |payload: &[u8]| ethernet(payload.len() as u16, payload);
    let frames = [
        ethernet(0x8847, &join(&[&mpls(16, false), &mpls(17, true), &ip])),
        ethernet(0x8848, &join(&[&mpls(2, true), &ip6])),
        ethernet(0x8847, &join(&[&mpls(16, true), &[0; 4], &frame])),
        // Only an address that does not begin with 0, 4 or 6 can be told from what else may follow.
        ethernet(0x8847, &join(&[&mpls(16, true), &[0xA2], &frame[1..]])),
        ethernet(0x8864, &join(&[&[0x11, 0, 0, 1, 0, ip.len() as u8 + 2, 0x00, 0x21], &ip])),
        ethernet(0x880B, &join(&[&[0x00, 0x57], &ip6])),
        ethernet(0x6558, &frame),
        ethernet(0x88E7, &join(&[&[0; 4], &frame])),
        ethernet(0x893F, &join(&[&[0; 6], &[0x08, 0x00], &ip])),
        ethernet(0x8926, &join(&[&[0; 4], &[0x08, 0x00], &ip])),
        ethernet(0x8909, &join(&[&[1, 1, 0, 1, 0, 9], &[0x08, 0x00], &ip])),
        ethernet(0x894F, &join(&[&[0x0F, 0xC2, 1, 1, 0, 0, 5, 255], &ip])),
        ethernet(0x894F, &join(&[&[0x0F, 0xC3, 1, 3, 0, 0, 5, 255, 0, 0, 0, 0], &frame])),
        length(&snap([0, 0, 0], 0x0800, &ip)),
        length(&snap([0, 0, 0xF8], 0x86DD, &ip6)),
        length(&snap([0, 0x80, 0xC2], 7, &join(&[&[0, 0], &frame]))),
        length(&join(&[&[6, 6, 3], &ip])),
        ethernet(0x8100, &join(&[&[0, 5], &[0, 41], &snap([0, 0, 0], 0x0800, &ip)])),
    ];
    for (number, frame) in frames.iter().enumerate() {
        assert!(is_inner(&one(1, frame)), "frame {number}");
    }
    assert_eq!(one(1, &frames[0]).labels.mpls, [16, 17]);
    let nsh = one(1, &frames[11]).labels.tunnels.remove(0);
    assert_eq!((nsh.kind, nsh.id, nsh.src_ip), (crate::packet::TunnelKind::Nsh, Some(5), None));
}

#[test]
fn frames_without_flow() {
    use DropReason as Why;
    let cases: Vec<(Vec<u8>, DropReason)> = vec![
        (vec![], Why::LinkHeaderCut),
        (vec![0; 13], Why::LinkHeaderCut),
        (ethernet(0x0806, &[0; 28]), Why::Arp),
        (ethernet(0x8035, &[]), Why::Arp),
        (ethernet(0x88B5, &[0; 40]), Why::UnknownEthertype),
        (ethernet(0x88BE, &[0; 40]), Why::UnknownEthertype),
        (ethernet(0x8863, &[0; 40]), Why::PppoeDiscovery),
        (ethernet(0x8864, &[0x11, 0, 0, 1, 0, 4, 0xC0, 0x21, 1, 1]), Why::PppControl),
        (ethernet(0x8100, &[0, 1, 8]), Why::LinkHeaderCut),
        (ethernet(0x8847, &[0, 1, 0, 64]), Why::LinkHeaderCut),
        (ethernet(0x8847, &[0, 1, 1, 64, 0x10, 0, 0, 0]), Why::MplsPayload),
        (ethernet(0x8847, &[0, 1, 1, 64, 0x50, 0, 0, 0]), Why::MplsPayload),
        (ethernet(0x894F, &[0, 2, 1, 4, 0, 0, 0, 0]), Why::OtherProtocol),
        (ethernet(40, &[0x42; 40]), Why::Llc),
        (ethernet(40, &[0xAA, 0xAA, 3, 0, 0, 0x0C, 0, 0]), Why::Llc),
        (ethernet(2, &[0xAA, 0xAA, 3]), Why::LinkHeaderCut),
        (ethernet(0x0800, &inner()[..19]), Why::IpHeaderCut),
        (ethernet(0x0800, &ipv6(17, &[])), Why::IpVersion),
        (ethernet(0x86DD, &inner().repeat(2)), Why::IpVersion),
        (ethernet(0x86DD, &ipv6(17, &[])[..39]), Why::IpHeaderCut),
        (ethernet(0x0800, &join(&[&[0x44], &inner()[1..]])), Why::IpHeaderLength),
        (ethernet(0x0800, &join(&[&[0x4F], &inner()[1..]])), Why::IpHeaderCut),
        (ethernet(0x0800, &join(&[&[0x45, 0, 0, 19], &inner()[4..]])), Why::IpHeaderLength),
    ];
    for (frame, reason) in cases {
        assert_eq!(dropped(1, &frame), reason, "{frame:02x?}");
    }
    assert_eq!(dropped(101, &[]), Why::IpHeaderCut);
    assert_eq!(dropped(101, &[0x50; 40]), Why::IpVersion);
    assert_eq!(dropped(239, &[2, 0, 0, 0, 3, 0, 9, 0]), Why::OtherProtocol);
    assert_eq!(dropped(129, &[0, 0, 0, 0, 213, 0, 0, 0]), Why::OtherProtocol);
}
