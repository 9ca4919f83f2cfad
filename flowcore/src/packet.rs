//! A frame as it was captured, and the packet that decoding makes of it.

use std::net::IpAddr;
use std::ops::{BitOr, BitOrAssign, Deref};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::field::ShortText;
use crate::key::{End, FiveTuple, FlowKey};
use crate::time::{TableTime, Timestamp};

/// A link type by its LINKTYPE_ number, as capture files and libpcap's registry have it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u32);

/// One captured frame, borrowed from where it was read.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The captured bytes.
    pub data: &'a [u8],
    /// When it was captured; none where the file does not say (pcapng's simple packet block).
    pub time: Option<Timestamp>,
    /// Its length on the wire in bytes; the captured length is `data.len()`.
    pub wire_len: u32,
    /// What the first byte of `data` belongs to.
    pub link: LinkType,
    /// The interface it was captured on, where that is known.
    pub interface: Option<&'a Arc<str>>,
}

/// Everything that decoding learned of a packet, except its payload and its labels.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The flow that it belongs to.
    pub key: FlowKey,
    /// Which end of the key sent it.
    pub sender: End,
    /// The packet's own time.
    pub time: Timestamp,
    /// The table time that it counts at (definitions.md, "Time").
    pub table_time: TableTime,
    /// Original length of the frame on the wire, in bytes.
    pub wire_len: u32,
    /// Length by the IP header, in bytes.
    pub ip_len: u64,
    /// Length of the transport payload by the headers, in bytes; more than was captured where the frame was cut.
    pub payload_len: u64,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Differentiated services code point: the upper six bits of the traffic class.
    pub dscp: u8,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// The TCP header, where it is whole up to its window field.
    pub tcp: Option<TcpFacts>,
    /// A checksum of its headers is wrong; only ever set where checksums are verified.
    pub bad_checksum: bool,
}

/// The fields of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpFacts {
    /// The flags.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window field as sent, not scaled.
    pub window: u16,
    /// Maximum segment size option.
    pub mss: Option<u16>,
    /// Window scale option.
    pub window_scale: Option<u8>,
}

/// Whether a packet is a fragment, and which.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fragment {
    /// Not a fragment.
    No,
    /// The first fragment: it holds the transport header.
    First,
    /// Any other fragment.
    Later,
}

/// A decoded packet: its facts, the bytes behind its transport header, and the labels around it.
///
/// Dereferences to its [`Facts`].
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What the headers say.
    pub facts: &'a Facts,
    /// The captured bytes of the transport payload; Ethernet padding is never part of it.
    pub payload: &'a [u8],
    /// What a protocol parser may read now.
    ///
    /// For a whole packet that is `payload`. A fragment has none, until the one that completes its
    /// datagram brings all of it.
    pub message: Option<Message<'a>>,
    /// Tags, labels and tunnels around the innermost IP header.
    pub labels: &'a Labels,
}

/// The transport payload of a datagram or segment.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The captured bytes.
    pub bytes: &'a [u8],
    /// The TCP sequence number of the first byte; 0 for other protocols.
    pub seq: u32,
    /// All bytes that the headers announce were captured.
    pub complete: bool,
}

impl Deref for Packet<'_> {
    type Target = Facts;

    #[inline]
    fn deref(&self) -> &Facts {
        self.facts
    }
}

impl Facts {
    /// Returns the five-tuple as sent.
    pub fn tuple(&self) -> FiveTuple {
        self.key.tuple(self.sender)
    }
}

