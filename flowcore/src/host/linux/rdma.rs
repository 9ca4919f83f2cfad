//! RDMA queue pairs, by netlink (`rdma/rdma_netlink.h`).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netlink::RDMA;

use super::netlink::{Attributes, DUMP, Netlink, u16_at, u32_at, write_attribute};
use crate::key::Endpoint;

/// An RDMA queue pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueuePair {
    /// The RDMA device: `"mlx5_0"`, `"rxe0"` …
    pub device: String,
    /// The port of the device; none for a queue pair that is bound to none.
    pub port: Option<u32>,
    /// Its number, 24 bits.
    pub number: u32,
    /// The number of its peer, where it is connected.
    pub remote_number: Option<u32>,
    /// Its service: `"RC"`, `"UC"`, `"UD"` …
    pub service: &'static str,
    /// Its state: `"RESET"`, `"INIT"`, `"RTR"`, `"RTS"`, `"SQD"`, `"SQE"` or `"ERR"`.
    pub state: &'static str,
    /// The process that made it; none for the kernel's own.
    pub pid: Option<u32>,
    /// Its local end, where the connection manager knows its addresses.
    pub local: Option<Endpoint>,
    /// The other end, where the connection manager knows its addresses.
    pub remote: Option<Endpoint>,
}

/// Returns the RDMA queue pairs of the network namespace that the calling thread is in; none where the kernel has no
/// RDMA.
///
/// # Errors
/// When the kernel has RDMA and does not answer.
pub fn queue_pairs() -> io::Result<Vec<QueuePair>> {
    let mut netlink = match Netlink::open(RDMA) {
        Ok(netlink) => netlink,
        Err(error) if is_unknown(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut devices = Vec::new();
    known(netlink.ask(kind(DEVICES), DUMP, &[], |_, body| devices.extend(read_device(body))))?;
    let mut pairs = Vec::new();
    for (index, name) in devices {
        let mut body = Vec::new();
        write_attribute(&mut body, DEVICE_INDEX, &index.to_ne_bytes());
        let start = pairs.len();
        known(netlink.ask(kind(QUEUE_PAIRS), DUMP, &body, |_, body| read_pairs(&name, body, &mut pairs)))?;
        let pairs = pairs.get_mut(start..).unwrap_or_default();
        known(netlink.ask(kind(CONNECTIONS), DUMP, &body, |_, body| add_addresses(body, pairs)))?;
    }
    Ok(pairs)
}

/// Takes what the kernel does not know, or no longer, as an empty answer.
fn known(answer: io::Result<bool>) -> io::Result<()> {
    match answer {
        Err(error) if !is_unknown(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_unknown(error: &io::Error) -> bool {
    let unknown = [Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL, Errno::NODEV, Errno::NOENT];
    unknown.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

pub(super) fn read_device(body: &[u8]) -> Option<(u32, String)> {
    let find = |wanted| Attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    Some((u32_at(find(DEVICE_INDEX)?, 0)?, text(find(DEVICE_NAME)?)))
}

/// Reads the queue pairs of a message.
pub(super) fn read_pairs(device: &str, body: &[u8], pairs: &mut Vec<QueuePair>) {
    for entry in entries(body, QUEUE_PAIR_LIST, QUEUE_PAIR) {
        let mut number = None;
        let mut pair = QueuePair {
            device: device.to_owned(),
            port: None,
            number: 0,
            remote_number: None,
            service: "",
            state: "",
            pid: None,
            local: None,
            remote: None,
        };
        for (kind, value) in Attributes(entry) {
            match kind {
                PORT => pair.port = u32_at(value, 0),
                LOCAL_NUMBER => number = u32_at(value, 0),
                REMOTE_NUMBER => pair.remote_number = u32_at(value, 0),
                SERVICE => pair.service = word(SERVICES, value),
                STATE => pair.state = word(STATES, value),
                PID => pair.pid = u32_at(value, 0),
                _ => {}
            }
        }
        pairs.extend(number.map(|number| QueuePair { number, ..pair }));
    }
}

/// Adds the addresses that the connection manager knows to the queue pairs of the same device.
pub(super) fn add_addresses(body: &[u8], pairs: &mut [QueuePair]) {
    for entry in entries(body, CONNECTION_LIST, CONNECTION) {
        let (mut number, mut local, mut remote) = (None, None, None);
        for (kind, value) in Attributes(entry) {
            match kind {
                LOCAL_NUMBER => number = u32_at(value, 0),
                SOURCE => local = read_address(value),
                DESTINATION => remote = read_address(value),
                _ => {}
            }
        }
        if let Some(pair) = pairs.iter_mut().find(|pair| Some(pair.number) == number) {
            (pair.local, pair.remote) = (local, remote);
        }
    }
}

/// The entries of the lists in a message.
fn entries(body: &[u8], list: u16, entry: u16) -> impl Iterator<Item = &[u8]> {
    let nested = move |bytes, wanted| {
        Attributes(bytes).filter(move |(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    nested(body, list).flat_map(move |bytes| nested(bytes, entry))
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
fn read_address(value: &[u8]) -> Option<Endpoint> {
    let port = value.get(2..)?.first_chunk().copied().map(u16::from_be_bytes);
    let addr: IpAddr = match u16_at(value, 0)? {
        2 => value.get(4..)?.first_chunk::<4>().copied()?.into(),
        10 => value.get(8..)?.first_chunk::<16>().copied()?.into(),
        _ => return None,
    };
    Some(Endpoint { addr, port })
}

fn word(words: &'static [&'static str], value: &[u8]) -> &'static str {
    value.first().and_then(|number| words.get(usize::from(*number))).copied().unwrap_or_default()
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// The message type of a command: client 5 is nldev.
const fn kind(command: u16) -> u16 {
    5 << 10 | command
}

const DEVICES: u16 = 1;
const QUEUE_PAIRS: u16 = 10;
const CONNECTIONS: u16 = 11;

const DEVICE_INDEX: u16 = 1;
const DEVICE_NAME: u16 = 2;
const PORT: u16 = 3;
const QUEUE_PAIR_LIST: u16 = 19;
const QUEUE_PAIR: u16 = 20;
const LOCAL_NUMBER: u16 = 21;
const REMOTE_NUMBER: u16 = 22;
const SERVICE: u16 = 26;
const STATE: u16 = 27;
const PID: u16 = 28;
const CONNECTION_LIST: u16 = 30;
const CONNECTION: u16 = 31;
const SOURCE: u16 = 33;
const DESTINATION: u16 = 34;

const SERVICES: &[&str] =
    &["SMI", "GSI", "RC", "UC", "UD", "RAW_IPV6", "RAW_ETHERTYPE", "", "RAW_PACKET", "XRC_INI", "XRC_TGT"];
const STATES: &[&str] = &["RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"];

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_attribute(&mut bytes, kind, value);
        bytes
    }

    fn numbers(pairs: &[(u16, u32)]) -> Vec<u8> {
        pairs.iter().flat_map(|(kind, value)| attribute(*kind, &value.to_ne_bytes())).collect()
    }

    /// The answer of a software device with two queue pairs, one of them the kernel's.
    fn answer() -> Vec<u8> {
        let mut user = numbers(&[(PORT, 1), (LOCAL_NUMBER, 17), (REMOTE_NUMBER, 0xff_ffff), (PID, 4242)]);
        user.extend([attribute(SERVICE, &[2]), attribute(STATE, &[3])].concat());
        let mut kernel = numbers(&[(PORT, 1), (LOCAL_NUMBER, 1)]);
        kernel.extend(
            [attribute(SERVICE, &[1]), attribute(29, b"ib_core\0"), attribute(STATE, &[200])].concat(),
        );
        let list = [attribute(QUEUE_PAIR, &user), attribute(QUEUE_PAIR, &kernel)].concat();
        [numbers(&[(DEVICE_INDEX, 0)]), attribute(0x8000 | QUEUE_PAIR_LIST, &list)].concat()
    }

    #[test]
    fn queue_pairs_and_their_addresses() {
        let device = [numbers(&[(DEVICE_INDEX, 3)]), attribute(DEVICE_NAME, b"rxe0\0")].concat();
        assert_eq!(read_device(&device), Some((3, "rxe0".to_owned())));

        let mut pairs = Vec::new();
        read_pairs("rxe0", &answer(), &mut pairs);
        let [user, kernel] = pairs.as_slice() else { panic!("{pairs:?}") };
        assert_eq!((user.number, user.remote_number, user.pid), (17, Some(0xff_ffff), Some(4242)));
        assert_eq!(
            (user.device.as_str(), user.port, user.service, user.state),
            ("rxe0", Some(1), "RC", "RTS")
        );
        assert_eq!((kernel.number, kernel.remote_number, kernel.pid), (1, None, None));
        assert_eq!((kernel.service, kernel.state), ("GSI", ""));

        let near = [&2_u16.to_ne_bytes()[..], &4791_u16.to_be_bytes(), &[192, 0, 2, 1], &[0; 120]].concat();
        let mut far = [&10_u16.to_ne_bytes()[..], &18515_u16.to_be_bytes(), &[0; 4]].concat();
        far.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        let ends = [attribute(SOURCE, &near), attribute(DESTINATION, &far)].concat();
        let known = attribute(CONNECTION, &[numbers(&[(LOCAL_NUMBER, 17)]), ends.clone()].concat());
        let stranger = attribute(CONNECTION, &[numbers(&[(LOCAL_NUMBER, 99)]), ends].concat());
        add_addresses(&attribute(CONNECTION_LIST, &[stranger, known].concat()), &mut pairs);
        assert_eq!(pairs[0].local.unwrap().to_string(), "192.0.2.1:4791");
        assert_eq!(pairs[0].remote.unwrap().to_string(), "[2001:db8::2]:18515");
        assert_eq!(pairs[1].local, None);
    }

    #[test]
    fn damaged_answers_are_read_as_far_as_they_go() {
        let whole = answer();
        for end in 0..whole.len() {
            let mut pairs = Vec::new();
            read_pairs("rxe0", &whole[..end], &mut pairs);
            assert!(pairs.is_empty(), "the list's own length no longer holds: {end}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            read_pairs("rxe0", &bytes, &mut Vec::new());
            add_addresses(&bytes, &mut []);
        }
        assert_eq!(read_address(&[2, 0, 1]), None);
    }

    #[test]
    fn a_machine_without_rdma_has_no_queue_pairs() {
        // With RDMA this asks for real; either way it is no error.
        queue_pairs().unwrap();
    }
}
