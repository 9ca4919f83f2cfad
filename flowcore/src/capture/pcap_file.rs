//! pcap, the classic capture file: a header of 24 bytes, then records.

use super::bytes::{Fields, Order};
use super::file::{Fault, Record, end_or_cut};
use super::window::Window;
use crate::time::Timestamp;

/// What the header of a pcap file says about its records.
pub(super) struct PcapFile {
    order: Order,
    nanos_per_tick: i64,
    record_header_len: usize,
    lengths: Lengths,
    snaplen: u32,
    link: u32,
}

impl PcapFile {
    /// Recognises the first four bytes of a pcap file.
    pub(super) fn recognise(magic: &[u8]) -> Option<Magic> {
        let (order, nanos_per_tick, record_header_len) = match magic {
            [0xD4, 0xC3, 0xB2, 0xA1] => (Order::Little, 1000, 16),
            [0xA1, 0xB2, 0xC3, 0xD4] => (Order::Big, 1000, 16),
            [0x4D, 0x3C, 0xB2, 0xA1] => (Order::Little, 1, 16),
            [0xA1, 0xB2, 0x3C, 0x4D] => (Order::Big, 1, 16),
            // Alexey Kuznetsov's patched libpcap: eight more bytes per record.
            [0x34, 0xCD, 0xB2, 0xA1] => (Order::Little, 1000, 24),
            [0xA1, 0xB2, 0xCD, 0x34] => (Order::Big, 1000, 24),
            _ => return None,
        };
        Some(Magic { order, nanos_per_tick, record_header_len })
    }

    /// Reads the file header.
    pub(super) fn open(magic: Magic, window: &mut Window) -> Result<PcapFile, Fault> {
        let Some(header) = window.peek(FILE_HEADER_LEN)? else {
            return Err(Fault::damage(0, "file header cut"));
        };
        let mut fields = Fields::new(header, magic.order);
        let header = (|| {
            fields.bytes(4)?; // magic
            let version = (fields.u16()?, fields.u16()?);
            fields.bytes(8)?; // time zone and accuracy, always 0
            Some((version, fields.u32()?, fields.u32()?))
        })();
        let Some(((major, minor), snaplen, link)) = header else {
            return Err(Fault::damage(0, "file header cut"));
        };
        let lengths = match (major, minor) {
            // 543.0 is how DG/UX wrote it; libpcap reads it like this, too.
            (2, 0..=2) | (543, 0) => Lengths::Swapped,
            (2, 3) => Lengths::SwappedIfGreater,
            (2, 4) => Lengths::Straight,
            _ => return Err(Fault::damage(4, format!("pcap version {major}.{minor} is not supported"))),
        };
        window.take(FILE_HEADER_LEN);
        let snaplen = if snaplen == 0 { MAX_CAPTURED } else { snaplen.min(MAX_CAPTURED) };
        Ok(PcapFile {
            order: magic.order,
            nanos_per_tick: magic.nanos_per_tick,
            record_header_len: magic.record_header_len,
            lengths,
            snaplen,
            link: link & LINK_TYPE_BITS,
        })
    }

    /// Takes the next record if all of it is in memory, and sound.
    #[inline]
    pub(super) fn at_hand(&self, window: &mut Window) -> Option<Record> {
        let [seconds, ticks, captured, wire] = self.order.words(window.bytes())?;
        let (captured, wire) = self.lengths.straighten(captured, wire);
        let record_len = self.record_header_len + captured as usize;
        if captured > MAX_CAPTURED || record_len > window.bytes().len() {
            return None;
        }
        // 2^32 s and 2^32 ticks are far below the 2^63 ns that fit.
        let nanos = i64::from(seconds) * 1_000_000_000 + i64::from(ticks) * self.nanos_per_tick;
        Some(Record {
            at: window.take(record_len) + self.record_header_len,
            len: captured.min(self.snaplen),
            wire_len: wire,
            time: Timestamp::from_nanos(nanos),
            has_time: true,
            clamped: false,
            link: self.link,
            interface: None,
        })
    }

    /// Finds the next record, reads on for it; false at the end.
    pub(super) fn next(&mut self, window: &mut Window, found: &mut Record) -> Result<bool, Fault> {
        if !window.holds(self.record_header_len)? {
            return end_or_cut(window, "record header cut");
        }
        let Some([_, _, captured, wire]) = self.order.words(window.bytes()) else {
            return end_or_cut(window, "record header cut");
        };
        let (captured, _) = self.lengths.straighten(captured, wire);
        if captured > MAX_CAPTURED {
            let what = format!("captured length {captured} is above {MAX_CAPTURED}");
            return Err(Fault::damage(window.offset(), what));
        }
        if !window.holds(self.record_header_len + captured as usize)? {
            return end_or_cut(window, "packet cut");
        }
        let Some(record) = self.at_hand(window) else { return end_or_cut(window, "packet cut") };
        *found = record;
        Ok(true)
    }
}

/// What the magic number says.
pub(super) struct Magic {
    order: Order,
    nanos_per_tick: i64,
    record_header_len: usize,
}

/// In which order a record has its captured and wire length: old writers did not agree.
#[derive(Clone, Copy)]
enum Lengths {
    Straight,
    Swapped,
    /// Version 2.3 was written both ways; the captured length cannot be the greater one.
    SwappedIfGreater,
}

impl Lengths {
    #[inline]
    fn straighten(self, captured: u32, wire: u32) -> (u32, u32) {
        match self {
            Lengths::Straight => (captured, wire),
            Lengths::Swapped => (wire, captured),
            Lengths::SwappedIfGreater => (captured.min(wire), captured.max(wire)),
        }
    }
}

const FILE_HEADER_LEN: usize = 24;
/// The largest captured length that libpcap writes; a larger one is damage.
const MAX_CAPTURED: u32 = 262_144;
/// The link type field has the length of the frame check sequence in its upper bits.
const LINK_TYPE_BITS: u32 = 0x03FF_FFFF;
