//! Any bytes as frames of any link type, through the decoder and the protocol parsers: every frame becomes a packet,
//! is held or is counted under a reason, and a second time the same comes out.
//!
//! Input: a byte that is the link type (255 stands for 276), a byte of options, then frames, each with its length
//! (u16) and the milliseconds since the one before it (u16) in front, little-endian.
#![no_main]

use flowcore::decode::{DecodeCounts, DecodeOptions, Decoder, Outcome};
use flowcore::key::{Dir, End, FlowKey};
use flowcore::l7::{Conversation, L7Counts, L7Facts};
use flowcore::packet::{Frame, LinkType, Packet};
use flowcore::time::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[link, options], frames)) = data.split_first_chunk::<2>() else { return };
    let link = LinkType(if link == 255 { 276 } else { link.into() });
    let mut settings = DecodeOptions::default();
    settings.decap = options & 1 == 0;
    settings.checksums = options & 2 != 0;
    assert_eq!(decode(link, &settings, frames), decode(link, &settings, frames));
});

#[derive(PartialEq, Debug)]
struct Seen {
    packets: Vec<(FlowKey, End, u64, usize)>,
    decoded: DecodeCounts,
    read: L7Counts,
    facts: L7Facts,
}

fn decode(link: LinkType, settings: &DecodeOptions, mut rest: &[u8]) -> Seen {
    let mut decoder = Decoder::new(settings.clone());
    let (mut conversation, mut counts) = (Conversation::default(), L7Counts::default());
    let (mut packets, mut dropped, mut frames, mut bytes, mut millis) = (Vec::new(), 0, 0, 0, 0);
    let mut read = |packet: Packet<'_>| {
        assert!(packet.payload.len() <= 1 << 16);
        let dir = if packet.sender == End::Low { Dir::Fwd } else { Dir::Rev };
        conversation.read(&packet, dir, &mut counts);
        packets.push((packet.key, packet.sender, packet.payload_len, packet.payload.len()));
    };
    while let Some((&[a, b, c, d], behind)) = rest.split_first_chunk::<4>() {
        let (frame, behind) = behind.split_at(behind.len().min(usize::from(u16::from_le_bytes([a, b]))));
        rest = behind;
        frames += 1;
        bytes += frame.len() as u64;
        millis += i64::from(u16::from_le_bytes([c, d]));
        let time = Timestamp::from_nanos(millis * 1_000_000);
        let frame =
            Frame { data: frame, time: Some(time), wire_len: frame.len() as u32, link, interface: None };
        if let Outcome::Dropped(_) = decoder.decode(&frame, &mut read) {
            dropped += 1;
        }
    }
    let held = decoder.counts().fragments.held;
    decoder.finish(&mut read);
    assert_eq!(packets.len() as u64 + dropped, frames);
    let decoded = decoder.counts();
    assert!(held <= frames && decoded.fragments.held == 0);
    assert_eq!((decoded.packets, decoded.bytes), (frames, bytes));
    assert_eq!(decoded.dropped.iter().map(|(_, n)| n).sum::<u64>(), dropped);
    assert!(conversation.heap_bytes() <= 256 << 10);
    conversation.turn();
    let facts = conversation.finish(true);
    assert!(facts.dns.len() <= 16);
    Seen { packets, decoded, read: counts, facts }
}
