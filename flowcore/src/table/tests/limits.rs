//! What happens when the table is full (faults.md).

use super::*;

fn options(max_flows: usize) -> TableOptions {
    TableOptions { max_flows, ..TableOptions::default() }
}

fn syn(millis: i64, sport: u16) -> Shot {
    Shot { sport, ..tcp(millis, TcpFlags::SYN) }
}

/// SYN, SYN-ACK and ACK.
fn handshake(millis: i64, sport: u16) -> [Shot; 3] {
    let ack = Shot { sport, ..tcp(millis + 2, TcpFlags::ACK) };
    let answer = Shot { sport, ..tcp(millis + 1, SYN_ACK) }.back();
    [syn(millis, sport), answer, ack]
}

fn ports_of(records: &[FlowRecord], reason: EndReason) -> Vec<u16> {
    let chosen = records.iter().filter(|record| record.end_reason == reason);
    chosen.map(|record| record.key.endpoint(record.src).port.unwrap()).collect()
}

#[test]
fn half_open_flows_go_first_oldest_first() {
    let mut shots: Vec<Shot> = handshake(0, 1001).into_iter().chain(handshake(10, 1002)).collect();
    shots.extend([syn(100, 2001), syn(101, 2002), syn(102, 2003), syn(103, 2004)]);
    let records = Bench::new(options(4)).run(&shots);
    assert_eq!(ports_of(&records, EndReason::Resource), [2001, 2002]);
    assert_eq!(records.len(), 6);
}

#[test]
fn among_established_flows_the_one_nearest_to_its_end_goes() {
    let mut shots: Vec<Shot> = handshake(0, 1001).into_iter().chain(handshake(1000, 1002)).collect();
    // 1001 is used again, so 1002 is now the least recently used one.
    shots.push(Shot { sport: 1001, ..tcp(2000, TcpFlags::ACK) });
    shots.extend(handshake(3000, 1003));
    let records = Bench::new(options(2)).run(&shots);
    assert_eq!(ports_of(&records, EndReason::Resource), [1002]);
}

#[test]
fn established_flows_outlive_a_flood_of_syns() {
    let mut bench = Bench::new(options(200));
    let mut millis = 0;
    for port in 0..100 {
        handshake(millis, 1000 + port).iter().for_each(|shot| bench.shoot(shot));
    }
    for n in 0..20_000u16 {
        millis = i64::from(n) / 200;
        bench.shoot(&syn(millis, 10_000 + n));
        if n % 100 == 0 {
            bench.shoot(&Shot { sport: 1000 + n / 200, ..tcp(millis, TcpFlags::ACK) });
        }
        assert!(bench.table.len() <= 200);
    }
    let records = bench.end();
    let evicted = ports_of(&records, EndReason::Resource);
    assert_eq!(evicted.len(), 19_900);
    assert!(evicted.iter().all(|port| *port >= 10_000), "an established flow was broken");
}

#[test]
fn memory_is_bounded_too() {
    let limit = 200_000;
    let mut bench = Bench::new(TableOptions { max_memory: limit, ..TableOptions::default() });
    for port in 0..5_000 {
        bench.shoot(&Shot { sport: port, payload: &[7; 1000], ..udp(i64::from(port)) });
        assert!(bench.table.memory() <= limit);
    }
    assert!(bench.table.len() > 10);
    let records = bench.end();
    assert_eq!(records.len(), 5_000);
    assert!(!ports_of(&records, EndReason::Resource).is_empty());
}

#[test]
fn labels_are_part_of_a_flows_memory() {
    let limit = 200_000;
    let kinds: [fn(u16) -> Labels; 2] = [
        |port| Labels { mpls: vec![port.into(); 64], ..Labels::default() },
        |port| Labels { interface: Some(format!("{port:0256}").into()), ..Labels::default() },
    ];
    for labels_of in kinds {
        let mut bench = Bench::new(TableOptions { max_memory: limit, ..TableOptions::default() });
        for port in 0..1_000 {
            let labels = labels_of(port);
            bench.aim(&Shot { sport: port, ..udp(0) }, |table, packet, out| {
                table.ingest(&Packet { labels: &labels, ..*packet }, |record| out.push(record));
            });
            assert!(bench.table.memory() <= limit);
        }
        let taken = bench.table.len() * 256;
        assert!(taken > 20_000 && taken as u64 <= limit, "{taken}");
        assert_eq!(bench.end().len(), 1_000);
    }
}

#[test]
fn a_closed_flow_that_must_go_keeps_its_reason() {
    let shots = [syn(0, 1), Shot { sport: 1, ..tcp(1, TcpFlags::RST) }.back(), syn(2, 2)];
    let mut ends = reasons(&Bench::new(options(1)).run(&shots));
    ends.sort_unstable();
    assert_eq!(ends, [("eof", 1), ("rst", 2)]);
}

#[test]
fn what_is_evicted_does_not_wait_for_time_to_pass() {
    let mut bench = Bench::new(options(10));
    for port in 0..5_000 {
        bench.shoot(&syn(0, port));
        assert!(bench.table.len() <= 10 && bench.out.len() + 10 >= usize::from(port));
    }
    assert_eq!(bench.end().len(), 5_000);
}

#[test]
fn what_waits_for_its_turn_is_bounded_too() {
    let mut bench = Bench::new(options(10));
    for seq in 0..50_000 {
        // Each SYN ends the connection that the RST before it has closed, all at one moment.
        bench.shoot(&Shot { seq, ..syn(0, 1) });
        bench.shoot(&Shot { sport: 1, ..tcp(0, TcpFlags::RST) }.back());
        assert!(bench.out.len() + 8_192 >= seq as usize);
    }
    assert_eq!(bench.end().len(), 50_000);
}
