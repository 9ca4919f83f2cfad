//! One connection: what each of its segments says about where it stands.

use super::{ConnectionOptions, Happened};
use crate::key::End;
use crate::packet::{TcpFacts, TcpFlags};
use crate::time::Timestamp;

/// A connection and its two ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    phase: Phase,
    /// Who sent the first SYN; without a handshake that is not known and means nothing.
    initiator: End,
    ends: [Half; 2],
    /// A SYN of another connection between the same ends, not answered yet: who sent it, its sequence number.
    again: Option<(End, u32)>,
    /// When it was first seen or told of.
    since: Timestamp,
    /// When it ended.
    over: Option<Timestamp>,
    /// The time of its last segment.
    last: Timestamp,
    /// When it is looked at again, as the table has it.
    pub(super) alarm: Option<(Timestamp, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Only the kernel has told of it.
    Unseen,
    /// A SYN was sent.
    Asked,
    /// It was answered.
    Answered,
    /// The handshake is complete, or there are segments without one.
    Open,
    /// It is closed, or has failed.
    Over,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    /// It is on this machine.
    is_local: bool,
    /// It has sent a SYN of its own accord.
    asked: bool,
    /// It has sent a SYN that acknowledges the other's.
    answered: bool,
    /// It has sent a segment that belongs to an open connection.
    spoke: bool,
    /// Its Established or Accepted was handed out.
    opened: bool,
    /// Its Closed or Failed was handed out.
    closed: bool,
    /// The sequence number of its SYN.
    isn: Option<u32>,
    /// The sequence number behind its FIN.
    fin: Option<u32>,
    /// Its FIN was acknowledged.
    is_finished: bool,
    /// The number of its socket, as the kernel told.
    cookie: Option<u64>,
    /// The number of the socket that it had in the connection before.
    before: Option<u64>,
}

/// Which socket of an end the kernel speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// Its own, as far as is known.
    Own,
    /// That of a connection that is over.
    Before,
    /// Another one: that of the next connection.
    Next,
    /// Another one, while its own is open.
    Unknown,
}

/// What a segment changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Nothing,
    /// The handshake is complete.
    Opened,
    /// There will be no connection.
    Failed,
    /// The connection is over.
    Closed,
    /// It is over unseen, and another one has begun between the same ends.
    Renewed(Beginning),
}

/// How a connection begins: by a SYN, and maybe its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Beginning {
    initiator: End,
    isn: u32,
    answer: Option<u32>,
    time: Timestamp,
}

impl Connection {
    /// Makes a connection of the first segment that is seen of it, which [`Connection::segment`] then takes; none
    /// where a connection cannot begin with it.
    pub(super) fn first(sender: End, tcp: &TcpFacts, locals: [bool; 2], time: Timestamp) -> Option<Self> {
        let is_reset = tcp.flags.contains(TcpFlags::RST);
        let is_nothing = !tcp.flags.intersects(TcpFlags::SYN | TcpFlags::ACK);
        if is_reset || is_nothing {
            return None;
        }
        let mut made = Connection::unseen(locals, time);
        made.initiator = if tcp.flags.is_syn_ack() { sender.other() } else { sender };
        Some(made)
    }

    /// Makes a connection of which no packet was seen.
    pub(super) fn unseen(locals: [bool; 2], time: Timestamp) -> Self {
        let [low, high] = locals.map(|is_local| Half { is_local, ..Half::default() });
        Connection {
            phase: Phase::Unseen,
            initiator: End::Low,
            ends: [low, high],
            again: None,
            since: time,
            over: None,
            last: time,
            alarm: None,
        }
    }

    /// Tells whether no segment of it was seen yet.
    pub(super) fn is_unseen(&self) -> bool {
        self.phase == Phase::Unseen
    }

    /// When it was first seen or told of.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    /// Takes note of which ends are on this machine.
    pub(super) fn meet(&mut self, locals: [bool; 2]) {
        for (end, is_local) in self.ends.iter_mut().zip(locals) {
            end.is_local |= is_local;
        }
    }

