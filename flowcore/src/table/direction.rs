//! Who is the initiator: what a packet and a key say about it (definitions.md, "Direction").

use std::net::IpAddr;

use crate::key::{End, FlowKey};
use crate::packet::Facts;
use crate::record::Orientation;

/// Who the initiator is, and the rule that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Evidence {
    pub(super) rule: Orientation,
    pub(super) src: End,
}

/// Rules 1 and 2: what the packet's TCP flags say.
#[inline]
pub(super) fn handshake(packet: &Facts) -> Option<Evidence> {
    let flags = packet.tcp?.flags;
    if flags.is_syn() {
        Some(Evidence { rule: Orientation::Syn, src: packet.sender })
    } else if flags.is_syn_ack() {
        Some(Evidence { rule: Orientation::SynAck, src: packet.sender.other() })
    } else {
        None
    }
}

/// The best of all rules that hold for a flow's first packet, its payload left aside.
pub(super) fn first_packet(packet: &Facts) -> Evidence {
    handshake(packet)
        .filter(|_| !packet.bad_checksum)
        .or_else(|| ports(&packet.key))
        .or_else(|| multicast(&packet.key))
        .unwrap_or(Evidence { rule: Orientation::First, src: packet.sender })
}

/// Rule 5: only the other end's port is a service's.
fn ports(key: &FlowKey) -> Option<Evidence> {
    let serves = |end| is_service(key.port_or_zero(end));
    the_other_end(serves, Orientation::Port).filter(|_| key.has_ports())
}

/// Rule 6: the other end is a multicast or broadcast address.
fn multicast(key: &FlowKey) -> Option<Evidence> {
    let is_group = |end| match key.endpoint(end).addr {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_multicast(),
    };
    the_other_end(is_group, Orientation::Multicast)
}

/// The initiator is the end that does not answer to a description, where the other one does.
fn the_other_end(answers: impl Fn(End) -> bool, rule: Orientation) -> Option<Evidence> {
    match (answers(End::Low), answers(End::High)) {
        (true, false) => Some(Evidence { rule, src: End::High }),
        (false, true) => Some(Evidence { rule, src: End::Low }),
        _ => None,
    }
}

fn is_service(port: u16) -> bool {
    (1..=1023).contains(&port) || SERVICES.binary_search(&port).is_ok()
}

/// Service ports above the well-known ones.
const SERVICES: [u16; 23] = [
    1433, 1521, 1883, 1935, 2049, 3128, 3260, 3306, 3389, 5060, 5222, 5432, 5672, 5900, 6379, 8000, 8080,
    8443, 8883, 9092, 9200, 11211, 27017,
];
