//! Inputs: packed, several, slow, failing, filtered.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::time::Instant;

use super::*;
#[cfg(feature = "live")]
use crate::packet::LinkType;

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

/// With a checksum at the end, as `zstd` writes it.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
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
        // The last byte belongs to a checksum: without it, with a wrong one in its place, with more behind it.
        assert_eq!(damaged(&packed[..packed.len() - 1]).0, 20_000);
        let mut broken = packed.clone();
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(damaged(&broken).0, 20_000);
        let mut broken = packed.clone();
        broken.extend_from_slice(&[0xEE; 40]);
        let (frames, offset, _) = damaged(&broken);
        assert_eq!((frames, offset), (20_000, file.bytes.len() as u64));
    }
}

#[test]
fn what_was_unpacked_before_damage_counts() {
    let bytes = three_packets();
    // A block of deflate and one of a kind that there is not.
    let mut deflate = flate2::Compress::new(flate2::Compression::fast(), false);
    let mut packed = Vec::with_capacity(1000);
    deflate.compress_vec(&bytes, &mut packed, flate2::FlushCompress::Full).unwrap();
    let gzip = [b"\x1f\x8b\x08\0\0\0\0\0\0\x03", packed.as_slice(), &[0xff; 9]].concat();
    // A block of zstd as it is and one of a kind that there is not.
    let header = (bytes.len() as u32) << 3;
    let zstd = [b"\x28\xb5\x2f\xfd\0\x58", &header.to_le_bytes()[..3], &bytes, &[0xff; 9]].concat();
    for packed in [gzip, zstd] {
        let (frames, offset, what) = damaged(&packed);
        assert_eq!((frames, offset), (3, bytes.len() as u64), "{what}");
    }
}

#[test]
fn how_the_bytes_come_does_not_move_the_damage() {
    let bytes = three_packets();
    let (frame, length) = (b"\x28\xb5\x2f\xfd", bytes.len() as u32);
    let block = |length: u32| (length << 3).to_le_bytes()[..3].to_vec();
    // The frame announces 256 bytes more than its one block has, which shows with the last of them.
    let last = [block(length)[0] | 1, block(length)[1], block(length)[2]];
    let too_short = [frame, b"\x60".as_slice(), &length.to_le_bytes()[..2], &last, &bytes].concat();
    // It announces fewer than its block has, of which the end is missing.
    let too_long = [frame, b"\x80\x58\x41\0\0\0".as_slice(), &block(length + 9), &bytes].concat();
    // The end of a block is missing.
    let cut = [frame, b"\0\x58".as_slice(), &block(length + 9), &bytes].concat();
    for (packed, expected) in [(too_short, bytes.len() - 1), (too_long, 0), (cut, bytes.len())] {
        for step in [1, 2, 3, 7, packed.len()] {
            let parts = packed.chunks(step).map(<[u8]>::to_vec).collect();
            let mut source = FileSource::from_reader("parts", Parts(parts));
            let damage = loop {
                match source.next(Duration::ZERO) {
                    Ok(next) => assert!(matches!(next, Next::Frame(_))),
                    Err(damage) => break damage,
                }
            };
            let Error::Damaged { offset, .. } = damage else { panic!("{damage}") };
            assert_eq!(offset, expected as u64, "{step} at a time");
        }
    }
}

/// Gives one part at a time.
struct Parts(VecDeque<Vec<u8>>);

impl Read for Parts {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(part) = self.0.pop_front() else { return Ok(0) };
        let (now, later) = part.split_at(part.len().min(into.len()));
        into[..now.len()].copy_from_slice(now);
        if !later.is_empty() {
            self.0.push_front(later.to_vec());
        }
        Ok(now.len())
    }
}

