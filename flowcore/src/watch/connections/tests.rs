use std::time::Duration;

use super::super::scene::{ACK, C, FIN, RST, RST_ACK, S, SYN, SYN_ACK, Scene, at, end};
use super::Happened::{Accepted, Closed, Established, Failed};
use super::*;
use crate::capture::{FileSource, Next, Source as _};
use crate::decode::{DecodeOptions, Decoder};
use crate::packet::TcpFlags;

#[test]
fn the_initiator_establishes_and_closes() {
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN).send(1, S, SYN_ACK);
    assert_eq!(scene.shown(), []);
    scene.send(2, C, ACK);
    assert_eq!(scene.shown(), [(Established, C, 2)]);
    scene.send_data(5, C, ACK, 100).send(6, S, ACK).send(7, C, FIN).send(8, S, FIN);
    assert_eq!(scene.shown(), []);
    scene.send(9, C, ACK);
    assert_eq!(scene.shown(), [(Closed, C, 9)]);
}

#[test]
fn the_responder_accepts_and_closes() {
    let mut scene = Scene::new(&[S]);
    assert_eq!(scene.open(0).close(100).shown(), [(Accepted, S, 2), (Closed, S, 102)]);
}

#[test]
fn both_ends_here_have_an_event_each() {
    let mut scene = Scene::new(&[C, S]);
    assert_eq!(scene.open(0).shown(), [(Established, C, 2), (Accepted, S, 2)]);
    assert_eq!(scene.close(100).shown(), [(Closed, C, 102), (Closed, S, 102)]);
}

#[test]
fn neither_end_here_is_nothing_to_follow() {
    let mut scene = Scene::new(&[]);
    assert_eq!(scene.open(0).shown(), []);
    assert!(scene.connections.is_empty());
}

#[test]
fn everything_may_come_twice() {
    let mut scene = Scene::new(&[C, S]);
    for (millis, from, flags, seq, ack) in [
        (0, C, SYN, 1000, 0),
        (1, S, SYN_ACK, 9000, 1001),
        (2, C, ACK, 1001, 9001),
        (3, C, FIN, 1001, 9001),
        (4, S, FIN, 9001, 1002),
        (5, C, ACK, 1002, 9002),
    ] {
        for _ in 0..2 {
            scene.segment(millis, from, flags, seq, ack, 0);
        }
    }
    let (opened, closed) = (2, 5);
    let expected =
        [(Established, C, opened), (Accepted, S, opened), (Closed, C, closed), (Closed, S, closed)];
    assert_eq!(scene.shown(), expected);
    assert_eq!(scene.connections.len(), 1);
}

#[test]
fn a_lost_answer_is_sent_again() {
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN).segment(1000, C, SYN, 1000, 0, 0);
    scene.send(1001, S, SYN_ACK).segment(2001, S, SYN_ACK, 9000, 1001, 0).send(2002, C, ACK);
    assert_eq!(scene.shown(), [(Established, C, 2002)]);
}

#[test]
fn an_answer_that_was_not_captured() {
    let mut scene = Scene::new(&[C, S]);
    scene.send(0, C, SYN);
    scene.next[S as usize] += 1;
    assert_eq!(scene.send(2, C, ACK).shown(), [(Established, C, 2), (Accepted, S, 2)]);
}

#[test]
fn an_acknowledgement_that_was_not_captured() {
    let mut scene = Scene::new(&[C, S]);
    scene.send(0, C, SYN).send(1, S, SYN_ACK).send_data(3, S, ACK, 20);
    assert_eq!(scene.shown(), [(Established, C, 3), (Accepted, S, 3)]);
}

#[test]
fn a_syn_that_was_not_captured() {
    let mut scene = Scene::new(&[C, S]);
    scene.next[C as usize] += 1;
    scene.send(1, S, SYN_ACK).send(2, C, ACK);
    assert_eq!(scene.shown(), [(Established, C, 2), (Accepted, S, 2)]);
}

#[test]
fn refused() {
    for (locals, expected) in
        [(&[C][..], vec![(Failed, C, 1)]), (&[S], vec![]), (&[C, S], vec![(Failed, C, 1)])]
    {
        assert_eq!(
            Scene::new(locals).send(0, C, SYN).send(1, S, RST_ACK).send(2, S, RST_ACK).shown(),
            expected
        );
    }
}

