//! The messages of sock_diag (`linux/inet_diag.h`): what is asked, and the socket that is answered.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

use std::net::IpAddr;

use super::listing::{self, Listing};
use super::netlink::{Attributes, u32_at, u64_at};
use crate::host::{Query, Socket};
use crate::key::Proto;

/// A request, without netlink's header.
pub(super) type Request = [u8; REQUEST_LEN];

/// A request of the older kind, without netlink's header.
pub(super) type OldRequest = [u8; OLD_REQUEST_LEN];

/// Asks for the one socket that would get the packets of a connection; `None` where the kernel has no such lookup.
pub(super) fn exact(query: &Query, interface: u32) -> Option<Request> {
    let [local, remote] = listing::ends_of(query)?;
    // UDP alone wants the sender of the packet first.
    let (source, destination) = if query.proto == Proto::TCP { (local, remote) } else { (remote, local) };
    let mut id = [0; ID_LEN];
    for (port_at, addr_at, end) in [(0, 4, source), (2, 20, destination)] {
        write(&mut id, port_at, &end.1.to_be_bytes());
        match end.0 {
            IpAddr::V4(addr) => write(&mut id, addr_at, &addr.octets()),
            IpAddr::V6(addr) => write(&mut id, addr_at, &addr.octets()),
        }
    }
    write(&mut id, 36, &interface.to_ne_bytes());
    write(&mut id, 40, &NO_COOKIE);
    Some(request(local.0.is_ipv6(), query.proto.0, u32::MAX, &id))
}

/// Asks for all sockets of a protocol and an IP version, in the states of a mask; of one local port, unless that is 0.
pub(super) fn dump(is_ipv6: bool, proto: u8, states: u32, port: u16) -> Request {
    let mut id = [0; ID_LEN];
    write(&mut id, 0, &port.to_be_bytes());
    request(is_ipv6, proto, states, &id)
}

/// Asks for all TCP sockets of both IP versions, in the states of a mask; of one local port, unless that is 0.
///
/// This is the older request (`inet_diag_req`, of the type [`TCP`]); the newer one takes one IP version, and the kernel
/// walks its whole table of connections for each.
pub(super) fn dump_tcp(states: u32, port: u16) -> OldRequest {
    let mut bytes = [0; OLD_REQUEST_LEN];
    // Its first word may stay 0: any IP version, any address, no further attributes.
    write(&mut bytes, 4, &port.to_be_bytes());
    write(&mut bytes, 4 + ID_LEN, &states.to_ne_bytes());
    bytes
}

fn request(is_ipv6: bool, proto: u8, states: u32, id: &[u8; ID_LEN]) -> Request {
    let mut bytes = [0; REQUEST_LEN];
    write(&mut bytes, 0, &[if is_ipv6 { AF_INET6 } else { AF_INET }, proto]);
    write(&mut bytes, 4, &states.to_ne_bytes());
    write(&mut bytes, 8, id);
    bytes
}

fn write(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len())) {
        place.copy_from_slice(value);
    }
}

/// Reads a socket; none where the message is cut or speaks of something unknown.
pub(super) fn read(listing: Listing, netns: u64, body: &[u8]) -> Option<Socket> {
    let id = Identity::read(body)?;
    let state = listing::state(*body.get(1)?)?;
    let mut number = id.local.1;
    let mut cgroup = None;
    for (kind, value) in Attributes(body.get(MESSAGE_LEN..)?) {
        match (kind, value) {
            (CGROUP_ID, value) => cgroup = u64_at(value, 0),
            (PROTOCOL, [proto]) if listing == Listing::Raw => number = u16::from(*proto),
            _ => {}
        }
    }
    let (local, remote) = listing.ends(id.local, id.remote);
    Some(Socket {
        kind: listing.kind(number),
        local,
        remote,
        state,
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?.into(),
        cookie: id.cookie,
        netns,
        interface: id.interface,
        cgroup,
    })
}

/// The part of a message that says which socket it is about.
pub(super) struct Identity {
    pub(super) local: (IpAddr, u16),
    pub(super) remote: (IpAddr, u16),
    pub(super) interface: u32,
    pub(super) cookie: u64,
}

impl Identity {
    pub(super) fn read(body: &[u8]) -> Option<Identity> {
        let is_ipv6 = match *body.first()? {
            AF_INET => false,
            AF_INET6 => true,
            _ => return None,
        };
        let id = body.get(4..)?;
        let port = |at: usize| id.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
        let addr = |at: usize| {
            let bytes = id.get(at..)?;
            if is_ipv6 {
                bytes.first_chunk::<16>().copied().map(IpAddr::from)
            } else {
                bytes.first_chunk::<4>().copied().map(IpAddr::from)
            }
        };
        // The cookie is two words, the low one first whatever the machine's order.
        let cookie = u64::from(u32_at(id, 40)?) | u64::from(u32_at(id, 44)?) << 32;
        Some(Identity {
            local: (addr(4)?, port(0)?),
            remote: (addr(20)?, port(2)?),
            interface: u32_at(id, 36)?,
            cookie,
        })
    }
}

/// `SOCK_DIAG_BY_FAMILY`: the type of requests and answers.
pub(super) const BY_FAMILY: u16 = 20;
/// `TCPDIAG_GETSOCK`: the type of the older request, and of answers to it.
pub(super) const TCP: u16 = 18;
/// The length of `inet_diag_msg`; attributes follow it.
pub(super) const MESSAGE_LEN: usize = 72;
/// `INET_DIAG_PROTOCOL`.
pub(super) const PROTOCOL: u16 = 10;
/// `INET_DIAG_INFO`.
pub(super) const INFO: u16 = 2;
const CGROUP_ID: u16 = 21;
const REQUEST_LEN: usize = 56;
const OLD_REQUEST_LEN: usize = 60;
const ID_LEN: usize = 48;
const NO_COOKIE: [u8; 8] = [0xff; 8];
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[cfg(test)]
pub(super) mod tests;
