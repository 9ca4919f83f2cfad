//! JSON values: quotes and escapes, lists, and any other object through serde_json.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::line::Append;
use super::{digits, dns, spell};
use crate::field::{Scalar, is_unsafe};
use crate::packet::Tunnel;
use crate::record::{ProcessObject, Value};

/// What stands before a value: `,"name":` of a member, in a block of fixed size, or nothing.
pub(super) struct Prefix {
    block: [u8; PREFIX_BLOCK],
    length: usize,
}

impl Prefix {
    /// Nothing.
    pub(super) const NONE: Prefix = Prefix { block: [0; PREFIX_BLOCK], length: 0 };

    /// Takes a text, unless it is too long for the block.
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        let mut block = [0; PREFIX_BLOCK];
        block.get_mut(..text.len())?.copy_from_slice(text);
        Some(Prefix { block, length: text.len() })
    }
}

/// Appends a value, after what is to stand before it; of one that is absent, neither.
///
/// One match, always inlined, of calls: where the value was made in a match too, the two become one.
#[inline(always)]
pub(super) fn value(out: &mut impl Append, before: &Prefix, value: Value<'_>) {
    match value {
        Value::Scalar(Scalar::Absent) => {}
        Value::Scalar(Scalar::Bool(value)) => member(out, before, |out| spell::truth(out, value)),
        Value::Scalar(Scalar::U64(number)) => member(out, before, |out| digits::integer(out, number)),
        Value::Scalar(Scalar::Word(ours)) => member(out, before, |out| word(out, ours.as_bytes())),
        Value::Scalar(Scalar::Ascii(ours)) => member(out, before, |out| word(out, ours)),
        Value::Scalar(Scalar::Text(outside)) => member(out, before, |out| text(out, outside)),
        Value::Scalar(Scalar::NumberAsText(number)) => {
            member(out, before, |out| quoted(out, |out| digits::integer(out, number)));
        }
        Value::Scalar(Scalar::Ip(addr)) => member(out, before, |out| ip(out, addr)),
        Value::Scalar(Scalar::Time(time)) => {
            member(out, before, |out| quoted(out, |out| spell::time(out, time)));
        }
        Value::Scalar(Scalar::Seconds(nanos)) => member(out, before, |out| spell::seconds(out, nanos)),
        Value::Scalar(Scalar::Micros(nanos)) => member(out, before, |out| spell::micros(out, nanos)),
        Value::Scalar(Scalar::Float(number)) => member(out, before, |out| spell::float(out, number)),
        Value::Scalar(Scalar::Packets(rows)) => {
            member(out, before, |out| spell::list(out, rows, spell::packet));
        }
        Value::Vlans([]) | Value::Mpls([]) | Value::Tunnels([]) | Value::Dns([]) | Value::Texts([]) => {}
        Value::Vlans(vlans) => {
            member(out, before, |out| spell::list(out, vlans, |out, &vlan| digits::integer(out, vlan)));
        }
        Value::Mpls(labels) => {
            member(out, before, |out| spell::list(out, labels, |out, &label| digits::integer(out, label)));
        }
        Value::Tunnels(tunnels) => member(out, before, |out| spell::list(out, tunnels, tunnel)),
        Value::Dns(transactions) => {
            member(out, before, |out| spell::list(out, transactions, dns::transaction));
        }
        Value::Texts(texts) => member(out, before, |out| spell::list(out, texts, |out, one| text(out, one))),
        Value::Process(owner) => member(out, before, |out| process(out, owner)),
    }
}

/// Appends what stands before a value, and the value.
#[inline(never)]
fn member<A: Append>(out: &mut A, before: &Prefix, value: impl FnOnce(&mut A)) {
    out.front(&before.block, before.length);
    value(out);
}

/// Appends what stands in quotes.
#[inline(always)]
fn quoted<A: Append>(out: &mut A, append: impl Fn(&mut A)) {
    out.byte(b'"');
    append(out);
    out.byte(b'"');
}

#[inline(always)]
fn ip(out: &mut impl Append, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => quoted(out, |out| spell::ipv4(out, addr)),
        IpAddr::V6(addr) => ipv6(out, addr),
    }
}

#[inline(never)]
fn ipv6(out: &mut impl Append, addr: Ipv6Addr) {
    quoted(out, |out| spell::ipv6(out, addr));
}

/// Appends a word of ours in quotes; nothing in it needs an escape.
#[inline(always)]
pub(super) fn word(out: &mut impl Append, word: &[u8]) {
    out.byte(b'"');
    out.bytes(word);
    out.byte(b'"');
}

/// Appends a text in quotes.
pub(super) fn text(out: &mut impl Append, text: &str) {
    quoted(out, |out| between_quotes(out, text));
}

/// Appends what stands between the quotes of a text.
pub(super) fn between_quotes(out: &mut impl Append, text: &str) {
    escape(out, text, |letter| letter == '"' || letter == '\\');
}

/// Appends a text in which nothing is left that acts on a terminal or hides what it says, without quotes.
pub(super) fn printable(out: &mut impl Append, text: &str) {
    escape(out, text, |_| false);
}

/// Appends a tunnel as an object: what serde says.
fn tunnel(out: &mut impl Append, tunnel: &Tunnel) {
    out.block(b"{\"type\":");
    word(out, tunnel.kind.name().as_bytes());
    if let Some(addr) = tunnel.src_ip {
        out.block(b",\"src_ip\":");
        ip(out, addr);
    }
    if let Some(addr) = tunnel.dst_ip {
        out.block(b",\"dst_ip\":");
        ip(out, addr);
    }
    if let Some(id) = tunnel.id {
        out.block(b",\"id\":");
        digits::integer(out, id);
    }
    out.byte(b'}');
}

