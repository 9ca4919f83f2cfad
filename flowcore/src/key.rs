//! Who talks to whom: endpoints, the directed five-tuple and the direction-free flow key.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address, and a port where the protocol has ports and the packet showed them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The IP address.
    pub addr: IpAddr,
    /// The port; none for ICMP and the like, and for fragments whose first one was never seen.
    pub port: Option<u16>,
}

impl fmt::Display for Endpoint {
    /// Writes `10.0.0.1:80`, `[2001:db8::1]:80`, or the address alone where there is no port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.addr) {
            (None, addr) => addr.fmt(f),
            (Some(port), IpAddr::V4(addr)) => write!(f, "{addr}:{port}"),
            (Some(port), IpAddr::V6(addr)) => write!(f, "[{addr}]:{port}"),
        }
    }
}

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Proto(pub u8);

impl Proto {
    /// ICMP, 1.
    pub const ICMP: Proto = Proto(1);
    /// TCP, 6.
    pub const TCP: Proto = Proto(6);
    /// UDP, 17.
    pub const UDP: Proto = Proto(17);
    /// DCCP, 33.
    pub const DCCP: Proto = Proto(33);
    /// ICMP for IPv6, 58.
    pub const ICMPV6: Proto = Proto(58);
    /// SCTP, 132.
    pub const SCTP: Proto = Proto(132);
    /// UDP-Lite, 136.
    pub const UDP_LITE: Proto = Proto(136);

    /// Returns the assigned keyword, "ICMPv6" for 58, or `None` where no keyword is assigned.
    pub fn keyword(self) -> Option<&'static str> {
        match self {
            Proto::TCP => Some("TCP"),
            Proto::UDP => Some("UDP"),
            _ => KEYWORDS.binary_search_by_key(&self.0, |entry| entry.0).ok().map(|at| KEYWORDS[at].1),
        }
    }

    /// Tells whether the protocol is ICMP of either IP version.
    pub fn is_icmp(self) -> bool {
        self == Proto::ICMP || self == Proto::ICMPV6
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keyword() {
            Some(keyword) => f.write_str(keyword),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The five-tuple as a packet carried it, or as a flow's initiator sends it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FiveTuple {
    /// Where it came from.
    pub src: Endpoint,
    /// Where it went.
    pub dst: Endpoint,
    /// The IP protocol.
    pub proto: Proto,
}

/// A direction of a flow, seen from its initiator (RFC 5103).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dir {
    /// From the initiator (`src`) to the responder.
    Fwd = 0,
    /// From the responder (`dst`) to the initiator.
    Rev = 1,
}

impl Dir {
    /// Returns 0 for forward and 1 for reverse: the index into a pair of per-direction values.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the other direction.
    pub const fn flip(self) -> Dir {
        match self {
            Dir::Fwd => Dir::Rev,
            Dir::Rev => Dir::Fwd,
        }
    }
}

/// One of the two ends of a [`FlowKey`], which knows no direction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// The end with the smaller (address, port).
    Low = 0,
    /// The other end.
    High = 1,
}

impl End {
    /// Returns the other end.
    pub const fn other(self) -> End {
        match self {
            End::Low => End::High,
            End::High => End::Low,
        }
    }
}

/// An IP address as two big-endian words: IPv4 in the low half of the second one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AddrWords(pub u64, pub u64);

impl AddrWords {
    /// Takes the four bytes of an IPv4 address.
    pub const fn v4(bytes: [u8; 4]) -> Self {
        AddrWords(0, u32::from_be_bytes(bytes) as u64)
    }

    /// Takes the sixteen bytes of an IPv6 address.
    pub const fn v6(bytes: [u8; 16]) -> Self {
        let wide = u128::from_be_bytes(bytes);
        AddrWords((wide >> 64) as u64, wide as u64)
    }

    /// Returns the address in std's type.
    pub const fn to_ip(self, version: u8) -> IpAddr {
        if version == 6 {
            IpAddr::V6(Ipv6Addr::from_bits((self.0 as u128) << 64 | self.1 as u128))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(self.1 as u32))
        }
    }
}

impl From<IpAddr> for AddrWords {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => AddrWords::v4(addr.octets()),
            IpAddr::V6(addr) => AddrWords::v6(addr.octets()),
        }
    }
}

/// What makes packets one flow, whichever way they go (definitions.md, "Flow key").
///
/// The unordered pair of (address, port), the IP protocol, the stack of VLAN tags, and the id of the
/// innermost tunnel where both directions share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowKey {
    low: AddrWords,
    high: AddrWords,
    /// Low port, high port, protocol, IP version, ports present: 16 + 16 + 8 + 4 + 1 bits from the top.
    rest: u64,
    vlans: VlanStack,
    tunnel: TunnelKey,
}

