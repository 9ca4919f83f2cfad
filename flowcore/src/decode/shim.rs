//! What stands between the link layer and IP: Ethernet, ethertypes, VLAN tags, LLC, MPLS, PPP, NSH.

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::link::{CUT, skip};
use super::walk::{Halt, Next, Step, Walk};
use crate::error::DropReason;
use crate::packet::TunnelKind;

/// Opens an Ethernet frame.
#[inline(always)]
pub(super) fn ethernet(bytes: &[u8]) -> Step<'_> {
    let Ok(header) = Ethernet2HeaderSlice::from_slice(bytes) else { return Err(CUT) };
    let rest = bytes.get(14..).unwrap_or_default();
    match header.ether_type().0 {
        0x0800 => Ok(Next::Ipv4(rest)),
        0x86DD => Ok(Next::Ipv6(rest)),
        length @ 0..0x600 => Ok(Next::Llc(of_length(length, rest))),
        ethertype => Ok(Next::EtherType(ethertype, rest)),
    }
}

/// Takes what a length in the place of an ethertype covers; 1501 to 1535 mean nothing.
fn of_length(length: u16, bytes: &[u8]) -> &[u8] {
    if length <= 1500 { front(bytes, usize::from(length)) } else { bytes }
}

/// Goes by an ethertype; takes VLAN tags off, behind which a length may stand in its place.
pub(super) fn ethertype<'a>(walk: &mut Walk<'a, '_>, mut ethertype: u16, mut bytes: &'a [u8]) -> Step<'a> {
    while let 0x8100 | 0x88A8 | 0x9100 | 0x9200 = ethertype {
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(bytes) else { return Err(CUT) };
        walk.push_vlan(tag.vlan_identifier().value());
        ethertype = tag.ether_type().0;
        bytes = skip(bytes, 4)?;
        if ethertype < 0x600 {
            return Ok(Next::Llc(of_length(ethertype, bytes)));
        }
    }
    match ethertype {
        0x0800 => Ok(Next::Ipv4(bytes)),
        0x86DD => Ok(Next::Ipv6(bytes)),
        0x0806 | 0x8035 => Err(Halt::Unreadable(DropReason::Arp)),
        0x8847 | 0x8848 => Ok(Next::Mpls(bytes)),
        0x8863 => Err(Halt::Unreadable(DropReason::PppoeDiscovery)),
        0x8864 => pppoe(bytes),
        0x6558 => Ok(Next::Ethernet(bytes)),
        0x88E7 => Ok(Next::Ethernet(skip(bytes, 4)?)), // 802.1ah: four bytes with the service id
        0x893F | 0x8909 => next_ethertype::<8>(bytes), // 802.1BR, Cisco metadata
        0x8926 => next_ethertype::<6>(bytes),          // VN-tag
        0x894F => Ok(Next::Nsh(bytes)),
        0x880B => Ok(Next::Ppp(bytes)),
        _ => Err(Halt::Unreadable(DropReason::UnknownEthertype)),
    }
}

/// Skips a tag of `N` bytes that ends in the next ethertype.
fn next_ethertype<const N: usize>(bytes: &[u8]) -> Step<'_> {
    let (tag, rest) = bytes.split_first_chunk::<N>().ok_or(CUT)?;
    let ethertype = *tag.last_chunk::<2>().ok_or(CUT)?;
    Ok(Next::EtherType(u16::from_be_bytes(ethertype), rest))
}

