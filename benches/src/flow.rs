//! One conversation on its way: a script, and where it stands.

use std::net::IpAddr;

use crate::pools::{Content, Pools};
use crate::script::{Side, Step, flags};
use crate::wire::{Ends, Segment, Wire};

/// What carries a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carriage {
    /// TCP with these options.
    Tcp(Options),
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo: the client asks, the server replies.
    Echo,
    /// ESP.
    Esp,
    /// ARP over IPv4 addresses: the client asks, the server replies. No flow.
    Arp,
}

/// Which TCP options the two ends use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Options {
    /// A scanner's: the segment size alone, with the SYN.
    Scanner,
    /// Segment size and, over IPv4, selective acknowledgements, with the SYN.
    Short,
    /// All that is usual, and time stamps with every segment.
    Stamps,
}

/// A conversation: who, what, and how far it is.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The kind it counts under.
    pub kind: &'static str,
    /// Addresses and ports as the client sends.
    pub ends: Ends,
    /// What carries it.
    pub carriage: Carriage,
    /// Next sequence number of client and server; for UDP and ICMP a mere start.
    pub seq: [u32; 2],
    /// The script.
    pub steps: Vec<Step>,
    /// Bytes that only this flow says: the pool of [`Content::Own`].
    pub own: Vec<u8>,
    at: usize,
    sent: u32,
}

impl Flow {
    /// Makes a flow without a script.
    pub const fn new(kind: &'static str, ends: Ends, carriage: Carriage, seq: [u32; 2]) -> Self {
        Flow { kind, ends, carriage, seq, steps: Vec::new(), own: Vec::new(), at: 0, sent: 0 }
    }

    /// Becomes another flow without a script, in the same memory.
    pub fn renew(&mut self, kind: &'static str, ends: Ends, carriage: Carriage, seq: [u32; 2]) {
        let (mut steps, mut own) = (std::mem::take(&mut self.steps), std::mem::take(&mut self.own));
        steps.clear();
        own.clear();
        *self = Flow { steps, own, ..Flow::new(kind, ends, carriage, seq) };
    }

    /// Returns how long after the last step the next one comes, in microseconds; none at the end of the script.
    pub fn next_gap(&self) -> Option<u32> {
        self.steps.get(self.at).map(|step| step.gap_us)
    }

    /// Tells whether nothing was sent yet.
    pub const fn is_new(&self) -> bool {
        self.sent == 0
    }

    /// Forgets the steps that were sent, so that the script can go on.
    pub fn turn_page(&mut self) {
        self.steps.drain(..self.at);
        self.at = 0;
    }

    /// Sends the next step as a frame and returns the length of its payload; none at the end of the script.
    pub fn send(&mut self, now_us: u64, pools: &Pools, wire: &mut Wire) -> Option<usize> {
        let step = *self.steps.get(self.at)?;
        self.at += 1;
        self.sent += 1;
        let said = step.said;
        let payload = match said.content {
            Content::Own => &self.own[said.at as usize..][..usize::from(said.len)],
            content => pools.slice(content, said.at, said.len),
        };
        let by_client = step.by == Side::Client;
        let ends = if by_client { self.ends } else { self.ends.flip() };
        match self.carriage {
            Carriage::Udp => wire.udp(&ends, payload),
            Carriage::Echo => wire.echo(&ends, by_client, self.ends.sport, (self.sent / 2) as u16, payload),
            Carriage::Esp => wire.esp(&ends, self.seq[step.by as usize], self.sent, payload),
            Carriage::Arp => {
                let (IpAddr::V4(sender), IpAddr::V4(target)) = (ends.src, ends.dst) else { return None };
                wire.arp(sender, target, by_client);
            }
            Carriage::Tcp(options) => {
                let [mine, other] = [step.by as usize, 1 - step.by as usize];
                let length = payload.len() as u32 + flags::length(step.flags);
                let seq = if step.again { self.seq[mine].wrapping_sub(length) } else { self.seq[mine] };
                self.seq[mine] = seq.wrapping_add(length);
                let ack = if step.flags & flags::ACK == 0 { 0 } else { self.seq[other] };
                let window = if step.flags & flags::RST == 0 { options.window() } else { 0 };
                let mut room = [0; 20];
                let options =
                    options.write(step.flags, ends.src.is_ipv6(), (now_us / 1000) as u32, &mut room);
                wire.tcp(&ends, &Segment { seq, ack, flags: step.flags, window, options }, payload);
            }
        }
        match self.carriage {
            Carriage::Arp => Some(0),
            Carriage::Esp => Some(payload.len() + 8),
            _ => Some(payload.len()),
        }
    }
}

impl Options {
    /// Returns how much payload a full frame of 1514 bytes holds.
    pub const fn full_segment(self, ipv6: bool) -> u16 {
        let header = if ipv6 { 60 } else { 40 };
        1500 - header - if matches!(self, Options::Stamps) { 12 } else { 0 }
    }

    const fn window(self) -> u16 {
        match self {
            Options::Scanner => 1024,
            Options::Short => 64_240,
            Options::Stamps => 502,
        }
    }

    fn write(self, segment_flags: u8, ipv6: bool, now_ms: u32, room: &mut [u8; 20]) -> &[u8] {
        let syn = segment_flags & flags::SYN != 0;
        let size: u16 = if ipv6 { 1440 } else { 1460 };
        room[..2].copy_from_slice(&[2, 4]);
        room[2..4].copy_from_slice(&size.to_be_bytes());
        let used = match (self, syn) {
            (Options::Scanner, true) => 4,
            (Options::Short, true) if ipv6 => 4,
            (Options::Short, true) => {
                room[4..8].copy_from_slice(&[1, 1, 4, 2]);
                8
            }
            (Options::Scanner | Options::Short, false) => 0,
            (Options::Stamps, true) => {
                room[4..8].copy_from_slice(&[4, 2, 8, 10]);
                room[8..12].copy_from_slice(&now_ms.to_be_bytes());
                room[12..16].fill(0);
                room[16..].copy_from_slice(&[1, 3, 3, 7]);
                20
            }
            (Options::Stamps, false) => {
                room[..4].copy_from_slice(&[1, 1, 8, 10]);
                room[4..8].copy_from_slice(&now_ms.to_be_bytes());
                room[8..12].copy_from_slice(&now_ms.saturating_sub(20).to_be_bytes());
                12
            }
        };
        &room[..used]
    }
}
