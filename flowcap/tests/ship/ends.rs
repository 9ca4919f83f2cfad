//! Ends: by signals while much waits, and while somebody else still reads the spool.

use std::fs;
use std::time::{Duration, Instant};

use flowcore::spool::Backlog;

use crate::arrived::Arrived;
use crate::processes::{family, kill, status};
use crate::server::{Habit, Server};
use crate::stand::{Running, Stand, capture};

/// What a server that takes a record in 400 ms would take a quarter of an hour for.
const FLOWS: u32 = 2_000;

/// Replays more than the server takes in any time that one would wait, up to where only the sending is left.
fn replay(stand: &Stand) -> Running {
    let server = Server::start([]).always(Habit::Slow);
    let config =
        format!("[[output]]\nto = 'http://127.0.0.1:{}/'\nspool = 'spool'\nbatch = '1,50ms'\n", server.port);
    fs::write(stand.path("f.toml"), config).unwrap();
    fs::write(stand.path("a.pcap"), capture(FLOWS, 1)).unwrap();
    let command = stand.command("-C f.toml -r a.pcap -q --stats s.jsonl").spawn();
    let mut flowcap = Running { child: command.expect("flowcap runs") };
    // The stats record is the last thing that is written.
    let stats = stand.path("s.jsonl");
    flowcap.wait_until("all is read", || fs::metadata(&stats).is_ok_and(|file| file.len() > 0));
    flowcap.wait_until("it is sent", || server.requests().len() > 2);
    flowcap
}

fn wait_for_the_end_of(processes: &[u32]) {
    let start = Instant::now();
    while processes.iter().any(|&process| status(process, "State").is_some()) {
        assert!(start.elapsed() < Duration::from_secs(60), "they go on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_ends_a_replay_that_is_being_sent() {
    let stand = Stand::new();
    let flowcap = replay(&stand);
    let all = family(flowcap.child.id());
    assert_eq!(all.len(), 3, "{all:?}");
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("records wait in spool for the next start"), "{}", ran.err);
    wait_for_the_end_of(&all);
}

#[test]
fn the_second_signal_ends_all_processes() {
    let stand = Stand::new();
    let flowcap = replay(&stand);
    let all = family(flowcap.child.id());
    kill("TERM", &[flowcap.child.id()]);
    std::thread::sleep(Duration::from_millis(200));
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(128 + 15), "{}", ran.err);
    wait_for_the_end_of(&all);
    assert!(Backlog::waiting_in(stand.path("spool")) > u64::from(FLOWS) / 2);
}

#[test]
fn none_goes_on_without_the_first_process() {
    let stand = Stand::new();
    let flowcap = replay(&stand);
    let all = family(flowcap.child.id());
    flowcap.kill();
    wait_for_the_end_of(&all);
    assert!(Backlog::waiting_in(stand.path("spool")) > u64::from(FLOWS) / 2);
}

#[test]
fn a_spool_that_somebody_reads_is_waited_for() {
    let Some(stand) = Stand::live() else { return };
    let server = Server::start([]);
    let config = format!(
        "[[output]]\nto = 'http://127.0.0.1:{}/'\nspool = 'spool'\nbatch = '100,50ms'\n",
        server.port
    );
    fs::write(stand.path("f.toml"), config).unwrap();
    let other = Backlog::open(stand.path("spool")).expect("a spool");
    let mut flowcap = stand.listen("-C f.toml -q --stats s.jsonl");
    let sent = stand.send_for(0, Duration::from_millis(300), 1_000);
    // Longer than who once gave up.
    std::thread::sleep(Duration::from_secs(12));
    assert!(server.requests().is_empty());
    drop(other);
    let mut arrived = Arrived::default();
    flowcap.wait_until("all of it arrives", || {
        arrived.take(&server);
        arrived.lines.len() == sent as usize
    });
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.err.matches("records wait until it has ended").count(), 1, "{}", ran.err);
    assert!(!ran.err.contains("started again"), "{}", ran.err);
}
