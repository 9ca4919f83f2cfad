//! Records of sockets and processes for the tests of this room.

use std::fs;
use std::sync::Arc;

use super::{Existing, Format, HostRecords, open_host};
use crate::host::{Credentials, Owner, Process, Socket, SocketKind, SocketState};
use crate::key::{Endpoint, Proto};
use crate::record::{EventKind, EventSource, NetworkEvent, Record, SocketRecord};
use crate::time::Timestamp;

/// Writes records to a file of this name and returns what is in it.
pub(super) fn written(name: &str, records: HostRecords, format: Format, all: &[Record<'_>]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut sink = open_host(records, path.to_str().unwrap(), format, &Existing::Refuse.into()).unwrap();
    for record in all {
        sink.write(*record).unwrap();
    }
    sink.finish().unwrap();
    fs::read_to_string(path).unwrap()
}

/// 2026-03-02 21:12:04, and a fraction.
pub(super) fn time() -> Timestamp {
    Timestamp::from_nanos(1_772_485_924_250_000_000)
}

pub(super) fn process(pid: u32, exe: &str, args: &[&str]) -> Arc<Process> {
    Arc::new(Process {
        pid,
        name: exe.rsplit('/').next().unwrap().to_owned(),
        exe: Some(exe.to_owned()),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        started: Timestamp::from_nanos(1_772_480_700_470_000_000),
        ppid: 1,
        parent_name: Some("systemd".to_owned()),
        credentials: Credentials { uid: 1000, ..Credentials::default() },
        user: Some("seb".to_owned()),
        container_id: None,
    })
}

pub(super) fn end(text: &str) -> Endpoint {
    let addr: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { addr: addr.ip(), port: Some(addr.port()) }
}

pub(super) fn socket(kind: SocketKind, local: &str, remote: Option<&str>) -> Socket {
    let state = match (kind, remote) {
        (_, Some(_)) => SocketState::Established,
        (SocketKind::Tcp, None) => SocketState::Listen,
        (_, None) => SocketState::Unconnected,
    };
    Socket {
        kind,
        local: end(local),
        remote: remote.map(end),
        state,
        uid: 0,
        inode: 31_000,
        cookie: 4_097,
        netns: 4_026_531_840,
        interface: 0,
        cgroup: None,
    }
}

pub(super) fn owned(socket: Socket, process: &Arc<Process>, shared: u32) -> SocketRecord {
    SocketRecord::new(
        time(),
        socket,
        Some("root".into()),
        &Owner::Process { process: Arc::clone(process), shared },
    )
}

/// A machine with a web server, an intruder, a name server that nobody may look into, and a raw socket.
pub(super) fn snapshot() -> Vec<SocketRecord> {
    let mut nginx = process(3102, "/usr/sbin/nginx", &["nginx: worker process"]).as_ref().clone();
    nginx.container_id = Some("7f3c".repeat(16));
    let nginx = Arc::new(nginx);
    let python = process(7821, "/usr/bin/python3.12", &["python3", "-c", "import os, \"x\"\n"]);
    let raw = Socket { local: Endpoint { port: None, ..end("0.0.0.0:0") }, ..udp_raw() };
    vec![
        owned(socket(SocketKind::Tcp, "192.168.1.10:54900", Some("185.220.101.5:4444")), &python, 1),
        owned(socket(SocketKind::Tcp, "[::]:443", None), &nginx, 5),
        owned(socket(SocketKind::Tcp, "0.0.0.0:31337", None), &python, 1),
        owned(socket(SocketKind::Tcp, "[2001:db8::1]:443", Some("[2001:db8::2]:50000")), &nginx, 1),
        SocketRecord::new(
            time(),
            Socket { uid: 101, inode: 0, cookie: 0, ..socket(SocketKind::Udp, "127.0.0.53:53", None) },
            None,
            &Owner::UidOnly { uid: 101, container_id: None },
        ),
        SocketRecord::new(time(), raw, None, &Owner::NotPermitted),
    ]
}

fn udp_raw() -> Socket {
    socket(SocketKind::Raw(Proto::ICMP), "0.0.0.0:0", None)
}

/// `wget -qO- -6 google.com`, as root.
pub(super) fn event() -> NetworkEvent {
    let mut wget =
        process(2_274_372, "/usr/bin/wget", &["wget", "-qO-", "-6", "google.com"]).as_ref().clone();
    wget.ppid = 2_273_865;
    wget.credentials = Credentials {
        auid: Some(1000),
        cap_permitted: 0x1ff_ffff_ffff,
        cap_effective: 0x1ff_ffff_ffff,
        ..Credentials::default()
    };
    NetworkEvent {
        timestamp: time(),
        kind: EventKind::Establish,
        cookie: Some(36_894),
        local: end("[2a00:1370:81a6:3f56:3fd6:26ed:b655:ec7a]:33978"),
        remote: end("[2a00:1450:4010:c01::64]:80"),
        process: Some(Arc::new(wget)),
        tid: Some(2_274_372),
        source: EventSource::Packet,
    }
}
