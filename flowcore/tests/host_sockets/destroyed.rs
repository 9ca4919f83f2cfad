//! What the kernel tells when sockets are destroyed.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use flowcore::host::{Destroyed, DestroyedSockets, SocketKind};
use rustix::net::sockopt;

use crate::room::{Room, cookie, end};
use crate::{Connection, connect};

/// Waits for the events of these cookies, in the order in which they were given.
pub fn await_events<const N: usize>(events: &mut DestroyedSockets, cookies: [u64; N]) -> [Destroyed; N] {
    let mut seen: HashMap<u64, Destroyed> = HashMap::new();
    let began = Instant::now();
    while !cookies.iter().all(|cookie| seen.contains_key(cookie)) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{cookies:?} {seen:?}, {} lost",
            events.overruns()
        );
        seen.extend(events.recv(Duration::from_secs(1)).unwrap().map(|event| (event.cookie, event)));
    }
    cookies.map(|cookie| seen.remove(&cookie).expect("it was seen"))
}

#[test]
fn destroyed_connections_tell_how_much_was_sent() {
    let Some(room) = Room::open() else { return };
    let mut events = room.enter(DestroyedSockets::open);
    for (bind, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
        let Connection { listener, mut near, mut far } = room.enter(|| connect(bind, to));
        let (asked, answered) = (vec![1; 12_345], vec![2; 234_567]);
        let writer = thread::spawn(move || {
            near.write_all(&asked).unwrap();
            near.shutdown(Shutdown::Write).unwrap();
            let read = near.read_to_end(&mut Vec::new()).unwrap();
            (near, read)
        });
        assert_eq!(far.read_to_end(&mut Vec::new()).unwrap(), 12_345);
        far.write_all(&answered).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let (near, read) = writer.join().unwrap();
        assert_eq!(read, 234_567);
        let ends = [near.local_addr(), far.local_addr()].map(|address| end(address.unwrap()));
        let cookies = [cookie(&near), cookie(&far)];
        drop((near, far, listener));
        let [near, far] = await_events(&mut events, cookies);
        assert_eq!((near.kind, near.local, near.netns), (SocketKind::Tcp, ends[0], room.namespace.inode()));
        assert_eq!((far.local.port, far.remote.and_then(|far| far.port)), (ends[1].port, ends[0].port));
        let (near, far) = (near.tcp.unwrap(), far.tcp.unwrap());
        assert_eq!((near.payload_acked(), far.payload_acked()), (12_345, 234_567));
        // A FIN counts as a byte where the connection was still whole when it came.
        assert!((234_567..=234_568).contains(&near.bytes_received), "{near:?}");
        assert!((12_345..=12_346).contains(&far.bytes_received), "{far:?}");
        assert_eq!(near.data_segments_out, far.data_segments_in);
        assert_eq!(near.segments_out, far.segments_in);
        assert_eq!(near.segments_in, far.segments_out + 1, "the SYN-ACK was sent before there was a socket");
    }
    assert_eq!((events.overruns(), events.damaged()), (0, 0));
}

#[test]
fn a_reset_is_no_byte() {
    let Some(room) = Room::open() else { return };
    let mut events = room.enter(DestroyedSockets::open);
    let Connection { listener, mut near, mut far } = room.enter(|| connect("127.0.0.1:0", "127.0.0.1"));
    near.write_all(&[1; 1000]).unwrap();
    far.read_exact(&mut [0; 1000]).unwrap();
    far.write_all(&[2; 3000]).unwrap();
    near.read_exact(&mut [0; 3000]).unwrap();
    sockopt::set_socket_linger(&near, Some(Duration::ZERO)).unwrap();
    let cookies = [cookie(&near), cookie(&far)];
    let ends = [near.local_addr(), far.local_addr()].map(|address| end(address.unwrap()));
    drop((near, far, listener));
    let [near, far] = await_events(&mut events, cookies);
    // Who aborts a connection has forgotten it by then.
    assert_eq!((near.remote, near.tcp), (None, None));
    assert_eq!((far.local.port, far.remote), (ends[1].port, Some(ends[0])));
    let far = far.tcp.unwrap();
    assert_eq!((far.payload_acked(), far.bytes_received), (3000, 1000));
}

#[test]
fn events_that_nobody_takes_are_lost_and_counted() {
    let Some(room) = Room::open() else { return };
    let mut events = room.enter(DestroyedSockets::open);
    let lost =
        || room.enter(|| fs::read_to_string("/proc/thread-self/net/netlink")).lines().skip(1).any(was_lost);
    let began = Instant::now();
    while !lost() {
        assert!(began.elapsed() < Duration::from_secs(30));
        room.enter(|| (0..5_000).try_for_each(|_| UdpSocket::bind("127.0.0.1:0").map(drop)));
        // The kernel tells by a queue that all namespaces share: other tests wait for theirs behind these.
        thread::sleep(Duration::from_millis(300));
    }
    let mut taken = 0;
    while events.recv(Duration::from_millis(200)).unwrap().is_some() {
        taken += 1;
    }
    assert!(events.overruns() > 0 && taken > 0, "{taken} were taken");
    // It goes on after that.
    let udp = room.enter(|| UdpSocket::bind("127.0.0.1:0"));
    let cookies = [cookie(&udp)];
    drop(udp);
    await_events(&mut events, cookies);
}

/// Tells whether a line of `/proc/net/netlink` is about a socket that lost messages.
fn was_lost(line: &str) -> bool {
    line.split_ascii_whitespace().nth(8).is_some_and(|drops| drops != "0")
}

#[test]
fn other_destroyed_sockets() {
    let Some(room) = Room::open() else { return };
    let mut events = room.enter(DestroyedSockets::open);
    assert_eq!(events.recv(Duration::from_millis(20)).unwrap(), None);
    let udp = room.enter(|| UdpSocket::bind("[::1]:0"));
    udp.connect("[::1]:9").unwrap();
    let listener = room.enter(|| TcpListener::bind("127.0.0.1:0"));
    let ends = [end(udp.local_addr().unwrap()), end(listener.local_addr().unwrap())];
    let cookies = [cookie(&udp), cookie(&listener)];
    drop((udp, listener));
    let [udp, listener] = await_events(&mut events, cookies);
    assert_eq!((udp.kind, udp.local, udp.tcp), (SocketKind::Udp, ends[0], None));
    assert_eq!(udp.remote, Some(end("[::1]:9".parse().unwrap())));
    assert_eq!((listener.kind, listener.local, listener.remote), (SocketKind::Tcp, ends[1], None));
    assert_eq!(listener.tcp, None);
}
