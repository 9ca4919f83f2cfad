//! Asks the machine for sockets and their owners, and writes the answers into the index.

use std::io;
use std::time::Duration;

use super::index::{IndexWriter, SocketIndex};
use super::sighting::{self, Tuple};
use crate::host::{Owner, ProcessTable, Query, Socket, SocketState, SocketTable};
use crate::key::Proto;
use crate::record::SightedAs;
use crate::time::Timestamp;

/// Looks up sockets and owners.
pub struct Resolver<S, P> {
    sockets: S,
    processes: P,
    writer: IndexWriter,
    clock: fn() -> Timestamp,
    listed: Vec<Socket>,
}

/// What came of a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The socket that serves the flow is in the index.
    Settled,
    /// Only the listening socket answers yet, or no process has accepted the connection; ask again.
    Provisional,
    /// The connection's own socket answered, and was gone before its process was found.
    Unowned,
    /// No socket answers.
    Nobody,
}

impl<S: SocketTable, P: ProcessTable> Resolver<S, P> {
    /// Makes a resolver that writes to an index; `clock` tells the time by which packets are stamped.
    pub fn new(sockets: S, processes: P, writer: IndexWriter, clock: fn() -> Timestamp) -> Self {
        Resolver { sockets, processes, writer, clock, listed: Vec::new() }
    }

    /// Returns the readers' side of the index.
    pub fn index(&self) -> SocketIndex {
        self.writer.index()
    }

    /// Looks up the socket of one end of a flow, and its owner; `packet` is the time of the packet that asks.
    ///
    /// # Errors
    /// When the machine cannot be asked.
    pub fn resolve(&mut self, query: &Query, packet: Timestamp) -> io::Result<Answer> {
        let found = self.sockets.find(query)?;
        let now = (self.clock)();
        let tuple = Tuple::of_query(self.writer.index().home(), query);
        let found = found.and_then(|socket| Some((sighting::relation(&tuple, &socket)?, socket)));
        let Some((is, socket)) = found.filter(|(_, socket)| socket.state != SocketState::TimeWait) else {
            self.writer.none_answers(query, now);
            return Ok(Answer::Nobody);
        };
        let asked = packet.min(now);
        if socket.state == SocketState::SynReceived {
            return Ok(Answer::Provisional);
        }
        let owner = self.owner(query, &socket, now);
        let is_unowned = owner == Some(Owner::NoProcess);
        self.writer.answered(query, &socket, is, asked, now, owner);
        let is_accepted = is == SightedAs::Exact && socket.inode != 0;
        Ok(match query.proto {
            Proto::TCP if !is_accepted => Answer::Provisional,
            Proto::TCP if is_unowned => Answer::Unowned,
            _ => Answer::Settled,
        })
    }

    /// Looks up who listens where a connection arrived that no process has accepted yet, or that was closed before
    /// its socket was found. Which of several listeners the kernel chose is not known: they name nobody, unless one
    /// process has them all.
    ///
    /// # Errors
    /// When the machine cannot be asked.
    pub fn stand_by(&mut self, query: &Query, packet: Timestamp) -> io::Result<()> {
        let now = (self.clock)();
        let asked = packet.min(now);
        if query.proto != Proto::TCP || self.writer.has_listener(query, asked) {
            return Ok(());
        }
        let mut listeners = Vec::new();
        self.sockets.listeners(query.local.port.unwrap_or_default(), &mut listeners)?;
        let local = query.local.addr.to_canonical();
        listeners.retain(|socket| {
            let bound = socket.local.addr.to_canonical();
            bound == local || (bound.is_unspecified() && (local.is_ipv4() || bound.is_ipv6()))
        });
        let Some(first) = listeners.first() else { return Ok(()) };
        // As it is now: the one who listens may have forked a moment ago.
        let mut owners = listeners.iter().map(|socket| self.processes.owner(socket));
        let one = owners.next().filter(|first| owners.all(|other| other == *first));
        let owner = Some(one.unwrap_or(Owner::Ambiguous));
        self.writer.stands_by(query, first, asked, now, owner);
        Ok(())
    }

    /// Takes all sockets of the machine and their owners into the index; those that it has no more have ended.
    ///
    /// # Errors
    /// When the machine cannot be asked; the index then stays as it is.
    pub fn snapshot(&mut self) -> io::Result<()> {
        let started = (self.clock)();
        self.listed.clear();
        self.sockets.snapshot(&mut self.listed)?;
        let now = (self.clock)();
        let (known, unknown): (Vec<Socket>, Vec<Socket>) =
            self.listed.drain(..).partition(|socket| self.writer.knows_owner(socket, lately(now)));
        for socket in known {
            self.writer.seen(&socket, now, None);
        }
        let owners = self.processes.owners(&unknown);
        for (socket, owner) in unknown.into_iter().zip(owners) {
            let owner = if socket.inode == 0 { Owner::NoProcess } else { owner };
            self.writer.seen(&socket, now, Some(owner));
        }
        self.writer.end_unseen(started, now);
        Ok(())
    }

    /// Takes the end of a socket.
    pub fn closed(&mut self, socket: &Socket, at: Timestamp) {
        self.writer.closed(socket, at, (self.clock)());
    }

    /// Lets go what has been dead for long enough.
    pub fn expire(&mut self) {
        self.writer.expire((self.clock)());
    }

    /// Says to those who follow the index that nothing more comes for a while.
    pub fn rest(&mut self) {
        self.writer.rest();
    }

    /// Ends the recording, where there is one.
    pub fn finish(&mut self) {
        self.writer.finish();
    }

    /// Finds the owner of a socket, unless it was found not long ago.
    fn owner(&mut self, query: &Query, socket: &Socket, now: Timestamp) -> Option<Owner> {
        if socket.inode == 0 {
            return Some(Owner::NoProcess);
        }
        if self.writer.knows_owner(socket, lately(now)) {
            return None;
        }
        // Another one that answers by now says nothing of a listener.
        let is_it = |found: Socket| {
            socket.remote.is_none() || (found.cookie, found.inode) == (socket.cookie, socket.inode)
        };
        let mut is_there = || self.sockets.find(query).map_or(true, |found| found.is_some_and(is_it));
        Some(self.processes.owner_while(socket, &mut is_there))
    }
}

fn lately(now: Timestamp) -> Timestamp {
    Timestamp::from_nanos(now.as_nanos().saturating_sub(OWNER_HOLDS.as_nanos() as i64))
}

/// How long an owner that was found is taken for granted.
const OWNER_HOLDS: Duration = Duration::from_secs(5);
