//! Capture files written here byte by byte: each odd kind, each kind of damage.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::bytes::Order;
use super::window::BUFFER_LEN;
use super::{FileSource, Next, Source};
use crate::error::Error;
use crate::packet::LinkType;

/// What a frame of a test is compared by.
#[derive(PartialEq, Debug, Clone)]
struct Seen {
    nanos: Option<i64>,
    data: Vec<u8>,
    wire_len: u32,
    link: u32,
    interface: Option<String>,
}

fn read(mut source: FileSource) -> (Vec<Seen>, Option<(u64, String)>) {
    let mut frames = Vec::new();
    loop {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => frames.push(Seen {
                nanos: frame.time.map(|time| time.as_nanos()),
                data: frame.data.to_vec(),
                wire_len: frame.wire_len,
                link: frame.link.0,
                interface: frame.interface.map(|name| name.to_string()),
            }),
            Ok(Next::End) => return (frames, None),
            Ok(Next::Idle) => panic!("waits"),
            Err(Error::Damaged { offset, what, .. }) => return (frames, Some((offset, what))),
            Err(error) => panic!("{error}"),
        }
    }
}

fn read_bytes(bytes: &[u8]) -> (Vec<Seen>, Option<(u64, String)>) {
    read(FileSource::from_reader("test", io::Cursor::new(bytes.to_vec())))
}

/// Reads what has to be sound.
fn sound(bytes: &[u8]) -> Vec<Seen> {
    let (frames, damage) = read_bytes(bytes);
    assert_eq!(damage, None);
    frames
}

/// Reads what has to be damaged; returns the number of frames before, and where and what the damage is.
fn damaged(bytes: &[u8]) -> (usize, u64, String) {
    let (frames, damage) = read_bytes(bytes);
    let (offset, what) = damage.expect("no damage found");
    (frames.len(), offset, what)
}

/// Writes numbers in a byte order.
struct Writer {
    bytes: Vec<u8>,
    order: Order,
}

impl Writer {
    fn new(order: Order) -> Self {
        Writer { bytes: Vec::new(), order }
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        let bytes = if self.order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        self.put(&bytes)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        let bytes = if self.order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    // ---- pcap

    fn pcap(order: Order, magic: u32, version: (u16, u16), snaplen: u32, link: u32) -> Self {
        let mut writer = Writer::new(order);
        writer.u32(magic).u16(version.0).u16(version.1).u32(0).u32(0).u32(snaplen).u32(link);
        writer
    }

    fn micros() -> Self {
        Writer::pcap(Order::Little, MICROS, (2, 4), 262_144, 1)
    }

    fn record(&mut self, seconds: u32, ticks: u32, wire: u32, data: &[u8]) -> &mut Self {
        self.u32(seconds).u32(ticks).u32(data.len() as u32).u32(wire).put(data)
    }

    // ---- pcapng

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let len = padded as u32 + 12;
        self.u32(kind).u32(len).put(body).put(&[0; 3][..padded - body.len()]).u32(len)
    }

    /// Starts a section; what follows is in its byte order.
    fn section(&mut self, order: Order, version: (u16, u16)) -> &mut Self {
        self.order = order;
        let mut body = Writer::new(order);
        body.u32(0x1A2B_3C4D).u16(version.0).u16(version.1).u32(u32::MAX).u32(u32::MAX);
        self.block(SECTION, &body.bytes)
    }

    fn interface(&mut self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = Writer::new(self.order);
        body.u16(link).u16(0).u32(snaplen);
        for (code, value) in options {
            body.u16(*code).u16(value.len() as u16).put(value);
            body.put(&[0; 3][..value.len().next_multiple_of(4) - value.len()]);
        }
        body.u16(0).u16(0);
        self.block(1, &body.bytes)
    }

    fn enhanced(&mut self, interface: u32, ticks: u64, wire: u32, data: &[u8]) -> &mut Self {
        let body = self.enhanced_body(interface, ticks, data.len() as u32, wire, data);
        self.block(6, &body)
    }

