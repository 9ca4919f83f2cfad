//! RoCEv2, RDMA in UDP: the base transport header behind port 4791 (InfiniBand Architecture Specification, annex A17).

use super::{App, Claim, L7Counts, Look, Protocol};

/// RoCEv2; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Roce;

impl Protocol for Roce {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Roce>> {
        // Both sides send to the same port, each from one of its own: the one who sends is the client of its flow.
        let to = look.packet.key.port_or_zero(look.packet.sender.other());
        if !look.is_udp() || to != PORT || look.bytes.len() < SHORTEST {
            return None;
        }
        let &[opcode, flags, ..] = look.bytes else { return None };
        let is_transport = matches!(opcode >> 5, RC..=UD | XRC) || opcode == CONGESTION_NOTIFICATION;
        let version = flags & 0x0F;
        if is_transport && version == 0 { Claim::settled(App::Roce, Some(look.dir)) } else { None }
    }
}

/// Assigned by IANA.
const PORT: u16 = 4791;
/// The base transport header and the checksum.
const SHORTEST: usize = 12 + 4;
/// The upper three bits of the opcode: reliable connection, unreliable connection, reliable and unreliable datagram.
const RC: u8 = 0;
const UD: u8 = 3;
/// Extended reliable connection.
const XRC: u8 = 5;
const CONGESTION_NOTIFICATION: u8 = 0x81;
