//! IPv4, IPv6 and the extension headers behind them.

use etherparse::err::{ipv4, ipv6};
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::shim::front;
use super::transport::{self, Transport};
use super::walk::{Halt, Next, Piece, Step};
use crate::error::{DropReason, StopReason};
use crate::key::AddrWords;

/// Goes by the version in the first byte.
pub(super) fn either(bytes: &[u8]) -> Step<'_> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => Ok(Next::Ipv4(bytes)),
        Some(6) => Ok(Next::Ipv6(bytes)),
        Some(_) => Err(Halt::Unreadable(DropReason::IpVersion)),
        None => Err(Halt::Unreadable(DropReason::IpHeaderCut)),
    }
}

/// An IP header, and what comes behind it.
#[derive(Clone, Copy, Default)]
pub(super) struct Ip<'a> {
    pub(super) version: u8,
    pub(super) src: AddrWords,
    pub(super) dst: AddrWords,
    /// The protocol of the first byte of `body`.
    pub(super) proto: u8,
    pub(super) ttl: u8,
    pub(super) dscp: u8,
    /// Length by the header.
    pub(super) ip_len: u64,
    /// The IPv4 header with its options; empty for IPv6.
    pub(super) header: &'a [u8],
    /// The captured bytes behind the header, and behind extension headers once they are skipped;
    /// and how many were announced.
    pub(super) body: &'a [u8],
    pub(super) body_len: u64,
    /// The packet is, or may be, on its way to an address that is not in the header.
    pub(super) routed: bool,
    /// Set if it is a fragment.
    pub(super) piece: Option<Piece<'a>>,
}

/// Reads an IPv4 header (RFC 791); the frame goes on for `missing` bytes that were not captured.
#[inline(always)]
pub(super) fn ipv4(bytes: &[u8], missing: u64) -> Result<Ip<'_>, DropReason> {
    let header = match Ipv4HeaderSlice::from_slice(bytes) {
        Ok(header) => header,
        Err(error) => return Err(ipv4_fault(&error)),
    };
    let header_len = header.slice().len();
    let ip_len = match header.total_len() {
        0 => (bytes.len() as u64).saturating_add(missing), // segmentation offload
        total => u64::from(total),
    };
    let Some(body_len) = ip_len.checked_sub(header_len as u64) else {
        return Err(DropReason::IpHeaderLength);
    };
    let body = cut(bytes.get(header_len..).unwrap_or_default(), body_len);
    let proto = header.protocol().0;
    let (offset, more) = (header.fragments_offset().value(), header.more_fragments());
    let piece = (more || offset != 0).then(|| {
        let (id, offset) = (u32::from(header.identification()), u32::from(offset) * 8);
        Piece { id, offset, more, proto, bytes: body, len: body_len }
    });
    Ok(Ip {
        version: 4,
        src: AddrWords::v4(header.source()),
        dst: AddrWords::v4(header.destination()),
        proto,
        ttl: header.ttl(),
        dscp: header.dcp().value(),
        ip_len,
        header: header.slice(),
        body,
        body_len,
        routed: header_len > 20,
        piece,
    })
}

/// Reads an IPv6 header (RFC 8200); the frame goes on for `missing` bytes that were not captured.
#[inline(always)]
pub(super) fn ipv6(bytes: &[u8], missing: u64) -> Result<Ip<'_>, DropReason> {
    let header = match Ipv6HeaderSlice::from_slice(bytes) {
        Ok(header) => header,
        Err(ipv6::HeaderSliceError::Len(_)) => return Err(DropReason::IpHeaderCut),
        Err(ipv6::HeaderSliceError::Content(_)) => return Err(DropReason::IpVersion),
    };
    let rest = bytes.get(40..).unwrap_or_default();
    let proto = header.next_header().0;
    let body_len = match header.payload_length() {
        0 => ipv6_zero_length(proto, rest, missing),
        length => u64::from(length),
    };
    Ok(Ip {
        version: 6,
        src: AddrWords::v6(header.source()),
        dst: AddrWords::v6(header.destination()),
        proto,
        ttl: header.hop_limit(),
        dscp: header.dscp().value(),
        ip_len: body_len.saturating_add(40),
        header: &[],
        body: cut(rest, body_len),
        body_len,
        routed: false,
        piece: None,
    })
}

impl<'a> Ip<'a> {
    /// Tells whether the transport header, if there is one, is the next.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.piece.is_none() && !is_extension(self.version, self.proto)
    }

    /// Skips extension headers and reads the transport header.
    pub(super) fn transport(&mut self) -> Transport<'a> {
        let Ip { proto, body, body_len, piece, routed, .. } = *self;
        let mut chain = Chain { proto, body, body_len, piece, routed, stop: None };
        let is_later = piece.is_some_and(|piece| piece.offset != 0);
        if !is_later {
            chain.skip(self.version);
        }
        (self.proto, self.body, self.body_len) = (chain.proto, chain.body, chain.body_len);
        (self.piece, self.routed) = (chain.piece, chain.routed);
        chain.transport()
    }
}

