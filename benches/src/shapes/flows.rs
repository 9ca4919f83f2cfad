//! A table that fills up: every flow sends its first packet, then half of them a second, a quarter a third.

use crate::pools::{Content, Pools};
use crate::rng::{Rng, mix};
use crate::script::flags;
use crate::shapes::places::{Place, ends, known};
use crate::shapes::{Maker, Sent};
use crate::wire::{Segment, Wire};

/// Rounds over all flows, each in another order.
pub(super) struct Rounds {
    flows: u32,
    seed: u64,
    round: u32,
    at: u32,
    stride: u32,
    sent: u64,
    expected: u64,
}

impl Rounds {
    pub(super) fn new(flows: u32, seed: u64) -> Self {
        let expected = (0..ROUNDS).map(|round| u64::from(members(flows, round))).sum();
        Rounds { flows, seed, round: 0, at: 0, stride: stride(flows, 0), sent: 0, expected }
    }
}

impl Maker for Rounds {
    fn next(&mut self, pools: &Pools, wire: &mut Wire) -> Option<Sent> {
        if self.at == members(self.flows, self.round) {
            self.round += 1;
            self.at = 0;
            self.stride = stride(members(self.flows, self.round), self.round);
        }
        if self.round == ROUNDS {
            return None;
        }
        let count = members(self.flows, self.round);
        let member = (u64::from(self.at) * u64::from(self.stride) % u64::from(count)) as u32;
        let index = member << self.round;
        self.at += 1;
        let at_us = SECONDS * 1_000_000 * self.sent / self.expected;
        self.sent += 1;
        let (kind, payload) = send(index, self.round, self.seed, pools, wire);
        Some(Sent { at_us, kind, payload, opens: self.round == 0 })
    }
}

/// Sends the packet of a flow in a round: a third each of UDP over IPv4, TCP over IPv4 (its three segments of the
/// beginning) and UDP over IPv6.
fn send(index: u32, round: u32, seed: u64, pools: &Pools, wire: &mut Wire) -> (&'static str, usize) {
    let place = Place::new(index);
    let mut rng = Rng::new(seed ^ mix(u64::from(index)));
    let (kind, ipv6) = [("udp4", false), ("tcp4", false), ("udp6", true)][rng.below(3) as usize];
    let server = known(rng.between(1, 200) as u8, ipv6);
    let forward = ends(place.client(ipv6), place.port, server, if kind == "tcp4" { 443 } else { 4500 });
    let ends = if round == 1 { forward.flip() } else { forward };
    if kind == "tcp4" {
        let [first, other] = [rng.bits() as u32, rng.bits() as u32];
        let (seq, ack, flags) = match round {
            0 => (first, 0, flags::SYN),
            1 => (other, first.wrapping_add(1), flags::SYN | flags::ACK),
            _ => (first.wrapping_add(1), other.wrapping_add(1), flags::ACK),
        };
        wire.tcp(&ends, &Segment { seq, ack, flags, window: 64_240, options: &[] }, &[]);
        return (kind, 0);
    }
    let payload = pools.slice(Content::Random, rng.bits() as u32, rng.between(12, 38) as u16);
    wire.udp(&ends, payload);
    (kind, payload.len())
}

/// Returns how many flows take part in a round: all, every second, every fourth.
const fn members(flows: u32, round: u32) -> u32 {
    flows.div_ceil(1 << round)
}

/// Returns a step through `count` places that visits each once: near the golden section, with no common divisor.
fn stride(count: u32, round: u32) -> u32 {
    let golden = (u64::from(count) * [618, 382, 276][round as usize % 3] / 1000) as u32;
    (golden.max(1)..).find(|step| divisor(*step, count) == 1).unwrap_or(1)
}

const fn divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

const ROUNDS: u32 = 3;
const SECONDS: u64 = 8;
