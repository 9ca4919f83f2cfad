//! Captures live: namespaces, a cable, and traffic of captures or of real programs. Needs root, `ip`, `nft` and python3;
//! without them each test says SKIPPED, and with CI_REQUIRE_LIVE=1 it fails instead.
#![cfg(feature = "live")]

// What other tests need and these do not.
#[allow(dead_code)]
mod cable;
mod faults;
mod recorded;
mod ticks;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cable::{Cable, FAR, LINK, NEAR, records, testdata, text};
use serde_json::Value;

/// How long packets may stay in the kernel: those that are still there when flowcap is stopped are not read.
const SETTLE: Duration = Duration::from_millis(500);

/// Captures in which no record depends on how much time passes between packets.
const TIMELESS: &[&str] = &[
    "dns.pcap",
    "dns_damaged.pcap",
    "dns_tcp.pcap",
    "dns_udp.pcap",
    "fragments.pcap",
    "http.pcap",
    "http_ipv6.pcap",
    "icmp_messages.pcap",
    "ip_headers.pcap",
    "ping.pcap",
    "ssh.pcap",
    "tcp_ends.pcap",
    "tcp_loss.pcap",
    "tcp_midstream.pcap",
    "tcp_scan.pcap",
    "tcp_whole.pcap",
    "tls.pcap",
    "tunnels.pcap",
    "udp_direction.pcap",
    "udp_entropy.pcap",
    "vlan_tags.pcap",
];

#[test]
fn live_records_are_those_of_the_replay() {
    let Some(cable) = Cable::lay() else { return };
    for capture in TIMELESS {
        let path = testdata().join("captures").join(capture);
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
        let replay = command.args(["--quiet", "--fields", "@all", "--read", text(&path)]).output();
        let replay = records(&String::from_utf8(replay.expect("flowcap runs").stdout).expect("UTF-8"));
        let count = packets(&replay);

        let flowcap = cable.listen(&["-i", LINK, "--fields", "@all", "-c", &count.to_string()]);
        assert_eq!(cable.send(capture), count, "{capture}");
        let finished = flowcap.finish();
        let live = finished.records();
        assert_eq!(packets(&live), count, "{capture}: {}", finished.stderr);
        assert!(live.iter().all(|record| record["interface"] == LINK), "{capture}");
        assert_eq!(timeless(&live), timeless(&replay), "{capture}");
    }
}

fn packets(records: &[Value]) -> u64 {
    records.iter().filter_map(|record| record["packets"].as_u64()).sum()
}

/// The records without their times and what follows from times, in an order that does not depend on them.
fn timeless(records: &[Value]) -> Vec<String> {
    let mut lines: Vec<_> = records.iter().map(|record| without_times(record.clone()).to_string()).collect();
    lines.sort();
    lines
}

fn without_times(mut record: Value) -> Value {
    if let Some(fields) = record.as_object_mut() {
        let times = ["timestamp", "end", "duration", "flow_id", "interface", "flow_end_reason"];
        fields.retain(|name, _| !times.contains(&name.as_str()) && !name.ends_with("_us"));
        if fields.get("end_reason").is_some_and(|reason| reason == "eof") {
            fields.insert("end_reason".into(), "shutdown".into());
        }
        for transaction in fields.get_mut("dns").and_then(Value::as_array_mut).into_iter().flatten() {
            transaction.as_object_mut().and_then(|transaction| transaction.remove("rtt_us"));
        }
    }
    record
}

#[test]
fn a_web_server_and_its_client() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.listen(&["-i", LINK, "--fields", "@all"]);
    let mut server = cable.talk(&cable.far, &["http-server", FAR, "80"]);
    server.wait_until_it_prints();
    let client = cable.talk(&cable.near, &["http-client", FAR, "80"]).finish();
    let said: Value = serde_json::from_str(&client.stdout).unwrap_or_else(|_| panic!("{}", client.stderr));
    server.finish();
    sleep(SETTLE);

    let records = flowcap.stop("INT").records();
    let [record] = records.as_slice() else { panic!("one flow: {records:?}") };
    assert_eq!(record["src_ip"], NEAR);
    assert_eq!(record["dst_ip"], FAR);
    assert_eq!(record["src_port"], said["port"]);
    assert_eq!(record["dst_port"], 80);
    assert_eq!(record["protocol"], "TCP");
    assert_eq!(record["app"], "http");
    assert_eq!(record["src_payload_bytes"], said["sent"]);
    assert_eq!(record["dst_payload_bytes"], said["received"]);
    assert_eq!(record["flags"], "SAP--F");
    assert_eq!(record["tcp_state"], "SF");
    assert_eq!(record["end_reason"], "fin");
    assert!(record["history"].as_str().is_some_and(|history| history.starts_with("ShAD")), "{record}");
    assert!(record["packets"].as_u64().is_some_and(|packets| packets >= 8), "{record}");
    assert!(record["rtt_us"].as_f64().is_some_and(|rtt| rtt > 0.0 && rtt < 1e6), "{record}");
}

