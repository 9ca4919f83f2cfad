//! Transport headers: ports, lengths, and the payload behind them.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

use super::shim::front;
use crate::error::StopReason;
use crate::packet::{Message, TcpFacts, TcpFlags};

/// What a transport header says.
#[derive(Clone, Copy, Default)]
pub(super) struct Transport<'a> {
    /// Source and destination port, where their four bytes are there.
    pub(super) ports: Option<(u16, u16)>,
    /// The captured bytes behind the header, and how many were announced.
    pub(super) payload: &'a [u8],
    pub(super) payload_len: u64,
    pub(super) icmp: Option<(u8, u8)>,
    pub(super) tcp: Option<TcpFacts>,
    /// `payload` begins where the header ends; otherwise the header is damaged and part of it.
    pub(super) sound: bool,
    /// Why the header, or what it announces, could not be read.
    pub(super) stop: Option<StopReason>,
}

impl<'a> Transport<'a> {
    /// A packet whose extension headers do not end: there is no transport.
    pub(super) fn unreached(reason: StopReason) -> Self {
        Transport { sound: false, stop: Some(reason), ..Transport::plain(&[], 0) }
    }

    /// A fragment whose transport header is in another packet.
    pub(super) fn later_fragment(body: &'a [u8], body_len: u64) -> Self {
        Transport { stop: Some(StopReason::LaterFragment), ..Transport::plain(body, body_len) }
    }

    /// Returns what a parser may read: nothing where the header is damaged.
    #[inline(always)]
    pub(super) fn message(&self) -> Option<Message<'a>> {
        self.sound.then(|| Message {
            bytes: self.payload,
            seq: self.tcp.map_or(0, first_payload_seq),
            complete: self.payload.len() as u64 == self.payload_len,
        })
    }

    /// A protocol without a header that is read: all is payload.
    #[inline(always)]
    fn plain(body: &'a [u8], body_len: u64) -> Self {
        Transport {
            ports: None,
            payload: body,
            payload_len: body_len,
            icmp: None,
            tcp: None,
            sound: true,
            stop: None,
        }
    }

    /// A header that is damaged: everything counts as payload (definitions.md, "Bytes").
    fn damaged(body: &'a [u8], body_len: u64, stop: Option<StopReason>) -> Self {
        Transport { sound: false, stop, ..Transport::plain(body, body_len) }
    }
}

/// Reads the header of a transport protocol; `body_len` bytes were announced and `body` was captured.
pub(super) fn read(proto: u8, body: &[u8], body_len: u64) -> Transport<'_> {
    match proto {
        6 => tcp(body, body_len),
        17 => udp(body, body_len),
        _ => other(proto, body, body_len),
    }
}

/// Reads a TCP header.
fn tcp(body: &[u8], body_len: u64) -> Transport<'_> {
    sound_tcp(body, body_len).unwrap_or_else(|| damaged_tcp(body, body_len))
}

/// Reads a TCP header (RFC 9293) that is whole and sound.
#[inline(always)]
pub(super) fn sound_tcp(body: &[u8], body_len: u64) -> Option<Transport<'_>> {
    let header = TcpHeaderSlice::from_slice(body).ok()?;
    let bytes = header.slice();
    let mut facts = tcp_facts(bytes)?;
    if facts.flags.contains(TcpFlags::SYN) {
        (facts.mss, facts.window_scale) = read_options(header.options());
    }
    Some(Transport {
        ports: Some((header.source_port(), header.destination_port())),
        tcp: Some(facts),
        ..Transport::plain(
            body.get(bytes.len()..).unwrap_or_default(),
            body_len.saturating_sub(bytes.len() as u64),
        )
    })
}

/// Reads what is left of a TCP header that is cut, or whose length cannot be.
#[cold]
fn damaged_tcp(body: &[u8], body_len: u64) -> Transport<'_> {
    let ports = ports(body);
    let mut facts = tcp_facts(body);
    let header_len = body.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    if let (Some(options), true) = (body.get(20..), header_len >= 20 && header_len as u64 <= body_len) {
        // Only options are missing: the payload's length is still known.
        if let Some(facts) = facts.as_mut().filter(|facts| facts.flags.contains(TcpFlags::SYN)) {
            (facts.mss, facts.window_scale) = read_options(options);
        }
        let payload_len = body_len.saturating_sub(header_len as u64);
        let stop = Some(StopReason::TransportCut);
        return Transport { ports, tcp: facts, stop, ..Transport::plain(&[], payload_len) };
    }
    let reason = if body.len() < 20 { StopReason::TransportCut } else { StopReason::TransportLength };
    Transport { ports, tcp: facts, ..Transport::damaged(body, body_len, Some(reason)) }
}

