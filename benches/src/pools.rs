//! Payload bytes made in advance: one pool for each kind of content, read at any place and round its end.

use crate::rng::Rng;

/// What a payload looks like; its entropy in bits per byte is the point of most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Zeros: 0.
    Zeros,
    /// Two symbols, one of them in ten: 0.47.
    TwoSymbols,
    /// Decimal digits: 3.3.
    Digits,
    /// Lines of an access log with words in upper and lower case: 5.2.
    Text,
    /// Base64: 6.
    Base64,
    /// Binary records of counters, small numbers and short names: 5.5.
    Records,
    /// Random: 8.
    Random,
    /// Random bytes and zeros by turns of 64: 5.
    HalfRandom,
    /// TLS application data records: 8, with a header now and then.
    Tls,
    /// What the flow made for itself.
    Own,
}

/// The pools of all contents but [`Content::Own`].
#[derive(Clone, Debug)]
pub struct Pools([Vec<u8>; 9]);

impl Pools {
    /// Makes the pools of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x706F_6F6C);
        Pools([zeros, two_symbols, digits, text, base64, records, random, half_random, tls].map(|make| {
            let mut bytes = Vec::with_capacity(SIZE + LONGEST);
            while bytes.len() < SIZE {
                make(&mut rng, &mut bytes);
            }
            bytes.truncate(SIZE);
            bytes.extend_from_within(..LONGEST);
            bytes
        }))
    }

    /// Returns `len` bytes of a content from place `at` of its endless repetition; empty for [`Content::Own`].
    pub fn slice(&self, content: Content, at: u32, len: u16) -> &[u8] {
        let at = at as usize % SIZE;
        self.0.get(content as usize).map_or(&[], |pool| &pool[at..at + usize::from(len)])
    }
}

fn zeros(_: &mut Rng, out: &mut Vec<u8>) {
    out.resize(SIZE, 0);
}

fn two_symbols(rng: &mut Rng, out: &mut Vec<u8>) {
    out.push(if rng.chance(100) { b'#' } else { b'.' });
}

fn digits(rng: &mut Rng, out: &mut Vec<u8>) {
    out.push(b'0' + rng.below(10) as u8);
}

fn text(rng: &mut Rng, out: &mut Vec<u8>) {
    let words = rng.between(4, 9);
    out.extend_from_slice(format!("{:04} [{}] ", rng.below(10_000), rng.pick(LEVELS)).as_bytes());
    for _ in 0..words {
        let word = rng.pick(WORDS);
        match rng.below(24) {
            0 => out.extend_from_slice(word.to_ascii_uppercase().as_bytes()),
            1 => out.extend_from_slice(format!("{word}={:x}", rng.below(1 << 12)).as_bytes()),
            _ => out.extend_from_slice(word.as_bytes()),
        }
        out.push(rng.pick(b"    ,;/-"));
    }
    out.push(b'\n');
}

fn base64(rng: &mut Rng, out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(rng.pick(ALPHABET));
}

fn records(rng: &mut Rng, out: &mut Vec<u8>) {
    let number = (out.len() / 32) as u32;
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&(1_700_000_000_u32 + number * 3).to_be_bytes());
    out.extend_from_slice(&rng.below(1500).to_be_bytes());
    out.extend_from_slice(&rng.heavy(10, 20).to_be_bytes());
    out.extend_from_slice(&(rng.bits() as u32).to_be_bytes());
    out.extend_from_slice(&[rng.below(4) as u8, rng.below(256) as u8, 0, 1]);
    let name = rng.pick(WORDS).as_bytes();
    out.extend((0..8).map(|at| name.get(at).copied().unwrap_or(0)));
}

fn random(rng: &mut Rng, out: &mut Vec<u8>) {
    out.extend_from_slice(&rng.bits().to_le_bytes());
}

fn half_random(rng: &mut Rng, out: &mut Vec<u8>) {
    (0..8).for_each(|_| random(rng, out));
    out.resize(out.len() + 64, 0);
}

fn tls(rng: &mut Rng, out: &mut Vec<u8>) {
    let words = rng.pick(&[2048, 2048, 1024, 512, 64]);
    out.extend_from_slice(&[0x17, 0x03, 0x03]);
    out.extend_from_slice(&(words as u16 * 8).to_be_bytes());
    (0..words).for_each(|_| random(rng, out));
}

/// Bytes after which a pool begins again.
const SIZE: usize = 512 << 10;
/// Longest slice.
const LONGEST: usize = 64 << 10;

const LEVELS: &[&str] = &["INFO", "INFO", "WARN", "ERROR", "debug"];

/// Words for texts and records.
pub const WORDS: &[&str] = &[
    "account", "answer", "bridge", "cable", "carbon", "delta", "engine", "field", "garden", "harbour",
    "index", "journey", "kernel", "ladder", "market", "north", "object", "packet", "quartz", "river",
    "signal", "table", "union", "valley", "window", "xenon", "yellow", "zone",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy(content: Content) -> f64 {
        let pools = Pools::new(1);
        let mut counts = [0_u32; 256];
        for at in (0..SIZE as u32).step_by(1024) {
            for byte in pools.slice(content, at, 1024) {
                counts[usize::from(*byte)] += 1;
            }
        }
        let total = SIZE as f64;
        counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum()
    }

    #[test]
    fn each_content_has_its_entropy() {
        let near = |content, expected: f64, by: f64| {
            let found = entropy(content);
            assert!((found - expected).abs() < by, "{content:?}: {found}");
        };
        near(Content::Zeros, 0.0, 1e-9);
        near(Content::TwoSymbols, 0.469, 0.01);
        near(Content::Digits, std::f64::consts::LOG2_10, 0.001);
        near(Content::Text, 5.2, 0.1);
        near(Content::Base64, 6.0, 0.001);
        near(Content::Records, 5.5, 0.1);
        near(Content::Random, 8.0, 0.001);
        near(Content::HalfRandom, 5.0, 0.05);
        near(Content::Tls, 8.0, 0.01);
    }

    #[test]
    fn a_slice_goes_on_past_the_end() {
        let pools = Pools::new(1);
        let end = SIZE as u32;
        let across = pools.slice(Content::Random, end - 4, 8);
        assert_eq!(across[4..], pools.slice(Content::Random, 0, 4)[..]);
        assert_eq!(pools.slice(Content::Own, 0, 8), b"");
    }
}
