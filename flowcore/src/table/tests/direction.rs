//! Who is src (definitions.md, "Direction").

use super::*;

fn src_port(record: &FlowRecord) -> u16 {
    record.key.endpoint(record.src).port.unwrap()
}

fn oriented(shots: &[Shot]) -> (u16, &'static str) {
    let records = Bench::with_idle(300).run(shots);
    assert_eq!(records.len(), 1);
    (src_port(&records[0]), records[0].orientation.name())
}

#[test]
fn the_first_rule_that_holds_wins() {
    let to_web = |millis, flags| Shot { dport: 80, ..tcp(millis, flags) };
    assert_eq!(oriented(&[to_web(0, TcpFlags::SYN)]), (40_000, "syn"));
    assert_eq!(oriented(&[to_web(0, SYN_ACK).back()]), (40_000, "syn_ack"));
    assert_eq!(oriented(&[to_web(0, TcpFlags::ACK).back()]), (40_000, "port"));
    assert_eq!(oriented(&[udp(0)]), (40_000, "first"));
    assert_eq!(oriented(&[udp(0).back()]), (9_999, "first"));
    let ports = |sport, dport| Shot { sport, dport, ..udp(0) };
    assert_eq!(oriented(&[ports(27_017, 40_000)]), (40_000, "port"));
    assert_eq!(oriented(&[ports(53, 80)]), (53, "first"));
    assert_eq!(oriented(&[ports(0, 1023)]), (0, "port"));
    assert_eq!(oriented(&[ports(1024, 1023)]), (1024, "port"));
    // A service's port that sends a SYN is the initiator all the same.
    assert_eq!(oriented(&[to_web(0, TcpFlags::SYN).back()]), (80, "syn"));
}

#[test]
fn multicast_is_the_other_end() {
    let mut bench = Bench::with_idle(60);
    let facts = |src: [u8; 4], dst: [u8; 4]| {
        FlowKey::new(
            4,
            AddrWords::v4(src),
            AddrWords::v4(dst),
            Proto::UDP,
            Some((40_000, 40_000)),
            VlanStack::default(),
            TunnelKey::default(),
        )
    };
    for (nth, (src, dst)) in
        [([239, 1, 1, 1], [10, 0, 0, 9]), ([255, 255, 255, 255], [10, 0, 0, 9])].into_iter().enumerate()
    {
        let (key, sender) = facts(src, dst);
        let time = at(nth as i64);
        let table_time = bench.clock.observe(Some(time)).1;
        let facts = Facts {
            key,
            sender,
            time,
            table_time,
            wire_len: 60,
            ip_len: 46,
            payload_len: 0,
            ttl: 1,
            dscp: 0,
            fragment: Fragment::No,
            icmp: None,
            tcp: None,
            bad_checksum: false,
        };
        let packet = Packet { facts: &facts, payload: b"", message: None, labels: &Labels::default() };
        bench.table.ingest(&packet, |record| bench.out.push(record));
    }
    for record in bench.end() {
        assert_eq!(record.orientation.name(), "multicast");
        assert_eq!(record.key.endpoint(record.src).addr.to_string(), "10.0.0.9");
    }
}

#[test]
fn better_evidence_turns_every_number() {
    let shots = [
        Shot { wire_len: 500, ..tcp(0, TcpFlags::ACK).back() },
        Shot { wire_len: 70, ..tcp(1, TcpFlags::ACK) },
        Shot { wire_len: 60, ..tcp(2, TcpFlags::SYN) },
    ];
    let records = Bench::with_idle(60).run(&shots);
    assert_eq!((src_port(&records[0]), records[0].orientation.name()), (40_000, "syn"));
    let volume = &records[0].features.volume;
    assert_eq!((volume.src.packets, volume.src.bytes), (2, 130));
    assert_eq!((volume.dst.packets, volume.dst.bytes), (1, 500));
}

#[test]
fn worse_or_equal_evidence_turns_nothing() {
    let shots = [tcp(0, TcpFlags::SYN), tcp(1, TcpFlags::SYN).back(), tcp(2, SYN_ACK)];
    assert_eq!(oriented(&shots), (40_000, "syn"));
}

#[test]
fn a_flow_turns_once_only() {
    // The SYN-ACK turns it; the SYN of the other side comes too late.
    let shots = [tcp(0, TcpFlags::ACK), tcp(1, SYN_ACK), tcp(2, TcpFlags::SYN)];
    assert_eq!(oriented(&shots), (9_999, "syn_ack"));
}

#[test]
fn a_flow_with_a_written_slice_stays_as_it_is() {
    let options = TableOptions { active: Some(Duration::from_secs(10)), ..TableOptions::default() };
    let ack = |millis| tcp(millis, TcpFlags::ACK);
    let shots = [ack(0), ack(6_000), tcp(10_001, TcpFlags::SYN).back()];
    let records = Bench::new(options).run(&shots);
    assert_eq!(records.len(), 2);
    assert_eq!(src_port(&records[1]), 40_000);
    assert_eq!(records[1].orientation.name(), "carried");
}

#[test]
fn equal_ends_are_all_src() {
    let land = |millis, flags| Shot { to: CLIENT, dport: 40_000, ..tcp(millis, flags) };
    let records =
        Bench::with_idle(60).run(&[land(0, TcpFlags::SYN), land(1, SYN_ACK), land(2, TcpFlags::ACK)]);
    assert_eq!(records[0].features.volume.src.packets, 3);
    assert_eq!(records[0].features.volume.dst.packets, 0);
}