    fn enhanced_body(&self, interface: u32, ticks: u64, captured: u32, wire: u32, data: &[u8]) -> Vec<u8> {
        let mut body = Writer::new(self.order);
        body.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32).u32(captured).u32(wire).put(data);
        body.bytes
    }

    fn ng() -> Self {
        let mut writer = Writer::new(Order::Little);
        writer.section(Order::Little, (1, 0));
        writer
    }
}

const MICROS: u32 = 0xA1B2_C3D4;
const NANOS: u32 = 0xA1B2_3C4D;
const MODIFIED: u32 = 0xA1B2_CD34;
const SECTION: u32 = 0x0A0D_0D0A;
const BOTH: [Order; 2] = [Order::Little, Order::Big];

// ---- pcap

#[test]
fn both_byte_orders_and_both_resolutions() {
    for order in BOTH {
        for (magic, nanos) in [(MICROS, 1_700_000_000_000_007_000), (NANOS, 1_700_000_000_000_000_007)] {
            let mut file = Writer::pcap(order, magic, (2, 4), 65_535, 113);
            file.record(1_700_000_000, 7, 100, b"abc").record(u32::MAX, 0, 0, b"");
            let frames = sound(&file.bytes);
            let first =
                Seen { nanos: Some(nanos), data: b"abc".to_vec(), wire_len: 100, link: 113, interface: None };
            assert_eq!(frames[0], first);
            assert_eq!(frames[1].nanos, Some(4_294_967_295_000_000_000));
            assert_eq!(frames.len(), 2);
        }
    }
}

#[test]
fn fractions_of_a_second_and_above_carry() {
    let mut file = Writer::micros();
    file.record(10, 1_000_000, 1, b"a").record(10, u32::MAX, 1, b"b");
    let nanos: Vec<_> = sound(&file.bytes).iter().map(|frame| frame.nanos.unwrap()).collect();
    assert_eq!(nanos, [11_000_000_000, 10_000_000_000 + 4_294_967_295_000]);
}

#[test]
fn modified_format_has_longer_record_headers() {
    for order in BOTH {
        let mut file = Writer::pcap(order, MODIFIED, (2, 4), 65_535, 1);
        file.u32(1).u32(2).u32(3).u32(60).u32(4).u16(0x0800).put(&[0, 0]).put(b"abc");
        file.u32(2).u32(2).u32(1).u32(60).u32(4).u16(0x0800).put(&[0, 0]).put(b"z");
        let data: Vec<_> = sound(&file.bytes).into_iter().map(|frame| frame.data).collect();
        assert_eq!(data, [b"abc".to_vec(), b"z".to_vec()]);
    }
}

#[test]
fn old_versions_swap_the_lengths() {
    let lengths = |version, first: u32, second: u32, data: &[u8]| {
        let mut file = Writer::pcap(Order::Little, MICROS, version, 65_535, 1);
        file.u32(0).u32(0).u32(first).u32(second).put(data);
        let frames = sound(&file.bytes);
        (frames[0].data.len(), frames[0].wire_len)
    };
    for version in [(2, 0), (2, 2)] {
        assert_eq!(lengths(version, 60, 3, b"abc"), (3, 60));
    }
    assert_eq!(lengths((2, 3), 60, 3, b"abc"), (3, 60));
    assert_eq!(lengths((2, 3), 3, 60, b"abc"), (3, 60));
    assert_eq!(lengths((2, 4), 3, 60, b"abc"), (3, 60));
    assert_eq!(lengths((2, 4), 3, 2, b"abc"), (3, 2));
    assert_eq!(lengths((543, 0), 3, 60, b"abc"), (3, 60));
}

#[test]
fn other_versions_are_refused() {
    for version in [(1, 4), (2, 5), (3, 0), (543, 1), (0, 0)] {
        let file = Writer::pcap(Order::Big, MICROS, version, 65_535, 1);
        let (frames, offset, what) = damaged(&file.bytes);
        assert_eq!((frames, offset), (0, 4));
        assert!(what.contains("version"), "{what}");
    }
}

