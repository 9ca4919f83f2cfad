//! Fragments of a few datagrams in any order, of any extent, at any time: every one is handed out in the end, and what
//! is put together is what was taken apart.
#![no_main]

use std::sync::LazyLock;

use flowcore::decode::{DecodeCounts, DecodeOptions, Decoder, Outcome};
use flowcore::packet::{Frame, LinkType, Packet};
use flowcore::time::Timestamp;
use libfuzzer_sys::{arbitrary, fuzz_target};

#[derive(arbitrary::Arbitrary, Debug)]
struct Piece {
    /// Datagrams of an even number are IPv4, the others IPv6.
    datagram: u8,
    /// In units of eight bytes.
    offset: u16,
    length: u16,
    more: bool,
    /// A byte of it is not that of its datagram.
    lies: bool,
    /// Its datagram is IP in IP, and not UDP.
    is_tunnel: bool,
    /// It is inside the first fragment of such a datagram of this number.
    around: Option<u8>,
    /// Behind the piece before it, in eighths of a second.
    gap: i8,
    /// Nothing comes for so many eighths of a second.
    tick: Option<u8>,
}

fuzz_target!(|pieces: Vec<Piece>| {
    assert_eq!(play(&pieces), play(&pieces));
});

/// Returns what was counted, and how many messages were put together.
fn play(pieces: &[Piece]) -> (DecodeCounts, u64) {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let (mut packets, mut dropped, mut messages, mut eighths) = (0, 0, 0, 80i64);
    let is_honest = pieces.iter().all(|piece| !piece.lies);
    let mut read = |packet: Packet<'_>| {
        packets += 1;
        let Some(message) = packet.message else { return };
        messages += 1;
        // The source port is that of the datagram, where its first piece is whole.
        if is_honest && packet.key.has_ports() && message.complete {
            let tuple = packet.tuple();
            let (Some(number), Some(9)) = (tuple.src.port, tuple.dst.port) else { return };
            let whole = &CONTENTS[usize::from(number as u8)][8..];
            assert!(whole.starts_with(message.bytes), "bytes of another datagram");
        }
    };
    for piece in pieces {
        eighths += i64::from(piece.gap);
        let packet = bytes(piece);
        let frame = Frame {
            data: &packet,
            time: Some(Timestamp::from_nanos(eighths * 125_000_000)),
            wire_len: packet.len() as u32,
            link: LinkType(101),
            interface: None,
        };
        if let Outcome::Dropped(_) = decoder.decode(&frame, &mut read) {
            dropped += 1;
        }
        if let Some(wait) = piece.tick {
            eighths += i64::from(wait);
            decoder.tick(Timestamp::from_nanos(eighths * 125_000_000), &mut read);
        }
    }
    let held = decoder.counts().fragments.held;
    decoder.finish(&mut read);
    assert!(held <= pieces.len() as u64);
    assert_eq!(packets + dropped, pieces.len() as u64);
    assert_eq!(decoder.counts().fragments.held, 0);
    (decoder.counts(), messages)
}

/// How long a datagram can be made of pieces: the farthest offset and the longest piece.
const LONGEST: usize = 0x1fff * 8 + 2047;

/// What each datagram is made of.
static CONTENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    (0..=255).map(|datagram| (0..LONGEST).map(|at| content(datagram, at)).collect()).collect()
});

/// The byte of a datagram at a place: a UDP header, then what is nowhere the same.
fn content(datagram: u8, at: usize) -> u8 {
    match at {
        0 | 2 | 6 | 7 => 0,
        1 => datagram,
        3 => 9,
        // Its length: some datagrams are longer than they say.
        4 => datagram >> 4,
        5 => 0xf0,
        at => (at >> 8) as u8 ^ (at as u8).wrapping_mul(31) ^ datagram,
    }
}

fn bytes(piece: &Piece) -> Vec<u8> {
    let (offset, length) = (piece.offset & 0x1fff, usize::from(piece.length % 2048));
    let proto = if piece.is_tunnel { in_ip(piece.datagram) } else { 17 };
    let mut packet = header(piece.datagram, proto, offset, piece.more, length);
    let start = usize::from(offset) * 8;
    packet.extend(&CONTENTS[usize::from(piece.datagram)][start..start + length]);
    if piece.lies && length > 0 {
        *packet.last_mut().expect("a byte") ^= 1;
    }
    if let Some(number) = piece.around {
        // What it carries says by its version which protocol it is.
        packet.splice(0..0, header(number, in_ip(piece.datagram), 0, true, packet.len()));
    }
    packet
}

/// The protocol of a datagram's packets inside another one.
fn in_ip(datagram: u8) -> u8 {
    if datagram % 2 == 0 { 4 } else { 41 }
}

fn header(datagram: u8, proto: u8, offset: u16, more: bool, length: usize) -> Vec<u8> {
    let (more, length) = (u16::from(more), length as u16);
    if datagram % 2 == 0 {
        let mut header = vec![0x45, 0, 0, 0, 0, datagram];
        header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
        header.extend((offset | more << 13).to_be_bytes());
        header.extend([64, proto, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        header
    } else {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((8 + length).to_be_bytes());
        header.extend([44, 64]);
        header.extend([[0x20; 16], [0x30; 16]].concat());
        header.extend([proto, 0]);
        header.extend((offset << 3 | more).to_be_bytes());
        header.extend([0, 0, 0, datagram]);
        header
    }
}
