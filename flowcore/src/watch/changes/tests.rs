use proptest::prelude::*;

use super::super::sample::{at, listener, owned, process, tcp, udp, unowned};
use super::*;
use crate::host::{Owner, SocketState};

fn with_cookie(socket: Socket, cookie: u64) -> Socket {
    Socket { cookie, ..socket }
}

#[test]
fn opened_closed_and_changed() {
    let ssh = owned(with_cookie(listener("0.0.0.0", 22), 1), 10, "sshd");
    let web = owned(with_cookie(tcp("10.0.0.1:40000 52.94.1.1:443"), 2), 20, "curl");
    let old = [ssh.clone(), web.clone()];
    let closing = Socket { state: SocketState::CloseWait, ..web.socket.clone() };
    let db = owned(with_cookie(tcp("10.0.0.1:40001 10.9.8.7:5432"), 3), 20, "curl");
    let new = [SocketRecord { timestamp: at(5), socket: closing, ..web.clone() }, db.clone()];

    let changes = between(&old, &new, at(5));
    let words: Vec<_> = changes.iter().map(|record| (record.change, record.socket.cookie)).collect();
    assert_eq!(words, [(Change::Closed, 1), (Change::Changed, 2), (Change::Opened, 3)]);
    assert_eq!(changes[0], SocketRecord { timestamp: at(5), change: Change::Closed, ..ssh });
    assert_eq!(changes[1].previous_state, Some(SocketState::Established));
    assert_eq!(changes[1].socket.state, SocketState::CloseWait);
    assert_eq!(changes[2], SocketRecord { change: Change::Opened, ..db });
}

#[test]
fn a_first_snapshot_is_present_and_the_next_compared_with_it() {
    let ssh = owned(with_cookie(listener("0.0.0.0", 22), 1), 10, "sshd");
    let mut changes = Changes::default();
    assert_eq!(changes.take(vec![ssh.clone()], at(0)), std::slice::from_ref(&ssh));
    assert_eq!(changes.take(vec![SocketRecord { timestamp: at(5), ..ssh.clone() }], at(5)), []);
    let closed = changes.take(Vec::new(), at(10));
    assert_eq!(closed, [SocketRecord { timestamp: at(10), change: Change::Closed, ..ssh }]);
    assert_eq!(changes.take(Vec::new(), at(15)), []);
}

#[test]
fn a_port_that_another_socket_took_is_closed_and_opened() {
    let first = owned(with_cookie(listener("0.0.0.0", 80), 1), 10, "nginx");
    let second = owned(with_cookie(listener("0.0.0.0", 80), 2), 10, "nginx");
    let words: Vec<_> = between(&[first], &[second], at(5)).iter().map(|record| record.change).collect();
    assert_eq!(words, [Change::Closed, Change::Opened]);
}

#[test]
fn another_owner_is_a_change_and_another_command_line_is_none() {
    let socket = || with_cookie(listener("0.0.0.0", 80), 1);
    let nginx = owned(socket(), 10, "nginx");
    let other = owned(socket(), 11, "nginx");
    assert_eq!(between(std::slice::from_ref(&nginx), &[other], at(5))[0].change, Change::Changed);
    assert_eq!(between(&[unowned(socket())], std::slice::from_ref(&nginx), at(5))[0].change, Change::Changed);
    let mut renamed = process(10, "nginx").as_ref().clone();
    renamed.args = vec!["nginx: worker".to_owned()];
    let owner = Owner::Process { process: Arc::new(renamed), shared: 4 };
    let same = SocketRecord::new(at(5), socket(), Some("root".into()), &owner);
    assert_eq!(between(&[nginx], &[same], at(5)), []);
}

#[test]
fn without_a_cookie_ends_and_inode_tell() {
    let socket = |inode| Socket { inode, ..udp("0.0.0.0:53 -") };
    let same = between(&[owned(socket(7), 1, "dns")], &[owned(socket(7), 1, "dns")], at(5));
    assert_eq!(same, []);
    assert_eq!(between(&[owned(socket(7), 1, "dns")], &[owned(socket(8), 1, "dns")], at(5)).len(), 2);
    // Twins are counted.
    let twin = || unowned(socket(0));
    let closed = between(&[twin(), twin(), twin()], &[twin()], at(5));
    assert_eq!(closed.iter().map(|record| record.change).collect::<Vec<_>>(), [Change::Closed; 2]);
}

#[test]
fn a_socket_that_a_dump_shows_twice_is_one() {
    let twice = || owned(with_cookie(listener("0.0.0.0", 22), 1), 10, "sshd");
    assert_eq!(between(&[], &[twice(), twice()], at(5)).len(), 1);
    assert_eq!(between(&[twice(), twice()], &[], at(5)).len(), 1);
    assert_eq!(between(&[twice()], &[twice(), twice()], at(5)), []);
}