#[test]
fn upper_bits_of_the_link_type_are_no_link_type() {
    let mut file = Writer::pcap(Order::Little, MICROS, (2, 4), 65_535, 0x2400_0001);
    file.record(0, 0, 1, b"a");
    assert_eq!(sound(&file.bytes)[0].link, 1);
}

#[test]
fn packets_are_cut_to_the_snapshot_length() {
    for (snaplen, len) in [(4, 4), (0, 10), (u32::MAX, 10), (10, 10), (300_000, 10)] {
        let mut file = Writer::pcap(Order::Little, MICROS, (2, 4), snaplen, 1);
        file.record(0, 0, 12, b"0123456789").record(0, 0, 1, b"z");
        let frames = sound(&file.bytes);
        assert_eq!((frames[0].data.len(), frames[0].wire_len), (len, 12), "snaplen {snaplen}");
        assert_eq!(frames[1].data, b"z");
    }
}

#[test]
fn damage_in_pcap_comes_after_the_packets_before_it() {
    let mut file = Writer::micros();
    file.record(0, 0, 60, &[1; 60]).record(1, 0, 60, &[2; 60]);
    assert_eq!(sound(&file.bytes).len(), 2);
    let second = 24 + 76;
    for cut in 1..76 {
        let (frames, offset, _) = damaged(&file.bytes[..second + cut]);
        assert_eq!((frames, offset), (1, second as u64), "cut after {cut} bytes");
    }
    for cut in 0..24 {
        assert_eq!(damaged(&file.bytes[..cut]).0, 0, "cut after {cut} bytes");
    }
    assert_eq!(sound(&file.bytes[..24]).len(), 0);
    file.u32(2).u32(0).u32(262_145).u32(262_145).put(&[0; 100]);
    let (frames, offset, what) = damaged(&file.bytes);
    assert_eq!((frames, offset), (2, 24 + 2 * 76));
    assert!(what.contains("262145"), "{what}");
}

#[test]
fn no_capture_file() {
    assert_eq!(damaged(b"").1, 0);
    assert_eq!(damaged(b"\xD4\xC3\xB2").1, 0);
    assert!(damaged(b"this is text, and no capture file at all").2.contains("74, 68, 69, 73"));
}

#[test]
fn a_packet_may_lie_across_reads() {
    let mut file = Writer::micros();
    let mut expected = Vec::new();
    for i in 0..3000u32 {
        let data = vec![i as u8; (i * 37 % 1500) as usize];
        file.record(i, 0, 1500, &data);
        expected.push(data);
    }
    // The largest packet there may be is larger than the buffer.
    let large = vec![7; 262_144];
    file.record(0, 0, 262_144, &large).record(0, 0, 1, b"z");
    expected.extend([large, b"z".to_vec()]);
    assert!(file.bytes.len() > 4 * BUFFER_LEN);
    let data: Vec<_> = sound(&file.bytes).into_iter().map(|frame| frame.data).collect();
    assert!(data == expected);
}

// ---- pcapng

#[test]
fn sections_interfaces_and_their_byte_orders() {
    for (first, second) in [(Order::Little, Order::Big), (Order::Big, Order::Little)] {
        let mut file = Writer::new(first);
        file.section(first, (1, 0)).interface(1, 96, &[(2, b"eth0")]).interface(101, 0, &[(2, b"tun7\0")]);
        // The snapshot length of an interface does not cut.
        file.enhanced(1, 5, 60, b"raw").enhanced(0, 6, 200, &[9; 150]);
        file.section(second, (1, 2)).interface(113, 0, &[]).enhanced(0, 7, 60, b"sll");
        let frames = sound(&file.bytes);
        let names: Vec<_> = frames.iter().map(|frame| frame.interface.as_deref()).collect();
        assert_eq!(names, [Some("tun7"), Some("eth0"), None]);
        let links: Vec<_> = frames.iter().map(|frame| frame.link).collect();
        assert_eq!(links, [101, 1, 113]);
        assert_eq!(frames[0].data, b"raw");
        assert_eq!((frames[1].data.len(), frames[1].wire_len), (150, 200));
        let nanos: Vec<_> = frames.iter().map(|frame| frame.nanos).collect();
        assert_eq!(nanos, [Some(5000), Some(6000), Some(7000)]);
    }
}

