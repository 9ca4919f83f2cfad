//! Where packets go: the entries of the routing tables.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An entry of a routing table (record.md, "route"). A route over several next hops is one entry for each.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Route {
    /// The first address that it is for.
    pub destination: IpAddr,
    /// How many leading bits of the destination count: 0 for the default route.
    pub prefix_length: u8,
    /// The router; absent where the destination is on the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The interface; absent where packets are refused or dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The address that packets are sent from, where the route says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Of several routes to one destination, that with the lowest metric is taken.
    pub metric: u32,
    /// The number of its table: 254 is the main one, which `netstat -r` shows; 255 holds the machine's own addresses.
    pub table: u32,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// Who made it, as rtnetlink(7) numbers them: 2 the kernel, 3 at boot, 4 the administrator, 9 a router's
    /// advertisement, 16 DHCP.
    pub protocol: u8,
}

/// What becomes of packets that take a route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// They are sent to the gateway or to the destination.
    Unicast,
    /// They are for this machine.
    Local,
    /// They are for all on the link.
    Broadcast,
    /// They are for this machine and for others with the same address.
    Anycast,
    /// They are for a group.
    Multicast,
    /// They are dropped without a word.
    Blackhole,
    /// They are answered as unreachable.
    Unreachable,
    /// They are answered as prohibited.
    Prohibit,
    /// The next table is asked.
    Throw,
    /// Something else.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json() {
        let route = Route {
            destination: "192.0.2.0".parse().unwrap(),
            prefix_length: 24,
            gateway: None,
            interface: Some("eth0".to_owned()),
            source: Some("192.0.2.2".parse().unwrap()),
            metric: 0,
            table: 254,
            kind: RouteKind::Unicast,
            protocol: 2,
        };
        let json = r#"{"destination":"192.0.2.0","prefix_length":24,"interface":"eth0","source":"192.0.2.2","metric":0,"table":254,"kind":"unicast","protocol":2}"#;
        assert_eq!(serde_json::to_string(&route).unwrap(), json);
    }
}
