//! Shannon entropy of the payload bytes.

use std::sync::LazyLock;

use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;

/// Measures the entropy of the captured payload bytes (definitions.md, "Entropy").
///
/// The first bytes, up to 254, are kept as they are, since a histogram would cost more time and memory; it is
/// made when they no longer fit. A flow without payload holds nothing.
#[derive(Default, Debug)]
pub struct Entropy {
    held: Held,
}

impl Feature for Entropy {
    type Values = EntropyValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, options: &FeatureOptions) {
        if !packet.payload.is_empty() {
            self.held.take(packet.payload, dir.index(), options.entropy_bytes);
        }
    }

    fn turn(&mut self) {
        match &mut self.held {
            Held::Nothing => {}
            Held::Short(few) => few.turn(),
            Held::Long(few) => few.turn(),
            Held::Counted(counts) => counts.turn(),
        }
    }

    fn finish(&self) -> EntropyValues {
        match &self.held {
            Held::Counted(counts) => counts.measure(),
            few => measure_few(few.sides()),
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::Short(few) => size_of_val(&**few),
            Held::Long(few) => size_of_val(&**few),
            Held::Counted(counts) => size_of::<Counts>() + counts.table.heap_bytes(),
        }
    }
}

/// The entropy of a flow record, in bits per byte; none where there was no payload.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct EntropyValues {
    /// Over the bytes of both directions.
    pub both: Option<f64>,
    /// Over the initiator's bytes.
    pub src: Option<f64>,
    /// Over the responder's bytes.
    pub dst: Option<f64>,
    /// How many bytes were measured.
    pub bytes: u64,
}

impl Values for EntropyValues {
    const FIELDS: &'static [Field] = &[
        Field::core_and_stats("entropy"),
        Field::stats("src_entropy"),
        Field::stats("dst_entropy"),
        Field::core_and_stats("entropy_bytes"),
    ];

    #[inline(always)]
    fn value(&self, index: usize) -> Scalar<'_> {
        match index {
            0 => Scalar::float(self.both),
            1 => Scalar::float(self.src),
            2 => Scalar::float(self.dst),
            3 => Scalar::U64(self.bytes),
            _ => Scalar::Absent,
        }
    }
}

/// Payload of a flow: the bytes themselves while they are few, then how often each value came.
#[derive(Default, Debug)]
enum Held {
    #[default]
    Nothing,
    Short(Box<Few<SHORT>>),
    Long(Box<Few<LONG>>),
    Counted(Box<Counts>),
}

/// Payload as it is: that of `src` from the front on, that of `dst` from the back on.
#[derive(Debug)]
struct Few<const ROOM: usize> {
    /// How many bytes of each direction were taken.
    taken: [u8; 2],
    bytes: [u8; ROOM],
}

