//! A table that fills up: every flow sends its first packet, then each its second, and so on.

use crate::pools::{Content, Pools};
use crate::rng::{Rng, mix};
use crate::script::flags;
use crate::shapes::places::{Place, ends, known};
use crate::shapes::{Maker, Sent};
use crate::wire::{Segment, Wire};
use crate::words::{Question, dns_query, dns_response, host_name};

/// What the flows say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Talk {
    /// A third each of UDP over IPv4, TCP over IPv4 and UDP over IPv6; half of them get an answer, a quarter goes on.
    Mixed,
    /// A TCP SYN and nothing more.
    Syn,
    /// A TCP SYN and its answer.
    Handshake,
    /// UDP: 40 bytes there, 80 bytes back.
    Exchange,
    /// A DNS query and its answer.
    Lookup,
}

/// Rounds over all flows, each in another order.
pub(super) struct Rounds {
    talk: Talk,
    flows: u32,
    seed: u64,
    round: u32,
    at: u32,
    stride: u32,
    sent: u64,
    expected: u64,
}

impl Rounds {
    pub(super) fn new(talk: Talk, flows: u32, seed: u64) -> Self {
        let expected = (0..talk.rounds()).map(|round| u64::from(talk.members(flows, round))).sum();
        Rounds { talk, flows, seed, round: 0, at: 0, stride: stride(flows, 0), sent: 0, expected }
    }
}

impl Maker for Rounds {
    fn next(&mut self, pools: &Pools, wire: &mut Wire) -> Option<Sent> {
        if self.at == self.talk.members(self.flows, self.round) {
            self.round += 1;
            self.at = 0;
            self.stride = stride(self.talk.members(self.flows, self.round), self.round);
        }
        if self.round == self.talk.rounds() {
            return None;
        }
        let count = self.talk.members(self.flows, self.round);
        let member = (u64::from(self.at) * u64::from(self.stride) % u64::from(count)) as u32;
        let index = if self.talk == Talk::Mixed { member << self.round } else { member };
        self.at += 1;
        let at_us = SECONDS * 1_000_000 * self.sent / self.expected;
        self.sent += 1;
        let (kind, payload) = self.send(index, pools, wire);
        Some(Sent { at_us, kind, payload, opens: self.round == 0 })
    }
}

impl Rounds {
    /// Sends the packet of a flow in this round.
    fn send(&self, index: u32, pools: &Pools, wire: &mut Wire) -> (&'static str, usize) {
        let place = Place::new(index);
        let mut rng = Rng::new(self.seed ^ mix(u64::from(index)));
        let (kind, ipv6) = match self.talk {
            Talk::Mixed => [("udp4", false), ("tcp4", false), ("udp6", true)][rng.below(3) as usize],
            Talk::Syn | Talk::Handshake => ("tcp4", false),
            Talk::Exchange => ("udp4", false),
            Talk::Lookup => ("dns4", false),
        };
        let server = known(rng.between(1, 200) as u8, ipv6);
        let port = match kind {
            "tcp4" => 443,
            "dns4" => 53,
            _ => 4500,
        };
        let forward = ends(place.client(ipv6), place.port, server, port);
        let ends = if self.round == 1 { forward.flip() } else { forward };
        if kind == "tcp4" {
            let [first, other] = [rng.bits() as u32, rng.bits() as u32];
            let (seq, ack, flags) = match self.round {
                0 => (first, 0, flags::SYN),
                1 => (other, first.wrapping_add(1), flags::SYN | flags::ACK),
                _ => (first.wrapping_add(1), other.wrapping_add(1), flags::ACK),
            };
            wire.tcp(&ends, &Segment { seq, ack, flags, window: 64_240, options: &[] }, &[]);
            return (kind, 0);
        }
        if kind == "dns4" {
            let query = dns_query(rng.bits() as u16, &host_name(&mut rng), Question::A);
            let address = (rng.bits() as u32).to_be_bytes();
            let message = if self.round == 0 { query } else { dns_response(&query, Some(&address), 300) };
            wire.udp(&ends, &message);
            return (kind, message.len());
        }
        let (at, few) = (rng.bits() as u32, rng.between(12, 38) as u16);
        let length = match (self.talk, self.round) {
            (Talk::Exchange, 0) => 40,
            (Talk::Exchange, _) => 80,
            _ => few,
        };
        let payload = pools.slice(Content::Random, at, length);
        wire.udp(&ends, payload);
        (kind, payload.len())
    }
}

impl Talk {
    const fn rounds(self) -> u32 {
        match self {
            Talk::Mixed => 3,
            Talk::Syn => 1,
            Talk::Handshake | Talk::Exchange | Talk::Lookup => 2,
        }
    }

    /// Returns how many flows take part in a round: all, or all, every second, every fourth.
    const fn members(self, flows: u32, round: u32) -> u32 {
        match self {
            Talk::Mixed => flows.div_ceil(1 << round),
            _ => flows,
        }
    }
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

const SECONDS: u64 = 8;
