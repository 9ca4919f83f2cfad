//! Frames byte by byte: Ethernet II with at most one VLAN tag, ARP, IPv4 and IPv6, TCP, UDP, ICMP, ESP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses and ports of one packet, as sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ends {
    /// Sender; both addresses have the same IP version.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Sender's port; the identifier of an ICMP echo, the SPI's low half of ESP.
    pub sport: u16,
    /// Receiver's port; without meaning for ICMP and ESP.
    pub dport: u16,
    /// The id of the VLAN tag, where there is one.
    pub vlan: Option<u16>,
}

impl Ends {
    /// Returns the ends as the receiver sends.
    pub const fn flip(self) -> Ends {
        Ends { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, vlan: self.vlan }
    }
}

/// The header fields of a TCP segment (RFC 9293).
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Next byte awaited.
    pub ack: u32,
    /// Flag bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u8,
    /// Receive window as it stands in the header.
    pub window: u16,
    /// Options, a multiple of four bytes.
    pub options: &'a [u8],
}

/// A frame under construction; its memory is used again for the next one.
#[derive(Clone, Default, Debug)]
pub struct Wire {
    bytes: Vec<u8>,
    ip_id: u16,
}

impl Wire {
    /// Returns the last frame, without frame check sequence.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes a frame with a TCP segment.
    pub fn tcp(&mut self, ends: &Ends, segment: &Segment<'_>, payload: &[u8]) {
        let header = 20 + segment.options.len();
        let at = self.ip(ends, TCP, header + payload.len());
        self.put(&ends.sport.to_be_bytes());
        self.put(&ends.dport.to_be_bytes());
        self.put(&segment.seq.to_be_bytes());
        self.put(&segment.ack.to_be_bytes());
        self.put(&[(header << 2) as u8, segment.flags]);
        self.put(&segment.window.to_be_bytes());
        self.put(&[0; 4]);
        self.put(segment.options);
        self.put(payload);
        self.seal(ends, TCP, at, Some(16));
    }

    /// Makes a frame with a UDP datagram.
    pub fn udp(&mut self, ends: &Ends, payload: &[u8]) {
        let length = 8 + payload.len();
        let at = self.ip(ends, UDP, length);
        self.put(&ends.sport.to_be_bytes());
        self.put(&ends.dport.to_be_bytes());
        self.put(&(length as u16).to_be_bytes());
        self.put(&[0; 2]);
        self.put(payload);
        self.seal(ends, UDP, at, Some(6));
    }

    /// Makes a frame with an ICMP or ICMPv6 echo request or reply.
    pub fn echo(&mut self, ends: &Ends, request: bool, id: u16, number: u16, payload: &[u8]) {
        let (proto, kind) = match (ends.src.is_ipv6(), request) {
            (false, true) => (ICMP, 8),
            (false, false) => (ICMP, 0),
            (true, true) => (ICMPV6, 128),
            (true, false) => (ICMPV6, 129),
        };
        let at = self.ip(ends, proto, 8 + payload.len());
        self.put(&[kind, 0, 0, 0]);
        self.put(&id.to_be_bytes());
        self.put(&number.to_be_bytes());
        self.put(payload);
        self.seal(ends, proto, at, Some(2));
    }

    /// Makes a frame with an encrypted packet (ESP, RFC 4303); `sealed` is all that follows the sequence number.
    pub fn esp(&mut self, ends: &Ends, spi: u32, number: u32, sealed: &[u8]) {
        let at = self.ip(ends, ESP, 8 + sealed.len());
        self.put(&spi.to_be_bytes());
        self.put(&number.to_be_bytes());
        self.put(sealed);
        self.seal(ends, ESP, at, None);
    }

    /// Makes a frame with a fragment of an IPv4 datagram with UDP: `length` bytes from `offset` (a multiple of 8) on. The
    /// bytes are zeros, but for the ports with which the first one begins.
    pub fn fragment(&mut self, ends: &Ends, id: u16, offset: u16, more: bool, length: usize) {
        let at = self.ip(ends, UDP, length);
        if offset == 0 {
            self.put(&ends.sport.to_be_bytes());
            self.put(&ends.dport.to_be_bytes());
        }
        self.bytes.resize(at + length, 0);
        let header = &mut self.bytes[at - 20..at];
        header[4..6].copy_from_slice(&id.to_be_bytes());
        header[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(sum(header));
        header[10..12].copy_from_slice(&sum);
        self.pad();
    }

    /// Makes an ARP frame (RFC 826): a request to all, or the reply to one.
    pub fn arp(&mut self, sender: Ipv4Addr, target: Ipv4Addr, request: bool) {
        self.bytes.clear();
        self.put(if request { &[0xFF; 6] } else { &MACS[0] });
        self.put(&MACS[1]);
        self.put(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, if request { 1 } else { 2 }]);
        self.put(&MACS[1]);
        self.put(&sender.octets());
        self.put(if request { &[0; 6] } else { &MACS[0] });
        self.put(&target.octets());
        self.pad();
    }

