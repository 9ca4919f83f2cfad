//! Sockets of the machine, in network namespaces of their own. Needs root and `ip`; without them each test says
//! SKIPPED, and with CI_REQUIRE_LIVE=1 it fails instead.
#![cfg(all(target_os = "linux", feature = "host"))]

mod cost;
mod destroyed;
mod room;

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use flowcore::host::{
    DestroyedSockets, KernelSockets, MachineSockets, NetNamespace, Query, Socket, SocketKind, SocketState,
    SocketTable, TextSockets, queue_pairs,
};
use flowcore::key::Proto;
use room::{
    Room, address, as_in_packets, as_ss, bind_to, cookie, end, inode, open, query, settle, skip, stranger,
};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// A server's listener, and a connection with both ends.
struct Connection {
    listener: TcpListener,
    near: TcpStream,
    far: TcpStream,
}

/// Connects to a listener that is bound to `bind`, by the address `to`.
fn connect(bind: &str, to: &str) -> std::io::Result<Connection> {
    let listener = TcpListener::bind(bind)?;
    let near = TcpStream::connect(SocketAddr::new(address(to), listener.local_addr()?.port()))?;
    let (far, _) = listener.accept()?;
    Ok(Connection { listener, near, far })
}

#[test]
fn connections_are_found_from_both_ends() {
    let Some(room) = Room::open() else { return };
    let mut table = room.kernel();
    for (bind, to) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
    {
        let pair = room.enter(|| connect(bind, to));
        for (one, other) in [(&pair.near, &pair.far), (&pair.far, &pair.near)] {
            let asked = query(Proto::TCP, one.local_addr().unwrap(), one.peer_addr().unwrap());
            let found = table.find(&asked).unwrap().unwrap_or_else(|| panic!("{bind} {to}: none"));
            assert_eq!((found.inode, found.cookie), (inode(one), cookie(one)), "{bind} {to}");
            assert_ne!(found.inode, inode(other));
            assert_eq!((found.kind, found.state), (SocketKind::Tcp, SocketState::Established));
            assert_eq!((found.uid, found.netns), (0, room.namespace.inode()));
            assert!(found.cgroup.is_some());
            assert_eq!(found.local, end(one.local_addr().unwrap()));
            assert_eq!(found.remote, Some(end(one.peer_addr().unwrap())));
            // A table of packets says IPv4 where the socket says ::ffff:127.0.0.1.
            let asked = query(
                Proto::TCP,
                as_in_packets(one.local_addr().unwrap()),
                as_in_packets(one.peer_addr().unwrap()),
            );
            assert_eq!(table.find(&asked).unwrap().unwrap(), found, "{bind} {to}");
        }
    }
    assert_eq!((table.damaged(), table.repeated()), (0, 0));
}

#[test]
fn a_stranger_finds_the_listener_and_a_port_alone_finds_nothing() {
    let Some(room) = Room::open() else { return };
    let mut table = room.kernel();
    for (bind, to) in
        [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
    {
        let listener = room.enter(|| TcpListener::bind(bind));
        let here = SocketAddr::new(address(to), listener.local_addr().unwrap().port());
        let found = table.find(&query(Proto::TCP, here, stranger(here))).unwrap().unwrap();
        assert_eq!(
            (found.inode, found.state, found.remote),
            (inode(&listener), SocketState::Listen, None),
            "{bind}"
        );
        assert_eq!(table.find(&query(Proto::UDP, here, stranger(here))).unwrap(), None);
    }
    let listener = room.enter(|| TcpListener::bind("127.0.0.1:0"));
    let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), listener.local_addr().unwrap().port());
    assert_eq!(table.find(&query(Proto::TCP, elsewhere, stranger(elsewhere))).unwrap(), None);
    assert_eq!(table.find(&query(Proto::SCTP, elsewhere, stranger(elsewhere))).unwrap(), None);
}

#[test]
fn a_connection_that_waits_to_be_accepted_has_no_inode_yet() {
    let Some(room) = Room::open() else { return };
    let mut table = room.kernel();
    let listener = room.enter(|| TcpListener::bind("127.0.0.1:0"));
    let here = listener.local_addr().unwrap();
    let near = room.enter(|| TcpStream::connect(here));
    let asked = query(Proto::TCP, here, near.local_addr().unwrap());
    let waiting = table.find(&asked).unwrap().unwrap();
    assert_eq!((waiting.state, waiting.inode), (SocketState::Established, 0));
    let (far, _) = listener.accept().unwrap();
    let accepted = table.find(&asked).unwrap().unwrap();
    assert_eq!((accepted.inode, accepted.cookie), (inode(&far), waiting.cookie));
}

