//! What all protocols share, and the recognition of those without a state.

use super::*;
use crate::error::Reason;
use crate::key::{AddrWords, End, FlowKey, TunnelKey, VlanStack};
use crate::packet::{Facts, Fragment, Labels, Message, TcpFacts, TcpFlags};
use crate::time::{TableTime, Timestamp};

/// A flow under test: 192.0.2.1 is `Fwd`, the other end `Rev`.
pub(super) struct Flow {
    pub(super) conversation: Conversation,
    pub(super) counts: L7Counts,
    proto: Proto,
    ports: (u16, u16),
    peer: [u8; 4],
    /// What was captured is cut short.
    pub(super) cut: bool,
}

impl Flow {
    pub(super) fn new(proto: Proto, from: u16, to: u16) -> Flow {
        Flow::to_peer([192, 0, 2, 2], proto, from, to)
    }

    pub(super) fn to_peer(peer: [u8; 4], proto: Proto, from: u16, to: u16) -> Flow {
        Flow {
            conversation: Conversation::default(),
            counts: L7Counts::default(),
            proto,
            ports: (from, to),
            peer,
            cut: false,
        }
    }

    pub(super) fn send(&mut self, dir: Dir, nanos: i64, bytes: &[u8]) -> Option<Dir> {
        self.packet(dir, nanos, None, Some(bytes))
    }

    pub(super) fn segment(&mut self, dir: Dir, seq: u32, ack: u32, bytes: &[u8]) -> Option<Dir> {
        self.packet(dir, 0, Some((seq, ack)), Some(bytes))
    }

    fn packet(&mut self, dir: Dir, nanos: i64, tcp: Option<(u32, u32)>, bytes: Option<&[u8]>) -> Option<Dir> {
        let ends = [(AddrWords::v4([192, 0, 2, 1]), self.ports.0), (AddrWords::v4(self.peer), self.ports.1)];
        let [from, to] = if dir == Dir::Fwd { ends } else { [ends[1], ends[0]] };
        let (key, sender): (FlowKey, End) = FlowKey::new(
            4,
            from.0,
            to.0,
            self.proto,
            Some((from.1, to.1)),
            VlanStack::default(),
            TunnelKey::default(),
        );
        let time = Timestamp::from_nanos(nanos);
        let facts = Facts {
            key,
            sender,
            time,
            table_time: TableTime { epoch: 0, time },
            wire_len: 0,
            ip_len: 0,
            payload_len: bytes.map_or(0, <[u8]>::len) as u64,
            ttl: 64,
            dscp: 0,
            fragment: Fragment::No,
            icmp: None,
            tcp: tcp.map(|(seq, ack)| TcpFacts {
                flags: TcpFlags::ACK,
                seq,
                ack,
                window: 1000,
                mss: None,
                window_scale: None,
            }),
            bad_checksum: false,
        };
        let message =
            bytes.map(|bytes| Message { bytes, seq: tcp.map_or(0, |tcp| tcp.0), complete: !self.cut });
        let labels = Labels::default();
        let packet = Packet { facts: &facts, payload: bytes.unwrap_or_default(), message, labels: &labels };
        self.conversation.read(&packet, dir, &mut self.counts)
    }

    pub(super) fn finish(&mut self, last: bool) -> L7Facts {
        self.conversation.finish(last)
    }

    /// Returns whole, partial and refused messages.
    pub(super) fn counted(&self) -> (u64, u64, u64) {
        (self.counts.dns_whole, self.counts.dns_partial, self.counts.dns_refused.total())
    }
}

fn first(proto: Proto, bytes: &[u8]) -> (Option<App>, Option<Dir>) {
    let mut flow = Flow::new(proto, 40000, 40001);
    let client = flow.send(Dir::Fwd, 0, bytes);
    (flow.conversation.app(), client)
}

fn tcp(bytes: &[u8]) -> (Option<App>, Option<Dir>) {
    first(Proto::TCP, bytes)
}

fn udp(bytes: &[u8]) -> (Option<App>, Option<Dir>) {
    first(Proto::UDP, bytes)
}

const CLIENT: Option<Dir> = Some(Dir::Fwd);
const SERVER: Option<Dir> = Some(Dir::Rev);
const NOTHING: (Option<App>, Option<Dir>) = (None, None);

#[test]
fn a_conversation_is_small() {
    assert!(size_of::<Conversation>() <= 16);
    assert!(size_of::<State>() <= 72, "{}", size_of::<State>());
}

#[test]
fn looks_at_four_messages_and_allocates_nothing() {
    let mut flow = Flow::new(Proto::TCP, 40000, 40001);
    for _ in 0..4 {
        assert_eq!(flow.segment(Dir::Fwd, 0, 0, b"\x01\x02\x03\x04nothing known"), None);
        assert_eq!(flow.conversation.heap_bytes(), 0);
    }
    assert_eq!(flow.segment(Dir::Fwd, 0, 0, b"GET / HTTP/1.1\r\n"), None);
    assert_eq!(flow.conversation.app(), None);
    assert_eq!(flow.finish(true), L7Facts::default());
}