/// Appends the owner of an end as an object: what serde says, with its time as times are everywhere.
#[inline(never)]
fn process(out: &mut impl Append, owner: &ProcessObject) {
    let mut mark = b'{';
    for (name, member) in owner.members() {
        out.byte(mark);
        word(out, name.as_bytes());
        out.byte(b':');
        value(out, &Prefix::NONE, member);
        mark = b',';
    }
    out.byte(b'}');
}

/// Appends any serializable value; texts in it are escaped as everywhere.
pub(super) fn nested(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let start = out.len();
    if value.serialize(&mut Serializer::with_formatter(&mut *out, Careful)).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Appends a text with escapes for what is unsafe and for the characters that `also` names.
#[inline]
fn escape(out: &mut impl Append, text: &str, also: impl Fn(char) -> bool) {
    if is_plain(text.as_bytes()) {
        return out.bytes(text.as_bytes());
    }
    let mut utf8 = [0; 4];
    for letter in text.chars() {
        if is_unsafe(letter) || also(letter) {
            escaped(out, letter);
        } else {
            out.bytes(letter.encode_utf8(&mut utf8).as_bytes());
        }
    }
}

/// Tells whether all is printable ASCII without quotes and backslashes, which is never escaped.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    let (eights, rest) = text.as_chunks();
    eights.iter().all(|&eight| are_plain(eight))
        && match text.last_chunk() {
            Some(&last) => are_plain(last),
            None => rest.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')),
        }
}

/// Does so for eight bytes at once: each of the sums sets the top bit of some byte if any of them is what it looks for.
#[inline]
fn are_plain(bytes: [u8; 8]) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let bytes = u64::from_le_bytes(bytes);
    let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let control = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    let beyond = bytes.wrapping_add(ONES) | bytes;
    let quote = zero(bytes ^ (ONES * u64::from(b'"')));
    let backslash = zero(bytes ^ (ONES * u64::from(b'\\')));
    (control | beyond | quote | backslash) & ONES << 7 == 0
}

/// Appends a character as JSON escapes it.
fn escaped(out: &mut impl Append, letter: char) {
    let short = match letter {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => {
            // Two units beyond the basic plane.
            for unit in letter.encode_utf16(&mut [0; 2]) {
                out.block(b"\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (*unit >> shift & 0xf) as u8;
                    out.byte(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
                }
            }
            return;
        }
    };
    out.block(&[b'\\', short]);
}

/// Holds the names of all fields of this house.
const PREFIX_BLOCK: usize = 32;

/// serde_json's compact form with our escapes.
struct Careful;

impl Formatter for Careful {
    /// Takes what lies between the characters that serde_json escapes itself: quotes, backslashes, controls below 0x20.
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut out = Vec::with_capacity(fragment.len() + 16);
        printable(&mut out, fragment);
        writer.write_all(&out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(outside: &str) -> String {
        let mut out = Vec::new();
        text(&mut out, outside);
        String::from_utf8(out).unwrap()
    }

    fn through_serde(outside: &str) -> String {
        let mut out = Vec::new();
        nested(&mut out, outside);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_escaped() {
        for (outside, json) in [
            ("www.example.org", r#""www.example.org""#),
            ("", r#""""#),
            ("say \"no\" \\ yes", r#""say \"no\" \\ yes""#),
            ("a\nb\r\tc", r#""a\nb\r\tc""#),
            ("\x1b[2J\0\x7f", r#""\u001b[2J\u0000\u007f""#),
            ("\u{85}\u{9b}31m\u{a0}", "\"\\u0085\\u009b31m\u{a0}\""),
            ("exe.\u{202e}gpj", r#""exe.\u202egpj""#),
            ("\u{2066}\u{2069}\u{61c}\u{200f}", r#""\u2066\u2069\u061c\u200f""#),
            ("\u{2028}\u{2029}", r#""\u2028\u2029""#),
            ("grün 网 🦀", "\"grün 网 🦀\""),
        ] {
            assert_eq!(quoted(outside), json);
            assert_eq!(through_serde(outside), json);
        }
        let mut out = Vec::new();
        printable(&mut out, "a\"\\\x1b\u{202e}b");
        assert_eq!(out, br#"a"\\u001b\u202eb"#);
    }

    #[test]
    fn plain_values() {
        let json = |scalar| {
            let mut out = Vec::new();
            value(&mut out, &Prefix::NONE, Value::Scalar(scalar));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json(Scalar::Word("flow")), r#""flow""#);
        assert_eq!(json(Scalar::NumberAsText(253)), r#""253""#);
        assert_eq!(json(Scalar::Ip([1, 2, 3, 4].into())), r#""1.2.3.4""#);
        assert_eq!(json(Scalar::U64(7)), "7");
        assert_eq!(json(Scalar::Seconds(1_500_000_000)), "1.5");
        assert_eq!(json(Scalar::Absent), "");
    }

    proptest! {
        #[test]
        fn texts_come_back_and_hide_nothing(outside in any::<String>()) {
            for json in [quoted(&outside), through_serde(&outside)] {
                prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), outside.clone());
                prop_assert!(!json.chars().any(is_unsafe));
            }
        }

        #[test]
        fn what_is_not_seen_comes_back_and_is_seen(
            outside in "[a\u{ad}\u{180e}\u{200b}-\u{200f}\u{2060}\u{feff}\u{1bca0}\u{e0000}-\u{e0fff}]{1,9}",
        ) {
            for json in [quoted(&outside), through_serde(&outside)] {
                prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), outside.clone());
                prop_assert!(json.is_ascii());
            }
        }
    }
}