    /// Takes a segment.
    pub(super) fn segment(&mut self, sender: End, tcp: &TcpFacts, payload_len: u64, time: Timestamp) -> Step {
        let known_until = self.over.unwrap_or(self.last);
        self.last = self.last.max(time);
        if tcp.flags.contains(TcpFlags::RST) {
            self.reset(sender, tcp, time)
        } else if tcp.flags.is_syn() {
            self.syn(sender, tcp.seq, time, known_until)
        } else if tcp.flags.is_syn_ack() {
            self.syn_ack(sender, tcp, time)
        } else if tcp.flags.contains(TcpFlags::ACK) {
            self.plain(sender, tcp, payload_len, time)
        } else {
            // No connection has such segments; scanners send them.
            Step::Nothing
        }
    }

    /// `known_until` is when the connection ended, or when it was last heard of before this.
    fn syn(&mut self, sender: End, seq: u32, time: Timestamp, known_until: Timestamp) -> Step {
        let begins_anew = Step::Renewed(Beginning { initiator: sender, isn: seq, answer: None, time });
        let is_known = self.half(sender).isn == Some(seq);
        match self.phase {
            // What the kernel said may overtake the packets.
            Phase::Unseen if time <= known_until => {
                (self.phase, self.initiator) = (Phase::Asked, sender);
                self.asks(sender, seq);
                Step::Nothing
            }
            Phase::Unseen => begins_anew,
            _ if is_known => Step::Nothing,
            _ if self.over.is_some() => begins_anew,
            Phase::Asked | Phase::Answered if sender != self.initiator && self.half(sender).isn.is_none() => {
                // Both open at the same time (RFC 9293, 3.5).
                self.asks(sender, seq);
                Step::Nothing
            }
            // This machine has forgotten the old connection, or it would not open another one.
            Phase::Open if !self.half(sender).is_local => {
                self.again = Some((sender, seq));
                Step::Nothing
            }
            _ => begins_anew,
        }
    }

    fn syn_ack(&mut self, sender: End, tcp: &TcpFacts, time: Timestamp) -> Step {
        let asker = sender.other();
        let answers = |isn: u32| is_answer(tcp.ack, isn);
        let begins_anew =
            |isn| Step::Renewed(Beginning { initiator: asker, isn, answer: Some(tcp.seq), time });
        match (self.phase, self.half(asker).isn, self.again) {
            (Phase::Unseen, ..) => {
                // Its SYN was not seen.
                (self.phase, self.initiator) = (Phase::Answered, asker);
                self.half_mut(asker).isn = Some(tcp.ack.wrapping_sub(1));
                self.answers(sender, tcp.seq);
                Step::Nothing
            }
            (Phase::Asked | Phase::Answered, Some(isn), _) if answers(isn) => {
                self.phase = Phase::Answered;
                self.answers(sender, tcp.seq);
                if self.half(asker).answered { self.opens() } else { Step::Nothing }
            }
            (Phase::Open, _, Some((end, isn))) if end == asker && answers(isn) => begins_anew(isn),
            (Phase::Over, Some(isn), _) if !answers(isn) => begins_anew(tcp.ack.wrapping_sub(1)),
            _ => Step::Nothing,
        }
    }

    /// A segment with ACK and without SYN or RST.
    fn plain(&mut self, sender: End, tcp: &TcpFacts, payload_len: u64, time: Timestamp) -> Step {
        let other = sender.other();
        let is_initiator = sender == self.initiator;
        let follows = |isn: Option<u32>, number: u32| isn.is_none_or(|isn| is_behind(number, isn));
        let mut step = Step::Nothing;
        match self.phase {
            Phase::Unseen => self.phase = Phase::Open,
            // The answer was not seen, or both have asked. The one who was asked may also answer for a connection that
            // only it remembers: that is no beginning.
            Phase::Asked if !is_initiator && !self.half(sender).asked => return Step::Nothing,
            Phase::Asked if follows(self.half(sender).isn, tcp.seq) => step = self.opens(),
            Phase::Answered if is_initiator && !follows(self.half(other).isn, tcp.ack) => {
                return Step::Nothing;
            }
            Phase::Answered => step = self.opens(),
            Phase::Open => {}
            Phase::Asked | Phase::Over => return Step::Nothing,
        }
        let half = self.half_mut(sender);
        half.spoke = true;
        if tcp.flags.contains(TcpFlags::FIN) {
            half.fin = Some(tcp.seq.wrapping_add(payload_len as u32).wrapping_add(1));
        }
        let half = self.half_mut(other);
        half.is_finished |= half.fin.is_some_and(|fin| fin == tcp.ack || is_behind(tcp.ack, fin));
        if self.ends.iter().all(|end| end.is_finished) { self.ends_as(Step::Closed, time) } else { step }
    }

