//! An index that follows another one holds the same, and lets go of the same.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use proptest::prelude::*;

use super::super::{IndexLimits, IndexWriter};
use super::*;
use crate::host::{Query, Socket, SocketKind, SocketState};
use crate::record::{OwnerNews, SocketNews};

/// What is done to an index: the operation, the socket, its port, and how much time passes before.
type Step = (u8, u64, u16, i64);

fn socket(cookie: u64, port: u16, listens: bool) -> Socket {
    Socket {
        kind: SocketKind::Tcp,
        local: Endpoint { port: Some(port), ..end("192.0.2.1:0") },
        remote: (!listens).then(|| end("198.51.100.2:443")),
        state: if listens { SocketState::Listen } else { SocketState::Established },
        uid: 1000,
        inode: 0,
        cookie,
        netns: 0,
        interface: 0,
        cgroup: None,
    }
}

fn write(writer: &mut IndexWriter, (what, cookie, port, _): Step, now: Timestamp) {
    let socket = socket(cookie, port, cookie.is_multiple_of(5));
    let query =
        Query { proto: Proto::TCP, local: socket.local, remote: end("198.51.100.2:443"), interface: 0 };
    let owner = Some(process(10 + u32::from(port), "curl"));
    match what {
        0 => writer.answered(&query, &socket, SightedAs::Exact, now, now, owner),
        1 => writer.stands_by(&query, &socket, now, now, owner),
        2 => writer.seen(&socket, now, owner),
        3 => writer.seen(&socket, now, None),
        4 => writer.none_answers(&query, now),
        5 => writer.closed(&socket, now, now),
        6 => writer.end_unseen(now, now),
        _ => writer.expire(now),
    }
}

fn recorded(writer: &mut IndexWriter) -> Arc<Mutex<Vec<SightedSocket>>> {
    let gone = Arc::new(Mutex::new(Vec::new()));
    let to = gone.clone();
    writer.on_leaving(move |socket| to.lock().unwrap().push(socket.clone()));
    gone
}

/// Lines of sockets, whatever the order in which they left.
fn sorted(sockets: Arc<Mutex<Vec<SightedSocket>>>) -> Vec<String> {
    let mut lines: Vec<_> = sockets.lock().unwrap().iter().map(|one| format!("{one:?}")).collect();
    lines.sort();
    lines
}

/// An index, one that is to follow it, and what it tells.
fn pair(limits: IndexLimits) -> (IndexWriter, IndexWriter, Receiver<SocketNews>) {
    let (mut leader, follower) = (IndexWriter::new(limits.clone()), IndexWriter::new(limits));
    let (told, news) = channel();
    leader.on_news(move |news| news.into_iter().for_each(|news| told.send(news).unwrap()));
    (leader, follower, news)
}

proptest! {
    #[test]
    fn a_follower_knows_what_the_leader_knows(
        steps in prop::collection::vec((0..8_u8, 1..9_u64, 1..4_u16, 0..40_000_i64), 1..60),
    ) {
        let limits = IndexLimits { sockets: 6, ..IndexLimits::default() };
        let (mut leader, mut follower, news) = pair(limits);
        let (led, followed) = (recorded(&mut leader), recorded(&mut follower));
        let mut millis = 0;
        for step in steps {
            millis += step.3;
            write(&mut leader, step, at(millis));
            news.try_iter().for_each(|news| follower.follow(news));
            prop_assert_eq!(leader.held(), follower.held());
            prop_assert_eq!(leader.index().len(), follower.index().len());
            prop_assert_eq!(leader.index().evicted(), follower.index().evicted());
        }
        leader.finish();
        follower.finish();
        prop_assert_eq!(sorted(led), sorted(followed));
    }
}

/// What is said of a process goes through the pipe once; its number is given to another one in the end.
#[test]
fn a_process_is_told_once() {
    let (mut leader, mut follower, news) = pair(IndexLimits::default());
    let (led, followed) = (recorded(&mut leader), recorded(&mut follower));
    let mut introduced = Vec::new();
    let first = process(1, "curl");
    let others = (2..200).map(|pid| process(pid, "wget"));
    let owners = std::iter::repeat_n(first.clone(), 3).chain(others).chain([first]);
    for (cookie, owner) in (1..).zip(owners) {
        leader.seen(&socket(cookie, cookie as u16, false), at(cookie as i64), Some(owner));
        for news in news.try_iter() {
            if let SocketNews::Process { process, .. } = &news {
                introduced.push(process.pid);
            }
            follower.follow(news);
        }
    }
    assert_eq!(introduced, (1..200).chain([1]).collect::<Vec<_>>());
    leader.finish();
    follower.finish();
    let (led, followed) = (sorted(led), sorted(followed));
    assert_eq!(led.len(), 202);
    assert_eq!(led, followed);
}

#[test]
fn a_number_that_was_never_given_names_nobody() {
    let mut follower = IndexWriter::new(IndexLimits::default());
    let gone = recorded(&mut follower);
    let owner = Some(OwnerNews::Process { number: 7, shared: 1 });
    follower.follow(SocketNews::Seen { socket: socket(1, 1, false), now: at(1), owner });
    follower.finish();
    assert_eq!(gone.lock().unwrap()[0].owner, None);
}
