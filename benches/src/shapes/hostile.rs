//! Packets that are made to cost: fragments that never become a datagram, keys that meet, DNS that will not end.

use std::net::{IpAddr, Ipv6Addr};

use crate::pools::Pools;
use crate::rng::{Rng, mix};
use crate::shapes::places::{Place, ends, known};
use crate::shapes::{Maker, Sent};
use crate::wire::{Ends, Wire};

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A fragment each of a datagram of its own: a tiny first one, one of the middle, a last one near 64 KiB; every
    /// fourth lies over the one before. Few flows.
    Fragments,
    /// A datagram each of a flow of its own, whose keys meet in hashes that have no random key.
    Keys,
    /// The same from anywhere.
    Strangers,
    /// A DNS message of 64 KiB each, which has a flow of its own.
    Bombs,
    /// The same length of zeros, on another port.
    Bulks,
}

/// Packets of a kind, a hundred thousand a second.
pub(super) struct Hostile {
    kind: Kind,
    packets: u32,
    seed: u64,
    sent: u32,
}

impl Hostile {
    pub(super) fn new(kind: Kind, packets: u32, seed: u64) -> Self {
        Hostile { kind, packets, seed, sent: 0 }
    }
}

impl Maker for Hostile {
    fn next(&mut self, _: &Pools, wire: &mut Wire) -> Option<Sent> {
        let nth = self.sent;
        if nth == self.packets {
            return None;
        }
        self.sent += 1;
        let bits = mix(self.seed ^ u64::from(nth));
        let (kind, payload, opens) = match self.kind {
            Kind::Fragments => fragment(nth, wire),
            Kind::Keys => udp("key", &v6(crafted(nth, bits)), &[0; 8], wire),
            Kind::Strangers => udp("stranger", &v6([bits, mix(bits)]), &[0; 8], wire),
            Kind::Bombs | Kind::Bulks => {
                let place = Place::new(nth);
                let is_bomb = self.kind == Kind::Bombs;
                let payload = if is_bomb { bomb(&mut Rng::new(bits), nth) } else { vec![0; LONGEST] };
                let port = if is_bomb { 53 } else { 4500 };
                let (client, server) = (place.client(false), known(53, false));
                // Every second one is a query.
                let mut ends = ends(client, place.port, server, port);
                if nth.is_multiple_of(2) {
                    ends = ends.flip();
                }
                udp(if is_bomb { "bomb" } else { "bulk" }, &ends, &payload, wire)
            }
        };
        Some(Sent { at_us: u64::from(nth) * 10, kind, payload, opens })
    }
}

fn udp(kind: &'static str, ends: &Ends, payload: &[u8], wire: &mut Wire) -> (&'static str, usize, bool) {
    wire.udp(ends, payload);
    (kind, payload.len(), true)
}

fn fragment(nth: u32, wire: &mut Wire) -> (&'static str, usize, bool) {
    // As many ids as there are for each pair of hosts.
    let (pair, id) = (nth >> 16, nth as u16);
    let ends = ends(known(1 + pair as u8, false), 4000, known(99, false), 53);
    match nth % 4 {
        0 => wire.fragment(&ends, id, 0, true, 8),
        1 => wire.fragment(&ends, id, 8, true, 8),
        2 => wire.fragment(&ends, id, 65_504, false, 11),
        _ => wire.fragment(&ends, id - 1, 65_496, true, 16),
    }
    ("fragment", 0, false)
}

/// Two words of an address: all in a third of them meet in FxHash, in the hash of rustc-hash 2, in a folded
/// multiplication with this project's own constants.
fn crafted(nth: u32, bits: u64) -> [u64; 2] {
    // No two are the same.
    let free = bits << 32 | u64::from(nth);
    match nth % 3 {
        0 => [free, free.wrapping_mul(0x517C_C1B7_2722_0A95).rotate_left(5)],
        1 => [free, 0_u64.wrapping_sub(free.wrapping_mul(0xF135_7AEA_2E62_A9C5))],
        _ => [free, 0x1319_8A2E_0370_7344],
    }
}

/// The address is the smaller one, so that it comes first in a key.
fn v6([high, low]: [u64; 2]) -> Ends {
    let src = IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)));
    let dst = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX << 64 | 1));
    ends(src, 4000, dst, 4500)
}

/// Returns a DNS message that is as long as can be.
fn bomb(rng: &mut Rng, nth: u32) -> Vec<u8> {
    let is_response = nth.is_multiple_of(2);
    let kind = nth / 2 % 4;
    let [questions, answers]: [u16; 2] = match kind {
        0 => [u16::MAX, 0],
        1 => [1, u16::MAX],
        _ => [1, 255],
    };
    let mut message = (rng.bits() as u16).to_be_bytes().to_vec();
    message.extend([if is_response { 0x81 } else { 1 }, 0]);
    for count in [questions, answers, 0, 0] {
        message.extend(count.to_be_bytes());
    }
    if kind > 0 {
        message.extend([1, b'a', 0, 0, 1, 0, 1]);
    }
    while message.len() < LONGEST {
        match kind {
            // Questions for names of 255 bytes.
            0 => {
                long_name(rng, &mut message);
                message.extend([0, 1, 0, 1]);
            }
            // Tiny records, each name of which is a pointer to the pointer before.
            1 => {
                let before = (message.len().saturating_sub(12)).clamp(12, 0x3FFF) as u16;
                message.extend((0xC000 | before).to_be_bytes());
                message.extend([0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
            }
            // Records of long names and long texts.
            2 => {
                long_name(rng, &mut message);
                message.extend([0, 16, 0, 1, 0, 0, 0, 9, 4, 0]);
                for _ in 0..4 {
                    message.push(255);
                    message.extend((0..255).map(|_| rng.bits() as u8));
                }
            }
            // Names that are a letter and a pointer each, so that they grow as they are followed back.
            _ => {
                let before = (message.len().saturating_sub(14)).clamp(12, 0x3FFF) as u16;
                message.extend([1, b'a']);
                message.extend((0xC000 | before).to_be_bytes());
                message.extend([0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
            }
        }
    }
    message.truncate(LONGEST);
    message
}

fn long_name(rng: &mut Rng, message: &mut Vec<u8>) {
    for length in [63, 63, 63, 61] {
        message.push(length);
        message.extend((0..length).map(|_| rng.bits() as u8));
    }
    message.push(0);
}

/// The longest payload of UDP over IPv4.
const LONGEST: usize = 65_507;
