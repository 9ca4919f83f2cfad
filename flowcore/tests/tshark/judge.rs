//! What tshark reads in frames.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use flowcore::packet::Fragment;

use crate::{Ip, Raw, Seen};

/// Has tshark read all frames; none, and loudly, where there is no tshark.
pub(crate) fn read(frames: &[Raw]) -> Option<Vec<Seen>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.pcapng");
    fs::write(&file, pcapng(frames)).unwrap();
    let mut command = Command::new("tshark");
    // Each packet by itself.
    for option in ["ip.defragment", "ipv6.defragment", "tcp.desegment_tcp_streams", "ip.security_flag"] {
        command.args(["-o", &format!("{option}:FALSE")]);
    }
    // What is behind the transport header is of no interest, and a guess.
    command.args(["-n", "-T", "fields", "-E", "occurrence=a", "-r"]).arg(&file);
    FIELDS.iter().for_each(|field| _ = command.args(["-e", field]));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI_REQUIRE_LIVE").is_none(), "tshark: {error}");
            println!("SKIPPED: tshark: {error}");
            return None;
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let seen: Vec<Seen> = text.lines().map(|line| Columns::of(line).seen()).collect();
    assert_eq!(seen.len(), frames.len(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(seen)
}

const FIELDS: [&str; 36] = [
    "frame.protocols",
    "vlan.id",
    "ieee8021ad.id",
    "ieee8021ad.svid",
    "ieee8021ad.cvid",
    "mpls.label",
    "mpls.bottom",
    "ip.src",
    "ip.dst",
    "ip.len",
    "ip.ttl",
    "ip.dsfield.dscp",
    "ip.frag_offset",
    "ip.flags.mf",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "ipv6.hlim",
    "ipv6.tclass.dscp",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.window_size_value",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "sctp.srcport",
    "sctp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "icmp.type",
    "icmpv6.type",
];

/// The values of a packet, by field.
struct Columns<'a>(Vec<Vec<&'a str>>);

impl<'a> Columns<'a> {
    fn of(line: &'a str) -> Self {
        Columns(line.split('\t').map(|column| column.split(',').collect()).collect())
    }

