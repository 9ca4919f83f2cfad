//! How flows end: idle, fin, rst, reuse, active, eof (definitions.md, "End of a flow").

use super::*;
use crate::time::TableTime;

#[test]
fn a_gap_of_just_the_timeout_does_not_end_a_flow() {
    let records = Bench::with_idle(60).run(&[udp(0), udp(60_000)]);
    assert_eq!(reasons(&records), [("eof", 2)]);
}

#[test]
fn a_longer_gap_ends_it_even_if_no_sweep_ran_in_between() {
    // 60.001 s: within the same slot of the wheel as 60.000 s, so that only the next packet can tell.
    let records = Bench::with_idle(60).run(&[udp(0), udp(60_001)]);
    assert_eq!(reasons(&records), [("idle", 1), ("eof", 1)]);
    assert_eq!(records[0].due.time, at(60_000));
    assert_eq!(records[1].first, at(60_001));
    assert_ne!(records[0].flow_id, records[1].flow_id);
}

#[test]
fn sweeps_change_nothing() {
    let shots = [udp(0), udp(59_000), udp(118_999), udp(200_000)];
    let mut swept = Bench::with_idle(60);
    for shot in &shots {
        let before = swept.clock.now().time;
        for millis in (before.as_nanos() / 1_000_000..shot.millis).step_by(500) {
            let now = TableTime { epoch: 0, time: at(millis) };
            swept.table.expire(now, |record| swept.out.push(record));
        }
        swept.shoot(shot);
    }
    let (swept, plain) = (swept.end(), Bench::with_idle(60).run(&shots));
    assert_eq!(reasons(&plain), [("idle", 3), ("eof", 1)]);
    assert_eq!(format!("{swept:?}"), format!("{plain:?}"));
}

#[test]
fn each_protocol_has_its_idle_timeout() {
    let icmp = |millis| Shot { proto: Proto::ICMP, ..udp(millis) };
    let other = |millis| Shot { proto: Proto(89), ..udp(millis) };
    let ack = |millis| tcp(millis, TcpFlags::ACK);
    for (shot, seconds) in [(icmp as fn(i64) -> Shot, 30), (udp, 60), (other, 60), (ack, 300)] {
        let options = || TableOptions { active: None, ..TableOptions::default() };
        let stays = Bench::new(options()).run(&[shot(0), shot(seconds * 1000)]);
        assert_eq!(reasons(&stays), [("eof", 2)]);
        let ends = Bench::new(options()).run(&[shot(0), shot(seconds * 1000 + 1)]);
        assert_eq!(reasons(&ends), [("idle", 1), ("eof", 1)]);
    }
}

#[test]
fn fins_of_both_sides_end_a_flow_five_seconds_later() {
    let close = [tcp(0, FIN_ACK), tcp(1000, FIN_ACK).back()];
    let last_ack = |millis| tcp(millis, TcpFlags::ACK);
    let run = |late: Shot| Bench::with_idle(300).run(&[close[0].clone(), close[1].clone(), late]);
    assert_eq!(reasons(&run(last_ack(6000))), [("fin", 3)]);
    let late = run(last_ack(6001));
    assert_eq!(reasons(&late), [("fin", 2), ("eof", 1)]);
    assert_eq!(late[0].due.time, at(6000));
}

#[test]
fn packets_after_the_close_do_not_put_its_end_off() {
    let ack = |millis| tcp(millis, TcpFlags::ACK);
    let shots = [tcp(0, TcpFlags::RST), ack(2000), ack(4000), ack(5001)];
    assert_eq!(reasons(&Bench::with_idle(300).run(&shots)), [("rst", 3), ("eof", 1)]);
}

#[test]
fn two_fins_of_one_side_are_no_close() {
    let shots = [tcp(0, FIN_ACK), tcp(10, FIN_ACK), tcp(20_000, TcpFlags::ACK)];
    assert_eq!(reasons(&Bench::with_idle(300).run(&shots)), [("eof", 3)]);
}

