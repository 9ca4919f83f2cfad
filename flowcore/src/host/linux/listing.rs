//! The lists that the kernel keeps of sockets, one for each protocol, and its numbers for their states.

use std::net::IpAddr;

use crate::host::{Query, SocketKind, SocketState};
use crate::key::{Endpoint, Proto};

/// A list of sockets; each stands once for IPv4 and once for IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listing {
    Tcp,
    Udp,
    UdpLite,
    Raw,
    Ping,
}

impl Listing {
    pub(super) const ALL: [Listing; 5] =
        [Listing::Tcp, Listing::Udp, Listing::UdpLite, Listing::Raw, Listing::Ping];

    /// The list in which the sockets of a protocol with ports stand.
    pub(super) fn of(proto: Proto) -> Option<Listing> {
        match proto {
            Proto::TCP => Some(Listing::Tcp),
            Proto::UDP => Some(Listing::Udp),
            Proto::UDP_LITE => Some(Listing::UdpLite),
            _ => None,
        }
    }

    /// The protocol number by which sock_diag knows it; 255 is any raw socket. Of ping sockets it knows nothing.
    pub(super) fn number(self) -> Option<u8> {
        match self {
            Listing::Tcp => Some(Proto::TCP.0),
            Listing::Udp => Some(Proto::UDP.0),
            Listing::UdpLite => Some(Proto::UDP_LITE.0),
            Listing::Raw => Some(255),
            Listing::Ping => None,
        }
    }

    /// The names of its text files, IPv4 first.
    pub(super) fn files(self) -> [&'static str; 2] {
        match self {
            Listing::Tcp => ["tcp", "tcp6"],
            Listing::Udp => ["udp", "udp6"],
            Listing::UdpLite => ["udplite", "udplite6"],
            Listing::Raw => ["raw", "raw6"],
            Listing::Ping => ["icmp", "icmp6"],
        }
    }

    /// What a socket of this list speaks; `port` is its local port, where raw sockets have their protocol.
    pub(super) fn kind(self, port: u16) -> SocketKind {
        match self {
            Listing::Tcp => SocketKind::Tcp,
            Listing::Udp => SocketKind::Udp,
            Listing::UdpLite => SocketKind::UdpLite,
            Listing::Raw => SocketKind::Raw(Proto(u8::try_from(port).unwrap_or(u8::MAX))),
            Listing::Ping => SocketKind::Ping,
        }
    }

    /// The two ends of a socket of this list; no remote one where it is not connected.
    pub(super) fn ends(self, local: (IpAddr, u16), remote: (IpAddr, u16)) -> (Endpoint, Option<Endpoint>) {
        let port = |port| (self != Listing::Raw).then_some(port);
        let is_connected = !remote.0.is_unspecified() || remote.1 != 0;
        let end = |(addr, number)| Endpoint { addr, port: port(number) };
        (end(local), is_connected.then(|| end(remote)))
    }
}

/// The ends of a query as (address, port), local first, IPv4-mapped addresses as IPv4; none where it has no ports
/// or both IP versions.
pub(super) fn ends_of(query: &Query) -> Option<[(IpAddr, u16); 2]> {
    let local = (query.local.addr.to_canonical(), query.local.port?);
    let remote = (query.remote.addr.to_canonical(), query.remote.port?);
    (local.0.is_ipv4() == remote.0.is_ipv4()).then_some([local, remote])
}

/// The state that the kernel's number stands for; none for those that only bind a port, and unknown ones.
pub(super) fn state(number: u8) -> Option<SocketState> {
    Some(match number {
        1 => SocketState::Established,
        2 => SocketState::SynSent,
        // 12 is a request that has no socket yet.
        3 | 12 => SocketState::SynReceived,
        4 => SocketState::FinWait1,
        5 => SocketState::FinWait2,
        TIME_WAIT => SocketState::TimeWait,
        7 => SocketState::Unconnected,
        8 => SocketState::CloseWait,
        9 => SocketState::LastAck,
        10 => SocketState::Listen,
        11 => SocketState::Closing,
        _ => return None,
    })
}

/// The kernel's number of LISTEN.
pub(super) const LISTEN: u8 = 10;
/// The kernel's number of TIME_WAIT.
pub(super) const TIME_WAIT: u8 = 6;

/// The states 1 to 11, a bit each. Those above are asked for by a number of their own, and a bit for sockets that only
/// bind a port (13) would make the kernel walk one more table.
pub(super) const LISTED_STATES: u32 = 0xffe;