    /// Returns the nth value of a field.
    fn nth(&self, field: &str, nth: usize) -> Option<&'a str> {
        let column = FIELDS.iter().position(|name| *name == field).unwrap();
        self.0.get(column)?.get(nth).copied().filter(|value| !value.is_empty())
    }

    fn number(&self, field: &str, nth: usize) -> Option<u64> {
        let text = self.nth(field, nth)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }

    fn all(&self, field: &str) -> Vec<u64> {
        (0..).map_while(|nth| self.number(field, nth)).collect()
    }

    fn seen(&self) -> Seen {
        let names = self.0[0][0];
        let mut seen = Seen { mpls: self.all("mpls.label"), ..Seen::default() };
        let [mut v4, mut v6, mut fragments, mut tcp, mut udp, mut tags, mut labels] = [0; 7];
        // Tags and labels before the last IP header; those behind it are of a tunnel that is cut.
        let mut around = (0, 0);
        let mut layers = Vec::new();
        for name in names.split(':') {
            match name {
                "vlan" => {
                    seen.vlans.extend(self.number("vlan.id", tags));
                    tags += 1;
                }
                // Two tags in one, where the other is of a customer.
                "ieee8021ad" => ["id", "svid", "cvid"]
                    .iter()
                    .for_each(|name| seen.vlans.extend(self.number(&format!("ieee8021ad.{name}"), 0))),
                // A whole stack of labels.
                "mpls" => {
                    let bottoms = self.all("mpls.bottom");
                    let behind = bottoms.iter().skip(labels).position(|&bottom| bottom == 1);
                    labels += behind.map_or(bottoms.len(), |nth| nth + 1);
                }
                "ip" | "ipv6" => {
                    let layer = if name == "ip" { self.ip4(v4) } else { self.ip6(v6) };
                    (v4, v6) = (v4 + usize::from(name == "ip"), v6 + usize::from(name == "ipv6"));
                    if let Some(layer) = layer {
                        layers.push(layer);
                        seen.forget_transport();
                        around = (seen.vlans.len(), labels);
                    }
                }
                "ipv6.fraghdr" => {
                    let (offset, more) = ("ipv6.fraghdr.offset", "ipv6.fraghdr.more");
                    let fragment = fragment(self.number(offset, fragments), self.number(more, fragments));
                    layers.iter_mut().last().into_iter().for_each(|ip: &mut Ip| ip.fragment = fragment);
                    fragments += 1;
                }
                "tcp" => {
                    seen.ports = self.ports("tcp", tcp);
                    seen.tcp = self.tcp(tcp);
                    tcp += 1;
                }
                "udp" => {
                    seen.ports = self.ports("udp", udp);
                    seen.udp_length = self.number("udp.length", udp);
                    udp += 1;
                }
                "udplite" => {
                    seen.ports = self.ports("udp", udp);
                    udp += 1;
                }
                "sctp" | "dccp" => seen.ports = self.ports(name, 0),
                // What follows is a packet that is quoted.
                "icmp" | "icmpv6" => {
                    seen.icmp = self.number(&format!("{name}.type"), 0);
                    break;
                }
                _ => {}
            }
        }
        seen.vlans.truncate(around.0);
        seen.vlans.retain(|&id| id > 0);
        seen.mpls.truncate(around.1);
        (seen.outer, seen.inner) = (layers.first().copied(), layers.last().copied());
        if seen.inner.is_some_and(|ip| ip.fragment == Fragment::First) {
            // It says how long the whole datagram is.
            seen.udp_length = None;
        }
        seen
    }

    fn ip4(&self, nth: usize) -> Option<Ip> {
        Some(Ip {
            src: self.nth("ip.src", nth)?.parse::<IpAddr>().ok()?,
            dst: self.nth("ip.dst", nth)?.parse::<IpAddr>().ok()?,
            len: self.number("ip.len", nth)?,
            ttl: self.number("ip.ttl", nth)?,
            dscp: self.number("ip.dsfield.dscp", nth)?,
            fragment: fragment(self.number("ip.frag_offset", nth), self.number("ip.flags.mf", nth)),
        })
    }

    fn ip6(&self, nth: usize) -> Option<Ip> {
        Some(Ip {
            src: self.nth("ipv6.src", nth)?.parse::<IpAddr>().ok()?,
            dst: self.nth("ipv6.dst", nth)?.parse::<IpAddr>().ok()?,
            len: self.number("ipv6.plen", nth)? + 40,
            ttl: self.number("ipv6.hlim", nth)?,
            dscp: self.number("ipv6.tclass.dscp", nth)?,
            fragment: Fragment::No,
        })
    }

    fn ports(&self, protocol: &str, nth: usize) -> Option<(u64, u64)> {
        let port = |end: &str| self.number(&format!("{protocol}.{end}"), nth);
        port("srcport").zip(port("dstport"))
    }

    fn tcp(&self, nth: usize) -> Option<[u64; 4]> {
        let value = |field: &str| self.number(&format!("tcp.{field}"), nth);
        // Nine flags, and three bits that are reserved.
        Some([value("flags")? & 0x1ff, value("seq_raw")?, value("ack_raw")?, value("window_size_value")?])
    }
}

fn fragment(offset: Option<u64>, more: Option<u64>) -> Fragment {
    match (offset.unwrap_or_default(), more.unwrap_or_default()) {
        (0, 0) => Fragment::No,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Writes all frames into one capture, each on the interface of its link type.
fn pcapng(frames: &[Raw]) -> Vec<u8> {
    let mut links: Vec<u32> = frames.iter().map(|frame| frame.link.0).collect();
    links.sort_unstable();
    links.dedup();
    let mut all =
        block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    for link in &links {
        all.extend(block(1, &[*link as u8, (link >> 8) as u8, 0, 0, 0, 0, 0, 0]));
    }
    for frame in frames {
        let interface = links.binary_search(&frame.link.0).unwrap() as u32;
        let length = frame.data.len() as u32;
        let head = [interface, 0, 0, length, frame.wire_len.max(length)];
        let mut body: Vec<u8> = head.iter().flat_map(|number| number.to_le_bytes()).collect();
        body.extend(&frame.data);
        body.resize(body.len().next_multiple_of(4), 0);
        all.extend(block(6, &body));
    }
    all
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}
