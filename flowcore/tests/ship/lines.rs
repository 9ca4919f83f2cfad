//! Lines over TCP, TLS and Unix sockets, and datagrams.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flowcore::ship::{BatchLimits, ShipOptions};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::backlog::{Memory, Running, line, quick};
use crate::certificates::Authority;

/// What lines arrived, by number and times.
type Arrived = Arc<Mutex<BTreeMap<u64, usize>>>;

/// Reads whole lines until the end, or until `most` have come.
fn read_lines(stream: impl Read, arrived: &Arrived, most: usize) {
    for line in BufReader::new(stream).split(b'\n').take(most) {
        let Ok(line) = line else { return };
        // A connection that breaks may cut the last line.
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&line) else { return };
        *arrived.lock().unwrap().entry(value["seq"].as_u64().unwrap()).or_default() += 1;
    }
}

/// Takes connections; the first ones are closed after so many lines each.
fn receive(listener: TcpListener, tls: Option<Arc<ServerConfig>>, first: Vec<usize>) -> Arrived {
    let arrived = Arrived::default();
    let shared = Arc::clone(&arrived);
    thread::spawn(move || {
        let mut limits = first.into_iter();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let most = limits.next().unwrap_or(usize::MAX);
            match &tls {
                Some(config) => {
                    let session = ServerConnection::new(Arc::clone(config)).unwrap();
                    read_lines(StreamOwned::new(session, stream), &shared, most);
                }
                None => read_lines(stream, &shared, most),
            }
        }
    });
    arrived
}

fn all_of(arrived: &Arrived, count: u64) -> bool {
    arrived.lock().unwrap().keys().copied().eq(0..count)
}

/// Waits for what the other thread still reads.
fn soon(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not arrive");
}

/// Listens at a port; returns the address to send lines to.
fn listen(tls: bool) -> (TcpListener, String) {
    let scheme = if tls { "tls" } else { "tcp" };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
    (listener, to)
}

#[test]
fn lines_arrive_over_tcp_and_tls() {
    let authority = Authority::new();
    let config = authority.server(&authority.certificate("localhost"), false);
    for tls in [None, Some(config)] {
        let (listener, to) = listen(tls.is_some());
        let arrived = receive(listener, tls, vec![]);
        let memory = Memory::default();
        memory.add(0, 200);
        let options = ShipOptions { ca_file: Some(authority.file()), ..quick() };
        let counts = Running::start(&to, &options, &memory).sent(200);
        soon(|| all_of(&arrived, 200));
        assert_eq!(memory.len(), 0);
        assert!(arrived.lock().unwrap().values().all(|times| *times == 1));
        assert_eq!((counts.records, counts.batches, counts.retries), (200, 20, 0), "{counts:?}");
    }
}

#[test]
fn what_a_closed_connection_may_have_swallowed_is_sent_again() {
    let authority = Authority::new();
    let config = authority.server(&authority.certificate("localhost"), false);
    for tls in [None, Some(config)] {
        let (listener, to) = listen(tls.is_some());
        // One that closes at once, one in the middle of a batch, one on the border between two.
        let arrived = receive(listener, tls, vec![0, 25, 40]);
        let memory = Memory::default();
        let options = ShipOptions { ca_file: Some(authority.file()), ..quick() };
        let running = Running::start(&to, &options, &memory);
        for first in (0..300).step_by(10) {
            memory.add(first, 10);
            running.until("taken", |counts| counts.records == first + 10);
        }
        let counts = running.sent(300);
        soon(|| all_of(&arrived, 300));
        // Counted once each, however often it was sent.
        assert_eq!(counts.records, 300, "{counts:?}");
        assert!(arrived.lock().unwrap().values().any(|times| *times > 1));
    }
}

#[test]
fn a_server_that_closes_idle_connections_is_not_sent_everything_again() {
    let authority = Authority::new();
    let config = authority.server(&authority.certificate("localhost"), false);
    for tls in [None, Some(config)] {
        let (listener, to) = listen(tls.is_some());
        let arrived = Arrived::default();
        let (shared, closed) = (Arc::clone(&arrived), Arc::new(AtomicUsize::new(0)));
        let closes = Arc::clone(&closed);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
                match &tls {
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).unwrap();
                        read_lines(StreamOwned::new(session, stream), &shared, usize::MAX);
                    }
                    None => read_lines(stream, &shared, usize::MAX),
                }
                closes.fetch_add(1, Ordering::SeqCst);
            }
        });
        let memory = Memory::default();
        let options = ShipOptions { ca_file: Some(authority.file()), ..quick() };
        let running = Running::start(&to, &options, &memory);
        for first in (0..80).step_by(10) {
            memory.add(first, 10);
            running.until("taken", |counts| counts.records == first + 10);
            let before = closed.load(Ordering::SeqCst);
            soon(|| closed.load(Ordering::SeqCst) > before);
        }
        soon(|| all_of(&arrived, 80));
        // All but those that went over one connection only are done.
        soon(|| memory.len() <= 10);
        let arrived = arrived.lock().unwrap();
        assert!(arrived.values().all(|times| *times <= 4), "{arrived:?}");
    }
}

