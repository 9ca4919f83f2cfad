//! Frames: a header of fixed size, then whole lines compressed. All numbers are little-endian.
//!
//! The header has a checksum of its own, so that where the next frame begins and which records are lost is known even
//! where the lines are damaged.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::gap::GapReason;
use crate::time::Timestamp;

/// What stands in front of the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Why records are missing; none in a frame of records.
    pub gap: Option<GapReason>,
    /// The length of the lines.
    pub raw_len: u32,
    /// Their length as they are on disk.
    pub packed_len: u32,
    /// The CRC-32 of what is on disk.
    pub checksum: u32,
    /// Whose records they are.
    pub instance: u64,
    /// The number of the first record.
    pub first_seq: u64,
    /// How many records there are, or are missing; never 0.
    pub records: u64,
    /// When the first record came.
    pub time: Timestamp,
}

impl Header {
    /// Makes the header of a frame without lines, which says that records are missing.
    pub(super) fn of_gap(
        reason: GapReason,
        instance: u64,
        first_seq: u64,
        records: u64,
        time: Timestamp,
    ) -> Self {
        let checksum = crc32fast::hash(&[]);
        Header { gap: Some(reason), raw_len: 0, packed_len: 0, checksum, instance, first_seq, records, time }
    }

    /// Returns the number after the last one of this frame.
    pub(super) fn end(&self) -> u64 {
        self.first_seq.saturating_add(self.records)
    }

    /// Returns the length of the frame on disk.
    pub(super) fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.packed_len)
    }

    /// Writes the header as it stands on disk.
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let kind = self.gap.map_or(0, GapReason::code);
        let mut bytes = [0; HEADER_LEN];
        let mut rest = bytes.as_mut_slice();
        let mut put = |part: &[u8]| {
            if let Some((place, behind)) = std::mem::take(&mut rest).split_at_mut_checked(part.len()) {
                place.copy_from_slice(part);
                rest = behind;
            }
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&kind.to_le_bytes());
        put(&self.raw_len.to_le_bytes());
        put(&self.packed_len.to_le_bytes());
        put(&self.checksum.to_le_bytes());
        put(&self.instance.to_le_bytes());
        put(&self.first_seq.to_le_bytes());
        put(&self.records.to_le_bytes());
        put(&self.time.as_nanos().to_le_bytes());
        if let Some((sum, before)) = bytes.split_last_chunk_mut::<4>().map(|(before, sum)| (sum, before)) {
            *sum = crc32fast::hash(before).to_le_bytes();
        }
        bytes
    }

    /// Reads a header; none where there is none, or one that nobody can have written.
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.first_chunk::<HEADER_LEN>()?;
        let (before, sum) = bytes.split_last_chunk::<4>()?;
        let fields = before.strip_prefix(&MAGIC)?;
        if crc32fast::hash(before) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut fields = Fields(fields);
        let (version, kind) = (u16::from_le_bytes(fields.next()?), u16::from_le_bytes(fields.next()?));
        let header = Header {
            gap: GapReason::of_code(kind),
            raw_len: u32::from_le_bytes(fields.next()?),
            packed_len: u32::from_le_bytes(fields.next()?),
            checksum: u32::from_le_bytes(fields.next()?),
            instance: u64::from_le_bytes(fields.next()?),
            first_seq: u64::from_le_bytes(fields.next()?),
            records: u64::from_le_bytes(fields.next()?),
            time: Timestamp::from_nanos(i64::from_le_bytes(fields.next()?)),
        };
        let is_known = version == VERSION && (kind == 0 || header.gap.is_some());
        let has_lines = header.gap.is_none();
        let lengths_fit = header.raw_len <= MAX_RAW
            && header.packed_len <= MAX_PACKED
            && (header.raw_len > 0) == has_lines
            && (header.packed_len > 0) == has_lines;
        let numbers_fit = header.records > 0
            && header.first_seq.checked_add(header.records).is_some_and(|end| end <= MAX_SEQ)
            && (!has_lines || header.records <= u64::from(header.raw_len));
        (is_known && lengths_fit && numbers_fit).then_some(header)
    }
}

/// Takes a row of numbers apart.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

