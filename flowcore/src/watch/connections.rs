//! TCP connections of this machine by their packets: when they are established, accepted, closed, and when they fail.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod connection;
mod quoted;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::key::{End, Endpoint, FiveTuple, FlowKey, Proto};
use crate::packet::Packet;
use crate::time::Timestamp;

use connection::{Connection, Step, Whose};

/// Something that happened to a TCP connection, at one of its ends on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionEvent {
    /// What happened.
    pub happened: Happened,
    /// The end whose process is meant.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// When: the packet's own time, or the time that was given with what the kernel said.
    pub time: Timestamp,
    /// When the connection was first seen or told of, by its packets or by the kernel: at `time` or before.
    pub since: Timestamp,
    /// How it was noticed.
    pub source: Source,
    /// The kernel's number of the socket, where the kernel told.
    pub cookie: Option<u64>,
}

/// What happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Happened {
    /// The handshake of an outgoing connection is complete.
    Established,
    /// The handshake of an incoming connection is complete.
    Accepted,
    /// Both directions are finished and that is acknowledged, or it was reset, or its socket is gone.
    Closed,
    /// An outgoing connection was refused, was reported unreachable, or was not answered.
    Failed,
}

/// How an event was noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// By its packets.
    Packet,
    /// The kernel told.
    Kernel,
    /// By comparing snapshots.
    Snapshot,
}

/// How much is kept, and for how long.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// How many connections are followed (100,000; some 400 bytes each); beyond, the one that would be forgotten next
    /// is forgotten.
    pub most: usize,
    /// How long after its last SYN an attempt has failed (35 s: the longest pause between two SYNs of Linux is 32 s).
    pub unanswered: Duration,
    /// How long a connection that is over is kept, so that what comes late begins no other one (60 s).
    pub remembered: Duration,
    /// How long an open connection is kept without a packet (two hours). What it loses when it is forgotten is its
    /// Closed after a reset by the other end.
    pub idle: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            most: 100_000,
            unanswered: Duration::from_secs(35),
            remembered: Duration::from_secs(60),
            idle: Duration::from_secs(7200),
        }
    }
}

/// What [`Connections`] counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectionCounts {
    /// Connections that were forgotten because there were too many.
    pub evicted: u64,
}

/// Follows the TCP connections that have an end on this machine.
///
/// Each end on the machine gets events of its own: Established or Accepted once the handshake is complete, Closed or
/// Failed once. A connection that was open before it was seen gets Closed only. A connection is what its ends are:
/// tags and tunnels around it do not matter, so that it may be seen on several interfaces. Any reset closes; whether
/// its sequence number was in the window is not checked.
#[derive(Debug)]
pub struct Connections {
    options: ConnectionOptions,
    table: HashMap<FlowKey, Connection>,
    /// When each connection is to be looked at again; a second number tells those of one moment apart.
    alarms: BTreeMap<(Timestamp, u64), FlowKey>,
    alarms_set: u64,
    now: Timestamp,
    epoch: u64,
    counts: ConnectionCounts,
}

impl Connections {
    /// Makes an empty table.
    pub fn new(options: ConnectionOptions) -> Self {
        Connections {
            options,
            table: HashMap::new(),
            alarms: BTreeMap::new(),
            alarms_set: 0,
            now: Timestamp::MIN,
            epoch: 0,
            counts: ConnectionCounts::default(),
        }
    }

