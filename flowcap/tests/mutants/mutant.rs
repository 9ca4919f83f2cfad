//! Damage: what is done to a capture file, and what then has to come of it where that follows from the deed.

use std::io::Write;

use flate2::{Compression, GzBuilder};
use flowcap_benches::rng::Rng;

use crate::walk::{Place, Walk};

/// A capture file to be damaged.
pub struct Capture {
    pub name: String,
    pub file: Vec<u8>,
    pub walk: Walk,
}

/// A damaged capture file.
pub struct Mutant {
    pub seed: u64,
    /// Of what it was made, and how.
    pub story: String,
    pub file: Vec<u8>,
    /// Packets, and where the damage is, as far as it follows from what was done.
    pub expected: Option<Told>,
    /// What was packed before it was damaged, if it was.
    pub packed: Option<Packed>,
}

/// What was in a packed file.
pub struct Packed {
    pub content: Walk,
    /// The end is missing; else a bit was flipped.
    pub is_cut: bool,
}

/// The packets before the damage, and its offset if there is some.
pub type Told = (u64, Option<usize>);

impl Capture {
    /// Takes a capture file; none that is packed.
    pub fn new(name: String, file: Vec<u8>) -> Option<Capture> {
        let walk = Walk::through(&file)?;
        Some(Capture { name, file, walk })
    }

    fn is_pcap(&self) -> bool {
        self.file.first() != Some(&0x0a)
    }

    fn is_little(&self) -> bool {
        let at = if self.is_pcap() { 0 } else { 8 };
        matches!(self.file.get(at), Some(0xd4 | 0x4d | 0x34))
    }

    /// Tells whether a record has its captured length first, as is usual.
    fn has_usual_lengths(&self) -> bool {
        let is = if self.is_little() { [2, 0, 4, 0] } else { [0, 2, 0, 4] };
        self.is_pcap() && self.file.get(4..8) == Some(&is[..])
    }
}

impl Mutant {
    /// Makes the mutant of a seed, out of captures that all have packets.
    pub fn make(seed: u64, captures: &[Capture]) -> Mutant {
        let mut rng = Rng::new(seed);
        let capture = &captures[rng.below(captures.len() as u32) as usize];
        let mut deed = Deed { rng, capture, file: capture.file.clone(), packed: None };
        let (kind, expected) = deed.kind();
        let story = format!("mutant {seed}: {}: {kind}", capture.name);
        Mutant { seed, story, file: deed.file, expected, packed: deed.packed }
    }
}

/// A mutant in the making.
struct Deed<'a> {
    rng: Rng,
    capture: &'a Capture,
    file: Vec<u8>,
    packed: Option<Packed>,
}