const HAS_PORTS: u64 = 1;

impl FlowKey {
    /// Makes the key of a packet; the second value tells which end sent it.
    ///
    /// `ports` are source and destination. Where both ends are equal the sender is [`End::Low`].
    #[inline]
    pub fn new(
        version: u8,
        src: AddrWords,
        dst: AddrWords,
        proto: Proto,
        ports: Option<(u16, u16)>,
        vlans: VlanStack,
        tunnel: TunnelKey,
    ) -> (FlowKey, End) {
        let (sport, dport) = ports.unwrap_or((0, 0));
        let from_low = (src, sport) <= (dst, dport);
        let (low, low_port, high, high_port) =
            if from_low { (src, sport, dst, dport) } else { (dst, dport, src, sport) };
        let rest = u64::from(low_port) << 48
            | u64::from(high_port) << 32
            | u64::from(proto.0) << 24
            | u64::from(version) << 16
            | if ports.is_some() { HAS_PORTS } else { 0 };
        let sender = if from_low { End::Low } else { End::High };
        (FlowKey { low, high, rest, vlans, tunnel }, sender)
    }

    /// Makes the key of a five-tuple without VLAN and tunnel.
    pub fn from_tuple(tuple: &FiveTuple) -> (FlowKey, End) {
        let version = if tuple.src.addr.is_ipv6() { 6 } else { 4 };
        FlowKey::new(
            version,
            tuple.src.addr.into(),
            tuple.dst.addr.into(),
            tuple.proto,
            tuple.src.port.zip(tuple.dst.port),
            VlanStack::default(),
            TunnelKey::default(),
        )
    }

    /// Returns the protocol.
    #[inline]
    pub const fn proto(&self) -> Proto {
        Proto((self.rest >> 24) as u8)
    }

    /// Returns the IP version, 4 or 6.
    #[inline]
    pub const fn ip_version(&self) -> u8 {
        (self.rest >> 16) as u8
    }

    /// Tells whether ports are part of the key.
    #[inline]
    pub const fn has_ports(&self) -> bool {
        self.rest & HAS_PORTS != 0
    }

    /// Returns the port of an end, 0 where there are none.
    #[inline]
    pub const fn port_or_zero(&self, end: End) -> u16 {
        match end {
            End::Low => (self.rest >> 48) as u16,
            End::High => (self.rest >> 32) as u16,
        }
    }

    /// Returns the address of an end as words.
    #[inline]
    pub const fn words(&self, end: End) -> AddrWords {
        match end {
            End::Low => self.low,
            End::High => self.high,
        }
    }

    /// Returns an end with address and port.
    pub const fn endpoint(&self, end: End) -> Endpoint {
        let port = if self.has_ports() { Some(self.port_or_zero(end)) } else { None };
        Endpoint { addr: self.words(end).to_ip(self.ip_version()), port }
    }

    /// Returns the five-tuple as `src` sends it.
    pub const fn tuple(&self, src: End) -> FiveTuple {
        FiveTuple { src: self.endpoint(src), dst: self.endpoint(src.other()), proto: self.proto() }
    }

    /// Tells whether both ends are the same address and port.
    #[inline]
    pub fn ends_equal(&self) -> bool {
        self.low == self.high && (self.rest >> 48) as u16 == (self.rest >> 32) as u16
    }

    /// Returns the VLAN stack.
    pub const fn vlans(&self) -> VlanStack {
        self.vlans
    }

    /// Returns the tunnel id that is part of the key.
    pub const fn tunnel(&self) -> TunnelKey {
        self.tunnel
    }

    /// Returns the key as seven words, for hashing.
    #[inline]
    pub const fn as_words(&self) -> [u64; 7] {
        [self.low.0, self.low.1, self.high.0, self.high.1, self.rest, self.vlans.0, self.tunnel.0]
    }

    /// Hashes the key with fixed constants: the same on every machine and in every run.
    ///
    /// For flow ids only. It is no defence against crafted keys: shards and tables use a keyed hash (faults.md).
    #[inline]
    pub fn stable_hash(&self, salt: u64) -> u64 {
        let [a, b, c, d, e, f, g] = self.as_words();
        let left = fold(a ^ SECRET[0] ^ salt, b ^ SECRET[1]) ^ fold(c ^ SECRET[2], d ^ SECRET[3]);
        let right = fold(e ^ SECRET[1] ^ left, (f.rotate_left(32) ^ g) ^ SECRET[0]);
        fold(right ^ SECRET[2], left ^ SECRET[3])
    }
}

