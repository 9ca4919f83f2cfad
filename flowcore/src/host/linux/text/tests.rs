//! The tables of testdata/proc/net were recorded from sockets that testdata/make/sockets.py made.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::*;
use crate::host::SocketKind;
use crate::key::{Endpoint, Proto};

fn recorded() -> TextSockets {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/proc/net");
    TextSockets::open(&folder).unwrap()
}

fn end(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint { addr: address.ip(), port: Some(address.port()) }
}

/// The inode of the socket that gets the packets from `remote` to `local`.
fn found(proto: Proto, local: &str, remote: &str) -> Option<u64> {
    let query = Query { proto, local: end(local), remote: end(remote), interface: 1 };
    recorded().find(&query).unwrap().map(|socket| socket.inode)
}

#[test]
fn every_line_is_a_socket() {
    let mut table = recorded();
    let mut sockets = Vec::new();
    table.snapshot(&mut sockets).unwrap();
    let lines: Vec<String> = sockets
        .iter()
        .map(|socket| {
            let kind = socket.kind.name(socket.local.addr);
            let remote = socket.remote.map_or("-".to_owned(), |remote| remote.to_string());
            let (local, state) = (socket.local, socket.state.name());
            format!("{kind} {local} {remote} {state} {} {}", socket.uid, socket.inode)
        })
        .collect();
    let expected = [
        "TCP 127.0.0.1:80 - LISTEN 0 944756",
        "TCP 0.0.0.0:9000 - LISTEN 1000 944760",
        "TCP 0.0.0.0:9000 - LISTEN 1000 944759",
        "TCP 127.0.0.1:40001 127.0.0.1:80 ESTABLISHED 0 944761",
        "TCP 127.0.0.1:40005 127.0.0.1:80 FIN_WAIT2 0 944769",
        "TCP 127.0.0.1:80 127.0.0.1:40005 CLOSE_WAIT 0 944770",
        "TCP 127.0.0.1:40002 127.0.0.1:8080 ESTABLISHED 0 944763",
        "TCP 127.0.0.1:80 127.0.0.1:40001 ESTABLISHED 0 944762",
        "TCPv6 [::1]:22 - LISTEN 0 944758",
        "TCPv6 [::]:8080 - LISTEN 0 944757",
        "TCPv6 [::1]:8080 [::1]:40003 ESTABLISHED 0 944766",
        "TCPv6 [::1]:40003 [::1]:8080 ESTABLISHED 0 944765",
        "TCPv6 [::ffff:127.0.0.1]:8080 [::ffff:127.0.0.1]:40002 ESTABLISHED 0 944764",
        "UDP 127.0.0.1:53 - UNCONN 0 944772",
        "UDP 0.0.0.0:53 - UNCONN 0 944771",
        "UDP 127.0.0.1:40006 127.0.0.1:53 ESTABLISHED 0 944773",
        "UDPv6 [::]:5353 - UNCONN 0 944774",
        "UDPv6 [::1]:40007 [::1]:5353 ESTABLISHED 0 944775",
        "UDPLITE 127.0.0.1:7000 - UNCONN 0 944776",
        "UDPLITEv6 [::1]:7001 - UNCONN 0 944777",
        "RAW 0.0.0.0 - UNCONN 0 944778",
        "RAW 127.0.0.1 127.0.0.2 ESTABLISHED 0 944779",
        "RAWv6 :: - UNCONN 0 944780",
        "ICMP 127.0.0.1:77 - UNCONN 0 944781",
        "ICMPv6 [::1]:78 - UNCONN 0 944782",
    ];
    assert_eq!(lines, expected);
    assert_eq!(table.damaged(), 0);
    let raw: Vec<_> =
        sockets.iter().map(|socket| socket.kind).filter(|kind| matches!(kind, SocketKind::Raw(_))).collect();
    assert_eq!(raw, [Proto::ICMP, Proto(89), Proto::ICMPV6].map(SocketKind::Raw));
}

#[test]
fn time_wait_is_listed_on_request() {
    let mut sockets = Vec::new();
    recorded().with_time_wait().snapshot(&mut sockets).unwrap();
    let waiting: Vec<_> = sockets.iter().filter(|socket| socket.state == SocketState::TimeWait).collect();
    let [socket] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert_eq!((socket.local, socket.inode), (end("127.0.0.1:40004"), 0));
}

