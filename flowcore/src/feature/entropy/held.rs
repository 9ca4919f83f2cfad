//! Payload of a flow, kept or counted.

use super::EntropyValues;
use super::measure::{measure, measure_few};

/// Payload of a flow: the bytes themselves while they are few, then how often each value came.
#[derive(Default, Debug)]
pub(super) enum Held {
    #[default]
    Nothing,
    Short(Box<Few<SHORT>>),
    Long(Box<Few<LONG>>),
    Counted(Box<Counts>),
}

/// Payload as it is: that of `src` from the front on, that of `dst` from the back on.
#[derive(Debug)]
pub(super) struct Few<const ROOM: usize> {
    /// How many bytes of each direction were taken.
    taken: [u8; 2],
    bytes: [u8; ROOM],
}

/// How often each byte value came.
#[derive(Debug)]
pub(super) struct Counts {
    /// How many bytes of each direction were taken.
    taken: [u64; 2],
    table: Table,
}

/// A count for each byte value and direction.
#[derive(Debug)]
enum Table {
    /// While the bytes of a direction are not many.
    Small(Box<[[u32; 256]; 2]>),
    /// While a direction has at most `u32::MAX` bytes, so that no count can overflow. Neighbours are counted in
    /// different tables: where they are equal, one count would have to wait for the other.
    Parted(Box<[[[u32; 256]; 4]; 2]>),
    Large(Box<[[u64; 256]; 2]>),
}

impl Held {
    /// Swaps the directions.
    pub(super) fn turn(&mut self) {
        match self {
            Held::Nothing => {}
            Held::Short(few) => few.turn(),
            Held::Long(few) => few.turn(),
            Held::Counted(counts) => counts.turn(),
        }
    }

    /// Measures the bytes.
    pub(super) fn measure(&self) -> EntropyValues {
        match self {
            Held::Counted(counts) => counts.measure(),
            few => measure_few(few.sides()),
        }
    }

    /// Returns how many bytes of memory are held outside.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Held::Nothing => 0,
            Held::Short(few) => size_of_val(&**few),
            Held::Long(few) => size_of_val(&**few),
            Held::Counted(counts) => size_of::<Counts>() + counts.table.heap_bytes(),
        }
    }

    /// Takes payload of one direction, of which `limit` bytes count in all; 0 stands for no limit.
    #[inline]
    pub(super) fn take(&mut self, payload: &[u8], at: usize, limit: u64) {
        let room = if limit == 0 { u64::MAX } else { limit.saturating_sub(self.taken(at)) };
        let bytes = payload.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(payload);
        if !self.add(bytes, at) {
            self.grow(bytes.len());
            self.add(bytes, at);
        }
    }

    /// Adds bytes; returns whether there was room.
    #[inline]
    fn add(&mut self, bytes: &[u8], at: usize) -> bool {
        match self {
            Held::Nothing => false,
            Held::Short(few) => few.add(bytes, at),
            Held::Long(few) => few.add(bytes, at),
            Held::Counted(counts) => {
                counts.add(bytes, at);
                true
            }
        }
    }

    /// Makes room for so many bytes more.
    fn grow(&mut self, more: usize) {
        let sides = self.sides();
        *self = match sides[0].len() + sides[1].len() + more {
            len if len <= SHORT => Held::Short(Few::of(sides)),
            len if len <= LONG => Held::Long(Few::of(sides)),
            _ => Held::Counted(Counts::of(sides)),
        };
    }

    fn taken(&self, at: usize) -> u64 {
        match self {
            Held::Counted(counts) => counts.taken[at],
            few => few.sides()[at].len() as u64,
        }
    }

    /// Returns the bytes of each direction, while they are kept.
    pub(super) fn sides(&self) -> [&[u8]; 2] {
        match self {
            Held::Nothing | Held::Counted(_) => [&[]; 2],
            Held::Short(few) => few.sides(),
            Held::Long(few) => few.sides(),
        }
    }
}

impl<const ROOM: usize> Few<ROOM> {
    fn of(sides: [&[u8]; 2]) -> Box<Self> {
        let mut few = Box::new(Few { taken: [0; 2], bytes: [0; ROOM] });
        few.add(sides[0], 0);
        few.add(sides[1], 1);
        few
    }

    #[inline]
    fn add(&mut self, bytes: &[u8], at: usize) -> bool {
        let [src, dst] = self.taken.map(usize::from);
        if src + dst + bytes.len() > ROOM {
            return false;
        }
        let start = if at == 0 { src } else { ROOM - dst - bytes.len() };
        if let Some(place) = self.bytes.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.taken[at] += bytes.len() as u8;
        true
    }

