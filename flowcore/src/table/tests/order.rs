//! The order in which records leave (definitions.md, "Order of replay").

use super::*;
use crate::time::TableTime;

#[test]
fn records_leave_by_due_time_then_flow_id_then_slice() {
    let options = TableOptions { active: Some(Duration::from_secs(7)), ..TableOptions::default() };
    let mut bench = Bench::new(options);
    let mut seed = 1u32;
    for n in 0..20_000i64 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let sport = (seed >> 8) as u16 % 500;
        let flags = [TcpFlags::ACK, TcpFlags::SYN, TcpFlags::RST, FIN_ACK][(seed >> 28) as usize % 4];
        let shot = if seed >> 31 == 0 { udp(n * 37) } else { tcp(n * 37, flags) };
        let shot = Shot { sport, seq: seed, ..shot };
        bench.shoot(&if seed >> 27 & 1 == 0 { shot } else { shot.back() });
    }
    let records = bench.end();
    assert!(records.len() > 1000);
    let place = |record: &FlowRecord| (record.due, record.flow_id, record.slice);
    assert!(records.is_sorted_by_key(place));
    for reason in ["idle", "active", "fin", "rst", "reuse", "eof"] {
        assert!(records.iter().any(|record| record.end_reason.name() == reason), "no {reason}");
    }
}

#[test]
fn flows_of_one_key_and_one_moment_leave_in_the_order_they_came() {
    let mut bench = Bench::with_idle(60);
    for n in 0..40 {
        for flags in [TcpFlags::SYN, TcpFlags::RST] {
            bench.shoot(&Shot { seq: 1000 * n, wire_len: 60 + n, ..tcp(0, flags) });
        }
    }
    let records = bench.end();
    let bytes: Vec<u64> = records.iter().map(|record| record.features.volume.src.bytes).collect();
    assert_eq!(bytes, (0..40).map(|n| 2 * (60 + n)).collect::<Vec<_>>());
    assert!(
        records.iter().all(|record| record.flow_id == records[0].flow_id && record.due == records[0].due)
    );
}

#[test]
fn nothing_due_before_the_settled_time_is_left() {
    let mut bench = Bench::with_idle(1);
    for n in 0..5_000 {
        bench.shoot(&Shot { sport: n as u16 % 97, ..udp(n * 31) });
        let settled = bench.table.settled();
        let late = bench.out.pop();
        assert!(late.is_none_or(|record| record.due < settled));
        bench.out.clear();
    }
}

/// Thousands of flows that are due at once leave with the packets after them, a few at a time, as if they had left
/// at once: also those whose key, or whose place in a full table, a later packet takes.
#[test]
fn many_at_once_leave_a_few_at_a_time() {
    let options = TableOptions { max_flows: 3500, ..TableOptions::default() };
    let shots: Vec<Shot> = (0..3000u16)
        .map(|n| Shot { sport: 1000 + n, ..udp(i64::from(n % 50)) })
        .chain((0..600).map(|n| Shot { sport: n * 7, ..udp(100_000 + i64::from(n)) }))
        .collect();
    let (mut slow, mut quick) = (Bench::new(options.clone()), Bench::new(options));
    let mut most = 0;
    for shot in &shots {
        let before = slow.out.len();
        slow.shoot(shot);
        most = most.max(slow.out.len() - before);
        let now = TableTime { epoch: 0, time: at(shot.millis) };
        quick.table.expire(now, |record| quick.out.push(record));
        quick.shoot(shot);
    }
    assert!(slow.out.len() > 2000 && most < 100, "{} in all, {most} at once", slow.out.len());
    let lines = |records: Vec<FlowRecord>| -> Vec<String> {
        records.iter().map(|record| serde_json::to_string(record).unwrap()).collect()
    };
    let (slow, quick) = (lines(slow.end()), lines(quick.end()));
    assert_eq!(slow.len(), quick.len());
    assert!(slow == quick);
}
