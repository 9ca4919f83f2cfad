//! How plain values are spelled, the same in every format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::digits::{self, integer};
use super::line::Append;
use crate::field::{PacketRow, Scalar, rounded};
use crate::key::Dir;
use crate::time::Timestamp;

/// Appends a value without quotes or escapes; an absent one appends nothing.
///
/// Takes it by reference: to copy a value that was just written piece by piece makes the processor wait.
#[inline]
pub(super) fn scalar(out: &mut impl Append, value: &Scalar<'_>) {
    match *value {
        Scalar::Absent => {}
        Scalar::Bool(value) => truth(out, value),
        Scalar::U64(value) => integer(out, value),
        Scalar::Word(text) | Scalar::Text(text) => out.bytes(text.as_bytes()),
        Scalar::Ascii(word) => out.bytes(word),
        Scalar::NumberAsText(value) => integer(out, value),
        Scalar::Ip(addr) => ip(out, addr),
        Scalar::Time(time) => self::time(out, time),
        Scalar::Seconds(nanos) => seconds(out, nanos),
        Scalar::Micros(nanos) => micros(out, nanos),
        Scalar::Float(value) => float(out, value),
        Scalar::Packets(rows) => list(out, rows, packet),
    }
}

/// Appends a truth value.
#[inline(always)]
pub(super) fn truth(out: &mut impl Append, value: bool) {
    let (text, length) = if value { (b"true\0", 4) } else { (b"false", 5) };
    out.front(text, length);
}

/// Appends an IPv4 address in dotted decimal, an IPv6 address as RFC 5952 says.
#[inline(always)]
pub(super) fn ip(out: &mut impl Append, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => ipv4(out, addr),
        IpAddr::V6(addr) => ipv6(out, addr),
    }
}

/// Appends an IPv4 address.
#[inline(always)]
pub(super) fn ipv4(out: &mut impl Append, addr: Ipv4Addr) {
    let [first, rest @ ..] = addr.octets();
    integer(out, first);
    for octet in rest {
        out.byte(b'.');
        integer(out, octet);
    }
}

/// Appends an IPv6 address.
#[inline]
pub(super) fn ipv6(out: &mut impl Append, addr: Ipv6Addr) {
    if let Some(addr) = addr.to_ipv4_mapped() {
        out.block(b"::ffff:");
        return ipv4(out, addr);
    }
    let segments = addr.segments();
    let gap = longest_zeros(&segments);
    for (nth, &segment) in segments.iter().enumerate() {
        if gap.contains(&nth) {
            if nth == gap.start {
                out.byte(b':');
            }
            continue;
        }
        if nth > 0 {
            out.byte(b':');
        }
        digits::hex(out, segment);
    }
    if gap.end == segments.len() {
        out.byte(b':');
    }
}

/// Finds the first of the longest runs of two or more zeros, which becomes `::`.
#[inline]
fn longest_zeros(segments: &[u16; 8]) -> Range<usize> {
    let (mut longest, mut run) = (0..0, 0..0);
    for (nth, &segment) in segments.iter().enumerate() {
        if segment != 0 {
            run = nth + 1..nth + 1;
            continue;
        }
        run.end = nth + 1;
        if run.len() > longest.len().max(1) {
            longest = run.clone();
        }
    }
    longest
}

/// Appends a list as JSON has it.
#[inline]
pub(super) fn list<A: Append, I: IntoIterator>(out: &mut A, items: I, append: impl Fn(&mut A, I::Item)) {
    out.byte(b'[');
    for (nth, item) in items.into_iter().enumerate() {
        if nth > 0 {
            out.byte(b',');
        }
        append(out, item);
    }
    out.byte(b']');
}

/// Appends RFC 3339 in UTC with nine digits.
#[inline(always)]
pub(super) fn time(out: &mut impl Append, time: Timestamp) {
    out.time(time);
}

/// Appends nanoseconds as seconds, exactly: `1.2`, `0.0`, `0.000000001`.
#[inline(always)]
pub(super) fn seconds(out: &mut impl Append, nanos: u64) {
    decimal(out, nanos / 1_000_000_000, |out| digits::nine_decimals(out, nanos % 1_000_000_000));
}

/// Appends nanoseconds as microseconds, with three decimals: `1.200`.
#[inline(always)]
pub(super) fn micros(out: &mut impl Append, nanos: u64) {
    decimal(out, nanos / 1_000, |out| digits::three_decimals(out, nanos % 1_000));
}

/// Appends a whole number and its decimals.
///
/// Long numbers apart: a call on the way makes also those who do not make it save registers.
#[inline(always)]
fn decimal<A: Append>(out: &mut A, whole: u64, decimals: impl FnOnce(&mut A)) {
    #[inline(never)]
    fn long<A: Append>(out: &mut A, whole: u64, decimals: impl FnOnce(&mut A)) {
        integer(out, whole);
        decimals(out);
    }
    if whole >= 1_000_000 {
        return long(out, whole, decimals);
    }
    integer(out, whole);
    decimals(out);
}

/// Appends a number rounded to six decimals: `7.95`, `8.0`; NaN and infinities, which never get here, as `null`.
#[inline(always)]
pub(super) fn float(out: &mut impl Append, value: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0 / 1e6;
    let size = value.abs();
    if size.is_nan() || size >= EXACT {
        return wide_float(out, value);
    }
    let millionths = rounded(size * 1e6);
    if value < 0.0 && millionths > 0 {
        out.byte(b'-');
    }
    integer(out, millionths / 1_000_000);
    digits::six_decimals(out, millionths % 1_000_000);
}

