use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::host::linux::netlink::{Messages, write_attribute};
use crate::host::{SocketKind, SocketState};
use crate::key::Endpoint;

/// A message as the kernel makes it, with the state, ends, cookie, user and inode given.
pub(crate) struct Told {
    pub state: u8,
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
    pub attributes: Vec<(u16, Vec<u8>)>,
}

impl Told {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![if self.local.0.is_ipv6() { AF_INET6 } else { AF_INET }, self.state, 0, 0];
        bytes.extend(self.local.1.to_be_bytes());
        bytes.extend(self.remote.1.to_be_bytes());
        for (addr, _) in [self.local, self.remote] {
            match addr {
                IpAddr::V4(addr) => bytes.extend([&addr.octets()[..], &[0; 12]].concat()),
                IpAddr::V6(addr) => bytes.extend(addr.octets()),
            }
        }
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0x5001_u32.to_ne_bytes(), 2_u32.to_ne_bytes()].concat());
        for number in [0_u32, 0, 0, 1000, 424_242] {
            bytes.extend(number.to_ne_bytes());
        }
        for (kind, value) in &self.attributes {
            write_attribute(&mut bytes, *kind, value);
        }
        bytes
    }
}

const HERE: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40000);
const THERE: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 443);
const NOBODY: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn end((addr, port): (IpAddr, u16)) -> Endpoint {
    Endpoint { addr, port: Some(port) }
}

#[test]
fn a_connection() {
    let attributes =
        vec![(8, vec![0]), (CGROUP_ID, 0x1_0000_0002_u64.to_ne_bytes().to_vec()), (22, vec![0; 2])];
    let bytes = Told { state: 1, local: HERE, remote: THERE, attributes }.bytes();
    let socket = read(Listing::Tcp, 99, &bytes).unwrap();
    assert_eq!(
        socket,
        Socket {
            kind: SocketKind::Tcp,
            local: end(HERE),
            remote: Some(end(THERE)),
            state: SocketState::Established,
            uid: 1000,
            inode: 424_242,
            cookie: 0x2_0000_5001,
            netns: 99,
            interface: 7,
            cgroup: Some(0x1_0000_0002),
        }
    );
}

#[test]
fn sockets_that_are_not_connected() {
    let any = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080);
    let bytes = Told { state: 10, local: any, remote: (any.0, 0), attributes: Vec::new() }.bytes();
    let socket = read(Listing::Tcp, 0, &bytes).unwrap();
    assert_eq!((socket.local, socket.remote), (end(any), None));
    assert_eq!((socket.state, socket.cgroup), (SocketState::Listen, None));

    let bytes = Told { state: 7, local: HERE, remote: NOBODY, attributes: Vec::new() }.bytes();
    let socket = read(Listing::Udp, 0, &bytes).unwrap();
    assert_eq!((socket.kind, socket.state), (SocketKind::Udp, SocketState::Unconnected));
}

#[test]
fn a_raw_socket_has_a_protocol_and_no_ports() {
    let local = (HERE.0, 1);
    for attributes in [vec![], vec![(PROTOCOL, vec![1])]] {
        let bytes = Told { state: 7, local, remote: NOBODY, attributes }.bytes();
        let socket = read(Listing::Raw, 0, &bytes).unwrap();
        assert_eq!(socket.kind, SocketKind::Raw(Proto::ICMP));
        assert_eq!((socket.local.port, socket.remote), (None, None));
    }
}

#[test]
fn a_mapped_address_stands_as_it_was_told() {
    let local = (IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), 80);
    let bytes = Told { state: 1, local, remote: local, attributes: Vec::new() }.bytes();
    assert_eq!(read(Listing::Tcp, 0, &bytes).unwrap().local, end(local));
}

