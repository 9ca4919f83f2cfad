//! Link to transport fields of each packet as tshark reads them: in captures that are made here, FLOWCAP_DIFFERENTIAL of
//! them or 1,000, and in those of the corpus.

#[path = "../corpus_files/mod.rs"]
mod corpus_files;
mod judge;
mod layers;
mod links;
mod made;
mod seen;

use std::collections::HashMap;
use std::time::Duration;

use corpus_files::{Capture, Corpus};
use flowcore::capture::{FileSource, Next, Source};
use flowcore::error::Error;
use flowcore::packet::{Frame, LinkType};

use seen::Raw;

/// Packets of the corpus that are read in another way than tshark does: the fields that differ, and why.
const INTENDED: &[(&str, &[u64], &[&str], &str)] = &[
    ("libpcap_ipv6_ext_headers.pcap", &[1], &["proto", "ports", "payload"], "at most 64 extension headers"),
    ("syn_bad_headers.pcap", &[28, 29], &["tcp"], "a TCP header of another length is whole up to its window"),
    ("syn_bad_headers.pcap", &[36], &["ports"], "the ports of an SCTP header that is cut"),
    (
        "syn_bad_headers.pcap",
        &[41],
        &["outer", "inner", "ports", "payload"],
        "IPv6 of length 0 goes to the end",
    ),
    ("syn_ip_protocols.pcap", &[25, 26], &["payload"], "hop-by-hop options are no part of IPv4"),
    (
        "syn_ipv4_options.pcap",
        &[3],
        &["outer", "inner"],
        "the destination that stands in the header, not the last",
    ),
    ("syn_ipv6_extensions.pcap", &[16], &["ports", "payload"], "HIP is an extension header"),
    (
        "syn_mpls.pcap",
        &[5, 6],
        &["mpls", "outer", "inner", "proto", "ports", "payload"],
        "pseudowires are opened",
    ),
    (
        "syn_mpls.pcap",
        &[9],
        &["mpls", "outer", "inner", "proto", "ports", "payload"],
        "an associated channel is not opened",
    ),
    (
        "syn_tunnels.pcap",
        &[20, 21],
        &["tunnels", "inner", "proto", "ports", "payload"],
        "at most 8 IP headers",
    ),
    ("syn_tunnels.pcap", &[22], &["tunnels", "inner", "ports", "payload"], "the same"),
    (
        "tcpdump_LINKTYPE_IPV4_invalid.pcap",
        &[1],
        &["outer", "inner", "proto", "ports", "payload"],
        "the link type says IPv4, the header IPv6",
    ),
    ("tcpdump_LINKTYPE_PKTAP.pcap", &[1], &["outer", "inner", "proto", "ports", "payload"], LINK),
    ("tcpdump_LINKTYPE_USER2_PKTAP.pcap", &[1], &["outer", "inner", "proto", "ports", "payload"], LINK),
    ("tcpdump_bgp-aigp.pcap", &[1], &["outer", "inner", "proto", "ports", "tcp", "payload"], LINK),
    (
        "tcpdump_e1000g.pcap",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
        &["outer", "inner", "proto", "icmp", "payload"],
        LINK,
    ),
    (
        "tcpdump_icmp6_nodeinfo_oobr.pcap",
        &[1],
        &["outer", "inner", "proto", "icmp", "payload"],
        "tshark knows no SLIP",
    ),
    ("tcpdump_ipoib.pcap", &[1, 2, 3, 4, 5, 8], &["outer", "inner", "proto", "icmp", "payload"], LINK),
    (
        "tcpdump_ipoib.pcap",
        &[9, 24, 27, 28, 29, 30],
        &["outer", "inner", "proto", "ports", "tcp", "mss", "window_scale", "payload"],
        LINK,
    ),
    (
        "tcpdump_ipoib.pcap",
        &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23],
        &["outer", "inner", "proto", "ports", "tcp", "payload"],
        LINK,
    ),
    (
        "tcpdump_kday3.pcap",
        &[2],
        &["outer", "inner", "proto", "payload"],
        "the ethertype says IPv4, the header IPv6",
    ),
    (
        "tcpdump_macsec-integonly.pcap",
        &[1],
        &["outer", "inner", "proto", "icmp", "payload"],
        "MACsec is not opened",
    ),
    ("tcpdump_nsh-over-vxlan-gpe.pcap", &[1], &["tunnels"], "tshark shows no VXLAN-GPE around an NSH"),
    (
        "tcpdump_udp-length-heapoverflow.pcap",
        &[1],
        &["payload"],
        "all of its bytes are alike, so where IP begins is a guess",
    ),
    (
        "zeek_pppoe-over-qinq.pcap",
        &[19, 33, 41, 47, 63, 81],
        &["payload"],
        "by the length of IP, not of PPPoE",
    ),
];

