//! Lines that are not on disk yet.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::stamp::Stamp;
use crate::time::Timestamp;

/// Lines in memory, in portions that become a frame each.
pub(super) struct Waiting {
    lines: Vec<u8>,
    portions: VecDeque<Portion>,
    /// A portion takes no more lines once it has so many bytes.
    portion_bytes: usize,
}

/// Lines that become one frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    pub bytes: usize,
    pub records: u64,
    /// The time of day when the first line came.
    pub time: Timestamp,
    since: Instant,
}

/// A state to which can be returned as long as nothing is taken out.
pub(super) struct Before {
    lines: usize,
    portions: usize,
    last: Option<Portion>,
}

impl Waiting {
    pub(super) fn new(portion_bytes: usize) -> Self {
        Waiting { lines: Vec::new(), portions: VecDeque::new(), portion_bytes }
    }

    /// Adds a line with its stamp; false, and nothing done, where it is no object.
    #[inline]
    pub(super) fn add(&mut self, object: &[u8], stamp: &mut Stamp) -> bool {
        let before = self.lines.len();
        let is_object = stamp.append(object, &mut self.lines);
        if is_object {
            self.count(self.lines.len() - before);
        }
        is_object
    }

    /// Adds a line as it is, in place of one record.
    pub(super) fn add_as_it_is(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        self.count(line.len());
    }

    /// Tells whether a portion waits that takes no more lines.
    pub(super) fn is_full(&self) -> bool {
        self.portions.front().is_some_and(|first| first.bytes >= self.portion_bytes)
    }

    /// Returns how long the oldest line has waited.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.portions.front().map(|first| first.since)
    }

    /// Returns how many lines wait.
    pub(super) fn records(&self) -> u64 {
        self.portions.iter().map(|portion| portion.records).sum()
    }

    /// Returns the oldest portion.
    pub(super) fn first(&self) -> Option<(Portion, &[u8])> {
        let first = *self.portions.front()?;
        Some((first, self.lines.get(..first.bytes)?))
    }

    /// Takes the oldest portion out.
    pub(super) fn remove_first(&mut self) {
        // What is behind it is little: as much as came with the line that filled it.
        let bytes = self.portions.pop_front().map_or(0, |first| first.bytes);
        self.lines.drain(..bytes.min(self.lines.len()));
    }

    /// Forgets all lines.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.portions.clear();
    }

    /// Notes the state that there is.
    pub(super) fn before(&self) -> Before {
        let last = self.portions.back().copied();
        Before { lines: self.lines.len(), portions: self.portions.len(), last }
    }

    /// Takes back what was added since.
    pub(super) fn return_to(&mut self, before: &Before) {
        self.lines.truncate(before.lines);
        self.portions.truncate(before.portions);
        if let (Some(last), Some(noted)) = (self.portions.back_mut(), before.last) {
            *last = noted;
        }
    }

    fn count(&mut self, bytes: usize) {
        match self.portions.back_mut().filter(|last| last.bytes < self.portion_bytes) {
            Some(last) => {
                last.bytes += bytes;
                last.records += 1;
            }
            None => {
                self.portions.push_back(Portion { bytes, records: 1, time: now(), since: Instant::now() })
            }
        }
    }
}

/// Returns the time of day.
pub(super) fn now() -> Timestamp {
    let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    Timestamp::from_wide_nanos(nanos).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_and_the_way_back() {
        let (mut waiting, mut stamp) = (Waiting::new(120), Stamp::new(1, 0));
        for _ in 0..5 {
            assert!(waiting.add(b"{\"a\":1}", &mut stamp));
        }
        // A line has 52 bytes, so that the third fills a portion.
        assert!(waiting.is_full());
        let before = waiting.before();
        let text = waiting.lines.clone();
        for _ in 0..9 {
            waiting.add(b"{\"b\":1}", &mut stamp);
        }
        assert!(!waiting.add(b"no object", &mut stamp));
        assert_eq!(waiting.records(), 14);
        waiting.return_to(&before);
        assert_eq!((waiting.records(), &waiting.lines), (5, &text));
        let mut seen = Vec::new();
        while let Some((portion, lines)) = waiting.first() {
            assert_eq!(lines.iter().filter(|&&byte| byte == b'\n').count() as u64, portion.records);
            seen.push(portion.records);
            waiting.remove_first();
        }
        assert_eq!(seen, [3, 2]);
        assert!(waiting.lines.is_empty() && !waiting.is_full() && waiting.oldest().is_none());
    }
}
