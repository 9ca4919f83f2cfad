//! What tshark's fields say of a packet: which of them belong together shows by the names of its layers.

use std::collections::HashMap;
use std::net::IpAddr;

use flowcore::packet::Fragment;

use crate::judge::Columns;
use crate::seen::{Ip, Seen, Tunnel};

/// Goes through the layers of a packet, up to its transport header.
pub(crate) fn walk(columns: &Columns<'_>, frame: &[u8]) -> Seen {
    let mut walk = Walk {
        columns,
        rest: frame,
        seen: Seen { mpls: columns.all("mpls.label"), ..Seen::default() },
        times: HashMap::new(),
        is_split: false,
        labels: 0,
        around: [0; 3],
    };
    let mut before = "";
    for name in columns.layers() {
        if walk.enter(name, before).is_none() {
            break;
        }
        before = name;
    }
    walk.finish()
}

struct Walk<'a, 'c> {
    columns: &'a Columns<'c>,
    /// The captured bytes behind the last IP header and its extension headers.
    rest: &'a [u8],
    seen: Seen,
    /// How often each layer came.
    times: HashMap<&'static str, usize>,
    /// It is in the first fragment of another packet.
    is_split: bool,
    /// MPLS labels so far.
    labels: usize,
    /// Tags, labels and tunnels before the last IP header; those behind it are of a tunnel that is cut.
    around: [usize; 3],
}

impl Walk<'_, '_> {
    /// Reads a layer; none if nothing behind it is of interest.
    fn enter(&mut self, name: &str, before: &str) -> Option<()> {
        match name {
            "vlan" => {
                let nth = self.again("vlan");
                self.seen.vlans.extend(self.columns.number("vlan.id", nth));
            }
            // Two tags in one, where the other is of a customer.
            "ieee8021ad" => ["id", "svid", "cvid"].iter().for_each(|name| {
                self.seen.vlans.extend(self.columns.number(&format!("ieee8021ad.{name}"), 0));
            }),
            "mpls" => self.mpls(before),
            "ip" | "ipv6" => self.ip(name == "ip", before),
            "gre" => self.gre(),
            "erspan" => {
                let session = self.columns.number("erspan.spanid", 0);
                let tunnel = self.seen.tunnels.last_mut()?;
                (tunnel.kind, tunnel.id) = ("erspan", session.or(tunnel.id));
            }
            "vxlan" => {
                let is_gpe = self.seen.ports.is_some_and(|(_, port)| port == 4790);
                self.tunnel(if is_gpe { "vxlan_gpe" } else { "vxlan" }, "vxlan.vni");
            }
            "geneve" => self.tunnel("geneve", "geneve.vni"),
            "gtp" => self.tunnel("gtp", "gtp.teid"),
            "l2tp" => self.tunnel("l2tp", "l2tp.session"),
            "nsh" => self.tunnel("nsh", "nsh.spi"),
            "etherip" | "teredo" => self.push(if name == "teredo" { "teredo" } else { "etherip" }, None),
            "tcp" => self.tcp(),
            "udp" | "udplite" => {
                let nth = self.again("udp");
                self.seen.ports = self.ports("udp", nth);
                let length = self.columns.number("udp.length", nth).filter(|_| name == "udp");
                self.behind(8, length);
                // UDP that is a fragment is not opened.
                if self.fragment() == Fragment::First {
                    return None;
                }
            }
            "sctp" | "dccp" => {
                self.seen.ports = self.ports(name, 0);
                let words = self.columns.number("dccp.data_offset", 0).unwrap_or_default();
                self.behind(if name == "dccp" { words * 4 } else { 12 }, None);
            }
            // What follows is a packet that is quoted.
            "icmp" | "icmpv6" => {
                self.icmp(name);
                return None;
            }
            _ => {
                if let Some(extension) = EXTENSIONS.iter().find(|extension| extension.0 == name) {
                    return self.extension(*extension);
                }
            }
        }
        Some(())
    }

    fn finish(self) -> Seen {
        let is_later = self.fragment() == Fragment::Later;
        let Walk { mut seen, around: [vlans, mpls, tunnels], .. } = self;
        // It is of its first fragment's flow.
        seen.proto = seen.proto.filter(|_| !is_later);
        seen.vlans.truncate(vlans);
        seen.vlans.retain(|&id| id > 0);
        seen.mpls.truncate(mpls);
        seen.tunnels.truncate(tunnels);
        seen
    }

    /// Returns how often this layer came before.
    fn again(&mut self, layer: &'static str) -> usize {
        let times = self.times.entry(layer).or_default();
        *times += 1;
        *times - 1
    }