#[test]
fn an_interface_has_one_name_for_all_its_frames() {
    let mut file = Writer::ng();
    file.interface(1, 0, &[(2, b"eth0")]).enhanced(0, 1, 1, b"a").enhanced(0, 2, 1, b"b");
    let mut source = FileSource::from_reader("test", io::Cursor::new(file.bytes));
    let mut names = Vec::new();
    while let Ok(Next::Frame(frame)) = source.next(Duration::ZERO) {
        names.push(frame.interface.unwrap().clone());
    }
    assert!(std::sync::Arc::ptr_eq(&names[0], &names[1]));
}

#[test]
fn simple_packets_have_no_time_and_a_length_of_their_own() {
    let mut file = Writer::ng();
    file.interface(1, 4, &[]).interface(101, 0, &[]);
    let mut body = Writer::new(Order::Little);
    body.u32(9).put(b"012345678");
    file.block(3, &body.bytes);
    let frames = sound(&file.bytes);
    assert_eq!(
        frames[0],
        Seen { nanos: None, data: b"0123".to_vec(), wire_len: 9, link: 1, interface: None }
    );

    // No snapshot length: padding is no data, and no more than the block has.
    for (wire, len) in [(9, 9), (100, 12), (u32::MAX, 12), (0, 0)] {
        let mut file = Writer::ng();
        file.interface(1, 0, &[]);
        let mut body = Writer::new(Order::Little);
        body.u32(wire).put(b"012345678");
        file.block(3, &body.bytes);
        assert_eq!(sound(&file.bytes)[0].data.len(), len);
    }
}

#[test]
fn obsolete_packets() {
    for order in BOTH {
        let mut file = Writer::new(order);
        file.section(order, (1, 0)).interface(1, 0, &[]).interface(12, 0, &[]);
        let mut body = Writer::new(order);
        body.u16(1).u16(77).u32(1).u32(2).u32(3).u32(60).put(b"abc");
        file.block(2, &body.bytes);
        let frames = sound(&file.bytes);
        let nanos = ((1i64 << 32) + 2) * 1000;
        assert_eq!(
            frames[0],
            Seen { nanos: Some(nanos), data: b"abc".to_vec(), wire_len: 60, link: 12, interface: None }
        );
    }
}

#[test]
fn other_blocks_are_passed_over() {
    let mut file = Writer::ng();
    file.block(4, b"names").interface(1, 0, &[]).block(5, &[0; 40]).enhanced(0, 1, 1, b"a");
    file.block(0x8000_0001, &vec![1; 3 * BUFFER_LEN + 1]).block(0x0BAD, b"").enhanced(0, 2, 1, b"b");
    let data: Vec<_> = sound(&file.bytes).into_iter().map(|frame| frame.data).collect();
    assert_eq!(data, [b"a", b"b"]);
}

