//! Asks for the sockets of flows as they open: packets to requests.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::capture::{Next, Source};
use crate::decode::{DecodeOptions, Decoder};
use crate::enrich::{LocalAddresses, Tap, Tapped};
use crate::host::Query;
use crate::key::{FiveTuple, Proto};
use crate::packet::Packet;
use crate::time::Timestamp;

/// Packets that open flows, for [`Lookups`](crate::enrich::Lookups): it asks for the socket at each end that is this
/// machine's.
pub struct PacketTap {
    source: Box<dyn Source + Send>,
    decoder: Decoder,
    asking: Asking,
    /// Packets in a row that asked for nothing.
    idle: u32,
}

struct Asking {
    addresses: LocalAddresses,
    interfaces: HashMap<Arc<str>, u32>,
    lately: Lately,
}

impl PacketTap {
    /// Makes a tap of a source (see [`capture`](crate::capture)); `interfaces` are the numbers of interfaces by name.
    pub fn new(
        source: Box<dyn Source + Send>,
        addresses: LocalAddresses,
        interfaces: HashMap<Arc<str>, u32>,
    ) -> PacketTap {
        let asking = Asking { addresses, interfaces, lately: Lately::default() };
        PacketTap { source, decoder: Decoder::new(DecodeOptions::default()), asking, idle: 0 }
    }
}

impl Tap for PacketTap {
    fn wait(&mut self, patience: Duration, ask: &mut dyn FnMut(Query, Timestamp)) -> Tapped {
        match self.source.next(patience) {
            Ok(Next::Frame(frame)) => {
                let mut asked = false;
                self.decoder.decode(&frame, |packet| asked |= self.asking.see(&packet, ask));
                self.idle = if asked { 0 } else { self.idle + 1 };
                // Datagrams that come in floods of known flows are not worth a core: the kernel drops them for less.
                if self.idle == FRAMES_WITHOUT_PAUSE {
                    self.idle = 0;
                    std::thread::sleep(PAUSE);
                }
                Tapped::Packet
            }
            Ok(Next::Idle) => {
                self.idle = 0;
                Tapped::Nothing
            }
            // A device that fails stops the capture itself.
            Ok(Next::End) | Err(_) => Tapped::End,
        }
    }

    fn lost(&mut self) -> u64 {
        let counts = self.source.counts();
        counts.kernel_dropped + counts.interface_dropped
    }
}

impl Asking {
    /// Asks for both ends of a packet's flow, unless that was done a moment ago; returns whether it asked.
    fn see(&mut self, packet: &Packet<'_>, ask: &mut dyn FnMut(Query, Timestamp)) -> bool {
        let tuple = packet.tuple();
        let opens = packet.tcp.is_some_and(|tcp| tcp.flags.is_syn());
        if !opens && !matches!(tuple.proto, Proto::UDP | Proto::UDP_LITE) {
            return false;
        }
        let back = FiveTuple { src: tuple.dst, dst: tuple.src, proto: tuple.proto };
        // A SYN may open the next connection of its tuple, whenever it comes.
        if !opens && self.lately.holds(&tuple, &back, packet.time) {
            return false;
        }
        let name = packet.labels.interface.as_ref();
        let interface = name.and_then(|name| self.interfaces.get(name)).copied().unwrap_or(0);
        let mut asked = false;
        for FiveTuple { src: local, dst: remote, proto } in [tuple, back] {
            if self.addresses.contains(local.addr) && local.port.is_some() && remote.port.is_some() {
                asked = true;
                ask(Query { proto, local, remote, interface }, packet.time);
            }
        }
        asked
    }
}

/// Tuples of datagrams that were asked for lately; two generations, so that it forgets and never grows without end.
#[derive(Default)]
struct Lately {
    since: Timestamp,
    young: HashSet<FiveTuple>,
    old: HashSet<FiveTuple>,
}

impl Lately {
    /// Tells whether a tuple is held, one way or the other; holds it from now on.
    fn holds(&mut self, tuple: &FiveTuple, back: &FiveTuple, now: Timestamp) -> bool {
        if now.nanos_since(self.since) > GENERATION || self.young.len() >= MOST_LATELY {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        let key = if tuple.src <= tuple.dst { tuple } else { back };
        if self.young.contains(key) || self.old.contains(key) {
            return true;
        }
        self.young.insert(*key);
        false
    }
}

/// After so many packets in a row that asked for nothing new there is a pause.
const FRAMES_WITHOUT_PAUSE: u32 = 64;
const PAUSE: Duration = Duration::from_millis(1);
/// A tuple of datagrams is asked for again after one to two of these, in nanoseconds.
const GENERATION: u64 = 2_000_000_000;
const MOST_LATELY: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Endpoint;

    fn tuple(port: u16) -> (FiveTuple, FiveTuple) {
        let end = |last, port| Endpoint { addr: [192, 0, 2, last].into(), port: Some(port) };
        let there = FiveTuple { src: end(1, port), dst: end(2, 53), proto: Proto::UDP };
        (there, FiveTuple { src: there.dst, dst: there.src, ..there })
    }

    #[test]
    fn a_tuple_is_held_both_ways_and_for_a_while() {
        let at = |millis: i64| Timestamp::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000);
        let mut lately = Lately::default();
        let (there, back) = tuple(5000);
        assert!(!lately.holds(&there, &back, at(0)));
        assert!(lately.holds(&there, &back, at(1)) && lately.holds(&back, &there, at(2)));
        assert!(!lately.holds(&tuple(5001).0, &tuple(5001).1, at(3)));
        assert!(lately.holds(&there, &back, at(2_500)));
        assert!(!lately.holds(&there, &back, at(4_700)));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut lately = Lately::default();
        for port in 0..=u16::MAX {
            let (there, back) = tuple(port);
            lately.holds(&there, &back, Timestamp::from_nanos(port.into()));
        }
        assert!(lately.young.len() + lately.old.len() <= 2 * MOST_LATELY);
    }
}
