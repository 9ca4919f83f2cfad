//! The names of files: a template with times in it, and which names it can have made.

use std::path::{Component, Path, PathBuf};

use super::packer::Compression;
use crate::error::Error;
use crate::time::Timestamp;

/// A destination with `%Y %m %d %H %M %S %j %s` and `%%` in it, all of them in UTC.
///
/// Folders before the first placeholder are the administrator's; everything behind is made here and stays beneath them.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// The folder that all names are beneath.
    base: PathBuf,
    /// The folders beneath it and the stem of the file, as patterns.
    names: Vec<Vec<Part>>,
    /// What stands behind the stem and its number, without `.gz` or `.zst`: `.jsonl`.
    ending: String,
    compression: Compression,
}

/// A piece of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Letter(char),
    Time(Place),
}

/// Which part of a time, and how it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    DayOfYear,
    Epoch,
}

/// A file name that a template can have made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Made {
    /// The time in the name, where it names a day.
    pub(super) time: Option<Timestamp>,
    /// 1, and from 2 on what stands behind the stem.
    pub(super) number: u32,
    pub(super) form: Form,
}

/// What a file holds, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Plain,
    Packed(Compression),
    /// A compressed file that is not whole yet.
    Part(Compression),
}

impl Template {
    /// Reads a destination.
    ///
    /// # Errors
    /// [`Error::Option`] for a placeholder that is none, and for `..` behind the first one.
    pub(super) fn parse(destination: &str) -> Result<Self, Error> {
        let refuse = |what: &str| Error::Option(format!("{destination}: {what}"));
        let (name, compression) = super::split_compression(destination);
        let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        let ending = name.strip_prefix(stem).unwrap_or_default().to_owned();
        let (mut base, mut names) = (PathBuf::new(), Vec::new());
        let mut components = Path::new(stem).components().peekable();
        while let Some(component) = components.next() {
            let Component::Normal(text) = component else {
                if !names.is_empty() {
                    return Err(refuse("'..' may not stand behind a placeholder"));
                }
                base.push(component);
                continue;
            };
            let pattern = pattern(&text.to_string_lossy()).ok_or_else(|| {
                refuse("a name may have %Y %m %d %H %M %S %j %s and %% in it, and no other placeholder")
            })?;
            let has_time = pattern.iter().any(|part| matches!(part, Part::Time(_)));
            if names.is_empty() && !has_time && components.peek().is_some() {
                base.push(text_of(&pattern));
            } else {
                names.push(pattern);
            }
        }
        if names.is_empty() || stem.ends_with('/') {
            return Err(refuse("this names no file"));
        }
        if base.as_os_str().is_empty() {
            base.push(".");
        }
        Ok(Template { base, names, ending, compression })
    }

    /// Returns the folder that all names are beneath.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Returns how files are compressed while they are written.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Tells whether a time stands in the names.
    pub(super) fn has_time(&self) -> bool {
        self.names.iter().flatten().any(|part| matches!(part, Part::Time(_)))
    }

    /// Returns the name of a file beneath the base: folders, stem, `-2` from 2 on, ending.
    pub(super) fn name(&self, time: Timestamp, number: u32) -> PathBuf {
        let mut names: Vec<String> = self.names.iter().map(|parts| spell(parts, time)).collect();
        if let Some(stem) = names.last_mut() {
            if number > 1 {
                stem.push_str(&format!("-{number}"));
            }
            stem.push_str(&self.ending);
            stem.push_str(self.compression.ending());
        }
        names.iter().collect()
    }

    /// Returns the path of a whole file with another number.
    pub(super) fn numbered(&self, whole: &Path, from: u32, to: u32) -> PathBuf {
        let text = whole.to_string_lossy();
        let (name, compression) = super::split_compression(&text);
        let stem = name.strip_suffix(&self.ending).unwrap_or(name);
        let stem = Some(from)
            .filter(|from| *from > 1)
            .and_then(|from| stem.strip_suffix(&format!("-{from}")))
            .unwrap_or(stem);
        format!("{stem}-{to}{}{}", self.ending, compression.ending()).into()
    }

    /// Tells whether a folder that lies so deep beneath the base can have this name.
    pub(super) fn makes_folder(&self, depth: usize, name: &str) -> bool {
        let is_folder = depth + 1 < self.names.len();
        is_folder && self.names.get(depth).is_some_and(|parts| reads(parts, name).is_some())
    }

