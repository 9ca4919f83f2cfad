//! The lengths of definitions.md ("Bytes"), damaged headers, TCP options, checksums.

use super::*;
use crate::packet::TcpFlags;

/// IP length, payload length, captured payload.
fn lengths(seen: &Seen) -> (u64, u64, usize) {
    (seen.facts.ip_len, seen.facts.payload_len, seen.payload.len())
}

fn frame_of(wire_len: u32, data: &[u8]) -> (Seen, Vec<(StopReason, u64)>) {
    let mut bench = Bench::new(DecodeOptions::default());
    assert_eq!(bench.raw(0, 1, data, wire_len), Outcome::Packet);
    bench.balance();
    (bench.seen.remove(0), bench.stopped())
}

fn whole(data: &[u8]) -> (Seen, Vec<(StopReason, u64)>) {
    frame_of(data.len() as u32, data)
}

#[test]
fn padding_is_no_payload() {
    let (seen, _) = whole(&join(&[&ethernet(0x0800, &inner()), &[0xEE; 13]]));
    assert_eq!(lengths(&seen), (33, 5, 5));
    assert_eq!(seen.facts.wire_len, 60);
}

#[test]
fn a_cut_capture_keeps_the_announced_lengths() {
    let frame = ethernet(0x0800, &ipv4(6, &tcp(0x18, &[], &[7; 500])));
    let (seen, stopped) = frame_of(554, &frame[..64]);
    assert_eq!(lengths(&seen), (540, 500, 10));
    assert!(stopped.is_empty());
    assert_eq!(seen.message, Some((vec![7; 10], 7, false)));
}

#[test]
fn segmentation_offload_leaves_zero() {
    let mut packet = ipv4(17, &udp(1000, 2000, b"hello"));
    packet[2..4].fill(0);
    let frame = ethernet(0x0800, &packet);
    assert_eq!(lengths(&whole(&frame).0), (33, 5, 5));
    // Cut: the wire length less the link headers. The UDP length is then the smaller one.
    let (seen, _) = frame_of(1014, &frame);
    assert_eq!(lengths(&seen), (1000, 5, 5));
    let mut packet = ipv6(6, &tcp(0x10, &[], &[1; 40]));
    packet[4..6].fill(0);
    let frame = ethernet(0x86DD, &packet);
    assert_eq!(lengths(&whole(&frame).0), (100, 40, 40));
    assert_eq!(lengths(&frame_of(5000, &frame).0), (4986, 4926, 40));
}

#[test]
fn a_jumbogram_has_its_length_in_an_option() {
    let body = join(&[&udp(1000, 2000, &[]), &vec![3; 70_000]]);
    let length = (body.len() as u32 + 8).to_be_bytes();
    let mut packet = ipv6(0, &join(&[&[17, 0, 0xC2, 4], &length, &body]));
    packet[4..6].fill(0);
    packet[40 + 8 + 4..40 + 8 + 6].fill(0); // UDP length 0, as RFC 2675 has it
    assert_eq!(lengths(&whole(&ethernet(0x86DD, &packet)).0), (70_056, 70_000, 70_000));
}

#[test]
fn udp_length_rule() {
    let with_length = |length: u16| {
        let mut datagram = udp(1000, 2000, b"ABCDEFGH");
        datagram[4..6].copy_from_slice(&length.to_be_bytes());
        whole(&ethernet(0x0800, &ipv4(17, &datagram)))
    };
    for (length, payload) in [(16, 8), (8, 0), (12, 4), (17, 8), (65535, 8), (0, 8)] {
        let (seen, stopped) = with_length(length);
        assert_eq!(seen.facts.payload_len, payload, "UDP length {length}");
        assert_eq!(seen.payload.len() as u64, payload);
        assert!(stopped.is_empty());
    }
    let (seen, stopped) = with_length(7);
    assert_eq!((seen.facts.payload_len, stopped), (8, vec![(StopReason::TransportLength, 1)]));
}

