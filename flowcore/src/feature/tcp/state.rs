//! The states of a connection's two ends, and the word that sums them up.

use crate::packet::TcpFlags;

/// How far one side of a connection has come.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum SideState {
    /// Sent nothing that counts.
    #[default]
    Inactive,
    SynSent,
    /// Sent a SYN-ACK while no SYN was seen.
    SynAckSent,
    Established,
    /// Sent data or an ACK first.
    Partial,
    /// Sent FIN.
    Closed,
    /// Sent RST.
    Reset,
    /// Sent FIN, and then RST before the other side's FIN.
    ResetAfterFin,
}

use SideState::{Closed, Established, Inactive, Partial, Reset, ResetAfterFin, SynAckSent, SynSent};

impl SideState {
    pub(super) fn is_reset(self) -> bool {
        matches!(self, Reset | ResetAfterFin)
    }

    fn is_half(self) -> bool {
        matches!(self, Inactive | Partial)
    }
}

/// Takes a packet of side `at` into account.
///
/// No rule looks at which side is `src`, so a flow that turns round has the states that it would have
/// had from the start.
#[inline(always)]
pub(super) fn advance(states: &mut [SideState; 2], at: usize, flags: TcpFlags, payload: bool) {
    let (syn, ack) = (flags.contains(TcpFlags::SYN), flags.contains(TcpFlags::ACK));
    let (fin, rst) = (flags.contains(TcpFlags::FIN), flags.contains(TcpFlags::RST));
    let (me, peer) = (states[at & 1], states[!at & 1]);
    let (mut mine, mut theirs) = (me, peer);
    match me {
        Inactive => {
            if syn {
                (mine, theirs) = match (peer, ack) {
                    (SynSent, _) | (SynAckSent, false) => (Established, Established),
                    (Inactive, true) => (SynAckSent, peer),
                    (_, true) | (Established, false) => (Established, peer),
                    (_, false) => (SynSent, peer),
                };
            } else if !fin && !rst {
                (mine, theirs) = match peer {
                    // Some stacks acknowledge a SYN before they answer it.
                    SynSent if !payload => (me, peer),
                    Established | SynAckSent if ack => (Established, Established),
                    _ => (Partial, peer),
                };
            }
            if fin {
                mine = Closed;
            }
            if rst {
                mine = Reset;
            }
        }
        _ if rst => match me {
            SynSent | SynAckSent | Established | Partial => mine = Reset,
            Closed if peer != Closed => mine = ResetAfterFin,
            _ => {}
        },
        SynSent | SynAckSent if fin => mine = Closed,
        Established | Partial if fin => {
            mine = Closed;
            if peer == ResetAfterFin {
                theirs = Closed;
            }
        }
        Partial if syn && !ack && peer == Inactive => mine = SynSent,
        _ => {}
    }
    (states[at & 1], states[!at & 1]) = (mine, theirs);
}

/// Returns Zeek's conn_state; `payload` says that the flow carried some, `aborted_attempt` that its
/// history matches `^\^?S[^HAFGIQ]*R`.
pub(super) fn conn_state([src, dst]: [SideState; 2], payload: bool, aborted_attempt: bool) -> &'static str {
    let either = |first, word, other| if first { word } else { other };
    match (src, dst) {
        (SynSent | SynAckSent, _) if dst.is_reset() => "REJ",
        _ if src.is_reset() && dst.is_reset() && !payload => "REJ",
        _ if dst.is_reset() => either(src.is_half(), "RSTRH", "RSTR"),
        _ if src.is_reset() && !dst.is_half() => "RSTO",
        _ if src.is_reset() => either(aborted_attempt, "RSTOS0", "OTH"),
        (Closed, Closed) => "SF",
        (Closed, _) => either(dst.is_half(), "SH", "S2"),
        (_, Closed) => either(src.is_half(), "SHR", "S3"),
        (SynSent, Inactive) => "S0",
        (Established, Established) => "S1",
        _ => "OTH",
    }
}
