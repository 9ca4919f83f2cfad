//! The routing tables, asked of the kernel by rtnetlink(7).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::host::route::{Route, RouteKind};

/// Reads the routes of all tables, IPv4 and IPv6, of the calling thread's network namespace.
///
/// # Errors
/// When the kernel cannot be asked, or the tables kept changing while they were read.
pub fn routes() -> io::Result<Vec<Route>> {
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut names = HashMap::new();
    let mut name = |index: u32| {
        let ask = || rustix::net::netdevice::index_to_name(&socket, index).ok();
        names.entry(index).or_insert_with(ask).clone()
    };
    for _ in 0..ATTEMPTS {
        rustix::net::sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = Answer::default();
        let mut buffer = vec![0; 64 << 10];
        while !answer.is_whole {
            let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            answer.read(buffer.get(..length).unwrap_or_default(), &mut name)?;
        }
        if !answer.is_torn {
            return Ok(answer.routes);
        }
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the routing tables keep changing"))
}

/// A netlink header and a `struct rtmsg` that names no family: all routes are asked for.
fn request() -> [u8; 28] {
    const LENGTH: u32 = 28;
    let mut request = [0; LENGTH as usize];
    let header = LENGTH.to_ne_bytes().into_iter().chain(GET_ROUTE.to_ne_bytes()).chain(DUMP.to_ne_bytes());
    for (place, byte) in request.iter_mut().zip(header) {
        *place = byte;
    }
    request
}

/// The answer to a request, as far as it was read.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) routes: Vec<Route>,
    /// Whether its end was read.
    is_whole: bool,
    /// Whether the tables changed meanwhile.
    is_torn: bool,
}

impl Answer {
    /// Reads messages: a netlink header and what follows.
    pub(super) fn read(
        &mut self,
        mut messages: &[u8],
        name: &mut impl FnMut(u32) -> Option<String>,
    ) -> io::Result<()> {
        while let Some(length) = word(messages, 0).map(|length| length as usize) {
            let Some(message) = messages.get(..length).filter(|_| length >= 16) else { break };
            self.is_torn |= half(message, 6).is_some_and(|flags| flags & INTERRUPTED != 0);
            match half(message, 4) {
                Some(NEW_ROUTE) => read_route(message.get(16..).unwrap_or_default(), name, &mut self.routes),
                Some(end @ (DONE | ERROR)) => {
                    let number = word(message, 16).unwrap_or_default().cast_signed();
                    if number < 0 || end == ERROR {
                        return Err(io::Error::from_raw_os_error(number.saturating_neg()));
                    }
                    self.is_whole = true;
                }
                _ => {}
            }
            messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Reads a `struct rtmsg` and its attributes.
fn read_route(message: &[u8], name: &mut impl FnMut(u32) -> Option<String>, routes: &mut Vec<Route>) {
    let Some(&[family, prefix_length, _, _, table, protocol, _, kind, ..]) = message.first_chunk::<12>()
    else {
        return;
    };
    let is_copy = word(message, 8).is_some_and(|flags| flags & CLONED != 0);
    let unspecified: IpAddr = match family {
        INET => Ipv4Addr::UNSPECIFIED.into(),
        INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return,
    };
    if is_copy {
        return;
    }
    let mut route = Route {
        destination: unspecified,
        prefix_length,
        gateway: None,
        interface: None,
        source: None,
        metric: 0,
        table: table.into(),
        kind: route_kind(kind),
        protocol,
    };
    let mut hops: &[u8] = &[];
    for (kind, value) in attributes(message.get(12..).unwrap_or_default()) {
        match kind {
            DESTINATION => route.destination = address(value).unwrap_or(unspecified),
            SOURCE => route.source = address(value),
            PRIORITY => route.metric = word(value, 0).unwrap_or_default(),
            TABLE => route.table = word(value, 0).unwrap_or(route.table),
            MULTIPATH => hops = value,
            _ => next_hop(kind, value, &mut route, name),
        }
    }
    if hops.is_empty() {
        routes.push(route);
        return;
    }
    // struct rtnexthop: length, flags, weight, interface, attributes
    while let Some(length) = half(hops, 0).map(usize::from).filter(|length| *length >= 8) {
        let Some(hop) = hops.get(..length) else { return };
        let mut route = route.clone();
        route.interface = word(hop, 4).and_then(&mut *name);
        for (kind, value) in attributes(hop.get(8..).unwrap_or_default()) {
            next_hop(kind, value, &mut route, name);
        }
        routes.push(route);
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn next_hop(kind: u16, value: &[u8], route: &mut Route, name: &mut impl FnMut(u32) -> Option<String>) {
    match kind {
        INTERFACE => route.interface = word(value, 0).and_then(name),
        GATEWAY => route.gateway = address(value),
        // A gateway of the other family, which stands before its address.
        VIA => route.gateway = value.get(2..).and_then(address),
        _ => {}
    }
}

/// Splits attributes: length with header, type, value, padding to four bytes.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

fn route_kind(kind: u8) -> RouteKind {
    match kind {
        1 => RouteKind::Unicast,
        2 => RouteKind::Local,
        3 => RouteKind::Broadcast,
        4 => RouteKind::Anycast,
        5 => RouteKind::Multicast,
        6 => RouteKind::Blackhole,
        7 => RouteKind::Unreachable,
        8 => RouteKind::Prohibit,
        9 => RouteKind::Throw,
        _ => RouteKind::Other,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|half| u16::from_ne_bytes(*half))
}

/// How often the tables are read again when they changed meanwhile.
const ATTEMPTS: usize = 5;
// linux/netlink.h, linux/rtnetlink.h, linux/socket.h
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// NLM_F_REQUEST and NLM_F_DUMP.
const DUMP: u16 = 0x301;
/// NLM_F_DUMP_INTR
const INTERRUPTED: u16 = 0x10;
/// RTM_F_CLONED
const CLONED: u32 = 0x200;
/// NLA_F_NESTED and NLA_F_NET_BYTEORDER
const NESTED: u16 = 0xC000;
const INET: u8 = 2;
const INET6: u8 = 10;
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const SOURCE: u16 = 7;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;
const VIA: u16 = 18;

#[cfg(test)]
mod tests;
