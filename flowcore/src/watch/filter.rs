//! Which sockets are looked at.

use std::net::IpAddr;

use crate::host::{Socket, SocketKind, SocketState};
use crate::record::Only;

/// Which sockets pass; the default lets all of them through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketFilter {
    /// Protocols and IP versions.
    pub only: Only,
    /// Listeners only: TCP that listens, others that are not connected.
    pub listening: bool,
    /// No sockets without a remote address.
    pub no_self: bool,
    /// No sockets with a remote address of a private network: RFC 1918, RFC 4193, link-local.
    pub no_private: bool,
}

impl SocketFilter {
    /// Tells whether a socket passes.
    pub fn passes(&self, socket: &Socket) -> bool {
        self.only.passes_socket(socket)
            && (!self.listening || is_listening(socket))
            && (!self.no_self || socket.remote.is_some())
            && (!self.no_private || !socket.remote.is_some_and(|remote| is_private(remote.addr)))
    }
}

/// Tells whether a socket takes what comes from anyone.
pub(super) fn is_listening(socket: &Socket) -> bool {
    match socket.kind {
        SocketKind::Tcp | SocketKind::Rdma => socket.state == SocketState::Listen,
        _ => socket.remote.is_none(),
    }
}

fn is_private(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(addr) => addr.is_private() || addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unique_local() || addr.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{listener, socket, tcp, udp};
    use super::*;

    fn chosen(only: Only) -> SocketFilter {
        SocketFilter { only, ..SocketFilter::default() }
    }

    #[test]
    fn nothing_chosen_lets_all_through() {
        for socket in [listener("::", 22), tcp("10.0.0.1:80 10.0.0.2:1"), udp("127.0.0.1:53 -")] {
            assert!(SocketFilter::default().passes(&socket));
        }
    }

    #[test]
    fn versions_and_kinds() {
        let four = chosen(Only { ipv4: true, ..Only::default() });
        let six = chosen(Only { ipv6: true, ..Only::default() });
        let both = chosen(Only { ipv4: true, ipv6: true, ..Only::default() });
        let (v4, v6) = (listener("0.0.0.0", 22), listener("::ffff:10.0.0.1", 22));
        assert!(four.passes(&v4) && !four.passes(&v6));
        assert!(!six.passes(&v4) && six.passes(&v6));
        assert!(both.passes(&v4) && both.passes(&v6));
        let udp_only = chosen(Only { udp: true, ..Only::default() });
        assert!(udp_only.passes(&udp("0.0.0.0:53 -")) && !udp_only.passes(&v4));
        let two = chosen(Only { udp: true, tcp: true, ..Only::default() });
        assert!(two.passes(&v4) && !two.passes(&socket(SocketKind::Ping, "0.0.0.0:7 -")));
        let raw = chosen(Only { raw: true, ..Only::default() });
        assert!(raw.passes(&socket(SocketKind::Ping, "0.0.0.0:7 -")) && !raw.passes(&v4));
    }

    #[test]
    fn listening_needs_no_remote() {
        let listening = SocketFilter { listening: true, ..SocketFilter::default() };
        assert!(listening.passes(&listener("0.0.0.0", 22)) && listening.passes(&udp("0.0.0.0:53 -")));
        assert!(!listening.passes(&tcp("10.0.0.1:80 10.0.0.2:1")));
        assert!(!listening.passes(&udp("10.0.0.1:80 10.0.0.2:1")));
        let no_self = SocketFilter { no_self: true, ..SocketFilter::default() };
        assert!(!no_self.passes(&listener("0.0.0.0", 22)) && no_self.passes(&tcp("10.0.0.1:80 10.0.0.2:1")));
    }

    #[test]
    fn private_networks_by_the_remote_address() {
        let no_private = SocketFilter { no_private: true, ..SocketFilter::default() };
        for (remote, passes) in [
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.168.1.1", false),
            ("169.254.3.4", false),
            ("127.0.0.1", true),
            ("8.8.8.8", true),
            ("[fd00::1]", false),
            ("[fc00::1]", false),
            ("[fe80::1]", false),
            ("[::ffff:192.168.1.1]", false),
            ("[::ffff:8.8.8.8]", true),
            ("[::1]", true),
            ("[2001:db8::1]", true),
        ] {
            assert_eq!(no_private.passes(&tcp(&format!("10.0.0.1:1 {remote}:443"))), passes, "{remote}");
        }
        assert!(no_private.passes(&listener("192.168.1.1", 22)));
    }
}