#[test]
fn other_transports() {
    let sctp = join(&[&[0, 1, 0, 2], &[0; 8], b"chunk"]);
    let dccp = join(&[&[0, 1, 0, 2, 4, 0, 0, 0], &[0; 8], b"data"]);
    let lite = udp(1, 2, b"lite");
    for (proto, body, payload) in [(132, &sctp, 5), (33, &dccp, 4), (136, &lite, 4)] {
        let (seen, stopped) = whole(&ethernet(0x0800, &ipv4(proto, body)));
        assert_eq!((seen.ports(), seen.facts.payload_len), (Some((1, 2)), payload));
        assert!(stopped.is_empty());
    }
    let (seen, _) = whole(&ethernet(0x0800, &ipv4(89, &[1; 44])));
    assert_eq!((seen.ports(), seen.facts.payload_len), (None, 44));
    let (seen, _) = whole(&ethernet(0x86DD, &ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 1, 9, 9])));
    assert_eq!((seen.facts.icmp, seen.facts.payload_len), (Some((128, 0)), 2));
    let (seen, _) = whole(&ethernet(0x0800, &ipv4(1, &[8, 0, 0, 0, 0])));
    assert_eq!((seen.facts.icmp, seen.facts.payload_len), (Some((8, 0)), 5));
}

#[test]
fn damaged_transport_headers_count_as_payload() {
    use StopReason as Why;
    let mut short_offset = tcp(0x10, &[], b"12345678");
    short_offset[12] = 0x40;
    let mut long_offset = tcp(0x10, &[], b"12345678");
    long_offset[12] = 0xF0;
    let ports = Some((1234, 80));
    /// Protocol, bytes, ports that show, whether TCP's fields show, why it stopped.
    type Case = (u8, Vec<u8>, Option<(u16, u16)>, bool, StopReason);
    let cases: Vec<Case> = vec![
        (6, tcp(0x10, &[], &[])[..3].to_vec(), None, false, Why::TransportCut),
        (6, tcp(0x10, &[], &[])[..15].to_vec(), ports, false, Why::TransportCut),
        (6, tcp(0x10, &[], &[])[..16].to_vec(), ports, true, Why::TransportCut),
        (6, short_offset, ports, true, Why::TransportLength),
        (6, long_offset, ports, true, Why::TransportLength),
        (6, vec![], None, false, Why::TransportCut),
        (17, udp(1234, 80, &[])[..5].to_vec(), ports, false, Why::TransportCut),
        (132, udp(1234, 80, &[]), ports, false, Why::TransportCut),
        (33, join(&[&udp(1234, 80, &[])[..4], &[1; 20]]), ports, false, Why::TransportLength),
        (1, vec![8, 0], None, false, Why::TransportCut),
    ];
    for (number, (proto, body, ports, has_tcp, reason)) in cases.into_iter().enumerate() {
        let (seen, stopped) = whole(&ethernet(0x0800, &ipv4(proto, &body)));
        assert_eq!(stopped, [(reason, 1)], "case {number}");
        assert_eq!((seen.ports(), seen.facts.tcp.is_some()), (ports, has_tcp), "case {number}");
        assert_eq!((seen.facts.payload_len, seen.payload), (body.len() as u64, body), "case {number}");
        assert_eq!(seen.message, None, "case {number}");
    }
}

#[test]
fn cut_tcp_options_leave_the_payload_length() {
    let frame = ethernet(0x0800, &ipv4(6, &tcp(0x02, &[2, 4, 5, 180, 3, 3, 7, 0], &[1; 100])));
    let (seen, stopped) = frame_of(162, &frame[..14 + 20 + 24]);
    assert_eq!(stopped, [(StopReason::TransportCut, 1)]);
    assert_eq!(lengths(&seen), (148, 100, 0));
    assert_eq!(seen.facts.tcp.and_then(|tcp| tcp.mss), Some(1460));
}

#[test]
fn options_are_read_on_a_syn_only() {
    let options = [1, 2, 4, 5, 180, 3, 3, 7];
    let read = |flags: u16, options: &[u8]| {
        let (seen, _) = whole(&ethernet(0x0800, &ipv4(6, &tcp(flags, options, b"x"))));
        let TcpFacts { mss, window_scale, .. } = seen.facts.tcp.unwrap();
        (mss, window_scale, seen.message.unwrap().1)
    };
    // The first payload byte of a SYN stands behind the number that the SYN takes.
    assert_eq!(read(TcpFlags::SYN.0, &options), (Some(1460), Some(7), 8));
    assert_eq!(read(TcpFlags::ACK.0, &options), (None, None, 7));
    assert_eq!(read(TcpFlags::SYN.0, &[2, 4, 5, 180, 3, 0, 7, 0]), (Some(1460), None, 8));
    // Options of other kinds, AccECN's (172) among them, do not end the list; option 0 and damage do.
    assert_eq!(read(TcpFlags::SYN.0, &[172, 5, 1, 2, 3, 2, 4, 5, 180, 3, 3, 7]), (Some(1460), Some(7), 8));
    assert_eq!(read(TcpFlags::SYN.0, &[4, 2, 0, 3, 3, 7, 0, 0]), (None, None, 8));
    assert_eq!(read(TcpFlags::SYN.0, &[30, 1, 3, 3, 7, 0, 0, 0]), (None, None, 8));
    assert_eq!(read(TcpFlags::SYN.0, &[2, 4, 5, 180, 30, 255, 3, 3]), (Some(1460), None, 8));
}

