//! Community ID, version 1: a flow hash that tools of different makers agree on.
//!
//! Public specification: "1:" + base64(sha1(seed, ordered addresses, protocol, 0, ordered ports)).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::key::{AddrWords, End, FlowKey, Proto};

/// A Community ID: `1:LQU9qZlK+B5F3KDmev6m5PMibrg=`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CommunityId([u8; 30]);

impl CommunityId {
    /// Computes the id of a flow; `sender` is the end that sent its first packet, and `icmp` that
    /// packet's type and code. The default seed of the specification is 0.
    pub fn new(key: &FlowKey, sender: End, icmp: Option<(u8, u8)>, seed: u16) -> Self {
        let (src, dst) = (key.words(sender), key.words(sender.other()));
        let proto = key.proto();
        let (ports, one_way) = match icmp.filter(|_| proto.is_icmp()) {
            Some((kind, code)) => match icmp_counterpart(proto, kind) {
                Some(other) => (Some((u16::from(kind), u16::from(other))), false),
                None => (Some((u16::from(kind), u16::from(code))), true),
            },
            None => (port_pair(key, sender), false),
        };
        let (sport, dport) = ports.unwrap_or_default();
        let swap = !one_way && (src, sport) > (dst, dport);
        let ((a, aport), (b, bport)) =
            if swap { ((dst, dport), (src, sport)) } else { ((src, sport), (dst, dport)) };

        let mut hash = Sha1::new();
        hash.update(seed.to_be_bytes());
        for AddrWords(high, low) in [a, b] {
            if key.ip_version() == 6 {
                hash.update(high.to_be_bytes());
                hash.update(low.to_be_bytes());
            } else {
                hash.update((low as u32).to_be_bytes());
            }
        }
        hash.update([proto.0, 0]);
        if ports.is_some() {
            hash.update(aport.to_be_bytes());
            hash.update(bport.to_be_bytes());
        }
        let mut text = *b"1:0000000000000000000000000000";
        // 20 bytes are exactly 28 characters.
        let _ = STANDARD.encode_slice(hash.finalize(), &mut text[2..]);
        CommunityId(text)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Ports count for TCP, UDP and SCTP only.
fn port_pair(key: &FlowKey, sender: End) -> Option<(u16, u16)> {
    let has_ports = matches!(key.proto(), Proto::TCP | Proto::UDP | Proto::SCTP) && key.has_ports();
    has_ports.then(|| (key.port_or_zero(sender), key.port_or_zero(sender.other())))
}

/// The ICMP type that answers a type, where there is one.
fn icmp_counterpart(proto: Proto, kind: u8) -> Option<u8> {
    const PAIRS_V4: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (17, 18), (10, 9)];
    const PAIRS_V6: [(u8, u8); 5] = [(128, 129), (133, 134), (135, 136), (130, 131), (144, 145)];
    let pairs = if proto == Proto::ICMP { PAIRS_V4 } else { PAIRS_V6 };
    pairs.iter().find_map(|&(ask, answer)| match kind {
        kind if kind == ask => Some(answer),
        kind if kind == answer => Some(ask),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Endpoint, FiveTuple};

    fn id(src: (&str, u16), dst: (&str, u16), proto: Proto) -> String {
        let end = |(addr, port): (&str, u16)| Endpoint { addr: addr.parse().unwrap(), port: Some(port) };
        let (key, sender) = FlowKey::from_tuple(&FiveTuple { src: end(src), dst: end(dst), proto });
        CommunityId::new(&key, sender, None, 0).as_str().to_owned()
    }

    #[test]
    fn public_vectors() {
        let tcp = id(("128.232.110.120", 34855), ("66.35.250.204", 80), Proto::TCP);
        assert_eq!(tcp, "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        let udp = id(("192.168.1.52", 54585), ("8.8.8.8", 53), Proto::UDP);
        assert_eq!(udp, "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        let back = id(("8.8.8.8", 53), ("192.168.1.52", 54585), Proto::UDP);
        assert_eq!(back, udp);
    }
}
