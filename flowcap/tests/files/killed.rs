//! Kills at random moments: when, how often, and what must be there afterwards all the same.

use std::ops::Range;
use std::time::{Duration, Instant};

/// What may be missing at a kill: records not due yet, and some time for a busy machine; and those of the last 500 ms,
/// unless the disk has to have them at once.
pub const NOT_DUE: Duration = Duration::from_millis(50 + 750);
pub const LOST: Duration = NOT_DUE.saturating_add(Duration::from_millis(500));

/// Returns how many kills there are in all: FLOWCAP_KILLS, or so many.
pub fn kills_in_all(otherwise: usize) -> usize {
    std::env::var("FLOWCAP_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(otherwise)
}

/// Numbers by chance, others in each process.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(0x9E37_79B9_7F4A_7C15u64.wrapping_mul(seed + 1) ^ u64::from(std::process::id()))
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What was sent between two kills.
#[derive(Default)]
pub struct Runs {
    /// The numbers that were old enough when the kill came.
    old: Vec<Range<u32>>,
    /// Where the run that goes on began, and what had been sent when.
    first: u32,
    times: Vec<(u32, Instant)>,
}

impl Runs {
    /// Begins one at a number.
    pub fn begin(&mut self, first: u32) {
        (self.first, self.times) = (first, Vec::new());
    }

    /// Notes that what is below a number has been sent.
    pub fn sent(&mut self, end: u32) {
        self.times.push((end, Instant::now()));
    }

    /// Notes a kill, just now, at which what is younger may be `lost`.
    pub fn killed(&mut self, lost: Duration) {
        let old = self.times.iter().rev().find(|(_, at)| at.elapsed() > lost);
        self.old.push(self.first..old.map_or(self.first, |(end, _)| *end));
    }

    /// Returns those that are old enough and not among `found`, and how many were not heard at all: on a busy machine
    /// flowcap may listen a little later than it seems. `found` is in order.
    pub fn missing(&self, found: &[u32]) -> (Vec<(usize, u32)>, u32) {
        let (mut missing, mut unheard) = (Vec::new(), 0);
        for (nth, run) in self.old.iter().enumerate() {
            let heard = found.get(found.partition_point(|number| *number < run.start)).copied();
            let heard = heard.unwrap_or(run.end).clamp(run.start, run.end.max(run.start));
            unheard += heard - run.start;
            let lost = (heard..run.end).filter(|number| found.binary_search(number).is_err());
            missing.extend(lost.map(|number| (nth, number)));
        }
        (missing, unheard)
    }

    /// Sees to it that all that is old enough is among `found`, and nothing twice.
    pub fn check(&self, place: &str, mut found: Vec<u32>) {
        found.sort_unstable();
        let all = found.len();
        found.dedup();
        assert_eq!(found.len(), all, "{place}: records are there twice");
        let (missing, unheard) = self.missing(&found);
        let (runs, sent) = (self.old.len(), self.times.last().map_or(0, |(end, _)| *end));
        let old: usize = self.old.iter().map(|run| run.len()).sum();
        println!(
            "{place}: {runs} runs, {sent} records sent, {old} of them old enough, {all} found, {unheard} not heard"
        );
        assert!(unheard < 1_000 + old as u32 / 20, "{place}: {unheard} of the first packets were not heard");
        assert!(missing.is_empty(), "{place}: {} are missing: {missing:?}", missing.len());
    }
}
