//! pcap: byte orders, resolutions, versions, damage.

use super::*;
use crate::capture::window::BUFFER_LEN;

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
    for version in [(2, 0), (2, 2), (543, 0)] {
        assert_eq!(lengths(version, 60, 3, b"abc"), (3, 60));
    }
    assert_eq!(lengths((2, 3), 60, 3, b"abc"), (3, 60));
    assert_eq!(lengths((2, 3), 3, 60, b"abc"), (3, 60));
    assert_eq!(lengths((2, 4), 3, 60, b"abc"), (3, 60));
    assert_eq!(lengths((2, 4), 3, 2, b"abc"), (3, 2));
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