#[test]
fn processes_come_and_go() {
    let mut processes = Processes::default();
    let ssh = owned(listener("0.0.0.0", 22), 10, "sshd");
    let words = |records: Vec<ProcessRecord>| -> Vec<_> {
        records.iter().map(|record| (record.change, record.process.pid, record.timestamp)).collect()
    };
    let twice = [ssh.clone(), owned(listener("::", 22), 10, "sshd"), unowned(udp("0.0.0.0:53 -"))];
    assert_eq!(words(processes.take(&twice, at(0))), [(ProcessChange::Present, 10, at(0))]);
    assert_eq!(words(processes.take(std::slice::from_ref(&ssh), at(5))), []);
    // The number is the same, the process is not.
    let mut again = process(10, "sshd").as_ref().clone();
    again.started = at(7);
    let owner = Owner::Process { process: Arc::new(again), shared: 1 };
    let later = SocketRecord::new(at(10), listener("0.0.0.0", 22), None, &owner);
    let (gone, opened) = (ProcessChange::Gone, ProcessChange::Opened);
    assert_eq!(words(processes.take(&[later], at(10))), [(gone, 10, at(10)), (opened, 10, at(10))]);
    assert_eq!(words(processes.take(&[], at(15))), [(gone, 10, at(15))]);
}

#[test]
fn the_last_snapshot_of_a_file() {
    let ssh = owned(with_cookie(listener("0.0.0.0", 22), 1), 10, "sshd");
    let web = owned(with_cookie(listener("0.0.0.0", 80), 2), 10, "nginx");
    let later = |record: &SocketRecord| SocketRecord { timestamp: at(5), ..record.clone() };
    assert_eq!(last_snapshot(&[]), [] as [&SocketRecord; 0]);
    // A second snapshot replaces the first.
    let (ssh_later, web_later) = (later(&ssh), later(&web));
    let file = [ssh.clone(), web.clone(), ssh_later.clone()];
    assert_eq!(last_snapshot(&file), [&ssh_later]);
    // Changes add to it.
    let opened = SocketRecord { change: Change::Opened, ..web_later };
    let closed = SocketRecord { change: Change::Closed, ..ssh_later };
    let file = [ssh, opened.clone(), closed];
    assert_eq!(last_snapshot(&file), [&opened]);
}

fn any_record() -> impl Strategy<Value = SocketRecord> {
    let owner = prop_oneof![Just(None), (1..4_u32).prop_map(Some)];
    let states = prop::sample::select(vec![SocketState::Established, SocketState::CloseWait]);
    (0..6_u64, 0..4_u16, 0..3_u64, states, owner).prop_map(|(cookie, port, inode, state, owner)| {
        let ends = format!("10.0.0.1:{} 10.0.0.2:{}", 40_000 + port, port % 2 + 1);
        let socket = Socket { cookie, inode, state, ..tcp(&ends) };
        // Twins without a cookie cannot be told apart by their owners.
        match owner.filter(|_| cookie > 0) {
            Some(pid) => owned(socket, pid, "nginx"),
            None => unowned(socket),
        }
    })
}

/// A snapshot as the kernel gives it: no cookie twice.
fn any_snapshot() -> impl Strategy<Value = Vec<SocketRecord>> {
    prop::collection::vec(any_record(), 0..12).prop_map(|mut records| {
        let mut seen = Vec::new();
        records.retain(|record| {
            let cookie = record.socket.cookie;
            let is_new = cookie == 0 || !seen.contains(&cookie);
            seen.push(cookie);
            is_new
        });
        records
    })
}

/// What makes up a snapshot, whatever its order.
fn essence(records: &[&SocketRecord]) -> Vec<String> {
    let mut all: Vec<String> =
        records.iter().map(|record| format!("{:?} {:?}", record.socket, owner(record))).collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn changes_lead_from_the_old_snapshot_to_the_new_one(old in any_snapshot(), new in any_snapshot()) {
        let new: Vec<SocketRecord> =
            new.into_iter().map(|record| SocketRecord { timestamp: at(5), ..record }).collect();
        let changes = between(&old, &new, at(5));
        let file = [old.clone(), changes.clone()].concat();
        prop_assert_eq!(essence(&last_snapshot(&file)), essence(&new.iter().collect::<Vec<_>>()));
        // And only what changed is told.
        prop_assert_eq!(between(&new, &new, at(10)), []);
        let count = |change| changes.iter().filter(|record| record.change == change).count();
        prop_assert_eq!(old.len() + count(Change::Opened), new.len() + count(Change::Closed));
    }
}