/// Reads the fields up to the window.
#[inline(always)]
fn tcp_facts(bytes: &[u8]) -> Option<TcpFacts> {
    let &[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, f0, f1, w0, w1] = bytes.first_chunk::<16>()?;
    Some(TcpFacts {
        flags: TcpFlags(u16::from_be_bytes([f0, f1]) & 0x1FF),
        seq: u32::from_be_bytes([s0, s1, s2, s3]),
        ack: u32::from_be_bytes([a0, a1, a2, a3]),
        window: u16::from_be_bytes([w0, w1]),
        mss: None,
        window_scale: None,
    })
}

/// Reads the options that only a SYN carries, up to the first damaged one; others are skipped by their length.
#[inline(never)]
fn read_options(mut options: &[u8]) -> (Option<u16>, Option<u8>) {
    let (mut mss, mut window_scale) = (None, None);
    loop {
        options = match *options {
            [NO_OPERATION, ref rest @ ..] => rest,
            [MAXIMUM_SEGMENT_SIZE, 4, high, low, ref rest @ ..] => {
                mss = Some(u16::from_be_bytes([high, low]));
                rest
            }
            [WINDOW_SCALE, 3, shift, ref rest @ ..] => {
                window_scale = Some(shift);
                rest
            }
            [END_OF_OPTIONS | MAXIMUM_SEGMENT_SIZE | WINDOW_SCALE, ..] => break,
            [_, length @ 2..=u8::MAX, ..] => match options.get(usize::from(length)..) {
                Some(rest) => rest,
                None => break,
            },
            _ => break,
        }
    }
    (mss, window_scale)
}

/// Reads a UDP header (RFC 768).
#[inline(always)]
pub(super) fn udp(body: &[u8], body_len: u64) -> Transport<'_> {
    let Ok(header) = UdpHeaderSlice::from_slice(body) else {
        return cut_header(body, body_len);
    };
    let length = u64::from(header.length());
    let rest = body.get(8..).unwrap_or_default();
    let by_ip = body_len.saturating_sub(8);
    let (payload_len, stop) = match length {
        8.. if length <= body_len => (length - 8, None),
        1..8 => (by_ip, Some(StopReason::TransportLength)),
        _ => (by_ip, None),
    };
    let payload = front(rest, usize::try_from(payload_len).unwrap_or(usize::MAX));
    let ports = Some((header.source_port(), header.destination_port()));
    Transport { ports, stop, ..Transport::plain(payload, payload_len) }
}

fn other(proto: u8, body: &[u8], body_len: u64) -> Transport<'_> {
    match proto {
        1 | 58 => icmp(body, body_len),
        33 => dccp(body, body_len),
        132 => behind(body, body_len, 12),
        136 => behind(body, body_len, 8),
        _ => Transport::plain(body, body_len),
    }
}

/// ICMP of both versions: type and code, payload after eight bytes.
fn icmp(body: &[u8], body_len: u64) -> Transport<'_> {
    let Some(&[kind, code, _, _]) = body.first_chunk::<4>() else {
        return Transport::damaged(body, body_len, Some(StopReason::TransportCut));
    };
    let transport = match body.get(8..) {
        Some(payload) => Transport::plain(payload, body_len.saturating_sub(8)),
        None => Transport::damaged(body, body_len, None),
    };
    Transport { icmp: Some((kind, code)), ..transport }
}

/// DCCP (RFC 4340): the fifth byte counts the header's words.
fn dccp(body: &[u8], body_len: u64) -> Transport<'_> {
    let header_len = body.get(4).map_or(0, |words| usize::from(*words) * 4);
    if body.len() >= 12 && header_len < 12 {
        let stop = Some(StopReason::TransportLength);
        return Transport { ports: ports(body), ..Transport::damaged(body, body_len, stop) };
    }
    behind(body, body_len, header_len.max(12))
}

/// A header of known length that begins with the ports.
fn behind(body: &[u8], body_len: u64, header_len: usize) -> Transport<'_> {
    let Some(payload) = body.get(header_len..) else { return cut_header(body, body_len) };
    let payload_len = body_len.saturating_sub(header_len as u64);
    Transport { ports: ports(body), ..Transport::plain(payload, payload_len) }
}

#[cold]
fn cut_header(body: &[u8], body_len: u64) -> Transport<'_> {
    let stop = Some(StopReason::TransportCut);
    Transport { ports: ports(body), ..Transport::damaged(body, body_len, stop) }
}

fn ports(body: &[u8]) -> Option<(u16, u16)> {
    let &[s0, s1, d0, d1] = body.first_chunk::<4>()?;
    Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

/// Returns the sequence number of the first payload byte: a SYN takes one for itself.
#[inline(always)]
fn first_payload_seq(tcp: TcpFacts) -> u32 {
    tcp.seq.wrapping_add(u32::from(tcp.flags.contains(TcpFlags::SYN)))
}

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
