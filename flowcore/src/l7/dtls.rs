//! DTLS over UDP, by its hello messages (RFC 6347, RFC 9147).

use super::tls::{CLIENT_HELLO, SERVER_HELLO};
use super::{App, Claim, L7Counts, Look, Protocol};

/// DTLS; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Dtls;

impl Protocol for Dtls {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Dtls>> {
        // Handshake record, version 1.0 or 1.2, epoch 0, six bytes of number, two of length, the type.
        let &[0x16, 0xFE, 0xFF | 0xFD, 0, 0, _, _, _, _, _, _, l0, l1, kind, ref rest @ ..] = look.bytes
        else {
            return None;
        };
        let record = usize::from(u16::from_be_bytes([l0, l1]));
        if !look.is_udp() || record < HANDSHAKE_HEADER || (look.complete && record > 1 + rest.len()) {
            return None;
        }
        match kind {
            CLIENT_HELLO => Claim::settled(App::Dtls, Some(look.dir)),
            SERVER_HELLO | HELLO_VERIFY_REQUEST => Claim::settled(App::Dtls, Some(look.dir.flip())),
            _ => None,
        }
    }
}

const HELLO_VERIFY_REQUEST: u8 = 3;
const HANDSHAKE_HEADER: usize = 12;
