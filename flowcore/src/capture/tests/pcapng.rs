//! pcapng: sections, interfaces, block types, times, damage.

use super::*;
use crate::capture::window::BUFFER_LEN;

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
fn a_name_that_is_no_utf_8_is_no_longer_than_others() {
    let mut file = Writer::ng();
    file.interface(1, 0, &[(2, &[0xff; 255])]).enhanced(0, 1, 1, b"a");
    let mut source = FileSource::from_reader("test", io::Cursor::new(file.bytes));
    let Ok(Next::Frame(frame)) = source.next(Duration::ZERO) else { panic!("no frame") };
    assert_eq!(&**frame.interface.unwrap(), "\u{fffd}".repeat(85));
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