#[test]
fn a_name_server_and_its_client() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.listen(&["-i", LINK, "--fields", "@all"]);
    let mut server = cable.talk(&cable.far, &["dns-server", FAR, "2"]);
    server.wait_until_it_prints();
    let client = cable.talk(&cable.near, &["dns-client", FAR, "www.example.com", "example.org"]).finish();
    let said: Value = serde_json::from_str(&client.stdout).unwrap_or_else(|_| panic!("{}", client.stderr));
    server.finish();
    sleep(SETTLE);

    let records = flowcap.stop("INT").records();
    let [record] = records.as_slice() else { panic!("one flow: {records:?}") };
    assert_eq!(record["src_port"], said["port"]);
    assert_eq!(record["dst_port"], 53);
    assert_eq!(record["app"], "dns");
    assert_eq!(record["src_packets"], 2);
    assert_eq!(record["dst_packets"], 2);
    assert_eq!(record["src_payload_bytes"], said["sent"]);
    assert_eq!(record["dst_payload_bytes"], said["received"]);
    assert_eq!(record["history"], "Dd");
    assert_eq!(record["dns_query"], "www.example.com");
    assert_eq!(record["dns"][1]["query"], "example.org");
    assert_eq!(record["dns"][1]["answers"][0]["data"], "203.0.113.7");
    assert_eq!(record["end_reason"], "shutdown");
}

#[test]
fn the_device_any_hears_every_interface() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.listen(&["-i", "any"]);
    let sent = cable.send("tcp_whole.pcap");
    sleep(SETTLE);
    let records = flowcap.stop("INT").records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["packets"], sent);
    assert_eq!(records[0]["history"], "ShADadFf");
}

#[test]
fn a_filter_lets_only_its_packets_through() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.listen(&["-i", LINK, "-f", "udp port 53 and host 192.0.2.10"]);
    cable.send("tcp_whole.pcap");
    let sent = cable.send("dns_udp.pcap");
    sleep(SETTLE);
    let records = flowcap.stop("INT").records();
    assert!(records.iter().all(|record| record["dst_port"] == 53), "{records:?}");
    assert_eq!(packets(&records), sent);
}

#[test]
fn a_count_ends_the_capture() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.listen(&["-i", LINK, "-c", "5"]);
    cable.send("tcp_whole.pcap");
    let records = flowcap.finish().records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["packets"], 5);
}

#[test]
fn a_duration_ends_the_capture_of_a_quiet_link() {
    let Some(cable) = Cable::lay() else { return };
    let start = Instant::now();
    let flowcap = cable.listen(&["-i", LINK, "--duration", "1s"]);
    assert_eq!(flowcap.finish().records().len(), 0);
    let lasted = start.elapsed();
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(4), "{lasted:?}");
}

#[test]
fn open_flows_are_written_when_it_is_terminated() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.listen(&["-i", LINK]);
    let sent = cable.send("tcp_midstream.pcap");
    sleep(SETTLE);
    let start = Instant::now();
    let records = flowcap.stop("TERM").records();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["packets"], sent);
    assert_eq!(records[0]["end_reason"], "shutdown");
}

#[test]
fn a_flow_of_a_quiet_link_is_written_when_it_is_due() {
    let Some(cable) = Cable::lay() else { return };
    let mut flowcap = cable.listen(&["-i", LINK, "--idle-timeout", "1s"]);
    let before = Instant::now();
    cable.send("snaplen.pcap");
    let after = Instant::now();
    flowcap.wait_until_it_prints();
    assert!(before.elapsed() >= Duration::from_secs(1), "too early: {:?}", before.elapsed());
    assert!(after.elapsed() <= Duration::from_secs(2), "too late: {:?}", after.elapsed());
    let records = flowcap.stop("INT").records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["end_reason"], "idle");
}

#[test]
fn a_file_grows_while_flows_end_and_is_whole_at_the_end() {
    let Some(cable) = Cable::lay() else { return };
    let file = cable.folder.path().join("flows.jsonl");
    let mut flowcap = cable.listen(&["-i", LINK, "--idle-timeout", "1s", "-o", text(&file)]);
    cable.send("udp_entropy.pcap");
    let lines = || fs::read_to_string(&file).unwrap_or_default().lines().count();
    flowcap.wait_until("four flows are written", || lines() == 4);
    cable.send("tcp_midstream.pcap");
    sleep(SETTLE);
    assert_eq!(flowcap.stop("TERM").status.code(), Some(0));
    assert_eq!(records(&fs::read_to_string(&file).expect("the file")).len(), 5);
}

#[test]
fn an_interface_that_does_not_exist() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.start(&cable.far, env!("CARGO_BIN_EXE_flowcap"), &["-i", "no-such-if"]).finish();
    assert_eq!(flowcap.status.code(), Some(66), "{}", flowcap.stderr);
    assert!(flowcap.stderr.contains("no-such-if"), "{}", flowcap.stderr);
    assert_eq!(flowcap.stdout, "");
}

#[test]
fn a_missing_permission_says_how_to_get_it() {
    let Some(cable) = Cable::lay() else { return };
    let flowcap = cable.as_nobody(&cable.far, &["-i", LINK]).finish();
    assert_eq!(flowcap.status.code(), Some(77), "{}", flowcap.stderr);
    assert!(flowcap.stderr.contains("setcap cap_net_raw"), "{}", flowcap.stderr);
}