impl Deed<'_> {
    fn kind(&mut self) -> (&'static str, Option<Told>) {
        match self.rng.below(9) {
            0 => ("cut", self.cut()),
            1 => ("bits flipped", self.flip()),
            2 => ("bits flipped in frames of records", self.flip_frames()),
            3 => ("records spliced", self.splice()),
            4 => ("mad length", self.lengths()),
            5 => ("time jumps", self.times()),
            6 => ("noise", self.noise()),
            7 => ("packed, then damaged", self.pack()),
            _ => {
                for _ in 0..self.rng.between(2, 5) {
                    match self.rng.below(6) {
                        0 => self.cut(),
                        1 => self.flip(),
                        2 => self.flip_frames(),
                        3 => self.lengths(),
                        4 => self.times(),
                        _ => self.noise(),
                    };
                }
                ("several", None)
            }
        }
    }

    fn cut(&mut self) -> Option<Told> {
        let keep = self.rng.below(self.file.len() as u32 + 1) as usize;
        self.file.truncate(keep);
        let walk = &self.capture.walk;
        if walk.damage.is_some_and(|damage| damage < keep) {
            return Some((walk.packets, walk.damage));
        }
        let head = if self.capture.is_pcap() { 24 } else { 28 };
        if keep < head {
            return Some((0, Some(0)));
        }
        let cut = walk.places.iter().find(|place| place.at < keep && keep < place.at + place.len);
        // What comes behind the last whole record of a damaged file is cut short as it was.
        let damage = cut.map(|place| place.at).or(walk.damage.filter(|damage| *damage < keep));
        Some((self.capture.walk.packets_before(keep), damage))
    }

    fn flip(&mut self) -> Option<Told> {
        for _ in 0..self.rng.between(1, 16) {
            let at = self.somewhere();
            let bit = 1 << self.rng.below(8);
            *self.file.get_mut(at)? ^= bit;
        }
        None
    }

    fn flip_frames(&mut self) -> Option<Told> {
        for _ in 0..self.rng.between(1, 4) {
            let at = self.place()?.at + self.rng.below(28) as usize;
            let bit = 1 << self.rng.below(8);
            *self.file.get_mut(at)? ^= bit;
        }
        None
    }

    /// Takes records out, doubles or moves them, or puts in some of a stranger's bytes.
    fn splice(&mut self) -> Option<Told> {
        let (from, to) = (self.place()?, self.place()?);
        let record = self.file.get(from.at..from.at + from.len)?.to_vec();
        let mut packets = self.capture.walk.packets;
        match self.rng.below(4) {
            0 => {
                self.file.drain(from.at..from.at + from.len);
                packets -= 1;
            }
            1 => {
                self.file.splice(to.at..to.at, record);
                packets += 1;
            }
            2 => {
                self.file.splice(to.at..to.at + to.len, record);
            }
            _ => {
                let mut begin = self.rng.below(record.len() as u32) as usize;
                begin -= begin % 4;
                self.file.splice(to.at..to.at, record[begin..].iter().copied());
                return None;
            }
        }
        let is_plain = self.capture.is_pcap() && self.capture.walk.damage.is_none();
        is_plain.then_some((packets, None))
    }

    fn lengths(&mut self) -> Option<Told> {
        let place = self.place()?;
        let own = place.len as u32;
        let small = self.rng.below(64);
        let any = self.rng.bits() as u32;
        let value = self.rng.pick(&[
            0,
            1,
            3,
            4,
            own - 1,
            own + 1,
            own + 4,
            small,
            any,
            262_144,
            262_145,
            1 << 24,
            0x7FFF_FFFC,
            0x8000_0000,
            u32::MAX - 3,
            u32::MAX,
        ]);
        let field = match (self.capture.is_pcap(), self.rng.below(4)) {
            (true, 0) => 12,
            (true, _) => 8,
            (false, 0) => 20,
            (false, 1) => place.len - 4,
            (false, _) => 4,
        };
        self.put(place.at + field, value)?;
        let is_beyond = value as usize > self.capture.file.len();
        let is_fatal = match field {
            8 => self.capture.has_usual_lengths(),
            12 | 20 => false,
            _ => true,
        };
        (is_beyond && is_fatal).then(|| (self.capture.walk.packets_before(place.at), Some(place.at)))
    }

    /// Moves packets in time; nothing else changes.
    fn times(&mut self) -> Option<Told> {
        for _ in 0..self.rng.between(1, 8) {
            let place = self.place()?;
            let seconds = self.rng.bits() as u32;
            let mad = [0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX, seconds];
            let (high, low) = (self.rng.pick(&mad), self.rng.pick(&mad));
            if self.capture.is_pcap() {
                self.put(place.at, high)?;
                self.put(place.at + 4, low)?;
            } else if self.file.get(place.at..place.at + 4)?.contains(&6) {
                self.put(place.at + 12, high)?;
                self.put(place.at + 16, low)?;
            }
        }
        Some((self.capture.walk.packets, self.capture.walk.damage))
    }

    fn noise(&mut self) -> Option<Told> {
        let at = self.somewhere();
        let end = (at + self.rng.between(1, 200) as usize).min(self.file.len());
        let fill = self.rng.below(3);
        for byte in self.file.get_mut(at..end)? {
            *byte = match fill {
                0 => 0,
                1 => 0xFF,
                _ => self.rng.bits() as u8,
            };
        }
        None
    }

    fn pack(&mut self) -> Option<Told> {
        self.file = if self.rng.chance(500) { gzip(&self.file) } else { zstd(&self.file) };
        // What it is must stay to be seen.
        let at = self.rng.between(4, self.file.len() as u32 - 1) as usize;
        let is_cut = self.rng.chance(500);
        if is_cut {
            self.file.truncate(at);
        } else {
            self.file[at] ^= 1 << self.rng.below(8);
        }
        self.packed = Some(Packed { content: self.capture.walk.clone(), is_cut });
        None
    }

    /// Returns the place of a packet of the undamaged file.
    fn place(&mut self) -> Option<Place> {
        let packets: Vec<_> = self.capture.walk.places.iter().filter(|place| place.is_packet).collect();
        let nth = self.rng.below(packets.len() as u32) as usize;
        packets.get(nth).map(|place| **place)
    }

    fn somewhere(&mut self) -> usize {
        self.rng.below(self.file.len() as u32) as usize
    }

    fn put(&mut self, at: usize, value: u32) -> Option<()> {
        let bytes = if self.capture.is_little() { value.to_le_bytes() } else { value.to_be_bytes() };
        self.file.get_mut(at..at + 4)?.copy_from_slice(&bytes);
        Some(())
    }
}

fn gzip(file: &[u8]) -> Vec<u8> {
    let mut packer = GzBuilder::new().write(Vec::new(), Compression::fast());
    packer.write_all(file).expect("memory");
    packer.finish().expect("memory")
}

fn zstd(file: &[u8]) -> Vec<u8> {
    let mut packer = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
    packer.include_checksum(true).expect("zstd");
    packer.write_all(file).expect("memory");
    packer.finish().expect("memory")
}
