//! What can be said about the files that records go to, and how it is written: `1h,256MB`, `7d,10GB`, `zstd`, `500ms`.

use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;
pub use crate::spool::SyncPolicy;
use crate::time::Timestamp;

/// What to do where a destination exists already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Existing {
    /// Leaves it as it is and fails: right for replay.
    #[default]
    Refuse,
    /// Adds to its end: right for live capture. A compressed file is left alone, and the next free one of
    /// `NAME-2.EXT`, `NAME-3.EXT` … is made beside it.
    Append,
    /// Starts it anew.
    Overwrite,
}

/// How the files of a destination are made, changed and kept (faults.md, "Files").
///
/// Made from [`Existing`] where nothing else is to be said: one file, which a replay fills.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileOptions {
    /// What to do with files that exist.
    pub existing: Existing,
    /// When the next file begins. Without it, where the time that stands in the name becomes another one.
    pub rotate: Option<Rotate>,
    /// Which closed files stay.
    pub keep: Keep,
    /// How files are compressed once they are closed; not for names that say how they are compressed while written.
    pub compress: Option<Compress>,
    /// When the disk has to have what was written.
    pub sync: SyncPolicy,
    /// Records come whether they can be written or not: a full disk ends nothing, what finds no room is dropped and
    /// counted, and a file that vanishes is made again.
    pub live: bool,
    /// The time in the first name. Without it the first file of a name with a time in it begins with the first
    /// [`advance`](super::Sink::advance).
    pub now: Option<Timestamp>,
    /// Who is to own files and folders that are made, a user and a group: root opens the first ones for a user who goes on
    /// with them. Without it, who makes them.
    pub owner: Option<(u32, u32)>,
}

impl From<Existing> for FileOptions {
    fn from(existing: Existing) -> Self {
        FileOptions { existing, ..FileOptions::default() }
    }
}

/// When the next file begins: after a time, beyond a size, or whichever comes first. Written `1h`, `256MB`, `1h,256MB`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rotate {
    /// Where a period of this length ends; periods are counted from 1970-01-01T00:00:00Z, so hours begin on the hour.
    pub every: Option<Duration>,
    /// Before a file grows larger than this, in bytes. A file that is compressed while written may be larger by a frame.
    pub size: Option<u64>,
}

impl FromStr for Rotate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut rotate = Rotate::default();
        for part in text.split(',').map(str::trim) {
            match (time(part), size(part)) {
                (Some(every), _) if rotate.every.is_none() && every >= Duration::from_secs(1) => {
                    rotate.every = Some(every);
                }
                (None, Some(bytes)) if rotate.size.is_none() && bytes > 0 => rotate.size = Some(bytes),
                _ => return Err(wrong(text, "a time of at least a second, a size, or both: 1h,256MB")),
            }
        }
        Ok(rotate)
    }
}

/// Which closed files stay; the oldest go first. Written `24` (files), `7d`, `10GB`, or several of them: `7d,10GB`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// At most so many, the one that is written included.
    pub files: Option<u64>,
    /// Those whose newest record may be younger than this.
    pub age: Option<Duration>,
    /// As many as have this size together, in bytes on disk, the one that is written included.
    pub size: Option<u64>,
}

impl Keep {
    /// Tells whether all files stay.
    pub fn is_all(&self) -> bool {
        *self == Keep::default()
    }
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut keep = Keep::default();
        for part in text.split(',').map(str::trim) {
            match (part.parse::<u64>(), time(part), size(part)) {
                (Ok(files), ..) if keep.files.is_none() && files > 0 => keep.files = Some(files),
                (Err(_), Some(age), _) if keep.age.is_none() && !age.is_zero() => keep.age = Some(age),
                (Err(_), None, Some(bytes)) if keep.size.is_none() && bytes > 0 => keep.size = Some(bytes),
                _ => return Err(wrong(text, "a number of files, an age, a size, or several: 7d,10GB")),
            }
        }
        Ok(keep)
    }
}

