//! What the machine says of itself: its sockets, the processes that own them, its routes and counters.
//!
//! The words stand here and need no operating system, so that recorded sockets can be read anywhere. What asks the
//! kernel stands in one folder for each operating system.
#![forbid(unsafe_code)]

pub mod counters;
pub mod route;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::key::{Endpoint, Proto};
use crate::time::Timestamp;

#[cfg(all(target_os = "linux", feature = "host"))]
mod linux;
#[cfg(all(target_os = "linux", feature = "host"))]
pub use linux::*;

/// What a socket speaks; the IP version is that of its local address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum SocketKind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
    /// A raw IP socket, and the protocol it was opened for.
    Raw(Proto),
    /// An ICMP socket as `ping` uses it without privileges; the local port is the ICMP identifier.
    Ping,
    /// An RDMA queue pair.
    Rdma,
}

/// The state of a socket; the words of RFC 9293 for TCP, and `ss`'s for others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum SocketState {
    /// A connection; also a UDP or raw socket that is connected.
    Established,
    /// A SYN was sent.
    SynSent,
    /// A SYN was received.
    SynReceived,
    /// This end has closed and its FIN is under way.
    FinWait1,
    /// This end has closed and the other has acknowledged it.
    FinWait2,
    /// Waits until no old segment can come.
    TimeWait,
    /// No connection; a UDP or raw socket that is not connected.
    Unconnected,
    /// The other end has closed.
    CloseWait,
    /// Both ends have closed; waits for the last acknowledgement.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Both ends have closed at the same time.
    Closing,
}

/// A socket as the kernel described it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Socket {
    /// What it speaks.
    pub kind: SocketKind,
    /// Its local end; the address is unspecified where it is bound to none. IPv4-mapped addresses stand as the
    /// kernel gave them.
    pub local: Endpoint,
    /// The other end of a connected socket.
    pub remote: Option<Endpoint>,
    /// Its state.
    pub state: SocketState,
    /// The user it belongs to.
    pub uid: u32,
    /// Its inode; 0 where no process holds it.
    pub inode: u64,
    /// The kernel's number of the socket, never used twice until the machine restarts; 0 where it is not known.
    pub cookie: u64,
    /// The inode of its network namespace; 0 where it is not known.
    pub netns: u64,
    /// The index of the interface it is bound to; 0 for none.
    pub interface: u32,
    /// The id of its control group, where the kernel tells.
    pub cgroup: Option<u64>,
}

/// A process, as it was when it was looked at.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Its name: the kernel's `comm`, or the base name of the executable where `comm` was cut at 15 bytes.
    pub name: String,
    /// The executable; none where it cannot be read.
    pub exe: Option<String>,
    /// The command line with argv\[0\]; empty where it cannot be read.
    pub args: Vec<String>,
    /// When it started: boot time and the kernel's clock ticks, so to 10 ms.
    pub started: Timestamp,
    /// The process id of its parent.
    pub ppid: u32,
    /// The name of its parent, where that lives.
    pub parent_name: Option<String>,
    /// Its users, groups and capabilities.
    pub credentials: Credentials,
    /// The name of the user `credentials.uid`, where the machine has one.
    pub user: Option<String>,
    /// The container it runs in: 64 hex digits of its control group.
    pub container_id: Option<String>,
}

/// Users, groups and capabilities of a process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
    /// The user that logged in; none where nobody did.
    pub auid: Option<u32>,
    /// Inheritable capabilities, a bit each.
    pub cap_inheritable: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Effective capabilities.
    pub cap_effective: u64,
}

/// Which process owns a socket, or why none is named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Owner {
    /// A process, and how many hold the socket with it (1 = it alone).
    Process {
        /// The holder with the latest start whose ancestor holds it too, or the only one.
        process: Arc<Process>,
        /// How many processes hold the socket.
        shared: u32,
    },
    /// Only the user, and the container where there is one, are known.
    UidOnly {
        /// The user that the socket belongs to.
        uid: u32,
        /// The container of the socket's control group.
        container_id: Option<String>,
    },
    /// No process holds it any more.
    NoProcess,
    /// The processes that may hold it cannot be looked into.
    NotPermitted,
    /// Several processes hold it and none descends from the others.
    Ambiguous,
}

/// What a flow's end is asked for: the addresses as this end sees them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Query {
    /// TCP, UDP or UDP-Lite.
    pub proto: Proto,
    /// The end on this machine.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// The interface on which the packet was seen; 0 where it is not known.
    pub interface: u32,
}

