//! A request to stop ends every wait within a second, and what can still be sent is.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use flowcore::ship::{BatchLimits, ShipOptions};

use crate::backlog::{Memory, Running, quick};
use crate::server::{Habit, Server, status};

/// Times as in use: none of them may delay the end.
fn patient() -> ShipOptions {
    ShipOptions { batch: quick().batch, ..ShipOptions::default() }
}

/// Starts a shipper with 100 records for a destination, stops it after `wait`, and returns what is left.
fn stopped_after(wait: Duration, destination: &str, options: &ShipOptions) -> usize {
    let memory = Memory::default();
    memory.add(0, 100);
    let running = Running::start(destination, options, &memory);
    thread::sleep(wait);
    let began = Instant::now();
    running.stop();
    assert!(began.elapsed() < Duration::from_secs(1), "{destination}: {:?}", began.elapsed());
    memory.len()
}

#[test]
fn a_wait_between_tries_ends() {
    let server = Server::start([]).always(Habit::Say(status(500, "")));
    let options = ShipOptions { first_wait: Duration::from_secs(50), ..patient() };
    assert_eq!(stopped_after(Duration::from_millis(300), &server.url(), &options), 100);
    let asked = "HTTP/1.1 503 Wait\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start([]).always(Habit::Say(asked.to_owned()));
    assert_eq!(stopped_after(Duration::from_millis(300), &server.url(), &patient()), 100);
}

#[test]
fn hanging_servers_do_not_hold_it() {
    let server = Server::start([]).always(Habit::Hang(String::new()));
    assert_eq!(stopped_after(Duration::from_millis(300), &server.url(), &patient()), 100);
    let server =
        Server::start([]).always(Habit::Hang("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_owned()));
    assert_eq!(stopped_after(Duration::from_millis(300), &server.url(), &patient()), 100);
    // Connections that nobody accepts: no answer, no handshake.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["http", "https", "tls", "syslog+tls"] {
        let options =
            ShipOptions { ca_file: Some(crate::certificates::Authority::new().file()), ..patient() };
        assert_eq!(
            stopped_after(Duration::from_millis(300), &format!("{scheme}://127.0.0.1:{port}"), &options),
            100
        );
    }
}

#[test]
fn hosts_that_do_not_answer_do_not_hold_it() {
    // TEST-NET-1 (RFC 5737): no such host; a network may also say so.
    let options = ShipOptions { allow_plaintext: true, ..patient() };
    assert_eq!(stopped_after(Duration::from_millis(200), "tcp://192.0.2.1:9", &options), 100);
    assert_eq!(stopped_after(Duration::from_millis(200), "https://192.0.2.1/", &patient()), 100);
}

#[test]
fn what_waits_is_sent_at_the_end_if_the_server_takes_it() {
    let server = Server::start([]);
    let memory = Memory::default();
    let options =
        ShipOptions { batch: BatchLimits { time: Duration::from_secs(100), ..quick().batch }, ..patient() };
    let running = Running::start(&server.url(), &options, &memory);
    memory.add(0, 5);
    thread::sleep(Duration::from_millis(300));
    assert!(server.requests().is_empty());
    // Not full, not old, but the last.
    memory.add(5, 90);
    let counts = running.stop();
    assert_eq!((counts.records, memory.len()), (95, 0));
    assert!(server.accepted().keys().copied().eq(0..95));
}

#[test]
fn the_end_is_bounded_however_much_waits() {
    let server = Server::start([]).always(Habit::Slow);
    let memory = Memory::default();
    memory.add(0, 5000);
    let options = ShipOptions { drain: Duration::from_millis(1500), ..patient() };
    let running = Running::start(&server.url(), &options, &memory);
    running.until("some", |counts| counts.batches >= 1);
    let began = Instant::now();
    let counts = running.stop();
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_millis(1500));
    assert_eq!(counts.records as usize + memory.len(), 5000);
    assert!(memory.len() > 0);
    // What was left is sent by the next one.
    server.change(None);
    Running::start(&server.url(), &quick(), &memory).finish();
    assert!(server.accepted().keys().copied().eq(0..5000));
}
