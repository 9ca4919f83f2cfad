//! Points in time, and the one clock of the flow table: the packets themselves.
//!
//! Nothing here reads the machine's clock (design invariant 2).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        Minute::default().rfc3339(self)
    }

    /// Reads RFC 3339 in UTC: `2023-11-14T22:13:20Z`, with any number of decimals, of which nine count.
    ///
    /// Returns `None` where it is anything else, or a time that cannot be held.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let digits = |range: std::ops::Range<usize>| {
            let part = text.get(range)?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
        };
        let marks = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
        if marks.iter().any(|&(at, mark)| text.get(at..at + 1) != Some(mark)) {
            return None;
        }
        let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
        let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
        let days = days_since_epoch(year, month, day)?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let nanos = match text.get(19..)?.strip_suffix('Z')? {
            "" => 0,
            fraction => {
                let decimals = fraction.strip_prefix('.').filter(|decimals| !decimals.is_empty())?;
                if !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                let nine: String = decimals.chars().chain("000000000".chars()).take(9).collect();
                nine.parse::<i128>().ok()?
            }
        };
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
        i64::try_from(i128::from(seconds) * 1_000_000_000 + nanos).ok().map(Timestamp)
    }
}

/// The minute of the last time that was written: times that are written one after the other mostly share it.
pub(crate) struct Minute {
    /// Minutes since the Unix epoch.
    number: i64,
    /// `2023-11-14T22:13`
    text: [u8; 16],
}

impl Minute {
    /// Writes as [`Timestamp::rfc3339`] does.
    #[inline]
    pub(crate) fn rfc3339(&mut self, time: Timestamp) -> [u8; 30] {
        const NANOS: i64 = 60_000_000_000;
        let number = time.0.div_euclid(NANOS);
        if number != self.number {
            *self = Minute::new(number);
        }
        let nanos = time.0.rem_euclid(NANOS) as u64;
        // Blocks of four characters, of which those at the edges of three digits are replaced.
        let second = three_digits(nanos / 1_000_000_000) & 0x00FF_FF00 | u32::from_le_bytes(*b":\0\0.");
        let last = three_digits(nanos % 1_000) & 0x00FF_FFFF | u32::from_le_bytes(*b"\0\0\0Z");
        let mut text = [0; 30];
        text[..16].copy_from_slice(&self.text);
        text[16..20].copy_from_slice(&second.to_le_bytes());
        text[20..24].copy_from_slice(&three_digits(nanos / 1_000_000 % 1_000).to_le_bytes());
        text[23..27].copy_from_slice(&three_digits(nanos / 1_000 % 1_000).to_le_bytes());
        text[26..].copy_from_slice(&last.to_le_bytes());
        text
    }

    #[cold]
    fn new(number: i64) -> Self {
        let (year, month, day) = civil(number.div_euclid(24 * 60) as i32);
        let minute = number.rem_euclid(24 * 60) as u32;
        let mut text = [0; 16];
        text[..8].copy_from_slice(&framed(b"0000-00-", year * 10_000 + month * 10));
        text[8..].copy_from_slice(&framed(b"00T00:00", day * 1_000_000 + minute / 60 * 1_000 + minute % 60));
        Minute { number, text }
    }
}

impl Default for Minute {
    fn default() -> Self {
        Minute { number: 0, text: *b"1970-01-01T00:00" }
    }
}

/// Puts eight digits into a frame; those in the place of another character are 0.
#[inline]
fn framed(frame: &[u8; 8], number: u32) -> [u8; 8] {
    (u64::from_le_bytes(*frame) | eight_digits(number)).to_le_bytes()
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

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("no time: {text}")))
    }
}

/// Returns the eight decimal digits of a number below 10^8, each a number from 0 to 9 in its byte, the first one lowest.
///
/// Divides both halves by 100, then all four quarters by 10, by multiplying with what is near enough to 1/100 and 1/10.
#[inline]
pub(crate) fn eight_digits(value: u32) -> u64 {
    let fours = u64::from(value / 10_000) | u64::from(value % 10_000) << 32;
    let hundreds = (fours * 10_486) >> 20 & 0x7F_0000_007F;
    let twos = hundreds | (fours - hundreds * 100) << 16;
    let tens = (twos * 103) >> 10 & 0x000F_000F_000F_000F;
    tens | (twos - tens * 10) << 8
}