#[test]
fn reads_only_what_is_there_to_read() {
    let mut flow = Flow::new(Proto::UDP, 40000, 53);
    for _ in 0..10 {
        assert_eq!(flow.packet(Dir::Fwd, 0, None, None), None);
        assert_eq!(flow.send(Dir::Fwd, 0, b""), None);
    }
    assert_eq!(flow.counted(), (0, 0, 0));
    assert_eq!(flow.conversation.looks, 0);
}

#[test]
fn tls_by_either_hello() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert_eq!(tcp(hello), (Some(App::Tls), CLIENT));
    assert_eq!(tcp(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"), (Some(App::Tls), SERVER));
    assert_eq!(tcp(&hello[..6]), (Some(App::Tls), CLIENT));
    assert_eq!(udp(hello), NOTHING);
    assert_eq!(tcp(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x07\x03"), NOTHING);
    assert_eq!(tcp(b"\x17\x03\x03\x02\x00\x01\x00\x01\xfc\x03\x03"), NOTHING);
    assert_eq!(tcp(&hello[..5]), NOTHING);
}

#[test]
fn dtls_by_hello_and_verify_request() {
    let mut hello = b"\x16\xfe\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x01".to_vec();
    hello.extend([0; 15]);
    assert_eq!(udp(&hello), (Some(App::Dtls), CLIENT));
    hello[13] = 3;
    assert_eq!(udp(&hello), (Some(App::Dtls), SERVER));
    assert_eq!(udp(&hello[..20]), NOTHING);
    assert_eq!(tcp(&hello), NOTHING);
}

#[test]
fn http_requests_and_responses() {
    assert_eq!(tcp(b"GET / HTTP/1.1\r\nHost: a\r\n"), (Some(App::Http), CLIENT));
    assert_eq!(tcp(b"OPTIONS * HTTP/1.0\r\n"), (Some(App::Http), CLIENT));
    assert_eq!(tcp(b"GET /a/long/path/without/an/en"), (Some(App::Http), CLIENT));
    assert_eq!(tcp(b"HTTP/1.1 200 OK\r\n"), (Some(App::Http), SERVER));
    assert_eq!(tcp(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (Some(App::Http), CLIENT));
    assert_eq!(tcp(b"GET / FTP/1.1\r\n"), NOTHING);
    assert_eq!(tcp(b"OPTIONS rtsp://a RTSP/1.0\r\n"), NOTHING);
    assert_eq!(tcp(b"FETCH / HTTP/1.1\r\n"), NOTHING);
    assert_eq!(tcp(b"HTTP/1.1 2x0 OK\r\n"), NOTHING);
}

#[test]
fn http_is_found_behind_other_messages() {
    let mut flow = Flow::new(Proto::TCP, 40000, 40001);
    assert_eq!(flow.segment(Dir::Fwd, 0, 0, b"hello"), None);
    assert_eq!(flow.segment(Dir::Rev, 0, 0, b"HTTP/1.0 404 no"), Some(Dir::Fwd));
    assert_eq!(flow.conversation.app(), Some(App::Http));
}

#[test]
fn roce_by_its_port_and_header() {
    let to = |port, bytes: &[u8]| {
        let mut flow = Flow::new(Proto::UDP, 50000, port);
        let client = flow.send(Dir::Fwd, 0, bytes);
        (flow.conversation.app(), client)
    };
    // RC SEND only, default partition, queue pair 17, acknowledgement wanted.
    let mut header = *b"\x04\x40\xff\xff\0\0\0\x11\x80\0\0\x01ICRC";
    assert_eq!(to(4791, &header), (Some(App::Roce), CLIENT));
    assert_eq!(to(4790, &header), NOTHING);
    assert_eq!(to(4791, &header[..15]), NOTHING);
    header[0] = 0x81;
    assert_eq!(to(4791, &header), (Some(App::Roce), CLIENT), "a congestion notification");
    header[0] = 0xC4;
    assert_eq!(to(4791, &header), NOTHING, "a transport of the manufacturer's own");
    header[..2].copy_from_slice(&[0x04, 0x41]);
    assert_eq!(to(4791, &header), NOTHING, "another version");
}

#[test]
fn ssdp_in_udp() {
    assert_eq!(udp(b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"), (Some(App::Ssdp), CLIENT));
    assert_eq!(udp(b"NOTIFY * HTTP/1.1\r\n"), (Some(App::Ssdp), None));
    assert_eq!(udp(b"HTTP/1.1 200 OK\r\n"), (Some(App::Ssdp), SERVER));
}

/// A QUIC version 1 long header packet: type, destination id, source id, token, and bytes behind.
fn quic(first: u8, version: u32, destination: usize, token: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(version.to_be_bytes());
    bytes.push(destination as u8);
    bytes.extend(vec![0xD1; destination]);
    bytes.extend([0]);
    bytes.push(token.len() as u8);
    bytes.extend(token);
    bytes.extend((0x4000 | length as u16).to_be_bytes());
    bytes.extend(vec![0; length]);
    bytes
}

#[test]
fn quic_initials() {
    for (first, version) in [(0xC0, 1), (0xD0, 0x6b33_43cf), (0xC3, 0xff00_001d)] {
        assert_eq!(udp(&quic(first, version, 8, b"", 1200)), (Some(App::Quic), CLIENT));
        // A short datagram with a long id may be either side's.
        assert_eq!(udp(&quic(first, version, 8, b"", 100)), (Some(App::Quic), None));
        // A token is the client's, a short destination id the server's.
        assert_eq!(udp(&quic(first, version, 8, b"tok", 100)), (Some(App::Quic), CLIENT));
        assert_eq!(udp(&quic(first, version, 0, b"", 1200)), (Some(App::Quic), SERVER));
    }
    // A Handshake packet behind it, in one datagram, is what servers send first.
    let mut both = quic(0xC0, 1, 8, b"", 600);
    both.extend(quic(0xE0, 1, 8, b"", 700));
    assert_eq!(udp(&both), (Some(App::Quic), None));
    // 0-RTT behind it is the client's.
    let mut early = quic(0xC0, 1, 8, b"", 300);
    early.extend(quic(0xD0, 1, 8, b"", 300));
    assert_eq!(udp(&early), (Some(App::Quic), CLIENT));
}

#[test]
fn quic_retry_and_version_negotiation() {
    assert_eq!(udp(&quic(0xF0, 1, 8, b"", 30)), (Some(App::Quic), SERVER));
    let negotiation = b"\x80\0\0\0\0\x01D\x01S\x1a\x2a\x3a\x4a\0\0\0\x01";
    assert_eq!(udp(negotiation), (Some(App::Quic), SERVER));
    assert_eq!(udp(&negotiation[..13]), NOTHING);
}

#[test]
fn not_quic() {
    assert_eq!(udp(&quic(0x40, 1, 8, b"", 1200)), NOTHING);
    assert_eq!(udp(&quic(0x80, 1, 8, b"", 1200)), NOTHING);
    assert_eq!(udp(&quic(0xC0, 77, 8, b"", 1200)), NOTHING);
    assert_eq!(udp(&quic(0xC0, 1, 21, b"", 1200)), NOTHING);
    assert_eq!(udp(&quic(0xC0, 1, 8, b"", 1200)[..600]), NOTHING);
    assert_eq!(tcp(&quic(0xC0, 1, 8, b"", 1200)), NOTHING);
}

fn ssh_packet(kind: u8) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x2c\x06".to_vec();
    bytes.push(kind);
    bytes.resize(48, 7);
    bytes
}

#[test]
fn ssh_client_is_who_begins_the_key_exchange() {
    for (kind, client) in [(30, Dir::Rev), (34, Dir::Rev), (31, Dir::Fwd), (33, Dir::Fwd)] {
        let mut flow = Flow::new(Proto::TCP, 40000, 22);
        assert_eq!(flow.segment(Dir::Fwd, 0, 0, b"SSH-2.0-OpenSSH_9.6\r\n"), None);
        assert_eq!(flow.conversation.app(), Some(App::Ssh));
        assert_eq!(flow.segment(Dir::Rev, 0, 0, b"SSH-2.0-OpenSSH_9.6\r\n"), None);
        // KEXINIT of one side, and of the other with what follows in the same segment.
        assert_eq!(flow.segment(Dir::Fwd, 0, 0, &ssh_packet(20)), None);
        let both = [ssh_packet(20), ssh_packet(kind)].concat();
        assert_eq!(flow.segment(Dir::Rev, 0, 0, &both), Some(client));
        assert_eq!(flow.conversation.heap_bytes(), 0);
        assert_eq!(flow.conversation.app(), Some(App::Ssh));
    }
}

#[test]
fn ssh_by_software_that_is_only_a_client() {
    assert_eq!(tcp(b"SSH-2.0-PuTTY_Release_0.80\r\n"), (Some(App::Ssh), CLIENT));
    assert_eq!(tcp(b"SSH-3.0-PuTTY_Release_0.80\r\n"), NOTHING);
    assert_eq!(udp(b"SSH-2.0-PuTTY_Release_0.80\r\n"), NOTHING);
}

#[test]
fn ssh_gives_up() {
    let mut flow = Flow::new(Proto::TCP, 40000, 22);
    flow.segment(Dir::Fwd, 0, 0, b"SSH-2.0-x\r\n");
    assert!(flow.conversation.heap_bytes() > 0);
    for _ in 0..16 {
        assert_eq!(flow.segment(Dir::Fwd, 0, 0, b"encrypted bytes"), None);
    }
    assert_eq!(flow.conversation.heap_bytes(), 0);
    assert_eq!(flow.segment(Dir::Fwd, 0, 0, &ssh_packet(30)), None);
}

#[test]
fn dhcp_by_its_cookie() {
    let mut request = vec![0; 300];
    request[..2].copy_from_slice(&[1, 1]);
    request[236..240].copy_from_slice(&[99, 130, 83, 99]);
    assert_eq!(udp(&request), (Some(App::Dhcp), CLIENT));
    request[0] = 2;
    assert_eq!(udp(&request), (Some(App::Dhcp), SERVER));
    let mut flow = Flow::to_peer([255; 4], Proto::UDP, 67, 68);
    assert_eq!(flow.send(Dir::Fwd, 0, &request), None);
    assert_eq!(flow.conversation.app(), Some(App::Dhcp));
    request[239] = 0;
    assert_eq!(udp(&request), NOTHING);
}

#[test]
fn others_by_their_first_line_or_header() {
    assert_eq!(tcp(b"\x10\x1e\x00\x04MQTT\x04\x02"), (Some(App::Mqtt), CLIENT));
    assert_eq!(tcp(b"\x10\x80\x02\x00\x06MQIsdp\x03"), (Some(App::Mqtt), CLIENT));
    assert_eq!(tcp(b"\x10\x80\x80\x80\x80\x00\x04MQTT"), NOTHING);
    assert_eq!(udp(b"REGISTER sip:example.com SIP/2.0\r\n"), (Some(App::Sip), CLIENT));
    assert_eq!(udp(b"SIP/2.0 180 Ringing\r\n"), (Some(App::Sip), SERVER));
    assert_eq!(udp(b"SIP/2.0 "), NOTHING);
    assert_eq!(tcp(b"EHLO mail.example\r\n"), (Some(App::Smtp), CLIENT));
    assert_eq!(tcp(b"ehlo mail.example"), NOTHING);
    let mut smb = b"\0\0\0\x44\xfeSMB\x40\0".to_vec();
    smb.resize(72, 0);
    assert_eq!(tcp(&smb), (Some(App::Smb), CLIENT));
    smb[20] = 1;
    assert_eq!(tcp(&smb), (Some(App::Smb), SERVER));
    assert_eq!(tcp(b"\0\0\0\x54\xffSMB\x72\0\0\0\0\x98\x01\x28"), (Some(App::Smb), SERVER));
    assert_eq!(tcp(b"\0\0\0\x54\xffSMB\x72\0\0\0\0\x18\x01\x28"), (Some(App::Smb), CLIENT));
}

#[test]
fn counts_merge() {
    let mut sum = L7Counts { dns_whole: 1, dns_partial: 2, ..L7Counts::default() };
    let mut other = L7Counts { dns_whole: 10, ..L7Counts::default() };
    other.dns_refused.count(DnsRefusal::Name);
    sum.merge(&other);
    assert_eq!((sum.dns_whole, sum.dns_partial, sum.dns_refused[DnsRefusal::Name]), (11, 2, 1));
    assert_eq!(DnsRefusal::Name.name(), "name");
}

/// The room may use dns-parser for headers and data only: its `Packet::parse` refuses whole messages, and
/// whatever prints its names recurses without bounds (faults.md, "malformed or hostile DNS").
#[test]
fn dns_parser_is_used_within_its_limits() {
    let room = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/l7");
    let mut folders = vec![room];
    let mut namers = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            if path.file_name().unwrap() == "tests.rs" || !code.iter().any(|line| line.contains("dns_parser"))
            {
                continue;
            }
            for line in code {
                // Neither its Packet and Name, nor printing of what holds a Name.
                for banned in
                    ["Packet", "dns_parser::Name", "dns_parser::*", "to_string()", "format!(", "{:?}", "dbg!"]
                {
                    assert!(!line.contains(banned), "{}: {line}", path.display());
                }
                for name in [
                    ".exchange",
                    ".target",
                    ".primary_ns",
                    ".mailbox",
                    "RData::CNAME",
                    "RData::NS",
                    "RData::PTR",
                ] {
                    assert!(!line.contains(name), "{}: {line}", path.display());
                }
                if line.contains("use dns_parser") {
                    assert!(!line.contains("Name"), "{}: {line}", path.display());
                }
            }
            namers.push(path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned());
        }
    }
    assert!(namers.iter().all(|path| path.starts_with("src/l7/dns")), "{namers:?}");
    assert!(!namers.is_empty());
}
