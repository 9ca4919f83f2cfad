//! Disks that take their time: in live capture nobody waits for them.

use std::sync::mpsc::{Sender, channel};

use super::*;

fn live(max_bytes: u64) -> SpoolOptions {
    SpoolOptions { max_bytes, sync: SyncPolicy::Every(Duration::ZERO), live: true }
}

/// Has the disk stand still until what is returned is dropped.
fn stall(spool: &mut Spool) -> Sender<()> {
    let (end, stands) = channel();
    assert!(spool.store.syncer.ask(move || Ok(_ = stands.recv())).unwrap());
    end
}

#[test]
fn a_disk_that_stands_still_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), live(1 << 20)).unwrap();
    let stalled = stall(&mut spool);
    // Over several segments.
    for id in 0..400 {
        spool.append(&records(id..id + 1, 600)).unwrap();
        spool.flush().unwrap();
    }
    assert!(segments(folder.path()).len() > 2);
    assert_eq!(ids(&drain(&mut Backlog::open(folder.path()).unwrap())), (0..400).collect::<Vec<_>>());
    drop(stalled);
    spool.finish().unwrap();
}

#[test]
fn a_folder_that_moves_before_the_disk_comes_to_it_is_synced_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (here, away) = (folder.path().join("spool"), folder.path().join("away"));
    let mut spool = Spool::open(&here, live(1 << 20)).unwrap();
    let stalled = stall(&mut spool);
    spool.append(&records(0..1, 10)).unwrap();
    spool.flush().unwrap();
    std::fs::rename(&here, &away).unwrap();
    drop(stalled);
    spool.settle().unwrap();
}

#[test]
fn a_disk_that_stands_still_is_not_asked_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), live(64 << 20)).unwrap();
    let stalled = stall(&mut spool);
    for id in 0..1_000 {
        spool.append(&records(id..id + 1, 10)).unwrap();
        spool.flush().unwrap();
    }
    // There is room for other requests, and the end has not a thousand of them before it.
    assert!(spool.store.syncer.ask(|| Ok(())).unwrap());
    drop(stalled);
    spool.finish().unwrap();
}

#[test]
fn numbers_that_the_disk_does_not_know_of_are_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), live(64 << 20)).unwrap();
    let stalled = stall(&mut spool);
    let lines = b"{}\n".repeat(10_000);
    let refused = loop {
        if let Err(refused) = spool.append(&lines).and_then(|()| spool.flush()) {
            break refused;
        }
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    let counts = spool.counts();
    let written = counts.next_seq - counts.waiting;
    // As after a loss of power now: the block that was reserved in the beginning.
    assert!((100_000..=(1 << 17) + 1).contains(&written), "{written}");
    drop(stalled);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while spool.flush().is_err() {
        assert!(std::time::Instant::now() < deadline, "it does not go on");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(spool.counts().waiting, 0);
    spool.finish().unwrap();
}

#[test]
fn a_run_without_records_passes_no_numbers_over() {
    let folder = tempfile::tempdir().unwrap();
    for boot in 1..4 {
        let spool = Spool::open_in(folder.path(), live(1 << 20), boot).unwrap();
        assert_eq!(spool.counts().next_seq, 0);
        assert_eq!(spool.problem(), None);
    }
}

#[test]
fn what_a_disk_refuses_is_said_by_the_next_flush() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), live(1 << 20)).unwrap();
    spool.store.syncer.ask(|| Err(std::io::ErrorKind::StorageFull.into())).unwrap();
    spool.append(&records(0..1, 10)).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let refused = loop {
        match spool.flush() {
            Err(refused) => break refused,
            Ok(()) => assert!(std::time::Instant::now() < deadline, "nothing is said"),
        }
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    spool.flush().unwrap();
    // The error comes once; that it was one stays known.
    assert!(spool.problem().unwrap().ends_with(&refused.to_string()));
    spool.finish().unwrap();
    assert!(spool.problem().is_some());
}
