//! SSDP, the discovery of UPnP: HTTP lines in UDP (UPnP Device Architecture 2.0, section 1).

use super::http::is_response;
use super::{App, Claim, L7Counts, Look, Protocol};

/// SSDP; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Ssdp;

impl Protocol for Ssdp {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Ssdp>> {
        if !look.is_udp() {
            return None;
        }
        if look.bytes.starts_with(b"M-SEARCH * HTTP/1.1\r\n") {
            return Claim::settled(App::Ssdp, Some(look.dir));
        }
        // An announcement has no client.
        if look.bytes.starts_with(b"NOTIFY * HTTP/1.1\r\n") {
            return Claim::settled(App::Ssdp, None);
        }
        if is_response(look.bytes) && !look.is_to_group() {
            return Claim::settled(App::Ssdp, Some(look.dir.flip()));
        }
        None
    }
}
