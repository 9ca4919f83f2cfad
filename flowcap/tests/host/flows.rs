//! Flow records with their processes: live, from a recording of sockets, and counted as the kernel counts.

use std::collections::HashMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use flowcore::host::{Destroyed, DestroyedSockets, NetNamespace, SocketKind};
use serde_json::Value;

use crate::cable::Finished;
use crate::{Machine, last_words, text};

/// How long packets may stay in the kernel: those that are still there when flowcap is stopped are not read.
const SETTLE: Duration = Duration::from_millis(500);

const SERVER: &str = r#"
call_me("the-server")
listeners = [listen("127.0.0.1", 80), listen("::", 8080)]
names = udp("127.0.0.1", 53)
say()
held = [listeners[0].accept()[0], listeners[1].accept()[0], listeners[1].accept()[0]]
for one in held:
    one.sendall(one.recv(100))
query, whence = names.recvfrom(100)
names.sendto(query, whence)
wait("end")
"#;

const CLIENT: &str = r#"
call_me("the-client")
held = [connect("127.0.0.1", 80), connect("::1", 8080), connect("127.0.0.1", 8080)]
asks = udp("127.0.0.1", to=("127.0.0.1", 53))
for one in [*held, asks]:
    one.sendall(b"hello")
    assert one.recv(100) == b"hello"
say(ports=[port(one) for one in [*held, asks]])
wait("end")
"#;

/// Protocol, address and port of the flows that the client opens.
const ASKED: [(&str, &str, u16); 4] =
    [("TCP", "127.0.0.1", 80), ("TCP", "::1", 8080), ("TCP", "127.0.0.1", 8080), ("UDP", "127.0.0.1", 53)];

#[test]
fn live_and_from_a_recording() {
    let Some(machine) = Machine::start() else { return };
    let path = machine.path("f.pcap");
    let (recorder, _) =
        machine.program("recorder", &format!("record('lo', {:?}, 'recorded')\n", text(&path)));
    let flowcap = machine.capture(&["-i", "lo", "--write-sockets", "{}s.jsonl", "-o", "{}live.jsonl"]);
    let (server, the_server) = machine.program("server", SERVER);
    let (client, the_client) = machine.program("client", CLIENT);
    sleep(SETTLE);
    machine.go("end");
    for program in [server, client] {
        assert_eq!(program.finish().status.code(), Some(0));
    }
    sleep(SETTLE);
    let live = flowcap.stop("INT");
    assert_eq!(live.status.code(), Some(0), "{}", live.stderr);
    machine.go("recorded");
    assert_eq!(recorder.finish().status.code(), Some(0));

    are_named(&machine.records("live.jsonl"), &the_client, &the_server);
    let replay = |shards: &str| -> Finished {
        machine.flowcap(&["-q", "-r", "{}f.pcap", "--sockets", "{}s.jsonl", "--shards", shards])
    };
    let first = replay("1");
    are_named(&first.records(), &the_client, &the_server);
    for shards in ["1", "3"] {
        assert_eq!(replay(shards).stdout, first.stdout, "{shards} shards");
    }
    // Anybody may do that, and anywhere; without the recording nobody is named.
    let elsewhere = machine.as_nobody(&["-q", "-r", "{}f.pcap", "--sockets", "{}s.jsonl"]);
    assert_eq!(elsewhere.stdout, first.stdout);
    let unnamed = machine.flowcap(&["-q", "-r", "{}f.pcap"]).records();
    assert!(unnamed.iter().all(|record| record["src_process"].is_null()), "{unnamed:#?}");
}

fn are_named(records: &[Value], client: &Value, server: &Value) {
    for (nth, (protocol, address, port)) in ASKED.into_iter().enumerate() {
        let is_it = |record: &&Value| {
            record["protocol"] == protocol
                && record["src_port"] == client["ports"][nth]
                && record["dst_port"] == port
                && record["dst_ip"] == address
        };
        let record = records.iter().find(is_it);
        let record = record.unwrap_or_else(|| panic!("{protocol} {address} {port}: {records:#?}"));
        for (end, who) in [("src_process", client), ("dst_process", server)] {
            assert_eq!(record[end]["pid"], who["pid"], "{end}: {record}");
            assert_eq!(record[end]["name"], who["name"], "{end}: {record}");
            assert_eq!(record[end]["exe"], who["exe"], "{end}: {record}");
        }
    }
}

#[test]
fn no_process_where_none_is_wanted() {
    let Some(machine) = Machine::start() else { return };
    let flowcap = machine.capture(&["-i", "lo", "--no-process"]);
    let (server, _) = machine.program("server", SERVER);
    let (client, _) = machine.program("client", CLIENT);
    machine.go("end");
    for program in [server, client] {
        assert_eq!(program.finish().status.code(), Some(0));
    }
    sleep(SETTLE);
    let records = flowcap.stop("INT").records();
    assert_eq!(records.len(), ASKED.len(), "{records:#?}");
    for record in records {
        let names = record.as_object().into_iter().flatten().map(|(name, _)| name);
        let of_owners: Vec<_> =
            names.filter(|name| name.ends_with("_process") || name.ends_with("_unattributed")).collect();
        assert!(of_owners.is_empty(), "{of_owners:?}");
    }
}

