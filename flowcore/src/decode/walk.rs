//! The walk through the headers of one frame, from the outside in.
//!
//! It is a loop and not a recursion, so that no nesting of tunnels can exhaust the stack. Each step
//! either takes bytes away or goes from a chooser to one concrete header, so it ends.

use super::ip::Ip;
use super::transport::Transport;
use super::{ip, link, radio, shim, tunnels};
use crate::error::{DropReason, StopReason};
use crate::key::{AddrWords, TunnelKey, VlanStack};
use crate::packet::{Labels, Tunnel, TunnelKind};

/// The state of a walk.
pub(super) struct Walk<'a, 'l> {
    /// Open tunnels; without it the outermost IP header is the packet.
    pub(super) decap: bool,
    /// Bytes that the enclosing header announces and the capture does not have.
    pub(super) missing: u64,
    /// VLAN ids so far.
    pub(super) vlans: VlanStack,
    /// The innermost tunnel id so far that both directions share.
    pub(super) tunnel: TunnelKey,
    /// IP headers so far.
    pub(super) depth: u8,
    /// The innermost whole IP header so far; empty while `depth` is 0.
    pub(super) layer: Layer<'a>,
    /// An outer first fragment in which another IP header was whole.
    pub(super) split: Option<DatagramId>,
    /// VLAN tags, MPLS labels and tunnels so far.
    pub(super) labels: &'l mut Labels,
}

