//! What programs say first: DNS messages, TLS and HTTP greetings, the outside of QUIC packets, NTP.

use crate::pools::WORDS;
use crate::rng::Rng;

/// The type of a DNS question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// An IPv4 address.
    A = 1,
    /// An IPv6 address.
    Aaaa = 28,
}

/// Returns a host name of at least 6 and at most 20 letters.
pub fn host_name(rng: &mut Rng) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut label = |low, high| -> String {
        let length = rng.between(low, high);
        (0..length).map(|_| char::from(rng.pick(LETTERS))).collect()
    };
    let (host, domain) = (label(1, 8), label(2, 7));
    format!("{host}.{domain}.{}", rng.pick(&["com", "net", "org", "de", "io"]))
}

/// Returns a DNS query with one question (RFC 1035).
pub fn dns_query(id: u16, name: &str, question: Question) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, question as u8, 0, 1]);
    message
}

/// Returns the response to a query: an address, or where there is none "no such name".
pub fn dns_response(query: &[u8], address: Option<&[u8]>, ttl: u32) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] = 0x81;
    message[3] = if address.is_some() { 0x80 } else { 0x83 };
    if let Some(address) = address {
        message[7] = 1;
        message.extend_from_slice(&[0xC0, 12, 0, if address.len() == 4 { 1 } else { 28 }, 0, 1]);
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&(address.len() as u16).to_be_bytes());
        message.extend_from_slice(address);
    }
    message
}

/// Returns a TLS record with a ClientHello as browsers send it (RFC 8446): server name, ALPN, key share, padding.
pub fn client_hello(rng: &mut Rng, server_name: &str) -> Vec<u8> {
    let name = server_name.as_bytes();
    let mut extensions = Vec::with_capacity(512);
    let mut extend = |number: u16, body: &[u8]| {
        extensions.extend_from_slice(&number.to_be_bytes());
        extensions.extend_from_slice(&sized(body));
    };
    extend(0, &sized(&[&[0], &sized(name)[..]].concat()));
    extend(23, &[]);
    extend(10, &sized(&[0, 29, 0, 23, 0, 24]));
    extend(11, &[1, 0]);
    extend(16, &sized(b"\x02h2\x08http/1.1"));
    extend(13, &sized(&[4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1]));
    extend(43, &[4, 3, 4, 3, 3]);
    extend(45, &[1, 1]);
    let share = noise(rng, 32);
    extend(51, &sized(&[&[0, 29], &sized(&share)[..]].concat()));
    extend(21, &vec![0; 200_usize.saturating_sub(name.len())]);
    let mut hello = vec![3, 3];
    hello.extend(noise(rng, 32));
    hello.push(32);
    hello.extend(noise(rng, 32));
    let suites =
        [0x13, 1, 0x13, 2, 0x13, 3, 0xC0, 0x2B, 0xC0, 0x2F, 0xC0, 0x2C, 0xC0, 0x30, 0xCC, 0xA9, 0, 0x9C];
    hello.extend(sized(&suites));
    hello.extend_from_slice(&[1, 0]);
    hello.extend(sized(&extensions));
    handshake_record(1, &hello)
}

/// Returns a TLS record with a ServerHello of TLS 1.3, and a change of cipher spec.
pub fn server_hello(rng: &mut Rng) -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend(noise(rng, 32));
    hello.push(32);
    hello.extend(noise(rng, 32));
    hello.extend_from_slice(&[0x13, 1, 0]);
    let share = noise(rng, 32);
    let mut extensions = vec![0, 43, 0, 2, 3, 4, 0, 51];
    extensions.extend(sized(&[&[0, 29], &sized(&share)[..]].concat()));
    hello.extend(sized(&extensions));
    let mut record = handshake_record(2, &hello);
    record.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
    record
}

/// Returns the head of an HTTP request.
pub fn http_request(rng: &mut Rng, host: &str) -> Vec<u8> {
    let (path, page) = (rng.pick(WORDS), rng.pick(WORDS));
    let method = rng.pick(&["GET", "GET", "GET", "POST"]);
    let mut head = format!(
        "{method} /{path}/{page}?id={} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Accept: */*\r\nAccept-Encoding: gzip, deflate\r\n",
        rng.below(1_000_000)
    );
    if rng.chance(500) {
        head += &format!("Cookie: session={:016x}{:016x}\r\n", rng.bits(), rng.bits());
    }
    head += if method == "POST" { "Content-Length: 0\r\n\r\n" } else { "Connection: keep-alive\r\n\r\n" };
    head.into_bytes()
}

/// Returns the head of an HTTP response with `length` bytes to follow.
pub fn http_response(rng: &mut Rng, length: u32) -> Vec<u8> {
    let status = rng.pick(&["200 OK", "200 OK", "200 OK", "304 Not Modified", "404 Not Found"]);
    format!(
        "HTTP/1.1 {status}\r\nServer: {}/1.{}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\nETag: \"{:x}\"\r\n\r\n",
        rng.pick(WORDS),
        rng.below(20),
        rng.bits()
    )
    .into_bytes()
}

/// Returns a packet with QUIC's long header for version 1 (RFC 9000), type Initial, and noise up to `length` bytes.
pub fn quic_initial(rng: &mut Rng, length: usize) -> Vec<u8> {
    let mut packet = vec![0xC3, 0, 0, 0, 1, 8];
    packet.extend(noise(rng, 8));
    packet.extend_from_slice(&[0, 0]);
    let rest = length.saturating_sub(packet.len() + 2);
    packet.extend_from_slice(&(rest as u16 | 0x4000).to_be_bytes());
    packet.extend(noise(rng, rest));
    packet
}

/// Returns an NTP version 4 message of a client or a server (RFC 5905).
pub fn ntp(rng: &mut Rng, by_server: bool) -> Vec<u8> {
    let mut message = if by_server { vec![0x24, 2, 6, 0xE9] } else { vec![0x23, 0, 6, 0x20] };
    message.resize(40, 0);
    if by_server {
        rng.fill(&mut message[12..40]);
    }
    message.extend(noise(rng, 8));
    message
}

fn handshake_record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&((body.len() + 4) as u16).to_be_bytes());
    record.extend_from_slice(&[kind, 0]);
    record.extend(sized(body));
    record
}

/// Returns bytes after their length in two bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

fn noise(rng: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_repeats_the_question() {
        let query = dns_query(0x1234, "a.example.org", Question::A);
        assert_eq!(query.len(), 12 + 15 + 4);
        let response = dns_response(&query, Some(&[192, 0, 2, 1]), 300);
        assert_eq!(response.len(), query.len() + 16);
        assert_eq!(response[12..query.len()], query[12..]);
        assert_eq!(dns_response(&query, None, 0).len(), query.len());
    }

    #[test]
    fn the_lengths_inside_a_client_hello_agree() {
        let hello = client_hello(&mut Rng::new(1), "www.example.org");
        let length = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
        assert_eq!(length(3) + 5, hello.len());
        assert_eq!(length(7) + 9, hello.len());
        let suites = 9 + 2 + 32 + 1 + 32;
        let extensions = suites + 2 + length(suites) + 2;
        assert_eq!(extensions + 2 + length(extensions), hello.len());
        assert!(hello.windows(15).any(|bytes| bytes == b"www.example.org"));
    }

    #[test]
    fn a_quic_packet_fills_its_datagram() {
        let packet = quic_initial(&mut Rng::new(1), 1200);
        assert_eq!(packet.len(), 1200);
        let rest = u16::from_be_bytes([packet[16], packet[17]]) & 0x3FFF;
        assert_eq!(usize::from(rest) + 18, 1200);
    }
}
