//! TCP: flags, the story of the connection, its sequence numbers and its handshake.
//!
//! definitions.md, "TCP", has the rules. A flow of another protocol than TCP pays for none of it, but
//! for the few letters of a UDP flow's history.

mod flags;
mod handshake;
mod history;
mod sequence;
mod state;
mod track;
mod values;

use super::{Feature, FeatureOptions};
use crate::key::{Dir, Proto};
use crate::packet::Packet;
use history::{Letters, Once};
use track::{Arrival, Track};

pub use values::{TcpNumbers, TcpSide, TcpValues};

/// Follows a TCP connection; of a UDP flow it keeps the history.
#[derive(Default, Debug)]
pub struct Tcp {
    kind: Kind,
}

#[derive(Default, Debug)]
enum Kind {
    /// No packet yet, or a protocol without a history.
    #[default]
    Silent,
    /// UDP without a bad checksum: at most the letters `D` and `d`.
    Udp(Letters<2>),
    /// One packet of a TCP flow, kept as it is: a flood of SYNs shall not cost what connections do.
    Opened(Box<Arrival>),
    /// TCP, and UDP from its first bad checksum on.
    Tracked(Box<Track>),
}

impl Feature for Tcp {
    type Values = TcpValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, _: &FeatureOptions) {
        self.connect();
        if let Kind::Tracked(track) = &mut self.kind {
            return track.update(packet, dir);
        }
        match packet.key.proto() {
            Proto::UDP => self.datagram(packet, dir),
            Proto::TCP => self.open(packet, dir),
            _ => {}
        }
    }

    fn turn(&mut self) {
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Udp(letters) => letters.turn(),
            Kind::Opened(first) => first.dir = first.dir.flip(),
            Kind::Tracked(track) => track.turn(),
        }
    }

    fn next_slice(&mut self) {
        self.connect();
        match &mut self.kind {
            Kind::Silent | Kind::Opened(_) => {}
            Kind::Udp(letters) => letters.next_slice(),
            Kind::Tracked(track) => track.next_slice(),
        }
    }

    fn finish(&self) -> TcpValues {
        match &self.kind {
            Kind::Silent => TcpValues::default(),
            Kind::Udp(letters) => TcpValues { history: letters.text(), tcp: None },
            Kind::Opened(first) => Track::opened(first).finish(),
            Kind::Tracked(track) => track.finish(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.kind {
            Kind::Silent | Kind::Udp(_) => 0,
            Kind::Opened(_) => size_of::<Arrival>(),
            Kind::Tracked(track) => track.heap_bytes(),
        }
    }
}

impl Tcp {
    fn open(&mut self, packet: &Packet<'_>, dir: Dir) {
        match Arrival::new(packet, dir) {
            Some(first) if !first.fragmented => self.kind = Kind::Opened(Box::new(first)),
            _ => {
                let mut track = Box::new(Track::new(true, Letters::new(dir)));
                track.update(packet, dir);
                self.kind = Kind::Tracked(track);
            }
        }
    }

    /// Begins to follow a connection of which one packet was kept.
    #[inline]
    fn connect(&mut self) {
        if let Kind::Opened(first) = &self.kind {
            self.kind = Kind::Tracked(Box::new(Track::opened(first)));
        }
    }

    fn datagram(&mut self, packet: &Packet<'_>, dir: Dir) {
        if matches!(self.kind, Kind::Silent) {
            self.kind = Kind::Udp(Letters::new(dir));
        }
        let Kind::Udp(letters) = &mut self.kind else { return };
        if packet.bad_checksum {
            let mut track = Box::new(Track::new(false, letters.widen()));
            track.update(packet, dir);
            self.kind = Kind::Tracked(track);
        } else if packet.payload_len > 0 {
            letters.once(dir.index(), Once::Data);
        }
    }
}

#[cfg(test)]
mod tests;
