use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::host::linux::diag_message::tests::Told;

fn told(attributes: Vec<(u16, Vec<u8>)>) -> Vec<u8> {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Told { state: 7, local: (here, 40000), remote: (here, 80), attributes }.bytes()
}

/// A `tcp_info` in which every byte from 104 on is part of a number of its own.
fn info(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    for (at, value) in [(120, 1001_u64), (128, 2002), (200, 1200), (208, 200)] {
        bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    for (at, value) in [(136, 5_u32), (140, 6), (152, 3), (156, 4)] {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_connection_with_its_counters() {
    let event = read(8, &told(vec![(PROTOCOL, vec![6]), (INFO, info(240))])).unwrap();
    assert_eq!((event.kind, event.netns, event.cookie), (SocketKind::Tcp, 8, 0x2_0000_5001));
    assert_eq!(event.local.to_string(), "127.0.0.1:40000");
    assert_eq!(event.remote.unwrap().to_string(), "127.0.0.1:80");
    let counters = event.tcp.unwrap();
    assert_eq!((counters.bytes_acked, counters.bytes_received), (1001, 2002));
    assert_eq!((counters.bytes_sent, counters.bytes_retransmitted), (1200, 200));
    assert_eq!((counters.segments_out, counters.segments_in), (5, 6));
    assert_eq!((counters.data_segments_out, counters.data_segments_in), (4, 3));
    assert_eq!(counters.payload_acked(), 1000);
}

#[test]
fn an_old_kernel_tells_less() {
    let event = read(0, &told(vec![(PROTOCOL, vec![6]), (INFO, info(215))])).unwrap();
    assert_eq!(event.tcp, None);
}

#[test]
fn other_protocols() {
    let event = read(0, &told(vec![(PROTOCOL, vec![17]), (INFO, info(240))])).unwrap();
    assert_eq!((event.kind, event.tcp), (SocketKind::Udp, None));
    assert_eq!(read(0, &told(vec![(PROTOCOL, vec![132])])), None);
    assert_eq!(read(0, &told(Vec::new())), None);
}

#[test]
fn damaged_messages_are_none() {
    let bytes = told(vec![(PROTOCOL, vec![6])]);
    assert!((0..bytes.len() - 3).all(|length| read(0, &bytes[..length]).is_none()));
}
