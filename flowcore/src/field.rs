//! The words of an output: a named field and the plain value that stands in it.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::key::Dir;
use crate::time::Timestamp;

/// A field of a record: its name, and which of the ready-made lists hold it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name in JSON and in CSV headers; its unit stands in it where it has one.
    pub name: &'static str,
    /// The ready-made lists that hold it.
    pub lists: Lists,
}

/// The ready-made lists that a field is in (record.md); every field is in `@all`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lists {
    /// `@core`, `@stats` and `@all`.
    CoreAndStats,
    /// `@core` and `@all`.
    Core,
    /// `@stats` and `@all`.
    Stats,
    /// `@all` only.
    All,
    /// `@core` and `@all`, where flows are attributed to processes.
    Owners,
}

impl Field {
    /// Makes a field of `@core`, `@stats` and `@all`.
    pub const fn core_and_stats(name: &'static str) -> Self {
        Field { name, lists: Lists::CoreAndStats }
    }

    /// Makes a field of `@core` and `@all`.
    pub const fn core(name: &'static str) -> Self {
        Field { name, lists: Lists::Core }
    }

    /// Makes a field of `@stats` and `@all`.
    pub const fn stats(name: &'static str) -> Self {
        Field { name, lists: Lists::Stats }
    }

    /// Makes a field of `@core` and `@all` where flows are attributed to processes.
    pub const fn owner(name: &'static str) -> Self {
        Field { name, lists: Lists::Owners }
    }

    /// Makes a field of `@all` only.
    pub const fn all(name: &'static str) -> Self {
        Field { name, lists: Lists::All }
    }
}

/// A plain value of a field.
///
/// How it is written: [`Scalar::Seconds`] and [`Scalar::Micros`] hold nanoseconds and become decimal
/// fractions without rounding; NaN and infinities of [`Scalar::Float`] are absent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar<'a> {
    /// Unknown: no field in JSON, an empty cell in CSV.
    Absent,
    /// A truth value.
    Bool(bool),
    /// A count or number.
    U64(u64),
    /// A word of ours that needs no escaping anywhere.
    Word(&'a str),
    /// The same as bytes, all of them ASCII.
    Ascii(&'a [u8]),
    /// A text that came from outside: it is escaped.
    Text(&'a str),
    /// A number that is written as a text: a protocol without keyword.
    NumberAsText(u8),
    /// An address; IPv6 as RFC 5952 says.
    Ip(IpAddr),
    /// A point in time, RFC 3339.
    Time(Timestamp),
    /// Nanoseconds, written as seconds with up to nine decimals.
    Seconds(u64),
    /// Nanoseconds, written as microseconds with three decimals.
    Micros(u64),
    /// A number with up to six decimals.
    Float(f64),
    /// A list of packets, each a triple `[ip_length, iat_us, 1 or -1]`.
    Packets(&'a [PacketRow]),
}

/// One packet of a list of packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketRow {
    /// Length by the IP header, in bytes.
    pub ip_len: u64,
    /// Nanoseconds since the packet before it; 0 for the first.
    pub iat_nanos: u64,
    /// Its direction.
    pub dir: Dir,
}

impl Scalar<'_> {
    /// Wraps a number that may be unknown.
    pub fn number<N: Into<u64>>(value: Option<N>) -> Scalar<'static> {
        value.map_or(Scalar::Absent, |value| Scalar::U64(value.into()))
    }

    /// Wraps a count of nanoseconds, given as a float, that is written as microseconds.
    pub fn micros(nanos: Option<f64>) -> Scalar<'static> {
        match nanos {
            Some(nanos) if nanos.is_finite() && nanos >= 0.0 => Scalar::Micros(rounded(nanos)),
            _ => Scalar::Absent,
        }
    }

    /// Wraps a float that may be unknown.
    pub fn float(value: Option<f64>) -> Scalar<'static> {
        match value {
            Some(value) if value.is_finite() => Scalar::Float(value),
            _ => Scalar::Absent,
        }
    }
}

impl Serialize for Scalar<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Scalar::Absent => serializer.serialize_none(),
            Scalar::Bool(value) => serializer.serialize_bool(value),
            Scalar::U64(value) => serializer.serialize_u64(value),
            Scalar::Word(text) | Scalar::Text(text) => serializer.serialize_str(text),
            Scalar::Ascii(word) => serializer.serialize_str(std::str::from_utf8(word).unwrap_or_default()),
            Scalar::NumberAsText(number) => serializer.collect_str(&number),
            Scalar::Ip(addr) => serializer.collect_str(&addr),
            Scalar::Time(time) => serializer.collect_str(&time),
            Scalar::Seconds(nanos) => serializer.serialize_f64(nanos as f64 / 1e9),
            Scalar::Micros(nanos) => serializer.serialize_f64(nanos as f64 / 1e3),
            Scalar::Float(value) => serializer.serialize_f64(value),
            Scalar::Packets(rows) => serializer.collect_seq(rows.iter().map(|row| {
                let sign = if row.dir == Dir::Fwd { 1i8 } else { -1 };
                (row.ip_len, row.iat_nanos as f64 / 1e3, sign)
            })),
        }
    }
}

