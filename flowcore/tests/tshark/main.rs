//! Link to transport fields of each packet as tshark reads them: in captures that are made here, FLOWCAP_DIFFERENTIAL of
//! them or 1,000, and in those of the corpus.

#[path = "../corpus_files/mod.rs"]
mod corpus_files;
mod judge;
mod made;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corpus_files::{Capture, Corpus};
use flowcore::capture::{FileSource, Next, Source};
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::error::Error;
use flowcore::packet::{Fragment, Frame, LinkType, Packet};
use serde_json::Value;

/// Packets of the corpus that are read in another way than tshark does, and why; the corpus itself knows of others.
const INTENDED: &[(&str, &[u64], &str)] = &[
    ("libpcap_ipv6_ext_headers.pcap", &[1], "at most 64 extension headers"),
    ("syn_bad_headers.pcap", &[21, 22, 25, 26, 27], "a length of UDP that contradicts IP's: IP's holds"),
    ("syn_bad_headers.pcap", &[28, 29], "a TCP header too short by its own length is whole up to its window"),
    (
        "syn_bad_headers.pcap",
        &[34, 40],
        "a UDP header that is cut, with the ports or without: what is there counts",
    ),
    ("syn_bad_headers.pcap", &[36], "the ports of an SCTP header that is cut"),
    ("syn_large_frames.pcap", &[4], "the length of a jumbogram"),
    ("tcpdump_bigtcp-ipv6-hbh.pcap", &[1], "the same"),
    ("tcpdump_ipv6_jumbogram_1.pcap", &[1], "the same"),
    ("tcpdump_ipoib.pcap", &[23, 24, 27, 28, 29, 30], "a link type that is not decoded"),
];

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
    pub(crate) outer: Option<Ip>,
    pub(crate) inner: Option<Ip>,
    pub(crate) ports: Option<(u64, u64)>,
    /// Flags, sequence and acknowledgement number, window.
    pub(crate) tcp: Option<[u64; 4]>,
    pub(crate) udp_length: Option<u64>,
    /// Its type.
    pub(crate) icmp: Option<u64>,
}

impl Seen {
    /// There is another header behind.
    pub(crate) fn forget_transport(&mut self) {
        (self.ports, self.tcp, self.udp_length, self.icmp) = (None, None, None, None);
    }
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

#[test]
fn made_captures() {
    let count = std::env::var("FLOWCAP_DIFFERENTIAL").map_or(1_000, |count| count.parse().unwrap());
    let captures = (0..count).map(|number| {
        let made = made::capture(number);
        let raw = |(data, wire_len)| Raw { link: LinkType(made.link), wire_len, data };
        (format!("made {number}"), made.frames.into_iter().map(raw).collect())
    });
    compare(captures.collect(), |_, _| false);
}

#[test]
fn captures_of_the_corpus() {
    let Some(corpus) = Corpus::find() else { return };
    let captures = corpus.captures();
    let known: HashSet<(&str, u64)> = captures
        .iter()
        .flat_map(|capture| {
            known_differences(&capture.expected).map(|number| (capture.name.as_str(), number))
        })
        .collect();
    let read = captures.iter().map(|capture| (capture.name.clone(), frames(capture)));
    let mut intended: Vec<(&str, u64)> = INTENDED
        .iter()
        .flat_map(|(name, numbers, _)| numbers.iter().map(|&number| (*name, number)))
        .collect();
    compare(read.collect(), |name, number| {
        let left = intended.len();
        intended.retain(|packet| *packet != (name, number));
        intended.len() < left || known.contains(&(name, number))
    });
    assert!(intended.is_empty(), "alike by now: {intended:?}");
}

/// Packets that tshark reads in another way than definitions.md.
fn known_differences(expected: &Value) -> impl Iterator<Item = u64> {
    let differences = expected["differs_from_tshark"].as_array();
    differences.into_iter().flatten().filter_map(|difference| difference[0].as_u64())
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

fn compare(captures: Vec<(String, Vec<Raw>)>, mut is_known: impl FnMut(&str, u64) -> bool) {
    let ours: Vec<Vec<Seen>> = captures.iter().map(|(_, frames)| read(frames)).collect();
    let names: Vec<(String, u64)> = captures
        .iter()
        .flat_map(|(name, frames)| (1..=frames.len() as u64).map(move |number| (name.clone(), number)))
        .collect();
    let frames: Vec<Raw> = captures.into_iter().flat_map(|(_, frames)| frames).collect();
    let Some(theirs) = judge::read(&frames) else { return };
    let mut wrong = Vec::new();
    let seen = ours.iter().flatten().zip(theirs).zip(&frames);
    for ((name, number), ((ours, mut theirs), frame)) in names.iter().zip(seen) {
        if (frame.data.len() as u64) < frame.wire_len.into() {
            // Here the UDP header counts only where all of its datagram is there, and ICMP's with its code.
            theirs.udp_length = theirs.udp_length.and(ours.udp_length);
            theirs.icmp = theirs.icmp.or(ours.icmp).and(ours.icmp);
        }
        if *ours != theirs && !is_known(name, *number) {
            wrong.push(format!("{name} {number}:\n  {ours:?} here,\n  {theirs:?} in tshark"));
        }
    }
    println!("{} of {} packets alike", frames.len() - wrong.len(), frames.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(50)].join("\n"));
}

/// Reads the frames of a capture.
fn read(frames: &[Raw]) -> Vec<Seen> {
    let mut seen = vec![Seen::default(); frames.len()];
    decode(frames, false, |number, packet| seen[number].outer = Some(ip(packet)));
    decode(frames, true, |number, packet| {
        let tuple = packet.tuple();
        let ports = tuple.src.port.zip(tuple.dst.port).map(|(src, dst)| (src.into(), dst.into()));
        let is_udp = tuple.proto.0 == 17;
        let seen = &mut seen[number];
        seen.vlans = packet.labels.vlans.iter().map(|&id| id.into()).collect();
        seen.mpls = packet.labels.mpls.iter().map(|&label| label.into()).collect();
        seen.inner = Some(ip(packet));
        // A later fragment has what its first one has, where that was seen.
        if packet.fragment != Fragment::Later {
            seen.ports = ports;
            seen.tcp =
                packet.tcp.map(|tcp| [tcp.flags.0.into(), tcp.seq.into(), tcp.ack.into(), tcp.window.into()]);
            // By the UDP header where all is there; else by that of IP.
            let is_whole =
                packet.fragment == Fragment::No && packet.payload.len() as u64 == packet.payload_len;
            seen.udp_length = (is_udp && is_whole).then_some(packet.payload_len + 8);
            seen.icmp = packet.icmp.map(|(kind, _)| kind.into());
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