#[test]
fn all_that_a_gzip_header_can_have() {
    let bytes = three_packets();
    let plain = gzip(&bytes);
    let mut head = b"\x1f\x8b\x08\x1f\0\0\0\0\0\x03\x05\0extraa name\0and a comment\0".to_vec();
    let mut sum = flate2::Crc::new();
    sum.update(&head);
    head.extend(&sum.sum().to_le_bytes()[..2]);
    let packed = [head.as_slice(), &plain[10..]].concat();
    assert_eq!(sound(&packed), sound(&bytes));
    for cut in 4..head.len() {
        assert_eq!(damaged(&packed[..cut]).0, 0, "{cut}");
    }
    for (at, what) in [(3, "header"), (2, "header"), (head.len() - 1, "checksum of a gzip header")] {
        let mut broken = packed.clone();
        broken[at] ^= 0x80;
        assert!(damaged(&broken).2.contains(what), "{at}");
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

#[test]
fn a_long_way_without_a_packet_is_gone_in_parts() {
    let section = Writer::ng().bytes;
    let unknown = [b"\x99\x00\x00\x00\x0c\x00\x00\x00", &b"\x0c\x00\x00\x00"[..]].concat();
    let long = [b"\x99\x00\x00\x00", &0xffff_fff0u32.to_le_bytes()[..], &[0; 1000]].concat();
    let skipped = [b"\x50\x2A\x4D\x18", &u32::MAX.to_le_bytes()[..]].concat();
    let headers = [gzip(&[]), zstd(&[]), section.clone(), section.clone(), section.clone(), skipped];
    let repeated = [gzip(&[]), zstd(&[]), section, unknown, long, vec![0; 1000]];
    for (nth, (header, repeated)) in headers.into_iter().zip(repeated).enumerate() {
        let endless = Endless { header: header.into(), repeated, at: 0 };
        let mut source = FileSource::from_reader("endless", endless);
        let mut before = 0;
        for _ in 0..3 {
            assert!(matches!(source.next(Duration::ZERO), Ok(Next::Idle)), "{nth}");
            let read = source.counts().file_bytes;
            assert!((1..=5 << 20).contains(&(read - before)), "{nth}: {read} after {before}");
            before = read;
        }
    }
}

/// Something, and then something else again and again.
struct Endless {
    header: VecDeque<u8>,
    repeated: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *into {
            *byte = self.header.pop_front().unwrap_or_else(|| {
                self.at += 1;
                self.repeated[(self.at - 1) % self.repeated.len()]
            });
        }
        Ok(into.len())
    }
}

#[cfg(feature = "live")]
#[test]
fn a_filter_on_files() {
    let mut file = Writer::ng();
    let ipv4 = [&[0; 12][..], &[8, 0, 0x45], &[0; 40]].concat();
    file.interface(1, 0, &[]).interface(147, 0, &[]);
    file.enhanced(0, 1, 60, &[0; 60]).enhanced(0, 2, 60, &ipv4).enhanced(1, 3, 60, &ipv4);
    file.enhanced(1, 4, 60, &ipv4).enhanced(0, 5, 1500, &ipv4).enhanced(0, 6, 60, &ipv4);
    let source = FileSource::from_reader("test", io::Cursor::new(file.bytes));
    let mut source = source.with_filter("ip and less 100").unwrap();
    for time in [2000, 6000] {
        let Ok(Next::Frame(frame)) = source.next(Duration::ZERO) else { panic!("no frame") };
        assert_eq!((frame.time.unwrap().as_nanos(), frame.link), (time, LinkType(1)));
    }
    assert!(matches!(source.next(Duration::ZERO), Ok(Next::End)));
    assert_eq!(source.counts().filtered, 4);
}

#[cfg(feature = "live")]
#[test]
fn a_filter_that_fits_no_link_type_of_the_input_is_an_error_at_its_end() {
    let mut file = Writer::ng();
    file.interface(147, 0, &[])
        .interface(9999, 0, &[])
        .enhanced(0, 1, 60, &[0; 60])
        .enhanced(1, 2, 60, &[0; 60]);
    let source = FileSource::from_reader("test", io::Cursor::new(file.bytes));
    let mut source = source.with_filter("ip").unwrap();
    assert!(matches!(source.next(Duration::ZERO), Err(Error::Filter { .. })));
    assert!(matches!(source.next(Duration::ZERO), Ok(Next::End)));
    assert_eq!(source.counts().filtered, 2);
}