#[test]
fn the_first_of_fin_and_rst_names_the_end() {
    let fins = [tcp(0, FIN_ACK), tcp(1, FIN_ACK).back(), tcp(2, TcpFlags::RST)];
    assert_eq!(reasons(&Bench::with_idle(300).run(&fins)), [("fin", 3)]);
    let reset = [tcp(0, TcpFlags::RST), tcp(1, FIN_ACK), tcp(2, FIN_ACK).back()];
    assert_eq!(reasons(&Bench::with_idle(300).run(&reset)), [("rst", 3)]);
}

#[test]
fn a_new_syn_opens_a_new_flow_once_the_old_one_is_closed() {
    let syn = |millis, seq| Shot { seq, ..tcp(millis, TcpFlags::SYN) };
    let shots = [syn(0, 1), tcp(1, TcpFlags::RST).back(), syn(100, 2)];
    let records = Bench::with_idle(300).run(&shots);
    assert_eq!(reasons(&records), [("rst", 2), ("eof", 1)]);
    assert_eq!(records[0].due.time, at(100));
    // A repetition of the old SYN belongs to the old flow.
    let repeated = [syn(0, 1), tcp(1, TcpFlags::RST).back(), syn(100, 1)];
    assert_eq!(reasons(&Bench::with_idle(300).run(&repeated)), [("rst", 3)]);
}

#[test]
fn a_new_syn_needs_five_silent_seconds_where_the_old_flow_is_open() {
    let syn = |millis, seq| Shot { seq, ..tcp(millis, TcpFlags::SYN) };
    assert_eq!(reasons(&Bench::with_idle(300).run(&[syn(0, 1), syn(4999, 2)])), [("eof", 2)]);
    assert_eq!(reasons(&Bench::with_idle(300).run(&[syn(0, 1), syn(5000, 2)])), [("reuse", 1), ("eof", 1)]);
    assert_eq!(reasons(&Bench::with_idle(300).run(&[syn(0, 1), syn(5000, 1)])), [("eof", 2)]);
    // A SYN-ACK opens nothing.
    let answer = Shot { seq: 9, ..tcp(5000, SYN_ACK).back() };
    assert_eq!(reasons(&Bench::with_idle(300).run(&[syn(0, 1), answer])), [("eof", 2)]);
}

#[test]
fn the_active_timeout_cuts_at_the_next_packet_only() {
    let options = TableOptions {
        idle: IdleTimeouts::all(Duration::from_secs(1000)),
        active: Some(Duration::from_secs(300)),
        ..TableOptions::default()
    };
    let shots = [udp(0), udp(300_000), udp(300_001), udp(700_000), udp(1_700_001)];
    let records = Bench::new(options).run(&shots);
    assert_eq!(reasons(&records), [("active", 2), ("active", 1), ("idle", 1), ("eof", 1)]);
    let slices: Vec<_> = records.iter().map(|r| (r.slice, r.is_final)).collect();
    assert_eq!(slices, [(0, false), (1, false), (2, true), (0, true)]);
    assert!(records[..3].iter().all(|record| record.flow_id == records[0].flow_id));
    assert_eq!((records[1].first, records[1].last), (at(300_001), at(300_001)));
    assert_eq!(records[1].orientation.name(), "carried");
    assert_eq!(records[0].due.time, at(300_001));
}

#[test]
fn a_packet_is_open_or_in_a_record_but_never_both() {
    let active = Some(Duration::from_secs(10));
    let mut bench = Bench::new(TableOptions { active, ..TableOptions::default() });
    for shot in [udp(0), udp(5_000), udp(10_001), udp(10_002)] {
        bench.shoot(&shot);
        let counts = bench.table.counts();
        let (packets, bytes) = bench.table.open_volume();
        assert_eq!(counts.packets, counts.record_packets + packets);
        assert_eq!(counts.bytes, counts.record_bytes + bytes);
    }
    assert_eq!(reasons(&bench.end()), [("active", 2), ("eof", 2)]);
}