#[test]
fn resolutions_and_offsets() {
    let nanos = |options: &[(u16, &[u8])], ticks| {
        let mut file = Writer::ng();
        file.interface(1, 0, options).enhanced(0, ticks, 1, b"a");
        let mut source = FileSource::from_reader("test", io::Cursor::new(file.bytes));
        let nanos = match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => frame.time.unwrap().as_nanos(),
            other => panic!("{other:?}"),
        };
        (nanos, source.counts().times_clamped)
    };
    let resolution = |byte: u8, ticks| nanos(&[(9, &[byte])], ticks);
    assert_eq!(nanos(&[], 3), (3000, 0));
    assert_eq!(resolution(0, 3), (3_000_000_000, 0));
    assert_eq!(resolution(3, 3), (3_000_000, 0));
    assert_eq!(resolution(9, u64::MAX / 2), (i64::MAX, 0));
    assert_eq!(resolution(9, u64::MAX), (i64::MAX, 1));
    assert_eq!(resolution(0, u64::MAX), (i64::MAX, 1));
    assert_eq!(resolution(10, 19), (1, 0));
    assert_eq!(resolution(12, u64::MAX), (18_446_744_073_709_551, 0));
    assert_eq!(resolution(28, u64::MAX), (1, 0)); // 10^-28 s: 1.8 ns
    assert_eq!(resolution(29, u64::MAX), (0, 0));
    assert_eq!(resolution(127, u64::MAX), (0, 0));
    assert_eq!(resolution(0x80, 3), (3_000_000_000, 0));
    assert_eq!(resolution(0x80 | 10, 1536), (1_500_000_000, 0));
    assert_eq!(resolution(0x80 | 32, 1), (0, 0)); // 0.23 ns
    assert_eq!(resolution(0x80 | 63, u64::MAX), (1_999_999_999, 0));
    assert_eq!(resolution(0xFF, u64::MAX), (0, 0));
    let offset = |seconds: i64, ticks| nanos(&[(14, &seconds.to_le_bytes())], ticks);
    assert_eq!(offset(100, 1), (100_000_001_000, 0));
    assert_eq!(offset(-1, 1), (-999_999_000, 0));
    assert_eq!(offset(i64::MIN, 0), (i64::MIN, 1));
    assert_eq!(offset(i64::MAX, u64::MAX), (i64::MAX, 1));
    // An option without its value changes nothing.
    assert_eq!(nanos(&[(9, b""), (14, b"1234")], 3), (3000, 0));
}

#[test]
fn damage_in_pcapng_comes_after_the_packets_before_it() {
    let mut file = Writer::ng();
    file.interface(1, 0, &[]).enhanced(0, 1, 60, &[1; 60]);
    let sound_len = file.bytes.len();
    assert_eq!(sound(&file.bytes).len(), 1);
    let damage = |what: &str, build: &dyn Fn(&mut Writer)| {
        let mut file = Writer { bytes: file.bytes.clone(), order: Order::Little };
        build(&mut file);
        let (frames, offset, said) = damaged(&file.bytes);
        assert_eq!((frames, offset), (1, sound_len as u64), "{what}: {said}");
        assert!(said.contains(what), "{what}: {said}");
    };
    damage("length 0", &|file| {
        file.u32(6).u32(0).put(&[0; 40]);
    });
    damage("length 8", &|file| {
        file.u32(6).u32(8).put(&[0; 40]);
    });
    damage("length 33", &|file| {
        file.u32(6).u32(33).put(&[0; 40]);
    });
    damage("longer than", &|file| {
        file.u32(6).u32(0xFFFF_FFF0).put(&[0; 40]);
    });
    damage("block cut", &|file| {
        file.u32(6).u32(1 << 20).put(&[0; 40]);
    });
    damage("block cut", &|file| {
        file.u32(5).u32(0xFFFF_FFF0).put(&[0; 40]);
    });
    damage("block header cut", &|file| {
        file.u32(6).u32(12);
    });
    damage("lengths differ", &|file| {
        file.u32(6).u32(36).put(&[0; 24]).u32(8);
    });
    damage("lengths differ", &|file| {
        file.u32(5).u32(16).put(&[0; 4]).u32(12);
    });
    damage("too short", &|file| {
        file.block(6, &[0; 16]);
    });
    damage("too short", &|file| {
        file.block(3, &[]);
    });
    damage("too short", &|file| {
        file.block(1, &[0; 4]);
    });
    damage("beyond its block", &|file| {
        let body = file.enhanced_body(0, 1, 61, 61, &[0; 60]);
        file.block(6, &body);
    });
    damage("interface 1", &|file| {
        file.enhanced(1, 1, 1, b"a");
    });
    damage("no byte order", &|file| {
        file.u32(SECTION).u32(28).put(&[0; 16]).u32(28);
    });
    damage("too short", &|file| {
        file.u32(SECTION).u32(24).u32(0x1A2B_3C4D).put(&[0; 8]).u32(24).put(&[0; 4]);
    });
    damage("section header cut", &|file| {
        file.u32(SECTION).u32(28).u32(0x1A2B_3C4D);
    });
    damage("version 2.0", &|file| {
        file.section(Order::Big, (2, 0));
    });
    damage("version 1.1", &|file| {
        file.section(Order::Little, (1, 1));
    });
}