/// Opens an 802.2 LLC header: SNAP, or IP's own service access point.
pub(super) fn llc(bytes: &[u8]) -> Step<'_> {
    match bytes {
        [0xAA, 0xAA, _, rest @ ..] => match rest.split_first_chunk::<5>().ok_or(CUT)? {
            (&[0, 0, 0x00 | 0xF8, high, low], rest) => {
                Ok(Next::EtherType(u16::from_be_bytes([high, low]), rest))
            }
            // Bridged Ethernet (RFC 2684); two bytes of padding.
            (&[0x00, 0x80, 0xC2, 0, 1 | 7], rest) => Ok(Next::Ethernet(skip(rest, 2)?)),
            _ => Err(Halt::Unreadable(DropReason::Llc)),
        },
        [0x06, 0x06, _, rest @ ..] => Ok(Next::Ip(rest)),
        [_, _, _, ..] => Err(Halt::Unreadable(DropReason::Llc)),
        _ => Err(CUT),
    }
}

fn pppoe(bytes: &[u8]) -> Step<'_> {
    let (&[_, _, _, _, high, low], rest) = bytes.split_first_chunk::<6>().ok_or(CUT)?;
    Ok(Next::Ppp(front(rest, usize::from(u16::from_be_bytes([high, low])))))
}

/// Opens a PPP frame, with or without address and control field; the protocol field may be one byte.
pub(super) fn ppp(bytes: &[u8]) -> Step<'_> {
    let frame = bytes.strip_prefix(&[0xFF, 0x03]).unwrap_or(bytes);
    let (protocol, rest) = match frame {
        [odd, rest @ ..] if odd & 1 != 0 => (u16::from(*odd), rest),
        [high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
        _ => return Err(CUT),
    };
    match protocol {
        0x0021 => Ok(Next::Ipv4(rest)),
        0x0057 => Ok(Next::Ipv6(rest)),
        0x0281 | 0x0283 => Ok(Next::Mpls(rest)),
        _ => Err(Halt::Unreadable(DropReason::PppControl)),
    }
}

/// Takes MPLS labels off; what follows the last one shows only by its first four bits (RFC 4928).
pub(super) fn mpls<'a>(walk: &mut Walk<'a, '_>, mut bytes: &'a [u8]) -> Step<'a> {
    loop {
        let (entry, rest) = bytes.split_first_chunk::<4>().ok_or(CUT)?;
        let entry = u32::from_be_bytes(*entry);
        walk.push_mpls(entry >> 12);
        bytes = rest;
        let bottom_of_stack = entry & 0x100 != 0;
        if bottom_of_stack {
            break;
        }
    }
    let first = *bytes.first().ok_or(CUT)?;
    match first >> 4 {
        4 => Ok(Next::Ipv4(bytes)),
        6 => Ok(Next::Ipv6(bytes)),
        0 if bytes.len() >= 18 => Ok(Next::Ethernet(skip(bytes, 4)?)), // a pseudowire's control word
        1 => Err(Halt::Unreadable(DropReason::MplsPayload)),           // associated channel
        _ if bytes.len() >= 14 => Ok(Next::Ethernet(bytes)),           // a pseudowire without control word
        _ => Err(Halt::Unreadable(DropReason::MplsPayload)),
    }
}

/// Opens a network service header (RFC 8300); its service path is the tunnel's id.
pub(super) fn nsh<'a>(walk: &mut Walk<'a, '_>, bytes: &'a [u8]) -> Step<'a> {
    let &[_, words, _, next, path @ .., _] = bytes.first_chunk::<8>().ok_or(CUT)?;
    let rest = skip(bytes, (usize::from(words & 0x3F) * 4).max(8))?;
    let [high, middle, low] = path;
    walk.push_tunnel(TunnelKind::Nsh, Some(u32::from_be_bytes([0, high, middle, low])));
    match next {
        1 => Ok(Next::Ipv4(rest)),
        2 => Ok(Next::Ipv6(rest)),
        3 => Ok(Next::Ethernet(rest)),
        5 => Ok(Next::Mpls(rest)),
        _ => Err(Halt::Unreadable(DropReason::OtherProtocol)),
    }
}

/// Returns the first `n` bytes, or all where there are fewer.
pub(super) fn front(bytes: &[u8], n: usize) -> &[u8] {
    bytes.get(..n).unwrap_or(bytes)
}