/// A listener of user 1000, and the SYN of a peer that never answers.
const HALF_OPEN: &str = "\
import os, struct, subprocess
for line in ['link add wire type veth peer name end', 'link set end up', 'link set wire up',
             'address add 10.9.0.1/24 dev wire']:
    subprocess.run(['ip', *line.split()], check=True)
for name in ['all', 'wire', 'lo']:
    open('/proc/sys/net/ipv4/conf/' + name + '/rp_filter', 'w').write('0')
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
os.seteuid(1000)
listener = socket.create_server(('10.9.0.1', 8080))
ends = socket.inet_aton('10.9.0.7') + socket.inet_aton('10.9.0.1')
def syn(checksum):
    return struct.pack('!HHIIBBHHH', 4000, 8080, 1, 0, 0x50, 2, 1024, checksum, 0)
total = sum(struct.unpack('!16H', ends + struct.pack('!HH', 6, 20) + syn(0)))
total = (total & 0xffff) + (total >> 16)
total = (total & 0xffff) + (total >> 16)
raw.sendto(struct.pack('!BBHHHBBH', 0x45, 0, 40, 1, 0, 64, 6, 0) + ends + syn(~total & 0xffff), ('10.9.0.1', 0))
print(os.fstat(listener.fileno()).st_ino)";

#[test]
fn a_handshake_under_way_has_neither_inode_nor_user() {
    let Some(room) = Room::open() else { return };
    let (told, _guest) = room.python(HALF_OPEN);
    let mut table = room.kernel();
    let here = "10.9.0.1:8080".parse().unwrap();
    let found = table.find(&query(Proto::TCP, here, "10.9.0.7:4000".parse().unwrap())).unwrap().unwrap();
    assert_eq!((found.state, found.inode, found.uid), (SocketState::SynReceived, 0, 0));
    assert_ne!(found.cookie, 0);
    let found = table.find(&query(Proto::TCP, here, "10.9.0.7:4001".parse().unwrap())).unwrap().unwrap();
    assert_eq!((found.state, found.inode.to_string(), found.uid), (SocketState::Listen, told, 1000));
    let mut sockets = Vec::new();
    table.snapshot(&mut sockets).unwrap();
    assert!(sockets.iter().any(|socket| socket.state == SocketState::SynReceived));
}

#[test]
fn udp_connected_or_not() {
    let Some(room) = Room::open() else { return };
    let mut table = room.kernel();
    let cases = [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.9"),
        ("[::]:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
    ];
    for (bind, to) in cases {
        let socket = room.enter(|| UdpSocket::bind(bind));
        let here = SocketAddr::new(address(to), socket.local_addr().unwrap().port());
        let found = table.find(&query(Proto::UDP, here, stranger(here))).unwrap().unwrap();
        assert_eq!((found.inode, found.cookie), (inode(&socket), cookie(&socket)), "{bind}");
        assert_eq!(
            (found.kind, found.state, found.remote),
            (SocketKind::Udp, SocketState::Unconnected, None)
        );
        let client = room.enter(|| {
            let client = UdpSocket::bind(SocketAddr::new(address(to), 0))?;
            client.connect(here)?;
            Ok(client)
        });
        let own = client.local_addr().unwrap();
        let found = table.find(&query(Proto::UDP, own, here)).unwrap().unwrap();
        assert_eq!((found.inode, found.remote), (inode(&client), Some(end(here))), "{bind}");
        assert_eq!(found.state, SocketState::Established);
        // A connected socket hears its peer alone.
        assert_eq!(table.find(&query(Proto::UDP, own, stranger(own))).unwrap(), None);
    }
}

#[test]
fn udp_lite_and_multicast() {
    let Some(room) = Room::open() else { return };
    let mut table = room.kernel();
    let socket = room.enter(|| {
        let socket = open(AddressFamily::INET, SocketType::DGRAM, 136)?;
        bind_to(&socket, "127.0.0.1:7000").map(|()| socket)
    });
    let here = "127.0.0.1:7000".parse().unwrap();
    let found = table.find(&query(Proto::UDP_LITE, here, stranger(here))).unwrap().unwrap();
    assert_eq!((found.inode, found.kind), (inode(&socket), SocketKind::UdpLite));
    let group = room.enter(|| UdpSocket::bind("224.0.0.251:5353"));
    let to = "224.0.0.251:5353".parse().unwrap();
    let found = table.find(&query(Proto::UDP, to, "127.0.0.1:5353".parse().unwrap())).unwrap().unwrap();
    assert_eq!(found.inode, inode(&group));
}

#[test]
fn of_sockets_that_share_a_port_the_one_is_found_that_the_kernel_chooses() {
    let Some(room) = Room::open() else { return };
    let mut table = room.kernel();
    let mut chosen = BTreeSet::new();
    let sockets: Vec<UdpSocket> = (0..4)
        .map(|_| {
            room.enter(|| {
                let socket = open(AddressFamily::INET, SocketType::DGRAM, 0)?;
                sockopt::set_socket_reuseport(&socket, true)?;
                bind_to(&socket, "127.0.0.1:9000").map(|()| socket.into())
            })
        })
        .collect();
    let here = "127.0.0.1:9000".parse().unwrap();
    for _ in 0..32 {
        let client = room.enter(|| UdpSocket::bind("127.0.0.1:0"));
        let found = table.find(&query(Proto::UDP, here, client.local_addr().unwrap())).unwrap().unwrap();
        client.send_to(b"x", here).unwrap();
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
            if socket.recv(&mut [0]).is_ok() {
                assert_eq!(found.inode, inode(socket));
                chosen.insert(found.inode);
            }
        }
    }
    assert!(chosen.len() > 1, "32 clients at one of four sockets");
}

