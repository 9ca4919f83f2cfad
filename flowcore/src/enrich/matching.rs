//! Which of the sockets known for a tuple owned an end of a flow (definitions.md, "Attribution").

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::index::SocketIndex;
use super::sighting::{Entry, Sighting, Tuple};
use crate::host::Owner;
use crate::key::{Endpoint, Proto};
use crate::record::{Match, ProcessObject, SightedAs, Unattributed, Who};
use crate::time::Timestamp;

/// An end of a flow, on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowEnd {
    /// The flow's protocol.
    pub proto: Proto,
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// Whether this end opened the flow: then a listening socket has no part in it.
    pub opened: bool,
    /// When the connection began, where that was seen: what was there before, and was not seen since, is another
    /// socket.
    pub begun: Option<Timestamp>,
    /// The flow's first packet.
    pub first: Timestamp,
    /// Its last one.
    pub last: Timestamp,
}

/// Names the owner of an end by what the index knows, and the cookie of its own socket.
pub(super) fn owner(
    index: &SocketIndex,
    end: &FlowEnd,
) -> Result<(ProcessObject, Option<u64>), Unattributed> {
    let has_sockets = matches!(end.proto, Proto::TCP | Proto::UDP | Proto::UDP_LITE);
    if !has_sockets || end.local.port.is_none() || end.remote.port.is_none() {
        return Err(Unattributed::NoSocket);
    }
    let tuple = Tuple::new(index.home(), end.proto, end.local, Some(end.remote));
    let bound = Tuple { remote: None, ..tuple };
    let connected = index.at(&tuple, |entries| Candidates::of(entries, end, is_connected));
    let answers = index.at(&tuple, |entries| Candidates::of(entries, end, is_local));
    let local = index.at(&bound, |entries| Candidates::of(entries, end, is_local));
    let is_listener = if end.opened { is_none } else { is_listener };
    let listening = index.at(&tuple, |entries| Candidates::of(entries, end, is_listener));
    let listener = index.at(&bound, |entries| Candidates::of(entries, end, is_listener).still_there(end));

    let mut user = None;
    let mut reason = None;
    for (nth, candidates) in [connected, answers, local, listening, listener].into_iter().enumerate() {
        // The socket itself is known: that its owner is not leaves no room for another one's.
        let is_it = nth < 2;
        let Some(fit) = candidates.best()? else { continue };
        if fit.is_new(end) && has_predecessor(index, &tuple, &fit, end) {
            return Err(Unattributed::Ambiguous);
        }
        let (age, cookie) = (fit.age_ms(end), fit.own_cookie());
        match fit.owner {
            // It says not which of them took the connection.
            Some(Owner::Process { shared, .. }) if fit.found == Match::Listener && shared > 1 => {
                return Err(Unattributed::Ambiguous);
            }
            Some(Owner::Process { process, shared }) => {
                let owner = ProcessObject::new(Who::Process(process), fit.found, Some(age), shared);
                return Ok((owner, cookie));
            }
            Some(Owner::UidOnly { uid, container_id }) if is_it && end.proto != Proto::TCP => {
                let who = Who::User { uid, container_id };
                return Ok((ProcessObject::new(who, Match::UidOnly, Some(age), 1), cookie));
            }
            Some(Owner::NotPermitted) if is_it => return Err(Unattributed::Eperm),
            Some(Owner::UidOnly { uid, container_id }) => {
                user.get_or_insert((Who::User { uid, container_id }, age, cookie));
            }
            Some(Owner::Ambiguous) => return Err(Unattributed::Ambiguous),
            Some(Owner::NotPermitted) => _ = reason.get_or_insert(Unattributed::Eperm),
            Some(Owner::NoProcess) | None => _ = reason.get_or_insert(Unattributed::NoPid),
        }
    }
    if let Some((who, age, cookie)) = user {
        return Ok((ProcessObject::new(who, Match::UidOnly, Some(age), 1), cookie));
    }
    Err(reason.unwrap_or_else(|| {
        if index.was_refused(&tuple, end.first) {
            Unattributed::QueueFull
        } else if index.is_elsewhere(&tuple) {
            Unattributed::OtherNetns
        } else {
            Unattributed::NoSocket
        }
    }))
}

/// The sockets of one kind that may have owned an end.
struct Candidates {
    /// Those that were there at the flow's first packet.
    at_first: Vec<Fit>,
    /// Those that came later.
    later: Vec<Fit>,
}

/// A socket that may have owned an end.
struct Fit {
    cookie: u64,
    from: Timestamp,
    /// Whether it was seen before the flow's first packet and after it.
    is_certain: bool,
    /// Whether it may have been there at the flow's last packet.
    reaches_last: bool,
    seen: Timestamp,
    /// The first moment at which it was known to answer for the tuple.
    known: Timestamp,
    found: Match,
    owner: Option<Owner>,
}

