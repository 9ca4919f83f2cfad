//! What the index holds, and how it lets go.

use std::sync::Mutex;
use std::time::Duration;

use super::super::{Attribution, FlowEnd, IndexLimits, IndexWriter, LocalAddresses};
use super::*;
use crate::host::{Query, Socket, SocketKind, SocketState};

fn tcp(cookie: u64, port: u16) -> Socket {
    Socket {
        kind: SocketKind::Tcp,
        local: Endpoint { port: Some(port), ..end("192.0.2.1:0") },
        remote: Some(end("198.51.100.2:443")),
        state: SocketState::Established,
        uid: 1000,
        inode: 100_000 + cookie,
        cookie,
        netns: 0,
        interface: 0,
        cgroup: None,
    }
}

fn writer(sockets: usize) -> IndexWriter {
    IndexWriter::new(IndexLimits { sockets, ..IndexLimits::default() })
}

fn named(writer: &IndexWriter, port: u16, first: i64) -> bool {
    let local = Endpoint { port: Some(port), ..end("192.0.2.1:0") };
    let (proto, remote) = (Proto::TCP, end("198.51.100.2:443"));
    let flow = FlowEnd { proto, local, remote, opened: true, begun: None, first: at(first), last: at(first) };
    Attribution::live(writer.index(), LocalAddresses::default()).owner(&flow).is_ok()
}

#[test]
fn the_dead_stay_for_a_while() {
    let mut writer = writer(10);
    writer.seen(&tcp(1, 1), at(0), Some(process(10, "curl")));
    writer.closed(&tcp(1, 1), at(100), at(150));
    writer.expire(at(60_099));
    assert!(named(&writer, 1, 50) && !named(&writer, 1, 200));
    writer.expire(at(60_150));
    assert!(writer.index().is_empty());
    // The end of a socket that nobody had seen says only that there was one.
    writer.closed(&tcp(2, 2), at(0), at(0));
    assert!(!named(&writer, 2, -10) && writer.index().len() == 1);
    writer.expire(at(60_000));
    assert!(writer.index().is_empty());
}

#[test]
fn the_living_stay_and_what_was_only_asked_for_goes() {
    let mut writer = writer(10);
    writer.seen(&tcp(1, 1), at(0), Some(process(10, "curl")));
    let server = Socket { local: end("0.0.0.0:53"), remote: None, kind: SocketKind::Udp, ..tcp(2, 53) };
    let query = Query {
        proto: Proto::UDP,
        local: end("192.0.2.1:53"),
        remote: end("198.51.100.9:999"),
        interface: 0,
    };
    let owner = || Some(process(20, "named"));
    writer.answered(&query, &server, SightedAs::Local, at(0), at(0), owner());
    assert_eq!(writer.index().len(), 2);
    writer.expire(at(59_000));
    assert_eq!(writer.index().len(), 2);
    writer.answered(&query, &server, SightedAs::Local, at(59_500), at(59_500), owner());
    writer.expire(at(100_000));
    assert_eq!(writer.index().len(), 2);
    writer.expire(at(200_000));
    assert_eq!(writer.index().len(), 1);
    assert!(named(&writer, 1, 200_000));
}

#[test]
fn what_has_no_room_sends_away_the_dead_and_then_the_oldest() {
    let mut writer = writer(3);
    for number in 1..=3 {
        writer.seen(&tcp(number.into(), number), at(number.into()), Some(process(10, "curl")));
    }
    writer.closed(&tcp(3, 3), at(50), at(50));
    writer.closed(&tcp(2, 2), at(60), at(60));
    let there = |writer: &IndexWriter| -> Vec<u16> {
        (1..10).filter(|&port| named(writer, port, 30) || named(writer, port, 300)).collect()
    };
    assert_eq!((there(&writer), writer.index().evicted()), (vec![1, 2, 3], 0));
    for (number, left) in [(4, [1, 2, 4]), (5, [1, 4, 5]), (6, [4, 5, 6]), (7, [5, 6, 7])] {
        writer.seen(&tcp(number.into(), number), at(100 + i64::from(number)), Some(process(10, "curl")));
        assert_eq!(there(&writer), left);
    }
    assert_eq!((writer.index().len(), writer.index().evicted()), (3, 4));
}

