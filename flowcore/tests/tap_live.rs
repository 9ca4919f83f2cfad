//! The tap and the asker on the loopback interface: each opened flow is asked for at both ends, and at once.

#![cfg(feature = "live")]

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowcore::Error;
use flowcore::capture::tap;
use flowcore::enrich::{IndexLimits, IndexWriter, LocalAddresses, LookupOptions, Lookups, Resolver};
use flowcore::host::{Owner, ProcessTable, Query, Socket, SocketTable};
use flowcore::key::Proto;
use flowcore::meter::{PacketTap, wall_clock};

/// Writes down what it is asked, and when.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<(Query, Instant)>>>);

impl SocketTable for Asked {
    fn find(&mut self, query: &Query) -> io::Result<Option<Socket>> {
        self.0.lock().unwrap().push((*query, Instant::now()));
        Ok(None)
    }

    fn snapshot(&mut self, _: &mut Vec<Socket>) -> io::Result<()> {
        Ok(())
    }
}

impl ProcessTable for Asked {
    fn owner(&mut self, _: &Socket) -> Owner {
        Owner::NoProcess
    }
}

#[test]
fn flows_are_asked_for_as_they_open() {
    let tap = match tap(&["lo".to_owned()]) {
        Ok(tap) => tap,
        Err(Error::Permission { what, .. }) if std::env::var("CI_REQUIRE_LIVE").as_deref() != Ok("1") => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: not permitted");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let asked = Asked::default();
    let writer = IndexWriter::new(IndexLimits::default());
    let resolver = Resolver::new(asked.clone(), asked.clone(), writer, wall_clock);
    let tap = PacketTap::new(Box::new(tap), LocalAddresses::default(), HashMap::new());
    let lookups = Lookups::start(resolver, Some(Box::new(tap)), LookupOptions::default()).unwrap();
    std::thread::sleep(Duration::from_millis(50));

    let mut opened = HashMap::new();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let server = UdpSocket::bind(address).unwrap();
        for _ in 0..50 {
            let now = Instant::now();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            opened.insert((Proto::TCP, stream.local_addr().unwrap(), listener.local_addr().unwrap()), now);
            let client = UdpSocket::bind(address).unwrap();
            let now = Instant::now();
            for _ in 0..3 {
                client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
            }
            opened.insert((Proto::UDP, client.local_addr().unwrap(), server.local_addr().unwrap()), now);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    drop(lookups);

    let asked = asked.0.lock().unwrap();
    let count = |proto, local: std::net::SocketAddr, remote: std::net::SocketAddr| {
        let is_it = |query: &Query| {
            let ends = [query.local, query.remote].map(|end| (end.addr, end.port));
            let wanted = [local, remote].map(|end| (end.ip(), Some(end.port())));
            query.proto == proto && ends == wanted
        };
        asked.iter().filter(|(query, _)| is_it(query)).map(|(_, at)| *at).collect::<Vec<_>>()
    };
    let mut delays = Vec::new();
    for (&(proto, client, server), &at) in &opened {
        let (there, back) = (count(proto, client, server), count(proto, server, client));
        assert!(!there.is_empty() && !back.is_empty(), "{proto} {client} {server} was not asked for");
        // Datagrams are asked for once, not each; the loopback interface shows a packet but once.
        assert!(there.len() == 1 && back.len() == 1, "{proto} {client}: {} {}", there.len(), back.len());
        delays.push(there[0].duration_since(at));
    }
    delays.sort();
    let share = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    println!("from send to lookup: median {:?}, 90 % {:?}, 99 % {:?}", share(50), share(90), share(99));
    assert!(share(50) < Duration::from_millis(20), "{:?}", share(50));
}
