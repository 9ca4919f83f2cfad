//! Another reader of capture files, which looks at their frame alone: what flowcap should find in a damaged one.

/// A record of a pcap file, or a block of a pcapng file.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub at: usize,
    pub len: usize,
    pub is_packet: bool,
}

/// What a capture file holds, up to the damage if there is some.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    pub places: Vec<Place>,
    pub packets: u64,
    /// Of the packets, as they were on the wire.
    pub bytes: u64,
    pub damage: Option<usize>,
}

impl Walk {
    /// Walks through a plain capture file; `None` if its first bytes say that it is a packed one.
    pub fn through(file: &[u8]) -> Option<Walk> {
        let mut walk = Walk::default();
        walk.damage = match file {
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                return None;
            }
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => walk.blocks(file),
            [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0x4d, 0x3c, 0xb2, 0xa1, ..] => {
                walk.records(Words(file, false), 16)
            }
            [0xa1, 0xb2, 0xc3, 0xd4, ..] | [0xa1, 0xb2, 0x3c, 0x4d, ..] => {
                walk.records(Words(file, true), 16)
            }
            [0x34, 0xcd, 0xb2, 0xa1, ..] => walk.records(Words(file, false), 24),
            [0xa1, 0xb2, 0xcd, 0x34, ..] => walk.records(Words(file, true), 24),
            _ => Some(0),
        };
        Some(walk)
    }

    /// Returns how many packets lie before an offset.
    pub fn packets_before(&self, offset: usize) -> u64 {
        let before = |place: &&Place| place.is_packet && place.at + place.len <= offset;
        self.places.iter().filter(before).count() as u64
    }

    /// Walks through a pcap file; returns where it is damaged.
    fn records(&mut self, file: Words<'_>, header: usize) -> Option<usize> {
        let (Some(major), Some(minor), Some(_)) = (file.half(4), file.half(6), file.word(20)) else {
            return Some(0);
        };
        if !matches!((major, minor), (2, 0..=4) | (543, 0)) {
            return Some(4);
        }
        let mut at = 24;
        while at < file.0.len() {
            let (Some(first), Some(second), Some(_)) =
                (file.word(at + 8), file.word(at + 12), file.0.get(at..at + header))
            else {
                return Some(at);
            };
            let (captured, wire) = match (major, minor) {
                (2, 4) => (first, second),
                (2, 3) => (first.min(second), first.max(second)),
                _ => (second, first),
            };
            let len = header + captured as usize;
            if captured > MOST_CAPTURED || len > file.0.len() - at {
                return Some(at);
            }
            self.add(Place { at, len, is_packet: true }, wire);
            at += len;
        }
        None
    }

    /// Walks through a pcapng file; returns where it is damaged.
    fn blocks(&mut self, file: &[u8]) -> Option<usize> {
        let mut words = Words(file, false);
        let mut interfaces = 0;
        let mut at = 0;
        while at < file.len() {
            let is_section = file[at..].starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]);
            if is_section {
                words.1 = match file.get(at + 8..at + 12) {
                    Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
                    Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
                    _ => return Some(at),
                };
            }
            let (Some(kind), Some(len)) = (words.word(at), words.word(at + 4)) else { return Some(at) };
            let len = len as usize;
            let least = match kind {
                _ if is_section => 28,
                INTERFACE => 20,
                SIMPLE => 16,
                OBSOLETE | ENHANCED => 32,
                _ => 12,
            };
            let is_sound = len >= least && len.is_multiple_of(4) && len <= file.len() - at;
            if !is_sound || words.word(at + len - 4) != Some(len as u32) {
                return Some(at);
            }
            if is_section {
                let version = (words.half(at + 12)?, words.half(at + 14)?);
                if version != (1, 0) && version != (1, 2) {
                    return Some(at);
                }
                interfaces = 0;
            }
            interfaces += u32::from(kind == INTERFACE);
            let (interface, captured, wire) = match kind {
                SIMPLE => (0, 0, words.word(at + 8)?),
                OBSOLETE => (words.half(at + 8)?.into(), words.word(at + 20)?, words.word(at + 24)?),
                ENHANCED => (words.word(at + 8)?, words.word(at + 20)?, words.word(at + 24)?),
                _ => {
                    self.places.push(Place { at, len, is_packet: false });
                    at += len;
                    continue;
                }
            };
            if interface >= interfaces || captured as usize > len - least {
                return Some(at);
            }
            self.add(Place { at, len, is_packet: true }, wire);
            at += len;
        }
        None
    }

    fn add(&mut self, place: Place, wire: u32) {
        self.places.push(place);
        self.packets += 1;
        self.bytes += u64::from(wire);
    }
}

/// A file as numbers; true where they are big-endian.
struct Words<'a>(&'a [u8], bool);

impl Words<'_> {
    fn word(&self, at: usize) -> Option<u32> {
        let bytes = *self.0.get(at..)?.first_chunk()?;
        Some(if self.1 { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn half(&self, at: usize) -> Option<u16> {
        let bytes = *self.0.get(at..)?.first_chunk()?;
        Some(if self.1 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }
}

/// What libpcap writes at most.
const MOST_CAPTURED: u32 = 262_144;
const INTERFACE: u32 = 1;
const OBSOLETE: u32 = 2;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;
