//! Flow records for the tests of this room.

use std::sync::Arc;

use crate::feature::{CommunityId, FeatureOptions, Features};
use crate::host::{Credentials, Process};
use crate::key::{Dir, Endpoint, FiveTuple, FlowKey, Proto};
use crate::l7::{App, L7Facts, Transaction};
use crate::packet::{Facts, Fragment, Labels, Packet, TcpFacts, TcpFlags};
use crate::record::{EndReason, FlowRecord, Match, Orientation, Owners, ProcessObject, Unattributed, Who};
use crate::time::{TableTime, Timestamp};

/// A TCP flow of four packets in two VLANs: SYN, SYN-ACK, ACK, 1,674 bytes of answer; 1,940 bytes on the wire.
pub(super) fn tcp() -> FlowRecord {
    let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
    let start = 1_700_000_000_123_456_789;
    let mut flow = flow(
        FiveTuple { src: end("192.168.1.52", 54585), dst: end("8.8.8.8", 443), proto: Proto::TCP },
        &[
            (Dir::Fwd, start, 74, Some(syn)),
            (Dir::Rev, start + 20_000_000, 74, Some(syn | ack)),
            (Dir::Fwd, start + 20_500_000, 66, Some(ack)),
            (Dir::Rev, start + 1_250_000_000, 1726, Some(ack | TcpFlags::PSH)),
        ],
    );
    flow.app = Some(App::Tls);
    labels(&mut flow).vlans = vec![10, 20];
    flow
}

/// A DNS query and its answer.
pub(super) fn dns(query: &str) -> FlowRecord {
    let mut flow = flow(
        FiveTuple { src: end("192.168.1.52", 54585), dst: end("8.8.8.8", 53), proto: Proto::UDP },
        &[(Dir::Fwd, 1_000_000_000, 75, None), (Dir::Rev, 1_012_345_678, 91, None)],
    );
    flow.app = Some(App::Dns);
    let transaction = Transaction::new(4711, query);
    flow.l7 = L7Facts { dns: vec![transaction], dns_truncated: false };
    flow
}

/// An echo request without answer, over IPv6.
pub(super) fn icmp6() -> FlowRecord {
    let no_port = |addr: &str| Endpoint { addr: addr.parse().unwrap(), port: None };
    let tuple = FiveTuple { src: no_port("fe80::1"), dst: no_port("ff02::2"), proto: Proto::ICMPV6 };
    let mut flow = flow(tuple, &[(Dir::Fwd, 1_000_000_000, 86, None)]);
    flow.icmp = Some((128, 0));
    flow
}

/// A UDP flow between two IPv6 addresses, without any facts beyond its packets.
pub(super) fn udp6() -> FlowRecord {
    let tuple = FiveTuple { src: end("2001:db8::1", 5000), dst: end("2001:db8::2", 6000), proto: Proto::UDP };
    flow(tuple, &[(Dir::Fwd, 0, 1_250, None)])
}

/// A process of this name at the first end, and a reason at the other.
pub(super) fn owners(name: &str) -> Owners {
    let process = Process {
        pid: 10,
        name: name.to_owned(),
        exe: None,
        args: vec![name.to_owned(), "-a \"b\"".to_owned()],
        started: Timestamp::from_nanos(1_500_000_000),
        ppid: 1,
        parent_name: Some("init".to_owned()),
        credentials: Credentials { uid: 1000, ..Credentials::default() },
        user: Some("user".to_owned()),
        container_id: None,
    };
    let object = ProcessObject::new(Who::Process(Arc::new(process)), Match::Exact, Some(3), 2);
    Owners { src: Some(Ok(object)), dst: Some(Err(Unattributed::Eperm)) }
}

/// The labels of a record, to be changed.
pub(super) fn labels(flow: &mut FlowRecord) -> &mut Labels {
    Arc::make_mut(flow.labels.get_or_insert_default())
}

fn end(addr: &str, port: u16) -> Endpoint {
    Endpoint { addr: addr.parse().unwrap(), port: Some(port) }
}

/// Packets are (direction, nanoseconds, wire length, TCP flags).
fn flow(tuple: FiveTuple, packets: &[(Dir, i64, u32, Option<TcpFlags>)]) -> FlowRecord {
    let (key, src) = FlowKey::from_tuple(&tuple);
    let link_and_ip = if key.ip_version() == 6 { 54 } else { 34 };
    let mut features = Features::default();
    let mut times = Vec::new();
    for &(dir, nanos, wire_len, flags) in packets {
        let time = Timestamp::from_nanos(nanos);
        let transport = if flags.is_some() { 32 } else { 8 };
        let facts = Facts {
            key,
            sender: if dir == Dir::Fwd { src } else { src.other() },
            time,
            table_time: TableTime { epoch: 0, time },
            wire_len,
            ip_len: u64::from(wire_len) - 14,
            payload_len: u64::from(wire_len).saturating_sub(link_and_ip + transport),
            ttl: 64,
            dscp: 0,
            fragment: Fragment::No,
            icmp: None,
            tcp: flags.map(|flags| TcpFacts {
                flags,
                seq: 1,
                ack: 1,
                window: 64_240,
                mss: None,
                window_scale: None,
            }),
            bad_checksum: false,
        };
        let packet = Packet { facts: &facts, payload: &[], message: None, labels: &Labels::default() };
        features.update(&packet, dir, &FeatureOptions::default());
        times.push(time);
    }
    FlowRecord {
        flow_id: 4_503_599_627_370_497,
        key,
        src,
        community_id: CommunityId::new(&key, src, None, 0),
        first: *times.iter().min().unwrap(),
        last: *times.iter().max().unwrap(),
        labels: None,
        icmp: None,
        dscp: 0,
        features: features.finish(),
        app: None,
        l7: L7Facts::default(),
        owners: None,
        end_reason: EndReason::Eof,
        orientation: Orientation::First,
        slice: 0,
        is_final: true,
        due: TableTime::default(),
        extra: None,
    }
}
