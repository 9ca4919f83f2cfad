//! The shapes of traffic: who talks to whom, about what, how often.

use std::str::FromStr;

use crate::pools::Pools;
use crate::wire::Wire;

mod bigflow;
mod flows;
mod hostile;
mod mix;
mod places;
mod schedule;
mod siege;
mod smallpkt;

/// A shape of traffic. The numbers are those of scale 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// 5.3 M packets of 60 to 100 bytes in 1 M flows within 120 s: DNS, scans, short TCP conversations.
    Smallpkt,
    /// 2 M packets, 1.1 GB, 98 k flows within 600 s: what a site's uplink carries, with heavy-tailed sizes.
    Mix,
    /// 0.95 M packets, 1 GB, eight TCP flows of full segments, each with payload of another entropy.
    Bigflow,
    /// 1 M flows of one to three packets that all live at once, within 8 s.
    Flows,
    /// 1 M flows of one TCP SYN each that all live at once, within 8 s.
    Syns,
    /// The same with the answer to each SYN.
    Handshakes,
    /// 1 M UDP flows that all live at once, within 8 s: 40 bytes there, 80 bytes back.
    Exchanges,
    /// 1 M DNS lookups, all at once, within 8 s: every query before the first answer.
    Lookups,
    /// 10,000 TCP connections that say something once a second, for 10 s, among 200,000 SYNs a second.
    Siege,
    /// 1 M IPv4 fragments of as many datagrams, none of which will be whole.
    Fragments,
    /// 1 M IPv6 flows of one packet, whose keys collide in hashes without a random key.
    Keys,
    /// 1 M IPv6 flows of one packet, from random addresses.
    Strangers,
    /// 10,000 DNS messages of 64 KiB: names, pointers, records without end. A flow each.
    Bombs,
    /// As many and as long ones of zeros, which are no DNS.
    Bulks,
}

impl Shape {
    /// Those that come from people who talk.
    pub const ALL: [Shape; 8] = [
        Shape::Smallpkt,
        Shape::Mix,
        Shape::Bigflow,
        Shape::Flows,
        Shape::Syns,
        Shape::Handshakes,
        Shape::Exchanges,
        Shape::Lookups,
    ];

    /// Those that come from people who do harm, and what to compare them with.
    pub const HOSTILE: [Shape; 6] =
        [Shape::Siege, Shape::Fragments, Shape::Keys, Shape::Strangers, Shape::Bombs, Shape::Bulks];

    /// Returns the name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::Smallpkt => "smallpkt",
            Shape::Mix => "mix",
            Shape::Bigflow => "bigflow",
            Shape::Flows => "flows",
            Shape::Syns => "syns",
            Shape::Handshakes => "handshakes",
            Shape::Exchanges => "exchanges",
            Shape::Lookups => "lookups",
            Shape::Siege => "siege",
            Shape::Fragments => "fragments",
            Shape::Keys => "keys",
            Shape::Strangers => "strangers",
            Shape::Bombs => "bombs",
            Shape::Bulks => "bulks",
        }
    }

    pub(crate) fn maker(self, scale: f64, seed: u64) -> Box<dyn Maker + Send> {
        let times = |count: u32| ((f64::from(count) * scale).round() as u32).max(1);
        let rounds = |talk| Box::new(flows::Rounds::new(talk, times(1_000_000), seed));
        let hostile = |kind, count| Box::new(hostile::Hostile::new(kind, times(count), seed));
        match self {
            Shape::Smallpkt => {
                Box::new(schedule::Schedule::new(smallpkt::write, times(1_000_000), 120, seed))
            }
            Shape::Mix => Box::new(schedule::Schedule::new(mix::write, times(100_000), 600, seed)),
            Shape::Bigflow => Box::new(bigflow::Bulk::new(times(917_000_000), seed)),
            Shape::Flows => rounds(flows::Talk::Mixed),
            Shape::Syns => rounds(flows::Talk::Syn),
            Shape::Handshakes => rounds(flows::Talk::Handshake),
            Shape::Exchanges => rounds(flows::Talk::Exchange),
            Shape::Lookups => rounds(flows::Talk::Lookup),
            Shape::Siege => Box::new(siege::Siege::new(times(10_000), times(2_000_000), seed)),
            Shape::Fragments => hostile(hostile::Kind::Fragments, 1_000_000),
            Shape::Keys => hostile(hostile::Kind::Keys, 1_000_000),
            Shape::Strangers => hostile(hostile::Kind::Strangers, 1_000_000),
            Shape::Bombs => hostile(hostile::Kind::Bombs, 10_000),
            Shape::Bulks => hostile(hostile::Kind::Bulks, 10_000),
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Shape::ALL.into_iter().chain(Shape::HOSTILE);
        let names = || Shape::ALL.into_iter().chain(Shape::HOSTILE).map(Shape::name).collect::<Vec<_>>();
        all.find(|shape| shape.name() == name)
            .ok_or_else(|| format!("no such shape: {name} (there are {})", names().join(", ")))
    }
}

/// What makes a shape's frames.
pub(crate) trait Maker {
    /// Makes the next frame in `wire`.
    fn next(&mut self, pools: &Pools, wire: &mut Wire) -> Option<Sent>;
}

/// Facts about a frame that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Microseconds since the beginning; never less than the frame's before.
    pub(crate) at_us: u64,
    pub(crate) kind: &'static str,
    /// Bytes above the transport header.
    pub(crate) payload: usize,
    /// Whether it is the first of its flow.
    pub(crate) opens: bool,
}