#[test]
fn a_socket_bound_to_a_device_is_found_by_its_index() {
    let Some(room) = Room::open() else { return };
    let mut table = room.kernel();
    let (told, _guest) = room.python(
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')\n\
         s.bind(('::', 7100))\n\
         print(__import__('os').fstat(s.fileno()).st_ino)",
    );
    let here = "[::1]:7100".parse().unwrap();
    let asked = query(Proto::UDP, here, stranger(here));
    let found = table.find(&asked).unwrap().unwrap();
    assert_eq!((found.inode.to_string(), found.interface), (told, 1));
    assert_eq!(table.find(&Query { interface: 0, ..asked }).unwrap(), None);
    // What came by another interface finds the sockets that are bound to none.
    let open = room.enter(|| UdpSocket::bind("[::]:7101"));
    let there = "[::1]:7101".parse().unwrap();
    let asked = query(Proto::UDP, there, stranger(there));
    let found = table.find(&Query { interface: 999, ..asked }).unwrap().unwrap();
    assert_eq!(found.inode, inode(&open));
}

#[test]
fn a_snapshot_has_the_rows_of_ss() {
    let Some(room) = Room::open() else { return };
    let _held = room.furnish();
    settle();
    let mut sockets = Vec::new();
    let mut table = room.kernel().with_time_wait();
    table.snapshot(&mut sockets).unwrap();
    assert_eq!((table.damaged(), table.repeated()), (0, 0));
    let mut ours: Vec<String> = sockets.iter().filter_map(as_ss).collect();
    let mut theirs = room.ss();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    assert!(ours.len() >= 20, "{ours:#?}");
}

#[test]
fn text_and_netlink_agree() {
    let Some(room) = Room::open() else { return };
    let _held = room.furnish();
    settle();
    let (mut kernel, mut text) = (room.kernel(), room.enter(TextSockets::here));
    let plain = |table: &mut dyn SocketTable| {
        let mut sockets = Vec::new();
        table.snapshot(&mut sockets).unwrap();
        sockets.iter_mut().for_each(|socket| (socket.cookie, socket.interface, socket.cgroup) = (0, 0, None));
        sockets.sort_by_key(|socket| (socket.inode, socket.local, socket.remote));
        sockets
    };
    let sockets = plain(&mut kernel);
    assert_eq!(sockets, plain(&mut text));
    let kinds: BTreeSet<_> = sockets.iter().map(|socket| socket.kind.name(socket.local.addr)).collect();
    assert_eq!(kinds.len(), 10, "{kinds:?}");

    let mut compared = 0;
    for Socket { kind, local, remote, .. } in &sockets {
        let proto = match kind {
            SocketKind::Tcp => Proto::TCP,
            SocketKind::Udp => Proto::UDP,
            SocketKind::UdpLite => Proto::UDP_LITE,
            _ => continue,
        };
        let loopback = if local.addr.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() };
        let addr = if local.addr.is_unspecified() { loopback } else { local.addr };
        let here = SocketAddr::new(addr, local.port.unwrap());
        let there =
            remote.map_or(stranger(here), |remote| SocketAddr::new(remote.addr, remote.port.unwrap()));
        let mut asked = query(proto, here, there);
        asked.interface = 0;
        let find = |table: &mut dyn SocketTable| table.find(&asked).unwrap().map(|socket| socket.inode);
        // Files do not tell which of several listeners gets a connection.
        if here.port() != 9000 {
            assert_eq!(find(&mut kernel), find(&mut text), "{asked:?}");
            compared += 1;
        }
    }
    assert!(compared > 15, "{compared}");
}