/// Appends what the fixed-point way does not hold exactly; std writes all digits and no exponent.
#[cold]
fn wide_float(out: &mut impl Append, value: f64) {
    if !value.is_finite() {
        return out.block(b"null");
    }
    let text = format!("{value:.6}");
    let trimmed = text.trim_end_matches('0');
    out.bytes(trimmed.as_bytes());
    if trimmed.ends_with('.') {
        out.byte(b'0');
    }
}

/// Appends a packet of a list.
pub(super) fn packet(out: &mut impl Append, row: &PacketRow) {
    out.byte(b'[');
    integer(out, row.ip_len);
    out.byte(b',');
    micros(out, row.iat_nanos);
    out.bytes(if row.dir == Dir::Fwd { b",1]" } else { b",-1]" });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spelled(value: Scalar<'_>) -> String {
        let mut out = Vec::new();
        scalar(&mut out, &value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn seconds_are_exact_and_trimmed() {
        for (nanos, text) in [
            (0, "0.0"),
            (1, "0.000000001"),
            (1_200_000_000, "1.2"),
            (1_000_000_000, "1.0"),
            (10_000_000_010, "10.00000001"),
            (999_999_999, "0.999999999"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(spelled(Scalar::Seconds(nanos)), text);
        }
    }

    #[test]
    fn microseconds_have_three_decimals() {
        for (nanos, text) in
            [(0, "0.000"), (1, "0.001"), (1_200, "1.200"), (123_456_789, "123456.789"), (50_000, "50.000")]
        {
            assert_eq!(spelled(Scalar::Micros(nanos)), text);
        }
    }

    #[test]
    fn floats_have_up_to_six_decimals() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (8.0, "8.0"),
            (7.95, "7.95"),
            (1.0 / 3.0, "0.333333"),
            (2.0 / 3.0, "0.666667"),
            (0.999_999_6, "1.0"),
            (-1.5, "-1.5"),
            (-1e-9, "0.0"),
            (1500.25, "1500.25"),
            (1e10, "10000000000.0"),
            (-450_583_286_313.25, "-450583286313.25"),
            (1e20, "100000000000000000000.0"),
        ] {
            assert_eq!(spelled(Scalar::Float(value)), text);
        }
        assert_eq!(spelled(Scalar::Float(f64::NAN)), "null");
        assert_eq!(spelled(Scalar::Float(f64::INFINITY)), "null");
    }

    #[test]
    fn addresses_and_times() {
        for text in ["0.0.0.0", "192.168.1.52", "255.255.255.255", "2001:db8::1", "::", "::ffff:1.2.3.4"] {
            assert_eq!(spelled(Scalar::Ip(text.parse().unwrap())), text);
        }
        assert_eq!(spelled(Scalar::Ip("2001:DB8:0:0:1:0:0:1".parse().unwrap())), "2001:db8::1:0:0:1");
        let time = Timestamp::from_nanos(1_700_000_000_123_456_789);
        assert_eq!(spelled(Scalar::Time(time)), "2023-11-14T22:13:20.123456789Z");
    }

    #[test]
    fn the_rest() {
        assert_eq!(spelled(Scalar::Absent), "");
        assert_eq!(spelled(Scalar::Bool(true)), "true");
        assert_eq!(spelled(Scalar::U64(u64::MAX)), "18446744073709551615");
        assert_eq!(spelled(Scalar::NumberAsText(253)), "253");
        let rows = [
            PacketRow { ip_len: 60, iat_nanos: 0, dir: Dir::Fwd },
            PacketRow { ip_len: 1500, iat_nanos: 1_234_567, dir: Dir::Rev },
        ];
        assert_eq!(spelled(Scalar::Packets(&rows)), "[[60,0.000,1],[1500,1234.567,-1]]");
        assert_eq!(spelled(Scalar::Packets(&[])), "[]");
        let mut out = Vec::new();
        list(&mut out, &[10u16, 4094], |out, &vlan| integer(out, vlan));
        assert_eq!(out, b"[10,4094]");
    }

    proptest! {
        #[test]
        fn addresses_as_std_writes_them(
            v4: u32,
            mut v6: [u16; 8],
            zeros in 0..=255u8,
            mapped: bool,
        ) {
            for (nth, segment) in v6.iter_mut().enumerate() {
                *segment *= u16::from(zeros >> nth & 1 == 0);
            }
            let v4 = Ipv4Addr::from_bits(v4);
            let v6 = if mapped { v4.to_ipv6_mapped() } else { v6.into() };
            prop_assert_eq!(spelled(Scalar::Ip(v4.into())), v4.to_string());
            prop_assert_eq!(spelled(Scalar::Ip(v6.into())), v6.to_string());
        }

        #[test]
        fn floats_come_back(value in -1e12f64..1e12) {
            let back: f64 = spelled(Scalar::Float(value)).parse().unwrap();
            prop_assert!((back - value).abs() <= 5.1e-7 + value.abs() * 1e-15);
        }

        #[test]
        fn seconds_come_back(nanos: u64) {
            let text = spelled(Scalar::Seconds(nanos));
            let (whole, part) = text.split_once('.').unwrap();
            let back = whole.parse::<u64>().unwrap() as u128 * 1_000_000_000
                + format!("{part:0<9}").parse::<u128>().unwrap();
            prop_assert_eq!(back, u128::from(nanos));
        }
    }
}