#[test]
fn a_new_section_forgets_the_interfaces() {
    let mut file = Writer::ng();
    file.interface(1, 0, &[]).enhanced(0, 1, 1, b"a").section(Order::Little, (1, 0));
    let offset = file.bytes.len() as u64;
    file.enhanced(0, 1, 1, b"b");
    let (frames, at, what) = damaged(&file.bytes);
    assert_eq!((frames, at), (1, offset));
    assert!(what.contains("unknown"), "{what}");
    let mut empty = Writer::ng();
    let mut simple = Writer::new(Order::Little);
    simple.u32(1).put(b"a");
    empty.block(3, &simple.bytes);
    assert_eq!(damaged(&empty.bytes).0, 0);
}

#[test]
fn an_interface_may_not_cost_memory_without_end() {
    let mut file = Writer::ng();
    for _ in 0..65_537 {
        file.interface(1, 0, &[]);
    }
    assert!(damaged(&file.bytes).2.contains("more than 65536 interfaces"));
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut file = Writer::ng();
    file.interface(1, 0, &[(2, b"eth0"), (9, &[6])]).enhanced(0, 1, 60, &[1; 60]).block(5, &[0; 12]);
    let mut classic = Writer::micros();
    classic.record(0, 0, 60, &[1; 60]).record(1, 0, 60, &[2; 60]);
    for sound in [file.bytes, classic.bytes] {
        for at in 0..sound.len() {
            for value in [0, 1, 0x0A, 0x7F, 0x80, 0xFF] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                read_bytes(&bytes);
            }
        }
    }
}

// ---- packed, several, slow

fn three_packets() -> Vec<u8> {
    let mut file = Writer::micros();
    for i in 0..3 {
        file.record(i, 0, 60, &[i as u8; 60]);
    }
    file.bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn packed_inputs_of_several_parts() {
    let bytes = three_packets();
    let expected = sound(&bytes);
    for pack in [gzip, zstd] {
        assert_eq!(sound(&pack(&bytes)), expected);
        let parts: Vec<u8> = bytes.chunks(50).flat_map(pack).collect();
        assert_eq!(sound(&parts), expected);
    }
    let mut skippable = b"\x52\x2A\x4D\x18\x03\x00\x00\x00abc".to_vec();
    skippable.extend(zstd(&bytes));
    assert_eq!(sound(&skippable), expected);
}

#[test]
fn packed_inputs_that_are_cut_or_broken() {
    // Bytes that do not pack well, so that every part of the packed file stands for a few packets.
    let mut file = Writer::micros();
    let mut random = 1u32;
    for i in 0..20_000 {
        let data: Vec<u8> = (0..100)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        file.record(i, 0, 100, &data);
    }
    for pack in [gzip, zstd] {
        let packed = pack(&file.bytes);
        let (frames, offset, what) = damaged(&packed[..packed.len() / 2]);
        assert!((8000..=10_000).contains(&frames), "{frames} frames, {what}");
        assert!(offset > 900_000, "{offset}");
        // Whole, but for the last byte: zstd packs in blocks of 128 KiB.
        assert!(damaged(&packed[..packed.len() - 1]).0 >= 18_000);
        let mut broken = packed.clone();
        broken.extend_from_slice(&[0xEE; 40]);
        let (frames, offset, _) = damaged(&broken);
        assert_eq!((frames, offset), (20_000, file.bytes.len() as u64));
    }
}

#[test]
fn after_damage_comes_the_next_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let sound = three_packets();
    let paths = [path("a", &sound), path("b", &sound[..150]), path("c", b""), path("d", &gzip(&sound))];
    let mut source = FileSource::open(&paths).unwrap();
    let total: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(source.total_bytes(), Some(total));
    let mut story = String::new();
    loop {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(_)) => story.push('.'),
            Ok(Next::Idle) => story.push('_'),
            Ok(Next::End) => break,
            Err(Error::Damaged { name, .. }) => story.push_str(&name[name.len() - 1..]),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(story, "....bc...");
    assert!(matches!(source.next(Duration::ZERO), Ok(Next::End)));
    assert_eq!(source.counts().file_bytes, total);
    assert!(!source.is_live());
}