/// Makes frames of lines, in a buffer that it keeps.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    frame: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Packer { compressor: Compressor::new(LEVEL)?, frame: Vec::new() })
    }

    /// Makes a frame of lines; the lengths and the checksum of the header are put in.
    pub(super) fn pack(&mut self, mut header: Header, lines: &[u8]) -> io::Result<(Header, &[u8])> {
        let bound = zstd::zstd_safe::compress_bound(lines.len());
        self.frame.resize(self.frame.len().max(HEADER_LEN + bound), 0);
        let (head, body) = self.frame.split_at_mut_checked(HEADER_LEN).ok_or(io::ErrorKind::InvalidInput)?;
        let packed_len = self.compressor.compress_to_buffer(lines, body)?;
        header.checksum = crc32fast::hash(body.get(..packed_len).unwrap_or_default());
        header.raw_len = length(lines.len())?;
        header.packed_len = length(packed_len)?;
        head.copy_from_slice(&header.to_bytes());
        Ok((header, self.frame.get(..HEADER_LEN + packed_len).unwrap_or_default()))
    }
}

/// Makes lines of frames.
pub(super) struct Unpacker(Decompressor<'static>);

impl Unpacker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Unpacker(Decompressor::new()?))
    }

    /// Puts the lines of a frame into `raw`; false where they are not what the header says.
    pub(super) fn unpack(&mut self, header: &Header, packed: &[u8], raw: &mut Vec<u8>) -> bool {
        raw.clear();
        let raw_len = header.raw_len as usize;
        raw.reserve(raw_len);
        let unpacked = self.0.decompress_to_buffer(packed, raw);
        unpacked.is_ok_and(|len| len == raw_len)
            && raw.last() == Some(&b'\n')
            && raw.iter().filter(|&&byte| byte == b'\n').count() as u64 == header.records
    }
}

fn length(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// Begins every frame; not UTF-8, so that no text has it.
pub(super) const MAGIC: [u8; 8] = *b"\xF1fcspl\x1A\n";

/// Bytes of a header.
pub(super) const HEADER_LEN: usize = 60;

/// The most that lines of one frame may be.
pub(super) const MAX_RAW: u32 = 8 << 20;

/// Numbers stay below this.
pub(super) const MAX_SEQ: u64 = 1 << 63;

/// The most that MAX_RAW bytes can become.
const MAX_PACKED: u32 = MAX_RAW + (MAX_RAW >> 8) + 64;

const VERSION: u16 = 1;

/// Compression has to keep up with the records.
const LEVEL: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(records: u64) -> Header {
        Header {
            gap: None,
            raw_len: 0,
            packed_len: 0,
            checksum: 0,
            instance: 7,
            first_seq: 40,
            records,
            time: Timestamp::from_nanos(5),
        }
    }

    #[test]
    fn a_frame_comes_back() {
        let lines = b"{\"a\":1}\n{\"b\":2}\n".repeat(100);
        let mut packer = Packer::new().unwrap();
        let (packed_header, frame) = packer.pack(header(200), &lines).unwrap();
        assert_eq!(Header::parse(frame), Some(packed_header));
        assert_eq!(packed_header.frame_len(), frame.len() as u64);
        assert_eq!((packed_header.end(), packed_header.raw_len), (240, lines.len() as u32));
        let mut raw = Vec::new();
        let mut unpacker = Unpacker::new().unwrap();
        assert!(unpacker.unpack(&packed_header, &frame[HEADER_LEN..], &mut raw));
        assert_eq!(raw, lines);
        let wrong = Header { records: 199, ..packed_header };
        assert!(!unpacker.unpack(&wrong, &frame[HEADER_LEN..], &mut raw));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let whole = Header::of_gap(GapReason::Restart, 1, 2, 3, Timestamp::EPOCH).to_bytes();
        assert!(Header::parse(&whole).is_some());
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&flipped), None, "bit {bit}");
        }
        assert_eq!(Header::parse(&whole[..59]), None);
    }

    #[test]
    fn what_nobody_writes_is_no_header() {
        let fine = Header { raw_len: 10, packed_len: 10, ..header(2) };
        assert_eq!(Header::parse(&fine.to_bytes()), Some(fine));
        let wrong = [
            Header { records: 0, ..fine },
            Header { records: 11, ..fine },
            Header { raw_len: 0, ..fine },
            Header { raw_len: MAX_RAW + 1, ..fine },
            Header { packed_len: u32::MAX, ..fine },
            Header { first_seq: u64::MAX, ..fine },
            Header { gap: Some(GapReason::Damaged), ..fine },
        ];
        for header in wrong {
            assert_eq!(Header::parse(&header.to_bytes()), None, "{header:?}");
        }
    }
}
