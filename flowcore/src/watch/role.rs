//! What a socket is there for, without what changes with every connection: the words in which baselines compare.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::filter::is_listening;
use crate::host::{Socket, SocketKind, SocketState};
use crate::key::Endpoint;

/// What a socket is there for. Ephemeral ports are no part of it, or every reconnect would be new.
///
/// Mapped IPv4 addresses count as IPv4 where it is said who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// It takes what comes: listening TCP, UDP bound to a port that is not ephemeral, raw sockets.
    Listener {
        /// What it speaks.
        kind: SocketKind,
        /// Whether it is a socket of IPv6.
        ipv6: bool,
        /// Which addresses it is bound to.
        class: AddressClass,
        /// Its port; raw sockets have none.
        port: Option<u16>,
    },
    /// A connection that this machine opened.
    Outgoing {
        /// What it speaks.
        kind: SocketKind,
        /// The other end.
        remote: Endpoint,
    },
    /// A connection that a listener accepted.
    Accepted {
        /// What it speaks.
        kind: SocketKind,
        /// The listener's port.
        port: Option<u16>,
        /// The address of the other end.
        remote: IpAddr,
    },
    /// Neither: bound to an ephemeral port and not connected, a socket of `ping`.
    Other {
        /// What it speaks.
        kind: SocketKind,
    },
}

/// Where a listener can be reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressClass {
    /// At every address of the machine.
    Any,
    /// From the machine itself.
    Loopback,
    /// At one address.
    Specific,
}

impl AddressClass {
    /// Returns the class of a local address.
    pub fn of(local: IpAddr) -> Self {
        match local.to_canonical() {
            addr if addr.is_unspecified() => AddressClass::Any,
            addr if addr.is_loopback() => AddressClass::Loopback,
            _ => AddressClass::Specific,
        }
    }
}

impl Role {
    /// Returns the role of a socket among the listeners of its machine.
    ///
    /// UDP sockets bound to a port of the range `ephemeral` are no listeners.
    pub(super) fn of(socket: &Socket, listeners: &[&Listeners], ephemeral: &RangeInclusive<u16>) -> Role {
        let kind = socket.kind;
        if let Some(Endpoint { addr, port }) = socket.remote.filter(|_| socket.state != SocketState::Listen) {
            let remote = addr.to_canonical();
            return if listeners.iter().any(|listeners| listeners.accept(socket)) {
                Role::Accepted { kind, port: socket.local.port, remote }
            } else {
                Role::Outgoing { kind, remote: Endpoint { addr: remote, port } }
            };
        }
        let port = socket.local.port;
        let takes_what_comes = is_listening(socket)
            && match kind {
                SocketKind::Udp | SocketKind::UdpLite => port.is_none_or(|port| !ephemeral.contains(&port)),
                SocketKind::Ping => false,
                SocketKind::Tcp | SocketKind::Raw(_) | SocketKind::Rdma => true,
            };
        if !takes_what_comes {
            return Role::Other { kind };
        }
        Role::Listener {
            kind,
            ipv6: socket.local.addr.is_ipv6(),
            class: AddressClass::of(socket.local.addr),
            port: port.filter(|_| !matches!(kind, SocketKind::Raw(_))),
        }
    }
}

/// The sockets that can accept connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners {
    bound: HashSet<(SocketKind, IpAddr, Option<u16>, u64)>,
}

impl Listeners {
    /// Collects the listeners among sockets. An ephemeral UDP port counts here: what is connected from it
    /// to several peers answers them.
    pub(super) fn among<'a>(sockets: impl Iterator<Item = &'a Socket>) -> Self {
        let listening = sockets.filter(|socket| is_listening(socket) && !is_portless(socket.kind));
        let bound = listening.map(|socket| {
            let Endpoint { addr, port } = socket.local;
            (socket.kind, if addr.is_unspecified() { addr } else { addr.to_canonical() }, port, socket.netns)
        });
        Listeners { bound: bound.collect() }
    }

    /// Tells whether one of them accepted this connection: its kind, namespace and local port, and an address to
    /// which the connection's local one belongs.
    fn accept(&self, socket: &Socket) -> bool {
        let Endpoint { addr, port } = socket.local;
        let addr = addr.to_canonical();
        let bound_to = |addr: IpAddr| self.bound.contains(&(socket.kind, addr, port, socket.netns));
        bound_to(addr) || bound_to(ANY_V6) || (addr.is_ipv4() && bound_to(ANY_V4))
    }
}