#[test]
fn an_event_tells_since_when_its_connection_was_seen() {
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN).segment(1000, C, SYN, 1000, 0, 0).send(1001, S, RST_ACK);
    scene.again([5000, 7000]).open(2000).close(2010);
    let since = |event: &ConnectionEvent| (event.happened, event.since);
    let told: Vec<_> = scene.events.iter().map(since).collect();
    assert_eq!(told, [(Failed, at(0)), (Established, at(2000)), (Closed, at(2000))]);
}

#[test]
fn a_reset_that_does_not_answer_the_syn_is_none() {
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN).segment(1, S, RST_ACK, 0, 500, 0).segment(2, S, RST, 0, 0, 0);
    assert_eq!(scene.send(3, S, SYN_ACK).send(4, C, ACK).shown(), [(Established, C, 4)]);
}

#[test]
fn without_an_answer() {
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN).segment(1000, C, SYN, 1000, 0, 0).segment(3000, C, SYN, 1000, 0, 0);
    assert_eq!(scene.wait_until(37_999).shown(), []);
    assert_eq!(scene.wait_until(38_000).shown(), [(Failed, C, 38_000)]);
    assert_eq!(scene.wait_until(90_000).connections.len(), 1);
    assert_eq!(scene.wait_until(98_000).shown(), []);
    assert!(scene.connections.is_empty() && scene.connections.alarms.is_empty());
}

#[test]
fn an_answer_that_never_arrives_is_none() {
    assert_eq!(
        Scene::new(&[C]).send(0, C, SYN).send(1, S, SYN_ACK).wait_until(60_000).shown(),
        [(Failed, C, 35_001)]
    );
    // Nobody's process at the other end knew of it.
    assert_eq!(Scene::new(&[S]).send(0, C, SYN).send(1, S, SYN_ACK).wait_until(60_000).shown(), []);
}

#[test]
fn a_scanner_takes_its_attempt_back() {
    let mut scene = Scene::new(&[C, S]);
    scene.send(0, C, SYN).send(1, S, SYN_ACK).send(2, C, RST);
    assert_eq!(scene.shown(), [(Failed, C, 2)]);
}

#[test]
fn unreachable() {
    let quote = |seq: u32, proto: u8| {
        let mut quote = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 63, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        quote.extend(40_000u16.to_be_bytes());
        quote.extend(80u16.to_be_bytes());
        quote.extend(seq.to_be_bytes());
        quote
    };
    for (kind, code, expected) in [(3, 1, 1), (3, 13, 1), (11, 0, 1), (3, 4, 0), (8, 0, 0), (5, 1, 0)] {
        let mut scene = Scene::new(&[C]);
        scene.send(0, C, SYN).icmp(1, kind, code, &quote(1000, 6));
        assert_eq!(scene.shown(), vec![(Failed, C, 1); expected], "{kind} {code}");
    }
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN);
    scene.icmp(1, 3, 1, &quote(999, 6)).icmp(1, 3, 1, &quote(1000, 17)).icmp(1, 3, 1, &quote(1000, 6)[..27]);
    for len in 0..20 {
        scene.icmp(1, 3, 1, &quote(1000, 6)[..len]);
    }
    assert_eq!(scene.shown(), []);
    // An open connection lives through it.
    assert_eq!(scene.send(2, S, SYN_ACK).send(3, C, ACK).shown(), [(Established, C, 3)]);
    assert_eq!(scene.icmp(4, 3, 1, &quote(1000, 6)).shown(), []);
}

#[test]
fn unreachable_in_ipv6() {
    let mut scene = Scene::new(&[]);
    scene.ends = [end("[2001:db8::1]:40000"), end("[2001:db8::2]:80")];
    scene.make_local(C);
    let mut quote = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    for end in scene.ends {
        let IpAddr::V6(addr) = end.addr else { panic!() };
        quote.extend(addr.octets());
    }
    quote.extend([0x9c, 0x40, 0, 80, 0, 0, 0x03, 0xe8]);
    scene.send(0, C, SYN).icmp(1, 2, 0, &quote);
    assert_eq!(scene.shown(), []);
    assert_eq!(scene.icmp(2, 1, 3, &quote).shown(), [(Failed, C, 2)]);
}