const LINK: &str = "a link type that is not decoded";

/// The fields of packets that are read in another way, by capture and number.
type Pardons<'a> = HashMap<(&'a str, u64), &'a [&'a str]>;

#[test]
fn made_captures() {
    let count = std::env::var("FLOWCAP_DIFFERENTIAL").map_or(1_000, |count| count.parse().unwrap());
    let captures = (0..count).map(|number| {
        let made = made::capture(number);
        let raw = |(data, wire_len)| Raw { link: LinkType(made.link), wire_len, data };
        (format!("made {number}"), made.frames.into_iter().map(raw).collect())
    });
    compare(captures.collect(), Pardons::new());
}

#[test]
fn captures_of_the_corpus() {
    let Some(corpus) = Corpus::find() else { return };
    let read = corpus.captures().into_iter().map(|capture| (capture.name.clone(), frames(&capture)));
    let intended = INTENDED
        .iter()
        .flat_map(|&(name, numbers, fields, _)| numbers.iter().map(move |&number| ((name, number), fields)));
    compare(read.collect(), intended.collect());
}

/// Reads a capture up to its end or its damage.
fn frames(capture: &Capture) -> Vec<Raw> {
    let mut source = FileSource::open(&[&capture.path]).unwrap();
    let mut all = Vec::new();
    loop {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(Frame { data, wire_len, link, .. })) => {
                all.push(Raw { link, wire_len, data: data.to_vec() });
            }
            Ok(Next::End) | Err(Error::Damaged { .. }) => return all,
            Ok(Next::Idle) => {}
            Err(error) => panic!("{}: {error}", capture.name),
        }
    }
}

/// Compares what both read; where packets are pardoned, exactly the fields that are named must differ.
fn compare(captures: Vec<(String, Vec<Raw>)>, pardons: Pardons<'static>) {
    let ours: Vec<_> = captures.iter().flat_map(|(_, frames)| seen::read(frames)).collect();
    let names: Vec<(String, u64)> = captures
        .iter()
        .flat_map(|(name, frames)| (1..=frames.len() as u64).map(move |number| (name.clone(), number)))
        .collect();
    let frames: Vec<Raw> = captures.into_iter().flat_map(|(_, frames)| frames).collect();
    let Some(theirs) = judge::read(&frames) else { return };
    let (mut pardons, mut wrong): (Pardons<'_>, _) = (pardons, Vec::new());
    for ((name, number), (ours, theirs)) in names.iter().zip(ours.iter().zip(&theirs)) {
        let differ = ours.differences(theirs);
        let pardoned = pardons.remove(&(name.as_str(), *number)).unwrap_or_default();
        if differ != pardoned {
            wrong.push(format!(
                "{name} {number}: {differ:?} instead of {pardoned:?}:\n  {ours:?} here,\n  {theirs:?} in tshark"
            ));
        }
    }
    println!("{} of {} packets as they should be", frames.len() - wrong.len(), frames.len());
    assert!(pardons.is_empty(), "no such packets: {pardons:?}");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(50)].join("\n"));
}
