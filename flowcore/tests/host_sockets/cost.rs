//! What asking costs.

use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use flowcore::host::{SocketTable, TextSockets};
use flowcore::key::Proto;

use crate::room::{Room, address, query};

/// `cargo test --release -p flowcore --test host_sockets -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost() {
    let Some(room) = Room::open() else { return };
    let mut kernel = room.kernel();
    let mut text = room.enter(TextSockets::here);
    let mut guests = Vec::new();
    for (count, pairs) in [(1_000, 500), (10_000, 4_500), (50_000, 20_000)] {
        // A process may not open as many files as one likes.
        for _ in 0..pairs / PAIRS {
            guests.push(room.python(&CONNECTIONS.replace("PAIRS", &PAIRS.to_string())));
        }
        let ports = &guests.last().expect("a guest").0;
        let (near, far) = ports.split_once(' ').expect("two ports");
        let [near, far] =
            [near, far].map(|port| SocketAddr::new(address("127.0.0.1"), port.parse().expect("a port")));
        let asked = query(Proto::TCP, near, far);
        let mut sockets = Vec::new();
        measure(&format!("lookup, {count} sockets"), 20_000, || {
            assert!(kernel.find(&asked).unwrap().is_some());
        });
        let udp = query(Proto::UDP, "127.0.0.1:9".parse().unwrap(), far);
        measure(&format!("lookup of none, two tries, {count} sockets"), 20_000, || {
            assert!(kernel.find(&udp).unwrap().is_none());
        });
        measure(&format!("snapshot by sock_diag, {count} sockets"), 50, || {
            sockets.clear();
            kernel.snapshot(&mut sockets).unwrap();
            assert_eq!(sockets.len(), count + guests.len());
        });
        measure(&format!("snapshot from text, {count} sockets"), 10, || {
            sockets.clear();
            text.snapshot(&mut sockets).unwrap();
        });
        measure(&format!("lookup in text, {count} sockets"), 10, || {
            assert!(text.find(&asked).unwrap().is_some());
        });
    }
}

/// Runs something many times, and prints how long the middle one and the 99th percentile took, and how much of the
/// processor each took on average.
fn measure(what: &str, times: usize, mut work: impl FnMut()) {
    work();
    let before = on_processor();
    let mut took: Vec<f64> = (0..times)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    let cpu = (on_processor() - before) / 1e3 / times as f64;
    took.sort_by(f64::total_cmp);
    let (median, late) = (took[times / 2], took[times * 99 / 100]);
    println!("{what}: median {median:.1} us, p99 {late:.1} us, processor {cpu:.1} us");
}

/// The nanoseconds that this thread has run.
fn on_processor() -> f64 {
    let told = fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    told.split(' ').next().and_then(|first| first.parse().ok()).expect("a number")
}

const PAIRS: usize = 500;

/// Makes connections, and tells the ports of the last one.
const CONNECTIONS: &str = "\
listener = socket.create_server(('127.0.0.1', 0))
held = []
for _ in range(PAIRS):
    held.append(socket.create_connection(listener.getsockname()))
    held.append(listener.accept()[0])
print(held[-2].getsockname()[1], listener.getsockname()[1])";
