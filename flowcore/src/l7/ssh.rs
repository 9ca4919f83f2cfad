//! SSH, by its banner (RFC 4253, section 4.2), and the client by the first packets of key exchange.
//!
//! Both sides send the same banners and the same KEXINIT, in any order. What only a client sends is
//! KEXDH_INIT or KEX_ECDH_INIT (30), and KEX_DH_GEX_INIT (32) and _REQUEST (34) of RFC 4419; what only a
//! server sends is the answer to them (31, 33). RSA key exchange (RFC 4432), where 30 is the server's,
//! is told apart by its packets: nobody offers it any more, and it is not looked for.

use super::{App, Claim, L7Counts, Look, Protocol, Sight};
use crate::key::Dir;

/// SSH whose client is not known yet.
#[derive(Debug)]
pub(super) struct Ssh {
    /// Messages that may still be looked at.
    left: u8,
}

impl Protocol for Ssh {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Ssh>> {
        let banner = look.bytes.strip_prefix(b"SSH-").filter(|_| look.is_tcp())?;
        if !banner.starts_with(b"2.0-") && !banner.starts_with(b"1.") {
            return None;
        }
        let software = banner.get(4..)?;
        if CLIENTS.iter().any(|client| software.starts_with(client)) {
            return Claim::settled(App::Ssh, Some(look.dir));
        }
        let behind = banner.iter().position(|&byte| byte == b'\n').and_then(|end| banner.get(end + 1..));
        match client_of(behind.unwrap_or_default(), look.dir) {
            Some(client) => Claim::settled(App::Ssh, Some(client)),
            None => Some(Claim { sight: Sight::of(App::Ssh, None), state: Some(Ssh { left: MAX_LOOKS }) }),
        }
    }

    fn read(&mut self, look: &Look<'_>, _counts: &mut L7Counts) -> Sight {
        self.left = self.left.saturating_sub(1);
        let client = client_of(look.bytes, look.dir);
        Sight { app: None, client, finished: client.is_some() || self.left == 0 }
    }
}

/// Looks through the unencrypted packets of a segment that begins at the boundary of one.
fn client_of(mut bytes: &[u8], dir: Dir) -> Option<Dir> {
    while let Some((&[l0, l1, l2, l3, padding, kind], _)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        // Without encryption a packet is a multiple of 8 bytes, and 4 or more of them are padding.
        if !(12..=MAX_PACKET).contains(&length) || !(length + 4).is_multiple_of(8) || padding < 4 {
            return None;
        }
        match kind {
            30 | 32 | 34 => return Some(dir),
            31 | 33 => return Some(dir.flip()),
            _ => bytes = bytes.get(4 + length..)?,
        }
    }
    None
}

/// Software that is only ever a client.
const CLIENTS: [&[u8]; 4] = [b"PuTTY", b"WinSCP", b"FileZilla", b"JSCH"];
const MAX_LOOKS: u8 = 16;
/// RFC 4253, section 6.1.
const MAX_PACKET: usize = 35_000;