#[test]
fn extension_headers() {
    let transport = udp(1000, 2000, b"hello");
    let chain = join(&[&[43, 0], &[0; 6], &[60, 1, 0, 0], &[0; 12], &[17, 0], &[0; 6], &transport]);
    let (seen, stopped) = whole(&ethernet(0x86DD, &ipv6(0, &chain)));
    assert!(is_inner6(&seen) && stopped.is_empty());
    assert_eq!(lengths(&seen), (40 + 32 + 13, 5, 5));

    let headers = |count: usize| [60, 0, 0, 0, 0, 0, 0, 0].repeat(count - 1);
    let deep = |count| ipv6(60, &join(&[&headers(count), &[17, 0, 0, 0, 0, 0, 0, 0], &transport]));
    assert!(is_inner6(&whole(&ethernet(0x86DD, &deep(64))).0));
    let (seen, stopped) = whole(&ethernet(0x86DD, &deep(65)));
    assert_eq!((stopped, seen.ports()), (vec![(StopReason::ExtensionsTooMany, 1)], None));
    let (seen, stopped) = whole(&ethernet(0x86DD, &ipv6(0, &[17, 9, 0, 0, 0, 0, 0, 0])));
    assert_eq!((stopped, lengths(&seen)), (vec![(StopReason::ExtensionCut, 1)], (48, 0, 0)));
    let (seen, _) = whole(&ethernet(0x86DD, &ipv6(59, b"nothing")));
    assert_eq!((seen.tuple().proto, seen.facts.payload_len), (Proto(59), 7));
}

#[test]
fn checksums_of_whole_packets() {
    use etherparse::PacketBuilder;
    let packets = |payload: &[u8]| {
        let ethernet = || PacketBuilder::ethernet2([1; 6], [2; 6]);
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = Vec::new();
            write(&mut frame);
            frames.push(frame);
        };
        let v4 = || ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9);
        let v6 = || ethernet().ipv6([1; 16], [2; 16], 9);
        add(&|to| v4().tcp(1, 2, 3, 4).write(to, payload).unwrap());
        add(&|to| v4().udp(1, 2).write(to, payload).unwrap());
        add(&|to| v4().icmpv4_echo_request(1, 2).write(to, payload).unwrap());
        add(&|to| v6().tcp(1, 2, 3, 4).write(to, payload).unwrap());
        add(&|to| v6().udp(1, 2).write(to, payload).unwrap());
        add(&|to| v6().icmpv6_echo_request(1, 2).write(to, payload).unwrap());
        frames
    };
    let is_bad = |frame: &[u8], wire_len: usize, checksums: bool| {
        let mut bench = Bench::new(DecodeOptions { checksums, ..DecodeOptions::default() });
        assert_eq!(bench.raw(0, 1, frame, wire_len as u32), Outcome::Packet);
        bench.seen[0].facts.bad_checksum
    };
    for mut frame in packets(b"odd").into_iter().chain(packets(b"even")) {
        let length = frame.len();
        assert!(!is_bad(&frame, length, true), "{frame:02x?}");
        assert!(!is_bad(&join(&[&frame, &[9; 7]]), length + 7, true), "padding is not covered");
        frame[length - 1] ^= 1;
        assert!(is_bad(&frame, length, true));
        assert!(!is_bad(&frame, length, false), "not verified unless asked for");
        assert!(!is_bad(&frame[..length - 1], length, true), "cut: cannot be known");
    }
    let mut frame = packets(b"x").remove(0);
    frame[14 + 8] ^= 1; // the TTL
    assert!(is_bad(&frame, frame.len(), true));
    let no_checksum = ethernet(0x86DD, &ipv6(17, &udp(1, 2, b"x")));
    assert!(!is_bad(&no_checksum, no_checksum.len(), true));
}
