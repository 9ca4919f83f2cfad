//! Link-layer headers other than Ethernet, by LINKTYPE_ number.

use super::walk::{Halt, Next, Step};
use crate::error::DropReason;

/// Opens the header of a link type.
pub(super) fn open(link: u32, bytes: &[u8]) -> Step<'_> {
    match link {
        1 => Ok(Next::Ethernet(bytes)),
        0 => host_order_family(bytes, 4),
        6 => token_ring(bytes),
        8 => Ok(Next::Ip(skip(bytes, 16)?)),
        9 | 50 => ppp(bytes),
        10 => Ok(Next::Llc(skip(bytes, 13)?)),
        11 | 100 => Ok(Next::Llc(bytes)),
        12 | 14 | 101 => Ok(Next::Ip(bytes)),
        51 => Ok(Next::EtherType(0x8864, bytes)),
        104 => cisco_hdlc(bytes),
        105 => Ok(Next::Ieee80211(bytes)),
        107 => frame_relay(bytes),
        108 => loopback(bytes),
        109 => host_order_family(bytes, 12),
        113 => cooked(bytes),
        117 => packet_filter_log(bytes),
        123 => Ok(Next::Llc(skip(bytes, 4)?)),
        127 => super::radio::radiotap(bytes),
        129 => arcnet(bytes),
        138 => ip_over_1394(bytes),
        166 => match bytes {
            [0 | 1, 0x03, rest @ ..] => Ok(Next::Ppp(rest)), // a direction in the place of 0xFF
            _ => ppp(bytes),
        },
        192 => super::radio::per_packet_information(bytes),
        204 => ppp(skip(bytes, 1)?), // a direction in front
        228 => Ok(Next::Ipv4(bytes)),
        229 => Ok(Next::Ipv6(bytes)),
        239 => netfilter_log(bytes),
        276 => cooked_v2(bytes),
        _ => Err(Halt::Unreadable(DropReason::UnknownLinkType)),
    }
}

/// Takes `n` bytes away.
pub(super) fn skip(bytes: &[u8], n: usize) -> Result<&[u8], Halt> {
    bytes.get(n..).ok_or(CUT)
}

pub(super) const CUT: Halt = Halt::Unreadable(DropReason::LinkHeaderCut);

/// BSD null and OpenBSD enc: a header that begins with an address family in the capturing host's byte order.
fn host_order_family(bytes: &[u8], header: usize) -> Step<'_> {
    let family = *bytes.first_chunk::<4>().ok_or(CUT)?;
    let rest = skip(bytes, header)?;
    let little = u32::from_le_bytes(family);
    by_family(if little > 0xFFFF { u32::from_be_bytes(family) } else { little }, rest)
}

/// OpenBSD loopback: the family in network byte order.
fn loopback(bytes: &[u8]) -> Step<'_> {
    let (family, rest) = bytes.split_first_chunk::<4>().ok_or(CUT)?;
    by_family(u32::from_be_bytes(*family), rest)
}

/// Goes by an address family; each system has its own number for IPv6.
fn by_family(family: u32, bytes: &[u8]) -> Step<'_> {
    match family {
        2 => Ok(Next::Ipv4(bytes)),
        10 | 23 | 24 | 28 | 30 => Ok(Next::Ipv6(bytes)),
        _ => Err(Halt::Unreadable(DropReason::UnknownFamily)),
    }
}

fn token_ring(bytes: &[u8]) -> Step<'_> {
    let header = bytes.first_chunk::<14>().ok_or(CUT)?;
    let source_routed = header[8] & 0x80 != 0;
    let routing = if source_routed {
        let (_, [control, _]) =
            bytes.first_chunk::<16>().and_then(|b| b.split_last_chunk::<2>()).ok_or(CUT)?;
        usize::from(control & 0x1F)
    } else {
        0
    };
    Ok(Next::Llc(skip(bytes, 14 + routing)?))
}

/// PPP in HDLC-like framing or without, or Cisco HDLC in its place.
fn ppp(bytes: &[u8]) -> Step<'_> {
    match bytes {
        [0x0F | 0x8F, 0, _, _, ..] => cisco_hdlc(bytes),
        _ => Ok(Next::Ppp(bytes)),
    }
}

fn cisco_hdlc(bytes: &[u8]) -> Step<'_> {
    let (&[_, _, high, low], rest) = bytes.split_first_chunk::<4>().ok_or(CUT)?;
    Ok(Next::EtherType(u16::from_be_bytes([high, low]), rest))
}

