//! SMTP, by the greeting that its client sends first (RFC 5321, section 4.1.1.1; RFC 2033 for LHLO).

use super::{App, Claim, L7Counts, Look, Protocol};

/// SMTP; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Smtp;

impl Protocol for Smtp {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Smtp>> {
        let word @ [_, _, _, _, b' '] = look.bytes.first_chunk::<5>()? else { return None };
        if !look.is_tcp() {
            return None;
        }
        let greets = GREETINGS.iter().any(|greeting| word.eq_ignore_ascii_case(*greeting));
        if greets && look.bytes.ends_with(b"\r\n") { Claim::settled(App::Smtp, Some(look.dir)) } else { None }
    }
}

const GREETINGS: [&[u8; 5]; 3] = [b"EHLO ", b"HELO ", b"LHLO "];
