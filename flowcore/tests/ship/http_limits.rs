//! What a server will not take: too large, or bad; and where HTTP does not go at all.

use std::collections::BTreeSet;

use flowcore::ship::{self, BatchLimits, Destination, ShipOptions};
use flowcore::{Error, Stop};

use crate::backlog::{Memory, Running, line, quick};
use crate::server::{Habit, Server, status};

#[test]
fn a_batch_that_is_too_large_is_halved() {
    let server = Server::start([]).always(Habit::AtMost(7));
    let memory = Memory::default();
    memory.add(0, 100);
    let options = ShipOptions { batch: BatchLimits { records: 100, ..quick().batch }, ..quick() };
    let counts = Running::start(&server.url(), &options, &memory).finish();
    assert_eq!((counts.records, counts.refused, counts.batches), (100, 0, 16), "{counts:?}");
    assert!(server.accepted().keys().copied().eq(0..100));
    // Halves are sent in order, and named by their own numbers.
    let heads: Vec<String> = server.requests().into_iter().map(|request| request.head).collect();
    assert!(
        heads[1].contains("\r\nflowcap-first-seq: 0\r\n")
            && heads[1].contains("\r\nflowcap-last-seq: 49\r\n"),
        "{}",
        heads[1]
    );
    let order: Vec<u64> =
        server.requests().iter().filter(|request| request.status == 200).map(first_seq).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn one_record_that_is_too_large_is_set_aside() {
    let server = Server::start([]).always(Habit::AtMost(0));
    let memory = Memory::default();
    memory.add(0, 2);
    let running = Running::start(&server.url(), &quick(), &memory);
    let counts = running.finish();
    assert_eq!((counts.records, counts.refused), (0, 2), "{counts:?}");
}

#[test]
fn one_bad_record_costs_itself_alone() {
    let server = Server::start([]).always(Habit::Dislike(vec![37, 61]));
    let memory = Memory::default();
    memory.add(0, 200);
    let options = ShipOptions { batch: BatchLimits { records: 100, ..quick().batch }, ..quick() };
    let running = Running::start(&server.url(), &options, &memory);
    running.until("all sent", |_| memory.len() == 0);
    let log = running.log_text();
    let counts = running.stop();
    assert_eq!((counts.records, counts.refused, counts.retries), (198, 2, 2), "{counts:?}");
    let arrived: BTreeSet<u64> = server.accepted().into_keys().collect();
    assert!(arrived.iter().copied().eq((0..200).filter(|seq| ![37, 61].contains(seq))));
    assert!(
        log.contains(
            "Error the server does not take the records 37 to 37 (1): status 400: one of them is bad"
        ),
        "{log}"
    );
    // The receiver is told which they are.
    let lines = server.requests().into_iter().flat_map(|request| request.lines);
    let gaps: Vec<String> = lines.filter(|line| line.contains("\"type\":\"gap\"")).collect();
    assert_eq!(gaps.len(), 2);
    let gap: serde_json::Value = serde_json::from_str(&gaps[0]).unwrap();
    assert_eq!((&gap["records"], &gap["first_seq"], &gap["last_seq"]), (&1.into(), &37.into(), &37.into()));
    assert_eq!((&gap["instance"], &gap["reason"]), (&"5eed".into(), &"refused".into()));
}

#[test]
fn a_wholly_bad_batch_does_not_block_for_ever() {
    let server = Server::start([]).always(Habit::Dislike((0..100).collect()));
    let memory = Memory::default();
    memory.add(0, 200);
    let options = ShipOptions { batch: BatchLimits { records: 100, ..quick().batch }, ..quick() };
    let counts = Running::start(&server.url(), &options, &memory).finish();
    assert_eq!((counts.records, counts.refused), (100, 100), "{counts:?}");
    assert!(server.accepted().keys().copied().eq(100..200));
    // 3 tries of the whole, 32 cuts into 33 parts with a gap each.
    assert!(server.requests().len() < 110, "{}", server.requests().len());
}

#[test]
fn a_server_that_refuses_everything_is_fed_slowly() {
    let server = Server::start([]).always(Habit::Say(status(422, "no")));
    let memory = Memory::default();
    memory.add(0, 1000);
    let options = ShipOptions {
        batch: BatchLimits { records: 1, ..quick().batch },
        longest_wait: std::time::Duration::from_secs(5),
        ..quick()
    };
    let running = Running::start(&server.url(), &options, &memory);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let counts = running.stop();
    // The waits grow from one batch to the next: 10, 20, 40 … ms and by chance up to twice that.
    assert!((1..=4).contains(&counts.refused), "{counts:?}");
}

#[test]
fn settings_are_mended_by_people_not_by_losing_records() {
    let server = Server::start([]).always(Habit::Say(status(404, "no such table")));
    let memory = Memory::default();
    memory.add(0, 10);
    let running = Running::start(&server.url(), &quick(), &memory);
    running.until("ten tries", |counts| counts.retries >= 10);
    assert!(
        running.log_text().starts_with("Error status 404: no such table; trying again"),
        "{}",
        running.log_text()
    );
    server.change(None);
    let counts = running.finish();
    assert_eq!((counts.records, counts.refused), (10, 0));
}

#[test]
fn an_answer_cannot_forge_a_log() {
    let server = Server::start([
        Habit::Say(status(500, "a\r\nERROR b\x1b[2Jc")),
        Habit::Say(status(500, &"é".repeat(30_000))),
    ]);
    let memory = Memory::default();
    memory.add(0, 10);
    let running = Running::start(&server.url(), &quick(), &memory);
    running.until("all sent", |_| memory.len() == 0);
    let log = running.log.lock().unwrap().clone();
    assert!(log.iter().all(|(_, text)| !text.contains(char::is_control)), "{log:?}");
    assert!(log.iter().all(|(_, text)| text.chars().count() < 300), "{log:?}");
    running.stop();
}

#[test]
fn what_is_not_encrypted_goes_to_this_machine_only_unless_asked() {
    let open = |text: &str, options: &ShipOptions| {
        ship::open(&Destination::parse(text).unwrap(), options, &Stop::new()).map(|_| ())
    };
    for far in [
        "http://192.0.2.1/",
        "http://collector.example/",
        "http://localhost.example/",
        "http://[2001:db8::1]/",
    ] {
        assert!(matches!(open(far, &quick()), Err(Error::Option(_))), "{far}");
        assert!(open(far, &ShipOptions { allow_plaintext: true, ..quick() }).is_ok());
        assert!(open(&far.replace("http", "https"), &quick()).is_ok());
    }
    for scheme in ["tcp", "syslog", "syslog+tcp"] {
        let far = format!("{scheme}://192.0.2.1:514");
        assert!(matches!(open(&far, &quick()), Err(Error::Option(_))), "{far}");
        assert!(open(&far, &ShipOptions { allow_plaintext: true, ..quick() }).is_ok());
        assert!(open(&format!("{scheme}://localhost:514"), &quick()).is_ok());
    }
    for far in ["tls://192.0.2.1:514", "syslog+tls://192.0.2.1", "unix:///ear"] {
        assert!(open(far, &quick()).is_ok(), "{far}");
    }
    for near in ["http://localhost/", "http://127.0.0.9:80/", "http://[::1]:80/"] {
        assert!(open(near, &quick()).is_ok(), "{near}");
    }
}

#[test]
fn a_batch_is_sent_when_it_is_full_or_old() {
    let server = Server::start([]);
    let memory = Memory::default();
    let time = std::time::Duration::from_millis(600);
    let options = ShipOptions { batch: BatchLimits { records: 10, bytes: 4000, time }, ..quick() };
    let began = std::time::Instant::now();
    let running = Running::start(&server.url(), &options, &memory);
    memory.add(0, 23);
    running.until("the full ones", |counts| counts.records >= 20);
    assert!(began.elapsed() < time, "{:?}", began.elapsed());
    running.until("the old one", |counts| counts.records == 23);
    assert!(began.elapsed() >= time, "{:?}", began.elapsed());
    // By bytes: lines of more than half of the limit go alone.
    for seq in 23..26 {
        memory.0.lock().unwrap().insert(seq, line(seq, 2500));
    }
    let counts = running.finish();
    assert_eq!((counts.records, counts.batches), (26, 6), "{counts:?}");
}

#[test]
fn a_server_that_cannot_be_reached_is_told_later_what_was_set_aside() {
    let server = Server::start([
        Habit::Say(status(400, "bad")),
        Habit::Say(status(400, "bad")),
        Habit::Say(status(400, "bad")),
        // Those for the gap.
        Habit::Close,
        Habit::Say(status(503, "")),
    ]);
    let memory = Memory::default();
    memory.add(0, 1);
    let counts = Running::start(&server.url(), &quick(), &memory).finish();
    assert_eq!((counts.records, counts.refused, counts.retries), (0, 1, 4), "{counts:?}");
    let last = server.requests().pop().unwrap();
    assert_eq!(last.status, 200);
    assert!(last.lines[0].contains("\"reason\":\"refused\""), "{:?}", last.lines);
}

#[test]
fn an_answer_with_a_long_head_counts_by_its_status() {
    let fields = "X-Field: value\r\n".repeat(200);
    let answer = |status: &str| format!("HTTP/1.1 {status} Said\r\n{fields}Content-Length: 2\r\n\r\nok");
    let server = Server::start([Habit::Cut(answer("503")), Habit::Cut(answer("200"))]);
    let memory = Memory::default();
    memory.add(0, 10);
    let running = Running::start(&server.url(), &quick(), &memory);
    running.until("all sent", |_| memory.len() == 0);
    assert!(
        running.log_text().contains("status 503, with more fields than are read"),
        "{}",
        running.log_text()
    );
    let counts = running.stop();
    assert_eq!((counts.records, counts.retries, server.requests().len()), (10, 1, 2), "{counts:?}");
}

#[test]
fn a_batch_has_as_many_bytes_as_it_may() {
    let server = Server::start([]);
    let memory = Memory::default();
    for seq in 0..10 {
        memory.0.lock().unwrap().insert(seq, line(seq, 2000));
    }
    let bytes = line(0, 2000).len() * 7 / 2;
    let options = ShipOptions { batch: BatchLimits { records: 100, bytes, ..quick().batch }, ..quick() };
    let counts = Running::start(&server.url(), &options, &memory).finish();
    assert_eq!((counts.records, counts.batches), (10, 4), "{counts:?}");
}

fn first_seq(request: &crate::server::Request) -> u64 {
    crate::server::header(&request.head, "flowcap-first-seq").unwrap().parse().unwrap()
}