#[test]
fn a_snapshot_while_sockets_come_and_go() {
    let Some(room) = Room::open() else { return };
    let stable: Vec<UdpSocket> = (0..500).map(|_| room.enter(|| UdpSocket::bind("127.0.0.1:0"))).collect();
    let listener = room.enter(|| TcpListener::bind("127.0.0.1:0"));
    let here = listener.local_addr().unwrap();
    let done = AtomicBool::new(false);
    let mut table = room.kernel();
    thread::scope(|scope| {
        scope.spawn(|| {
            room.enter(|| {
                while !done.load(Ordering::Relaxed) {
                    let near = TcpStream::connect(here)?;
                    let (far, _) = listener.accept()?;
                    drop((near, far, UdpSocket::bind("127.0.0.1:0")?));
                }
                Ok(())
            })
        });
        // However it ends: a failed assertion would wait for the thread forever.
        let _end = Ends(&done);
        for _ in 0..100 {
            let mut sockets = Vec::new();
            table.snapshot(&mut sockets).unwrap();
            let mut seen = HashMap::new();
            for socket in &sockets {
                *seen.entry(socket.cookie).or_insert(0) += 1;
                assert_ne!(socket.state, SocketState::TimeWait);
            }
            assert!(seen.values().all(|count| *count == 1));
            assert!(stable.iter().all(|socket| seen.contains_key(&cookie(socket))));
        }
    });
    assert_eq!(table.damaged(), 0);
}

#[test]
fn a_connection_that_enters_time_wait_meanwhile_is_not_listed() {
    let Some(room) = Room::open() else { return };
    let listener = room.enter(|| TcpListener::bind("127.0.0.1:0"));
    let here = listener.local_addr().unwrap();
    let mut table = room.kernel();
    let mut sockets = Vec::new();
    for _ in 0..50 {
        // Closed here, and open there: the kernel lists such a connection in FIN_WAIT2, and TIME_WAIT is its next state.
        let open: Vec<_> = room.enter(|| {
            (0..400).map(|_| TcpStream::connect(here).and_then(|_| Ok(listener.accept()?.0))).collect()
        });
        thread::scope(|scope| {
            let closing = scope.spawn(|| drop(open));
            while !closing.is_finished() {
                sockets.clear();
                table.snapshot(&mut sockets).unwrap();
                let waiting = sockets.iter().find(|socket| socket.state == SocketState::TimeWait);
                assert_eq!(waiting, None);
            }
        });
    }
}

/// Sets a flag when it goes.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_namespace_is_listed_and_its_sockets_are_its_own() {
    let Some(room) = Room::open() else { return };
    let listener = room.enter(|| TcpListener::bind("127.0.0.1:0"));
    let here = listener.local_addr().unwrap();
    let asked = query(Proto::TCP, here, stranger(here));
    assert!(room.kernel().find(&asked).unwrap().is_some());
    assert_eq!(KernelSockets::open().unwrap().find(&asked).unwrap(), None);
    let mut machine = MachineSockets::open().unwrap();
    assert_eq!((machine.source(), machine.find(&asked).unwrap()), ("sock_diag", None));
    let (_, guest) = room.python("print()");
    let (all, _) = NetNamespace::all().unwrap();
    assert!(all.iter().any(|one| one.inode() == room.namespace.inode()));
    drop(guest);
    // Whoever went in came out again.
    assert_eq!(
        NetNamespace::current().unwrap().inode(),
        NetNamespace::open("/proc/self/ns/net").unwrap().inode()
    );
}

#[test]
fn the_own_namespace_needs_no_privilege() {
    let mut table = match KernelSockets::open() {
        Ok(table) => table,
        Err(why) => return skip(&format!("no sock_diag: {why}")),
    };
    let mut events = DestroyedSockets::open().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let found = table.find(&query(Proto::TCP, here, stranger(here))).unwrap().unwrap();
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    assert_eq!((found.inode, found.uid), (inode(&listener), uid));
    let mut sockets = Vec::new();
    table.snapshot(&mut sockets).unwrap();
    assert!(sockets.contains(&found));
    let cookies = [cookie(&listener)];
    drop(listener);
    destroyed::await_events(&mut events, cookies);
}

#[test]
fn queue_pairs_are_asked_for() {
    let pairs = queue_pairs().unwrap();
    if pairs.is_empty() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no RDMA queue pairs on this machine; parsing is tested with a message made by hand"
        );
    }
    assert!(pairs.iter().all(|pair| !pair.device.is_empty()));
}