/// Multiplies to 128 bits and folds the halves: the mixing step of the wyhash family.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let wide = (a as u128) * (b as u128);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Binary digits of pi (of its fraction), as nothing-up-my-sleeve constants.
const SECRET: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// The VLAN ids of a packet from the outside in, in one word; id 0 is no tag.
///
/// Up to five ids are kept as they are; a deeper stack is replaced by a 60-bit digest of all its ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct VlanStack(u64);

impl VlanStack {
    const DIGEST: u64 = 0xF;

    /// Adds the next inner tag's VLAN id (its low 12 bits).
    #[inline]
    pub fn push(&mut self, vlan: u16) {
        let vlan = u64::from(vlan & 0xFFF);
        if vlan == 0 {
            return;
        }
        let depth = self.0 & 0xF;
        self.0 = if depth < 5 {
            self.0 | vlan << (4 + 12 * depth)
        } else {
            fold(self.0 ^ SECRET[0], vlan ^ SECRET[1]) | VlanStack::DIGEST
        };
        if depth < 5 {
            self.0 += 1;
        }
    }
}

/// The tunnel id that is part of a flow key: a kind and its id in one word, 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TunnelKey(u64);

impl TunnelKey {
    /// Makes the key of a tunnel kind (above 0) and the id that both directions share.
    #[inline]
    pub const fn new(kind: u8, id: u32) -> Self {
        TunnelKey((kind as u64) << 56 | id as u64)
    }
}

impl Serialize for Proto {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Proto {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let keyword = KEYWORDS.iter().find(|(_, keyword)| *keyword == text).map(|(number, _)| *number);
        let number = keyword.map_or_else(|| text.parse().map_err(serde::de::Error::custom), Ok);
        number.map(Proto)
    }
}

