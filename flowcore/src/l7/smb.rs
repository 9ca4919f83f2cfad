//! SMB behind its four-byte TCP header (MS-SMB2 sections 2.1 and 2.2.1, MS-CIFS section 2.2.3.1).

use super::{App, Claim, L7Counts, Look, Protocol};

/// SMB; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Smb;

impl Protocol for Smb {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Smb>> {
        let &[0, _, _, _, magic, b'S', b'M', b'B', ref header @ ..] = look.bytes else { return None };
        let response = match magic {
            // Structure size 64; the lowest of the flags at byte 16 says "server to client".
            0xFE if header.first_chunk() == Some(&[64, 0]) => header.get(12)? & 1 != 0,
            // After command and status, the highest flag is "reply".
            0xFF => header.get(5)? & 0x80 != 0,
            _ => return None,
        };
        if !look.is_tcp() {
            return None;
        }
        Claim::settled(App::Smb, Some(if response { look.dir.flip() } else { look.dir }))
    }
}
