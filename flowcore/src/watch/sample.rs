//! Sockets and processes for the tests of this room.

use std::sync::Arc;

use crate::host::{Credentials, Owner, Process, Socket, SocketKind, SocketState};
use crate::key::Endpoint;
use crate::record::SocketRecord;
use crate::time::Timestamp;

/// Makes a socket of `LOCAL REMOTE`, `-` for none.
pub(super) fn socket(kind: SocketKind, ends: &str) -> Socket {
    let (local, remote) = ends.split_once(' ').unwrap();
    let end = |text: &str| {
        let addr: std::net::SocketAddr = text.parse().unwrap();
        Endpoint { addr: addr.ip(), port: Some(addr.port()) }
    };
    let remote = Some(remote).filter(|&remote| remote != "-").map(end);
    let state = match (kind, remote) {
        (_, Some(_)) => SocketState::Established,
        (SocketKind::Tcp, None) => SocketState::Listen,
        (_, None) => SocketState::Unconnected,
    };
    Socket {
        kind,
        local: end(local),
        remote,
        state,
        uid: 0,
        inode: 0,
        cookie: 0,
        netns: 0,
        interface: 0,
        cgroup: None,
    }
}

pub(super) fn tcp(ends: &str) -> Socket {
    socket(SocketKind::Tcp, ends)
}

pub(super) fn udp(ends: &str) -> Socket {
    socket(SocketKind::Udp, ends)
}

pub(super) fn listener(addr: &str, port: u16) -> Socket {
    let addr: std::net::IpAddr = addr.parse().unwrap();
    tcp(&format!("{} -", std::net::SocketAddr::new(addr, port)))
}

/// A second of 2026-03-02, from 19:45:00 on.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_nanos((1_772_480_700 + second) * 1_000_000_000)
}

/// A process with its executable in `/usr/bin`, or at a path.
pub(super) fn process(pid: u32, exe: &str) -> Arc<Process> {
    let path = if exe.starts_with('/') { exe.to_owned() } else { format!("/usr/bin/{exe}") };
    let name = exe.trim_end_matches(" (deleted)").rsplit('/').next().unwrap().to_owned();
    Arc::new(Process {
        pid,
        args: vec![name.clone()],
        name,
        exe: Some(path),
        started: at(-3_600),
        ppid: 1,
        parent_name: Some("init".to_owned()),
        credentials: Credentials::default(),
        user: Some("root".to_owned()),
        container_id: None,
    })
}

/// A record of the time 0 whose socket a program of that number owns.
pub(super) fn owned(socket: Socket, pid: u32, exe: &str) -> SocketRecord {
    let owner = Owner::Process { process: process(pid, exe), shared: 1 };
    SocketRecord::new(at(0), socket, Some("root".into()), &owner)
}

/// A record of the time 0 whose owner is unknown.
pub(super) fn unowned(socket: Socket) -> SocketRecord {
    SocketRecord::new(at(0), socket, None, &Owner::NotPermitted)
}