#[test]
fn flows_of_processes_that_may_not_be_looked_into() {
    let Some(machine) = Machine::start() else { return };
    for (nth, sandbox) in ["auto", "off"].into_iter().enumerate() {
        let without = ["--bounding-set=-sys_ptrace,-dac_read_search", env!("CARGO_BIN_EXE_flowcap")];
        let line = ["-i", "lo", "--sandbox", sandbox, "--stats", "-"];
        let flowcap = machine.cable.listen_through("setpriv", &[&without[..], &line].concat());
        let end = format!("wait(\"{nth}\")");
        let (server, _) = machine.program("server", &SERVER.replace("wait(\"end\")", &end));
        let (client, _) = machine.program("client", &CLIENT.replace("wait(\"end\")", &end));
        sleep(SETTLE);
        machine.go(&nth.to_string());
        for program in [server, client] {
            assert_eq!(program.finish().status.code(), Some(0));
        }
        sleep(SETTLE);
        let mut records = flowcap.stop("INT").records();
        let stats = records.pop().expect("a stats record");
        assert_eq!((stats["packets"].as_u64() > Some(0), records.len()), (true, ASKED.len()), "{records:#?}");
        for record in &records {
            for end in ["src", "dst"] {
                assert_eq!(record[format!("{end}_unattributed")], "eperm", "{sandbox}: {record}");
                assert!(record[format!("{end}_process")].is_null(), "{sandbox}: {record}");
            }
        }
        let counted = &stats["attribution"];
        assert_eq!(counted["unattributed"], serde_json::json!({"eperm": 2 * ASKED.len()}), "{counted}");
    }
}

/// Bytes up and down.
const SIZES: [(u64, u64); 6] = [(0, 0), (1, 0), (0, 1), (200_000, 17), (5, 300_000), (200_000, 300_000)];

#[test]
fn bytes_are_counted_as_the_kernel_counts_them() {
    let Some(machine) = Machine::start() else { return };
    let namespace =
        NetNamespace::open(Path::new("/run/netns").join(&machine.cable.far)).expect("a namespace");
    let mut kernel = namespace.enter(DestroyedSockets::open).expect("sock_diag");
    let flowcap = machine.capture(&["-i", "lo", "--fields", "@all"]);
    let sizes: Vec<_> = SIZES.iter().map(|(up, down)| format!("({up}, {down})")).collect();
    let sizes = sizes.join(", ");
    let (server, _) = machine.program(
        "server",
        &format!(
            "listeners = [listen('127.0.0.1', 80), listen('::1', 80)]\n\
             say()\n\
             for listener in listeners:\n\
             \x20   for up, down in [{sizes}]:\n\
             \x20       with listener.accept()[0] as one:\n\
             \x20           assert receive(one, 1 << 30) == up\n\
             \x20           one.sendall(bytes(down))\n"
        ),
    );
    let (client, _) = machine.program(
        "client",
        &format!(
            "say()\n\
             ports = []\n\
             for address in ['127.0.0.1', '::1']:\n\
             \x20   for up, down in [{sizes}]:\n\
             \x20       with connect(address, 80) as one:\n\
             \x20           ports.append(port(one))\n\
             \x20           one.sendall(bytes(up))\n\
             \x20           one.shutdown(socket.SHUT_WR)\n\
             \x20           assert receive(one, 1 << 30) == down\n\
             say(ports=ports)\n"
        ),
    );
    let ports: Vec<u64> =
        serde_json::from_value(last_words(&client.finish())["ports"].clone()).expect("ports");
    assert_eq!(server.finish().status.code(), Some(0));
    sleep(SETTLE);
    let records = flowcap.stop("INT").records();
    let mut told: HashMap<(u64, u64), Destroyed> = HashMap::new();
    while let Some(gone) = kernel.recv(Duration::from_millis(200)).expect("a notice") {
        let port = |end: Option<u16>| u64::from(end.unwrap_or_default());
        if let (SocketKind::Tcp, Some(remote)) = (gone.kind, gone.remote) {
            told.insert((port(gone.local.port), port(remote.port)), gone);
        }
    }
    assert_eq!((kernel.overruns(), kernel.damaged()), (0, 0));

    assert_eq!(ports.len(), 2 * SIZES.len());
    for (port, (up, down)) in ports.into_iter().zip(SIZES.into_iter().cycle()) {
        let record = records.iter().find(|record| record["src_port"] == port);
        let record = record.unwrap_or_else(|| panic!("no flow of port {port}: {records:#?}"));
        assert_eq!(record["tcp_state"], "SF", "{record}");
        for (end, ends, sent, received) in [("src", (port, 80), up, down), ("dst", (80, port), down, up)] {
            let gone = told.get(&ends).unwrap_or_else(|| panic!("the kernel told nothing of {ends:?}"));
            let tcp = gone.tcp.unwrap_or_else(|| panic!("no counters: {gone:?}"));
            // Where a window was closed for too long, something was sent again: the record counts what went by.
            let passed = sent + tcp.bytes_retransmitted;
            assert_eq!(record[format!("{end}_payload_bytes")], passed, "{gone:?} {record}");
            if tcp.bytes_retransmitted == 0 {
                assert_eq!(record[format!("{end}_retransmits")], 0, "{gone:?} {record}");
            }
            assert_eq!(tcp.payload_acked(), sent, "{gone:?}");
            // The other end's FIN may count as one.
            assert!((received..=received + 1).contains(&tcp.bytes_received), "{gone:?}");
        }
    }
}
