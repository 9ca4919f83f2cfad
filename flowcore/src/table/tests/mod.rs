//! Tests of the flow table: each rule of definitions.md with hand-worked values, and a naive model.

mod direction;
mod ends;
mod limits;
mod model;
mod order;

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{FlowTable, IdleTimeouts, TableOptions};
use crate::error::Reason;
use crate::key::{AddrWords, FlowKey, Proto, TunnelKey, VlanStack};
use crate::packet::{Facts, Fragment, Labels, Message, Packet, TcpFacts, TcpFlags};
use crate::record::{EndReason, FlowRecord};
use crate::time::{TableClock, Timestamp};

/// A packet to be made: 10.0.0.`from`:`sport` → 10.0.0.`to`:`dport`.
#[derive(Clone, Debug)]
struct Shot {
    millis: i64,
    from: u8,
    sport: u16,
    to: u8,
    dport: u16,
    proto: Proto,
    flags: Option<TcpFlags>,
    seq: u32,
    wire_len: u32,
    payload: &'static [u8],
    bad_checksum: bool,
}

const CLIENT: u8 = 1;
const SERVER: u8 = 2;
const FIN_ACK: TcpFlags = TcpFlags(0x11);
const SYN_ACK: TcpFlags = TcpFlags(0x12);

fn udp(millis: i64) -> Shot {
    Shot {
        millis,
        from: CLIENT,
        sport: 40_000,
        to: SERVER,
        dport: 9_999,
        proto: Proto::UDP,
        flags: None,
        seq: 0,
        wire_len: 100,
        payload: b"",
        bad_checksum: false,
    }
}

fn tcp(millis: i64, flags: TcpFlags) -> Shot {
    Shot { proto: Proto::TCP, flags: Some(flags), seq: 1000, ..udp(millis) }
}

impl Shot {
    /// The same packet from the other end.
    fn back(self) -> Shot {
        Shot { from: self.to, sport: self.dport, to: self.from, dport: self.sport, ..self }
    }
}

/// A table, its clock, and what has come out.
struct Bench {
    table: FlowTable,
    clock: TableClock,
    out: Vec<FlowRecord>,
}

impl Bench {
    fn new(options: TableOptions) -> Self {
        let clock = TableClock::new(options.idle.largest());
        Bench { table: FlowTable::new(options), clock, out: Vec::new() }
    }

    /// A table with the given idle timeout for all protocols, and no active timeout.
    fn with_idle(seconds: u64) -> Self {
        let idle = IdleTimeouts::all(Duration::from_secs(seconds));
        Bench::new(TableOptions { idle, active: None, ..TableOptions::default() })
    }

    fn shoot(&mut self, shot: &Shot) {
        self.aim(shot, |table, packet, out| table.ingest(packet, |record| out.push(record)));
    }

    fn shoot_in_a_batch(&mut self, shot: &Shot) {
        self.aim(shot, |table, packet, out| {
            let tag = table.store.tag(&packet.key);
            table.ingest_all([tag], [*packet], |record| out.push(record));
        });
    }

    fn aim(&mut self, shot: &Shot, shoot: impl FnOnce(&mut FlowTable, &Packet<'_>, &mut Vec<FlowRecord>)) {
        let (time, table_time) = self.clock.observe(Some(at(shot.millis)));
        let addr = |host| AddrWords::v4(Ipv4Addr::new(10, 0, 0, host).octets());
        let (key, sender) = FlowKey::new(
            4,
            addr(shot.from),
            addr(shot.to),
            shot.proto,
            (!shot.proto.is_icmp()).then_some((shot.sport, shot.dport)),
            VlanStack::default(),
            TunnelKey::default(),
        );
        let tcp = shot.flags.map(|flags| TcpFacts {
            flags,
            seq: shot.seq,
            ack: 0,
            window: 1000,
            mss: None,
            window_scale: None,
        });
        let facts = Facts {
            key,
            sender,
            time,
            table_time,
            wire_len: shot.wire_len,
            ip_len: u64::from(shot.wire_len) - 14,
            payload_len: shot.payload.len() as u64,
            ttl: 64,
            dscp: 0,
            fragment: Fragment::No,
            icmp: shot.proto.is_icmp().then_some((8, 0)),
            tcp,
            bad_checksum: shot.bad_checksum,
        };
        let message = Some(Message { bytes: shot.payload, seq: shot.seq, complete: true });
        let packet = Packet { facts: &facts, payload: shot.payload, message, labels: &Labels::default() };
        shoot(&mut self.table, &packet, &mut self.out);
    }

    /// Shoots all, ends the input, returns the records.
    fn run(mut self, shots: &[Shot]) -> Vec<FlowRecord> {
        shots.iter().for_each(|shot| self.shoot(shot));
        self.end()
    }

    fn end(mut self) -> Vec<FlowRecord> {
        self.table.drain(EndReason::Eof, |record| self.out.push(record));
        assert!(self.table.is_empty());
        assert_eq!(self.table.memory(), 0, "memory is given back");
        let counts = self.table.counts();
        assert_eq!((counts.packets, counts.bytes), (counts.record_packets, counts.record_bytes));
        let finals = counts.records.total() - counts.records[EndReason::Active];
        assert_eq!(counts.opened, finals);
        self.out
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(millis * 1_000_000)
}

fn packets(record: &FlowRecord) -> u64 {
    record.features.volume.packets()
}

fn reasons(records: &[FlowRecord]) -> Vec<(&'static str, u64)> {
    records.iter().map(|record| (record.end_reason.name(), packets(record))).collect()
}
