//! Any bytes as a DNS message, over UDP, over UDP and captured in part, and over TCP, in one segment and in two: what is
//! kept is bounded, is text, and does not depend on the segments.
//!
//! Input: a place (u16, little-endian), where the message is cut, and the message.
#![no_main]

use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::key::Dir;
use flowcore::l7::{Conversation, L7Counts, L7Facts};
use flowcore::packet::{Frame, LinkType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((cut, message)) = data.split_first_chunk() else { return };
    let cut = usize::from(u16::from_le_bytes(*cut));
    if message.len() > 60_000 {
        return;
    }
    read(&[udp(message)], usize::MAX);
    read(&[udp(message)], cut);

    let behind_length = [&(message.len() as u16).to_be_bytes(), message].concat();
    let (first, second) = behind_length.split_at(cut % (behind_length.len() + 1));
    let whole = read(&[tcp(1, &behind_length)], usize::MAX);
    let in_two = read(&[tcp(1, first), tcp(1 + first.len() as u32, second)], usize::MAX);
    // Of what is another protocol by its first bytes (SMB, for one), nothing is counted.
    let is_dns = whole != Default::default();
    // Where the thread was lost, it is looked for at the beginning of each segment.
    assert!(!is_dns || whole == in_two || whole.1.dns_refused.total() > 0, "{whole:?} {in_two:?}");
});

/// Reads segments, each seen from both ends, of which no more than so many bytes were captured.
fn read(segments: &[(u8, Vec<u8>)], captured: usize) -> (L7Facts, L7Counts) {
    let (mut conversation, mut counts) = (Conversation::default(), L7Counts::default());
    let mut decoder = Decoder::new(DecodeOptions::default());
    for dir in [Dir::Fwd, Dir::Rev] {
        for (protocol, segment) in segments {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + segment.len() as u16).to_be_bytes());
            packet.extend([0, 0, 0, 0, 64, *protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
            packet.extend(segment);
            let data = &packet[..packet.len().min(captured)];
            // Without a link-layer header: packets begin with IP.
            let frame = Frame {
                data,
                time: None,
                wire_len: packet.len() as u32,
                link: LinkType(101),
                interface: None,
            };
            decoder.decode(&frame, |packet| _ = conversation.read(&packet, dir, &mut counts));
        }
    }
    assert!(conversation.heap_bytes() <= 256 << 10);
    let facts = conversation.finish(true);
    assert!(facts.dns.len() <= 16);
    let size = |text: &str| {
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{text:?}");
        text.len()
    };
    let bytes = facts.dns.iter().map(|transaction| {
        let answers = transaction.answers().map(|answer| size(answer.data)).sum::<usize>();
        transaction.query().map_or(0, size) + answers
    });
    // docs/faults.md: 4 KiB for a flow.
    assert!(bytes.sum::<usize>() <= 4096);
    (facts, counts)
}

fn udp(message: &[u8]) -> (u8, Vec<u8>) {
    let length = (8 + message.len() as u16).to_be_bytes();
    (17, [&[0x9c, 0x40, 0, 53], length.as_slice(), &[0, 0], message].concat())
}

fn tcp(seq: u32, bytes: &[u8]) -> (u8, Vec<u8>) {
    let seq = seq.to_be_bytes();
    let rest = [0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0];
    (6, [&[0x9c, 0x40, 0, 53], seq.as_slice(), &rest, bytes].concat())
}