/// TCP's nine flags (RFC 9293, RFC 3168; AE of AccECN).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x001);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x002);
    /// Reset.
    pub const RST: TcpFlags = TcpFlags(0x004);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x008);
    /// The acknowledgement number holds.
    pub const ACK: TcpFlags = TcpFlags(0x010);
    /// The urgent pointer holds.
    pub const URG: TcpFlags = TcpFlags(0x020);
    /// ECN echo.
    pub const ECE: TcpFlags = TcpFlags(0x040);
    /// Congestion window reduced.
    pub const CWR: TcpFlags = TcpFlags(0x080);
    /// Accurate ECN.
    pub const AE: TcpFlags = TcpFlags(0x100);

    /// Tells whether all flags of `other` are set.
    #[inline]
    pub const fn contains(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Tells whether any flag of `other` is set.
    #[inline]
    pub const fn intersects(self, other: TcpFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// Tells whether this opens a connection: SYN without ACK.
    #[inline]
    pub const fn is_syn(self) -> bool {
        self.0 & (TcpFlags::SYN.0 | TcpFlags::ACK.0) == TcpFlags::SYN.0
    }

    /// Tells whether this answers an opening: SYN with ACK.
    #[inline]
    pub const fn is_syn_ack(self) -> bool {
        self.contains(TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0))
    }

    /// Writes six characters in the order SAPRUF, `-` for a flag that is not set: `SA---F`.
    pub const fn sapruf(self) -> ShortText<6> {
        const ORDER: [(TcpFlags, u8); 6] = [
            (TcpFlags::SYN, b'S'),
            (TcpFlags::ACK, b'A'),
            (TcpFlags::PSH, b'P'),
            (TcpFlags::RST, b'R'),
            (TcpFlags::URG, b'U'),
            (TcpFlags::FIN, b'F'),
        ];
        let mut text = ShortText::new();
        let mut nth = 0;
        while nth < ORDER.len() {
            let (flag, letter) = ORDER[nth];
            text.push(if self.contains(flag) { letter } else { b'-' });
            nth += 1;
        }
        text
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;

    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl BitOrAssign for TcpFlags {
    fn bitor_assign(&mut self, other: TcpFlags) {
        self.0 |= other.0;
    }
}

/// What stands around the innermost IP header, outermost first, and where the packet was captured.
#[derive(Clone, Eq, Debug, Default)]
pub struct Labels {
    /// VLAN ids of all layers; id 0 (a priority tag) is left out.
    pub vlans: Vec<u16>,
    /// MPLS labels.
    pub mpls: Vec<u32>,
    /// Tunnels.
    pub tunnels: Vec<Tunnel>,
    /// The interface, where it is known.
    pub interface: Option<Arc<str>>,
}

impl PartialEq for Labels {
    /// Every packet's are compared with those of the one before: mostly that is one name, kept once, and nothing else.
    #[inline]
    fn eq(&self, other: &Labels) -> bool {
        let same_name = match (&self.interface, &other.interface) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (one, other) => one.is_none() && other.is_none(),
        };
        let counts = |labels: &Labels| [labels.vlans.len(), labels.mpls.len(), labels.tunnels.len()];
        same_name
            && counts(self) == counts(other)
            && (counts(self) == [0; 3]
                || (self.vlans == other.vlans && self.mpls == other.mpls && self.tunnels == other.tunnels))
    }
}

/// Nothing around the IP header.
pub(crate) static NO_LABELS: Labels =
    Labels { vlans: Vec::new(), mpls: Vec::new(), tunnels: Vec::new(), interface: None };

impl Labels {
    /// Tells whether there is nothing to say.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.interface.is_none() && self.vlans.is_empty() && self.mpls.is_empty() && self.tunnels.is_empty()
    }

    /// Returns the bytes held outside, with what is kept for more. The interface's name counts although it is shared: who
    /// writes a file can give each packet another one.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.interface.as_ref().map_or(0, |name| name.len())
            + self.vlans.capacity() * size_of::<u16>()
            + self.mpls.capacity() * size_of::<u32>()
            + self.tunnels.capacity() * size_of::<Tunnel>()
    }

    /// Takes everything out and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.vlans.clear();
        self.mpls.clear();
        self.tunnels.clear();
        self.interface = None;
    }
}

/// One tunnel that a packet went through.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tunnel {
    /// The kind of tunnel.
    #[serde(rename = "type")]
    pub kind: TunnelKind,
    /// Where the outer packet came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<IpAddr>,
    /// Where the outer packet went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_ip: Option<IpAddr>,
    /// VNI, TEID, GRE key, session id, as the first packet had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
}

macro_rules! tunnel_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// A kind of tunnel.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum TunnelKind { $($(#[$doc])* $variant,)+ }

        impl TunnelKind {
            /// Returns the name that stands in records.
            pub const fn name(self) -> &'static str {
                match self { $(TunnelKind::$variant => $text),+ }
            }
        }
    };
}

tunnel_kinds! {
    /// IPv4 or IPv6 in IPv4.
    IpInIpv4 = "ip_in_ipv4",
    /// IPv4 or IPv6 in IPv6.
    IpInIpv6 = "ip_in_ipv6",
    /// GRE (RFC 2784, RFC 2890).
    Gre = "gre",
    /// PPTP's enhanced GRE (RFC 2637).
    Pptp = "pptp",
    /// ERSPAN I, II and III.
    Erspan = "erspan",
    /// VXLAN (RFC 7348).
    Vxlan = "vxlan",
    /// VXLAN-GPE.
    VxlanGpe = "vxlan_gpe",
    /// GENEVE (RFC 8926).
    Geneve = "geneve",
    /// NSH (RFC 8300).
    Nsh = "nsh",
    /// GTP-U.
    Gtp = "gtp",
    /// L2TP version 2 (RFC 2661).
    L2tp = "l2tp",
    /// EtherIP (RFC 3378).
    EtherIp = "etherip",
    /// Teredo (RFC 4380).
    Teredo = "teredo",
    /// MPLS in IP or UDP (RFC 4023, RFC 7510).
    MplsInIp = "mpls_in_ip",
    /// Any other encapsulation in IP.
    Other = "other",
}

impl Serialize for TunnelKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_as_text() {
        assert_eq!((TcpFlags::SYN | TcpFlags::ACK | TcpFlags::FIN).sapruf().as_str(), "SA---F");
        assert_eq!(TcpFlags(0).sapruf().as_str(), "------");
        assert_eq!(TcpFlags(0x1FF).sapruf().as_str(), "SAPRUF");
    }

    #[test]
    fn labels_are_compared_by_what_they_say() {
        let named = |name: &str| Labels { interface: Some(name.into()), ..Labels::default() };
        let tagged = |vlan| Labels { vlans: vec![vlan], ..named("eth0") };
        assert_eq!(
            (named("eth0"), tagged(7), Labels::default()),
            (named("eth0"), tagged(7), NO_LABELS.clone())
        );
        for (one, other) in [
            (named("eth0"), named("eth1")),
            (named("eth0"), NO_LABELS.clone()),
            (named("eth0"), tagged(7)),
            (tagged(7), tagged(8)),
            (Labels { mpls: vec![7], ..named("eth0") }, Labels { mpls: vec![8], ..named("eth0") }),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn what_opens_and_what_answers() {
        assert!(TcpFlags::SYN.is_syn() && !TcpFlags::SYN.is_syn_ack());
        let answer = TcpFlags::SYN | TcpFlags::ACK;
        assert!(answer.is_syn_ack() && !answer.is_syn());
        assert!(!TcpFlags::ACK.is_syn() && !TcpFlags::ACK.is_syn_ack());
    }
}
