//! Shannon entropy of the payload bytes.

use std::sync::LazyLock;

use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;

/// Measures the entropy of the captured payload bytes (definitions.md, "Entropy").
///
/// A flow without payload holds one pointer. The first 192 bytes are kept as they are, since a
/// histogram would cost more time and memory; it is made when they no longer fit.
#[derive(Default, Debug)]
pub struct Entropy {
    held: Option<Box<Held>>,
}

impl Feature for Entropy {
    type Values = EntropyValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, options: &FeatureOptions) {
        if !packet.payload.is_empty() {
            self.held.get_or_insert_default().add(packet.payload, dir, options.entropy_bytes);
        }
    }

    fn turn(&mut self) {
        if let Some(held) = &mut self.held {
            held.turn();
        }
    }

    fn finish(&self) -> EntropyValues {
        self.held.as_ref().map(|held| held.measure()).unwrap_or_default()
    }

    fn heap_bytes(&self) -> usize {
        let counts = |held: &Held| held.counts.as_ref().map_or(0, Counts::heap_bytes);
        self.held.as_deref().map_or(0, |held| size_of::<Held>() + counts(held))
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
#[derive(Debug)]
struct Held {
    /// How many bytes of each direction were taken.
    taken: [u64; 2],
    /// Those of `src` from the front on, those of `dst` from the back on.
    few: [u8; FEW],
    counts: Option<Counts>,
}

/// How often each byte value came, for each direction.
#[derive(Debug)]
enum Counts {
    /// While a direction has at most `u32::MAX` bytes, so that no count can overflow.
    Narrow(Box<[[u32; 256]; 2]>),
    Wide(Box<[[u64; 256]; 2]>),
}

impl Held {
    fn add(&mut self, payload: &[u8], dir: Dir, limit: u64) {
        let at = dir.index();
        let room = if limit == 0 { u64::MAX } else { limit.saturating_sub(self.taken[at]) };
        let bytes = payload.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(payload);
        if self.counts.is_none() {
            if self.keep(bytes, at) {
                return;
            }
            self.counts = Some(Counts::Narrow(Box::new(self.count_few())));
        }
        self.taken[at] += bytes.len() as u64;
        if let Some(counts) = &mut self.counts {
            counts.add(bytes, at, self.taken[at]);
        }
    }

    /// Keeps bytes as they are; returns whether there was room.
    fn keep(&mut self, bytes: &[u8], at: usize) -> bool {
        let [src, dst] = self.lengths();
        if bytes.len() > FEW - src - dst {
            return false;
        }
        let start = if at == 0 { src } else { FEW - dst - bytes.len() };
        if let Some(place) = self.few.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.taken[at] += bytes.len() as u64;
        true
    }

    /// How many bytes of `few` belong to each direction, while there are no counts.
    fn lengths(&self) -> [usize; 2] {
        self.taken.map(|taken| (taken as usize).min(FEW))
    }

    fn count_few(&self) -> [[u32; 256]; 2] {
        let [src, dst] = self.lengths();
        let mut counts = [[0; 256]; 2];
        count(&mut counts[0], self.few.get(..src).unwrap_or_default());
        count(&mut counts[1], self.few.get(FEW - dst..).unwrap_or_default());
        counts
    }

    fn turn(&mut self) {
        self.taken.swap(0, 1);
        self.few.reverse();
        match &mut self.counts {
            Some(Counts::Narrow(counts)) => counts.swap(0, 1),
            Some(Counts::Wide(counts)) => counts.swap(0, 1),
            None => {}
        }
    }

    fn measure(&self) -> EntropyValues {
        match &self.counts {
            Some(Counts::Narrow(counts)) => measure(counts),
            Some(Counts::Wide(counts)) => measure(counts),
            None => self.measure_few(),
        }
    }

    /// Σ c·log2 c over the values is Σ log2 c over the bytes: with few bytes there are fewer of them.
    fn measure_few(&self) -> EntropyValues {
        let [src, dst] = self.lengths();
        let src = self.few.get(..src).unwrap_or_default();
        let dst = self.few.get(FEW - dst..).unwrap_or_default();
        let (of_src, of_dst) = (entropy_of_few([src, &[]]), entropy_of_few([&[], dst]));
        let both = match (of_src, of_dst) {
            (Some(_), Some(_)) => entropy_of_few([src, dst]),
            (one, other) => one.or(other),
        };
        EntropyValues { both, src: of_src, dst: of_dst, bytes: (src.len() + dst.len()) as u64 }
    }
}

impl Default for Held {
    fn default() -> Self {
        Held { taken: [0; 2], few: [0; FEW], counts: None }
    }
}

impl Counts {
    /// Adds bytes of a direction that has `taken` bytes with them.
    fn add(&mut self, bytes: &[u8], at: usize, taken: u64) {
        if let Counts::Narrow(counts) = self {
            if taken <= u64::from(u32::MAX) {
                return count(&mut counts[at], bytes);
            }
            *self = Counts::Wide(Box::new(counts.map(|side| side.map(u64::from))));
        }
        if let Counts::Wide(counts) = self {
            for &byte in bytes {
                counts[at][usize::from(byte)] += 1;
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Counts::Narrow(counts) => size_of_val(&**counts),
            Counts::Wide(counts) => size_of_val(&**counts),
        }
    }
}

/// One table, one byte at a time: several tables at once were measured and are no faster.
#[inline]
fn count(counts: &mut [u32; 256], bytes: &[u8]) {
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
}

/// The entropy of at most [`FEW`] bytes in two parts.
fn entropy_of_few(parts: [&[u8]; 2]) -> Option<f64> {
    const { assert!(FEW <= u8::MAX as usize) };
    let bytes = || parts.iter().copied().flatten().map(|&byte| usize::from(byte));
    let mut counts = [0u8; 256];
    bytes().for_each(|byte| counts[byte] += 1);
    let total = parts[0].len() + parts[1].len();
    let logs = &*LOGARITHMS;
    let weight: f64 = bytes().map(|byte| logs[usize::from(counts[byte])]).sum();
    let is_one_value = bytes().next().is_some_and(|byte| usize::from(counts[byte]) == total);
    match total {
        0 => None,
        _ if is_one_value => Some(0.0),
        _ => Some((logs[total] - weight / total as f64).clamp(0.0, 8.0)),
    }
}

fn measure<N: Copy + Into<u64>>(counts: &[[N; 256]; 2]) -> EntropyValues {
    let [of_src, of_dst] = counts.each_ref().map(|side| side.iter().map(|&count| count.into()));
    let (src, dst) = (Sum::of(of_src.clone()), Sum::of(of_dst.clone()));
    let both = match (src.total, dst.total) {
        (_, 0) => src,
        (0, _) => dst,
        _ => Sum::of(of_src.zip(of_dst).map(|(src, dst)| src + dst)),
    };
    EntropyValues { both: both.entropy(), src: src.entropy(), dst: dst.entropy(), bytes: both.total }
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

/// Bytes that are kept as they are.
const FEW: usize = 192;

/// c·log2 c of small counts.
static WEIGHTS: LazyLock<[f64; 1024]> = LazyLock::new(|| std::array::from_fn(|count| weight(count as u64)));
/// log2 of 0 to 255, that of 0 being of no use.
static LOGARITHMS: LazyLock<[f64; 256]> = LazyLock::new(|| std::array::from_fn(|n| (n.max(1) as f64).log2()));

#[cfg(test)]
mod tests;
