//! From bytes, or from how often each value came, to entropy.

use std::sync::LazyLock;

use super::EntropyValues;
use super::held::LONG;

/// The entropy of few bytes: with each byte the weight of its value grows by a step that was computed before.
pub(super) fn measure_few([src, dst]: [&[u8]; 2]) -> EntropyValues {
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

/// The entropy of counts, `taken` of each direction in all.
pub(super) fn measure<N: Copy + Into<u64>>([src, dst]: &[[N; 256]; 2], taken: [u64; 2]) -> EntropyValues {
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
