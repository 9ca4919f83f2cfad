//! A text that is written bit by bit and never gets longer than it may.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// A growing text with a limit; what goes beyond marks it as too long.
#[derive(Debug)]
pub(super) struct Text {
    /// What stands before the text, and the text.
    bytes: Vec<u8>,
    start: usize,
    /// How long `bytes` may become.
    limit: usize,
    too_long: bool,
}

impl Text {
    /// Begins a text behind other bytes; with them it may have up to `limit` bytes.
    pub(super) fn behind(bytes: Vec<u8>, limit: usize) -> Text {
        Text { start: bytes.len(), bytes, limit, too_long: false }
    }

    /// Begins a new text behind what was written so far.
    pub(super) fn begin(&mut self) {
        self.start = self.bytes.len();
    }

    /// Returns all bytes; of a text that is too long, those that fitted.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Tells whether something did not fit.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long || self.bytes.len() > self.limit
    }

    /// Returns how many bytes there are, with those before the text.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Goes back to the first `len` bytes.
    pub(super) fn cut(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Adds one byte, which must be ASCII.
    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    /// Adds bytes, which must be ASCII.
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > self.bytes.capacity() - self.bytes.len() && !self.grow(bytes.len()) {
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for `more` bytes if the limit allows them; takes twice the memory, but never beyond the limit.
    #[cold]
    fn grow(&mut self, more: usize) -> bool {
        let len = self.bytes.len() + more;
        self.too_long |= len > self.limit;
        if !self.too_long {
            let capacity = (2 * self.bytes.capacity()).min(self.limit).max(len);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        !self.too_long
    }

    /// Adds a byte as it is if it is `plain`, else escaped.
    pub(super) fn escaped(&mut self, byte: u8, plain: bool) {
        if plain {
            self.byte(byte);
        } else {
            self.bytes(escape(byte, &mut [0; 4]));
        }
    }

    /// Adds a number in decimal.
    pub(super) fn number(&mut self, number: u32) {
        let mut digits = [0; 10];
        let (mut at, mut rest) = (digits.len(), number);
        for (nth, digit) in digits.iter_mut().enumerate().rev() {
            (at, *digit) = (nth, b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes(digits.get(at..).unwrap_or_default());
    }

    /// Adds an IPv4 address.
    pub(super) fn v4(&mut self, address: Ipv4Addr) {
        for (nth, octet) in address.octets().into_iter().enumerate() {
            if nth > 0 {
                self.byte(b'.');
            }
            if octet >= 100 {
                self.byte(b'0' + octet / 100);
            }
            if octet >= 10 {
                self.byte(b'0' + octet / 10 % 10);
            }
            self.byte(b'0' + octet % 10);
        }
    }

    /// Adds an IPv6 address (RFC 5952).
    pub(super) fn v6(&mut self, address: Ipv6Addr) {
        if let Some(mapped) = address.to_ipv4_mapped() {
            self.bytes(b"::ffff:");
            return self.v4(mapped);
        }
        let groups = address.segments();
        let gap = longest_gap(&groups);
        for (nth, group) in groups.into_iter().enumerate() {
            if nth == gap.start && !gap.is_empty() {
                self.bytes(b"::");
            }
            if gap.contains(&nth) {
                continue;
            }
            if nth != 0 && nth != gap.end {
                self.byte(b':');
            }
            for shift in [12, 8, 4, 0] {
                if group >> shift != 0 || shift == 0 {
                    self.byte(digit(b"0123456789abcdef", (group >> shift) as u8 & 15));
                }
            }
        }
    }

    /// Adds a character-string in quotes (RFC 1035, section 5.1).
    pub(super) fn quoted(&mut self, string: &[u8]) {
        self.byte(b'"');
        for &byte in string {
            self.escaped(byte, matches!(byte, 0x20..=0x7E) && byte != b'"' && byte != b'\\');
        }
        self.byte(b'"');
    }

    /// Adds a space, except at the start and behind another one.
    pub(super) fn space(&mut self) {
        if self.bytes.len() > self.start && self.bytes.last() != Some(&b' ') {
            self.byte(b' ');
        }
    }

    /// Adds hexadecimal digits in upper case.
    pub(super) fn hex(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes(&[digit(b"0123456789ABCDEF", byte >> 4), digit(b"0123456789ABCDEF", byte & 15)]);
        }
    }

    /// Adds base64 with padding (RFC 4648, section 4).
    pub(super) fn base64(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for group in bytes.chunks(3) {
            let word = word(group) >> 40;
            for nth in 0..4 {
                let six = (word >> (18 - 6 * nth)) as u8 & 63;
                self.byte(if nth <= group.len() { digit(DIGITS, six) } else { b'=' });
            }
        }
    }

    /// Adds base32 in the extended hex alphabet without padding (RFC 4648, section 7; RFC 5155).
    pub(super) fn base32(&mut self, bytes: &[u8]) {
        for group in bytes.chunks(5) {
            let word = word(group) >> 24;
            for nth in 0..(group.len() * 8).div_ceil(5) {
                let five = (word >> (35 - 5 * nth)) as u8 & 31;
                self.byte(digit(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", five));
            }
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

/// The first bytes as a big-endian word, filled up with zeros below.
fn word(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .zip((0..64).step_by(8))
        .fold(0, |word, (&byte, shift)| word | u64::from(byte) << (56 - shift))
}

/// Escapes a byte with a backslash if it prints, else as `\DDD`.
pub(super) fn escape(byte: u8, into: &mut [u8; 4]) -> &[u8] {
    let len = if matches!(byte, 0x21..=0x7E) {
        *into = [b'\\', byte, 0, 0];
        2
    } else {
        *into = [b'\\', b'0' + byte / 100, b'0' + byte / 10 % 10, b'0' + byte % 10];
        4
    };
    into.get(..len).unwrap_or_default()
}

/// Finds the first of the longest runs of zeros, if it has more than one.
fn longest_gap(groups: &[u16; 8]) -> Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for (nth, &group) in groups.iter().enumerate() {
        if group != 0 {
            start = nth + 1;
        } else if nth + 1 - start > longest.len().max(1) {
            longest = start..nth + 1;
        }
    }
    longest
}

fn digit(digits: &[u8], value: u8) -> u8 {
    digits.get(usize::from(value)).copied().unwrap_or(b'?')
}

#[cfg(test)]
impl Text {
    pub(super) fn new(limit: usize) -> Text {
        Text::behind(Vec::new(), limit)
    }

    /// Returns the text, or `None` if it did not fit.
    pub(super) fn as_str(&self) -> Option<&str> {
        if self.is_too_long() { None } else { std::str::from_utf8(&self.bytes[self.start..]).ok() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl Fn(&mut Text)) -> String {
        let mut out = Text::new(100);
        write(&mut out);
        out.as_str().unwrap().to_owned()
    }

    #[test]
    fn base64_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(written(|out| out.base64(bytes.as_bytes())), text);
        }
        assert_eq!(written(|out| out.base64(&[0xFB, 0xFF])), "+/8=");
    }

    #[test]
    fn base32hex_of_rfc_4648() {
        for (bytes, text) in [
            ("f", "CO"),
            ("fo", "CPNG"),
            ("foo", "CPNMU"),
            ("foob", "CPNMUOG"),
            ("fooba", "CPNMUOJ1"),
            ("foobar", "CPNMUOJ1E8"),
        ] {
            assert_eq!(written(|out| out.base32(bytes.as_bytes())), text);
        }
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 99, 100, 65535, u32::MAX] {
            assert_eq!(written(|out| out.number(number)), number.to_string());
        }
        assert_eq!(written(|out| out.v4(Ipv4Addr::new(192, 0, 2, 255))), "192.0.2.255");
    }

    #[test]
    fn quotes() {
        assert_eq!(written(|out| out.quoted(b"a \"b\\\n\xe9")), r#""a \"b\\\010\233""#);
        assert_eq!(written(|out| out.hex(&[0, 0xAB, 0x9])), "00AB09");
    }

    #[test]
    fn never_longer_than_its_limit() {
        let mut out = Text::behind(b"..".to_vec(), 5);
        out.bytes(b"abc");
        assert_eq!(out.as_str(), Some("abc"));
        out.byte(b'd');
        assert_eq!(out.as_str(), None);
        assert_eq!((out.bytes.capacity(), out.into_bytes()), (5, b"..abc".to_vec()));
    }

    #[test]
    fn no_space_at_the_start() {
        let mut out = Text::behind(b"x".to_vec(), 9);
        out.space();
        out.byte(b'y');
        out.space();
        out.space();
        assert_eq!(out.as_str(), Some("y "));
        out.begin();
        out.space();
        assert_eq!(out.as_str(), Some(""));
    }

    proptest! {
        #[test]
        fn addresses(groups in prop::array::uniform8(prop_oneof![Just(0u16), Just(0xffff), any::<u16>()])) {
            let address = Ipv6Addr::from(groups);
            prop_assert_eq!(written(|out| out.v6(address)), address.to_string());
            let address = Ipv4Addr::from_bits(address.to_bits() as u32);
            prop_assert_eq!(written(|out| out.v4(address)), address.to_string());
        }
    }
}