#[test]
fn what_is_cut_or_unknown_is_no_socket() {
    let attributes = vec![(CGROUP_ID, vec![0; 8])];
    let bytes = Told { state: 1, local: HERE, remote: THERE, attributes }.bytes();
    for length in 0..MESSAGE_LEN {
        assert_eq!(read(Listing::Tcp, 0, &bytes[..length]), None, "{length}");
    }
    for length in MESSAGE_LEN..bytes.len() {
        assert_eq!(read(Listing::Tcp, 0, &bytes[..length]).unwrap().cgroup, None, "{length}");
    }
    for (at, value) in [(0, 1), (1, 0), (1, 13), (1, 255)] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        assert_eq!(read(Listing::Tcp, 0, &bytes), None, "{at} {value}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0xff;
        let _ = read(Listing::Raw, 0, &bytes);
    }
}

#[test]
fn a_lookup_asks_for_udp_with_the_sender_first() {
    let query = |proto| Query { proto, local: end(HERE), remote: end(THERE), interface: 3 };
    let tcp = exact(&query(Proto::TCP), 3).unwrap();
    assert_eq!(tcp[..2], [AF_INET, 6]);
    assert_eq!(tcp[8..12], [0x9c, 0x40, 0x01, 0xbb]);
    assert_eq!(tcp[12..28], [192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(tcp[28..32], [198, 51, 100, 7]);
    assert_eq!(tcp[44..48], 3_u32.to_ne_bytes());
    assert_eq!(tcp[48..], [0xff; 8]);
    let udp = exact(&query(Proto::UDP), 0).unwrap();
    assert_eq!(udp[..2], [AF_INET, 17]);
    assert_eq!(udp[8..12], [0x01, 0xbb, 0x9c, 0x40]);
    assert_eq!((&udp[12..16], &udp[28..32]), (&[198, 51, 100, 7][..], &[192, 0, 2, 1][..]));
}

#[test]
fn the_older_request_asks_for_one_port_of_both_ip_versions() {
    let request = dump_tcp(0x0400, 0x1f90);
    assert_eq!((request[..4].to_vec(), request[4..8].to_vec()), (vec![0; 4], vec![0x1f, 0x90, 0, 0]));
    assert_eq!(request[8..52], [0; 44]);
    assert_eq!(request[52..56], 0x0400_u32.to_ne_bytes());
    assert_eq!(request[56..], [0; 4]);
}

#[test]
fn a_lookup_takes_mapped_addresses_as_ipv4_and_wants_ports() {
    let mapped = |(addr, port): (IpAddr, u16)| match addr {
        IpAddr::V4(addr) => end((addr.to_ipv6_mapped().into(), port)),
        IpAddr::V6(_) => end((addr, port)),
    };
    let query = Query { proto: Proto::TCP, local: mapped(HERE), remote: mapped(THERE), interface: 0 };
    let plain = Query { local: end(HERE), remote: end(THERE), ..query };
    assert_eq!(exact(&query, 0), exact(&plain, 0));
    let six = end((IpAddr::V6(Ipv6Addr::LOCALHOST), 1));
    assert_eq!(exact(&Query { local: six, ..query }, 0), None);
    assert_eq!(exact(&Query { local: six, remote: six, ..query }, 0).unwrap()[0], AF_INET6);
    assert_eq!(exact(&Query { local: Endpoint { port: None, ..six }, remote: six, ..query }, 0), None);
}

proptest! {
    #[test]
    fn whatever_the_bytes_are(bytes in vec(any::<u8>(), 0..400), ipv6 in any::<bool>()) {
        let mut body = bytes.clone();
        if let Some(family) = body.first_mut() {
            *family = if ipv6 { AF_INET6 } else { AF_INET };
        }
        prop_assert!(Messages(&bytes).count() <= bytes.len() / 16);
        for listing in Listing::ALL {
            prop_assert!(read(listing, 0, &bytes).is_none() || bytes.len() >= MESSAGE_LEN);
            prop_assert!(read(listing, 0, &body).is_none() || body.len() >= MESSAGE_LEN);
        }
    }
}
