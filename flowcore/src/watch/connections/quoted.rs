//! The TCP segment that an ICMP error quotes.

use std::net::IpAddr;

use crate::key::{Endpoint, FiveTuple, Proto};

/// Returns the five-tuple and the sequence number of the segment that an ICMP error quotes; none where the message
/// is no error that ends an attempt to connect, or quotes something else.
///
/// `quote` is what follows the eight bytes of the ICMP header (RFC 792, RFC 4443). A packet that was too big ends nothing.
pub(super) fn syn(proto: Proto, icmp: (u8, u8), quote: &[u8]) -> Option<(FiveTuple, u32)> {
    match (proto, icmp) {
        (Proto::ICMP, (3, code)) if code != FRAGMENTATION_NEEDED => ipv4(quote),
        (Proto::ICMP, (11 | 12, _)) => ipv4(quote),
        (Proto::ICMPV6, (1 | 3 | 4, _)) => ipv6(quote),
        _ => None,
    }
}

fn ipv4(quote: &[u8]) -> Option<(FiveTuple, u32)> {
    let header = quote.first_chunk::<20>()?;
    let [first, .., proto, _, _] = *header.first_chunk::<12>()?;
    let [_, _, _, _, _, _, upper, lower] = *header.first_chunk::<8>()?;
    let is_later_fragment = u16::from_be_bytes([upper, lower]) & 0x1FFF != 0;
    if first >> 4 != 4 || Proto(proto) != Proto::TCP || is_later_fragment {
        return None;
    }
    let src = <[u8; 4]>::try_from(header.get(12..16)?).ok()?;
    let dst = <[u8; 4]>::try_from(header.get(16..20)?).ok()?;
    segment(src.into(), dst.into(), quote.get(usize::from(first & 0xF) * 4..)?)
}

/// Extension headers between the IPv6 and the TCP header are not looked through: no SYN has them.
fn ipv6(quote: &[u8]) -> Option<(FiveTuple, u32)> {
    let header = quote.first_chunk::<40>()?;
    let [first, _, _, _, _, _, next, _] = *header.first_chunk::<8>()?;
    if first >> 4 != 6 || Proto(next) != Proto::TCP {
        return None;
    }
    let src = <[u8; 16]>::try_from(header.get(8..24)?).ok()?;
    let dst = <[u8; 16]>::try_from(header.get(24..40)?).ok()?;
    segment(src.into(), dst.into(), quote.get(40..)?)
}

fn segment(src: IpAddr, dst: IpAddr, bytes: &[u8]) -> Option<(FiveTuple, u32)> {
    let [s, p, d, q, seq @ ..] = *bytes.first_chunk::<8>()?;
    let end = |addr, port| Endpoint { addr, port: Some(u16::from_be_bytes(port)) };
    let tuple = FiveTuple { src: end(src, [s, p]), dst: end(dst, [d, q]), proto: Proto::TCP };
    Some((tuple, u32::from_be_bytes(seq)))
}

const FRAGMENTATION_NEEDED: u8 = 4;
