//! Packets, ticks and drains in any order, against a table with little room: the sums are right after each step, and
//! where nothing has to make room, neither sweeps nor batches change a record.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::Duration;

use flowcore::feature::VolumeValues;
use flowcore::key::{AddrWords, End, FlowKey, Proto, TunnelKey, VlanStack};
use flowcore::l7::{App, L7Facts};
use flowcore::packet::{Facts, Fragment, Labels, Message, Packet, TcpFacts, TcpFlags};
use flowcore::record::{Column, EndReason, FlowRecord, Orientation};
use flowcore::table::{EndedFlow, FlowTable, IdleTimeouts, KeyHash, TableOptions};
use flowcore::time::{TableClock, TableTime, Timestamp};
use libfuzzer_sys::{arbitrary, fuzz_target};

#[derive(arbitrary::Arbitrary, Debug)]
struct Game {
    idle_tenths: u8,
    active_tenths: u8,
    max_flows: u8,
    max_kilobytes: u8,
    steps: Vec<Step>,
}

#[derive(arbitrary::Arbitrary, Debug)]
enum Step {
    Packet(Shot),
    /// Time moves on by so many milliseconds, and all that is due leaves, or at most so many flows.
    Tick(u16, Option<u8>),
    Drain,
}

#[derive(arbitrary::Arbitrary, Clone, Copy, Debug)]
struct Shot {
    /// Behind the packet before it.
    millis: i16,
    host: u8,
    port: u8,
    proto: u8,
    is_back: bool,
    is_fragment: bool,
    flags: u8,
    seq: u8,
    ack: u8,
    wire_len: u16,
    payload: u8,
    payload_len: u16,
}

fuzz_target!(|game: Game| {
    let seconds = |tenths: u8| Duration::from_millis(u64::from(tenths) * 100);
    let roomy = TableOptions {
        idle: IdleTimeouts::all(seconds(game.idle_tenths)),
        active: Some(seconds(game.active_tenths)).filter(|active| !active.is_zero()),
        ..TableOptions::default()
    };
    let tight = TableOptions {
        max_flows: game.max_flows.into(),
        max_memory: u64::from(game.max_kilobytes) << 10,
        ..roomy.clone()
    };
    Table::new(tight).play(&game.steps);
    let shots: Vec<Shot> = game.steps.iter().filter_map(Step::shot).collect();
    let plain = Table::new(roomy.clone()).shoot(&shots, Sweep::Never);
    assert_eq!(plain, Table::new(roomy.clone()).shoot(&shots, Sweep::Often));
    assert_eq!(plain, Table::new(roomy).shoot(&shots, Sweep::Batches));
});

impl Step {
    fn shot(&self) -> Option<Shot> {
        if let Step::Packet(shot) = self { Some(*shot) } else { None }
    }
}

#[derive(PartialEq)]
enum Sweep {
    Never,
    /// Before each packet, to half the time and to all of it.
    Often,
    /// Packets come many at a time.
    Batches,
}

/// What a record says.
#[derive(PartialEq, Debug)]
struct Line {
    place: (TableTime, u64, u32),
    ends: (FlowKey, End, Orientation, EndReason),
    times: (Timestamp, Timestamp),
    volume: VolumeValues,
    app: Option<App>,
    l7: L7Facts,
    values: Vec<String>,
}

impl Line {
    fn of(flow: FlowRecord) -> Self {
        // One of each file of features that has a state.
        let values = COLUMNS.iter().map(|column| format!("{:?}", column.value(&flow))).collect();
        Line {
            place: (flow.due, flow.flow_id, flow.slice),
            ends: (flow.key, flow.src, flow.orientation, flow.end_reason),
            times: (flow.first, flow.last),
            volume: flow.features.volume,
            app: flow.app,
            l7: flow.l7,
            values,
        }
    }
}

static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    Column::parse("history,tcp_state,entropy,iat_std_us,src_retransmits,dst_ttl_max").expect("columns")
});