#[test]
fn opened_from_both_sides_at_once() {
    let mut scene = Scene::new(&[C, S]);
    scene.send(0, C, SYN).send(0, S, SYN);
    scene.segment(1, C, SYN_ACK, 1000, 9001, 0);
    assert_eq!(scene.shown(), []);
    scene.segment(2, S, SYN_ACK, 9000, 1001, 0);
    assert_eq!(scene.shown(), [(Established, C, 2), (Established, S, 2)]);
    assert_eq!(scene.close(10).shown(), [(Closed, C, 12), (Closed, S, 12)]);
}

#[test]
fn reset_by_either_end() {
    for from in [C, S] {
        let mut scene = Scene::new(&[C]);
        scene.open(0).send(50, from, RST_ACK).send(51, C, RST).send_data(52, S, ACK, 10).send(53, C, RST);
        assert_eq!(scene.shown(), [(Established, C, 2), (Closed, C, 50)]);
    }
}

#[test]
fn a_half_closed_connection_is_open() {
    let mut scene = Scene::new(&[C]);
    scene.open(0).send(10, C, FIN).send(11, S, ACK).send_data(12, S, ACK, 500).send(13, C, ACK);
    assert_eq!(scene.shown(), [(Established, C, 2)]);
    assert_eq!(scene.send(20, S, FIN).send(21, C, ACK).shown(), [(Closed, C, 21)]);
}

#[test]
fn seen_from_the_middle_it_is_only_closed() {
    let mut scene = Scene::new(&[C]);
    scene.send_data(0, S, ACK, 100).send(1, C, ACK).close(10);
    assert_eq!(scene.shown(), [(Closed, C, 12)]);
    let mut scene = Scene::new(&[C]);
    assert_eq!(scene.send(1, C, ACK).send(2, S, RST).shown(), [(Closed, C, 2)]);
}

#[test]
fn a_probe_is_no_connection() {
    // Whatever a scanner sends, the machine's answer is a reset.
    for probe in [ACK, FIN, TcpFlags::FIN, TcpFlags(0), TcpFlags(0x29), SYN_ACK, RST] {
        let mut scene = Scene::new(&[S]);
        assert_eq!(scene.send(0, C, probe).send(1, S, RST).send(2, S, RST_ACK).shown(), [], "{probe:?}");
    }
}

#[test]
fn ports_are_used_again() {
    let mut scene = Scene::new(&[C, S]);
    scene.open(0).close(10).again([500_000, 900_000]).open(1000);
    let opened = |millis| [(Established, C, millis), (Accepted, S, millis)];
    let closed = |millis| [(Closed, C, millis), (Closed, S, millis)];
    assert_eq!(scene.shown(), [opened(2), closed(12), opened(1002)].concat());
    assert_eq!(
        scene.send(1100, C, RST).again([1, 2]).open(1200).shown(),
        [closed(1100), opened(1202)].concat()
    );
    assert_eq!(scene.connections.len(), 1);
}

#[test]
fn a_new_syn_says_that_the_old_connection_was_over() {
    // This machine opens again: its old connection is gone.
    let mut scene = Scene::new(&[C]);
    scene.open(0).again([500_000, 900_000]).send(1000, C, SYN);
    assert_eq!(scene.shown(), [(Established, C, 2), (Closed, C, 1000)]);
    assert_eq!(scene.send(1001, S, SYN_ACK).send(1002, C, ACK).shown(), [(Established, C, 1002)]);
    // The other end does: only the answer tells.
    let mut scene = Scene::new(&[S]);
    scene.open(0).again([500_000, 900_000]).send(1000, C, SYN);
    assert_eq!(scene.shown(), [(Accepted, S, 2)]);
    assert_eq!(
        scene.send(1001, S, SYN_ACK).send(1002, C, ACK).shown(),
        [(Closed, S, 1001), (Accepted, S, 1002)]
    );
    // A second attempt with other numbers.
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN).again([7, 8]).send(1000, C, SYN).send(1001, S, SYN_ACK).send(1002, C, ACK);
    assert_eq!(scene.shown(), [(Failed, C, 1000), (Established, C, 1002)]);
}

