//! Digits without a loop: up to eight of them side by side in one word, the first in its lowest byte.

use super::line::Append;
use crate::time::{eight_digits, three_digits as three};

/// Appends a whole number.
#[inline(always)]
pub(super) fn integer(out: &mut impl Append, value: impl Into<u64>) {
    let value = value.into();
    if value < 1_000 {
        small(out, value);
    } else if value < 1_000_000 {
        small(out, value / 1_000);
        out.front(&three(value % 1_000).to_le_bytes(), 3);
    } else {
        large(out, value);
    }
}

/// Appends a whole number below 1000.
#[inline(always)]
fn small(out: &mut impl Append, value: u64) {
    let digits = three(value);
    let zeros = digits >> 24;
    out.front(&(digits >> zeros).to_le_bytes(), 3 - zeros as usize / 8);
}

/// Appends a whole number, best of six digits or more.
#[inline(never)]
fn large(out: &mut impl Append, value: u64) {
    if value >= EIGHT_DIGITS {
        large(out, value / EIGHT_DIGITS);
        return out.block(&(eight(value % EIGHT_DIGITS) | ZEROS).to_le_bytes());
    }
    let digits = eight(value);
    let zeros = (digits | 1 << 56).trailing_zeros() & !7;
    out.front(&((digits | ZEROS) >> zeros).to_le_bytes(), 8 - zeros as usize / 8);
}

/// Appends `.` and the nine digits of a number below 10^9 without trailing zeros, but at least one digit.
#[inline]
pub(super) fn nine_decimals(out: &mut impl Append, value: u64) {
    let (first, digits) = (value / EIGHT_DIGITS, eight(value % EIGHT_DIGITS));
    let text = u128::from(digits | ZEROS) << 16 | u128::from(first | 0x30) << 8 | 0x2E;
    out.front(&text.to_le_bytes(), 10 - trailing_zeros(digits));
}

/// Appends `.` and the six digits of a number below 10^6 without trailing zeros, but at least one digit.
#[inline]
pub(super) fn six_decimals(out: &mut impl Append, value: u64) {
    let digits = eight(value * 100);
    let text = (digits | ZEROS) << 8 | 0x2E;
    out.front(&text.to_le_bytes(), 9 - trailing_zeros(digits).min(7));
}

/// Appends `.` and the three digits of a number below 1000.
#[inline(always)]
pub(super) fn three_decimals(out: &mut impl Append, value: u64) {
    out.block(&(three(value) << 8 | 0x2E).to_le_bytes());
}

/// Appends a number in hexadecimal.
#[inline]
pub(super) fn hex(out: &mut impl Append, value: u16) {
    let value = u32::from(value);
    let digits = value >> 12 | (value >> 8 & 0xF) << 8 | (value >> 4 & 0xF) << 16 | (value & 0xF) << 24;
    let zeros = (digits | 1 << 24).trailing_zeros() & !7;
    let beyond_nine = (digits + 0x0606_0606) >> 4 & 0x0101_0101;
    let letters = digits + 0x3030_3030 + beyond_nine * u32::from(b'a' - b'9' - 1);
    out.front(&(letters >> zeros).to_le_bytes(), 4 - zeros as usize / 8);
}

/// Returns the eight digits of a number below 10^8.
#[inline]
fn eight(value: u64) -> u64 {
    eight_digits(value as u32)
}

/// Counts the zeros behind the last other digit.
#[inline]
fn trailing_zeros(digits: u64) -> usize {
    digits.leading_zeros() as usize / 8
}

/// What makes eight numbers from 0 to 9 characters.
const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

const EIGHT_DIGITS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(append: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        append(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn every_four_digits() {
        for value in 0..10_000u64 {
            assert_eq!(text(|out| integer(out, value)), value.to_string());
            assert_eq!(text(|out| integer(out, value * 10_000)), (value * 10_000).to_string());
        }
    }

    #[test]
    fn every_hexadecimal_number() {
        for value in 0..=u16::MAX {
            assert_eq!(text(|out| hex(out, value)), format!("{value:x}"));
        }
    }

    #[test]
    fn decimals() {
        for (value, trimmed) in [(0, ".0"), (1, ".000001"), (999_999, ".999999"), (250_000, ".25")] {
            assert_eq!(text(|out| six_decimals(out, value)), trimmed);
        }
        for (value, trimmed) in [(0, ".0"), (1, ".000000001"), (999_999_999, ".999999999"), (10, ".00000001")]
        {
            assert_eq!(text(|out| nine_decimals(out, value)), trimmed);
        }
        for value in 0..1000 {
            assert_eq!(text(|out| three_decimals(out, value)), format!(".{value:03}"));
        }
    }

    proptest! {
        #[test]
        fn as_std_writes_them(value: u64, bits in 0..64u32) {
            let value = value >> bits;
            prop_assert_eq!(text(|out| integer(out, value)), value.to_string());
        }
    }
}
