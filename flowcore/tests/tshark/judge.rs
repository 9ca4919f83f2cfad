//! What tshark reads in frames.

use std::fs;
use std::process::Command;

use crate::layers;
use crate::seen::{Raw, Seen};

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
    // Linux has VXLAN on a port of its own.
    command.args(["-d", "udp.port==8472,vxlan"]);
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
    assert_eq!(text.lines().count(), frames.len(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().map(Columns::of).zip(frames);
    Some(lines.map(|(columns, frame)| layers::walk(&columns, &frame.data)).collect())
}

const FIELDS: [&str; 71] = [
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
    "ip.hdr_len",
    "ip.ttl",
    "ip.dsfield.dscp",
    "ip.frag_offset",
    "ip.flags.mf",
    "ip.proto",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "ipv6.hlim",
    "ipv6.tclass.dscp",
    "ipv6.nxt",
    "ipv6.opt.jumbo",
    "ipv6.hopopts.nxt",
    "ipv6.hopopts.len_oct",
    "ipv6.dstopts.nxt",
    "ipv6.dstopts.len_oct",
    "ipv6.routing.nxt",
    "ipv6.routing.len_oct",
    "ipv6.fraghdr.nxt",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "ah.next_header",
    "ah.length",
    "mip6.proto",
    "mip6.hlen",
    "hip.proto",
    "hip.hdr_len",
    "shim6.nxt",
    "shim6.len",
    "gre.flags_and_version",
    "gre.key",
    "gre.key.call_id",
    "erspan.spanid",
    "vxlan.vni",
    "geneve.vni",
    "gtp.teid",
    "l2tp.session",
    "nsh.spi",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.window_size_value",
    "tcp.hdr_len",
    "tcp.len",
    "tcp.options.mss_val",
    "tcp.options.wscale.shift",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "sctp.srcport",
    "sctp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "dccp.data_offset",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
];

/// The values of a packet, by field.
pub(crate) struct Columns<'a>(Vec<Vec<&'a str>>);

impl<'a> Columns<'a> {
    fn of(line: &'a str) -> Self {
        Columns(line.split('\t').map(|column| column.split(',').collect()).collect())
    }

    /// Returns the names of the layers.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0[0][0].split(':')
    }

    /// Returns the nth value of a field.
    pub(crate) fn nth(&self, field: &str, nth: usize) -> Option<&'a str> {
        let column = FIELDS.iter().position(|name| *name == field).unwrap();
        self.0.get(column)?.get(nth).copied().filter(|value| !value.is_empty())
    }

    pub(crate) fn number(&self, field: &str, nth: usize) -> Option<u64> {
        let text = self.nth(field, nth)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }

    pub(crate) fn all(&self, field: &str) -> Vec<u64> {
        (0..).map_while(|nth| self.number(field, nth)).collect()
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
