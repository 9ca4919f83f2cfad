//! An input that is longer than 32 bits can say: counters, sums of bytes and offsets are right, and memory stays as it is.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowcore::capture::FileSource;
use flowcore::feature::FeatureOptions;
use flowcore::sink::{self, FileOptions, Format};
use flowcore::{Error, Meter, Stop};
use serde_json::Value;

/// The longest that IPv4 has.
const IP_LENGTH: u64 = 65_535;
/// With its Ethernet header.
const FRAME: u64 = 14 + IP_LENGTH;
/// Lengths of the file's header, and of that of a packet.
const HEADER: u64 = 24;
const PACKET: u64 = 16;
/// So many that what they carry takes 4.3 GiB.
const PACKETS: u64 = (43 << 30) / 10 / (IP_LENGTH - 28) + 1;
/// What is read before memory is looked at for the first time.
const WARM: u64 = 512 << 20;

/// A capture file that is nowhere whole: one UDP packet again and again, and half of one at the end.
struct Endless {
    /// The header of the file, then that of a packet, and its frame.
    header: Vec<u8>,
    packet: Vec<u8>,
    /// How many bytes were read.
    at: u64,
    /// The most memory that was in use by then, in bytes.
    warm: Arc<AtomicU64>,
}

impl Endless {
    fn new(warm: Arc<AtomicU64>) -> Self {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut packet = words(&[1_700_000_000, 0, FRAME as u32, FRAME as u32]);
        packet.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0]);
        packet.extend((IP_LENGTH as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2]);
        for word in [40_000, 4_500, (IP_LENGTH - 20) as u16, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.resize((PACKET + FRAME) as usize, b'x');
        let header = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1]);
        Endless { header, packet, at: 0, warm }
    }
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let end = HEADER + PACKETS * (PACKET + FRAME) + PACKET + FRAME / 2;
        let from = match self.at.checked_sub(HEADER) {
            None => self.header.get(self.at as usize..),
            Some(behind) => self.packet.get((behind % (PACKET + FRAME)) as usize..),
        };
        let from = from.unwrap_or_default();
        let length = from.len().min(into.len()).min((end - self.at) as usize);
        into[..length].copy_from_slice(&from[..length]);
        self.at += length as u64;
        if self.at > WARM && self.warm.load(Ordering::Relaxed) == 0 {
            self.warm.store(most_memory(), Ordering::Relaxed);
        }
        Ok(length)
    }
}

/// Returns the most memory that this process had in use, where the system tells.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[test]
fn more_than_32_bits_can_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flows.jsonl");
    let sink = sink::open(file.to_str().unwrap(), Format::Jsonl, None, &FileOptions::default()).unwrap();
    let warm = Arc::new(AtomicU64::new(0));
    let source = FileSource::from_reader("endless", Endless::new(warm.clone()));
    let summary = Meter::builder()
        .features(FeatureOptions { entropy_bytes: 1, ..FeatureOptions::default() })
        .sink("flows", sink)
        .build()
        .unwrap()
        .run(Box::new(source), &Stop::new());
    let most = most_memory();
    assert!(summary.failure.is_none() && summary.false_identities.is_empty(), "{summary:?}");
    let [Error::Damaged { name, offset, .. }] = &summary.damage[..] else { panic!("{:?}", summary.damage) };
    assert_eq!((name.as_str(), *offset), ("endless", HEADER + PACKETS * (PACKET + FRAME)));
    assert!(*offset > 1 << 32);
    assert_eq!((summary.stats.packets, summary.stats.bytes), (PACKETS, PACKETS * FRAME));
    let flow: Value =
        serde_json::from_str(std::fs::read_to_string(file).unwrap().trim_end()).expect("a record");
    for (field, value) in [("packets", PACKETS), ("bytes", PACKETS * FRAME)] {
        assert_eq!(flow[field], value, "{flow}");
        assert_eq!(flow[format!("src_{field}")], value, "{flow}");
    }
    let grown = most.saturating_sub(warm.load(Ordering::Relaxed));
    assert!(grown < 8 << 20, "memory grew by {grown} bytes to {most}");
}