    /// Returns how many folders lie between the base and the files.
    pub(super) fn depth(&self) -> usize {
        self.names.len() - 1
    }

    /// Reads the path of a file beneath the base; none where this template cannot have made it.
    pub(super) fn read(&self, path: &Path) -> Option<Made> {
        let texts: Vec<&str> = path.iter().map(|name| name.to_str()).collect::<Option<_>>()?;
        let (file, folders) = texts.split_last()?;
        let (patterns, stem_pattern) = (self.names.get(..self.depth())?, self.names.last()?);
        let (form, stem) = self.form(file)?;
        let mut fields = Vec::new();
        if folders.len() != patterns.len() {
            return None;
        }
        for (parts, name) in patterns.iter().zip(folders) {
            fields.extend(reads(parts, name)?);
        }
        let numbered = stem.rsplit_once('-').and_then(|(stem, digits)| {
            let number = digits.parse::<u32>().ok().filter(|number| *number >= 2)?;
            (number.to_string() == digits).then_some((stem, number))
        });
        // A stem may end in a dash and digits of its own.
        for (stem, number) in [Some((stem, 1)), numbered].into_iter().flatten() {
            let Some(of_stem) = reads(stem_pattern, stem) else { continue };
            let mut fields = fields.clone();
            fields.extend(of_stem);
            match time(&fields) {
                Read::Wrong => continue,
                Read::Time(time) => {
                    let spelt = self.names.iter().map(|parts| spell(parts, time));
                    let found = folders.iter().copied().chain([stem]);
                    if spelt.eq(found.map(str::to_owned)) {
                        return Some(Made { time: Some(time), number, form });
                    }
                }
                Read::NoDay => return Some(Made { time: None, number, form }),
            }
        }
        None
    }

    /// Splits a file name into what it holds and its stem.
    fn form<'a>(&self, file: &'a str) -> Option<(Form, &'a str)> {
        let (whole, is_part) = file.strip_suffix(PART).map_or((file, false), |whole| (whole, true));
        let (name, compression) = super::split_compression(whole);
        let form = match (compression, is_part) {
            (Compression::None, true) => return None,
            (Compression::None, false) if self.compression == Compression::None => Form::Plain,
            (Compression::None, false) => return None,
            (packed, true) => Form::Part(packed),
            (packed, false) => Form::Packed(packed),
        };
        let is_ours = self.compression == Compression::None || compression == self.compression;
        let stem = name.strip_suffix(&self.ending).filter(|_| is_ours)?;
        Some((form, stem))
    }

    /// Returns the length of the periods that names tell apart, in nanoseconds; 0 where they have no time.
    pub(super) fn span(&self) -> u64 {
        let spans = self.names.iter().flatten().filter_map(|part| match part {
            Part::Letter(_) => None,
            Part::Time(Place::Second | Place::Epoch) => Some(1),
            Part::Time(Place::Minute) => Some(60),
            Part::Time(Place::Hour) => Some(3_600),
            Part::Time(Place::Day | Place::DayOfYear) => Some(86_400),
            Part::Time(Place::Month) => Some(31 * 86_400),
            Part::Time(Place::Year) => Some(366 * 86_400),
        });
        spans.min().unwrap_or(0) * 1_000_000_000
    }
}

/// Splits a name into letters and places; none where a placeholder is none.
fn pattern(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        parts.push(match letter {
            '%' => match letters.next()? {
                '%' => Part::Letter('%'),
                'Y' => Part::Time(Place::Year),
                'm' => Part::Time(Place::Month),
                'd' => Part::Time(Place::Day),
                'H' => Part::Time(Place::Hour),
                'M' => Part::Time(Place::Minute),
                'S' => Part::Time(Place::Second),
                'j' => Part::Time(Place::DayOfYear),
                's' => Part::Time(Place::Epoch),
                _ => return None,
            },
            plain => Part::Letter(plain),
        });
    }
    Some(parts)
}

/// The text of a pattern without places.
fn text_of(parts: &[Part]) -> String {
    spell(parts, Timestamp::EPOCH)
}

