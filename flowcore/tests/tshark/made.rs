//! Captures that are made: random headers in random order, as the standards allow.

use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::links::{self, LINKS};

/// Frames of one link type.
pub(crate) struct Made {
    pub(crate) link: u32,
    /// Each with its length on the wire: some are cut.
    pub(crate) frames: Vec<(Vec<u8>, u32)>,
}

/// Makes the capture of this number, the same one every time.
pub(crate) fn capture(number: u64) -> Made {
    let mut dice = Dice(number);
    let link = dice.of(&LINKS);
    let frames = (0..FRAMES).map(|_| frame(&mut dice, link)).collect();
    Made { link, frames }
}

/// Numbers that look random (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// One time in so many.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.roll() as u8
    }

    fn short(&mut self) -> u16 {
        self.roll() as u16
    }

    pub(crate) fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

fn frame(dice: &mut Dice, link: u32) -> (Vec<u8>, u32) {
    let ip = iter::repeat_with(|| ip(dice, 0)).find(|ip| links::carries(link, ip)).unwrap();
    let mut frame = links::frame(dice, link, &ip);
    let length = frame.len();
    if dice.once_in(8) && !links::is_all_or_nothing(link) {
        // tshark gives up a file with a frame that ends in its pseudo-header.
        frame.truncate(4 + dice.below(length as u64 - 4) as usize);
    }
    (frame, length as u32)
}

