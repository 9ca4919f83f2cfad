//! A socket as it was seen, and the tuples that it answered for.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::host::{Owner, Query, Socket, SocketKind, SocketState};
use crate::key::{Endpoint, Proto};
use crate::record::{SightedAs, SightedSocket};
use crate::time::Timestamp;

/// What the index finds sockets by: the ends as the machine sees them, IPv4-mapped addresses as IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// The inode of the network namespace; 0 where there is but one.
    pub netns: u64,
    /// TCP, UDP or UDP-Lite.
    pub proto: Proto,
    /// The end on this machine.
    pub local: Endpoint,
    /// The other end; none for what a socket without one is bound to.
    pub remote: Option<Endpoint>,
}

impl Tuple {
    /// Makes a tuple.
    pub fn new(netns: u64, proto: Proto, local: Endpoint, remote: Option<Endpoint>) -> Self {
        Tuple { netns, proto, local: canonical(local), remote: remote.map(canonical) }
    }

    /// Makes the tuple that was asked for.
    pub(super) fn of_query(netns: u64, query: &Query) -> Self {
        Tuple::new(netns, query.proto, query.local, Some(query.remote))
    }

    /// Makes a socket's own tuple; none for sockets that flows do not end at.
    pub(super) fn of_socket(home: u64, socket: &Socket) -> Option<Self> {
        let proto = match socket.kind {
            SocketKind::Tcp => Proto::TCP,
            SocketKind::Udp => Proto::UDP,
            SocketKind::UdpLite => Proto::UDP_LITE,
            SocketKind::Raw(_) | SocketKind::Ping | SocketKind::Rdma => return None,
        };
        // Where either is not known there is but one.
        let netns = if socket.netns == 0 || home == 0 { home } else { socket.netns };
        Some(Tuple::new(netns, proto, socket.local, socket.remote))
    }
}

/// A socket, and what is known of its life. Shared by all tuples that it answered for.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) cookie: u64,
    /// Where it is found itself.
    pub(super) own: Tuple,
    /// The first time at which it was known to be there; the earliest of times where only its end was seen.
    pub(super) from: Timestamp,
    seen: AtomicI64,
    /// [`ALIVE`] while it is.
    to: AtomicI64,
    /// The first time at which it was known to be gone.
    absent: AtomicI64,
    /// The owner, and when it was found.
    owner: RwLock<Option<(Owner, Timestamp)>>,
}

/// A socket at a tuple.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) is: SightedAs,
    /// The packet that it was first looked up for, and when the answer came.
    pub(super) asked: Option<(Timestamp, Timestamp)>,
    /// When it last answered for the tuple.
    pub(super) latest: Timestamp,
    /// Another socket has answered since.
    pub(super) replaced: bool,
    pub(super) socket: Arc<Sighting>,
}

impl Sighting {
    pub(super) fn new(
        cookie: u64,
        own: Tuple,
        from: Timestamp,
        seen: Timestamp,
        owner: Option<Owner>,
    ) -> Self {
        Sighting {
            cookie,
            own,
            from,
            seen: AtomicI64::new(seen.as_nanos()),
            to: AtomicI64::new(ALIVE),
            absent: AtomicI64::new(ALIVE),
            owner: RwLock::new(owner.map(|owner| (owner, seen))),
        }
    }

    /// Tells whether it was ever seen, and not its end only.
    pub(super) fn was_seen(&self) -> bool {
        self.from != Timestamp::MIN
    }

    /// The last time at which it was seen to be there; the earliest of times where only its end was seen.
    pub(super) fn seen(&self) -> Timestamp {
        Timestamp::from_nanos(self.seen.load(Ordering::Acquire))
    }

    /// When it was gone.
    pub(super) fn to(&self) -> Option<Timestamp> {
        let to = self.to.load(Ordering::Acquire);
        (to != ALIVE).then(|| Timestamp::from_nanos(to))
    }