/// Shows a text from outside with everything escaped that acts on a terminal or hides what it says.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '\n' => f.write_str("\\n"),
            '\r' => f.write_str("\\r"),
            '\t' => f.write_str("\\t"),
            letter if is_unsafe(letter) => {
                letter.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))
            }
            letter => f.write_char(letter),
        })
    }
}

/// Returns a text with its middle left out where it has more than so many characters: what was quoted may be long, and
/// what is wrong with it stands at the end.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    let half = most / 2;
    let head = text.char_indices().nth(half);
    let tail = text.char_indices().rev().take(half).last();
    match (head, tail) {
        (Some((head, _)), Some((tail, _))) if text.get(head..tail).is_some_and(|cut| !cut.is_empty()) => {
            Cow::Owned([text.get(..head), Some("…"), text.get(tail..)].into_iter().flatten().collect())
        }
        _ => Cow::Borrowed(text),
    }
}

/// Tells whether a character never stands in an output as it is (faults.md): controls, DEL, C1, the line separators that
/// only some readers know, and whatever is not seen itself.
#[inline]
pub(crate) fn is_unsafe(letter: char) -> bool {
    matches!(letter, '\0'..='\x1f' | '\x7f'..='\u{9f}') || (letter > '\u{9f}' && is_unseen(letter))
}

/// Tells whether a character has no width, joins others or changes the direction of writing: Unicode's `Cf` and
/// `Default_Ignorable_Code_Point`, and what separates lines. Two names that look the same are the same without them.
fn is_unseen(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Rounds a positive number, halves up, as `f64::round` does, which is a call where the processor may lack SSE 4.1.
#[inline]
pub(crate) fn rounded(number: f64) -> u64 {
    // From here on there are whole numbers only.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    if number >= WHOLE {
        return number as u64;
    }
    let whole = number as i64;
    (whole + i64::from(number - whole as f64 >= 0.5)) as u64
}

/// A short ASCII text that lives in place, for words such as `"SA---F"` and `"ShADadFf"`.
///
/// Holds up to `N` bytes (at most 255); what is pushed beyond is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShortText<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> ShortText<N> {
    /// Makes an empty text.
    pub const fn new() -> Self {
        assert!(N <= 255);
        ShortText { len: 0, bytes: [0; N] }
    }

    /// Adds an ASCII character; returns whether there was room for it.
    #[inline]
    pub const fn push(&mut self, letter: u8) -> bool {
        if self.len as usize >= N {
            return false;
        }
        self.bytes[self.len as usize] = if letter.is_ascii() { letter } else { b'?' };
        self.len += 1;
        true
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Returns the text as bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Returns the text's bytes for changes in place; they must stay ASCII.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..usize::from(self.len)).unwrap_or_default()
    }
}

impl<const N: usize> Default for ShortText<N> {
    fn default() -> Self {
        ShortText::new()
    }
}

impl<const N: usize> std::fmt::Debug for ShortText<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Printable, rounded, shortened};

    #[test]
    fn halves_are_rounded_up() {
        for number in [0.0, 0.5, 1.5, 2.5, 0.499_999_999_999_999_94, 4_503_599_627_370_495.5, 1e19, 1e300] {
            assert_eq!(rounded(number), number.round() as u64);
        }
    }

    #[test]
    fn printable_texts_hide_nothing() {
        assert_eq!(Printable("a\x1b[2J\n\u{202e}b").to_string(), "a\\u001b[2J\\n\\u202eb");
        assert_eq!(Printable("gr\u{fc}n \"x\"").to_string(), "gr\u{fc}n \"x\"");
        assert_eq!(Printable("ss\u{200b}hd\u{feff}").to_string(), "ss\\u200bhd\\ufeff");
        // A tag, which is beyond the basic plane: two units of UTF-16, as in JSON.
        assert_eq!(Printable("a\u{e0041}").to_string(), "a\\udb40\\udc41");
        for unseen in "\u{ad}\u{34f}\u{61c}\u{1160}\u{17b4}\u{180e}\u{200c}\u{200d}\u{2060}\u{2065}\u{3164}\u{fe0f}\u{ffa0}\u{fff9}\u{1d173}".chars() {
            assert!(Printable(&unseen.to_string()).to_string().starts_with("\\u"), "{unseen:?}");
        }
        let seen = "\u{a0}\u{e4}\u{3b1}\u{5d0}\u{645}\u{4e2d}\u{1100}\u{2010}\u{fffd}\u{1f600}";
        assert_eq!(Printable(seen).to_string(), seen);
    }

    #[test]
    fn of_a_long_text_the_middle_is_left_out() {
        for text in ["", "ä", "äöü\u{df}"] {
            assert_eq!(shortened(text, 4), text);
        }
        assert_eq!(shortened("äöü\u{df}x", 4), "äö…\u{df}x");
        assert_eq!(shortened(&"a".repeat(1_000_000), 200).chars().count(), 201);
    }

    proptest! {
        #[test]
        fn as_std_rounds(number in 0..1u64 << 63, bits in 0..63u32) {
            let number = (number >> bits) as f64 / 8.0;
            prop_assert_eq!(rounded(number), number.round() as u64);
        }
    }
}