impl Candidates {
    fn of(entries: &[Entry], end: &FlowEnd, kind: fn(SightedAs) -> bool) -> Self {
        let (mut at_first, mut later) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| kind(entry.is)) {
            if let Some((fit, covers)) = Fit::of(entry, end) {
                if covers { &mut at_first } else { &mut later }.push(fit);
            }
        }
        Candidates { at_first, later }
    }

    /// Leaves out those that were not seen after the flow's first packet: by then others may have joined them.
    fn still_there(mut self, end: &FlowEnd) -> Self {
        self.at_first.retain(|fit| fit.seen >= end.first);
        self
    }

    /// Returns the one socket to be believed; none where there is none.
    ///
    /// Those that were there at the first packet come first. One of which only the end was seen, so that its owner is
    /// not known, leaves the flow to another that was certainly there, or to whichever of them reached its last packet.
    fn best(self) -> Result<Option<Fit>, Unattributed> {
        let mut fits = if self.at_first.is_empty() { self.later } else { self.at_first };
        if fits.iter().any(|fit| fit.owner.is_some()) && fits.iter().any(|fit| fit.owner.is_none()) {
            let is_owned = |fit: &Fit| fit.owner.is_some();
            if fits.iter().any(|fit| is_owned(fit) && fit.is_certain) {
                fits.retain(is_owned);
            } else if fits.iter().any(|fit| fit.reaches_last) {
                fits.retain(|fit| fit.reaches_last);
            }
        }
        let Some(best) = fits.pop() else { return Ok(None) };
        if fits.iter().any(|other| !same_owner(other.owner.as_ref(), best.owner.as_ref())) {
            return Err(Unattributed::Ambiguous);
        }
        // Of one owner's sockets the order of the index must not decide.
        let shared = |fit: &Fit| match fit.owner {
            Some(Owner::Process { shared, .. }) => shared,
            _ => 0,
        };
        Ok(fits.into_iter().chain([best]).min_by_key(|fit| (Reverse(shared(fit)), fit.known, fit.cookie)))
    }
}

impl Fit {
    /// Tells whether a socket may have owned an end, and whether it was there at the first packet.
    fn of(entry: &Entry, end: &FlowEnd) -> Option<(Fit, bool)> {
        let socket: &Sighting = &entry.socket;
        let to = entry.to();
        if to.is_some_and(|to| to < end.first) {
            return None;
        }
        let is_old = socket.was_seen() && socket.seen() < end.first;
        if is_old && end.proto != Proto::TCP {
            // Its end may have been told late, and another socket may have taken its port since.
            let told_late = |to: Timestamp| to.nanos_since(end.first) <= NOTICE_LAG;
            if to.is_some_and(told_late) {
                return None;
            }
        }
        if is_connected(entry.is) && end.begun.is_some_and(|begun| socket.was_seen() && socket.seen() < begun)
        {
            return None;
        }
        // A connected socket answers for its tuple as long as it is there; others, once they were asked.
        let known = match entry.asked {
            Some((_, answered)) if !is_connected(entry.is) => answered,
            _ => socket.from,
        };
        if known > end.last {
            let in_time = if end.proto == Proto::TCP {
                socket.from <= end.first
            } else {
                known.nanos_since(end.last) <= LATE_UDP
            };
            if !in_time {
                return None;
            }
        }
        let begin = entry.asked.map_or(socket.from, |(asked, _)| asked.min(socket.from));
        let found = match entry.is {
            SightedAs::Event => Match::Event,
            SightedAs::Exact if entry.asked.is_none() && to.is_some() => Match::History,
            SightedAs::Exact => Match::Exact,
            SightedAs::Local => Match::Local,
            SightedAs::Listener => Match::Listener,
        };
        let covers = begin <= end.first;
        let fit = Fit {
            cookie: socket.cookie,
            from: socket.from,
            is_certain: covers && socket.was_seen() && socket.seen() >= end.first,
            reaches_last: to.is_none_or(|to| to >= end.last),
            seen: socket.seen(),
            known,
            found,
            owner: socket.owner(),
        };
        Some((fit, covers))
    }

    /// Tells whether a datagram socket was first seen after the flow's first packet: it may be the next one with the port.
    fn is_new(&self, end: &FlowEnd) -> bool {
        end.proto != Proto::TCP && self.from > end.first
    }

    /// Returns the cookie of a socket that serves no other flow.
    fn own_cookie(&self) -> Option<u64> {
        let is_own = matches!(self.found, Match::Event | Match::Exact | Match::History);
        is_own.then_some(self.cookie)
    }

    /// Returns how far the flow's first packet is from the time in which the socket was known.
    fn age_ms(&self, end: &FlowEnd) -> u64 {
        let nanos = self.from.nanos_since(end.first).max(end.first.nanos_since(self.seen));
        nanos / 1_000_000
    }
}

/// Tells whether another socket of the same port went away between the flow's first packet and the answer.
fn has_predecessor(index: &SocketIndex, tuple: &Tuple, fit: &Fit, end: &FlowEnd) -> bool {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let places = [tuple.local.addr].into_iter().chain(any).map(|addr| Tuple {
        local: Endpoint { addr, ..tuple.local },
        remote: None,
        ..*tuple
    });
    places.chain([*tuple]).any(|place| {
        index.at(&place, |entries| {
            entries.iter().any(|other| {
                let until = fit.from.saturating_add_nanos(NOTICE_LAG);
                let ended = other.socket.to().is_some_and(|to| (end.first..=until).contains(&to));
                other.socket.cookie != fit.cookie && ended
            })
        })
    })
}

fn same_owner(a: Option<&Owner>, b: Option<&Owner>) -> bool {
    match (a, b) {
        (Some(Owner::Process { process: a, .. }), Some(Owner::Process { process: b, .. })) => {
            (a.pid, a.started) == (b.pid, b.started)
        }
        (a, b) => a == b,
    }
}

fn is_connected(is: SightedAs) -> bool {
    matches!(is, SightedAs::Event | SightedAs::Exact)
}

fn is_local(is: SightedAs) -> bool {
    is == SightedAs::Local
}

fn is_listener(is: SightedAs) -> bool {
    is == SightedAs::Listener
}

fn is_none(_: SightedAs) -> bool {
    false
}

/// How long after a flow's last packet an answer still counts that concerns datagrams.
const LATE_UDP: u64 = 1_000_000_000;
/// How much later than a socket's end its notice may come.
const NOTICE_LAG: u64 = 100_000_000;