#[test]
fn a_connection_before_its_listener() {
    assert_eq!(found(Proto::TCP, "127.0.0.1:80", "127.0.0.1:40001"), Some(944_762));
    assert_eq!(found(Proto::TCP, "127.0.0.1:40001", "127.0.0.1:80"), Some(944_761));
    assert_eq!(found(Proto::TCP, "[::1]:8080", "[::1]:40003"), Some(944_766));
    assert_eq!(found(Proto::TCP, "127.0.0.1:80", "192.0.2.1:5"), Some(944_756));
    assert_eq!(found(Proto::TCP, "[2001:db8::1]:8080", "[2001:db8::2]:5"), Some(944_757));
}

#[test]
fn ipv4_finds_ipv6_sockets_and_never_the_reverse() {
    assert_eq!(found(Proto::TCP, "127.0.0.1:8080", "127.0.0.1:40002"), Some(944_764));
    assert_eq!(found(Proto::TCP, "127.0.0.1:8080", "127.0.0.1:9"), Some(944_757));
    assert_eq!(found(Proto::UDP, "192.0.2.1:5353", "192.0.2.2:5353"), Some(944_774));
    assert_eq!(found(Proto::UDP, "[::1]:53", "[::1]:9"), None);
}

#[test]
fn a_specific_address_before_an_unspecified_one() {
    assert_eq!(found(Proto::UDP, "127.0.0.1:53", "127.0.0.1:9"), Some(944_772));
    assert_eq!(found(Proto::UDP, "192.0.2.1:53", "192.0.2.2:9"), Some(944_771));
    assert_eq!(found(Proto::UDP, "127.0.0.1:40006", "127.0.0.1:53"), Some(944_773));
    assert_eq!(found(Proto::UDP_LITE, "127.0.0.1:7000", "127.0.0.1:9"), Some(944_776));
}

#[test]
fn a_port_alone_is_no_match() {
    assert_eq!(found(Proto::TCP, "127.0.0.2:80", "127.0.0.1:40001"), None);
    assert_eq!(found(Proto::TCP, "127.0.0.1:40001", "127.0.0.1:81"), None);
    assert_eq!(found(Proto::UDP, "127.0.0.1:40006", "127.0.0.2:53"), None);
    assert_eq!(found(Proto::UDP_LITE, "127.0.0.2:7000", "127.0.0.1:9"), None);
    assert_eq!(found(Proto::SCTP, "127.0.0.1:80", "127.0.0.1:40001"), None);
}

#[test]
fn sockets_that_share_a_port_are_not_told_apart() {
    assert_eq!(found(Proto::TCP, "127.0.0.1:9000", "127.0.0.1:9"), None);
}

#[test]
fn damaged_lines_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let whole = "0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  5 0 77 1";
    assert_eq!(read_line(Listing::Tcp, 0, whole).unwrap().inode, 77);
    let mut table = String::from("sl local rem st\n");
    for line in [
        "",
        "0:",
        "0: 0100007F:0050 00000000:0000",
        "0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 5 0",
        "0: 0100007F0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 5 0 77",
        "0: 0100007:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 5 0 77",
        "0: 0100007é:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 5 0 77",
        "0: 0100007F:10050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 5 0 77",
        "0: 0100007F:0050 00000000:0000 FF 00000000:00000000 00:00000000 00000000 5 0 77",
        "0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 -5 0 77",
        "0: 0000000000000000FFFF00000100é0F:0050 00000000:0000 0A 0:0 00:0 0 5 0 77",
        whole,
    ] {
        table.extend([line, "\n"]);
    }
    std::fs::write(folder.path().join("tcp"), table).unwrap();
    let mut table = TextSockets::open(folder.path()).unwrap();
    let mut sockets = Vec::new();
    table.snapshot(&mut sockets).unwrap();
    assert_eq!((sockets.len(), table.damaged()), (1, 11));
}

#[test]
fn a_folder_without_tables_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(TextSockets::open(folder.path()).err().unwrap().kind(), io::ErrorKind::NotFound);
}
