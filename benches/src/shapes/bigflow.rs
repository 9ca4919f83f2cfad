//! Eight bulk flows that share a link of 1 Gbit/s by turns.

use crate::flow::{Carriage, Flow, Options};
use crate::pools::{Content, Pools};
use crate::rng::Rng;
use crate::script::{Said, Side, Writer, flags};
use crate::shapes::places::{ends, known};
use crate::shapes::{Maker, Sent};
use crate::wire::Wire;

/// The flows, what each has still to send, and whose turn it is.
pub(super) struct Bulk {
    lanes: Vec<Lane>,
    rng: Rng,
    turn: usize,
    now_us: u64,
}

struct Lane {
    flow: Flow,
    content: Content,
    said: u32,
    bytes: u32,
    closed: bool,
}

impl Bulk {
    /// Shares `bytes` of payload among the eight.
    pub(super) fn new(bytes: u32, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let lanes = CONTENTS.iter().enumerate().map(|(at, (kind, content, per_mille))| {
            let (number, ipv6) = (at as u8 + 1, at % 4 == 3);
            let port = [443, 80, 5201, 22][at % 4];
            let ends = ends(known(number, ipv6), 40_000 + at as u16, known(100 + number, ipv6), port);
            let seq = [rng.bits() as u32, rng.bits() as u32];
            let mut flow = Flow::new(kind, ends, Carriage::Tcp(Options::Stamps), seq);
            Writer::new(&mut flow, &mut rng, 150).handshake();
            let bytes = (u64::from(bytes) * per_mille / 1000) as u32;
            Lane { flow, content: *content, said: 0, bytes, closed: false }
        });
        let lanes: Vec<Lane> = lanes.collect();
        Bulk { lanes, rng, turn: 0, now_us: 0 }
    }

    /// Gives the turn to a flow that has something to send, by what it has left; none when all have closed.
    fn pass_turn(&mut self) -> Option<()> {
        let left = |lane: &Lane| u64::from(lane.bytes - lane.said) + u64::from(!lane.closed);
        let total: u64 = self.lanes.iter().map(left).sum();
        let mut drawn = self.rng.bits().checked_rem(total)?;
        let new = self.lanes.iter().position(|lane| lane.flow.is_new());
        self.turn = new.unwrap_or_else(|| {
            let holds = |lane: &Lane| {
                let share = left(lane);
                let hit = drawn < share;
                drawn = drawn.saturating_sub(share);
                hit
            };
            self.lanes.iter().position(holds).unwrap_or(0)
        });
        let lane = &mut self.lanes[self.turn];
        if !lane.flow.is_new() {
            lane.flow.turn_page();
            lane.write(&mut self.rng);
        }
        Some(())
    }
}

impl Lane {
    /// Adds the next window of segments to the script, and the end after the last one.
    fn write(&mut self, rng: &mut Rng) {
        let ipv6 = self.flow.ends.src.is_ipv6();
        let full = u32::from(Options::Stamps.full_segment(ipv6));
        let segments = rng.between(8, 32) * 2;
        let mut script = Writer::new(&mut self.flow, rng, 150);
        for number in 1..=segments {
            let len = full.min(self.bytes - self.said);
            if len == 0 {
                break;
            }
            let said = Said { content: self.content, at: self.said, len: len as u16 };
            self.said += len;
            let last = self.said == self.bytes;
            script.step(
                SEGMENT_US,
                Side::Client,
                if last { flags::ACK | flags::PSH } else { flags::ACK },
                said,
            );
            if number % 2 == 0 || last {
                script.acknowledge(Side::Server, 3);
            }
        }
        if self.said == self.bytes {
            self.closed = true;
            script.close(true);
        }
    }
}

impl Maker for Bulk {
    fn next(&mut self, pools: &Pools, wire: &mut Wire) -> Option<Sent> {
        if self.lanes[self.turn].flow.next_gap().is_none() {
            self.pass_turn()?;
        }
        let flow = &mut self.lanes[self.turn].flow;
        self.now_us += u64::from(flow.next_gap()?);
        let opens = flow.is_new();
        let payload = flow.send(self.now_us, pools, wire)?;
        Some(Sent { at_us: self.now_us, kind: flow.kind, payload, opens })
    }
}

/// The time that a frame of 1514 bytes takes at 1 Gbit/s.
const SEGMENT_US: u32 = 12;

/// Names, contents, shares of the payload in a thousand.
const CONTENTS: [(&str, Content, u64); 8] = [
    ("zeros", Content::Zeros, 154),
    ("two symbols", Content::TwoSymbols, 151),
    ("digits", Content::Digits, 144),
    ("text", Content::Text, 128),
    ("base64", Content::Base64, 59),
    ("records", Content::Records, 136),
    ("random", Content::Random, 127),
    ("random and zeros", Content::HalfRandom, 101),
];