fn spell(parts: &[Part], time: Timestamp) -> String {
    let bytes = time.rfc3339();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    };
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Letter(letter) => text.push(*letter),
            Part::Time(Place::Year) => text.push_str(digits(0..4)),
            Part::Time(Place::Month) => text.push_str(digits(5..7)),
            Part::Time(Place::Day) => text.push_str(digits(8..10)),
            Part::Time(Place::Hour) => text.push_str(digits(11..13)),
            Part::Time(Place::Minute) => text.push_str(digits(14..16)),
            Part::Time(Place::Second) => text.push_str(digits(17..19)),
            Part::Time(Place::DayOfYear) => text.push_str(&format!("{:03}", day_of_year(digits(0..4), time))),
            Part::Time(Place::Epoch) => text.push_str(&time.parts().0.to_string()),
        }
    }
    text
}

/// 1 for the first of January.
fn day_of_year(year: &str, time: Timestamp) -> i64 {
    let first = Timestamp::parse(&format!("{year}-01-01T00:00:00Z"));
    first.map_or(1, |first| (time.parts().0 - first.parts().0) / 86_400 + 1)
}

/// Reads a name by its pattern: the numbers in its places, in order.
fn reads(parts: &[Part], name: &str) -> Option<Vec<(Place, i64)>> {
    let Some((part, rest)) = parts.split_first() else { return name.is_empty().then(Vec::new) };
    let digits = |count: usize| name.get(..count).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let with = |place: Place, count: usize, number: i64| {
        let mut fields = reads(rest, name.get(count..)?)?;
        fields.push((place, number));
        Some(fields)
    };
    match part {
        Part::Letter(letter) => reads(rest, name.strip_prefix(*letter)?),
        // As many digits as there may be, less where the rest needs some of them.
        Part::Time(Place::Epoch) => (1..=11).rev().find_map(|count| {
            let number = name.get(..count)?.parse::<i64>().ok().filter(|n| n.to_string().len() == count)?;
            with(Place::Epoch, count, number)
        }),
        Part::Time(place) => {
            let (count, least, most) = match place {
                Place::Year => (4, 1677, 2262),
                Place::Month => (2, 1, 12),
                Place::Day => (2, 1, 31),
                Place::Hour => (2, 0, 23),
                Place::Minute | Place::Second => (2, 0, 59),
                Place::DayOfYear | Place::Epoch => (3, 1, 366),
            };
            let number = digits(count)?.parse().ok().filter(|n| (least..=most).contains(n))?;
            with(*place, count, number)
        }
    }
}

/// What the numbers of a name say.
enum Read {
    Time(Timestamp),
    /// They name no day.
    NoDay,
    /// There is no such day.
    Wrong,
}

fn time(fields: &[(Place, i64)]) -> Read {
    let field = |place: Place| fields.iter().find(|field| field.0 == place).map(|field| field.1);
    let at = |place: Place| field(place).unwrap_or(0);
    if let Some(seconds) = field(Place::Epoch) {
        return Read::Time(Timestamp::from_wide_nanos(i128::from(seconds) * 1_000_000_000).0);
    }
    let clock = format!("{:02}:{:02}:{:02}Z", at(Place::Hour), at(Place::Minute), at(Place::Second));
    let parsed = |date: String| Timestamp::parse(&format!("{date}T{clock}"));
    let time = match (field(Place::Year), field(Place::Month), field(Place::Day), field(Place::DayOfYear)) {
        (Some(year), Some(month), Some(day), _) => parsed(format!("{year:04}-{month:02}-{day:02}")),
        (Some(year), _, _, Some(day)) => parsed(format!("{year:04}-01-01"))
            .map(|first| first.saturating_add_nanos((day - 1).unsigned_abs() * 86_400_000_000_000)),
        (Some(year), Some(month), None, None) => parsed(format!("{year:04}-{month:02}-01")),
        (Some(year), None, None, None) => parsed(format!("{year:04}-01-01")),
        // A day of some year, if it is one of a leap year.
        (None, Some(month), Some(day), _) if parsed(format!("2024-{month:02}-{day:02}")).is_none() => None,
        _ => return Read::NoDay,
    };
    time.map_or(Read::Wrong, Read::Time)
}

/// What stands behind the stem of a file and its number.
const ENDINGS: &[&str] = &[".jsonl", ".csv", ".log"];

/// What a compressed file is called until it is whole.
pub(super) const PART: &str = ".part";

#[cfg(test)]
mod tests;