pub(crate) fn ethernet(dice: &mut Dice, ip: &[u8], is_inner: bool) -> Vec<u8> {
    let mut inside = joined(&[&ethertype_of(ip), ip]);
    if dice.once_in(8) {
        let labels = 1 + dice.below(3);
        let mut behind = ip.to_vec();
        for nth in 0..labels {
            // Labels below 16 have meanings of their own.
            let label = 16 + dice.below((1 << 20) - 16) as u32;
            let word = label << 12 | u32::from(nth == 0) << 8 | 64;
            behind = joined(&[&word.to_be_bytes(), &behind]);
        }
        inside = joined(&[&0x8847u16.to_be_bytes(), &behind]);
    } else if dice.once_in(8) {
        let length = (ip.len() as u16 + 2).to_be_bytes();
        let protocol = if ip[0] >> 4 == 6 { 0x57u16 } else { 0x21 };
        let session = dice.short().to_be_bytes();
        inside = joined(&[&[0x88, 0x64, 0x11, 0], &session, &length, &protocol.to_be_bytes(), ip]);
    }
    let tags = dice.of(&[0, 0, 0, 1, 1, 2]);
    for nth in 1..=tags {
        let tag = (dice.short() & 0xefff).to_be_bytes();
        // A service tag stands before all others.
        let kinds: &[u16] = if nth == tags && !is_inner { &[0x8100, 0x88a8] } else { &[0x8100] };
        inside = joined(&[&dice.of(kinds).to_be_bytes(), &tag, &inside]);
    }
    // No group address: what is for all may be read in another way.
    let mut frame = joined(&[&[2], &dice.bytes(5), &[2], &dice.bytes(5), &inside]);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IP packet, and what is in it.
fn ip(dice: &mut Dice, depth: u32) -> Vec<u8> {
    let is_v6 = dice.once_in(3);
    let is_tunnel = depth < 3 && dice.once_in(4);
    let (proto, mut payload) = if is_tunnel { tunnel(dice, depth) } else { transport(dice, is_v6) };
    let fragment = dice.once_in(12).then(|| {
        let offset = if dice.once_in(2) { 0 } else { 1 + dice.below(100) as u16 };
        let is_last = offset > 0 && dice.once_in(2);
        if !is_last {
            payload.resize(payload.len() / 8 * 8, 0);
        }
        (offset, is_last)
    });
    if is_v6 { ip6(dice, proto, &payload, fragment) } else { ip4(dice, proto, &payload, fragment) }
}

fn ip4(dice: &mut Dice, proto: u8, payload: &[u8], fragment: Option<(u16, bool)>) -> Vec<u8> {
    let mut options = Vec::new();
    if dice.once_in(6) {
        let router_alert = [148, 4, 0, 0];
        (0..=dice.below(9)).for_each(|_| options.extend(dice.of(&[router_alert, [1; 4]])));
    }
    let words = 5 + options.len() as u8 / 4;
    let length = 20 + options.len() + payload.len();
    let field = match fragment {
        Some((offset, is_last)) => offset | u16::from(!is_last) << 13,
        None => dice.of(&[0, 0x4000]),
    };
    let mut head = vec![0x40 | words, dice.byte()];
    head.extend((length as u16).to_be_bytes());
    head.extend(dice.short().to_be_bytes());
    head.extend(field.to_be_bytes());
    head.extend([1 + dice.byte() % 255, proto, 0, 0]);
    head.extend(addresses4(dice));
    joined(&[&head, &options, payload])
}

fn ip6(dice: &mut Dice, proto: u8, payload: &[u8], fragment: Option<(u16, bool)>) -> Vec<u8> {
    let mut next = proto;
    let mut behind = payload.to_vec();
    // From the inside out: what may stand behind the fragment header, that, and what stands before it.
    if fragment.is_none_or(|(offset, _)| offset == 0) && dice.once_in(8) {
        behind = joined(&[&extension(dice, next), &behind]);
        next = 60;
        behind.resize(behind.len() / 8 * 8 + if fragment.is_some() { 0 } else { behind.len() % 8 }, 0);
    }
    if let Some((offset, is_last)) = fragment {
        let field = offset << 3 | u16::from(!is_last);
        behind = joined(&[&[next, 0], &field.to_be_bytes(), &dice.bytes(4), &behind]);
        next = 44;
    }
    if dice.once_in(8) {
        behind = joined(&[&extension(dice, next), &behind]);
        next = 0;
    }
    let class = u32::from(dice.byte());
    let mut head = (6 << 28 | class << 20 | dice.roll() as u32 & 0xf_ffff).to_be_bytes().to_vec();
    head.extend((behind.len() as u16).to_be_bytes());
    head.extend([next, 1 + dice.byte() % 255]);
    for prefix in [0x2001_0db8u128, 0x2001_0db9] {
        let address = Ipv6Addr::from_bits(prefix << 96 | u128::from(dice.roll()));
        head.extend(address.octets());
    }
    joined(&[&head, &behind])
}

/// Options with padding alone.
fn extension(dice: &mut Dice, next: u8) -> Vec<u8> {
    let eights = dice.below(3) as u8;
    let mut bytes = vec![next, eights, 1, eights * 8 + 4];
    bytes.resize(8 + usize::from(eights) * 8, 0);
    bytes
}

fn addresses4(dice: &mut Dice) -> Vec<u8> {
    let mut address = |first: u8| Ipv4Addr::new(first, dice.byte(), dice.byte(), 1 + dice.byte() % 250);
    joined(&[&address(10).octets(), &address(198).octets()])
}

fn transport(dice: &mut Dice, is_v6: bool) -> (u8, Vec<u8>) {
    // Ports that mean nothing to anybody.
    let ports =
        [41_000 + dice.below(900) as u16, 42_000 + dice.below(900) as u16].map(u16::to_be_bytes).concat();
    let length = dice.below(60);
    let payload = vec![dice.byte(); length as usize];
    match dice.below(8) {
        0..4 => {
            let options = tcp_options(dice);
            let words = 5 + options.len() as u16 / 4;
            let flags = dice.short() & 0x1ff;
            let numbers = dice.bytes(8);
            let (bits, window) = ((words << 12 | flags).to_be_bytes(), dice.bytes(2));
            (6, joined(&[&ports, &numbers, &bits, &window, &dice.bytes(2), &[0, 0], &options, &payload]))
        }
        4..6 => (17, udp(&ports, &payload)),
        6 if is_v6 => (58, joined(&[&[dice.of(&[128, 129]), 0], &dice.bytes(6), &payload])),
        6 => (1, joined(&[&[dice.of(&[0, 8]), 0], &dice.bytes(6), &payload])),
        _ => (dice.of(&[253, 254]), payload),
    }
}

fn udp(ports: &[u8], payload: &[u8]) -> Vec<u8> {
    // Without a checksum, which tunnels over IPv4 leave out as well.
    joined(&[ports, &(8 + payload.len() as u16).to_be_bytes(), &[0, 0], payload])
}

fn tcp_options(dice: &mut Dice) -> Vec<u8> {
    let mut options = Vec::new();
    if dice.once_in(4) {
        // Of no kind that anybody knows.
        options.extend([78, 4, dice.byte(), dice.byte()]);
    }
    if dice.once_in(2) {
        options.extend([2, 4, dice.byte(), dice.byte()]);
    }
    if dice.once_in(2) {
        options.extend([1, 3, 3, dice.byte() % 15]);
    }
    if dice.once_in(2) {
        options.extend(joined(&[&[1, 1, 8, 10], &dice.bytes(8)]));
    }
    if dice.once_in(4) {
        options.extend([4, 2, 0, 0]);
    }
    options
}

/// What a tunnel has behind its IP header, with another IP packet in it.
fn tunnel(dice: &mut Dice, depth: u32) -> (u8, Vec<u8>) {
    let inner = ip(dice, depth + 1);
    let port = (41_000 + dice.below(900) as u16).to_be_bytes();
    let over_udp = |to: u16, payload: &[u8]| (17, udp(&joined(&[&port, &to.to_be_bytes()]), payload));
    let network = dice.bytes(3);
    match dice.below(5) {
        0 => (if inner[0] >> 4 == 6 { 41 } else { 4 }, inner),
        1 => {
            let (checksum, key, sequence) = (dice.once_in(2), dice.once_in(2), dice.once_in(2));
            let flags = u8::from(checksum) << 7 | u8::from(key) << 5 | u8::from(sequence) << 4;
            let words = [checksum, key, sequence].into_iter().filter(|&there| there).count() as u64;
            (47, joined(&[&[flags, 0], &ethertype_of(&inner), &dice.bytes(4 * words), &inner]))
        }
        2 => over_udp(4789, &joined(&[&[8, 0, 0, 0], &network, &[0], &ethernet(dice, &inner, true)])),
        3 => {
            let words = dice.below(4);
            let options: Vec<u8> = (0..words).flat_map(|_| [0xff, 0xff, 1, 0]).collect();
            let head = [words as u8, 0, 0x65, 0x58];
            over_udp(6081, &joined(&[&head, &network, &[0], &options, &ethernet(dice, &inner, true)]))
        }
        _ => {
            let length = (inner.len() as u16).to_be_bytes();
            over_udp(2152, &joined(&[&[0x30, 255], &length, &dice.bytes(4), &inner]))
        }
    }
}

pub(crate) fn ethertype_of(ip: &[u8]) -> [u8; 2] {
    if ip[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] }
}

pub(crate) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

const FRAMES: u64 = 20;