#[test]
fn half_open_the_rebooted_end_resets_the_old_connection() {
    let mut scene = Scene::new(&[S]);
    scene.open(0);
    let (seq, ack) = (scene.next[1], scene.next[0]);
    scene.again([500_000, 900_000]).send(1000, C, SYN);
    // The old connection answers with its own numbers, and is reset.
    scene.segment(1001, S, ACK, seq, ack, 0).segment(1002, C, RST, ack, 0, 0);
    assert_eq!(scene.shown(), [(Accepted, S, 2), (Closed, S, 1002)]);
    scene.segment(2000, C, SYN, 500_000, 0, 0).send(2001, S, SYN_ACK).send(2002, C, ACK);
    assert_eq!(scene.shown(), [(Accepted, S, 2002)]);
}

#[test]
fn half_open_the_other_end_remembers_an_old_connection() {
    let mut scene = Scene::new(&[C]);
    scene.send(0, C, SYN).segment(1, S, ACK, 77_000, 55_000, 0).segment(2, C, RST, 55_000, 0, 0);
    scene.segment(1000, C, SYN, 1000, 0, 0).send(1001, S, SYN_ACK).send(1002, C, ACK);
    assert_eq!(scene.shown(), [(Established, C, 1002)]);
}

#[test]
fn numbers_pass_zero() {
    let mut scene = Scene::new(&[C, S]);
    scene.again([u32::MAX, u32::MAX - 1]).open(0);
    scene.send_data(5, C, ACK, 3).send_data(6, S, ACK, 3).close(10);
    assert_eq!(scene.shown().len(), 4);
}

#[test]
fn the_table_is_bounded() {
    let options = ConnectionOptions { most: 3, ..ConnectionOptions::default() };
    let mut scene = Scene::with(&[C], Connections::new(options));
    scene.open(0);
    let open = scene.ends;
    for port in 1..=10 {
        scene.ends[1].port = Some(1000 + port);
        scene.again([5, 6]).send(10 + i64::from(port), C, SYN);
    }
    let connections = &scene.connections;
    assert_eq!((connections.len(), connections.alarms.len(), connections.counts().evicted), (3, 3, 8));
    // Attempts go before what is open.
    scene.ends = open;
    scene.events.clear();
    assert_eq!(scene.again([1001, 9001]).close(100).shown(), [(Closed, C, 102)]);
}

#[test]
fn an_open_connection_is_kept_for_hours() {
    let hours = |hours: i64| hours * 3_600_000;
    let mut scene = Scene::new(&[C]);
    scene.open(0).send_data(hours(1), C, ACK, 1).wait_until(hours(3) - 1);
    assert_eq!(scene.connections.len(), 1);
    assert!(scene.wait_until(hours(3)).connections.is_empty());
    let options = ConnectionOptions { idle: Duration::from_secs(10), ..ConnectionOptions::default() };
    let mut scene = Scene::with(&[C], Connections::new(options));
    scene.open(0).wait_until(20_000).close(30_000);
    assert_eq!(scene.shown(), [(Established, C, 2), (Closed, C, 30_002)]);
}