/// Assigned keywords by number; blanks as in the registry, 58 written ICMPv6 (record.md).
const KEYWORDS: &[(u8, &str)] = &[
    (0, "HOPOPT"),
    (1, "ICMP"),
    (2, "IGMP"),
    (3, "GGP"),
    (4, "IPv4"),
    (5, "ST"),
    (6, "TCP"),
    (7, "CBT"),
    (8, "EGP"),
    (9, "IGP"),
    (10, "BBN-RCC-MON"),
    (11, "NVP-II"),
    (12, "PUP"),
    (14, "EMCON"),
    (15, "XNET"),
    (16, "CHAOS"),
    (17, "UDP"),
    (18, "MUX"),
    (19, "DCN-MEAS"),
    (20, "HMP"),
    (21, "PRM"),
    (22, "XNS-IDP"),
    (23, "TRUNK-1"),
    (24, "TRUNK-2"),
    (25, "LEAF-1"),
    (26, "LEAF-2"),
    (27, "RDP"),
    (28, "IRTP"),
    (29, "ISO-TP4"),
    (30, "NETBLT"),
    (31, "MFE-NSP"),
    (32, "MERIT-INP"),
    (33, "DCCP"),
    (34, "3PC"),
    (35, "IDPR"),
    (36, "XTP"),
    (37, "DDP"),
    (38, "IDPR-CMTP"),
    (39, "TP++"),
    (40, "IL"),
    (41, "IPv6"),
    (42, "SDRP"),
    (43, "IPv6-Route"),
    (44, "IPv6-Frag"),
    (45, "IDRP"),
    (46, "RSVP"),
    (47, "GRE"),
    (48, "DSR"),
    (49, "BNA"),
    (50, "ESP"),
    (51, "AH"),
    (52, "I-NLSP"),
    (54, "NARP"),
    (55, "Min-IPv4"),
    (56, "TLSP"),
    (57, "SKIP"),
    (58, "ICMPv6"),
    (59, "IPv6-NoNxt"),
    (60, "IPv6-Opts"),
    (62, "CFTP"),
    (64, "SAT-EXPAK"),
    (65, "KRYPTOLAN"),
    (66, "RVD"),
    (67, "IPPC"),
    (69, "SAT-MON"),
    (70, "VISA"),
    (71, "IPCV"),
    (72, "CPNX"),
    (73, "CPHB"),
    (74, "WSN"),
    (75, "PVP"),
    (76, "BR-SAT-MON"),
    (77, "SUN-ND"),
    (78, "WB-MON"),
    (79, "WB-EXPAK"),
    (80, "ISO-IP"),
    (81, "VMTP"),
    (82, "SECURE-VMTP"),
    (83, "VINES"),
    (84, "IPTM"),
    (85, "NSFNET-IGP"),
    (86, "DGP"),
    (87, "TCF"),
    (88, "EIGRP"),
    (89, "OSPFIGP"),
    (90, "Sprite-RPC"),
    (91, "LARP"),
    (92, "MTP"),
    (93, "AX.25"),
    (94, "IPIP"),
    (96, "SCC-SP"),
    (97, "ETHERIP"),
    (98, "ENCAP"),
    (100, "GMTP"),
    (101, "IFMP"),
    (102, "PNNI"),
    (103, "PIM"),
    (104, "ARIS"),
    (105, "SCPS"),
    (106, "QNX"),
    (107, "A/N"),
    (108, "IPComp"),
    (109, "SNP"),
    (110, "Compaq-Peer"),
    (111, "IPX-in-IP"),
    (112, "VRRP"),
    (113, "PGM"),
    (115, "L2TP"),
    (116, "DDX"),
    (117, "IATP"),
    (118, "STP"),
    (119, "SRP"),
    (120, "UTI"),
    (121, "SMP"),
    (123, "PTP"),
    (124, "ISIS over IPv4"),
    (125, "FIRE"),
    (126, "CRTP"),
    (127, "CRUDP"),
    (128, "SSCOPMCE"),
    (129, "IPLT"),
    (130, "SPS"),
    (131, "PIPE"),
    (132, "SCTP"),
    (133, "FC"),
    (134, "RSVP-E2E-IGNORE"),
    (135, "Mobility Header"),
    (136, "UDPLite"),
    (137, "MPLS-in-IP"),
    (138, "manet"),
    (139, "HIP"),
    (140, "Shim6"),
    (141, "WESP"),
    (142, "ROHC"),
    (143, "Ethernet"),
    (144, "AGGFRAG"),
    (145, "NSH"),
    (146, "Homa"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: &str, sport: u16, dst: &str, dport: u16) -> FiveTuple {
        FiveTuple {
            src: Endpoint { addr: src.parse().unwrap(), port: Some(sport) },
            dst: Endpoint { addr: dst.parse().unwrap(), port: Some(dport) },
            proto: Proto::TCP,
        }
    }

    #[test]
    fn both_directions_share_a_key() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2"), ("::1", "::1")] {
            let there = tuple(a, 40000, b, 80);
            let back = FiveTuple { src: there.dst, dst: there.src, proto: there.proto };
            let ((key, sender), (same, answerer)) = (FlowKey::from_tuple(&there), FlowKey::from_tuple(&back));
            assert_eq!(key, same);
            assert_eq!(sender, answerer.other());
            assert_eq!(key.tuple(sender), there);
            assert_eq!(key.tuple(answerer), back);
            assert_eq!(key.stable_hash(7), same.stable_hash(7));
        }
    }

    #[test]
    fn equal_ends_are_always_low() {
        let (key, sender) = FlowKey::from_tuple(&tuple("127.0.0.1", 9, "127.0.0.1", 9));
        assert!(key.ends_equal());
        assert_eq!(sender, End::Low);
    }

    #[test]
    fn port_zero_is_not_no_port() {
        let with = tuple("10.0.0.1", 0, "10.0.0.2", 0);
        let mut without = with;
        (without.src.port, without.dst.port) = (None, None);
        let (with, without) = (FlowKey::from_tuple(&with).0, FlowKey::from_tuple(&without).0);
        assert_ne!(with, without);
        assert_eq!(with.endpoint(End::Low).port, Some(0));
        assert_eq!(without.endpoint(End::Low).port, None);
    }

    #[test]
    fn vlan_stacks_differ_by_ids_order_and_depth() {
        let stack = |ids: &[u16]| {
            let mut stack = VlanStack::default();
            ids.iter().for_each(|id| stack.push(*id));
            stack
        };
        assert_eq!(stack(&[0]), stack(&[]));
        assert_eq!(stack(&[0, 7]), stack(&[7]));
        assert_ne!(stack(&[1, 2]), stack(&[2, 1]));
        assert_ne!(stack(&[1]), stack(&[1, 1]));
        let deep: Vec<u16> = (1..=12).collect();
        assert_eq!(stack(&deep), stack(&deep));
        assert_ne!(stack(&deep), stack(&deep[..11]));
        assert_ne!(stack(&deep[..5]), stack(&deep[..6]));
    }

    #[test]
    fn keywords_are_sorted() {
        assert!(KEYWORDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(Proto(58).to_string(), "ICMPv6");
        assert_eq!(Proto(253).to_string(), "253");
    }
}