    /// Takes a packet and hands out what it shows to have happened, first of all what did by the passing of time.
    ///
    /// `is_local` tells whether an address is one of this machine's.
    pub fn packet(
        &mut self,
        packet: &Packet<'_>,
        is_local: impl Fn(IpAddr) -> bool,
        out: &mut impl FnMut(ConnectionEvent),
    ) {
        self.advance(packet, out);
        if let Some(icmp) = packet.icmp {
            self.unreachable(packet, icmp, out);
            return;
        }
        let (Some(tcp), Proto::TCP) = (&packet.tcp, packet.key.proto()) else { return };
        let (key, sender) = FlowKey::from_tuple(&packet.tuple());
        if key.ends_equal() {
            // A socket connected to itself: its two ends cannot be told apart.
            return;
        }
        let time = packet.time;
        if self.table.get(&key).is_none_or(Connection::is_unseen) {
            let locals = [End::Low, End::High].map(|end| is_local(key.endpoint(end).addr));
            match self.table.get_mut(&key) {
                Some(told_of) => told_of.meet(locals),
                None if !locals.contains(&true) => return,
                None => match Connection::first(sender, tcp, locals, time) {
                    Some(first) => self.insert(key, first),
                    None => return,
                },
            }
        }
        let Some(connection) = self.table.get_mut(&key) else { return };
        let step = connection.segment(sender, tcp, packet.payload_len, time);
        self.tell(&key, step, time, out);
    }

    /// Moves time on and hands out what failed for want of an answer; an earlier time is ignored.
    pub fn expire(&mut self, now: Timestamp, out: &mut impl FnMut(ConnectionEvent)) {
        self.now = self.now.max(now);
        while let Some(first) = self.alarms.first_entry().filter(|first| first.key().0 <= self.now) {
            let (_, key) = first.remove_entry();
            let Some(connection) = self.table.get_mut(&key) else { continue };
            connection.alarm = None;
            let due = connection.due(&self.options);
            if due > self.now {
                self.hasten(&key);
            } else if connection.give_up(due) {
                self.tell(&key, Step::Failed, due, out);
            } else {
                self.table.remove(&key);
            }
        }
    }

    /// Tells whether the connection between two ends is followed.
    pub fn holds(&self, local: Endpoint, remote: Endpoint) -> bool {
        let tuple = FiveTuple { src: local, dst: remote, proto: Proto::TCP };
        self.table.contains_key(&FlowKey::from_tuple(&tuple).0)
    }

