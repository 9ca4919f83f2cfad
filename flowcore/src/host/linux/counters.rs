//! The counters that the kernel shows in `/proc/net`.

use std::fs;
use std::io;
use std::path::Path;

use crate::host::counters::{InterfaceCounters, NetworkStats, ProtocolCounters};

/// Reads the counters of all protocols and interfaces of the calling thread's network namespace; `proc` is where the
/// file system of processes is, mostly `/proc`.
///
/// # Errors
/// When the counters of IPv4 or those of the interfaces cannot be read; others may be missing, as IPv6 may be.
pub fn network_stats(proc: &Path) -> io::Result<Vec<NetworkStats>> {
    let folder = net_folder(proc);
    // The name of an interface need not be UTF-8.
    let read = |name| fs::read(folder.join(name)).map(|text| String::from_utf8_lossy(&text).into_owned());
    let mut protocols = tables(&read("snmp")?);
    protocols.extend(list(&read("snmp6").unwrap_or_default()));
    protocols.extend(tables(&read("netstat").unwrap_or_default()));
    let interfaces = interfaces(&read("dev")?);
    let protocols = protocols.into_iter().map(NetworkStats::Protocol);
    Ok(protocols.chain(interfaces.into_iter().map(NetworkStats::Interface)).collect())
}

/// Returns the folder of the calling thread's network namespace, which may differ from the process's.
pub(super) fn net_folder(proc: &Path) -> std::path::PathBuf {
    let own = proc.join("thread-self/net");
    if own.exists() { own } else { proc.join("net") }
}

/// Reads `snmp` and `netstat`: for each protocol a line of names and a line of values.
fn tables(text: &str) -> Vec<ProtocolCounters> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut tables = Vec::new();
    while let (Some((protocol, names)), Some((again, values))) = (lines.next(), lines.next()) {
        if protocol != again {
            break;
        }
        let pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        let counters = pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        tables.push(ProtocolCounters { protocol: protocol.to_owned(), counters: counters.collect() });
    }
    tables
}

/// Reads `snmp6`: a line for each counter, whose name begins with its protocol: `Icmp6InMsgs`.
fn list(text: &str) -> Vec<ProtocolCounters> {
    let mut tables: Vec<ProtocolCounters> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) else { continue };
        let Some(end) = name.find('6') else { continue };
        let (protocol, counter) = name.split_at(end + 1);
        match tables.last_mut().filter(|table| table.protocol == protocol) {
            Some(table) => table.counters.push((counter.to_owned(), value)),
            None => tables.push(ProtocolCounters {
                protocol: protocol.to_owned(),
                counters: vec![(counter.to_owned(), value)],
            }),
        }
    }
    tables
}

/// Reads `dev`: two lines of headings, then a line for each interface.
fn interfaces(text: &str) -> Vec<InterfaceCounters> {
    text.lines().skip(2).filter_map(interface).collect()
}

