//! Points in time, and the one clock of the flow table: the packets themselves.
//!
//! Nothing here reads the machine's clock (design invariant 2).

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A point in time: whole nanoseconds since the Unix epoch, from the year 1677 to 2262.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// The latest time that can be held.
    pub const MAX: Timestamp = Timestamp(i64::MAX);
    /// The earliest time that can be held.
    pub const MIN: Timestamp = Timestamp(i64::MIN);

    /// Makes a time from nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// Returns the nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Makes a time from a wider count of nanoseconds; the flag says that it had to be clamped.
    pub fn from_wide_nanos(nanos: i128) -> (Self, bool) {
        match i64::try_from(nanos) {
            Ok(nanos) => (Timestamp(nanos), false),
            Err(_) if nanos < 0 => (Timestamp::MIN, true),
            Err(_) => (Timestamp::MAX, true),
        }
    }

    /// Returns the nanoseconds from `earlier` to `self`, 0 if `earlier` is the later one.
    pub const fn nanos_since(self, earlier: Timestamp) -> u64 {
        if self.0 > earlier.0 { self.0.abs_diff(earlier.0) } else { 0 }
    }

    /// Adds a duration and stays at [`Timestamp::MAX`] where that would overflow.
    pub const fn saturating_add_nanos(self, nanos: u64) -> Self {
        Timestamp(self.0.saturating_add_unsigned(nanos))
    }

    /// Splits into whole seconds (rounded down) and the nanoseconds above them.
    pub const fn parts(self) -> (i64, u32) {
        (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000) as u32)
    }

    /// Writes RFC 3339 with nine digits and `Z` into 30 bytes: `2023-11-14T22:13:20.000000000Z`.
    pub fn rfc3339(self) -> [u8; 30] {
        let (seconds, nanos) = self.parts();
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400) as u32;
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], second / 3600);
        digits(&mut text[14..16], second / 60 % 60);
        digits(&mut text[17..19], second % 60);
        digits(&mut text[20..29], nanos);
        text
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.rfc3339()).unwrap_or_default())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes a number in decimal, with zeros in front; two digits at a time.
#[inline]
fn digits(out: &mut [u8], mut value: u32) {
    let mut pairs = out.rchunks_exact_mut(2);
    for pair in &mut pairs {
        pair.copy_from_slice(&PAIRS[value as usize % 100]);
        value /= 100;
    }
    if let [digit] = pairs.into_remainder() {
        *digit = b'0' + (value % 10) as u8;
    }
}

/// The numbers from 00 to 99 in decimal.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar.
///
/// Counts in eras of 400 years (146,097 days) that begin on 1 March, so that a leap day ends its year.
fn civil(days: i64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

/// Table time: the newest packet time so far, and how often the input's time jumped back before it.
///
/// Later is greater; the order of replay (definitions.md) rests on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct TableTime {
    /// Counts the time jumps: a jump closes all flows and starts anew.
    pub epoch: u32,
    /// The newest packet time of this epoch.
    pub time: Timestamp,
}

impl TableTime {
    /// The earliest table time there is.
    pub const START: TableTime = TableTime { epoch: 0, time: Timestamp::MIN };
}

/// Turns packet times into table time.
///
/// Table time never goes back, except when a packet is older by more than `jump`:
/// then a new epoch begins, in which table time starts at that packet.
#[derive(Clone, Debug)]
pub struct TableClock {
    now: TableTime,
    started: bool,
    /// The largest step back that is no jump, in nanoseconds.
    jump: u64,
    counts: ClockCounts,
}

/// What a [`TableClock`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockCounts {
    /// Packets that carried no time; they got the table time.
    pub without_time: u64,
    /// Packets older than a packet before them.
    pub out_of_order: u64,
    /// Steps back by more than the largest idle timeout.
    pub jumps: u64,
}

impl TableClock {
    /// Makes a clock; `jump` is the largest idle timeout of the table it serves.
    pub fn new(jump: Duration) -> Self {
        let jump = u64::try_from(jump.as_nanos()).unwrap_or(u64::MAX);
        TableClock { now: TableTime::default(), started: false, jump, counts: ClockCounts::default() }
    }

    /// Takes note of a packet's time; returns the packet's time and the table time it counts at.
    #[inline]
    pub fn observe(&mut self, time: Option<Timestamp>) -> (Timestamp, TableTime) {
        let Some(time) = time else {
            self.counts.without_time += 1;
            return (self.now.time, self.now);
        };
        if time >= self.now.time || !self.started {
            self.now.time = time;
            self.started = true;
        } else {
            self.counts.out_of_order += 1;
            if self.jumps_at(time) {
                self.counts.jumps += 1;
                self.now = TableTime { epoch: self.now.epoch + 1, time };
            }
        }
        (time, self.now)
    }

    /// Tells whether a packet of this time would begin a new epoch.
    #[inline]
    pub fn jumps_at(&self, time: Timestamp) -> bool {
        self.started && self.now.time.nanos_since(time) > self.jump
    }

    /// Moves table time on while no packet comes; an earlier time is ignored.
    pub fn tick(&mut self, time: Timestamp) {
        if self.started {
            self.now.time = self.now.time.max(time);
        }
    }

    /// Returns the table time.
    pub fn now(&self) -> TableTime {
        self.now
    }

    /// Returns what was seen so far.
    pub fn counts(&self) -> ClockCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nanos: i64) -> String {
        Timestamp::from_nanos(nanos).to_string()
    }

    #[test]
    fn calendar() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(text(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(text(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(text(4_294_967_295_000_000_000), "2106-02-07T06:28:15.000000000Z");
        assert_eq!(text(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(text(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    #[test]
    fn clock_never_goes_back_but_for_a_jump() {
        let at = |s: i64| Some(Timestamp::from_nanos(s * 1_000_000_000));
        let mut clock = TableClock::new(Duration::from_secs(300));
        assert_eq!(clock.observe(None).1.time, Timestamp::EPOCH);
        assert_eq!(clock.observe(at(1000)).1, TableTime { epoch: 0, time: at(1000).unwrap() });
        let (time, table) = clock.observe(at(700));
        assert_eq!((time, table.time, table.epoch), (at(700).unwrap(), at(1000).unwrap(), 0));
        assert_eq!(clock.observe(at(699)).1, TableTime { epoch: 1, time: at(699).unwrap() });
        assert_eq!(clock.counts(), ClockCounts { without_time: 1, out_of_order: 2, jumps: 1 });
        clock.tick(at(600).unwrap());
        assert_eq!(clock.now().time, at(699).unwrap());
    }
}