/// What comes next inside a frame, and the bytes from there on.
pub(super) enum Next<'a> {
    Link(u32, &'a [u8]),
    Ethernet(&'a [u8]),
    EtherType(u16, &'a [u8]),
    Llc(&'a [u8]),
    Ieee80211(&'a [u8]),
    Ppp(&'a [u8]),
    Mpls(&'a [u8]),
    Nsh(&'a [u8]),
    Gre(&'a [u8]),
    /// IP of the version that its first byte names.
    Ip(&'a [u8]),
    Ipv4(&'a [u8]),
    Ipv6(&'a [u8]),
    Done,
}

/// Why a walk ended before a transport header.
pub(super) enum Halt {
    /// Nothing that can be read comes next.
    Unreadable(DropReason),
    /// The IP header that was read last is the last.
    Stop(StopReason),
}

/// What a header leads to.
pub(super) type Step<'a> = Result<Next<'a>, Halt>;

/// One IP header with what follows it, and what stood before it.
#[derive(Default)]
pub(super) struct Layer<'a> {
    pub(super) ip: Ip<'a>,
    pub(super) transport: Transport<'a>,
    pub(super) vlans: VlanStack,
    pub(super) tunnel: TunnelKey,
    marks: Marks,
}

/// The part of a datagram that a fragment carries.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    /// The datagram's identification.
    pub(super) id: u32,
    /// Where the part begins, in bytes.
    pub(super) offset: u32,
    /// More fragments follow.
    pub(super) more: bool,
    /// What the datagram's first byte belongs to.
    pub(super) proto: u8,
    /// The captured bytes, and how many were announced.
    pub(super) bytes: &'a [u8],
    pub(super) len: u64,
}

/// What tells the fragments of one datagram from those of another.
///
/// IPv6 leaves the protocol out (RFC 8200, section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct DatagramId {
    src: AddrWords,
    dst: AddrWords,
    version: u8,
    proto: u8,
    id: u32,
    vlans: VlanStack,
    tunnel: TunnelKey,
}

/// How many labels there were when an IP header was read.
#[derive(Clone, Copy, Default)]
struct Marks {
    vlans: usize,
    mpls: usize,
    tunnels: usize,
}

impl Halt {
    /// Returns the reason as it counts in a packet that has a flow.
    #[cold]
    pub(super) fn as_stop(&self) -> StopReason {
        match self {
            Halt::Stop(reason) => *reason,
            Halt::Unreadable(reason) => match reason {
                DropReason::LinkHeaderCut => StopReason::TunnelHeader,
                DropReason::IpHeaderCut | DropReason::IpVersion | DropReason::IpHeaderLength => {
                    StopReason::InnerIp
                }
                _ => StopReason::TunnelPayload,
            },
        }
    }
}

impl<'a, 'l> Walk<'a, 'l> {
    /// Starts a walk; `labels` is empty but for the interface, and `missing` bytes were not captured.
    #[inline]
    pub(super) fn new(decap: bool, missing: u64, labels: &'l mut Labels) -> Self {
        Walk {
            decap,
            missing,
            vlans: VlanStack::default(),
            tunnel: TunnelKey::default(),
            depth: 0,
            layer: Layer::default(),
            split: None,
            labels,
        }
    }

    /// Goes on until there is nothing more to open.
    pub(super) fn run(&mut self, mut next: Next<'a>) -> Result<(), Halt> {
        loop {
            next = match next {
                Next::Link(link, bytes) => link::open(link, bytes)?,
                Next::Ethernet(bytes) => shim::ethernet(bytes)?,
                Next::EtherType(ethertype, bytes) => shim::ethertype(self, ethertype, bytes)?,
                Next::Llc(bytes) => shim::llc(bytes)?,
                Next::Ieee80211(bytes) => radio::ieee80211(bytes)?,
                Next::Ppp(bytes) => shim::ppp(bytes)?,
                Next::Mpls(bytes) => shim::mpls(self, bytes)?,
                Next::Nsh(bytes) => shim::nsh(self, bytes)?,
                Next::Gre(bytes) => tunnels::gre(self, bytes)?,
                Next::Ip(bytes) => ip::either(bytes)?,
                Next::Ipv4(bytes) => self.enter(bytes, ip::ipv4)?,
                Next::Ipv6(bytes) => self.enter(bytes, ip::ipv6)?,
                Next::Done => return Ok(()),
            };
        }
    }

    /// Reads an IP header and, if it is whole, makes it the innermost.
    #[inline]
    fn enter(
        &mut self,
        bytes: &'a [u8],
        read: impl FnOnce(&'a [u8], u64) -> Result<Ip<'a>, DropReason>,
    ) -> Step<'a> {
        if self.depth >= MAX_HEADERS {
            return Err(Halt::Stop(StopReason::TooDeep));
        }
        let ip = read(bytes, self.missing).map_err(Halt::Unreadable)?;
        if self.depth > 0 && self.split.is_none() {
            self.split = self.layer.datagram();
        }
        self.depth += 1;
        let layer = &mut self.layer;
        layer.ip = ip;
        layer.transport = layer.ip.transport();
        (layer.vlans, layer.tunnel) = (self.vlans, self.tunnel);
        layer.marks = Marks {
            vlans: self.labels.vlans.len(),
            mpls: self.labels.mpls.len(),
            tunnels: self.labels.tunnels.len(),
        };
        self.missing = layer.ip.body_len.saturating_sub(layer.ip.body.len() as u64);
        match layer.transport.stop {
            Some(reason) => Err(Halt::Stop(reason)),
            None if self.decap => tunnels::open(self),
            None => Ok(Next::Done),
        }
    }

    /// Takes note of a VLAN tag; id 0 is no tag.
    pub(super) fn push_vlan(&mut self, vlan: u16) {
        if vlan != 0 {
            self.vlans.push(vlan);
            push(&mut self.labels.vlans, vlan);
        }
    }

    /// Takes note of an MPLS label.
    pub(super) fn push_mpls(&mut self, label: u32) {
        push(&mut self.labels.mpls, label);
    }

    /// Takes note of a tunnel with the innermost IP header's addresses.
    pub(super) fn push_tunnel(&mut self, kind: TunnelKind, id: Option<u32>) {
        let address = |words: AddrWords| (self.depth > 0).then(|| words.to_ip(self.layer.ip.version));
        let (src_ip, dst_ip) = (address(self.layer.ip.src), address(self.layer.ip.dst));
        push(&mut self.labels.tunnels, Tunnel { kind, src_ip, dst_ip, id });
    }

    /// Takes note of a tunnel whose id both directions share, so that it is part of the key.
    pub(super) fn push_shared_tunnel(&mut self, kind: TunnelKind, id: u32) {
        self.push_tunnel(kind, Some(id));
        self.tunnel = TunnelKey::new((kind as u8).saturating_add(1), id);
    }

    /// Takes out the labels inside the innermost whole IP header.
    #[cold]
    pub(super) fn forget_inner_labels(&mut self) {
        let marks = self.layer.marks;
        self.labels.vlans.truncate(marks.vlans);
        self.labels.mpls.truncate(marks.mpls);
        self.labels.tunnels.truncate(marks.tunnels);
    }
}

impl<'a> Layer<'a> {
    /// Makes the only layer of a frame without labels.
    #[inline(always)]
    pub(super) fn bare(ip: Ip<'a>, transport: Transport<'a>) -> Self {
        Layer { ip, transport, ..Layer::default() }
    }

    /// Returns what names the datagram, if this is a fragment of one.
    pub(super) fn datagram(&self) -> Option<DatagramId> {
        let ip = &self.ip;
        let piece = ip.piece?;
        Some(DatagramId {
            src: ip.src,
            dst: ip.dst,
            version: ip.version,
            proto: if ip.version == 6 { 0 } else { piece.proto },
            id: piece.id,
            vlans: self.vlans,
            tunnel: self.tunnel,
        })
    }
}

impl DatagramId {
    /// Returns the IP version, 4 or 6.
    pub(super) fn version(&self) -> u8 {
        self.version
    }
}

/// Adds a label while there are few: a crafted frame could hold thousands.
fn push<T>(labels: &mut Vec<T>, label: T) {
    if labels.len() < MAX_LABELS {
        labels.push(label);
    }
}

/// IP headers in a frame (definitions.md, "Flow key").
const MAX_HEADERS: u8 = 8;
const MAX_LABELS: usize = 64;
