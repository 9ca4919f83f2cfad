//! Link-layer headers around made packets.

use crate::made::{Dice, ethernet, ethertype_of, joined};

/// All link types that both read (SLIP and pppd's PPP are not tshark's), Ethernet more often than others.
pub(crate) const LINKS: [u32; 32] = [
    ETHERNET, ETHERNET, ETHERNET, ETHERNET, 0, 6, 9, 10, 11, 12, 14, 50, 51, 100, 101, 104, 105, 107, 108,
    109, 113, 117, 123, 127, 129, 138, 192, 204, 228, 229, 239, 276,
];

/// Tells whether a link type carries this packet: some are for one version of IP.
pub(crate) fn carries(link: u32, ip: &[u8]) -> bool {
    match link {
        129 | 228 => ip[0] >> 4 == 4,
        229 => ip[0] >> 4 == 6,
        _ => true,
    }
}

/// Tells whether tshark reads nothing in a frame of this link type that is cut: netfilter's attribute has a length.
pub(crate) fn is_all_or_nothing(link: u32) -> bool {
    link == 239
}

/// Puts the headers of a link type before an IP packet.
pub(crate) fn frame(dice: &mut Dice, link: u32, ip: &[u8]) -> Vec<u8> {
    let is_v6 = ip[0] >> 4 == 6;
    let proto = ethertype_of(ip);
    let bsd_family: u32 = if is_v6 { dice.of(&[24, 28, 30]) } else { 2 };
    let ppp = [0, if is_v6 { 0x57 } else { 0x21 }];
    let snap = joined(&[&[0xaa, 0xaa, 3, 0, 0, 0], &proto, ip]);
    match link {
        ETHERNET => ethernet(dice, ip, false),
        0 => joined(&[&bsd_family.to_le_bytes(), ip]),
        6 => token_ring(dice, &snap),
        9 | 50 => joined(&[dice.of(&[&[0xff, 3], &[]]), &ppp, ip]),
        10 => joined(&[&[0x50], &stations(dice), &snap]),
        11 | 100 => snap,
        51 => {
            let length = (ip.len() as u16 + 2).to_be_bytes();
            joined(&[&[0x11, 0], &dice.bytes(2), &length, &ppp, ip])
        }
        104 => joined(&[&[dice.of(&[0x0f, 0x8f]), 0], &proto, ip]),
        105 => ieee80211(dice, &snap, 1),
        107 => frame_relay(dice, ip),
        108 => joined(&[&bsd_family.to_be_bytes(), ip]),
        109 => joined(&[&[if is_v6 { 24 } else { 2 }, 0, 0, 0], &dice.bytes(8), ip]),
        113 => joined(&[&[0, 0, 0, 1, 0, 6], &dice.bytes(8), &proto, ip]),
        117 => joined(&[&[61, bsd_family as u8, 0, 0], &[0; 60], ip]),
        123 => joined(&[&[2, 0, 0, 100], &snap]),
        127 => radiotap(dice, &snap),
        129 => joined(&[&dice.bytes(4), &[212, 0], &dice.bytes(2), ip]),
        138 => joined(&[&dice.bytes(16), &proto, ip]),
        192 => {
            let inside = dice.of(&[ETHERNET, 105]);
            joined(&[&[0, 0, 8, 0], &inside.to_le_bytes(), &frame(dice, inside, ip)])
        }
        204 => joined(&[&[dice.of(&[0, 1])], dice.of(&[&[0xff, 3][..], &[]]), &ppp, ip]),
        239 => netfilter_log(is_v6, ip),
        276 => joined(&[&proto, &[0, 0, 0, 0, 0, 2, 0, 1, 0, 6], &dice.bytes(8), ip]),
        _ => ip.to_vec(),
    }
}

/// Destination and source, neither of them a group.
fn stations(dice: &mut Dice) -> Vec<u8> {
    joined(&[&[2], &dice.bytes(5), &[2], &dice.bytes(5)])
}

fn token_ring(dice: &mut Dice, inside: &[u8]) -> Vec<u8> {
    let mut stations = stations(dice);
    let mut route = Vec::new();
    if dice.once_in(2) {
        stations[6] |= 0x80;
        let hops = 1 + dice.below(7) as u8;
        route = joined(&[&[2 + 2 * hops, 0], &dice.bytes(2 * u64::from(hops))]);
    }
    joined(&[&[0x10, 0x40], &stations, &route, inside])
}

/// A data frame, its header padded to a multiple.
fn ieee80211(dice: &mut Dice, inside: &[u8], multiple: usize) -> Vec<u8> {
    let (is_qos, ways) = (dice.once_in(2), dice.below(4) as u8);
    let mut header = joined(&[&[if is_qos { 0x88 } else { 8 }, ways], &dice.bytes(2)]);
    for _ in 0..3 {
        header.extend(joined(&[&[2], &dice.bytes(5)]));
    }
    header.extend([(dice.byte() & 0xf0), dice.byte()]);
    if ways == 3 {
        header.extend(joined(&[&[2], &dice.bytes(5)]));
    }
    if is_qos {
        header.extend([dice.byte() & 7, 0]);
    }
    header.resize(header.len().next_multiple_of(multiple), 0);
    joined(&[&header, inside])
}

fn radiotap(dice: &mut Dice, inside: &[u8]) -> Vec<u8> {
    let is_padded = dice.once_in(2);
    let flags = if is_padded { 0x20 } else { 0 };
    let (present, fields) = match dice.below(if is_padded { 2 } else { 3 }) {
        0 => (2, vec![flags]),
        1 => (3, joined(&[&dice.bytes(8), &[flags]])),
        _ => (0, Vec::new()),
    };
    let length = 8 + fields.len() as u8;
    let frame = ieee80211(dice, inside, if is_padded { 4 } else { 1 });
    joined(&[&[0, 0, length, 0, present, 0, 0, 0], &fields, &frame])
}

/// RFC 2427's header, with the number of a protocol or SNAP, or Cisco's.
fn frame_relay(dice: &mut Dice, ip: &[u8]) -> Vec<u8> {
    let number = if ip[0] >> 4 == 6 { 0x8e } else { 0xcc };
    let head = match dice.below(3) {
        0 => vec![3, number],
        1 => joined(&[&[3, 0, 0x80, 0, 0, 0], &ethertype_of(ip)]),
        _ => ethertype_of(ip).to_vec(),
    };
    joined(&[&[0x18, 0x41], &head, ip])
}

fn netfilter_log(is_v6: bool, ip: &[u8]) -> Vec<u8> {
    let header = [8, 0, 1, 0, 0, 0, 0, 0];
    let length = (ip.len() as u16 + 4).to_le_bytes();
    joined(&[&[if is_v6 { 10 } else { 2 }, 0, 0, 0], &header, &length, &[9, 0], ip])
}

const ETHERNET: u32 = 1;
