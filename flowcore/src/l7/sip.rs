//! SIP, by its first line (RFC 3261, section 7). Either side may send requests; who sends one is its client.

use super::http::split_at_space;
use super::{App, Claim, L7Counts, Look, Protocol};

/// SIP; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Sip;

impl Protocol for Sip {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Sip>> {
        // Most of what is no SIP shows it by its first letter.
        let [b'A'..=b'Z', ..] = look.bytes else { return None };
        let (first, rest) = split_at_space(look.bytes)?;
        if !look.is_tcp() && !look.is_udp() {
            return None;
        }
        if first == b"SIP/2.0" {
            return rest
                .first()?
                .is_ascii_digit()
                .then(|| Claim::settled(App::Sip, Some(look.dir.flip())))?;
        }
        let target = [&b"sip:"[..], b"sips:", b"tel:"].iter().any(|scheme| rest.starts_with(scheme));
        if target && METHODS.contains(&first) { Claim::settled(App::Sip, Some(look.dir)) } else { None }
    }
}

/// IANA "SIP Methods".
const METHODS: [&[u8]; 14] = [
    b"INVITE",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"REGISTER",
    b"OPTIONS",
    b"PRACK",
    b"SUBSCRIBE",
    b"NOTIFY",
    b"PUBLISH",
    b"INFO",
    b"REFER",
    b"MESSAGE",
    b"UPDATE",
];
