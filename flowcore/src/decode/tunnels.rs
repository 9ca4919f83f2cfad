//! Tunnels by IP protocol and by UDP port; which are opened stands in definitions.md ("Flow key").

use super::link::skip;
use super::shim::front;
use super::walk::{Halt, Layer, Next, Step, Walk};
use crate::error::StopReason;
use crate::packet::TunnelKind;

/// Opens what the layer that was entered carries, if that is a tunnel.
///
/// In a first fragment UDP's payload is not whole and stays closed.
pub(super) fn open<'a>(walk: &mut Walk<'a, '_>) -> Step<'a> {
    let Layer { ip, transport, .. } = &walk.layer;
    match (ip.proto, transport.ports) {
        (17 | 136, Some((src, dst))) if is_tunnel(src, dst) && ip.piece.is_none() => in_udp(walk, src, dst),
        (17 | 136, _) => Ok(Next::Done),
        _ => in_ip(walk),
    }
}

fn in_ip<'a>(walk: &mut Walk<'a, '_>) -> Step<'a> {
    let body = walk.layer.ip.body;
    let ip_in_ip = if walk.layer.ip.version == 6 { TunnelKind::IpInIpv6 } else { TunnelKind::IpInIpv4 };
    match walk.layer.ip.proto {
        4 => {
            walk.push_tunnel(ip_in_ip, None);
            Ok(Next::Ipv4(body))
        }
        41 => {
            walk.push_tunnel(ip_in_ip, None);
            Ok(Next::Ipv6(body))
        }
        47 => Ok(Next::Gre(body)),
        97 => {
            walk.push_tunnel(TunnelKind::EtherIp, None);
            Ok(Next::Ethernet(skip(body, 2)?))
        }
        115 => Err(PAYLOAD), // L2TP version 3, whose session header only its control channel describes
        137 => {
            walk.push_tunnel(TunnelKind::MplsInIp, None);
            Ok(Next::Mpls(body))
        }
        _ => Ok(Next::Done),
    }
}

/// Opens GRE (RFC 2784, RFC 2890), ERSPAN in it, or PPTP's version of it (RFC 2637).
pub(super) fn gre<'a>(walk: &mut Walk<'a, '_>, bytes: &'a [u8]) -> Step<'a> {
    let &[high, low, type_high, type_low] = bytes.first_chunk::<4>().ok_or(HEADER)?;
    let (flags, ethertype) = (u16::from_be_bytes([high, low]), u16::from_be_bytes([type_high, type_low]));
    match flags & 7 {
        0 => gre_v0(walk, flags, ethertype, bytes),
        1 => pptp(walk, flags, bytes),
        _ => Err(HEADER),
    }
}

fn gre_v0<'a>(walk: &mut Walk<'a, '_>, flags: u16, ethertype: u16, bytes: &'a [u8]) -> Step<'a> {
    let has = |bit: u16| flags & bit != 0;
    let (checksum, routing, key, sequence) = (has(0x8000), has(0x4000), has(0x2000), has(0x1000));
    let mut rest = skip(bytes, if checksum || routing { 8 } else { 4 })?;
    let mut id = None;
    if key {
        let (bytes, after) = rest.split_first_chunk::<4>().ok_or(HEADER)?;
        (id, rest) = (Some(u32::from_be_bytes(*bytes)), after);
    }
    if sequence {
        rest = skip(rest, 4)?;
    }
    if routing {
        rest = behind_routing(rest)?;
    }
    match ethertype {
        0x88BE | 0x22EB => return erspan(walk, ethertype, id, sequence, rest),
        _ => match id {
            Some(id) => walk.push_shared_tunnel(TunnelKind::Gre, id),
            None => walk.push_tunnel(TunnelKind::Gre, None),
        },
    }
    match (ethertype, rest) {
        (0x883E, [first, ..]) if first >> 4 == 4 => Ok(Next::Ipv4(rest)), // WCCP
        (0x883E, _) => Ok(Next::Ipv4(skip(rest, 4)?)),
        (0, _) => Err(PAYLOAD), // a keep-alive
        (0x8909, &[high, low, _, _, _, _, _, _, ref rest @ ..]) => {
            // Cisco metadata, whose next type comes first below GRE.
            Ok(Next::EtherType(u16::from_be_bytes([high, low]), rest))
        }
        (0x8909, _) => Err(HEADER),
        _ => Ok(Next::EtherType(ethertype, rest)),
    }
}