    fn sides(&self) -> [&[u8]; 2] {
        let [src, dst] = self.taken.map(usize::from);
        [self.bytes.get(..src).unwrap_or_default(), self.bytes.get(ROOM - dst..).unwrap_or_default()]
    }

    fn turn(&mut self) {
        self.taken.swap(0, 1);
        self.bytes.reverse();
    }
}

impl Counts {
    fn of(sides: [&[u8]; 2]) -> Box<Self> {
        let mut counts = Box::new(Counts { taken: [0; 2], table: Table::Small(Box::new([[0; 256]; 2])) });
        counts.add(sides[0], 0);
        counts.add(sides[1], 1);
        counts
    }

    fn add(&mut self, bytes: &[u8], at: usize) {
        self.taken[at] += bytes.len() as u64;
        self.table.make_fit(self.taken[at]);
        match &mut self.table {
            Table::Small(table) => bytes.iter().for_each(|&byte| table[at][usize::from(byte)] += 1),
            Table::Parted(table) => count_parted(&mut table[at], bytes),
            Table::Large(table) => bytes.iter().for_each(|&byte| table[at][usize::from(byte)] += 1),
        }
    }

    fn turn(&mut self) {
        self.taken.swap(0, 1);
        match &mut self.table {
            Table::Small(table) => table.swap(0, 1),
            Table::Parted(table) => table.swap(0, 1),
            Table::Large(table) => table.swap(0, 1),
        }
    }

    fn measure(&self) -> EntropyValues {
        match &self.table {
            Table::Small(table) => measure(table, self.taken),
            Table::Parted(table) => measure(&table.each_ref().map(sum_of_parts), self.taken),
            Table::Large(table) => measure(table, self.taken),
        }
    }
}

impl Table {
    /// Changes to a kind that is made for so many bytes of a direction.
    #[inline]
    fn make_fit(&mut self, bytes: u64) {
        match self {
            Table::Small(table) if bytes > MANY => {
                let mut parted = Box::new([[[0; 256]; 4]; 2]);
                (parted[0][0], parted[1][0]) = (table[0], table[1]);
                *self = Table::Parted(parted);
            }
            Table::Parted(table) if bytes > u64::from(u32::MAX) => {
                let large = table.each_ref().map(|parts| sum_of_parts(parts).map(u64::from));
                *self = Table::Large(Box::new(large));
            }
            _ => {}
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Table::Small(table) => size_of_val(&**table),
            Table::Parted(table) => size_of_val(&**table),
            Table::Large(table) => size_of_val(&**table),
        }
    }
}

#[inline]
fn count_parted(parts: &mut [[u32; 256]; 4], bytes: &[u8]) {
    let (fours, rest) = bytes.as_chunks();
    for &[a, b, c, d] in fours {
        parts[0][usize::from(a)] += 1;
        parts[1][usize::from(b)] += 1;
        parts[2][usize::from(c)] += 1;
        parts[3][usize::from(d)] += 1;
    }
    rest.iter().for_each(|&byte| parts[0][usize::from(byte)] += 1);
}

fn sum_of_parts(parts: &[[u32; 256]; 4]) -> [u32; 256] {
    std::array::from_fn(|byte| parts.iter().map(|part| part[byte]).sum())
}

/// Bytes that are kept as they are: enough for a question and its answer, and to fill a block of memory.
const SHORT: usize = 126;
pub(super) const LONG: usize = 254;

/// Bytes of a direction from which on its counts are parted, which takes four times the memory.
const MANY: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_widen_before_they_overflow() {
        let near = u64::from(u32::MAX) - 300;
        let mut table = Box::new([[[0u32; 256]; 4]; 2]);
        table[0][3][usize::from(b'a')] = near as u32;
        let mut counts = Counts { taken: [near, 0], table: Table::Parted(table) };
        counts.add(&[b'a'; 300], 0);
        assert!(matches!(counts.table, Table::Parted(_)), "exactly full");
        counts.add(b"aa", 0);
        counts.add(b"b", 1);
        let Table::Large(large) = &counts.table else { panic!("{counts:?}") };
        assert_eq!(large[0][usize::from(b'a')], u64::from(u32::MAX) + 2);
        assert_eq!(counts.measure().bytes, u64::from(u32::MAX) + 3);
        counts.turn();
        let values = counts.measure();
        assert_eq!((values.src, values.dst), (Some(0.0), Some(0.0)));
        assert!(values.both.unwrap() > 0.0);
    }
}
