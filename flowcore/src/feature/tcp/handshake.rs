//! How long the handshake took.

use crate::key::Dir;
use crate::packet::{TcpFacts, TcpFlags};
use crate::time::Timestamp;

/// Times the three-way handshake: SYN, SYN-ACK, ACK of the SYN-ACK.
#[derive(Clone, Copy, Default, Debug)]
pub(super) enum Handshake {
    #[default]
    Nothing,
    /// The last SYN.
    Syn { from: Dir, seq: u32, at: Timestamp },
    /// And the SYN-ACK that answers it.
    SynAck { from: Dir, seq: u32, syn_at: Timestamp, at: Timestamp },
    /// And the ACK of that: nanoseconds from SYN to SYN-ACK, and from there to the ACK.
    Done { synack: u64, ack: u64 },
    /// The SYN-ACK was repeated, or came before any SYN: no times.
    Void,
}

impl Handshake {
    #[inline(always)]
    pub(super) fn update(&mut self, tcp: &TcpFacts, dir: Dir, time: Timestamp) {
        let answer = tcp.flags.is_syn_ack();
        if matches!(self, Handshake::Done { .. } | Handshake::Void) && !answer {
            return;
        }
        match *self {
            Handshake::Void => {}
            _ if tcp.flags.intersects(TcpFlags::RST) => {}
            Handshake::Nothing | Handshake::Syn { .. } if tcp.flags.is_syn() => {
                *self = Handshake::Syn { from: dir, seq: tcp.seq, at: time };
            }
            Handshake::Nothing if answer => *self = Handshake::Void,
            Handshake::Nothing => {}
            Handshake::Syn { from, seq, at } => {
                if answer && dir != from && covers(tcp.ack, seq) {
                    *self = Handshake::SynAck { from: dir, seq: tcp.seq, syn_at: at, at: time };
                }
            }
            Handshake::SynAck { from, seq, syn_at, at } => {
                if dir != from && tcp.flags.contains(TcpFlags::ACK) && covers(tcp.ack, seq) {
                    *self = Handshake::Done { synack: at.nanos_since(syn_at), ack: time.nanos_since(at) };
                } else if answer && dir == from {
                    *self = Handshake::Void;
                }
            }
            Handshake::Done { .. } => *self = Handshake::Void,
        }
    }

    pub(super) fn turn(&mut self) {
        if let Handshake::Syn { from, .. } | Handshake::SynAck { from, .. } = self {
            *from = from.flip();
        }
    }

    /// Returns nanoseconds from SYN to SYN-ACK and from there to its ACK, when all three were seen.
    pub(super) fn times(self) -> Option<(u64, u64)> {
        match self {
            Handshake::Done { synack, ack } => Some((synack, ack)),
            _ => None,
        }
    }
}

/// Tells whether an acknowledgement number lies behind a sequence number, modulo 2^32.
#[inline]
fn covers(ack: u32, seq: u32) -> bool {
    ack.wrapping_sub(seq) as i32 > 0
}
