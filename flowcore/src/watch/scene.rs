//! Packets made by hand, for the tests of this room.

use std::net::IpAddr;

use super::{ConnectionEvent, Connections, Happened, Source};
use crate::key::{Endpoint, FiveTuple, FlowKey, Proto};
use crate::packet::{Facts, Fragment, Labels, Packet, TcpFacts, TcpFlags};
use crate::time::{TableTime, Timestamp};

pub(super) const SYN: TcpFlags = TcpFlags::SYN;
pub(super) const ACK: TcpFlags = TcpFlags::ACK;
pub(super) const FIN: TcpFlags = TcpFlags(0x011);
pub(super) const RST: TcpFlags = TcpFlags::RST;
pub(super) const RST_ACK: TcpFlags = TcpFlags(0x014);
pub(super) const SYN_ACK: TcpFlags = TcpFlags(0x012);

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The client, 10.0.0.1:40000.
    C,
    /// The server, 10.0.0.2:80.
    S,
}

pub(super) use Side::{C, S};

/// A connection as its packets make it, told to a table of connections.
pub(super) struct Scene {
    pub(super) connections: Connections,
    locals: Vec<IpAddr>,
    /// The next sequence numbers of client and server.
    pub(super) next: [u32; 2],
    pub(super) ends: [Endpoint; 2],
    pub(super) events: Vec<ConnectionEvent>,
}

pub(super) fn end(text: &str) -> Endpoint {
    let addr: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { addr: addr.ip(), port: Some(addr.port()) }
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(millis * 1_000_000)
}

impl Scene {
    /// `locals` are the ends on this machine.
    pub(super) fn new(locals: &[Side]) -> Self {
        Scene::with(locals, Connections::default())
    }

    pub(super) fn with(locals: &[Side], connections: Connections) -> Self {
        let ends = [end("10.0.0.1:40000"), end("10.0.0.2:80")];
        let locals = locals.iter().map(|from| ends[*from as usize].addr).collect();
        Scene { connections, locals, next: [1000, 9000], ends, events: Vec::new() }
    }

    pub(super) fn make_local(&mut self, from: Side) {
        self.locals.push(self.ends[from as usize].addr);
    }

    /// Sends a segment with the next numbers, without payload.
    pub(super) fn send(&mut self, millis: i64, from: Side, flags: TcpFlags) -> &mut Self {
        self.send_data(millis, from, flags, 0)
    }

    pub(super) fn send_data(&mut self, millis: i64, from: Side, flags: TcpFlags, len: u32) -> &mut Self {
        let (seq, ack) = self.numbers(from, flags);
        let counted = u32::from(flags.contains(SYN)) + u32::from(flags.contains(TcpFlags::FIN));
        self.next[from as usize] = seq.wrapping_add(len + counted);
        self.segment(millis, from, flags, seq, ack, len)
    }

    fn numbers(&self, from: Side, flags: TcpFlags) -> (u32, u32) {
        let ack = if flags.contains(ACK) { self.next[1 - from as usize] } else { 0 };
        (self.next[from as usize], ack)
    }

    pub(super) fn segment(
        &mut self,
        millis: i64,
        from: Side,
        flags: TcpFlags,
        seq: u32,
        ack: u32,
        len: u32,
    ) -> &mut Self {
        let tuple =
            FiveTuple { src: self.ends[from as usize], dst: self.ends[1 - from as usize], proto: Proto::TCP };
        let tcp = TcpFacts { flags, seq, ack, window: 1000, mss: None, window_scale: None };
        self.packet(millis, &tuple, Some(tcp), None, u64::from(len), &[])
    }

    /// An ICMP message from a router to the client.
    pub(super) fn icmp(&mut self, millis: i64, kind: u8, code: u8, quote: &[u8]) -> &mut Self {
        let version6 = self.ends[0].addr.is_ipv6();
        let proto = if version6 { Proto::ICMPV6 } else { Proto::ICMP };
        let router = if version6 { "2001:db8::ff" } else { "10.0.0.254" };
        let bare = |addr| Endpoint { addr, port: None };
        let tuple = FiveTuple { src: bare(router.parse().unwrap()), dst: bare(self.ends[0].addr), proto };
        self.packet(millis, &tuple, None, Some((kind, code)), 0, quote)
    }

    fn packet(
        &mut self,
        millis: i64,
        tuple: &FiveTuple,
        tcp: Option<TcpFacts>,
        icmp: Option<(u8, u8)>,
        payload_len: u64,
        payload: &[u8],
    ) -> &mut Self {
        let (key, sender) = FlowKey::from_tuple(tuple);
        let facts = Facts {
            key,
            sender,
            time: at(millis),
            table_time: TableTime { epoch: 0, time: at(millis) },
            wire_len: 60,
            ip_len: 40,
            payload_len,
            ttl: 64,
            dscp: 0,
            fragment: Fragment::No,
            icmp,
            tcp,
            bad_checksum: false,
        };
        let labels = Labels::default();
        let packet = Packet { facts: &facts, payload, message: None, labels: &labels };
        let locals = &self.locals;
        self.connections.packet(&packet, |addr| locals.contains(&addr), &mut |event| self.events.push(event));
        self
    }

    pub(super) fn open(&mut self, millis: i64) -> &mut Self {
        self.send(millis, C, SYN).send(millis + 1, S, SYN_ACK).send(millis + 2, C, ACK)
    }

    /// The client first.
    pub(super) fn close(&mut self, millis: i64) -> &mut Self {
        self.send(millis, C, FIN).send(millis + 1, S, FIN).send(millis + 2, C, ACK)
    }

    pub(super) fn wait_until(&mut self, millis: i64) -> &mut Self {
        self.connections.expire(at(millis), &mut |event| self.events.push(event));
        self
    }

    /// Begins another connection between the same ends.
    pub(super) fn again(&mut self, isns: [u32; 2]) -> &mut Self {
        self.next = isns;
        self
    }

    /// Returns what happened since the last call: what, at which end, when in milliseconds, noticed how.
    pub(super) fn said(&mut self) -> Vec<(Happened, Side, i64, Source)> {
        let said = self.events.drain(..).map(|event| {
            let from = if event.local == self.ends[0] { C } else { S };
            assert_eq!((event.local, event.remote), (self.ends[from as usize], self.ends[1 - from as usize]));
            (event.happened, from, event.time.as_nanos() / 1_000_000, event.source)
        });
        said.collect()
    }

    /// Returns the same without the source, all of which must be packets.
    pub(super) fn shown(&mut self) -> Vec<(Happened, Side, i64)> {
        let by_packet = |(happened, from, millis, source)| {
            assert_eq!(source, Source::Packet);
            (happened, from, millis)
        };
        self.said().into_iter().map(by_packet).collect()
    }
}