    fn reset(&mut self, sender: End, tcp: &TcpFacts, time: Timestamp) -> Step {
        let has_ack = tcp.flags.contains(TcpFlags::ACK);
        match self.phase {
            // An answer to something old: the SYN will come again (RFC 9293, 3.5.1).
            Phase::Asked if self.half(sender).asked => Step::Nothing,
            // A reset counts only if it answers the SYN (RFC 9293, 3.10.7.3).
            Phase::Asked
                if has_ack && self.half(sender.other()).isn.is_some_and(|isn| is_answer(tcp.ack, isn)) =>
            {
                self.ends_as(Step::Failed, time)
            }
            Phase::Answered => self.ends_as(Step::Failed, time),
            Phase::Open => self.ends_as(Step::Closed, time),
            Phase::Unseen if self.over.is_none() => self.ends_as(Step::Closed, time),
            Phase::Asked | Phase::Unseen | Phase::Over => Step::Nothing,
        }
    }

    /// Takes an ICMP error that quotes a segment of this connection.
    pub(super) fn unreachable(&mut self, sender: End, seq: u32, time: Timestamp) -> Step {
        let half = self.half(sender);
        if self.phase == Phase::Asked && half.asked && half.isn == Some(seq) {
            self.ends_as(Step::Failed, time)
        } else {
            Step::Nothing
        }
    }

    /// Returns what a step means for an end, once.
    pub(super) fn happened(&mut self, end: End, step: &Step) -> Option<Happened> {
        if !self.half(end).is_local {
            return None;
        }
        match step {
            Step::Nothing => None,
            Step::Opened => self.open(end, end != self.initiator && !self.half(end).asked),
            Step::Failed | Step::Closed | Step::Renewed(_) => self.ended(end),
        }
    }

    /// Tells which socket of an end has this number; `opens` is whether it is open now.
    pub(super) fn whose(&mut self, end: End, cookie: Option<u64>, opens: bool) -> Whose {
        let half = self.half_mut(end);
        match (cookie, half.cookie) {
            (None, _) => Whose::Own,
            (Some(_), _) if cookie == half.before => Whose::Before,
            (Some(_), None) => {
                half.cookie = cookie;
                Whose::Own
            }
            (Some(told), Some(own)) if told == own => Whose::Own,
            _ if opens || half.closed => Whose::Next,
            _ => Whose::Unknown,
        }
    }

    /// Returns the number of an end's socket, where the kernel told it.
    pub(super) fn cookie(&self, end: End) -> Option<u64> {
        self.half(end).cookie
    }

    /// Takes note of a socket that an end had before.
    pub(super) fn passes_over(&mut self, end: End, cookie: Option<u64>) {
        self.half_mut(end).before = cookie;
    }

    /// Takes note that the kernel has the socket of an end open.
    pub(super) fn is_open(&mut self, end: End, incoming: bool, time: Timestamp) -> Option<Happened> {
        self.last = self.last.max(time);
        if self.half(end).closed { None } else { self.open(end, incoming) }
    }

    /// Hands out that an end is open, once.
    ///
    /// `incoming` is what is believed of who began; where the SYN was seen, that counts.
    fn open(&mut self, end: End, incoming: bool) -> Option<Happened> {
        let incoming = if self.ends.iter().any(|end| end.asked) { !self.half(end).asked } else { incoming };
        let half = self.half_mut(end);
        if half.opened {
            return None;
        }
        half.opened = true;
        Some(if incoming { Happened::Accepted } else { Happened::Established })
    }

