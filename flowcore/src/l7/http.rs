//! HTTP/1 by its first line (RFC 9112, sections 3 and 4), HTTP/2 by its preface (RFC 9113, section 3.4).

use super::{App, Claim, L7Counts, Look, Protocol};

/// HTTP; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Http;

impl Protocol for Http {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Http>> {
        if !look.is_tcp() {
            return None;
        }
        match look.bytes {
            [b'P', b'R', b'I', b' ', ..] if look.bytes.starts_with(b"PRI * HTTP/2.0\r\n") => {
                Claim::settled(App::Http, Some(look.dir))
            }
            [b'H', b'T', b'T', b'P', ..] if is_response(look.bytes) => {
                Claim::settled(App::Http, Some(look.dir.flip()))
            }
            [b'A'..=b'Z', ..] if is_request(look.bytes) => Claim::settled(App::Http, Some(look.dir)),
            _ => None,
        }
    }
}

/// Tells whether this is `HTTP/1.x`, a space and three digits.
pub(super) fn is_response(bytes: &[u8]) -> bool {
    matches!(bytes, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', code @ ..]
        if code.len() >= 3 && code.iter().take(3).all(u8::is_ascii_digit))
}

/// Tells whether this is a request line: a method, a target, and `HTTP/1.x` where the line is whole.
fn is_request(bytes: &[u8]) -> bool {
    let Some((method, rest)) = split_at_space(bytes) else { return false };
    if !METHODS.contains(&method) {
        return false;
    }
    let start = rest.get(..MAX_LINE).unwrap_or(rest);
    match start.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let line = start.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")
        }
        None => start.starts_with(b"/") || start.starts_with(b"http://") || start.starts_with(b"https://"),
    }
}

/// Splits off the first word, of at most 16 bytes.
pub(super) fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().take(17).position(|&byte| byte == b' ')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// How far the end of a request line is looked for.
const MAX_LINE: usize = 2048;

/// The methods of RFC 9110, RFC 5789, WebDAV (RFC 4918) and its kin (IANA "HTTP Method Registry").
const METHODS: [&[u8]; 23] = [
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"MERGE",
    b"CHECKOUT",
    b"MKACTIVITY",
    b"PURGE",
    b"SUBSCRIBE",
];
