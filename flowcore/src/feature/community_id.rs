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

    /// Returns the id as bytes, all of them ASCII.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Ports count for TCP, UDP and SCTP only.
fn port_pair(key: &FlowKey, sender: End) -> Option<(u16, u16)> {
    let has_ports = matches!(key.proto(), Proto::TCP | Proto::UDP | Proto::SCTP) && key.has_ports();
    has_ports.then(|| (key.port_or_zero(sender), key.port_or_zero(sender.other())))
}

/// The ICMP type that answers a type, where there is one.
fn icmp_counterpart(proto: Proto, kind: u8) -> Option<u8> {
    let pairs: &[(u8, u8)] = if proto == Proto::ICMP { &PAIRS_V4 } else { &PAIRS_V6 };
    pairs.iter().find_map(|&(ask, answer)| match kind {
        kind if kind == ask => Some(answer),
        kind if kind == answer => Some(ask),
        _ => None,
    })
}

/// Echo, router discovery, timestamp, information, address mask.
const PAIRS_V4: [(u8, u8); 5] = [(8, 0), (10, 9), (13, 14), (15, 16), (17, 18)];
/// Echo, listener discovery, router and neighbour discovery, node information, home agent discovery.
const PAIRS_V6: [(u8, u8); 6] = [(128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Endpoint, FiveTuple};

    fn id(proto: Proto, src: &str, dst: &str, ports: Option<(u16, u16)>, seed: u16) -> String {
        let end = |addr: &str, port| Endpoint { addr: addr.parse().unwrap(), port };
        let has_ports = ports.filter(|_| !proto.is_icmp());
        let tuple = FiveTuple {
            src: end(src, has_ports.map(|ports| ports.0)),
            dst: end(dst, has_ports.map(|ports| ports.1)),
            proto,
        };
        let icmp = ports.filter(|_| proto.is_icmp()).map(|(kind, code)| (kind as u8, code as u8));
        let (key, sender) = FlowKey::from_tuple(&tuple);
        CommunityId::new(&key, sender, icmp, seed).as_str().to_owned()
    }

    /// The baseline of the public specification, seeds 0 and 1; ICMP by type and code.
    #[test]
    fn public_vectors() {
        let (near, far) = ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea");
        let site = "3ffe:507:0:1:200:86ff:fe05:80da";
        #[rustfmt::skip]
        let vectors = [
            (58, near, far, Some((135, 0)), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=", "1:kHa1FhMYIT6Ym2Vm2AOtoOARDzY="),
            (58, far, near, Some((136, 0)), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=", "1:kHa1FhMYIT6Ym2Vm2AOtoOARDzY="),
            (58, far, near, Some((135, 0)), "1:zavyT/cezQr1fmImYCwYnMXbgck=", "1:2hSqmsDZ2kdcY9kbiUzOEBic0iM="),
            (58, near, far, Some((136, 0)), "1:zavyT/cezQr1fmImYCwYnMXbgck=", "1:2hSqmsDZ2kdcY9kbiUzOEBic0iM="),
            (58, "3ffe:501:1800:2345::2", site, Some((3, 0)), "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=", "1:lVEtCZpYu84Xqaa++3lXFyuu2n4="),
            (58, "3ffe:501:410:0:2c0:dfff:fe47:33e", site, Some((1, 4)), "1:hLZd0XGWojozrvxqE0dWB1iM6R0=", "1:W8MHwXpWzpoSTD+cGcaJr4u0ys8="),
            (58, site, "3ffe:501:0:1001::2", Some((128, 0)), "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=", "1:GfZxjAkDk2MkegpBYHV6tadtFXQ="),
            (58, "3ffe:501:0:1001::2", site, Some((129, 0)), "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=", "1:GfZxjAkDk2MkegpBYHV6tadtFXQ="),
            (58, near, "ff02::2", Some((133, 0)), "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0=", "1:L7Ka0ZMYu+J3bL4ulW2PrqyXNo8="),
            (58, far, "ff02::1", Some((134, 0)), "1:pkvHqCL88/tg1k4cPigmZXUtL00=", "1:K/ee5UCqAMAQXDorP5nSa2CGLjc="),
            (1, "192.168.0.89", "192.168.0.1", Some((8, 0)), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=", "1:03g6IloqVBdcZlPyX8r0hgoE7kA="),
            (1, "192.168.0.1", "192.168.0.89", Some((0, 0)), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=", "1:03g6IloqVBdcZlPyX8r0hgoE7kA="),
            (1, "10.0.0.1", "10.0.0.2", Some((11, 0)), "1:YHxtAirCG//0OzkcVAukqKQN9xM=", "1:XjUibYHaafLQ3pxQeiMI8g25q20="),
            (6, "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", Some((63943, 25)), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=", "1:eJYTW6AOzFLlSUoESovMjnu7rMw="),
            (132, "192.168.170.8", "192.168.170.56", Some((7, 7)), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=", "1:5w3ZRjeKBzqT3zsaEECDGjUbYeg="),
            (6, "128.232.110.120", "66.35.250.204", Some((34855, 80)), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=", "1:3V71V58M3Ksw/yuFALMcW0LAHvc="),
            (17, "192.168.1.52", "8.8.8.8", Some((54585, 53)), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=", "1:Q9We8WO3piVF8yEQBNJF4uiSVrI="),
            (46, "10.1.12.1", "10.1.12.2", None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=", "1:rYir8gphR31noO9iDRQmF/BteEI="),
        ];
        for (proto, src, dst, ports, unseeded, seeded) in vectors {
            let proto = Proto(proto);
            assert_eq!(id(proto, src, dst, ports, 0), unseeded, "{proto} {src} {dst} {ports:?}");
            assert_eq!(id(proto, src, dst, ports, 1), seeded, "{proto} {src} {dst} {ports:?}");
            if !proto.is_icmp() {
                let back = ports.map(|(src, dst)| (dst, src));
                assert_eq!(id(proto, dst, src, back, 0), unseeded, "{proto}, the way back");
            }
        }
    }

    /// 1:5M4c… is the base64 of the SHA-1 of 0000 fe80…80da fe80…69ea 3a 00 008b 008c.
    #[test]
    fn node_information_is_a_pair() {
        let (near, far) = ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea");
        let asked = id(Proto::ICMPV6, near, far, Some((139, 1)), 0);
        assert_eq!(asked, "1:5M4clpPt0fX67/4bIqQT4gA26Dw=");
        assert_eq!(id(Proto::ICMPV6, far, near, Some((140, 0)), 0), asked);
    }

    #[test]
    fn ports_of_other_protocols_do_not_count() {
        let with = id(Proto::DCCP, "10.0.0.1", "10.0.0.2", Some((1, 2)), 0);
        assert_eq!(with, id(Proto::DCCP, "10.0.0.1", "10.0.0.2", None, 0));
    }

    #[test]
    fn equal_addresses_are_ordered_by_port() {
        let there = id(Proto::UDP, "127.0.0.1", "127.0.0.1", Some((9000, 53)), 0);
        assert_eq!(there, id(Proto::UDP, "127.0.0.1", "127.0.0.1", Some((53, 9000)), 0));
    }
}
