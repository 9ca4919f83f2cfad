//! HTTP servers that fail: what could not be taken is sent again until it is.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use flowcore::ship::{BatchLimits, Level, ShipOptions};

use crate::backlog::{Memory, Running, quick};
use crate::server::{Habit, OK, Server, header, status};

/// Sends 30 records in batches of 10 to a server with these habits, and checks that all arrived.
fn survives(habits: Vec<Habit>, retries: u64) -> Server {
    let server = Server::start(habits);
    let memory = Memory::default();
    memory.add(0, 30);
    let counts = Running::start(&server.url(), &quick(), &memory).finish();
    assert!(server.accepted().keys().copied().eq(0..30), "{:?}", server.accepted());
    assert_eq!((counts.records, counts.batches, counts.refused), (30, 3, 0), "{counts:?}");
    assert_eq!(counts.retries, retries, "{counts:?}");
    assert_eq!(counts.last_error.is_some(), retries > 0);
    server
}

#[test]
fn a_good_server_has_everything_once_over_one_connection() {
    let server = survives(vec![], 0);
    assert!(server.seqs().values().all(|times| *times == 1));
    assert_eq!(server.connections(), 1);
    let requests = server.requests();
    let head = &requests[1].head;
    assert!(head.starts_with("POST /flows?x=1 HTTP/1.1\r\n"), "{head}");
    for (name, value) in [
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "gzip"),
        ("flowcap-instance", "5eed"),
        ("flowcap-first-seq", "10"),
        ("flowcap-last-seq", "19"),
        ("host", &format!("127.0.0.1:{}", server.port)),
    ] {
        assert_eq!(header(head, name).as_deref(), Some(value), "{head}");
    }
    assert_eq!(header(head, "authorization"), None);
}

#[test]
fn errors_of_the_server_are_tried_again() {
    let server = survives(
        vec![Habit::Say(status(500, "oh no")), Habit::Say(status(503, "")), Habit::Say(status(408, ""))],
        3,
    );
    // The first batch came four times; each record tells by its number that it is the same.
    assert_eq!(server.seqs()[&0], 4);
    assert_eq!(server.seqs()[&10], 1);
}

#[test]
fn closed_connections_are_opened_again() {
    survives(vec![Habit::Close, Habit::CloseMidBody, Habit::Cut(String::new())], 3);
    // In good order: it says that it closes.
    survives(
        vec![Habit::Cut("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned())],
        0,
    );
}

#[test]
fn a_connection_closed_while_idle_costs_nothing() {
    let server = Server::start([Habit::Cut(OK.to_owned())]);
    let memory = Memory::default();
    memory.add(0, 10);
    let running = Running::start(&server.url(), &quick(), &memory);
    running.until("first batch", |counts| counts.records == 10);
    std::thread::sleep(Duration::from_millis(100));
    memory.add(10, 10);
    let counts = running.finish();
    assert_eq!((counts.records, counts.retries), (20, 0), "{counts:?}");
    assert_eq!(server.connections(), 2);
}

#[test]
fn half_answers_and_nonsense_are_tried_again() {
    survives(
        vec![
            Habit::Cut("HTTP/1.1 20".to_owned()),
            Habit::Cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned()),
            Habit::Cut("SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
            Habit::Cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned()),
            Habit::Cut(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(200_000))),
        ],
        5,
    );
}