    /// Begins a frame and returns where the IP payload starts.
    fn ip(&mut self, ends: &Ends, proto: u8, payload: usize) -> usize {
        self.bytes.clear();
        let outward = usize::from(ends.sport < ends.dport);
        self.put(&MACS[outward]);
        self.put(&MACS[1 - outward]);
        if let Some(vlan) = ends.vlan {
            self.put(&[0x81, 0x00]);
            self.put(&vlan.to_be_bytes());
        }
        match (ends.src, ends.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src, dst, proto, payload),
            (src, dst) => self.ipv6(wide(src), wide(dst), proto, payload),
        }
        self.bytes.len()
    }

    fn ipv4(&mut self, src: Ipv4Addr, dst: Ipv4Addr, proto: u8, payload: usize) {
        self.put(&[0x08, 0x00]);
        let at = self.bytes.len();
        self.ip_id = self.ip_id.wrapping_add(1);
        self.put(&[0x45, 0]);
        self.put(&((20 + payload) as u16).to_be_bytes());
        self.put(&self.ip_id.to_be_bytes());
        self.put(&[0x40, 0, TTL, proto, 0, 0]);
        self.put(&src.octets());
        self.put(&dst.octets());
        let sum = checksum(sum(&self.bytes[at..]));
        self.bytes[at + 10..at + 12].copy_from_slice(&sum);
    }

    fn ipv6(&mut self, src: Ipv6Addr, dst: Ipv6Addr, proto: u8, payload: usize) {
        self.put(&[0x86, 0xDD, 0x60, 0, 0, 0]);
        self.put(&(payload as u16).to_be_bytes());
        self.put(&[proto, TTL]);
        self.put(&src.octets());
        self.put(&dst.octets());
    }

    /// Writes the checksum of the IP payload at `at`, with its pseudo header (none for ICMP), and pads the frame.
    fn seal(&mut self, ends: &Ends, proto: u8, at: usize, field: Option<usize>) {
        if let Some(field) = field {
            let body = &self.bytes[at..];
            let pseudo = if proto == ICMP { 0 } else { pseudo_header(ends, proto, body.len()) };
            let mut sum = checksum(pseudo + sum(body));
            if proto == UDP && sum == [0, 0] {
                sum = [0xFF, 0xFF];
            }
            self.bytes[at + field..at + field + 2].copy_from_slice(&sum);
        }
        self.pad();
    }

    /// Pads to Ethernet's least frame of 64 bytes, of which 4 are the frame check sequence.
    fn pad(&mut self) {
        if self.bytes.len() < 60 {
            self.bytes.resize(60, 0);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Adds up 16-bit words in little-endian order: the one's complement sum is the same in either order (RFC 1071).
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let total: u64 = words.iter().map(|word| u64::from(u32::from_le_bytes(*word))).sum();
    total + u64::from(u32::from_le_bytes(last))
}

/// Folds a sum of 16-bit words into the Internet checksum as it stands on the wire.
pub fn checksum(mut sum: u64) -> [u8; 2] {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    (!(sum as u16)).to_le_bytes()
}

fn pseudo_header(ends: &Ends, proto: u8, length: usize) -> u64 {
    let addresses = match (ends.src, ends.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&src.octets()) + sum(&dst.octets()),
        (src, dst) => sum(&wide(src).octets()) + sum(&wide(dst).octets()),
    };
    addresses + sum(&(length as u32).to_be_bytes()) + sum(&[0, proto])
}

const fn wide(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;
const TTL: u8 = 64;
/// Locally administered addresses of the two machines that everything passes.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Ends = Ends {
        src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        dst: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        sport: 40_000,
        dport: 53,
        vlan: None,
    };

    #[test]
    fn the_example_of_rfc_1071_has_its_sum() {
        let words = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
        assert_eq!(checksum(sum(&words)), (!0xDDF2_u16).to_be_bytes());
    }

    #[test]
    fn a_frame_is_padded_and_its_headers_add_up() {
        let mut wire = Wire::default();
        wire.udp(&V4, b"abc");
        assert_eq!(wire.bytes().len(), 60);
        assert_eq!(checksum(sum(&wire.bytes()[14..34])), [0, 0]);
        let body = &wire.bytes()[34..34 + 11];
        assert_eq!(checksum(pseudo_header(&V4, UDP, 11) + sum(body)), [0, 0]);
        assert_eq!(&body[8..], b"abc");
    }

    #[test]
    fn a_vlan_tag_moves_the_rest_by_four() {
        let mut wire = Wire::default();
        wire.udp(&V4, &[7; 100]);
        let plain = wire.bytes().to_vec();
        wire.udp(&Ends { vlan: Some(5), ..V4 }, &[7; 100]);
        assert_eq!(&wire.bytes()[12..16], &[0x81, 0, 0, 5]);
        assert_eq!(wire.bytes()[38..], plain[34..]);
    }
}