#[test]
fn it_stays_small_whatever_comes() {
    let mut writer = writer(100);
    for number in 0..5_000u64 {
        let now = at(number as i64);
        writer.seen(&tcp(number, number as u16), now, Some(process(10, "curl")));
        if number % 3 == 0 {
            writer.closed(&tcp(number, number as u16), now, now);
        }
        assert!(writer.index().len() <= 100);
    }
    writer.expire(at(1_000_000));
    let held = writer.held();
    assert!(held.iter().all(|&size| size <= 100), "{held:?}");
}

#[test]
fn a_socket_that_is_not_listed_any_more_has_ended() {
    let mut writer = writer(10);
    writer.seen(&tcp(1, 1), at(0), Some(process(10, "curl")));
    writer.seen(&tcp(2, 2), at(0), Some(process(10, "curl")));
    writer.seen(&tcp(1, 1), at(5_000), None);
    writer.end_unseen(at(4_000), at(5_000));
    assert!(named(&writer, 1, 6_000) && !named(&writer, 2, 6_000));
    assert!(named(&writer, 1, 0) && named(&writer, 2, 0));
    // Its number comes again, so that it was there all the time.
    writer.seen(&tcp(2, 2), at(10_000), None);
    assert!(named(&writer, 2, 6_000));
}

#[test]
fn the_next_socket_of_a_connection_ends_the_one_before() {
    let mut writer = writer(10);
    writer.seen(&tcp(1, 1), at(0), Some(process(10, "first")));
    writer.seen(&tcp(2, 1), at(500), Some(process(20, "second")));
    let index = writer.index();
    let pid = |first| {
        let (local, remote) = (end("192.0.2.1:1"), end("198.51.100.2:443"));
        let flow = FlowEnd {
            proto: Proto::TCP,
            local,
            remote,
            opened: true,
            begun: None,
            first: at(first),
            last: at(first),
        };
        let owner = Attribution::live(index.clone(), LocalAddresses::default()).owner(&flow).ok()?;
        Some(owner.process()?.pid)
    };
    assert_eq!((pid(0), pid(100), pid(500), pid(900)), (Some(10), None, Some(20), Some(20)));
}

#[test]
fn what_cannot_be_told_apart_is_not_taken() {
    let mut writer = writer(10);
    writer.seen(&Socket { inode: 0, cookie: 0, ..tcp(1, 1) }, at(0), Some(process(10, "curl")));
    assert!(writer.index().is_empty());
    // Without cookies the inode serves.
    writer.seen(&Socket { cookie: 0, ..tcp(1, 1) }, at(0), Some(process(10, "curl")));
    assert!(named(&writer, 1, 0));
}

#[test]
fn each_socket_is_recorded_once_as_it_leaves() {
    let left = Arc::new(Mutex::new(Vec::new()));
    let mut writer =
        IndexWriter::new(IndexLimits { netns: 7, keep: Duration::from_secs(1), ..IndexLimits::default() });
    let kept = left.clone();
    writer.on_leaving(move |socket| kept.lock().unwrap().push(socket.clone()));
    writer.seen(&tcp(1, 1), at(0), Some(process(10, "curl")));
    writer.seen(&Socket { netns: 7, ..tcp(2, 2) }, at(0), Some(process(10, "curl")));
    writer.seen(&Socket { netns: 8, ..tcp(3, 3) }, at(0), Some(process(10, "curl")));
    writer.closed(&tcp(1, 1), at(10), at(10));
    writer.expire(at(1_010));
    assert_eq!(left.lock().unwrap().len(), 1);
    assert_eq!(left.lock().unwrap()[0].valid_to, Some(at(10)));
    writer.finish();
    let mut left = left.lock().unwrap().clone();
    left.sort_by_key(|socket| socket.cookie);
    let numbers: Vec<_> = left.iter().map(|socket| (socket.cookie, socket.netns, socket.valid_to)).collect();
    assert_eq!(numbers, [(1, 0, Some(at(10))), (2, 0, None), (3, 8, None)]);
}