/// Where sockets are looked up: the kernel, its text files, or a recording.
pub trait SocketTable: Send {
    /// Looks up the socket that would get a packet of this connection: the connection's own, an unconnected UDP
    /// socket, or the listener. `Ok(None)` means that there is none.
    ///
    /// # Errors
    /// When the machine cannot be asked; not when there is no such socket.
    fn find(&mut self, query: &Query) -> io::Result<Option<Socket>>;

    /// Appends all sockets to `sockets`, TCP in TIME_WAIT left out.
    ///
    /// # Errors
    /// When the machine cannot be asked.
    fn snapshot(&mut self, sockets: &mut Vec<Socket>) -> io::Result<()>;

    /// Appends all TCP sockets that listen on a port.
    ///
    /// # Errors
    /// When the machine cannot be asked.
    fn listeners(&mut self, port: u16, sockets: &mut Vec<Socket>) -> io::Result<()> {
        let mut all = Vec::new();
        self.snapshot(&mut all)?;
        let listens = |socket: &Socket| socket.kind == SocketKind::Tcp && socket.state == SocketState::Listen;
        sockets.extend(all.into_iter().filter(|socket| listens(socket) && socket.local.port == Some(port)));
        Ok(())
    }
}

/// Where the owners of sockets are looked up.
pub trait ProcessTable: Send {
    /// Returns the owner of a socket; the socket must have been read before this call.
    fn owner(&mut self, socket: &Socket) -> Owner;

    /// Does the same, and may end a long search where `is_there` says that the socket is gone: nobody holds it then.
    fn owner_while(&mut self, socket: &Socket, is_there: &mut dyn FnMut() -> bool) -> Owner {
        let _ = is_there;
        self.owner(socket)
    }

    /// Returns the owners of many sockets, in their order; cheaper than asking one by one.
    fn owners(&mut self, sockets: &[Socket]) -> Vec<Owner> {
        sockets.iter().map(|socket| self.owner(socket)).collect()
    }
}

impl SocketKind {
    /// Returns the word that stands in records: `"TCP"`, `"UDPv6"`, `"RAW"`, `"ICMPv6"` …
    pub fn name(self, local: IpAddr) -> &'static str {
        match (self, local.is_ipv6()) {
            (SocketKind::Tcp, false) => "TCP",
            (SocketKind::Tcp, true) => "TCPv6",
            (SocketKind::Udp, false) => "UDP",
            (SocketKind::Udp, true) => "UDPv6",
            (SocketKind::UdpLite, false) => "UDPLITE",
            (SocketKind::UdpLite, true) => "UDPLITEv6",
            (SocketKind::Raw(_), false) => "RAW",
            (SocketKind::Raw(_), true) => "RAWv6",
            (SocketKind::Ping, false) => "ICMP",
            (SocketKind::Ping, true) => "ICMPv6",
            (SocketKind::Rdma, _) => "RDMA",
        }
    }
}

impl SocketState {
    /// Returns the word that stands in records: `"LISTEN"`, `"ESTABLISHED"`, `"UNCONN"` …
    pub const fn name(self) -> &'static str {
        match self {
            SocketState::Established => "ESTABLISHED",
            SocketState::SynSent => "SYN_SENT",
            SocketState::SynReceived => "SYN_RECV",
            SocketState::FinWait1 => "FIN_WAIT1",
            SocketState::FinWait2 => "FIN_WAIT2",
            SocketState::TimeWait => "TIME_WAIT",
            SocketState::Unconnected => "UNCONN",
            SocketState::CloseWait => "CLOSE_WAIT",
            SocketState::LastAck => "LAST_ACK",
            SocketState::Listen => "LISTEN",
            SocketState::Closing => "CLOSING",
        }
    }
}

impl Process {
    /// Returns `name|pid|start`, the start as seconds since the Unix epoch with two decimals: one process, and
    /// never the next one with its number.
    pub fn upid(&self) -> String {
        let hundredths = self.started.as_nanos() / 10_000_000;
        format!("{}|{}|{}.{:02}", self.name, self.pid, hundredths / 100, hundredths % 100)
    }

    /// Tells whether it runs a program: that is its name or the base name of its executable, or with a `/` in it the
    /// whole path of the executable. None where that path would tell and is not known.
    pub fn runs(&self, program: &str) -> Option<bool> {
        let exe = self.exe_path();
        if program.contains('/') {
            return exe.map(|exe| exe == program);
        }
        Some(self.name == program || exe.and_then(|exe| exe.rsplit('/').next()) == Some(program))
    }

    /// Returns the path of its executable without what the kernel adds once the file was replaced.
    pub fn exe_path(&self) -> Option<&str> {
        self.exe.as_deref().map(|exe| exe.strip_suffix(" (deleted)").unwrap_or(exe))
    }
}