    /// Returns how many connections are followed.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Tells whether none is followed.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> ConnectionCounts {
        self.counts
    }

    /// Takes note that a socket is open now that was not before; without packets, `incoming` says who began.
    pub(super) fn opened(&mut self, told: &Told, incoming: bool, out: &mut impl FnMut(ConnectionEvent)) {
        let Some((key, end)) = self.told(told, None, out) else { return };
        let Some(connection) = self.table.get_mut(&key) else { return };
        let happened = connection.is_open(end, incoming, told.time);
        told.report(happened, connection.since(), out);
    }

    /// Takes note that a socket is gone; `failed` tells that it was never connected, none where that is not known.
    pub(super) fn gone(&mut self, told: &Told, failed: Option<bool>, out: &mut impl FnMut(ConnectionEvent)) {
        let Some((key, end)) = self.told(told, Some(failed), out) else { return };
        let Some(connection) = self.table.get_mut(&key) else { return };
        let happened = connection.close(end, failed, told.time);
        told.report(happened, connection.since(), out);
        self.hasten(&key);
    }

    /// Finds the connection that the kernel speaks of, or makes one; `gone` is whether a socket that is gone was an
    /// attempt. None where it is another connection, and that was told.
    fn told(
        &mut self,
        told: &Told,
        gone: Option<Option<bool>>,
        out: &mut impl FnMut(ConnectionEvent),
    ) -> Option<(FlowKey, End)> {
        self.expire(told.time, out);
        let tuple = FiveTuple { src: told.local, dst: told.remote, proto: Proto::TCP };
        let (key, end) = FlowKey::from_tuple(&tuple);
        if key.ends_equal() {
            return None;
        }
        let mut locals = [false; 2];
        if let Some(local) = locals.get_mut(end as usize) {
            *local = true;
        }
        match self.table.get_mut(&key) {
            Some(connection) => connection.meet(locals),
            None => self.insert(key, Connection::unseen(locals, told.time)),
        }
        let connection = self.table.get_mut(&key)?;
        match (connection.whose(end, told.cookie, gone.is_none()), gone) {
            (Whose::Own, _) => {}
            (Whose::Before, _) => return None,
            (Whose::Unknown, Some(failed)) => {
                // Nobody had seen it, if it was not one of which there were packets: then all of it was told.
                if connection.is_unseen() {
                    let failed = failed.unwrap_or(false);
                    let happened = if failed { Happened::Failed } else { Happened::Closed };
                    told.report(Some(happened), told.time, out);
                }
                connection.passes_over(end, told.cookie);
                return None;
            }
            (Whose::Next | Whose::Unknown, _) => {
                for end in [End::Low, End::High] {
                    let happened = connection.happened(end, &Step::Closed);
                    let (local, remote) = (key.endpoint(end), key.endpoint(end.other()));
                    let over = Told { local, remote, cookie: connection.cookie(end), ..*told };
                    over.report(happened, connection.since(), out);
                }
                connection.renew_unseen(told.time);
                connection.whose(end, told.cookie, true);
                self.hasten(&key);
            }
        }
        Some((key, end))
    }

    /// Takes the time of a packet. Where the input's time has jumped back, what was before is forgotten.
    fn advance(&mut self, packet: &Packet<'_>, out: &mut impl FnMut(ConnectionEvent)) {
        if packet.table_time.epoch != self.epoch {
            self.counts.evicted += self.table.len() as u64;
            self.table.clear();
            self.alarms.clear();
            self.now = Timestamp::MIN;
            self.epoch = packet.table_time.epoch;
        }
        self.expire(packet.table_time.time, out);
    }

    /// An ICMP error: it ends the attempt whose SYN it quotes.
    fn unreachable(&mut self, packet: &Packet<'_>, icmp: (u8, u8), out: &mut impl FnMut(ConnectionEvent)) {
        let Some((tuple, seq)) = quoted::syn(packet.key.proto(), icmp, packet.payload) else { return };
        let (key, sender) = FlowKey::from_tuple(&tuple);
        if let Some(connection) = self.table.get_mut(&key) {
            let step = connection.unreachable(sender, seq, packet.time);
            self.tell(&key, step, packet.time, out);
        }
    }

    /// Hands out what a step means for the ends on this machine.
    fn tell(&mut self, key: &FlowKey, step: Step, time: Timestamp, out: &mut impl FnMut(ConnectionEvent)) {
        let Some(connection) = self.table.get_mut(key) else { return };
        for end in [End::Low, End::High] {
            let happened = connection.happened(end, &step);
            let told = Told {
                local: key.endpoint(end),
                remote: key.endpoint(end.other()),
                time,
                source: Source::Packet,
                cookie: None,
            };
            told.report(happened, connection.since(), out);
        }
        if let Step::Renewed(next) = step {
            connection.renew(next);
        }
        self.hasten(key);
    }

    /// Adds a connection; where there are too many, the one that would be forgotten next goes.
    fn insert(&mut self, key: FlowKey, connection: Connection) {
        if self.table.len() >= self.options.most {
            if let Some((_, oldest)) = self.alarms.pop_first() {
                self.table.remove(&oldest);
            }
            self.counts.evicted += 1;
        }
        self.table.insert(key, connection);
        self.hasten(&key);
    }

    /// Sets the alarm of a connection anew where it is now due before. What is due later is seen when it rings.
    fn hasten(&mut self, key: &FlowKey) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let due = connection.due(&self.options);
        if connection.alarm.is_some_and(|(at, _)| at <= due) {
            return;
        }
        self.alarms_set += 1;
        if let Some(before) = connection.alarm.replace((due, self.alarms_set)) {
            self.alarms.remove(&before);
        }
        self.alarms.insert((due, self.alarms_set), *key);
    }
}

impl Default for Connections {
    fn default() -> Self {
        Connections::new(ConnectionOptions::default())
    }
}

/// What somebody else than the packets says of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    pub(super) time: Timestamp,
    pub(super) source: Source,
    pub(super) cookie: Option<u64>,
}

impl Told {
    fn report(&self, happened: Option<Happened>, since: Timestamp, out: &mut impl FnMut(ConnectionEvent)) {
        if let Some(happened) = happened {
            let Told { local, remote, time, source, cookie } = *self;
            let since = since.min(time);
            out(ConnectionEvent { happened, local, remote, time, since, source, cookie });
        }
    }
}