/// The events of a capture: the port of the end, that of the other end, what, and in which second.
fn of_capture(name: &str, locals: &[&str]) -> Vec<(u16, u16, Happened, i64)> {
    let path = format!("{}/../testdata/captures/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut source = FileSource::open(&[path]).unwrap();
    let mut decoder = Decoder::new(DecodeOptions::default());
    let locals: Vec<IpAddr> = locals.iter().map(|addr| addr.parse().unwrap()).collect();
    let mut connections = Connections::default();
    let mut events = Vec::new();
    let mut begin = None;
    while let Next::Frame(frame) = source.next(Duration::ZERO).unwrap() {
        begin = begin.or(frame.time);
        decoder.decode(&frame, |packet| {
            connections.packet(&packet, |addr| locals.contains(&addr), &mut |event| events.push(event));
        });
    }
    connections.expire(Timestamp::MAX, &mut |event| events.push(event));
    assert!(connections.is_empty());
    let second = |event: &ConnectionEvent| event.time.nanos_since(begin.unwrap()) as i64 / 1_000_000_000;
    let line = |event: &ConnectionEvent| {
        (event.local.port.unwrap(), event.remote.port.unwrap(), event.happened, second(event))
    };
    events.iter().map(line).collect()
}

#[test]
fn captures_of_this_project() {
    let (client, server) = ("192.0.2.10", "198.51.100.20");
    let whole = of_capture("tcp_whole.pcap", &[client, server]);
    let [a, b] = [whole[0].0, whole[0].1];
    assert_eq!(whole, [(a, b, Established, 0), (b, a, Accepted, 0), (a, b, Closed, 0), (b, a, Closed, 0)]);
    assert_eq!(of_capture("tcp_loss.pcap", &[client]).len(), 2);
    assert_eq!(of_capture("tcp_midstream.pcap", &[client, server]), []);

    let ends = of_capture("tcp_ends.pcap", &[client]);
    let of = |port: u16| -> Vec<(Happened, i64)> {
        ends.iter().filter(|event| event.0 == port).map(|event| (event.2, event.3)).collect()
    };
    assert_eq!(of(41001), [(Failed, 0)]);
    assert_eq!(of(41002), [(Failed, 38)]);
    assert_eq!(of(41003), [(Failed, 35)]);
    assert_eq!(of(41004), [(Established, 0), (Closed, 0)]);
    assert_eq!(of(41005), [(Established, 0), (Closed, 0)]);
    assert_eq!(of(41006), [(Established, 0), (Closed, 0)]);

    for (local, opened) in [(client, Established), (server, Accepted)] {
        let reuse: Vec<_> =
            of_capture("tcp_reuse.pcap", &[local]).iter().map(|event| (event.2, event.3)).collect();
        let expected = [(opened, 0), (Closed, 0), (opened, 1), (Closed, 21), (opened, 21), (Closed, 21)];
        assert_eq!(reuse, expected);
    }

    let scan = of_capture("tcp_scan.pcap", &[client]);
    let refused = scan.iter().filter(|event| event.1 % 10 == 0 && event.3 == 0).count();
    let unanswered = scan.iter().filter(|event| event.1 % 10 != 0 && event.3 == 35).count();
    assert_eq!((scan.len(), refused, unanswered), (60, 6, 54));
    assert!(scan.iter().all(|event| event.2 == Failed));
    assert_eq!(of_capture("tcp_scan.pcap", &[server]), []);
    assert_eq!(of_capture("tcp_long.pcap", &["2001:db8::10"]).last().map(|event| event.2), Some(Closed));
}

#[test]
fn a_jump_back_in_time_begins_anew() {
    assert_eq!(of_capture("time_backwards.pcap", &["192.0.2.10", "198.51.100.20"]), []);
}

/// Whatever comes in whatever order: at most one opening and one end for each end, none after its end.
#[test]
fn segments_in_any_order() {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) % below
    };
    for _ in 0..3000 {
        let mut scene = Scene::new(&[C, S]);
        let flags = [SYN, SYN_ACK, ACK, FIN, RST, RST_ACK, ACK];
        for step in 0..random(30) {
            let from = if random(2) == 0 { C } else { S };
            let own = if from == C { 1000 } else { 9000 };
            let (seq, ack) = (own + random(3) as u32, 10_000 - own + random(4) as u32);
            scene.segment(step as i64, from, flags[random(7) as usize], seq, ack, 0);
        }
        scene.wait_until(200_000);
        let ended = |happened| matches!(happened, Closed | Failed);
        for from in [C, S] {
            let of_end: Vec<_> =
                scene.events.iter().filter(|event| event.local == scene.ends[from as usize]).collect();
            for pair in of_end.windows(2) {
                let (first, second) = (pair[0].happened, pair[1].happened);
                assert!(ended(first) || ended(second), "{of_end:#?}");
                assert!(!(ended(first) && second == Closed), "{of_end:#?}");
            }
        }
        assert!(scene.connections.alarms.len() == scene.connections.len());
    }
}