/// Returns the three digits of a number below 1000, the first in the lowest byte, and in the highest byte eight times
/// the number of zeros that they begin with.
#[inline(always)]
pub(crate) fn three_digits(value: u64) -> u32 {
    THREE.get(value as usize).copied().unwrap_or_default()
}

static THREE: [u32; 1000] = {
    let mut three = [0; 1000];
    let mut value = 0;
    while value < 1000 {
        let zeros = match value {
            0..10 => 2,
            10..100 => 1,
            _ => 0,
        };
        let digits = [value / 100, value / 10 % 10, value % 10];
        three[value] =
            u32::from_le_bytes([digits[0] as u8, digits[1] as u8, digits[2] as u8, 8 * zeros]) | 0x30_3030;
        value += 1;
    }
    three
};

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar, for years from 0 on.
///
/// Counts in centuries, years and months that begin on 1 March, so that a leap day ends its year. All three are straight
/// lines rounded down: 146,097 days are four centuries, 1,461 days four years, 2,141 / 2^16 a month for each day (Neri and
/// Schneider, "Euclidean affine functions and their application to calendar algorithms").
fn civil(days: i32) -> (u32, u32, u32) {
    let quarters = 4 * (days + 719_468) as u32 + 3;
    let century = quarters / 146_097;
    let quarters = (quarters % 146_097) | 3;
    let (year, day_of_year) = (quarters / 1_461, quarters % 1_461 / 4);
    let line = 2_141 * day_of_year + 197_913;
    let (march_month, day) = (line >> 16, (line & 0xFFFF) / 2_141 + 1);
    let is_next_year = day_of_year >= 306;
    let month = if is_next_year { march_month - 12 } else { march_month };
    (100 * century + year + u32::from(is_next_year), month, day)
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar, none where there is no such date.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    // What can be held begins in 1677.
    if !(1..=12).contains(&month) || !(1677..=2262).contains(&year) {
        return None;
    }
    // Years begin on 1 March, as in `civil`.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let days = years * 365 + leap_days + (153 * months + 2) / 5 + day - 1 - 719_468;
    let back = civil(i32::try_from(days).ok()?);
    (i64::from(back.0), i64::from(back.1), i64::from(back.2)).eq(&(year, month, day)).then_some(days)
}

/// Table time: the newest packet time so far, and how often the input's time jumped back before it.
///
/// Later is greater; the order of replay (definitions.md) rests on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct TableTime {
    /// Counts the time jumps: a jump closes all flows and starts anew.
    pub epoch: u64,
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
    fn times_are_read_back() {
        for nanos in [0, -1, 1, 1_700_000_000_123_456_789, 951_782_400_000_000_000, i64::MAX, i64::MIN] {
            assert_eq!(Timestamp::parse(&text(nanos)), Some(Timestamp::from_nanos(nanos)));
        }
        for (text, nanos) in [
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000_000_000)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500_000_000)),
            ("2023-11-14T22:13:20.1234567899Z", Some(1_700_000_000_123_456_789)),
            ("2023-11-14T22:13:20.Z", None),
            ("2023-11-14T22:13:20", None),
            ("2023-11-14T22:13:20+01:00", None),
            ("2023-02-29T00:00:00Z", None),
            ("2023-00-10T00:00:00Z", None),
            ("2023-13-10T00:00:00Z", None),
            ("2023-01-00T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("+023-01-01T00:00:00Z", None),
            ("2300-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2023-01-01T00:00:0\u{e9}Z", None),
            ("", None),
        ] {
            assert_eq!(Timestamp::parse(text), nanos.map(Timestamp::from_nanos), "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let day_of = |time: Timestamp| time.parts().0.div_euclid(86_400) as i32;
        let (mut year, mut month, mut day) = (1677, 9, 21);
        for days in day_of(Timestamp::MIN)..=day_of(Timestamp::MAX) {
            assert_eq!(civil(days), (year, month, day));
            let length = match month {
                2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (day, month) = if day < length { (day + 1, month) } else { (1, month + 1) };
            (year, month) = if month > 12 { (year + 1, 1) } else { (year, month) };
        }
        assert_eq!((year, month, day), (2262, 4, 12));
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