fn interface(line: &str) -> Option<InterfaceCounters> {
    let (name, numbers) = line.rsplit_once(':')?;
    let numbers: Result<Vec<u64>, _> = numbers.split_ascii_whitespace().map(str::parse).collect();
    let numbers = numbers.ok().filter(|numbers| numbers.len() >= 12)?;
    let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
    // bytes packets errs drop fifo frame compressed multicast, then the same four and others for what was sent
    Some(InterfaceCounters {
        interface: name.trim_start().to_owned(),
        received_bytes: number(0),
        received_packets: number(1),
        received_errors: number(2),
        received_dropped: number(3),
        received_multicast: number(7),
        sent_bytes: number(8),
        sent_packets: number(9),
        sent_errors: number(10),
        sent_dropped: number(11),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn fixture() -> Vec<NetworkStats> {
        network_stats(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/proc")).unwrap()
    }

    fn counter(stats: &[NetworkStats], protocol: &str, name: &str) -> Option<u64> {
        let table = stats.iter().find_map(|stats| match stats {
            NetworkStats::Protocol(table) if table.protocol == protocol => Some(table),
            _ => None,
        })?;
        table.counters.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    #[test]
    fn protocols() {
        let stats = fixture();
        assert_eq!(counter(&stats, "Ip", "InReceives"), Some(5032776));
        assert_eq!(counter(&stats, "IcmpMsg", "OutType3"), Some(66));
        assert_eq!(counter(&stats, "Tcp", "RtoMax"), Some(120_000));
        assert_eq!(counter(&stats, "Tcp", "MaxConn"), None, "-1 stands for none");
        assert_eq!(counter(&stats, "Udp", "OutDatagrams"), Some(1201));
        assert_eq!(counter(&stats, "Ip6", "InReceives"), Some(41));
        assert_eq!(counter(&stats, "Icmp6", "OutType135"), Some(2));
        assert_eq!(counter(&stats, "Udp6", "InDatagrams"), Some(5));
        assert_eq!(counter(&stats, "UdpLite6", "OutDatagrams"), Some(0));
        assert_eq!(counter(&stats, "TcpExt", "TCPTimeouts"), Some(4));
        assert_eq!(counter(&stats, "IpExt", "InOctets"), Some(7_073_599_840));
        let names = stats.iter().filter_map(|stats| match stats {
            NetworkStats::Protocol(table) => Some(table.protocol.as_str()),
            NetworkStats::Interface(_) => None,
        });
        let expected = "Ip Icmp IcmpMsg Tcp Udp UdpLite Ip6 Icmp6 Udp6 UdpLite6 TcpExt IpExt";
        assert_eq!(names.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn interfaces_each_way() {
        let found: Vec<_> = fixture()
            .into_iter()
            .filter_map(|stats| match stats {
                NetworkStats::Interface(counters) => Some(counters),
                NetworkStats::Protocol(_) => None,
            })
            .collect();
        let [lo, eth0] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((lo.interface.as_str(), lo.received_bytes, lo.sent_bytes), ("lo", 6234779435, 6234779435));
        let expected = InterfaceCounters {
            interface: "eth0".to_owned(),
            received_bytes: 838820405,
            received_packets: 600405,
            received_errors: 1,
            received_dropped: 2,
            received_multicast: 3,
            sent_bytes: 2114906,
            sent_packets: 23904,
            sent_errors: 4,
            sent_dropped: 5,
        };
        assert_eq!(*eth0, expected);
    }

    #[test]
    fn an_interface_of_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let net = folder.path().join("net");
        fs::create_dir(&net).unwrap();
        fs::write(net.join("snmp"), "Ip: A\nIp: 1\n").unwrap();
        fs::write(
            net.join("dev"),
            b"a\nb\n \xff\x1b: 1 2 3 4 5 6 7 8 9 10 11 12\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12\n",
        )
        .unwrap();
        let stats = network_stats(folder.path()).unwrap();
        let names = stats.iter().filter_map(|stats| match stats {
            NetworkStats::Interface(counters) => Some(counters.interface.as_str()),
            NetworkStats::Protocol(_) => None,
        });
        assert_eq!(names.collect::<Vec<_>>(), ["\u{fffd}\x1b", "eth0"]);
    }

    #[test]
    fn nonsense_is_left_out() {
        assert!(tables("Ip: A B\nTcp: 1 2\n").is_empty());
        assert!(tables("Ip: A B\n").is_empty());
        assert_eq!(tables("Ip: A B\nIp: 1\n")[0].counters, [("A".to_owned(), 1)]);
        assert!(list("Ip6\nnothing 5\nIp6X minus\n").is_empty());
        assert!(interfaces("a\nb\n eth0: 1 2 3\n eth1: 1 2 3 4 5 6 7 8 9 10 11 x\nno colon\n").is_empty());
    }

    #[test]
    fn this_machine() {
        let stats = network_stats(Path::new("/proc")).unwrap();
        assert!(counter(&stats, "Ip", "DefaultTTL").is_some_and(|ttl| ttl > 0));
        let is_lo =
            |stats: &NetworkStats| matches!(stats, NetworkStats::Interface(lo) if lo.interface == "lo");
        assert!(stats.iter().any(is_lo));
    }
}