    pub(super) fn owner(&self) -> Option<Owner> {
        let held = self.owner.read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|(owner, _)| owner.clone())
    }

    /// Tells whether its owner is known to be a process, and was found since a time.
    pub(super) fn has_process(&self, since: Timestamp) -> bool {
        let held = self.owner.read().unwrap_or_else(PoisonError::into_inner);
        matches!(*held, Some((Owner::Process { .. }, found)) if found >= since)
    }

    /// Takes note that it is there. Numbers are used but once: if its end was assumed, that was wrong.
    pub(super) fn see(&self, now: Timestamp) {
        self.seen.fetch_max(now.as_nanos(), Ordering::AcqRel);
        self.to.store(ALIVE, Ordering::Release);
        self.absent.store(ALIVE, Ordering::Release);
    }

    /// Takes note of its end, as it was told or is assumed: not before it was last seen, and not after it was known to
    /// be gone.
    pub(super) fn end(&self, at: Timestamp) {
        let latest = self.absent.load(Ordering::Acquire).min(ALIVE - 1);
        let to = at.as_nanos().min(latest).max(self.seen().as_nanos());
        self.to.store(to, Ordering::Release);
    }

    /// Takes note that it was gone by a time: what told a later end was late.
    pub(super) fn is_absent(&self, by: Timestamp) {
        self.absent.fetch_min(by.as_nanos(), Ordering::AcqRel);
        if let Some(to) = self.to() {
            self.end(to);
        }
    }

    /// Takes an owner that was found now, unless it says less than what is known: a socket may have gone to another
    /// process, or to several, but a process that was named does not become unknown.
    pub(super) fn own(&self, owner: Owner, now: Timestamp) {
        let mut held = self.owner.write().unwrap_or_else(PoisonError::into_inner);
        let rank = |owner: &Owner| match owner {
            Owner::Process { .. } | Owner::Ambiguous => 2,
            Owner::UidOnly { .. } => 1,
            Owner::NoProcess | Owner::NotPermitted => 0,
        };
        if held.as_ref().is_none_or(|(held, _)| rank(held) <= rank(&owner)) {
            *held = Some((owner, now));
        }
    }
}

impl Entry {
    /// The end of the time in which this socket may have answered for the tuple.
    pub(super) fn to(&self) -> Option<Timestamp> {
        let replaced = self.replaced.then_some(self.latest);
        match (self.socket.to(), replaced) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Returns what is written of it.
    pub(super) fn record(&self, tuple: &Tuple, home: u64) -> SightedSocket {
        let to = self.to();
        SightedSocket {
            netns: if tuple.netns == home { 0 } else { tuple.netns },
            proto: tuple.proto,
            local: tuple.local,
            remote: tuple.remote,
            is: self.is,
            cookie: self.socket.cookie,
            asked: self.asked.map(|(asked, _)| asked),
            answered: self.asked.map(|(_, answered)| answered),
            valid_from: self.socket.from,
            seen: to.filter(|_| !self.socket.was_seen()).unwrap_or(self.socket.seen()),
            valid_to: to,
            owner: self.socket.owner(),
        }
    }
}

/// Returns what a socket is to a tuple that it was found by; none where it has another remote end.
pub(super) fn relation(tuple: &Tuple, socket: &Socket) -> Option<SightedAs> {
    match socket.remote.map(canonical) {
        _ if socket.state == SocketState::Listen => Some(SightedAs::Listener),
        None if socket.kind == SocketKind::Tcp => Some(SightedAs::Listener),
        None => Some(SightedAs::Local),
        remote if remote == tuple.remote && canonical(socket.local) == tuple.local => Some(SightedAs::Exact),
        Some(_) => None,
    }
}

/// Returns the number that a socket is known by: its cookie, or its inode, marked as such; 0 where it has neither.
pub(super) fn number(socket: &Socket) -> u64 {
    match (socket.cookie, socket.inode) {
        (0, 0) => 0,
        (0, inode) => inode | INODE,
        (cookie, _) => cookie,
    }
}

fn canonical(end: Endpoint) -> Endpoint {
    Endpoint { addr: end.addr.to_canonical(), port: end.port }
}

const ALIVE: i64 = i64::MAX;
/// Beyond all cookies that a machine comes to, and below 2^53.
const INODE: u64 = 1 << 52;
/// Marks the number of a listener as it stands by for one connection.
pub(super) const STANDS_BY: u64 = 1 << 51;