/// Skips source route entries (RFC 1701); one of length 0 is the last.
fn behind_routing(mut bytes: &[u8]) -> Result<&[u8], Halt> {
    loop {
        let &[_, _, _, length] = bytes.first_chunk::<4>().ok_or(HEADER)?;
        bytes = bytes.get(4 + usize::from(length)..).unwrap_or_default();
        if length == 0 {
            return Ok(bytes);
        }
    }
}

/// Opens ERSPAN: type I has no header, types II and III begin with version, VLAN and a ten-bit session id.
fn erspan<'a>(
    walk: &mut Walk<'a, '_>,
    ethertype: u16,
    key: Option<u32>,
    sequence: bool,
    bytes: &'a [u8],
) -> Step<'a> {
    if ethertype == 0x88BE && !sequence {
        match key {
            Some(key) => walk.push_shared_tunnel(TunnelKind::Erspan, key),
            None => walk.push_tunnel(TunnelKind::Erspan, None),
        }
        return Ok(Next::Ethernet(bytes));
    }
    let &[_, _, high, low, ..] = bytes.first_chunk::<8>().ok_or(HEADER)?;
    let rest = if ethertype == 0x88BE {
        skip(bytes, 8)?
    } else {
        let &[.., last] = bytes.first_chunk::<12>().ok_or(HEADER)?;
        let has_platform_header = last & 1 != 0;
        bytes.get(if has_platform_header { 20 } else { 12 }..).unwrap_or_default()
    };
    let session = u32::from(u16::from_be_bytes([high, low]) & 0x3FF);
    walk.push_shared_tunnel(TunnelKind::Erspan, session);
    Ok(Next::Ethernet(rest))
}

/// Opens PPTP's GRE; the call id differs by direction.
fn pptp<'a>(walk: &mut Walk<'a, '_>, flags: u16, bytes: &'a [u8]) -> Step<'a> {
    let (&[_, _, _, _, len_high, len_low, call_high, call_low], mut rest) =
        bytes.split_first_chunk::<8>().ok_or(HEADER)?;
    let length = usize::from(u16::from_be_bytes([len_high, len_low]));
    if length == 0 {
        return Err(PAYLOAD); // an acknowledgement only
    }
    for bit in [0x1000, 0x0080] {
        if flags & bit != 0 {
            rest = rest.get(4..).unwrap_or_default();
        }
    }
    let call = u16::from_be_bytes([call_high, call_low]);
    walk.push_tunnel(TunnelKind::Pptp, Some(u32::from(call)));
    Ok(Next::Ppp(front(rest, length)))
}

/// Tells whether UDP ports may be those of a tunnel.
#[inline(always)]
pub(super) fn is_tunnel(src: u16, dst: u16) -> bool {
    let either_way = |port| matches!(port, 1701 | 2152 | 3544);
    matches!(dst, 4754 | 4789 | 4790 | 6081 | 6635 | 8472) || either_way(dst) || either_way(src)
}

/// Opens a tunnel in UDP. Where the bytes do not look like the tunnel of that port, they are payload.
fn in_udp<'a>(walk: &mut Walk<'a, '_>, src: u16, dst: u16) -> Step<'a> {
    let bytes = walk.layer.transport.payload;
    match dst {
        4789 | 8472 => vxlan(walk, bytes),
        4790 => vxlan_gpe(walk, bytes),
        6081 => geneve(walk, bytes),
        _ if src == 2152 || dst == 2152 => gtp(walk, bytes),
        _ if src == 3544 || dst == 3544 => teredo(walk, bytes),
        _ if src == 1701 || dst == 1701 => Ok(l2tp(walk, bytes).unwrap_or(Next::Done)),
        6635 if bytes.len() >= 4 => {
            walk.push_tunnel(TunnelKind::MplsInIp, None);
            Ok(Next::Mpls(bytes))
        }
        4754 if bytes.len() >= 4 => Ok(Next::Gre(bytes)),
        _ => Ok(Next::Done),
    }
}

fn vxlan<'a>(walk: &mut Walk<'a, '_>, bytes: &'a [u8]) -> Step<'a> {
    match bytes.split_first_chunk::<8>() {
        Some((header, rest)) if header[0] & 0x08 != 0 && rest.len() >= 14 => {
            walk.push_shared_tunnel(TunnelKind::Vxlan, network_id(header));
            Ok(Next::Ethernet(rest))
        }
        _ => Ok(Next::Done),
    }
}