fn query(port: u16) -> Query {
    let socket = tcp(0, port);
    Query { proto: Proto::TCP, local: socket.local, remote: end("198.51.100.2:443"), interface: 0 }
}

/// The number of the process that a connection from port 1 is named after.
fn pid(writer: &IndexWriter, begun: Option<i64>, first: i64, last: i64) -> Option<u32> {
    let (local, remote) = (end("192.0.2.1:1"), end("198.51.100.2:443"));
    let (first, last, begun) = (at(first), at(last), begun.map(at));
    let flow = FlowEnd { proto: Proto::TCP, local, remote, opened: true, begun, first, last };
    let owner = Attribution::live(writer.index(), LocalAddresses::default()).owner(&flow).ok()?;
    Some(owner.process()?.pid)
}

#[test]
fn a_notice_that_comes_late_takes_nothing_from_the_next_socket() {
    let second = |writer: &mut IndexWriter, now| {
        writer.answered(
            &query(1),
            &tcp(2, 1),
            SightedAs::Exact,
            at(200),
            at(now),
            Some(process(20, "second")),
        );
    };
    let late = |writer: &mut IndexWriter| writer.closed(&tcp(1, 1), at(500), at(500));
    for was_seen in [true, false] {
        for is_told_first in [true, false] {
            let mut writer = writer(10);
            if was_seen {
                writer.seen(&tcp(1, 1), at(0), Some(process(10, "first")));
            }
            if is_told_first {
                late(&mut writer);
                second(&mut writer, 510);
            } else {
                second(&mut writer, 210);
                late(&mut writer);
            }
            let named = [(0, 0), (200, 300), (200, 400), (200, 900)]
                .map(|(first, last)| pid(&writer, Some(first), first, last));
            // An answer that comes after a flow's last packet names nobody, if the socket was not seen before.
            let in_time = (!is_told_first).then_some(20);
            assert_eq!(named, [was_seen.then_some(10), in_time, in_time, Some(20)]);
        }
    }
}

#[test]
fn a_connection_that_nobody_looked_up_is_not_named_after_the_one_before() {
    let mut writer = writer(10);
    writer.seen(&tcp(1, 1), at(0), Some(process(10, "first")));
    // It may be over already, and its notice on the way.
    assert_eq!((pid(&writer, Some(300), 300, 310), pid(&writer, None, 300, 310)), (None, Some(10)));
    writer.closed(&tcp(1, 1), at(500), at(500));
    assert_eq!((pid(&writer, Some(300), 300, 310), pid(&writer, None, 300, 310)), (None, Some(10)));
    assert_eq!(pid(&writer, Some(-5), -5, 310), Some(10));
}

#[test]
fn a_notice_after_a_snapshot_without_the_socket_is_late() {
    let mut writer = writer(10);
    writer.seen(&tcp(1, 1), at(0), Some(process(10, "first")));
    writer.end_unseen(at(5_000), at(5_001));
    // Its process had kept it for a minute, reset as it was.
    writer.closed(&tcp(1, 1), at(60_000), at(60_000));
    assert_eq!((pid(&writer, None, 5_000, 5_010), pid(&writer, None, 9_000, 9_010)), (Some(10), None));
}

#[test]
fn datagrams_of_the_last_moment_are_not_named_after_what_was_seen_before() {
    let mut writer = writer(10);
    let udp = |cookie| Socket { kind: SocketKind::Udp, ..tcp(cookie, 1) };
    writer.seen(&udp(1), at(0), Some(process(10, "first")));
    writer.closed(&udp(1), at(500), at(500));
    let named = |first| {
        let flow = FlowEnd {
            proto: Proto::UDP,
            local: end("192.0.2.1:1"),
            remote: end("198.51.100.2:443"),
            opened: true,
            begun: None,
            first: at(first),
            last: at(first),
        };
        Attribution::live(writer.index(), LocalAddresses::default()).owner(&flow).is_ok()
    };
    assert_eq!([0, 300, 450, 501].map(named), [true, true, false, false]);
}
