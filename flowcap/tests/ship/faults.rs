//! Faults around the sending: full disks, folders that vanish, servers that lead astray, ends while a server is silent.

use std::fs;
use std::time::{Duration, Instant};

use crate::arrived::Arrived;
use crate::processes::{family, status};
use crate::server::{Habit, Server, status as answer};
use crate::stand::{Stand, capture, records};

/// Writes a configuration that sends to a server by way of a spool.
fn configure(stand: &Stand, server: &Server, spool: &str) {
    let to = format!("http://127.0.0.1:{}/", server.port);
    let config = format!("[[output]]\nto = '{to}'\nspool = '{spool}'\nbatch = '500,50ms'\n");
    fs::write(stand.path("f.toml"), config).unwrap();
}

fn dropped(stand: &Stand, reason: &str) -> u64 {
    let stats = fs::read_to_string(stand.path("s.jsonl")).unwrap_or_default();
    let whole = stats.rfind('\n').map_or("", |end| &stats[..=end]);
    let latest = records(whole).pop().unwrap_or_default();
    latest["sinks"][0]["dropped"][reason].as_u64().unwrap_or(0)
}

#[test]
fn a_full_disk_under_a_spool_is_waited_out_and_told() {
    let Some(mut stand) = Stand::live() else { return };
    let disk = stand.mount("1m");
    fs::write(disk.join("ballast"), vec![0; 900_000]).unwrap();
    let server = Server::start([]).always(Habit::Say(answer(500, "")));
    configure(&stand, &server, "disk/spool");
    let mut flowcap = stand.listen("-C f.toml --stats s.jsonl --stats-interval 1s -q");
    let mut next = 0;
    flowcap.wait_until("records are dropped", || {
        next = stand.send_for(next, Duration::from_millis(300), 20_000);
        dropped(&stand, "disk_full") > 0
    });
    fs::remove_file(disk.join("ballast")).unwrap();
    server.change(None);
    let mut arrived = Arrived::default();
    flowcap.wait_until("the gap is told of", || {
        next = stand.send_for(next, Duration::from_millis(100), 1_000);
        arrived.take(&server);
        !arrived.told().is_empty()
    });
    std::thread::sleep(Duration::from_millis(500));
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("records not written"), "{}", ran.err);
    arrived.take(&server);
    let lost = dropped(&stand, "disk_full");
    assert_eq!(arrived.told(), [("disk_full".to_owned(), lost)].into());
    let numbers = arrived.numbers();
    assert_eq!(numbers.len() as u64 + lost, u64::from(next));
    assert!(numbers.windows(2).all(|two| two[0] < two[1]));
    assert!(arrived.untold().is_empty());
}

#[test]
fn a_spool_that_vanishes_is_made_again() {
    let Some(stand) = Stand::live() else { return };
    let server = Server::start([]);
    configure(&stand, &server, "state/spool");
    let mut flowcap = stand.listen("-C f.toml --stats s.jsonl --stats-interval 1s -q");
    let mut arrived = Arrived::default();
    let first = stand.send_for(0, Duration::from_millis(500), 1_000);
    flowcap.wait_until("they arrive", || {
        arrived.take(&server);
        arrived.lines.len() == first as usize
    });
    fs::remove_dir_all(stand.path("state/spool")).unwrap();
    let mut next = first;
    flowcap.wait_until("what comes later arrives as well", || {
        next = stand.send_for(next, Duration::from_millis(300), 1_000);
        arrived.take(&server);
        arrived.numbers().last() >= Some(&(first + 1_000))
    });
    let end = stand.send_for(next, Duration::from_millis(300), 1_000);
    flowcap.wait_until("the last ones arrive", || {
        arrived.take(&server);
        arrived.numbers().last() == Some(&(end - 1))
    });
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.matches("the spool: ").count() <= 2, "it is told, and not again and again: {}", ran.err);
    // What was in the folder is told of, and nothing else is missing.
    let stats = records(&fs::read_to_string(stand.path("s.jsonl")).unwrap()).pop().unwrap();
    let spooled = &stats["sinks"][0];
    let dropped: u64 = spooled["dropped"].as_object().unwrap().values().filter_map(|n| n.as_u64()).sum();
    assert_eq!(spooled["spooled"].as_u64().unwrap() + dropped, u64::from(end), "{spooled}");
    assert!(arrived.untold().is_empty(), "{:?}", arrived.told());
}

#[test]
fn nobody_is_led_astray() {
    let stand = Stand::new();
    fs::write(stand.path("a.pcap"), capture(100, 1)).unwrap();
    let elsewhere = Server::start([]);
    let away = format!("HTTP/1.1 307 Away\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    let server = Server::start([]).always(Habit::Say(away));
    configure(&stand, &server, "spool");
    let ran = stand.command("-C f.toml -r a.pcap -q").output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success() && said.contains("307") && said.contains("100 records wait"), "{said}");
    assert_eq!(elsewhere.connections(), 0);
    // To other machines only under TLS.
    for far in ["http://192.0.2.1/", "http://collector.example/"] {
        let ran = stand.command(&format!("-r a.pcap -q -o {far}")).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert!(said.contains("what is not encrypted goes to this machine only"), "{said}");
    }
}

#[test]
fn a_silent_server_does_not_hold_the_end() {
    let Some(stand) = Stand::live() else { return };
    let server = Server::start([]).always(Habit::Hang(String::new()));
    configure(&stand, &server, "spool");
    let mut flowcap = stand.listen("-C f.toml --stats s.jsonl -q");
    let all = family(flowcap.child.id());
    let end = stand.send_for(0, Duration::from_millis(500), 1_000);
    flowcap.wait_until("it is asked", || !server.requests().is_empty());
    let start = Instant::now();
    let ran = flowcap.stop();
    println!("ended in {:.1?}", start.elapsed());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("records wait in spool for the next start"), "{}", ran.err);
    assert!(all.iter().all(|process| status(*process, "State").is_none()), "none of them stays");
    // All of it comes with the next start.
    server.change(None);
    let stats = records(&fs::read_to_string(stand.path("s.jsonl")).unwrap());
    assert_eq!(stats.last().unwrap()["sinks"][0]["spooled"].as_u64(), Some(end.into()));
    fs::remove_file(stand.path("s.jsonl")).unwrap();
    let mut again = stand.listen("-C f.toml --stats s.jsonl -q");
    let mut arrived = Arrived::default();
    again.wait_until("all of it arrives", || {
        arrived.take(&server);
        arrived.lines.len() == end as usize
    });
    assert_eq!(again.stop().code, Some(0));
    assert_eq!(arrived.numbers(), (0..end).collect::<Vec<_>>());
}

#[test]
fn what_waits_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;

    let stand = Stand::new();
    fs::write(stand.path("a.pcap"), capture(100, 1)).unwrap();
    let server = Server::start([]).always(Habit::Say(answer(500, "")));
    configure(&stand, &server, "state/spool");
    let ran = stand.command("-C f.toml -r a.pcap -q").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let mode = fs::metadata(stand.path("state/spool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
