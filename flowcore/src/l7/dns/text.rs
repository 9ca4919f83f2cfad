//! A text that is written bit by bit and never gets longer than it may.

use std::fmt;
use std::net::Ipv4Addr;

/// A growing text with a limit; what goes beyond marks it as too long.
#[derive(Debug)]
pub(super) struct Text {
    bytes: Vec<u8>,
    limit: usize,
    too_long: bool,
}

impl Text {
    pub(super) fn new(limit: usize) -> Text {
        Text { bytes: Vec::with_capacity(USUAL), limit, too_long: false }
    }

    /// Starts anew, with another limit, in the same memory.
    pub(super) fn restart(&mut self, limit: usize) {
        self.bytes.clear();
        self.limit = limit;
        self.too_long = false;
    }

    /// Returns the text, or `None` if it did not fit.
    pub(super) fn as_str(&self) -> Option<&str> {
        if self.too_long { None } else { std::str::from_utf8(&self.bytes).ok() }
    }

    /// Tells whether something did not fit.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Returns how many bytes were written.
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
        if self.too_long || bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            self.too_long = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Adds a byte as it is if it is `plain`, else with a backslash if it prints, else as `\DDD`.
    pub(super) fn escaped(&mut self, byte: u8, plain: bool) {
        match byte {
            _ if plain => self.byte(byte),
            0x21..=0x7E => self.bytes(&[b'\\', byte]),
            _ => self.bytes(&[b'\\', b'0' + byte / 100, b'0' + byte / 10 % 10, b'0' + byte % 10]),
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
            self.number(octet.into());
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
        if self.bytes.last().is_some_and(|&byte| byte != b' ') {
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

/// Room for most names and data, so that the memory is taken once.
const USUAL: usize = 128;

fn digit(digits: &[u8], value: u8) -> u8 {
    digits.get(usize::from(value)).copied().unwrap_or(b'?')
}

#[cfg(test)]
mod tests {
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
        let mut out = Text::new(3);
        out.bytes(b"abc");
        assert_eq!(out.as_str(), Some("abc"));
        out.byte(b'd');
        assert_eq!(out.as_str(), None);
        out.restart(1);
        out.byte(b'e');
        assert_eq!(out.as_str(), Some("e"));
    }
}
