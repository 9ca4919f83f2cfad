//! Any bytes as frames of any link type, through the decoder and the protocol parsers: every frame becomes packets
//! or is counted under a reason. Input: a byte that picks the link type, a byte of options, then frames, each with
//! its length (u16) and the milliseconds since the one before it (u16) in front, little-endian.
#![no_main]

use flowcore::decode::{DecodeOptions, Decoder, Outcome};
use flowcore::key::{Dir, End};
use flowcore::l7::{Conversation, L7Counts};
use flowcore::packet::{Frame, LinkType, Packet};
use flowcore::time::Timestamp;
use libfuzzer_sys::fuzz_target;

const LINKS: &[u32] = &[1, 0, 9, 12, 50, 101, 104, 105, 107, 108, 109, 113, 127, 138, 228, 229, 239, 276];

fuzz_target!(|data: &[u8]| {
    let Some((&[link, options], mut rest)) = data.split_first_chunk::<2>() else { return };
    let link = LinkType(LINKS[usize::from(link) % LINKS.len()]);
    let mut settings = DecodeOptions::default();
    settings.decap = options & 1 == 0;
    settings.checksums = options & 2 != 0;
    let mut decoder = Decoder::new(settings);
    let (mut conversation, mut counts) = (Conversation::default(), L7Counts::default());
    let (mut packets, mut dropped, mut frames, mut millis) = (0u64, 0u64, 0u64, 0i64);
    let mut read = |packet: Packet<'_>| {
        packets += 1;
        assert!(packet.payload.len() <= 1 << 16);
        let dir = if packet.sender == End::Low { Dir::Fwd } else { Dir::Rev };
        conversation.read(&packet, dir, &mut counts);
    };
    while let Some((&[a, b, c, d], behind)) = rest.split_first_chunk::<4>() {
        let (frame, behind) = behind.split_at(behind.len().min(usize::from(u16::from_le_bytes([a, b]))));
        rest = behind;
        frames += 1;
        millis += i64::from(u16::from_le_bytes([c, d]));
        let time = Timestamp::from_nanos(millis * 1_000_000);
        let frame =
            Frame { data: frame, time: Some(time), wire_len: frame.len() as u32, link, interface: None };
        if let Outcome::Dropped(_) = decoder.decode(&frame, &mut read) {
            dropped += 1;
        }
    }
    decoder.finish(&mut read);
    assert_eq!(packets + dropped, frames);
    conversation.turn();
    assert!(conversation.finish(true).dns.len() <= 16);
});
