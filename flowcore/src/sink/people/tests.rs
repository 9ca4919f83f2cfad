use super::super::sample_host::{event, process, snapshot, time, written};
use super::super::{Existing, Format, open_host};
use super::*;
use crate::host::SocketState;
use crate::record::{AlertRecord, ProcessChange, Rule};

#[test]
fn a_snapshot_with_processes_and_a_warning() {
    let sockets = snapshot();
    let mut records: Vec<_> = sockets.iter().map(Record::Socket).collect();
    let python = process(7821, "/usr/bin/python3.12", &["python3", "-c", "x\x1b[2J"]);
    let python = ProcessRecord { timestamp: time(), change: ProcessChange::Present, process: python };
    records.push(Record::Process(&python));
    let alert = AlertRecord {
        timestamp: time(),
        rule: Rule::UnexpectedListener,
        compared_with: "before.jsonl".to_owned(),
        message: "Unexpected listener on TCP port 31337".to_owned(),
        socket: sockets[2].clone(),
    };
    records.push(Record::Alert(&alert));
    let text = written("t", HostRecords::Sockets, Format::Table, &records);
    let container = "7f3c7f3c7f3c";
    assert_eq!(
        text,
        format!(
            "2026-03-02 21:12:04 UTC: 4 listening or bound, 2 connected\n\
             PROTO   STATE        LOCAL               REMOTE               PROCESS          PID  USER  CONTAINER\n\
             TCPv6   LISTEN       [::]:443            -                    nginx (+4)      3102  seb   {container}\n\
             TCP     LISTEN       0.0.0.0:31337       -                    python3.12      7821  seb\n\
             UDP     UNCONN       127.0.0.53:53       -                    -                  -  101\n\
             RAW     UNCONN ICMP  0.0.0.0             -                    -                  -  0\n\
             TCPv6   ESTABLISHED  [2001:db8::1]:443   [2001:db8::2]:50000  nginx           3102  seb   {container}\n\
             TCP     ESTABLISHED  192.168.1.10:54900  185.220.101.5:4444   python3.12      7821  seb\n\
             \n\
             PROCESS          PID  USER  CHANGE   STARTED (UTC)        COMMAND\n\
             python3.12      7821  seb   present  2026-03-02 19:45:00  python3 -c x\\u001b[2J\n\
             \n\
             WARNING: Unexpected listener on TCP port 31337\n"
        )
    );
}

#[test]
fn changes_have_a_column_and_snapshots_a_gap() {
    let mut closing = snapshot().remove(0);
    closing.change = Change::Changed;
    closing.previous_state = Some(SocketState::Established);
    closing.socket.state = SocketState::CloseWait;
    let later = SocketRecord { timestamp: time().saturating_add_nanos(5_000_000_000), ..closing.clone() };
    let records = [Record::Socket(&closing), Record::Socket(&later)];
    let text = written("t", HostRecords::Sockets, Format::Table, &records);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[0], "2026-03-02 21:12:04 UTC");
    assert!(lines[1].starts_with("CHANGE   PROTO "));
    assert!(lines[2].starts_with("changed  TCP     CLOSE_WAIT (was ESTABLISHED)  192.168.1.10:54900  "));
    assert_eq!((lines[3], lines[4]), ("", "2026-03-02 21:12:09 UTC"));
}

#[test]
fn events_stand_under_one_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let mut sink =
        open_host(HostRecords::Events, path.to_str().unwrap(), Format::Table, &Existing::Refuse.into())
            .unwrap();
    for _ in 0..2 {
        sink.write(Record::Event(&event())).unwrap();
        sink.flush().unwrap();
    }
    sink.finish().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("TIME (UTC)               EVENT      LOCAL"));
    assert!(lines[1].starts_with("2026-03-02 21:12:04.250  Establish  [2a00:1370:"));
    assert!(lines[1].ends_with("  [2a00:1450:4010:c01::64]:80  wget             2274372  seb"));
    assert_eq!(lines[1], lines[2]);
}

#[test]
fn what_has_no_place_is_refused() {
    let mut sink =
        open_host(HostRecords::Sockets, "/dev/null", Format::Table, &Existing::Append.into()).unwrap();
    assert!(!sink.takes(Record::Event(&event())));
    assert!(matches!(sink.write(Record::Event(&event())), Err(Error::Option(_))));
}

#[test]
fn counters_and_routes_as_netstat_shows_them() {
    use crate::host::counters::{InterfaceCounters, NetworkStats, ProtocolCounters};
    use crate::host::route::{Route, RouteKind};
    use crate::record::{NetworkStatsRecord, RouteRecord};

    let timestamp = time();
    let eth0 = InterfaceCounters {
        interface: "eth0".to_owned(),
        received_bytes: 1_234_567,
        received_packets: 89,
        sent_dropped: 3,
        ..Default::default()
    };
    let counters = vec![("ActiveOpens".to_owned(), 7), ("EstabResets".to_owned(), 0)];
    let tcp = ProtocolCounters { protocol: "Tcp".to_owned(), counters };
    let stats = [NetworkStats::Interface(eth0), NetworkStats::Protocol(tcp)]
        .map(|stats| NetworkStatsRecord { timestamp, stats });
    let route = |destination: &str, prefix_length, gateway: Option<&str>, kind| RouteRecord {
        timestamp,
        route: Route {
            destination: destination.parse().unwrap(),
            prefix_length,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            interface: Some("eth0".to_owned()),
            source: None,
            metric: 1024,
            table: 254,
            kind,
            protocol: 3,
        },
    };
    let routes = [
        route("0.0.0.0", 0, Some("192.0.2.1"), RouteKind::Unicast),
        route("192.0.2.7", 32, None, RouteKind::Local),
        route("2001:db8::", 64, None, RouteKind::Unicast),
    ];
    let records: Vec<_> =
        stats.iter().map(Record::NetworkStats).chain(routes.iter().map(Record::Route)).collect();
    let text = written("t", HostRecords::Sockets, Format::Table, &records);
    assert_eq!(
        text,
        "\
INTERFACE         RECEIVED     PACKETS   ERRORS   DROPPED            SENT     PACKETS   ERRORS   DROPPED
eth0               1234567          89        0         0               0           0        0         3

PROTOCOL    COUNTER                          VALUE
Tcp         ActiveOpens                          7

DESTINATION         GATEWAY          INTERFACE   METRIC  TABLE  KIND
default             192.0.2.1        eth0          1024    254  unicast
2001:db8::/64       -                eth0          1024    254  unicast
"
    );
}