fn vxlan_gpe<'a>(walk: &mut Walk<'a, '_>, bytes: &'a [u8]) -> Step<'a> {
    let Some((header, rest)) = bytes.split_first_chunk::<8>().filter(|(header, _)| header[0] & 0x08 != 0)
    else {
        return Ok(Next::Done);
    };
    let next = match header[3] {
        1 => Next::Ipv4(rest),
        2 => Next::Ipv6(rest),
        3 => Next::Ethernet(rest),
        4 => Next::Nsh(rest),
        5 => Next::Mpls(rest),
        _ => return Ok(Next::Done),
    };
    walk.push_shared_tunnel(TunnelKind::VxlanGpe, network_id(header));
    Ok(next)
}

/// GENEVE (RFC 8926), version 0, with options.
fn geneve<'a>(walk: &mut Walk<'a, '_>, bytes: &'a [u8]) -> Step<'a> {
    let Some(header) = bytes.first_chunk::<8>().filter(|header| header[0] >> 6 == 0) else {
        return Ok(Next::Done);
    };
    let options = usize::from(header[0] & 0x3F) * 4;
    let Some(rest) = bytes.get(8 + options..) else { return Ok(Next::Done) };
    walk.push_shared_tunnel(TunnelKind::Geneve, network_id(header));
    Ok(Next::EtherType(u16::from_be_bytes([header[2], header[3]]), rest))
}

/// GTP-U version 1, message type 255 (a user packet), with its extension headers.
fn gtp<'a>(walk: &mut Walk<'a, '_>, bytes: &'a [u8]) -> Step<'a> {
    let Some((&[flags, 255, _, _, endpoint @ ..], mut rest)) = bytes.split_first_chunk::<8>() else {
        return Ok(Next::Done);
    };
    if flags & 0xF0 != 0x30 {
        return Ok(Next::Done);
    }
    if flags & 7 != 0 {
        let (&[_, _, _, next], after) = rest.split_first_chunk::<4>().ok_or(HEADER)?;
        rest = after;
        let mut next = if flags & 4 != 0 { next } else { 0 };
        while next != 0 {
            let length = usize::from(*rest.first().ok_or(HEADER)?) * 4;
            let extension = rest.get(..length).ok_or(HEADER)?;
            next = *extension.last().ok_or(HEADER)?; // also ends where the length is 0
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    match rest.first().map(|first| first >> 4) {
        Some(4 | 6) => {
            walk.push_tunnel(TunnelKind::Gtp, Some(u32::from_be_bytes(endpoint)));
            Ok(Next::Ip(rest))
        }
        _ => Ok(Next::Done),
    }
}

/// Teredo (RFC 4380): an IPv6 packet behind origin and authentication indications.
fn teredo<'a>(walk: &mut Walk<'a, '_>, mut bytes: &'a [u8]) -> Step<'a> {
    loop {
        let length = match bytes {
            [0, 0, ..] => 8,
            [0, 1, client, authentication, ..] => 13 + usize::from(*client) + usize::from(*authentication),
            _ => break,
        };
        bytes = bytes.get(length..).unwrap_or_default();
    }
    match bytes.first_chunk::<40>() {
        Some(&[first, _, _, _, high, low, ..])
            if first >> 4 == 6 && usize::from(u16::from_be_bytes([high, low])) <= bytes.len() - 40 =>
        {
            walk.push_tunnel(TunnelKind::Teredo, None);
            Ok(Next::Ipv6(bytes))
        }
        _ => Ok(Next::Done),
    }
}

/// L2TP version 2 (RFC 2661), data messages; the session id differs by direction.
fn l2tp<'a>(walk: &mut Walk<'a, '_>, bytes: &'a [u8]) -> Option<Next<'a>> {
    let (&[flags, version], mut rest) = bytes.split_first_chunk::<2>()?;
    if flags & 0x80 != 0 || version & 0xF != 2 {
        return None;
    }
    if flags & 0x40 != 0 {
        rest = rest.get(2..)?; // length
    }
    let (&[_, _, high, low], mut rest) = rest.split_first_chunk::<4>()?;
    if flags & 0x08 != 0 {
        rest = rest.get(4..)?; // sequence numbers
    }
    if flags & 0x02 != 0 {
        let (offset, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_be_bytes(*offset))..)?;
    }
    if rest.is_empty() {
        return None;
    }
    walk.push_tunnel(TunnelKind::L2tp, Some(u32::from(u16::from_be_bytes([high, low]))));
    Some(Next::Ppp(rest))
}

/// Reads the 24-bit network id that VXLAN, VXLAN-GPE and GENEVE have at the same place.
fn network_id(header: &[u8; 8]) -> u32 {
    u32::from_be_bytes([0, header[4], header[5], header[6]])
}

const HEADER: Halt = Halt::Stop(StopReason::TunnelHeader);
const PAYLOAD: Halt = Halt::Stop(StopReason::TunnelPayload);
