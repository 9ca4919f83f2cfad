//! What is read in a frame, and what is read here.

use std::net::IpAddr;
use std::sync::Arc;

use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::packet::{Fragment, Frame, LinkType, Packet, TcpFlags};

/// A frame as it was captured.
pub(crate) struct Raw {
    pub(crate) link: LinkType,
    pub(crate) wire_len: u32,
    pub(crate) data: Vec<u8>,
}

/// What was read in a frame, from the link to the transport header.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Seen {
    pub(crate) vlans: Vec<u64>,
    pub(crate) mpls: Vec<u64>,
    pub(crate) tunnels: Vec<Tunnel>,
    pub(crate) outer: Option<Ip>,
    pub(crate) inner: Option<Ip>,
    pub(crate) proto: Option<u64>,
    pub(crate) ports: Option<(u64, u64)>,
    /// Flags, sequence and acknowledgement number, window.
    pub(crate) tcp: Option<[u64; 4]>,
    pub(crate) mss: Option<u64>,
    pub(crate) window_scale: Option<u64>,
    /// Type and code.
    pub(crate) icmp: Option<(u64, u64)>,
    /// Length of what is behind the transport header.
    pub(crate) payload: Option<u64>,
}

/// A tunnel: its kind, its id, and the ends of the packet that it is in.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Tunnel {
    pub(crate) kind: &'static str,
    pub(crate) id: Option<u64>,
    pub(crate) ends: Option<(IpAddr, IpAddr)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Ip {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) len: u64,
    pub(crate) ttl: u64,
    pub(crate) dscp: u64,
    pub(crate) fragment: Fragment,
}

impl Seen {
    /// Takes out what stood behind an IP header: there is another one.
    pub(crate) fn forget_transport(&mut self) {
        let Seen { vlans, mpls, tunnels, outer, inner, .. } = std::mem::take(self);
        *self = Seen { vlans, mpls, tunnels, outer, inner, ..Seen::default() };
    }

    /// Names the fields in which two readings differ.
    pub(crate) fn differences(&self, other: &Seen) -> Vec<&'static str> {
        macro_rules! differing {
            ($($field:ident)*) => {{
                let Seen { $($field),* } = self; // all of them
                [$((stringify!($field), *$field != other.$field)),*]
            }};
        }
        let all = differing!(vlans mpls tunnels outer inner proto ports tcp mss window_scale icmp payload);
        all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

/// Reads the frames of a capture.
pub(crate) fn read(frames: &[Raw]) -> Vec<Seen> {
    let mut seen = vec![Seen::default(); frames.len()];
    decode(frames, false, |number, packet| seen[number].outer = Some(ip(packet)));
    decode(frames, true, |number, packet| {
        let tuple = packet.tuple();
        let seen = &mut seen[number];
        seen.vlans = packet.labels.vlans.iter().map(|&id| id.into()).collect();
        seen.mpls = packet.labels.mpls.iter().map(|&label| label.into()).collect();
        let tunnels = packet.labels.tunnels.iter().map(|tunnel| Tunnel {
            kind: tunnel.kind.name(),
            id: tunnel.id.map(u64::from),
            ends: tunnel.src_ip.zip(tunnel.dst_ip),
        });
        seen.tunnels = tunnels.collect();
        seen.inner = Some(ip(packet));
        seen.payload = Some(packet.payload_len);
        // A later fragment has what its first one has, where that was seen.
        if packet.fragment != Fragment::Later {
            seen.proto = Some(tuple.proto.0.into());
            seen.ports = tuple.src.port.zip(tuple.dst.port).map(|(src, dst)| (src.into(), dst.into()));
        }
        seen.icmp = packet.icmp.map(|(kind, code)| (kind.into(), code.into()));
        if let Some(tcp) = packet.tcp {
            seen.tcp = Some([tcp.flags.0.into(), tcp.seq.into(), tcp.ack.into(), tcp.window.into()]);
            assert!(tcp.flags.contains(TcpFlags::SYN) || (tcp.mss, tcp.window_scale) == (None, None));
            (seen.mss, seen.window_scale) = (tcp.mss.map(u64::from), tcp.window_scale.map(u64::from));
        }
    });
    seen
}

fn decode(frames: &[Raw], decap: bool, mut take: impl FnMut(usize, &Packet<'_>)) {
    let mut decoder = Decoder::new(DecodeOptions { decap, ..DecodeOptions::default() });
    // The frame's number travels as the name of its interface.
    let mut take = |packet: Packet<'_>| {
        take(packet.labels.interface.as_deref().unwrap().parse().unwrap(), &packet);
    };
    for (number, raw) in frames.iter().enumerate() {
        let interface: Arc<str> = number.to_string().into();
        let Raw { link, wire_len, ref data } = *raw;
        decoder.decode(&Frame { data, time: None, wire_len, link, interface: Some(&interface) }, &mut take);
    }
    decoder.finish(&mut take);
}

fn ip(packet: &Packet<'_>) -> Ip {
    let tuple = packet.tuple();
    Ip {
        src: tuple.src.addr,
        dst: tuple.dst.addr,
        len: packet.ip_len,
        ttl: packet.ttl.into(),
        dscp: packet.dscp.into(),
        fragment: packet.fragment,
    }
}