/// How a closed file is compressed. Written `zstd` or `gzip`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compress {
    /// To `NAME.gz`.
    Gzip,
    /// To `NAME.zst`.
    Zstd,
}

impl FromStr for Compress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "gzip" => Ok(Compress::Gzip),
            "zstd" => Ok(Compress::Zstd),
            _ => Err(wrong(text, "zstd or gzip")),
        }
    }
}

impl FromStr for SyncPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "always" => Ok(SyncPolicy::Always),
            "off" => Ok(SyncPolicy::Off),
            _ => match time(text) {
                Some(Duration::ZERO) => Ok(SyncPolicy::Always),
                Some(every) => Ok(SyncPolicy::Every(every)),
                None => Err(wrong(text, "always, a time as 500ms, or off")),
            },
        }
    }
}

fn wrong(text: &str, right: &str) -> Error {
    Error::Option(format!("'{text}': {right}"))
}

/// Reads `1h`, `90s`, `1h30m`, `500ms`: numbers, each with its unit.
fn time(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = Some(text).filter(|text| !text.is_empty())?;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        let millis = TIME_UNITS.iter().find(|(name, _)| *name == unit)?.1.checked_mul(number)?;
        sum = sum.checked_add(Duration::from_millis(millis))?;
        rest = after;
    }
    (sum <= LONGEST).then_some(sum)
}

/// Reads `256MB`, `64MiB`, `10GB`: one number with its unit.
fn size(text: &str) -> Option<u64> {
    let (number, unit, "") = number_and_unit(text)? else { return None };
    SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1.checked_mul(number)
}

/// Splits off a number and the letters behind it.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    Some((digits.parse().ok()?, unit, rest))
}

/// In milliseconds.
const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
];

/// In bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A hundred years.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(count: u64) -> Option<Duration> {
        Some(Duration::from_secs(count * 3_600))
    }

    #[test]
    fn rotation() {
        let read = |text: &str| text.parse::<Rotate>().unwrap();
        assert_eq!(read("1h"), Rotate { every: hours(1), size: None });
        assert_eq!(read("256MB"), Rotate { every: None, size: Some(256_000_000) });
        assert_eq!(read("1h,256MB"), Rotate { every: hours(1), size: Some(256_000_000) });
        assert_eq!(read("64MiB, 1h30m").size, Some(64 << 20));
        for text in ["", "1h,", "1h,2h", "1MB,2MB", "500ms", "0s", "0MB", "7", "1x", "1h2", "-1h", "200y"] {
            assert!(text.parse::<Rotate>().is_err(), "{text}");
        }
    }

    #[test]
    fn keeping() {
        let read = |text: &str| text.parse::<Keep>().unwrap();
        assert_eq!(read("24"), Keep { files: Some(24), ..Keep::default() });
        assert_eq!(read("7d,10GB"), Keep { files: None, age: hours(168), size: Some(10_000_000_000) });
        assert_eq!(read("10gb,3,1w").files, Some(3));
        assert!(Keep::default().is_all() && !read("1").is_all());
        for text in ["", "0", "0d", "0MB", "1,2", "all", "99999999999999999999GB"] {
            assert!(text.parse::<Keep>().is_err(), "{text}");
        }
    }

    #[test]
    fn compression_and_sync() {
        assert_eq!("zstd".parse::<Compress>().unwrap(), Compress::Zstd);
        assert_eq!("gzip".parse::<Compress>().unwrap(), Compress::Gzip);
        assert!("xz".parse::<Compress>().is_err());
        let read = |text: &str| text.parse::<SyncPolicy>().unwrap();
        assert_eq!(read("always"), SyncPolicy::Always);
        assert_eq!(read("off"), SyncPolicy::Off);
        assert_eq!(read("500ms"), SyncPolicy::default());
        assert_eq!(read("0s"), SyncPolicy::Always);
        assert!("often".parse::<SyncPolicy>().is_err());
    }
}
