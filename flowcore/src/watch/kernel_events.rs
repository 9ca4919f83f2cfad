//! The same events from what the kernel tells: sockets that are gone, and what changed between two snapshots.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::connections::{ConnectionEvent, Connections, Source, Told};
use crate::host::{Socket, SocketKind, SocketState};
use crate::key::Endpoint;
use crate::time::Timestamp;

/// The notice that a TCP socket is gone.
///
/// The kernel gives it when the last segment of a closed socket is answered or the socket enters TIME_WAIT; where a
/// process still holds a socket whose connection is over, not before the process closes it. Its state is always
/// closed, and says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Its local end.
    pub local: Endpoint,
    /// The other end. A refused attempt and a connection that was reset from here have lost it, or its port.
    pub remote: Option<Endpoint>,
    /// The kernel's number of the socket, 0 where it is not known.
    pub cookie: u64,
    /// What it counted.
    pub counted: Option<Counted>,
    /// When the notice came.
    pub time: Timestamp,
}

/// What a TCP socket counted (`struct tcp_info`), as far as it tells whether there was a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Bytes sent and acknowledged; a SYN that was acknowledged is one.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Segments sent; the answer to a SYN is not among them.
    pub segments_out: u32,
    /// Segments sent that had payload.
    pub data_segments_out: u32,
    /// Segments received.
    pub segments_in: u32,
}

impl Counted {
    /// Tells whether there was never a connection: SYNs went out, and nothing came back but a reset.
    pub const fn is_attempt(&self) -> bool {
        self.bytes_acked == 0
            && self.bytes_received == 0
            && self.segments_out > 0
            && self.data_segments_out == 0
            && self.segments_in <= 1
    }
}

/// Turns what the kernel tells into events of the same [`Connections`] that take the packets, so that nothing is
/// handed out twice: of packet, notice and snapshot, what comes first counts.
///
/// Snapshots miss what is opened and closed between two of them, and take a local port that has a listener as the sign
/// of an accepted connection.
#[derive(Clone, Debug, Default)]
pub struct KernelEvents {
    /// The connections and attempts of the last snapshot, and which snapshot that was.
    seen: HashMap<Identity, Seen>,
    snapshots: u64,
    nameless: u64,
}

/// What makes a socket the same in two snapshots: its cookie, or ends and inode where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Identity {
    Cookie(u64),
    Ends(Endpoint, Endpoint, u64),
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    local: Endpoint,
    remote: Endpoint,
    cookie: Option<u64>,
    /// It had sent a SYN and no more.
    is_attempt: bool,
    snapshot: u64,
}

impl KernelEvents {
    /// Makes one that has seen no snapshot.
    pub fn new() -> Self {
        KernelEvents::default()
    }

    /// Takes a snapshot of all sockets, of the time `time`, and hands out what happened since the one before. What the
    /// first one holds was there before.
    pub fn snapshot(
        &mut self,
        sockets: &[Socket],
        time: Timestamp,
        connections: &mut Connections,
        out: &mut impl FnMut(ConnectionEvent),
    ) {
        self.snapshots += 1;
        let listeners = Listeners::among(sockets);
        for (identity, now) in sockets.iter().filter_map(|socket| Seen::of(socket, self.snapshots)) {
            let before = self.seen.get(&identity);
            let was_attempt = before.is_some_and(|before| before.is_attempt);
            let is_new = before.is_none() || was_attempt;
            if self.snapshots > 1 && is_new && !now.is_attempt {
                let incoming = !was_attempt && listeners.accept(now.local);
                connections.opened(&now.told(time, Source::Snapshot), incoming, out);
            }
            self.seen.insert(identity, now);
        }
        let mut gone: Vec<Seen> =
            self.seen.extract_if(|_, seen| seen.snapshot != self.snapshots).map(|(_, seen)| seen).collect();
        gone.sort_by_key(|seen| (seen.local, seen.remote));
        for seen in gone {
            connections.gone(&seen.told(time, Source::Snapshot), Some(seen.is_attempt), out);
        }
    }

    /// Takes the notice that a TCP socket is gone.
    pub fn gone(
        &mut self,
        gone: &Gone,
        connections: &mut Connections,
        out: &mut impl FnMut(ConnectionEvent),
    ) {
        let cookie = Some(gone.cookie).filter(|cookie| *cookie != 0);
        let seen = cookie.and_then(|cookie| self.seen.remove(&Identity::Cookie(cookie)));
        let whole = gone.remote.filter(|remote| remote.port.is_some_and(|port| port != 0));
        let ends = match (whole, seen) {
            (Some(remote), _) => (canonical(gone.local), canonical(remote)),
            (None, Some(seen)) => (seen.local, seen.remote),
            (None, None) => {
                self.nameless += 1;
                return;
            }
        };
        let failed = match (seen, whole.and(gone.counted)) {
            (Some(Seen { is_attempt: false, .. }), _) => Some(false),
            // A socket that has lost its other end has lost its counts as well.
            (_, Some(counted)) => Some(counted.is_attempt()),
            (seen, None) => seen.map(|seen| seen.is_attempt),
        };
        let told = Told { local: ends.0, remote: ends.1, time: gone.time, source: Source::Kernel, cookie };
        connections.gone(&told, failed, out);
    }

    /// Returns how many notices did not say which connection it was: listeners, and sockets whose connection had been
    /// dissolved before, where no snapshot had seen them.
    pub fn nameless(&self) -> u64 {
        self.nameless
    }
}

impl Seen {
    /// Takes a socket that is a connection or an attempt to get one.
    fn of(socket: &Socket, snapshot: u64) -> Option<(Identity, Seen)> {
        let is_attempt = match (socket.kind, socket.state) {
            (SocketKind::Tcp, SocketState::SynSent) => true,
            // The kernel's record of a SYN is no socket yet, and that of TIME_WAIT none any more.
            (_, SocketState::SynReceived | SocketState::TimeWait) => return None,
            (_, SocketState::Listen | SocketState::Unconnected) => return None,
            (SocketKind::Tcp, _) => false,
            _ => return None,
        };
        let (local, remote) = (canonical(socket.local), canonical(socket.remote?));
        let cookie = Some(socket.cookie).filter(|cookie| *cookie != 0);
        let identity = cookie.map_or(Identity::Ends(local, remote, socket.inode), Identity::Cookie);
        Some((identity, Seen { local, remote, cookie, is_attempt, snapshot }))
    }

    fn told(&self, time: Timestamp, source: Source) -> Told {
        Told { local: self.local, remote: self.remote, time, source, cookie: self.cookie }
    }
}

/// The ends at which connections are accepted.
struct Listeners(HashSet<Endpoint>);

impl Listeners {
    fn among(sockets: &[Socket]) -> Self {
        let listening = sockets
            .iter()
            .filter(|socket| (socket.kind, socket.state) == (SocketKind::Tcp, SocketState::Listen));
        Listeners(listening.map(|socket| canonical(socket.local)).collect())
    }

    /// Tells whether one of them is at this end, or at all ends with its port. One of IPv6 may take IPv4 too.
    fn accept(&self, local: Endpoint) -> bool {
        let any_of_its_version = if local.addr.is_ipv4() { ANY_V4 } else { ANY_V6 };
        [local.addr, any_of_its_version, ANY_V6]
            .into_iter()
            .any(|addr| self.0.contains(&Endpoint { addr, ..local }))
    }
}

/// Writes a mapped IPv4 address as what it is on the wire.
fn canonical(end: Endpoint) -> Endpoint {
    Endpoint { addr: end.addr.to_canonical(), ..end }
}

const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