#[test]
fn what_may_be_unread_at_the_end_is_sent_by_the_next_one() {
    let (listener, to) = listen(false);
    let memory = Memory::default();
    memory.add(0, 20);
    let first = Running::start(&to, &quick(), &memory);
    first.until("two batches", |counts| counts.records == 20);
    let unread = listener.accept().unwrap();
    first.stop();
    assert_eq!(memory.len(), 20);
    drop(unread);
    let arrived = receive(listener, None, vec![]);
    // A new reader of the same lines.
    let again = Memory(Arc::clone(&memory.0), 0);
    Running::start(&to, &quick(), &again).sent(20);
    soon(|| all_of(&arrived, 20));
    assert_eq!(memory.len(), 0);
}

#[test]
fn a_reader_that_stands_still_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let arrived = Arrived::default();
    let shared = Arc::clone(&arrived);
    thread::spawn(move || {
        let (still, _) = listener.accept().unwrap();
        let (moving, _) = listener.accept().unwrap();
        read_lines(moving, &shared, usize::MAX);
        drop(still);
    });
    let memory = Memory::default();
    {
        let mut waiting = memory.0.lock().unwrap();
        for seq in 0..200 {
            waiting.insert(seq, line(seq, 100_000));
        }
    }
    let options =
        ShipOptions { batch: BatchLimits { records: 100, bytes: 16 << 20, ..quick().batch }, ..quick() };
    let counts = Running::start(&to, &options, &memory).sent(200);
    soon(|| all_of(&arrived, 200));
    assert!(counts.retries >= 1 && counts.records == 200, "{counts:?}");
}

#[test]
fn lines_arrive_over_a_unix_socket_that_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.sock");
    let memory = Memory::default();
    memory.add(0, 20);
    let running = Running::start(&format!("unix://{}", path.display()), &quick(), &memory);
    running.until("two tries", |counts| counts.retries >= 2);
    let listener = UnixListener::bind(&path).unwrap();
    let arrived = Arrived::default();
    let shared = Arc::clone(&arrived);
    thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            read_lines(stream.unwrap(), &shared, if at == 0 { 15 } else { usize::MAX });
        }
    });
    running.until("the first", |counts| counts.records == 20);
    memory.add(20, 30);
    let counts = running.sent(50);
    soon(|| all_of(&arrived, 50));
    assert_eq!(counts.records, 50);
}

#[test]
fn datagrams_are_whole_or_counted() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let memory = Memory::default();
    memory.add(0, 3);
    memory.0.lock().unwrap().insert(1, line(1, 70_000));
    let to = format!("syslog://{}", receiver.local_addr().unwrap());
    let running = Running::start(&to, &quick(), &memory);
    running.until("all sent", |_| memory.len() == 0);
    assert!(running.log_text().contains("too long for a datagram"), "{}", running.log_text());
    let counts = running.stop();
    assert_eq!((counts.records, counts.refused), (2, 1), "{counts:?}");
    let mut buffer = vec![0; 1 << 16];
    for seq in [0, 2] {
        let length = receiver.recv(&mut buffer).unwrap();
        let message = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(message.starts_with("<134>1 2026-11-21T14:40:36.972847Z "), "{message}");
        let (head, json) = message.split_once("] ").unwrap();
        assert!(head.ends_with(&format!(" flow [flowcap@32473 instance=\"5eed\" seq=\"{seq}\"")), "{head}");
        assert_eq!(format!("{json}\n").into_bytes(), line(seq, 120));
    }
}

#[test]
fn datagrams_to_nobody_are_sent_again() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    drop(receiver);
    let memory = Memory::default();
    memory.add(0, 5);
    let running = Running::start(&format!("syslog://{address}"), &quick(), &memory);
    running.until("two tries", |counts| counts.retries >= 2);
    assert_eq!(running.counters.read().records, 0);
    let receiver = UdpSocket::bind(address).unwrap();
    let counts = running.finish();
    assert_eq!(counts.records, 5);
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut seen = BTreeMap::new();
    while seen.len() < 5 {
        let length = receiver.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        seen.insert(text.rsplit("\"seq\":").next().unwrap().to_owned(), ());
    }
}

#[test]
fn counted_messages_can_be_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("syslog+tcp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let reader = thread::spawn(move || -> io::Result<Vec<String>> {
        let mut stream = BufReader::new(listener.accept()?.0);
        let mut messages = Vec::new();
        loop {
            let mut length = Vec::new();
            if stream.read_until(b' ', &mut length)? == 0 {
                return Ok(messages);
            }
            let length: usize = String::from_utf8(length).unwrap().trim_end().parse().unwrap();
            let mut message = vec![0; length];
            stream.read_exact(&mut message)?;
            messages.push(String::from_utf8(message).unwrap());
        }
    });
    let memory = Memory::default();
    memory.add(0, 40);
    Running::start(&to, &quick(), &memory).sent(40);
    let messages = reader.join().unwrap().unwrap();
    assert_eq!(messages.len(), 40);
    for (seq, message) in messages.iter().enumerate() {
        let json = message.split_once("] ").unwrap().1;
        assert_eq!(format!("{json}\n").into_bytes(), line(seq as u64, 120));
    }
}