    fn fragment(&self) -> Fragment {
        self.seen.inner.map_or(Fragment::No, |ip| ip.fragment)
    }

    /// Takes a whole stack of labels.
    fn mpls(&mut self, before: &str) {
        if matches!(before, "ip" | "ipv6" | "udp") {
            self.push("mpls_in_ip", None);
        }
        let bottoms = self.columns.all("mpls.bottom");
        let behind = bottoms.iter().skip(self.labels).position(|&bottom| bottom == 1);
        self.labels += behind.map_or(bottoms.len(), |nth| nth + 1);
    }

    fn ip(&mut self, is_v4: bool, before: &str) {
        let is_inside = matches!(before, "ip" | "ipv6") || EXTENSIONS.iter().any(|(name, _)| *name == before);
        if let Some(outer) = self.seen.inner.filter(|_| is_inside) {
            self.push(if outer.src.is_ipv6() { "ip_in_ipv6" } else { "ip_in_ipv4" }, None);
        }
        let nth = self.again(if is_v4 { "ip" } else { "ipv6" });
        let Some((ip, header, proto)) = (if is_v4 { self.ip4(nth) } else { self.ip6(nth) }) else { return };
        let ends = match (ip.src, ip.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
            (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
            _ => return,
        };
        if let Some(at) = self.rest.windows(ends.len()).position(|window| window == ends) {
            let options = if is_v4 { header as usize - 20 } else { 0 };
            // A header whose options are cut is none.
            let Some(rest) = self.rest.get(at + ends.len() + options..) else { return };
            self.rest = rest;
        }
        self.is_split |= self.fragment() == Fragment::First;
        self.around = [self.seen.vlans.len(), self.labels, self.seen.tunnels.len()];
        self.seen.forget_transport();
        self.seen.outer.get_or_insert(ip);
        (self.seen.inner, self.seen.proto) = (Some(ip), Some(proto));
        self.seen.payload = Some(ip.len - header);
    }

    fn ip4(&self, nth: usize) -> Option<(Ip, u64, u64)> {
        let number = |field: &str| self.columns.number(&format!("ip.{field}"), nth);
        let ip = Ip {
            src: self.columns.nth("ip.src", nth)?.parse::<IpAddr>().ok()?,
            dst: self.columns.nth("ip.dst", nth)?.parse::<IpAddr>().ok()?,
            len: number("len")?,
            ttl: number("ttl")?,
            dscp: number("dsfield.dscp")?,
            fragment: fragment(number("frag_offset"), number("flags.mf")),
        };
        Some((ip, number("hdr_len")?, number("proto")?))
    }

    fn ip6(&self, nth: usize) -> Option<(Ip, u64, u64)> {
        let number = |field: &str| self.columns.number(&format!("ipv6.{field}"), nth);
        let jumbo = self.columns.number("ipv6.opt.jumbo", 0).unwrap_or_default();
        let ip = Ip {
            src: self.columns.nth("ipv6.src", nth)?.parse::<IpAddr>().ok()?,
            dst: self.columns.nth("ipv6.dst", nth)?.parse::<IpAddr>().ok()?,
            len: number("plen")?.max(jumbo) + 40,
            ttl: number("hlim")?,
            dscp: number("tclass.dscp")?,
            fragment: Fragment::No,
        };
        Some((ip, 40, number("nxt")?))
    }

    /// Reads a header between IP's and the transport's; none if it is cut: then nothing is behind it.
    fn extension(&mut self, (name, kind): (&'static str, u64)) -> Option<()> {
        let nth = self.again(name);
        let number = |field: &str| self.columns.number(&format!("{name}.{field}"), nth);
        let mobility = |field: &str| self.columns.number(&format!("mip6.{field}"), nth);
        let eights = |length: Option<u64>| length.map(|eights| (eights + 1) * 8);
        let (next, length) = match name {
            "ah" => (number("next_header"), number("length").map(|words| (words + 2) * 4)),
            "ipv6.fraghdr" => (number("nxt"), number("offset").map(|_| 8)),
            "mipv6" => (mobility("proto"), eights(mobility("hlen"))),
            "hip" => (number("proto"), eights(number("hdr_len"))),
            "shim6" => (number("nxt"), eights(number("len"))),
            _ => (number("nxt"), number("len_oct")),
        };
        let is_outermost = self.times.get("ip").unwrap_or(&0) + self.times.get("ipv6").unwrap_or(&0) == 1;
        let outer = self.seen.outer.as_mut().filter(|_| is_outermost);
        if name == "ipv6.fraghdr" {
            let fragment = fragment(number("offset"), number("more"));
            outer.into_iter().chain(&mut self.seen.inner).for_each(|ip| ip.fragment = fragment);
        }
        match next.zip(length).filter(|(_, length)| *length <= self.captured()) {
            Some((next, length)) => {
                self.seen.proto = Some(next);
                self.seen.payload = self.seen.payload.map(|payload| payload - length);
                self.rest = self.rest.get(length as usize..).unwrap_or_default();
                Some(())
            }
            None => {
                (self.seen.proto, self.seen.payload) = (Some(kind), Some(0));
                None
            }
        }
    }

    /// Counts the captured bytes of what IP carries.
    fn captured(&self) -> u64 {
        self.seen.payload.unwrap_or_default().min(self.rest.len() as u64)
    }

    fn gre(&mut self) {
        let nth = self.again("gre");
        let flags = self.columns.number("gre.flags_and_version", nth).unwrap_or_default();
        let has_key = flags & 0x2000 != 0;
        match flags & 7 {
            1 => {
                let nth = self.again("gre.key.call_id");
                self.push("pptp", self.columns.number("gre.key.call_id", nth));
            }
            _ if has_key => self.tunnel("gre", "gre.key"),
            _ => self.push("gre", None),
        }
    }

    /// Takes a tunnel with an id in each of its kind.
    fn tunnel(&mut self, kind: &'static str, id: &'static str) {
        let nth = self.again(id);
        self.push(kind, self.columns.number(id, nth));
    }

    fn push(&mut self, kind: &'static str, id: Option<u64>) {
        let ends = self.seen.inner.map(|ip| (ip.src, ip.dst));
        self.seen.tunnels.push(Tunnel { kind, id, ends });
    }

    fn ports(&self, protocol: &str, nth: usize) -> Option<(u64, u64)> {
        let port = |end: &str| self.columns.number(&format!("{protocol}.{end}"), nth);
        port("srcport").zip(port("dstport"))
    }

    fn tcp(&mut self) {
        let nth = self.again("tcp");
        self.seen.ports = self.ports("tcp", nth);
        let value = |field: &str| self.columns.number(&format!("tcp.{field}"), nth);
        // Nine flags, and three bits that are reserved.
        let flags = value("flags").map(|flags| flags & 0x1ff);
        self.seen.tcp =
            (|| Some([flags?, value("seq_raw")?, value("ack_raw")?, value("window_size_value")?]))();
        let is_syn = flags.is_some_and(|flags| flags & 2 != 0);
        let header = value("hdr_len").filter(|header| *header >= 20 && Some(*header) <= self.seen.payload);
        // Damaged is a header of another length, or one that is cut before its options: then all is payload.
        if let Some(header) = header.filter(|_| self.captured() >= 20) {
            // A fragment that it is in makes tshark's length smaller.
            let length = value("len").filter(|_| !self.is_split);
            self.seen.payload = length.or(self.seen.payload.map(|body| body - header));
            if is_syn {
                // The options that only a SYN carries; the last one counts.
                self.seen.mss = self.columns.all("tcp.options.mss_val").last().copied();
                self.seen.window_scale = self.columns.all("tcp.options.wscale.shift").last().copied();
            }
        }
    }

    fn icmp(&mut self, name: &str) {
        let number = |field: &str| self.columns.number(&format!("{name}.{field}"), 0);
        // It counts where its first four bytes are there; tshark shows nothing of an echo that is cut in its eight.
        let first = match *self.rest {
            [kind, code, ..] if self.captured() < 8 => Some((kind.into(), code.into())),
            _ => None,
        };
        let shown = number("type").zip(number("code"));
        self.seen.icmp = shown.or(first).filter(|_| self.captured() >= 4);
        self.behind(8, None);
    }

    /// Takes a header off what IP carries, or off what the header's own length says, where that can be.
    ///
    /// Where the header is cut, all is payload.
    fn behind(&mut self, header: u64, length: Option<u64>) {
        let Some(body) = self.seen.payload.filter(|_| self.captured() >= header) else { return };
        let length = length.filter(|length| (header..=body).contains(length)).unwrap_or(body);
        self.seen.payload = Some(length - header);
    }
}

fn fragment(offset: Option<u64>, more: Option<u64>) -> Fragment {
    match (offset.unwrap_or_default(), more.unwrap_or_default()) {
        (0, 0) => Fragment::No,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Headers between IP's and the transport's, with their numbers.
const EXTENSIONS: [(&str, u64); 8] = [
    ("ipv6.hopopts", 0),
    ("ipv6.routing", 43),
    ("ipv6.fraghdr", 44),
    ("ah", 51),
    ("ipv6.dstopts", 60),
    ("mipv6", 135),
    ("hip", 139),
    ("shim6", 140),
];
