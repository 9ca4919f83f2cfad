//! DHCP for IPv4, by BOOTP's fields and the magic cookie of its options (RFC 2131, section 3).

use super::{App, Claim, L7Counts, Look, Protocol};

/// DHCP; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Dhcp;

impl Protocol for Dhcp {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Dhcp>> {
        let &[op @ 1..=2, _, ..] = look.bytes else { return None };
        if !look.is_udp() || look.bytes.get(COOKIE_AT..)?.first_chunk() != Some(&COOKIE) {
            return None;
        }
        let client = match op {
            1 => Some(look.dir),
            _ if look.is_to_group() => None,
            _ => Some(look.dir.flip()),
        };
        Claim::settled(App::Dhcp, client)
    }
}

const COOKIE_AT: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
