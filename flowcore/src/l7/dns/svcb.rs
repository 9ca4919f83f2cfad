//! Service parameters of SVCB and HTTPS records (RFC 9460, section 2.1 and appendix A).

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::text::Text;

/// Writes the parameters, separated by spaces; `None` where they break a rule.
///
/// Known keys by their names, others as `key65280="value"`.
pub(super) fn write_params(mut bytes: &[u8], out: &mut Text) -> Option<()> {
    let mut least = 0u32;
    while let Some((&[k0, k1, n0, n1], behind)) = bytes.split_first_chunk::<4>() {
        let key = u16::from_be_bytes([k0, k1]);
        let (value, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes([n0, n1])))?;
        if u32::from(key) < least || out.is_too_long() {
            return None;
        }
        out.space();
        write_key(key, out);
        write_value(key, value, out)?;
        (least, bytes) = (u32::from(key) + 1, behind);
    }
    bytes.is_empty().then_some(())
}

fn write_key(key: u16, out: &mut Text) {
    match NAMES.get(usize::from(key)) {
        Some(name) => out.bytes(name.as_bytes()),
        None => drop(write!(out, "key{key}")),
    }
}

fn write_value(key: u16, value: &[u8], out: &mut Text) -> Option<()> {
    if value.is_empty() {
        // Only these two, and keys that nothing is known of, may go without a value.
        return (key == NO_DEFAULT_ALPN || key == OHTTP || usize::from(key) >= NAMES.len()).then_some(());
    }
    out.byte(b'=');
    match key {
        MANDATORY => {
            let (keys, []) = value.as_chunks::<2>() else { return None };
            for (nth, &key) in keys.iter().enumerate() {
                separate(nth, out);
                write_key(u16::from_be_bytes(key), out);
            }
        }
        ALPN => write_alpn(value, out)?,
        NO_DEFAULT_ALPN | OHTTP => return None,
        PORT => out.number(u16::from_be_bytes(value.try_into().ok()?).into()),
        IPV4_HINT => {
            let (addresses, []) = value.as_chunks::<4>() else { return None };
            for (nth, &address) in addresses.iter().enumerate() {
                separate(nth, out);
                out.v4(Ipv4Addr::from(address));
            }
        }
        ECH => out.base64(value),
        IPV6_HINT => {
            let (addresses, []) = value.as_chunks::<16>() else { return None };
            for (nth, &address) in addresses.iter().enumerate() {
                separate(nth, out);
                out.v6(Ipv6Addr::from(address));
            }
        }
        _ => out.quoted(value),
    }
    Some(())
}

/// Writes protocol ids as a comma-separated list; a comma or backslash inside of one is escaped twice,
/// once for the list and once for the string around it.
fn write_alpn(mut ids: &[u8], out: &mut Text) -> Option<()> {
    out.byte(b'"');
    let mut nth = 0;
    while let Some((&len, behind)) = ids.split_first() {
        let (id, behind) = behind.split_at_checked(usize::from(len)).filter(|_| len > 0)?;
        separate(nth, out);
        for &byte in id {
            match byte {
                b',' => out.bytes(br"\\,"),
                b'\\' => out.bytes(br"\\\\"),
                _ => out.escaped(byte, matches!(byte, 0x20..=0x7E) && byte != b'"'),
            }
        }
        (nth, ids) = (nth + 1, behind);
    }
    out.byte(b'"');
    Some(())
}

fn separate(nth: usize, out: &mut Text) {
    if nth > 0 {
        out.byte(b',');
    }
}

/// The keys from 0 on (IANA "Service Parameter Keys").
const NAMES: [&str; 9] =
    ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint", "dohpath", "ohttp"];

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
const OHTTP: u16 = 8;
