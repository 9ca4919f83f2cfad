//! Any bytes as a DNS message, over UDP and, behind its length, over TCP.
#![no_main]

use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::key::Dir;
use flowcore::l7::{Conversation, L7Counts};
use flowcore::packet::{Frame, LinkType};
use libfuzzer_sys::fuzz_target;

/// A link type without header: packets begin with IP.
const RAW: LinkType = LinkType(101);

fuzz_target!(|message: &[u8]| {
    if message.len() > 60_000 {
        return;
    }
    let mut udp = vec![0x9c, 0x40, 0, 53];
    udp.extend((8 + message.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(message);
    read(17, &udp);

    let mut tcp = vec![0x9c, 0x40, 0, 53, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0];
    tcp.extend((message.len() as u16).to_be_bytes());
    tcp.extend(message);
    read(6, &tcp);
});

fn read(protocol: u8, segment: &[u8]) {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + segment.len() as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(segment);
    let frame =
        Frame { data: &packet, time: None, wire_len: packet.len() as u32, link: RAW, interface: None };
    let (mut conversation, mut counts) = (Conversation::default(), L7Counts::default());
    Decoder::new(DecodeOptions::default()).decode(&frame, |packet| {
        conversation.read(&packet, Dir::Fwd, &mut counts);
        conversation.read(&packet, Dir::Rev, &mut counts);
    });
    assert!(conversation.heap_bytes() <= 256 << 10);
    for transaction in conversation.finish(true).dns {
        assert!(transaction.query().is_none_or(|query| query.len() <= 4 * 255));
    }
}
