//! Addresses and ports: the many ends of a shape, no two flows with the same ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rng::{mix, scatter};
use crate::wire::Ends;

/// The many-sided end of a flow: the index of a flow, one to one as a host of 131,072 and a port of 32,768.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    host: u32,
    pub(super) port: u16,
}

impl Place {
    pub(super) const fn new(index: u32) -> Place {
        let bits = scatter(index);
        Place { host: bits >> 15, port: FIRST_PORT + (bits & 0x7FFF) as u16 }
    }

    /// A client: 10.0.0.0/15, or an interface of its own under 2001:db8:a::/48.
    pub(super) fn client(self, ipv6: bool) -> IpAddr {
        if ipv6 { wide(0xA, self.host) } else { IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 | self.host)) }
    }

    /// A server out of many: 198.18.0.0/15, or an interface of its own under 2001:db8:beef::/48.
    pub(super) fn server(self, ipv6: bool) -> IpAddr {
        if ipv6 { wide(0xBEEF, self.host) } else { IpAddr::V4(Ipv4Addr::from_bits(0xC612_0000 | self.host)) }
    }

    /// A server that the port stands for, where a flow has no ports.
    pub(super) fn server_of_port(self, ipv6: bool) -> IpAddr {
        Place { host: u32::from(self.port), port: 0 }.server(ipv6)
    }
}

/// Returns an address of a small net of well-known machines: 192.0.2.0/24 or 2001:db8:53::/64.
pub(super) fn known(number: u8, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0x53, 0, 0, 0, 0, u16::from(number)))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
    }
}

/// Joins two ends without a VLAN tag.
pub(super) const fn ends(src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> Ends {
    Ends { src, dst, sport, dport, vlan: None }
}

fn wide(net: u16, host: u32) -> IpAddr {
    let prefix = 0x2001_0DB8_0000_0000_u64 | u64::from(net) << 16;
    IpAddr::V6(Ipv6Addr::from_bits(
        u128::from(prefix) << 64 | u128::from(mix(u64::from(host) << 16 | 0xABBA)),
    ))
}

/// Above the ports of services that stand on the other end.
const FIRST_PORT: u16 = 20_000;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_flows_have_the_same_place() {
        for ipv6 in [false, true] {
            let places: HashSet<(IpAddr, u16)> =
                (0..200_000).map(Place::new).map(|place| (place.client(ipv6), place.port)).collect();
            assert_eq!(places.len(), 200_000);
        }
    }
}