#[test]
fn at_the_end_of_input_a_flow_that_was_silent_too_long_is_idle() {
    let other = Shot { sport: 1, ..udp(60_010) };
    let mut ends = reasons(&Bench::with_idle(60).run(&[udp(0), udp(10), other]));
    ends.sort_unstable();
    assert_eq!(ends, [("eof", 1), ("eof", 2)]);
    let other = Shot { sport: 1, ..udp(60_011) };
    let records = Bench::with_idle(60).run(&[udp(0), udp(10), other]);
    assert_eq!(reasons(&records), [("idle", 2), ("eof", 1)]);
}

#[test]
fn a_late_packet_counts_and_moves_nothing_back() {
    let late = udp(1000);
    let records = Bench::with_idle(60).run(&[udp(30_000), late, udp(90_000)]);
    assert_eq!(reasons(&records), [("eof", 3)]);
    assert_eq!((records[0].first, records[0].last), (at(1000), at(90_000)));
}

#[test]
fn a_step_back_beyond_the_largest_timeout_starts_anew() {
    let records = Bench::with_idle(60).run(&[udp(100_000), udp(39_999), udp(40_000)]);
    assert_eq!(reasons(&records), [("eof", 1), ("eof", 2)]);
    assert_eq!(records[1].due.epoch, 1);
}

#[test]
fn a_timeout_beyond_the_wheel_holds() {
    // 5000 s are 4.5 turns of the wheel.
    let records = Bench::with_idle(5000).run(&[udp(0), Shot { sport: 7, ..udp(4_999_999) }, udp(5_000_000)]);
    let mut ends = reasons(&records);
    ends.sort_unstable();
    assert_eq!(ends, [("eof", 1), ("eof", 2)]);
    let records = Bench::with_idle(5000).run(&[udp(0), Shot { sport: 7, ..udp(90_000_000) }]);
    assert_eq!(reasons(&records), [("idle", 1), ("eof", 1)]);
    assert_eq!(records[0].due.time, at(5_000_000));
}

#[test]
fn next_expiry_is_when_something_leaves() {
    let mut bench = Bench::with_idle(60);
    assert_eq!(bench.table.next_expiry(), None);
    bench.shoot(&udp(0));
    let next = bench.table.next_expiry().unwrap();
    assert!(next > at(60_000) && next < at(60_600), "{next}");
    bench.table.expire(TableTime { epoch: 0, time: next }, |record| bench.out.push(record));
    assert_eq!(reasons(&bench.out), [("idle", 1)]);
    assert_eq!(bench.table.next_expiry(), None);
}

#[test]
fn a_packet_with_a_wrong_checksum_counts_and_ends_nothing() {
    let wrong = |shot: Shot| Shot { bad_checksum: true, ..shot };
    let shots = [
        tcp(0, TcpFlags::ACK),
        wrong(tcp(1, TcpFlags::RST)),
        wrong(tcp(2, TcpFlags::SYN).back()),
        tcp(5500, TcpFlags::ACK),
        wrong(tcp(11_000, TcpFlags::SYN)),
    ];
    let records = Bench::with_idle(300).run(&shots);
    assert_eq!(reasons(&records), [("eof", 5)]);
    assert_eq!(records[0].orientation.name(), "first");
}

/// A table that was told the time of 1970 before the first packet came turns its wheel at once, and not slot by slot
/// with every flow.
#[test]
fn time_may_leap_by_decades_between_packets() {
    let mut bench = Bench::with_idle(30);
    let decade = 315_360_000_000;
    for (nth, millis) in [0, 5 * decade, 10 * decade].into_iter().enumerate() {
        let now = TableTime { epoch: 0, time: at(millis) };
        bench.table.expire_some(now, 1, |record| bench.out.push(record));
        (0..3000).for_each(|n| bench.shoot_in_a_batch(&Shot { sport: n, ..udp(millis + 1) }));
        assert_eq!((bench.table.len(), bench.out.len()), (3000, nth * 3000));
    }
    assert_eq!(bench.end().len(), 9000);
}