/// How often each byte value came.
#[derive(Debug)]
struct Counts {
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

impl Entropy {
    pub(super) fn glance(&self) -> u64 {
        match &self.held {
            Held::Nothing => 0,
            Held::Short(few) => few.taken[0] as u64 ^ few.bytes[64] as u64,
            Held::Long(few) => few.taken[0] as u64 ^ few.bytes[100] as u64,
            Held::Counted(c) => c.taken[0],
        }
    }
}
impl Held {
    /// Takes payload of one direction, of which `limit` bytes count in all; 0 stands for no limit.
    #[inline]
    fn take(&mut self, payload: &[u8], at: usize, limit: u64) {
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
            ..=SHORT => Held::Short(Few::of(sides)),
            ..=LONG => Held::Long(Few::of(sides)),
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
    fn sides(&self) -> [&[u8]; 2] {
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
        let start = if at == 0 { src } else { (ROOM - dst).wrapping_sub(bytes.len()) };
        if src + dst + bytes.len() > ROOM {
            return false;
        }
        if let Some(place) = self.bytes.get_mut(start..start.wrapping_add(bytes.len())) {
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

/// The entropy of few bytes: with each byte the weight of its value grows by a step that was computed before.
fn measure_few([src, dst]: [&[u8]; 2]) -> EntropyValues {
    const { assert!(LONG <= u8::MAX as usize) };
    let steps = &*STEPS;
    let weigh = |bytes: &[u8], counts: &mut [u8; 256]| -> u64 {
        let step = |&byte: &u8| {
            let count = &mut counts[usize::from(byte)];
            *count += 1;
            steps.by_count[usize::from(*count)]
        };
        bytes.iter().map(step).sum()
    };
    let entropy = |len: usize, weight: u64| {
        (len > 0).then(|| (steps.all[len.min(LONG)] - weight) as f64 / (len as f64 * ONE_BIT))
    };
    let mut counts = [0; 256];
    let src_weight = weigh(src, &mut counts);
    let both_weight = src_weight + weigh(dst, &mut counts);
    let dst_weight = if src.is_empty() { both_weight } else { weigh(dst, &mut [0; 256]) };
    let both = entropy(src.len() + dst.len(), both_weight);
    let (of_src, of_dst) = (entropy(src.len(), src_weight), entropy(dst.len(), dst_weight));
    EntropyValues { both, src: of_src, dst: of_dst, bytes: (src.len() + dst.len()) as u64 }
}

fn measure<N: Copy + Into<u64>>([src, dst]: &[[N; 256]; 2], taken: [u64; 2]) -> EntropyValues {
    let of = |counts: &[N; 256]| Sum::of(counts.iter().map(|&count| count.into()));
    let (of_src, of_dst, both) = match taken {
        [_, 0] => {
            let src = of(src);
            (src, Sum::default(), src)
        }
        [0, _] => {
            let dst = of(dst);
            (Sum::default(), dst, dst)
        }
        _ => {
            let both = src.iter().zip(dst).map(|(&src, &dst)| src.into() + dst.into());
            (of(src), of(dst), Sum::of(both))
        }
    };
    EntropyValues { both: both.entropy(), src: of_src.entropy(), dst: of_dst.entropy(), bytes: both.total }
}

/// H = log2 N − Σ c·log2 c / N, which is −Σ p·log2 p with one division.
#[derive(Clone, Copy, Default)]
struct Sum {
    total: u64,
    largest: u64,
    /// Σ c·log2 c, in four parts that do not wait for each other.
    weight: [f64; 4],
}

impl Sum {
    #[inline]
    fn of(counts: impl Iterator<Item = u64>) -> Self {
        let table = &*WEIGHTS;
        let mut sum = Sum::default();
        for (nth, count) in counts.enumerate() {
            sum.total += count;
            sum.largest = sum.largest.max(count);
            sum.weight[nth % 4] += match usize::try_from(count).ok().and_then(|count| table.get(count)) {
                Some(&weight) => weight,
                None => weight(count),
            };
        }
        sum
    }

    fn entropy(self) -> Option<f64> {
        let total = self.total as f64;
        match self.largest {
            0 => None,
            all if all == self.total => Some(0.0),
            _ => Some((total.log2() - self.weight.iter().sum::<f64>() / total).clamp(0.0, 8.0)),
        }
    }
}

fn weight(count: u64) -> f64 {
    if count == 0 { 0.0 } else { count as f64 * (count as f64).log2() }
}

/// Bytes that are kept as they are: enough for a question and its answer, and to fill a block of memory.
const SHORT: usize = 94;
const LONG: usize = 254;

/// Bytes of a direction from which on its counts are parted, which takes four times the memory.
const MANY: u64 = 16 << 10;

/// c·log2 c of small counts.
static WEIGHTS: LazyLock<[f64; 1024]> = LazyLock::new(|| std::array::from_fn(|count| weight(count as u64)));
/// c·log2 c of counts up to [`LONG`] in whole numbers, whose sums depend on no order.
struct Steps {
    all: [u64; LONG + 1],
    /// By how much each is more than the one before.
    by_count: [u64; 256],
}

static STEPS: LazyLock<Steps> = LazyLock::new(|| {
    let all = std::array::from_fn(|count| (weight(count as u64) * ONE_BIT).round() as u64);
    let step = |count: usize| all.get(count).map_or(0, |weight| weight - all[count.saturating_sub(1)]);
    Steps { all, by_count: std::array::from_fn(step) }
});

/// What stands for 1 there: the weight of [`LONG`] equal bytes fits 64 bits.
const ONE_BIT: f64 = (1u64 << 48) as f64;

#[cfg(test)]
mod tests;
