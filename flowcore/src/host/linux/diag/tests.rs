//! A kernel that misbehaves: the other end of a pair of sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::*;
use crate::host::linux::diag_message::tests::Told;
use crate::host::linux::netlink::{DONE, DUMP_INTERRUPTED, ERROR, MULTIPART, OVERRUN, write_message};
use crate::key::{Endpoint, Proto};

/// A message of an answer: type, flags and body.
type Message = (u16, u16, Vec<u8>);

/// A table whose kernel gives these answers, one to each request; every answer is a list of datagrams.
fn table(answers: Vec<Vec<Vec<Message>>>) -> KernelSockets {
    let (ours, kernel) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    thread::spawn(move || {
        for answer in answers {
            let mut request = [0; 200];
            let length = kernel.recv(&mut request).unwrap();
            let kind = u16::from_ne_bytes([request[4], request[5]]);
            assert_eq!((length, request[0]), if kind == TCP { (76, 76) } else { (72, 72) });
            let sequence = u32::from_ne_bytes([request[8], request[9], request[10], request[11]]);
            for datagram in answer {
                let mut bytes = Vec::new();
                for (kind, flags, body) in datagram {
                    let mut message = Vec::new();
                    let late = flags & LATE != 0;
                    write_message(
                        &mut message,
                        kind,
                        flags & !LATE,
                        sequence.wrapping_sub(late.into()),
                        &body,
                    );
                    bytes.extend(message);
                }
                kernel.send(&bytes).unwrap();
            }
        }
        // Silence, until the other end has gone.
        let _ = kernel.recv(&mut [0; 200]);
        thread::sleep(Duration::from_secs(1));
    });
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/proc/net");
    KernelSockets {
        netlink: Netlink::over(ours.into()),
        text: TextSockets::open(&folder).unwrap(),
        netns: 1,
        listed: vec![Listing::Tcp],
        lists_both: false,
        seen: Numbers::default(),
        states: u32::MAX,
        repeated: 0,
        damaged: 0,
    }
}

/// A flag of these tests: the message belongs to the request before.
const LATE: u16 = 0x8000;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn body(port: u16, cookie: u8) -> Vec<u8> {
    let mut body = Told { state: 1, local: (HERE, port), remote: (HERE, 80), attributes: Vec::new() }.bytes();
    body[44] = cookie;
    body
}

fn socket(port: u16, flags: u16) -> Message {
    (BY_FAMILY, flags, body(port, u8::try_from(port).unwrap()))
}

fn code(kind: u16, code: i32) -> Message {
    (kind, if kind == DONE { MULTIPART } else { 0 }, code.to_ne_bytes().to_vec())
}

fn find(table: &mut KernelSockets, interface: u32) -> io::Result<Option<u16>> {
    let end = |port| Endpoint { addr: HERE, port: Some(port) };
    let query = Query { proto: Proto::TCP, local: end(5), remote: end(80), interface };
    table.find(&query).map(|found| found.and_then(|socket| socket.local.port))
}

fn ports(table: &mut KernelSockets) -> io::Result<Vec<u16>> {
    let mut sockets = Vec::new();
    table.dump(Listing::Tcp, BY_FAMILY, &diag_message::dump(false, 6, u32::MAX, 0), &mut sockets)?;
    Ok(sockets.iter().filter_map(|socket| socket.local.port).collect())
}

#[test]
fn a_late_answer_is_passed_over() {
    let mut table = table(vec![vec![vec![socket(4, LATE)], vec![socket(5, 0)]]]);
    assert_eq!(find(&mut table, 0).unwrap(), Some(5));
}

#[test]
fn a_lookup_tries_the_interface_and_then_none() {
    let missing = || vec![vec![code(ERROR, -2)]];
    let mut one = table(vec![missing(), vec![vec![socket(5, 0)]]]);
    assert_eq!(find(&mut one, 3).unwrap(), Some(5));
    let mut none = table(vec![missing(), missing()]);
    assert_eq!(find(&mut none, 3).unwrap(), None);
}

