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
use track::Track;

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
    /// TCP, and UDP from its first bad checksum on.
    Tracked(Track),
}

impl Feature for Tcp {
    type Values = TcpValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, _: &FeatureOptions) {
        if let Kind::Tracked(track) = &mut self.kind {
            return track.update(packet, dir);
        }
        match packet.key.proto() {
            Proto::UDP => self.datagram(packet, dir),
            Proto::TCP => self.track(Track::new(true, Letters::new(dir)), packet, dir),
            _ => {}
        }
    }

    fn turn(&mut self) {
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Udp(letters) => letters.turn(),
            Kind::Tracked(track) => track.turn(),
        }
    }

    fn next_slice(&mut self) {
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Udp(letters) => letters.next_slice(),
            Kind::Tracked(track) => track.next_slice(),
        }
    }

    fn finish(&self) -> TcpValues {
        match &self.kind {
            Kind::Silent => TcpValues::default(),
            Kind::Udp(letters) => TcpValues { history: letters.text(), tcp: None },
            Kind::Tracked(track) => track.finish(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.kind {
            Kind::Silent | Kind::Udp(_) => 0,
            Kind::Tracked(track) => track.heap_bytes(),
        }
    }
}

impl Tcp {
    /// Begins to follow a flow with this packet.
    #[inline]
    fn track(&mut self, mut track: Track, packet: &Packet<'_>, dir: Dir) {
        track.update(packet, dir);
        self.kind = Kind::Tracked(track);
    }

    fn datagram(&mut self, packet: &Packet<'_>, dir: Dir) {
        if matches!(self.kind, Kind::Silent) {
            self.kind = Kind::Udp(Letters::new(dir));
        }
        let Kind::Udp(letters) = &mut self.kind else { return };
        if packet.bad_checksum {
            let letters = letters.widen();
            self.track(Track::new(false, letters), packet, dir);
        } else if packet.payload_len > 0 {
            letters.once(dir.index(), Once::Data);
        }
    }
}

#[cfg(test)]
mod tests;
