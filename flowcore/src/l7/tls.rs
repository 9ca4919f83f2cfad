//! TLS over TCP, by its hello messages (RFC 8446, sections 4.1 and 5.1).

use super::{App, Claim, L7Counts, Look, Protocol};

/// TLS; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Tls;

impl Protocol for Tls {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Tls>> {
        // Handshake record, version 3.x, two bytes of length, then the handshake type.
        let &[0x16, 3, 0..=4, l0, l1, kind, ref rest @ ..] = look.bytes else { return None };
        // Three bytes of length, then version 3.x again, as far as the segment goes.
        let sound = match rest {
            [high, _, _, major, minor, ..] => *high == 0 && *major == 3 && *minor <= 4,
            _ => rest.first().is_none_or(|&high| high == 0),
        };
        if !look.is_tcp() || !sound || !(4..=MAX_RECORD).contains(&u16::from_be_bytes([l0, l1])) {
            return None;
        }
        match kind {
            CLIENT_HELLO => Claim::settled(App::Tls, Some(look.dir)),
            SERVER_HELLO => Claim::settled(App::Tls, Some(look.dir.flip())),
            _ => None,
        }
    }
}

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
const MAX_RECORD: u16 = 1 << 14;