#[test]
fn an_error_is_an_error_and_silence_too() {
    let mut refused = table(vec![vec![vec![code(ERROR, -1)]]]);
    assert_eq!(find(&mut refused, 0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    let mut silent = table(vec![vec![]]);
    assert_eq!(find(&mut silent, 0).unwrap_err().kind(), io::ErrorKind::TimedOut);
    let mut missing = table(vec![vec![vec![code(DONE, -2)]]]);
    assert_eq!(ports(&mut missing).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn damaged_answers_are_counted() {
    let cut = (BY_FAMILY, MULTIPART, body(1, 1)[..60].to_vec());
    let answer = vec![vec![socket(1, MULTIPART), cut, socket(2, MULTIPART)], vec![code(DONE, 0)]];
    let mut list = table(vec![answer]);
    assert_eq!(ports(&mut list).unwrap(), [1, 2]);
    assert_eq!(list.damaged(), 1);
    let mut one = table(vec![vec![vec![(BY_FAMILY, 0, vec![0; 3])]]]);
    assert_eq!((find(&mut one, 0).unwrap(), one.damaged()), (None, 1));
}

#[test]
fn a_list_that_changed_is_asked_for_again() {
    let changed = |port| vec![vec![socket(port, MULTIPART | DUMP_INTERRUPTED)], vec![code(DONE, 0)]];
    let whole = vec![vec![socket(9, MULTIPART), code(DONE, 0)]];
    let mut once = table(vec![changed(1), whole]);
    assert_eq!((ports(&mut once).unwrap(), once.repeated()), (vec![9], 1));
    let mut always = table(vec![changed(1), changed(2), changed(3), changed(4)]);
    assert_eq!((ports(&mut always).unwrap(), always.repeated()), (vec![4], 3));
}

#[test]
fn a_list_of_which_a_part_was_lost_is_asked_for_again() {
    let lost = || vec![vec![socket(1, MULTIPART)], vec![code(OVERRUN, 0)]];
    let too_long = vec![vec![(BY_FAMILY, MULTIPART, vec![0; 40_000])]];
    let whole = vec![vec![socket(9, MULTIPART), code(DONE, 0)]];
    let mut twice = table(vec![lost(), too_long, whole]);
    assert_eq!((ports(&mut twice).unwrap(), twice.repeated()), (vec![9], 2));
    let mut always = table(vec![lost(), lost(), lost(), lost()]);
    assert_eq!(ports(&mut always).unwrap_err().raw_os_error(), Some(Errno::NOBUFS.raw_os_error()));
}

#[test]
fn what_is_told_twice_stands_once() {
    let four =
        vec![vec![socket(1, MULTIPART), socket(2, MULTIPART)], vec![socket(2, MULTIPART), code(DONE, 0)]];
    let six = vec![vec![code(DONE, 0)]];
    let mut table = table(vec![four, six]);
    let mut sockets = Vec::new();
    table.snapshot(&mut sockets).unwrap();
    let tcp: Vec<_> = sockets.iter().filter(|socket| socket.kind == crate::host::SocketKind::Tcp).collect();
    assert_eq!(tcp.len(), 2);
    // The rest comes from text files, which know no cookies.
    assert_eq!(sockets.len() - 2, 12);
}

#[test]
fn both_ip_versions_of_tcp_are_listed_at_once_where_the_kernel_can() {
    let answer = || vec![vec![(TCP, MULTIPART, body(1, 1)), (TCP, MULTIPART, body(2, 2)), code(DONE, 0)]];
    let mut table = KernelSockets { lists_both: true, ..table(vec![answer(), answer()]) };
    let mut sockets = Vec::new();
    table.snapshot(&mut sockets).unwrap();
    assert_eq!(sockets.iter().filter(|socket| socket.cookie > 0).count(), 2);
    sockets.clear();
    table.listeners(1, &mut sockets).unwrap();
    assert_eq!(sockets.len(), 2);
}