/// Frame relay: an address of two to four bytes, then RFC 2427's NLPID or Cisco's ethertype.
fn frame_relay(bytes: &[u8]) -> Step<'_> {
    let address = bytes.first_chunk::<4>().ok_or(CUT)?;
    let last = address.iter().position(|byte| byte & 1 != 0).unwrap_or(4);
    let rest = skip(bytes, last + 1)?;
    let (&[first, second], after) = rest.split_first_chunk::<2>().ok_or(CUT)?;
    if first != 3 {
        return Ok(Next::EtherType(u16::from_be_bytes([first, second]), after));
    }
    let rest = if second == 0 { after } else { skip(rest, 1)? };
    let (&nlpid, rest) = rest.split_first().ok_or(CUT)?;
    match nlpid {
        0xCC => Ok(Next::Ipv4(rest)),
        0x8E => Ok(Next::Ipv6(rest)),
        0xCF => Ok(Next::Ppp(rest)),
        0x80 => match rest.split_first_chunk::<5>().ok_or(CUT)? {
            (&[0, 0, 0, high, low], rest) => Ok(Next::EtherType(u16::from_be_bytes([high, low]), rest)),
            (&[0x00, 0x80, 0xC2, 0, 1 | 7], rest) => Ok(Next::Ethernet(rest)),
            _ => Err(OTHER),
        },
        _ => Err(OTHER),
    }
}

/// Linux cooked capture, version 1.
fn cooked(bytes: &[u8]) -> Step<'_> {
    let (header, rest) = bytes.split_first_chunk::<16>().ok_or(CUT)?;
    let &[_, _, hardware_high, hardware_low, .., high, low] = header;
    cooked_protocol(u16::from_be_bytes([hardware_high, hardware_low]), u16::from_be_bytes([high, low]), rest)
}

/// Linux cooked capture, version 2.
fn cooked_v2(bytes: &[u8]) -> Step<'_> {
    let (header, rest) = bytes.split_first_chunk::<20>().ok_or(CUT)?;
    let &[high, low, _, _, _, _, _, _, hardware_high, hardware_low, ..] = header;
    cooked_protocol(u16::from_be_bytes([hardware_high, hardware_low]), u16::from_be_bytes([high, low]), rest)
}

fn cooked_protocol(hardware: u16, protocol: u16, rest: &[u8]) -> Step<'_> {
    match (hardware, protocol) {
        (824, _) => Err(OTHER),         // netlink
        (778, 0) => Ok(Next::Ip(rest)), // a GRE device: the ethertype of GRE's payload
        (778, _) => Ok(Next::EtherType(protocol, rest)),
        (801..=804, _) => Err(Halt::Unreadable(DropReason::Ieee80211)),
        (_, 4) => Ok(Next::Llc(rest)),
        (_, 0..0x600) => Err(OTHER),
        _ => Ok(Next::EtherType(protocol, rest)),
    }
}

/// OpenBSD's packet filter log.
fn packet_filter_log(bytes: &[u8]) -> Step<'_> {
    let &[length, family, ..] = bytes.first_chunk::<4>().ok_or(CUT)?;
    let header = usize::from(length).next_multiple_of(4);
    by_family(u32::from(family), skip(bytes, header)?)
}

/// Netfilter log: attributes, one of which is the packet.
fn netfilter_log(bytes: &[u8]) -> Step<'_> {
    let (&[family, ..], mut rest) = bytes.split_first_chunk::<4>().ok_or(CUT)?;
    while let Some(&[len_low, len_high, kind_low, kind_high]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([len_low, len_high]));
        if length < 4 {
            break;
        }
        if u16::from_le_bytes([kind_low, kind_high]) == 9 {
            let payload = rest.get(4..length.min(rest.len())).unwrap_or_default();
            return by_family(u32::from(family), payload);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Err(OTHER)
}

fn ip_over_1394(bytes: &[u8]) -> Step<'_> {
    let (&[.., high, low], rest) = bytes.split_first_chunk::<18>().ok_or(CUT)?;
    Ok(Next::EtherType(u16::from_be_bytes([high, low]), rest))
}

/// ARCNET as Linux captures it (RFC 1201); the split flag 0 says that the packet is whole.
fn arcnet(bytes: &[u8]) -> Step<'_> {
    let &[_, _, _, _, protocol] = bytes.first_chunk::<5>().ok_or(CUT)?;
    if protocol != 212 {
        return Err(OTHER);
    }
    match bytes.split_first_chunk::<8>().ok_or(CUT)? {
        (&[_, _, _, _, _, 0, _, _], rest) => Ok(Next::Ipv4(rest)),
        _ => Err(OTHER),
    }
}

const OTHER: Halt = Halt::Unreadable(DropReason::OtherProtocol);
