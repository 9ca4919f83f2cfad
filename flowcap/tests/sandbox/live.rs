//! Live capture in the sandbox: as another user, while interfaces go and come.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::cable::{Cable, LINK, records, text};
use crate::can_be_had;

/// CAP_NET_RAW, as /proc shows it.
const NET_RAW: &str = "0000000000002000";
/// CAP_DAC_READ_SEARCH, CAP_NET_RAW, CAP_SYS_PTRACE.
const LOOKUPS: &str = "0000000000082004";
const NONE: &str = "0000000000000000";

#[test]
fn nobody_captures_every_packet() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let flowcap = cable.listen(&["-i", LINK, "-Z", "nobody", "--sandbox", "require"]);
    every_thread_is_confined(flowcap.id(), 4, "65534", NET_RAW);
    every_thread_is_confined(lookups(flowcap.id()), 3, "65534", LOOKUPS);
    assert_eq!(cable.burst(20_000), 20_000);
    sleep(Duration::from_secs(1));
    let finished = flowcap.stop("INT");
    let packets = finished.records().iter().filter_map(|record| record["packets"].as_u64()).sum::<u64>();
    assert_eq!(packets, 20_000, "{}", finished.stderr);
    let line = "sandbox: user nobody, Landlock ";
    assert!(
        finished.stderr.contains(line) && finished.stderr.contains("capabilities: cap_net_raw"),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_interface_that_comes_back_is_opened_again() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let folder = cable.folder.path().join("log");
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("flows.jsonl");
    let line = ["-i", LINK, "-Z", "nobody", "--sandbox", "require", "-f", "udp or tcp", "-o", text(&file)];
    let flowcap = cable.listen(&line);
    let mut sent = cable.send("udp_entropy.pcap");
    sleep(Duration::from_millis(500));
    let delete = ["link", "delete", LINK];
    assert!(cable.start(&cable.near, "ip", &delete).finish().status.success());
    sleep(Duration::from_millis(500));
    cable.join(LINK).expect("a link");
    sleep(Duration::from_secs(2));
    sent += cable.send("udp_entropy.pcap");
    sleep(Duration::from_millis(500));
    let finished = flowcap.stop("TERM");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let flows = fs::read_to_string(&file).expect("a file");
    let packets = flows
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON")["packets"].as_u64());
    assert_eq!(packets.sum::<u64>(), sent, "{flows} {}", finished.stderr);
}

#[test]
fn root_keeps_its_name_only() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    // What root gets without being asked.
    let flowcap = cable.listen(&["-i", LINK]);
    every_thread_is_confined(flowcap.id(), 4, "0", NET_RAW);
    every_thread_is_confined(lookups(flowcap.id()), 3, "0", LOOKUPS);
    assert!(flowcap.stop("INT").stderr.contains("sandbox: Landlock"));
}

/// Who starts it again keeps what it passes on, and nothing else.
#[test]
fn who_keeps_the_process_of_lookups_has_no_more_than_that() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    for (user, uid) in [(&["-Z", "nobody"][..], "65534"), (&[], "0")] {
        let flowcap = cable.listen(&[&["-i", LINK, "--sandbox", "require"], user].concat());
        let status = fs::read_to_string(format!("/proc/{}/status", child(flowcap.id()))).expect("a status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.expect("a field").split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!((field("Uid"), field("NoNewPrivs")), (vec![uid; 4], vec!["1"]), "{status}");
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(field(set), [LOOKUPS], "{status}");
        }
        assert_eq!(flowcap.stop("INT").status.code(), Some(0));
    }
}

#[test]
fn a_process_of_lookups_that_is_gone_for_good_costs_names_only() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let flowcap = cable.listen(&["-i", LINK, "--sandbox", "require"]);
    let both = format!("kill -KILL {} {}", child(flowcap.id()), lookups(flowcap.id()));
    assert!(Command::new("sh").args(["-c", &both]).status().expect("a shell").success());
    let sent = cable.send("tcp_whole.pcap");
    sleep(Duration::from_millis(500));
    let finished = flowcap.stop("INT");
    assert_eq!(finished.status.code(), Some(70), "{}", finished.stderr);
    assert!(finished.stderr.contains("the process that looks up sockets: signal: 9"), "{}", finished.stderr);
    let at_once = "the process that looks up sockets has ended; it is missing until flowcap is started again";
    assert!(finished.stderr.contains(at_once), "{}", finished.stderr);
    let packets =
        records(&finished.stdout).iter().filter_map(|record| record["packets"].as_u64()).sum::<u64>();
    assert_eq!(packets, sent);
}

#[test]
fn a_signal_to_all_processes_ends_them_in_order() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let file = cable.folder.path().join("sockets.jsonl.gz");
    let flowcap = cable.listen(&["-i", LINK, "--sandbox", "require", "--write-sockets", text(&file)]);
    let (keeper, lookups) = (child(flowcap.id()), lookups(flowcap.id()));
    // As a terminal and a service manager do it.
    let both = format!("kill -INT {lookups} {keeper}; sleep 0.2; kill -INT {}", flowcap.id());
    assert!(Command::new("sh").args(["-c", &both]).status().expect("a shell").success());
    let finished = flowcap.finish();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(file.exists());
    assert!([lookups, keeper].iter().all(|one| !Path::new(&format!("/proc/{one}")).exists()));
}

/// Finds the process that looks sockets up: the child of the one that starts it again.
fn lookups(flowcap: u32) -> u32 {
    child(child(flowcap))
}

/// Finds the process that another one has started.
fn child(parent: u32) -> u32 {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |number: &u32| {
        let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    numbers.find(is_child).expect("a process")
}

/// Looks at all threads of a running process: user, capabilities, no new privileges, seccomp.
fn every_thread_is_confined(process: u32, at_least: usize, uid: &str, effective: &str) {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    let threads: Vec<_> = threads.map(|thread| thread.expect("a thread").path()).collect();
    assert!(threads.len() >= at_least, "{threads:?}");
    for thread in threads {
        let status = fs::read_to_string(thread.join("status")).expect("a status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{name} in {status}")).split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(field("Uid"), [uid; 4], "{status}");
        assert_eq!(field("Gid"), [uid; 4], "{status}");
        assert_eq!((field("CapEff"), field("CapPrm")), (vec![effective], vec![effective]), "{status}");
        assert_eq!((field("CapInh"), field("CapAmb")), (vec![NONE], vec![NONE]), "{status}");
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), (vec!["1"], vec!["2"]), "{status}");
    }
}

#[test]
fn metrics_are_answered_from_inside() {
    if !can_be_had() {
        return;
    }
    let Some(cable) = Cable::lay() else { return };
    let program =
        cable.listen(&["-i", LINK, "--sandbox", "require", "--metrics", "127.0.0.1:9464", "-o", "/dev/null"]);
    let ask = "import urllib.request as r\nprint(r.urlopen('http://127.0.0.1:9464/metrics').read().decode())";
    let up = ["link", "set", "lo", "up"];
    assert!(cable.start(&cable.far, "ip", &up).finish().status.success());
    let answer = cable.start(&cable.far, "python3", &["-c", ask]).finish();
    assert!(answer.stdout.contains("flowcap_packets_total "), "{} {}", answer.stdout, answer.stderr);
    let finished = program.stop("INT");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}