/// The headers between an IP header and the transport.
#[derive(Clone, Copy)]
pub(super) struct Chain<'a> {
    /// What `body` begins with.
    pub(super) proto: u8,
    /// The captured bytes from there on, and how many were announced.
    pub(super) body: &'a [u8],
    pub(super) body_len: u64,
    pub(super) piece: Option<Piece<'a>>,
    /// The packet is, or may be, on its way to an address that is not in the IP header.
    pub(super) routed: bool,
    pub(super) stop: Option<StopReason>,
}

impl<'a> Chain<'a> {
    /// Starts behind the IP header of a datagram that was put together.
    pub(super) fn of_datagram(proto: u8, body: &'a [u8]) -> Self {
        Chain { proto, body, body_len: body.len() as u64, piece: None, routed: false, stop: None }
    }

    /// Skips extension headers: all kinds in IPv6, only the authentication header in IPv4.
    ///
    /// Ends behind the fragment header of a later fragment.
    pub(super) fn skip(&mut self, version: u8) {
        let mut headers = 0;
        while is_extension(version, self.proto) {
            headers += 1;
            if headers > MAX_EXTENSIONS {
                self.stop = Some(StopReason::ExtensionsTooMany);
                break;
            }
            let Some(&[next, length, third, fourth, id @ ..]) = self.body.first_chunk::<8>() else {
                self.stop = Some(StopReason::ExtensionCut);
                break;
            };
            let length = match self.proto {
                FRAGMENT => 8,
                AH => (usize::from(length) + 2) * 4,
                _ => (usize::from(length) + 1) * 8,
            };
            let Some(rest) = self.body.get(length..) else {
                self.stop = Some(StopReason::ExtensionCut);
                break;
            };
            let kind = self.proto;
            self.proto = next;
            self.body = rest;
            self.body_len = self.body_len.saturating_sub(length as u64);
            if kind == FRAGMENT {
                let field = u16::from_be_bytes([third, fourth]);
                let (offset, more) = (u32::from(field & 0xFFF8), field & 1 != 0);
                // Offset 0 and nothing more: an atomic fragment, which is none (RFC 6946).
                self.piece = (more || offset != 0).then(|| Piece {
                    id: u32::from_be_bytes(id),
                    offset,
                    more,
                    proto: next,
                    bytes: rest,
                    len: self.body_len,
                });
                if offset != 0 {
                    break;
                }
            }
            let segments_left = fourth;
            self.routed |= kind == ROUTING && segments_left > 0;
        }
    }

    /// Reads the transport header.
    pub(super) fn transport(&self) -> Transport<'a> {
        if let Some(reason) = self.stop {
            return Transport::unreached(reason);
        }
        match self.piece {
            Some(piece) if piece.offset != 0 => Transport::later_fragment(self.body, self.body_len),
            _ => transport::read(self.proto, self.body, self.body_len),
        }
    }
}

/// Tells whether a protocol number is that of a header before the transport.
#[inline(always)]
fn is_extension(version: u8, proto: u8) -> bool {
    proto == AH || (version == 6 && matches!(proto, 0 | ROUTING | FRAGMENT | 60 | 135 | 139 | 140))
}

/// Returns what was captured of `announced` bytes.
#[inline(always)]
fn cut(bytes: &[u8], announced: u64) -> &[u8] {
    front(bytes, usize::try_from(announced).unwrap_or(usize::MAX))
}

/// Returns the payload length where the field is 0: a jumbogram (RFC 2675), segmentation offload, or nothing.
#[cold]
fn ipv6_zero_length(proto: u8, rest: &[u8], missing: u64) -> u64 {
    match rest.first_chunk::<8>() {
        Some(&[_, _, JUMBO_OPTION, _, length @ ..]) if proto == 0 => u64::from(u32::from_be_bytes(length)),
        _ if matches!(proto, 6 | 17) && !rest.is_empty() => (rest.len() as u64).saturating_add(missing),
        _ => 0,
    }
}

#[cold]
fn ipv4_fault(error: &ipv4::HeaderSliceError) -> DropReason {
    match error {
        ipv4::HeaderSliceError::Len(_) => DropReason::IpHeaderCut,
        ipv4::HeaderSliceError::Content(ipv4::HeaderError::UnexpectedVersion { .. }) => DropReason::IpVersion,
        ipv4::HeaderSliceError::Content(_) => DropReason::IpHeaderLength,
    }
}

/// Extension headers behind one IP header.
const MAX_EXTENSIONS: usize = 64;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AH: u8 = 51;
const JUMBO_OPTION: u8 = 0xC2;