    /// Takes note that the socket of an end is gone; `failed` is whether it was never connected, where that is known.
    pub(super) fn close(&mut self, end: End, failed: Option<bool>, time: Timestamp) -> Option<Happened> {
        let half = *self.half(end);
        if half.closed {
            return None;
        }
        let is_attempt = matches!(self.phase, Phase::Asked | Phase::Answered) && half.asked;
        let failed = !half.opened && failed.unwrap_or(is_attempt);
        self.half_mut(end).closed = true;
        if self.ends.iter().all(|end| end.closed || !end.is_local) {
            self.over = Some(self.over.unwrap_or(time));
        }
        Some(if failed { Happened::Failed } else { Happened::Closed })
    }

    /// Returns the end of a connection or attempt as it is to be told for an end.
    fn ended(&mut self, end: End) -> Option<Happened> {
        let half = self.half_mut(end);
        let happened = if half.opened || half.spoke {
            Happened::Closed
        } else if half.asked {
            Happened::Failed
        } else {
            // Its process never knew of it: an attempt of the other end, or a probe.
            return None;
        };
        let is_new = !half.closed;
        half.closed = true;
        is_new.then_some(happened)
    }

    /// Becomes another connection between the same ends.
    pub(super) fn renew(&mut self, next: Beginning) {
        self.renew_unseen(next.time);
        self.initiator = next.initiator;
        self.phase = if next.answer.is_some() { Phase::Answered } else { Phase::Asked };
        self.asks(next.initiator, next.isn);
        if let Some(answer) = next.answer {
            self.answers(next.initiator.other(), answer);
        }
    }

    /// Becomes another connection between the same ends, of which no packet was seen.
    pub(super) fn renew_unseen(&mut self, time: Timestamp) {
        let ends = self.ends.map(|end| Half {
            is_local: end.is_local,
            before: end.cookie.or(end.before),
            ..Half::default()
        });
        *self = Connection { alarm: self.alarm, ends, ..Connection::unseen([false; 2], time) };
    }

    /// Returns when it is to be given up or forgotten.
    pub(super) fn due(&self, options: &ConnectionOptions) -> Timestamp {
        let (from, wait) = match (self.over, self.phase) {
            (Some(over), _) => (over, options.remembered),
            (None, Phase::Asked | Phase::Answered) => (self.last, options.unanswered),
            (None, _) => (self.last, options.idle),
        };
        from.saturating_add_nanos(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Gives up an attempt that is due; tells whether it was one, or all is over and may be forgotten.
    pub(super) fn give_up(&mut self, time: Timestamp) -> bool {
        let is_attempt = self.over.is_none() && matches!(self.phase, Phase::Asked | Phase::Answered);
        if is_attempt {
            self.ends_as(Step::Failed, time);
        }
        is_attempt
    }

    fn asks(&mut self, end: End, seq: u32) {
        let half = self.half_mut(end);
        (half.asked, half.isn) = (true, Some(seq));
    }

    fn answers(&mut self, end: End, seq: u32) {
        let half = self.half_mut(end);
        (half.answered, half.isn) = (true, Some(seq));
    }

    fn opens(&mut self) -> Step {
        self.phase = Phase::Open;
        Step::Opened
    }

    fn ends_as(&mut self, step: Step, time: Timestamp) -> Step {
        self.phase = Phase::Over;
        self.over = Some(self.over.unwrap_or(time));
        step
    }

    const fn half(&self, end: End) -> &Half {
        let [low, high] = &self.ends;
        match end {
            End::Low => low,
            End::High => high,
        }
    }

    const fn half_mut(&mut self, end: End) -> &mut Half {
        let [low, high] = &mut self.ends;
        match end {
            End::Low => low,
            End::High => high,
        }
    }
}

/// Tells whether an acknowledgement answers the SYN with this sequence number; its data (RFC 7413) may be part of it.
const fn is_answer(ack: u32, isn: u32) -> bool {
    ack.wrapping_sub(isn).wrapping_sub(1) <= 0xFFFF
}

/// Tells whether a sequence number lies behind another one.
const fn is_behind(number: u32, other: u32) -> bool {
    let distance = number.wrapping_sub(other);
    distance != 0 && distance < 1 << 31
}