/// A table with its clock, and what went in and came out.
struct Table {
    table: FlowTable,
    hash: KeyHash,
    options: TableOptions,
    clock: TableClock,
    millis: i64,
    packets: u64,
    bytes: u64,
    out: Vec<EndedFlow>,
}

impl Table {
    fn new(options: TableOptions) -> Self {
        let hash = KeyHash::default();
        Table {
            table: FlowTable::with_hash(options.clone(), hash.clone()),
            hash,
            clock: TableClock::new(options.idle.largest()),
            options,
            millis: 0,
            packets: 0,
            bytes: 0,
            out: Vec::new(),
        }
    }

    fn play(mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Packet(shot) => {
                    let facts = self.facts(shot);
                    self.table.ingest(&packet(shot, &facts), |flow| self.out.push(flow));
                    self.packets += 1;
                    self.bytes += u64::from(facts.wire_len);
                }
                Step::Tick(millis, most) => {
                    self.millis += i64::from(*millis);
                    self.clock.tick(at(self.millis));
                    let now = self.clock.now();
                    match most {
                        Some(most) => {
                            let most = usize::from(*most);
                            self.table.expire_some(now, most, |flow| self.out.push(flow));
                        }
                        None => {
                            self.table.expire(now, |flow| self.out.push(flow));
                            // What is left is due later.
                            let next = self.table.next_expiry();
                            assert!(next.is_none_or(|next| next > now.time));
                        }
                    }
                }
                Step::Drain => self.drain(EndReason::Shutdown),
            }
            self.add_up();
        }
        self.drain(EndReason::Eof);
        self.add_up();
        for flow in self.out {
            let (reason, volume) = (flow.end_reason(), flow.volume());
            let record = FlowRecord::from(flow);
            assert!(record.first <= record.last);
            assert_eq!(record.is_final, reason != EndReason::Active);
            assert_eq!(record.features.volume.packets(), volume.packets());
            assert!(volume.packets() > 0);
        }
    }

    /// The identities of docs/faults.md, and the limits.
    fn add_up(&self) {
        let (table, counts) = (&self.table, self.table.counts());
        let records = counts.records.total();
        let slices: u64 =
            counts.records.iter().filter(|(reason, _)| *reason == EndReason::Active).map(|(_, n)| n).sum();
        let (packets, bytes) = table.open_volume();
        assert_eq!((counts.packets, counts.bytes), (self.packets, self.bytes));
        assert_eq!(counts.packets, counts.record_packets + packets);
        assert_eq!(counts.bytes, counts.record_bytes + bytes);
        assert_eq!(counts.opened, records - slices + table.len() as u64);
        assert!(self.out.len() as u64 <= records);
        assert!(table.len() <= self.options.max_flows.max(1));
        assert!(table.memory() <= self.options.max_memory || table.len() <= 1);
        assert!(table.next_expiry().is_some() || table.is_empty());
        assert!(table.settled() <= self.clock.now());
    }

    fn drain(&mut self, reason: EndReason) {
        self.table.drain(reason, |flow| self.out.push(flow));
        assert_eq!((self.table.len(), self.table.memory(), self.table.next_expiry()), (0, 0, None));
        assert_eq!(self.out.len() as u64, self.table.counts().records.total());
    }

    /// Returns what comes out, in the order of replay.
    fn shoot(mut self, shots: &[Shot], sweep: Sweep) -> Vec<Line> {
        let facts: Vec<Facts> = shots.iter().map(|shot| self.facts(shot)).collect();
        let packets = || shots.iter().zip(&facts).map(|(shot, facts)| packet(shot, facts));
        match sweep {
            Sweep::Batches => {
                let tags = facts.iter().map(|facts| self.hash.of(&facts.key).tag());
                self.table.ingest_all(tags, packets(), |flow| self.out.push(flow));
            }
            _ => {
                for packet in packets() {
                    if sweep == Sweep::Often {
                        self.sweep_to(packet.table_time);
                    }
                    self.table.ingest(&packet, |flow| self.out.push(flow));
                }
            }
        }
        self.drain(EndReason::Eof);
        self.out.sort_by_key(EndedFlow::place);
        self.out.into_iter().map(|flow| Line::of(flow.into())).collect()
    }

    fn sweep_to(&mut self, now: TableTime) {
        let before = self.table.settled();
        if before.epoch == now.epoch && before.time.as_nanos() > 0 {
            let half = before.time.saturating_add_nanos(now.time.nanos_since(before.time) / 2);
            self.table.expire(TableTime { time: half, ..now }, |flow| self.out.push(flow));
            while self.table.expire_some(now, 1, |flow| self.out.push(flow)) {}
        }
    }

    fn facts(&mut self, shot: &Shot) -> Facts {
        self.millis += i64::from(shot.millis);
        let (time, table_time) = self.clock.observe(Some(at(self.millis)));
        let proto = [Proto::TCP, Proto::TCP, Proto::UDP, Proto::ICMP, Proto(47)][usize::from(shot.proto % 5)];
        let (client, server) = ([10, 0, 0, shot.host % 8], [10, 0, 1, 1]);
        let ends = |from: [u8; 4], to: [u8; 4], ports| {
            let [from, to] = [from, to].map(|addr| AddrWords::v4(Ipv4Addr::from(addr).octets()));
            let ports = Some(ports).filter(|_| matches!(proto, Proto::TCP | Proto::UDP));
            FlowKey::new(4, from, to, proto, ports, VlanStack::default(), TunnelKey::default())
        };
        let (sport, dport) = (1024 + u16::from(shot.port % 4), [53, 443][usize::from(shot.port >> 7)]);
        let (key, sender) = if shot.is_back {
            ends(server, client, (dport, sport))
        } else {
            ends(client, server, (sport, dport))
        };
        Facts {
            key,
            sender,
            time,
            table_time,
            wire_len: shot.wire_len.into(),
            ip_len: shot.wire_len.into(),
            payload_len: shot.payload_len.into(),
            ttl: shot.seq,
            dscp: shot.ack >> 2,
            fragment: if shot.is_fragment { Fragment::First } else { Fragment::No },
            icmp: proto.is_icmp().then_some((shot.flags, shot.seq)),
            tcp: (proto == Proto::TCP).then_some(TcpFacts {
                flags: TcpFlags(shot.flags.into()),
                seq: u32::from(shot.seq) * 100,
                ack: u32::from(shot.ack) * 100,
                window: shot.wire_len,
                mss: (shot.seq & 1 == 1).then_some(shot.wire_len),
                window_scale: (shot.seq & 2 == 2).then_some(shot.ack),
            }),
            bad_checksum: shot.wire_len == 13,
        }
    }
}

fn packet<'a>(shot: &Shot, facts: &'a Facts) -> Packet<'a> {
    static LABELS: Labels =
        Labels { vlans: Vec::new(), mpls: Vec::new(), tunnels: Vec::new(), interface: None };
    let whole = PAYLOADS[usize::from(shot.payload) % PAYLOADS.len()];
    let payload = &whole[..whole.len().min(shot.payload_len.into())];
    let seq = facts.tcp.map_or(0, |tcp| tcp.seq);
    let complete = payload.len() == usize::from(shot.payload_len);
    let message = (!shot.is_fragment).then_some(Message { bytes: payload, seq, complete });
    Packet { facts, payload, message, labels: &LABELS }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000)
}

/// Nothing, a question and its answer for UDP and for TCP, a request, and bytes of little and of more entropy; all short, as
/// each byte is counted many times.
const PAYLOADS: [&[u8]; 7] = [
    b"",
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01",
    b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x02bc\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x7f\0\0\x01",
    b"\0\x16\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01",
    b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    &[0; 100],
    b"The quick brown fox jumps over the lazy dog: 0123456789 \x80\x81\x82\xfd\xfe\xff",
];