/// Tells whether sockets of this kind accept no connections by their port.
fn is_portless(kind: SocketKind) -> bool {
    matches!(kind, SocketKind::Raw(_) | SocketKind::Ping)
}

const ANY_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
/// It takes IPv4 as well, unless it was told not to, which the kernel does not show.
const ANY_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::super::sample::{listener, socket, tcp, udp};
    use super::*;
    use crate::key::Proto;

    fn role(socket: &Socket, others: &[Socket]) -> Role {
        Role::of(socket, &[&Listeners::among(others.iter())], &(32_768..=60_999))
    }

    fn is_accepted(connection: &str, listener: Socket) -> bool {
        matches!(role(&tcp(connection), &[listener]), Role::Accepted { .. })
    }

    #[test]
    fn accepted_where_the_local_port_has_a_listener() {
        let to_22 = "10.0.0.1:22 10.0.0.9:50000";
        assert!(is_accepted(to_22, listener("0.0.0.0", 22)));
        assert!(is_accepted(to_22, listener("::", 22)));
        assert!(is_accepted(to_22, listener("10.0.0.1", 22)));
        assert!(!is_accepted(to_22, listener("10.0.0.2", 22)));
        assert!(!is_accepted(to_22, listener("127.0.0.1", 22)));
        assert!(!is_accepted(to_22, listener("0.0.0.0", 23)));
        assert!(!is_accepted(to_22, udp("0.0.0.0:22 -")));
        assert!(!is_accepted(to_22, Socket { netns: 7, ..listener("0.0.0.0", 22) }));
        assert!(is_accepted("[::ffff:10.0.0.1]:22 [::ffff:10.0.0.9]:50000", listener("::", 22)));
        assert!(!is_accepted("[2001:db8::1]:22 [2001:db8::2]:50000", listener("0.0.0.0", 22)));
        assert!(is_accepted("[2001:db8::1]:22 [2001:db8::2]:50000", listener("::", 22)));
    }

    #[test]
    fn roles_by_hand() {
        let remote = |text: &str| {
            let addr: std::net::SocketAddr = text.parse().unwrap();
            Endpoint { addr: addr.ip(), port: Some(addr.port()) }
        };
        let (tcp_kind, udp_kind) = (SocketKind::Tcp, SocketKind::Udp);
        assert_eq!(
            role(&tcp("[::ffff:10.0.0.1]:40000 [::ffff:52.94.1.1]:443"), &[]),
            Role::Outgoing { kind: tcp_kind, remote: remote("52.94.1.1:443") }
        );
        let accepted = Role::Accepted { kind: tcp_kind, port: Some(22), remote: "10.0.0.9".parse().unwrap() };
        assert_eq!(role(&tcp("10.0.0.1:22 10.0.0.9:50000"), &[listener("::", 22)]), accepted);
        assert_eq!(role(&tcp("10.0.0.1:22 10.0.0.9:50001"), &[listener("::", 22)]), accepted);
        let listens = |kind, ipv6, class, port| Role::Listener { kind, ipv6, class, port };
        assert_eq!(role(&listener("::", 22), &[]), listens(tcp_kind, true, AddressClass::Any, Some(22)));
        // Only UDP has ephemeral listeners.
        assert_eq!(
            role(&listener("127.0.0.53", 40_000), &[]),
            listens(tcp_kind, false, AddressClass::Loopback, Some(40_000))
        );
        assert_eq!(
            role(&udp("10.0.0.1:53 -"), &[]),
            listens(udp_kind, false, AddressClass::Specific, Some(53))
        );
        for (port, is_listener) in [(32_767, true), (32_768, false), (60_999, false), (61_000, true)] {
            let role = role(&udp(&format!("0.0.0.0:{port} -")), &[]);
            assert_eq!(matches!(role, Role::Listener { .. }), is_listener, "{port}");
        }
        let raw = SocketKind::Raw(Proto::ICMP);
        assert_eq!(role(&socket(raw, "0.0.0.0:1 -"), &[]), listens(raw, false, AddressClass::Any, None));
        let ping = SocketKind::Ping;
        assert_eq!(role(&socket(ping, "0.0.0.0:7 -"), &[]), Role::Other { kind: ping });
        let bound = Socket { state: SocketState::Unconnected, ..listener("0.0.0.0", 80) };
        assert_eq!(role(&bound, &[]), Role::Other { kind: tcp_kind });
    }
}
