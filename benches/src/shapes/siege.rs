//! A flood of SYNs while connections go on: what a table that is full must keep.

use crate::pools::{Content, Pools};
use crate::rng::{Rng, mix};
use crate::script::flags;
use crate::shapes::places::{Place, ends, known};
use crate::shapes::{Maker, Sent};
use crate::wire::{Segment, Wire};

/// Connections that are opened within a second, then talk once a second, while SYNs of others come to another port.
pub(super) struct Siege {
    connections: u32,
    syns: u32,
    seed: u64,
    talked: u32,
    flooded: u32,
}

impl Siege {
    pub(super) fn new(connections: u32, syns: u32, seed: u64) -> Self {
        Siege { connections, syns, seed, talked: 0, flooded: 0 }
    }

    /// Sends a SYN from a place that no connection has.
    fn flood(&mut self, at_us: u64, wire: &mut Wire) -> Sent {
        let place = Place::new(self.connections + self.flooded);
        self.flooded += 1;
        let ends = ends(place.client(false), place.port, known(1, false), 80);
        let seq = mix(self.seed ^ u64::from(self.flooded)) as u32;
        wire.tcp(&ends, &Segment { seq, ack: 0, flags: flags::SYN, window: 1024, options: &[] }, &[]);
        Sent { at_us, kind: "syn", payload: 0, opens: true }
    }

    /// Sends the next packet of the connections, which take turns: a handshake each, then words from either side.
    fn talk(&mut self, at_us: u64, pools: &Pools, wire: &mut Wire) -> Sent {
        let (round, nth) = (self.talked / self.connections, self.talked % self.connections);
        self.talked += 1;
        let place = Place::new(nth);
        let mut rng = Rng::new(self.seed ^ mix(u64::from(nth)));
        let numbers = [rng.bits() as u32, rng.bits() as u32];
        let forward = ends(place.client(false), place.port, known(1, false), 22);
        let by_client = round != 1 && (round < HANDSHAKE || round.is_multiple_of(2));
        let said = round.saturating_sub(HANDSHAKE);
        // Rounds 4, 6 … are the client's, 3, 5 … the server's.
        let sent_by = [said / 2, said.div_ceil(2)];
        let seq = |side: usize| {
            let opened = u32::from(round > side as u32);
            numbers[side].wrapping_add(opened + sent_by[side] * u32::from(WORDS))
        };
        let (mine, other) = if by_client { (0, 1) } else { (1, 0) };
        let flags = match round {
            0 => flags::SYN,
            1 => flags::SYN | flags::ACK,
            2 => flags::ACK,
            _ => flags::ACK | flags::PSH,
        };
        let ack = if round == 0 { 0 } else { seq(other) };
        let payload =
            if round < HANDSHAKE { &[][..] } else { pools.slice(Content::Text, rng.bits() as u32, WORDS) };
        let ends = if by_client { forward } else { forward.flip() };
        wire.tcp(&ends, &Segment { seq: seq(mine), ack, flags, window: 64_240, options: &[] }, payload);
        Sent { at_us, kind: "connection", payload: payload.len(), opens: round == 0 }
    }
}

impl Maker for Siege {
    fn next(&mut self, pools: &Pools, wire: &mut Wire) -> Option<Sent> {
        let due = |nth: u32, of: u32, seconds: u64| SECOND * seconds * u64::from(nth) / u64::from(of);
        let handshakes = HANDSHAKE * self.connections;
        let talk = match self.talked.checked_sub(handshakes) {
            None => Some(due(self.talked, handshakes, 1)),
            Some(nth) if nth < ROUNDS * self.connections => {
                Some(SECOND + due(nth, ROUNDS * self.connections, ROUNDS.into()))
            }
            Some(_) => None,
        };
        let flood = (self.flooded < self.syns).then(|| SECOND + due(self.flooded, self.syns, ROUNDS.into()));
        match (talk, flood) {
            (Some(talk), Some(flood)) if flood < talk => Some(self.flood(flood, wire)),
            (Some(talk), _) => Some(self.talk(talk, pools, wire)),
            (None, Some(flood)) => Some(self.flood(flood, wire)),
            (None, None) => None,
        }
    }
}

const SECOND: u64 = 1_000_000;
/// The packets of a handshake.
const HANDSHAKE: u32 = 3;
/// How often each connection talks, and for how many seconds it does.
pub(super) const ROUNDS: u32 = 10;
/// How many bytes it says.
const WORDS: u16 = 40;