#[test]
fn all_inputs_are_opened_first() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    std::fs::write(&there, three_packets()).unwrap();
    let missing = folder.path().join("missing");
    let Err(Error::Input { name, source }) = FileSource::open(&[&there, &missing]) else { panic!("opened") };
    assert_eq!(name, missing.display().to_string());
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
    let folder_error = FileSource::open(&[folder.path()]);
    assert!(matches!(folder_error, Err(Error::Input { source, .. })
        if source.kind() == io::ErrorKind::IsADirectory));
    assert!(matches!(FileSource::open::<&str>(&[]).unwrap().next(Duration::ZERO), Ok(Next::End)));
}

#[test]
fn a_reader_that_fails_is_an_input_error() {
    struct Failing(bool);
    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let bytes = three_packets();
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::from_raw_os_error(5));
            }
            into[..4].copy_from_slice(&bytes[..4]);
            Ok(4)
        }
    }
    let mut source = FileSource::from_reader("disk", Failing(false));
    assert!(matches!(source.next(Duration::ZERO), Err(Error::Input { name, .. }) if name == "disk"));
    assert!(matches!(source.next(Duration::ZERO), Ok(Next::End)));
}

#[test]
fn a_stalled_pipe_is_idle() {
    let bytes = three_packets();
    for bytes in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let mut source = FileSource::open(&[path]).unwrap();
        assert_eq!(source.total_bytes(), None);
        let patience = Duration::from_millis(20);
        let mut frames = 0;
        for part in bytes.chunks(bytes.len().div_ceil(7)) {
            loop {
                let began = Instant::now();
                match source.next(patience).unwrap() {
                    Next::Frame(_) => frames += 1,
                    Next::Idle => {
                        let waited = began.elapsed();
                        assert!(waited >= patience && waited < 50 * patience, "waited {waited:?}");
                        break;
                    }
                    Next::End => panic!("ended"),
                }
            }
            writer.write_all(part).unwrap();
        }
        drop(writer);
        while let Next::Frame(_) = source.next(patience).unwrap() {
            frames += 1;
        }
        assert_eq!(frames, 3);
    }
}

#[cfg(feature = "live")]
#[test]
fn a_filter_on_files() {
    let mut file = Writer::ng();
    let ipv4 = [&[0; 12][..], &[8, 0, 0x45], &[0; 40]].concat();
    file.interface(1, 0, &[]).interface(147, 0, &[]);
    file.enhanced(0, 1, 60, &[0; 60]).enhanced(0, 2, 60, &ipv4).enhanced(1, 3, 60, &ipv4);
    file.enhanced(1, 4, 60, &ipv4).enhanced(0, 5, 1500, &ipv4);
    let source = FileSource::from_reader("test", io::Cursor::new(file.bytes));
    let mut source = source.with_filter("ip and less 100").unwrap();
    let Ok(Next::Frame(frame)) = source.next(Duration::ZERO) else { panic!("no frame") };
    assert_eq!((frame.time.unwrap().as_nanos(), frame.link), (2000, LinkType(1)));
    assert!(matches!(source.next(Duration::ZERO), Err(Error::Filter { .. })));
    assert!(matches!(source.next(Duration::ZERO), Ok(Next::End)));
    assert_eq!(source.counts().filtered, 4);
}
