//! Live capture in the sandbox: as another user, while interfaces go and come.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::cable::{Cable, LINK, records, text};
use crate::can_be_had;
use crate::processes::{family, kill};
use crate::roles::are_confined;

#[test]
fn nobody_captures_every_packet() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let mut flowcap = cable.listen(&["-i", LINK, "-Z", "nobody", "--sandbox", "require"]);
    are_confined(&mut flowcap, &["lookups"], "65534");
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
    let mut flowcap = cable.listen(&["-i", LINK]);
    are_confined(&mut flowcap, &["lookups"], "0");
    assert!(flowcap.stop("INT").stderr.contains("sandbox: Landlock"));
}

#[test]
fn a_process_of_lookups_that_is_gone_for_good_costs_names_only() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let flowcap = cable.listen(&["-i", LINK, "--sandbox", "require"]);
    kill("KILL", &family(flowcap.id())[1..]);
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
    let beside = family(flowcap.id()).split_off(1);
    // As a terminal and a service manager do it.
    kill("INT", &beside);
    sleep(Duration::from_millis(200));
    let finished = flowcap.stop("INT");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(file.exists());
    assert_eq!(beside.len(), 2);
    assert!(beside.iter().all(|one| !Path::new(&format!("/proc/{one}")).exists()));
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