#[test]
fn hanging_servers_are_left() {
    let began = Instant::now();
    survives(
        vec![
            Habit::Hang(String::new()),
            Habit::Hang("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_owned()),
        ],
        2,
    );
    assert!(began.elapsed() >= Duration::from_millis(800));
}

#[test]
fn a_server_that_never_accepts_is_left() {
    // Nobody takes the connections; the kernel does, up to its queue.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let memory = Memory::default();
    memory.add(0, 10);
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let running = Running::start(&url, &quick(), &memory);
    running.until("two tries", |counts| counts.retries >= 2);
    let server = Server::on(listener, None, []);
    let counts = running.finish();
    assert_eq!(counts.records, 10);
    assert!(server.accepted().keys().copied().eq(0..10));
}

#[test]
fn slow_readers_are_waited_for() {
    let server = Server::start([Habit::Slow]);
    let memory = Memory::default();
    memory.add(0, 2000);
    let batch = BatchLimits { records: 2000, ..quick().batch };
    let options = ShipOptions { batch, gzip: false, silence_timeout: Duration::from_secs(10), ..quick() };
    let counts = Running::start(&server.url(), &options, &memory).finish();
    assert_eq!((counts.records, counts.batches, counts.retries), (2000, 1, 0));
    assert!(server.seqs().values().all(|times| *times == 1));
    assert!(counts.bytes > 200_000);
    assert_eq!(header(&server.requests()[0].head, "content-encoding"), None);
}

#[test]
fn an_answer_before_the_end_of_the_body_is_heard() {
    // The one who says 413 means it; the one who says 200 has not read it.
    let server = Server::start([Habit::Early(OK.to_owned()), Habit::Early(status(413, ""))]);
    let memory = Memory::default();
    memory.add(0, 40_000);
    let batch = BatchLimits { records: 40_000, bytes: 64 << 20, ..quick().batch };
    let options = ShipOptions { batch, gzip: false, silence_timeout: Duration::from_secs(10), ..quick() };
    let counts = Running::start(&server.url(), &options, &memory).finish();
    assert_eq!((counts.records, counts.batches, counts.retries), (40_000, 2, 1), "{counts:?}");
    assert!(server.accepted().keys().copied().eq(0..40_000));
}

#[test]
fn a_huge_answer_is_not_listened_to() {
    let server = survives(vec![Habit::Endless], 0);
    assert_eq!(server.connections(), 2);
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Server::start([]);
    let answer = format!("HTTP/1.1 307 Go\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    let moved = format!("HTTP/1.1 302 Go\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    survives(vec![Habit::Say(answer), Habit::Say(moved)], 2);
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_refused_connection_is_tried_until_there_is_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let memory = Memory::default();
    memory.add(0, 30);
    let running = Running::start(&format!("http://{address}/"), &quick(), &memory);
    running.until("five tries", |counts| counts.retries >= 5);
    assert_eq!(running.counters.read().records, 0);
    let server = Server::on(TcpListener::bind(address).unwrap(), None, []);
    let log = std::sync::Arc::clone(&running.log);
    let counts = running.finish();
    assert_eq!(counts.records, 30);
    assert!(server.accepted().keys().copied().eq(0..30));
    // One message when it began, one when it ended.
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[0].0 == Level::Warn && log[0].1.contains("refused"), "{log:?}");
    assert!(log[1].0 == Level::Info && log[1].1.contains("again"), "{log:?}");
}

#[test]
fn retry_after_is_followed() {
    let server = Server::start([Habit::Say(
        "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_owned(),
    )]);
    let memory = Memory::default();
    memory.add(0, 10);
    let began = Instant::now();
    let counts = Running::start(&server.url(), &quick(), &memory).finish();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((counts.records, counts.retries), (10, 1));
}

#[test]
fn retry_after_has_a_limit() {
    let far = "HTTP/1.1 503 Away\r\nRetry-After: Fri, 31 Dec 2100 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start([Habit::Say(far.to_owned())]);
    let memory = Memory::default();
    memory.add(0, 10);
    let options = ShipOptions { longest_retry_after: Duration::from_millis(300), ..quick() };
    let began = Instant::now();
    let counts = Running::start(&server.url(), &options, &memory).finish();
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(20));
    assert_eq!((counts.records, counts.retries), (10, 1));
}

#[test]
fn a_changed_token_is_used_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old-secret\n").unwrap();
    let server = Server::start([]).always(Habit::Authorize("Bearer new-secret".to_owned()));
    let memory = Memory::default();
    memory.add(0, 30);
    let options = ShipOptions { token_file: Some(file.clone()), ..quick() };
    let running = Running::start(&server.url(), &options, &memory);
    running.until("two tries", |counts| counts.retries >= 2);
    fs::write(&file, "new-secret\n").unwrap();
    let log = std::sync::Arc::clone(&running.log);
    let counts = running.finish();
    assert_eq!((counts.records, counts.refused), (30, 0));
    assert!(server.accepted().keys().copied().eq(0..30));
    // The server repeats the head of the request in its answer.
    let said = format!("{:?} {counts:?} {options:?}", log.lock().unwrap());
    assert!(said.contains("status 401") && said.contains("[token]"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert!(log.lock().unwrap()[0].0 == Level::Error);
}

#[test]
fn a_token_that_cannot_be_read_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let server = Server::start([]);
    let memory = Memory::default();
    memory.add(0, 10);
    let options = ShipOptions { token_file: Some(file.clone()), ..quick() };
    let running = Running::start(&server.url(), &options, &memory);
    running.until("two tries", |counts| counts.retries >= 2);
    assert_eq!(server.connections(), 0);
    fs::write(&file, "word").unwrap();
    assert_eq!(running.finish().records, 10);
    assert_eq!(header(&server.requests()[0].head, "authorization").as_deref(), Some("Bearer word"));
}
