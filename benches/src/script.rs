//! What is said in a conversation, by whom and when; without addresses and sequence numbers.

use crate::flow::{Carriage, Flow};
use crate::pools::Content;
use crate::rng::Rng;

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The end that began.
    Client = 0,
    /// The other end.
    Server = 1,
}

impl Side {
    /// Returns the other end.
    pub const fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// A payload: a piece of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// Which pool.
    pub content: Content,
    /// First byte.
    pub at: u32,
    /// Bytes.
    pub len: u16,
}

impl Said {
    /// No payload.
    pub const NOTHING: Said = Said { content: Content::Own, at: 0, len: 0 };
}

/// One packet of a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Microseconds since the step before; since the flow's beginning for the first one.
    pub gap_us: u32,
    /// Who sends it.
    pub by: Side,
    /// TCP flags, else 0.
    pub flags: u8,
    /// Whether it sends again what its sender sent last.
    pub again: bool,
    /// Its payload.
    pub said: Said,
}

/// TCP flag bits.
pub mod flags {
    /// Last segment of a direction.
    pub const FIN: u8 = 1;
    /// First segment of a direction.
    pub const SYN: u8 = 2;
    /// The end, at once.
    pub const RST: u8 = 4;
    /// Hand over what has come.
    pub const PSH: u8 = 8;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;

    /// Returns how many sequence numbers the flags use up.
    pub const fn length(flags: u8) -> u32 {
        (flags & FIN) as u32 + ((flags & SYN) >> 1) as u32
    }
}

/// Writes the script of a flow.
#[derive(Debug)]
pub struct Writer<'a> {
    flow: &'a mut Flow,
    rng: &'a mut Rng,
    rtt_us: u32,
}

impl<'a> Writer<'a> {
    /// Begins at the end of the flow's script; the other end answers after `rtt_us`, more or less.
    pub const fn new(flow: &'a mut Flow, rng: &'a mut Rng, rtt_us: u32) -> Self {
        Writer { flow, rng, rtt_us }
    }

    /// Returns the numbers that the script is made of.
    pub const fn rng(&mut self) -> &mut Rng {
        self.rng
    }

    /// Adds a packet.
    pub fn step(&mut self, gap_us: u32, by: Side, flags: u8, said: Said) {
        self.flow.steps.push(Step { gap_us, by, flags, again: false, said });
    }

    /// Adds the packet before once more.
    pub fn again(&mut self, gap_us: u32) {
        if let Some(last) = self.flow.steps.last().copied() {
            self.flow.steps.push(Step { gap_us, again: true, ..last });
        }
    }

    /// Returns a round trip: from three quarters to five quarters of the usual one.
    pub fn round_trip(&mut self) -> u32 {
        self.rtt_us * 3 / 4 + self.rng.below(self.rtt_us / 2 + 1)
    }

    /// Adds TCP's three segments of the beginning.
    pub fn handshake(&mut self) {
        self.step(0, Side::Client, flags::SYN, Said::NOTHING);
        let gap = self.round_trip();
        self.step(gap, Side::Server, flags::SYN | flags::ACK, Said::NOTHING);
        let gap = self.pause(900);
        self.step(gap, Side::Client, flags::ACK, Said::NOTHING);
    }

    /// Adds an acknowledgement without payload.
    pub fn acknowledge(&mut self, by: Side, gap_us: u32) {
        self.step(gap_us, by, flags::ACK, Said::NOTHING);
    }

    /// Adds TCP's end: both ends close, or the server resets.
    pub fn close(&mut self, orderly: bool) {
        if !orderly {
            let gap = self.round_trip();
            return self.step(gap, Side::Server, flags::RST | flags::ACK, Said::NOTHING);
        }
        let gap = self.pause(5_000);
        self.step(gap, Side::Client, flags::FIN | flags::ACK, Said::NOTHING);
        let gap = self.round_trip();
        self.step(gap, Side::Server, flags::FIN | flags::ACK, Said::NOTHING);
        let gap = self.pause(900);
        self.acknowledge(Side::Client, gap);
    }

    /// Lets one end say the flow's own words, in as few packets as hold them; the other end acknowledges TCP.
    pub fn say(&mut self, by: Side, gap_us: u32, words: &[u8]) {
        let at = self.flow.own.len() as u32;
        self.flow.own.extend_from_slice(words);
        self.stream(by, gap_us, Content::Own, at, words.len() as u32);
    }

    /// Lets one end send `bytes` of a content from place `at` on: full segments, an acknowledgement for every second
    /// one, a pause of a round trip after each window, and now and then a segment twice.
    pub fn stream(&mut self, by: Side, gap_us: u32, content: Content, at: u32, bytes: u32) {
        let Carriage::Tcp(options) = self.flow.carriage else {
            return self.datagram(by, gap_us, Said { content, at, len: bytes as u16 });
        };
        let full = u32::from(options.full_segment(self.flow.ends.src.is_ipv6()));
        let pace = self.rng.between(12, 120);
        let mut window = 10;
        let (mut gap, mut done, mut unacknowledged) = (gap_us, 0, 0);
        while done < bytes {
            let len = full.min(bytes - done);
            let last = done + len == bytes;
            let flags = if last { flags::PSH | flags::ACK } else { flags::ACK };
            self.step(gap, by, flags, Said { content, at: at.wrapping_add(done), len: len as u16 });
            if self.rng.chance(4) {
                self.again(self.rtt_us * 2);
            }
            done += len;
            unacknowledged += 1;
            gap = pace;
            if unacknowledged == 2 || last {
                self.acknowledge(by.other(), 3);
                unacknowledged = 0;
            }
            if done / full >= window {
                gap = self.round_trip();
                window += window.min(60);
            }
        }
    }

    /// Adds a datagram.
    pub fn datagram(&mut self, by: Side, gap_us: u32, said: Said) {
        self.step(gap_us, by, 0, said);
    }

    /// Returns a pause of up to `most_us`.
    pub fn pause(&mut self, most_us: u32) -> u32 {
        self.rng.between(most_us / 10, most_us)
    }
}
