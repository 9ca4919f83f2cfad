//! QUIC, by its long headers (RFC 8999, RFC 9000 section 17.2, RFC 9369).
//!
//! Which side is the client is said where the packet leaves no doubt: a token, 0-RTT and Retry are each
//! sent by one side only, and a client's first connection id has at least 8 bytes. An Initial without a
//! token looks alike from both sides otherwise. It is taken for the client's if its datagram has the
//! 1200 bytes that a client's must have, and no Handshake packet follows in it, as in a server's answer.

use super::{App, Claim, L7Counts, Look, Protocol};
use crate::key::Dir;

/// QUIC; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Quic;

impl Protocol for Quic {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Quic>> {
        if !look.is_udp() {
            return None;
        }
        let header = Header::read(look.bytes)?;
        let client = match header.kind()? {
            Kind::VersionNegotiation => Some(look.dir.flip()),
            Kind::Retry => Some(look.dir.flip()),
            Kind::ZeroRtt => Some(look.dir),
            Kind::Initial => initial_client(&header, look)?,
            Kind::Handshake => return None,
        };
        Claim::settled(App::Quic, client)
    }
}

/// Tells whose Initial it is, where that can be told; the outer `None` says that it is no Initial.
fn initial_client(header: &Header<'_>, look: &Look<'_>) -> Option<Option<Dir>> {
    let (token, rest) = varint(header.rest)?;
    let token = usize::try_from(token).ok()?;
    let (length, rest) = varint(rest.get(token..)?)?;
    // The packet number and the sample for its protection take 20 bytes.
    let length = usize::try_from(length).ok().filter(|&length| length >= 20)?;
    if look.complete && length > rest.len() {
        return None;
    }
    let behind = rest.get(length..).and_then(Header::read).and_then(|next| next.kind());
    let from_client = if token > 0 || matches!(behind, Some(Kind::ZeroRtt)) {
        true
    } else if header.destination < MIN_FIRST_ID {
        false
    } else if look.packet.payload_len >= MIN_DATAGRAM && behind.is_none() {
        true
    } else {
        return Some(None);
    };
    Some(Some(if from_client { look.dir } else { look.dir.flip() }))
}

/// A long header.
struct Header<'a> {
    first: u8,
    version: u32,
    /// Bytes of the destination connection id.
    destination: usize,
    /// What follows the connection ids.
    rest: &'a [u8],
}

enum Kind {
    VersionNegotiation,
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Header<'a>> {
        let &[first @ 0x80..=0xFF, v0, v1, v2, v3, destination, ref rest @ ..] = bytes else { return None };
        let destination = usize::from(destination);
        let (&source, rest) = rest.get(destination..)?.split_first()?;
        let rest = rest.get(usize::from(source)..)?;
        if destination.max(usize::from(source)) > MAX_ID {
            return None;
        }
        Some(Header { first, version: u32::from_be_bytes([v0, v1, v2, v3]), destination, rest })
    }

    /// Returns the type of the packet, if the version is known.
    fn kind(&self) -> Option<Kind> {
        let bits = self.first >> 4 & 3;
        let fixed = self.first & 0x40 != 0;
        match (self.version, bits) {
            (0, _) => self.is_negotiation().then_some(Kind::VersionNegotiation),
            _ if !fixed => None,
            (V1 | DRAFT_FIRST..=DRAFT_LAST, 0) | (V2, 1) => Some(Kind::Initial),
            (V1 | DRAFT_FIRST..=DRAFT_LAST, 1) | (V2, 2) => Some(Kind::ZeroRtt),
            (V1 | DRAFT_FIRST..=DRAFT_LAST, 2) | (V2, 3) => Some(Kind::Handshake),
            (V1 | DRAFT_FIRST..=DRAFT_LAST, 3) | (V2, 0) => Some(Kind::Retry),
            _ => None,
        }
    }

    /// Tells whether what follows is a list of versions with a known one in it.
    fn is_negotiation(&self) -> bool {
        let (versions, rest) = self.rest.as_chunks::<4>();
        let known = |&version| matches!(u32::from_be_bytes(version), V1 | V2 | DRAFT_FIRST..=DRAFT_LAST);
        rest.is_empty() && versions.iter().take(MAX_VERSIONS).any(known)
    }
}

/// Reads a variable-length integer (RFC 9000, section 16); returns it and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (more, rest) = rest.split_at_checked((1 << (first >> 6)) - 1)?;
    let value = more.iter().fold(u64::from(first & 0x3F), |value, &byte| value << 8 | u64::from(byte));
    Some((value, rest))
}

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;
/// Drafts 22 to 34, whose headers are those of version 1.
const DRAFT_FIRST: u32 = 0xff00_0016;
const DRAFT_LAST: u32 = 0xff00_0022;
const MAX_ID: usize = 20;
const MIN_FIRST_ID: usize = 8;
const MIN_DATAGRAM: u64 = 1200;
const MAX_VERSIONS: usize = 16;
