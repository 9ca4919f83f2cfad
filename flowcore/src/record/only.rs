//! A choice of protocols and IP versions, for flows, sockets and events alike.

use std::net::IpAddr;
use std::str::FromStr;

use super::{FlowRecord, NetworkEvent};
use crate::error::{Error, nearest};
use crate::host::{Socket, SocketKind};
use crate::key::Proto;
use crate::l7::App;

/// A choice of protocols and IP versions; the default is all.
///
/// Of the protocols, and of the IP versions, none chosen means all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Only {
    /// TCP.
    pub tcp: bool,
    /// UDP and UDP-Lite; flows of RoCEv2 are UDP as well.
    pub udp: bool,
    /// Raw and ICMP sockets; flows of every protocol but TCP and UDP.
    pub raw: bool,
    /// RDMA queue pairs; flows of RoCEv2.
    pub rdma: bool,
    /// IPv4.
    pub ipv4: bool,
    /// IPv6; a socket that speaks IPv4 by mapped addresses is one of IPv6.
    pub ipv6: bool,
}

impl Only {
    /// The words that choose.
    pub const NAMES: &[&str] = &["tcp", "udp", "raw", "rdma", "ipv4", "ipv6"];

    /// Tells whether a flow is of what was chosen.
    pub fn passes_flow(&self, flow: &FlowRecord) -> bool {
        let kind = match flow.key.proto() {
            Proto::TCP => self.tcp,
            Proto::UDP | Proto::UDP_LITE => self.udp,
            _ => self.raw,
        };
        let is_rdma = flow.app == Some(App::Roce);
        self.passes(kind || self.rdma && is_rdma, flow.key.ip_version() == 6)
    }

    /// Tells whether a socket is of what was chosen.
    pub fn passes_socket(&self, socket: &Socket) -> bool {
        let kind = match socket.kind {
            SocketKind::Tcp => self.tcp,
            SocketKind::Udp | SocketKind::UdpLite => self.udp,
            SocketKind::Raw(_) | SocketKind::Ping => self.raw,
            SocketKind::Rdma => self.rdma,
        };
        self.passes(kind, socket.local.addr.is_ipv6())
    }

    /// Tells whether an event of a TCP connection is of what was chosen.
    pub fn passes_event(&self, event: &NetworkEvent) -> bool {
        self.passes(self.tcp, matches!(event.local.addr, IpAddr::V6(_)))
    }

    fn passes(&self, kind: bool, is_ipv6: bool) -> bool {
        let any_version = self.ipv4 == self.ipv6;
        let any_kind = !(self.tcp || self.udp || self.raw || self.rdma);
        (any_version || self.ipv6 == is_ipv6) && (any_kind || kind)
    }
}

impl FromStr for Only {
    type Err = Error;

    /// Reads words separated by commas.
    ///
    /// # Errors
    /// [`Error::Option`] for a word that is none of [`Only::NAMES`].
    fn from_str(list: &str) -> Result<Self, Error> {
        let mut only = Only::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let chosen = match word {
                "tcp" => &mut only.tcp,
                "udp" => &mut only.udp,
                "raw" => &mut only.raw,
                "rdma" => &mut only.rdma,
                "ipv4" => &mut only.ipv4,
                "ipv6" => &mut only.ipv6,
                _ => {
                    let nearest = nearest(word, Only::NAMES.iter().copied());
                    let names = Only::NAMES.join(", ");
                    return Err(Error::Option(format!(
                        "'{word}' is none of {names}; the nearest is '{nearest}'"
                    )));
                }
            };
            *chosen = true;
        }
        Ok(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let only: Only = "tcp, ipv6".parse().unwrap();
        assert_eq!(only, Only { tcp: true, ipv6: true, ..Only::default() });
        assert_eq!("".parse::<Only>().unwrap(), Only::default());
        for name in Only::NAMES {
            assert_ne!(name.parse::<Only>().unwrap(), Only::default(), "{name}");
        }
        let wrong = "tcp,ip6".parse::<Only>().unwrap_err().to_string();
        assert!(wrong.starts_with("'ip6' is none of tcp, udp") && wrong.ends_with("'ipv6'"), "{wrong}");
    }

    #[test]
    fn kinds_and_versions() {
        let only = |list: &str| list.parse::<Only>().unwrap();
        for (list, is_tcp, is_ipv6, passes) in [
            ("", true, true, true),
            ("tcp", true, false, true),
            ("udp", true, false, false),
            ("tcp,udp,ipv6", true, false, false),
            ("tcp,udp,ipv6", true, true, true),
            ("ipv4", true, true, false),
            ("ipv4,ipv6", true, true, true),
        ] {
            let only = only(list);
            assert_eq!(only.passes(is_tcp && only.tcp, is_ipv6), passes, "{list}");
        }
    }
}
