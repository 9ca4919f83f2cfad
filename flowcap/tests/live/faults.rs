//! What happens to interfaces, to the kernel's ring, to the way there and to those who read, while flowcap captures: it
//! goes on, and every packet is in a record or counted.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cable::{Cable, LINK, Program, records, skip, text};
use crate::packets;

#[test]
fn an_interface_that_goes_down_and_up() {
    let Some(cable) = Cable::lay() else { return };
    let mut flowcap = cable.listen(&["-i", LINK, "--no-process", "--idle-timeout", "300ms"]);
    // What the kernel holds when the interface goes down counts as well: so much is there when flowcap goes on.
    flowcap.signal("STOP");
    let mut sent = cable.send("http.pcap");
    ip(&cable, &cable.far, &["link", "set", LINK, "down"]);
    flowcap.signal("CONT");
    wait_for_packets(&mut flowcap, sent);
    ip(&cable, &cable.far, &["link", "set", LINK, "up"]);
    wait_for_capture(&mut flowcap, &cable, LINK);
    sent += cable.send("dns.pcap");
    wait_for_packets(&mut flowcap, sent);
    assert_eq!(packets(&flowcap.stop("INT").records()), sent);
}

#[test]
fn an_interface_that_is_deleted_and_made_again() {
    let Some(cable) = Cable::lay() else { return };
    let mut flowcap = cable.listen(&["-i", LINK, "--no-process", "--idle-timeout", "300ms"]);
    // Deleted at once, and while it is down.
    for down_first in [false, true] {
        let mut sent = packets(&whole(&flowcap.stdout)) + 20;
        if down_first {
            assert_eq!(cable.burst(20), 20);
            ip(&cable, &cable.far, &["link", "set", LINK, "down"]);
            wait_for_packets(&mut flowcap, sent);
            ip(&cable, &cable.near, &["link", "delete", LINK]);
        } else {
            // What came last counts as well, though the kernel has not handed it over yet.
            let parting = cable.start(&cable.near, "python3", &["-c", PARTING, LINK]).finish();
            assert!(parting.status.success(), "{}", parting.stderr);
            wait_for_packets(&mut flowcap, sent);
        }
        wait_for_log(&mut flowcap, "wire0 is gone", if down_first { 2 } else { 1 });
        let before = ticks(&flowcap);
        sleep(Duration::from_secs(2));
        // 1 % of two seconds are 2 ticks; looking without a rest takes some 200, beside other work some dozens.
        let took = ticks(&flowcap) - before;
        println!("{took} ticks");
        assert!(took <= 10, "{took} ticks in two seconds of nothing to do");
        cable.join(LINK).expect("a link");
        wait_for_capture(&mut flowcap, &cable, LINK);
        sent += cable.send("dns.pcap");
        wait_for_packets(&mut flowcap, sent);
    }
    wait_for_log(&mut flowcap, "wire0 is back", 2);
    assert_eq!(flowcap.stop("INT").status.code(), Some(0));
}

#[test]
fn one_of_two_interfaces_goes_away() {
    const OTHER: &str = "wire1";
    let Some(cable) = Cable::lay() else { return };
    cable.join(OTHER).expect("a second link");
    let line = ["-i", LINK, "-i", OTHER, "--no-process", "--idle-timeout", "300ms"];
    let mut flowcap = cable.listen(&line);
    wait_for_capture(&mut flowcap, &cable, OTHER);
    let (mut here, mut there) = (cable.send("http.pcap"), cable.send_through(OTHER, "ssh.pcap"));
    wait_for_packets(&mut flowcap, here + there);
    ip(&cable, &cable.near, &["link", "delete", OTHER]);
    here += cable.send("dns.pcap");
    wait_for_packets(&mut flowcap, here + there);
    cable.join(OTHER).expect("a second link");
    wait_for_capture(&mut flowcap, &cable, OTHER);
    here += cable.send("tls.pcap");
    there += cable.send_through(OTHER, "dns_tcp.pcap");
    wait_for_packets(&mut flowcap, here + there);
    let (of_here, of_there): (Vec<_>, Vec<_>) =
        flowcap.stop("INT").records().into_iter().partition(|record| record["interface"] == LINK);
    assert_eq!((packets(&of_here), packets(&of_there)), (here, there));
    assert!(of_there.iter().all(|record| record["interface"] == OTHER));
}

#[test]
fn what_finds_no_room_in_the_ring_is_counted() {
    let Some(cable) = Cable::lay() else { return };
    for (buffer, sent, fits) in [("64MiB", 2_000, true), ("512KiB", 20_000, false)] {
        let stats = cable.folder.path().join(format!("{buffer}.jsonl"));
        let mut flowcap = cable.listen(&[
            "-i",
            LINK,
            "--no-process",
            "--buffer",
            buffer,
            "--stats",
            text(&stats),
            "--stats-interval",
            "100ms",
        ]);
        flowcap.signal("STOP");
        assert_eq!(cable.burst(sent), sent);
        flowcap.signal("CONT");
        flowcap.wait_until("every packet is accounted for", || {
            let now = counters(&stats);
            now["packets"]
                .as_u64()
                .zip(now["kernel_dropped"].as_u64())
                .is_some_and(|(read, lost)| read + lost == sent)
        });
        if !fits {
            wait_for_log(&mut flowcap, "dropped by the kernel", 1);
        }
        let finished = flowcap.stop("INT");
        let last = counters(&stats);
        let lost = last["kernel_dropped"].as_u64().expect("a number");
        println!("{buffer}: {lost} of {sent}");
        assert_eq!(lost > 0, !fits, "{last}");
        assert_eq!(last["kernel_received"], sent, "{last}");
        assert_eq!(
            packets(&finished.records()) + lost + last["queue_dropped"].as_u64().expect("a number"),
            sent,
            "{last}"
        );
    }
}

#[test]
fn what_is_lost_on_the_way_is_no_loss_of_the_capture() {
    const SENT: u64 = 2_000;
    let Some(cable) = Cable::lay() else { return };
    for percent in [0, 5, 50] {
        let drop = format!("numgen random mod 100 < {percent} counter name lost drop");
        let rules = format!(
            "add table netdev way\ndelete table netdev way\ntable netdev way {{\n counter lost {{ }}\n\
             chain leaving {{\n type filter hook egress device {LINK} priority 0\n {}\n }}\n}}",
            if percent > 0 { &drop } else { "" }
        );
        let set = cable.start(&cable.near, "nft", &[&rules]).finish();
        if !set.status.success() {
            return skip(&format!("nft: {}", set.stderr));
        }
        let stats = cable.folder.path().join(format!("{percent}.jsonl"));
        let mut flowcap =
            cable.listen(&["-i", LINK, "--no-process", "--stats", text(&stats), "--stats-interval", "100ms"]);
        let left = cable.burst(SENT);
        let counter =
            cable.start(&cable.near, "nft", &["-j", "list", "counter", "netdev", "way", "lost"]).finish();
        let counter: Value = serde_json::from_str(&counter.stdout).expect("JSON");
        let lost = counter["nftables"][1]["counter"]["packets"].as_u64().expect("a counter");
        assert_eq!((left + lost, lost > 0), (SENT, percent > 0), "{percent} %: {counter}");
        flowcap.wait_until("the rest is read", || counters(&stats)["packets"] == left);
        assert_eq!(packets(&flowcap.stop("INT").records()), left);
        let last = counters(&stats);
        let kernel = [&last["kernel_received"], &last["kernel_dropped"], &last["interface_dropped"]];
        assert_eq!(kernel, [left, 0, 0], "{last}");
    }
}

#[test]
fn an_output_that_nobody_reads_for_a_while() {
    let Some(cable) = Cable::lay() else { return };
    let (pipe, stats) = (cable.folder.path().join("pipe"), cable.folder.path().join("stats.jsonl"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    // Whoever opens one end waits for the other, but for who opens both.
    let both = File::options().read(true).write(true).open(&pipe).expect("a pipe");
    let line = ["-i", LINK, "--no-process", "--shards", "1", "--idle-timeout", "100ms"];
    let mut flowcap = cable.listen(&[&line[..], &["-o", text(&pipe), "--stats", text(&stats)]].concat());
    let sent = cable.burst(20_000) + cable.burst(20_000);
    wait_for_log(&mut flowcap, "an output does not take its records", 1);
    flowcap.signal("INT");
    let mut end = File::open(&pipe).expect("a pipe");
    drop(both);
    let (mut all, mut portion) = (Vec::new(), [0; 16_384]);
    while let Ok(length @ 1..) = end.read(&mut portion) {
        all.extend(&portion[..length]);
        sleep(Duration::from_millis(1));
    }
    let finished = flowcap.finish();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_eq!(all.last(), Some(&b'\n'), "half a line");
    let seen = packets(&records(&String::from_utf8(all).expect("UTF-8")));
    let last = counters(&stats);
    let lost = ["kernel_dropped", "queue_dropped"].map(|name| last[name].as_u64().expect("a number"));
    assert!(lost[1] > 0, "there was room for all: {last}");
    assert_eq!(seen + lost[0] + lost[1], sent, "{last}");
}

/// Waits until records of so many packets are on standard output.
fn wait_for_packets(flowcap: &mut Program, count: u64) {
    let file = flowcap.stdout.clone();
    flowcap.wait_until(&format!("{count} packets are in records"), || packets(&whole(&file)) == count);
}

/// Waits until flowcap hears an interface at the far end, and the near end of that link takes packets.
fn wait_for_capture(flowcap: &mut Program, cable: &Cable, link: &str) {
    let (start, process) = (Instant::now(), format!("/proc/{}", flowcap.id()));
    flowcap.wait_until("it captures", || {
        // As the namespace of flowcap has it. What is in the list: socket, references, type, protocol, interface, running.
        let number =
            fs::read_to_string(format!("{process}/root/sys/class/net/{link}/ifindex")).unwrap_or_default();
        let sockets = fs::read_to_string(format!("{process}/net/packet")).unwrap_or_default();
        sockets.lines().any(|line| line.split_whitespace().skip(3).take(3).eq(["0003", number.trim(), "1"]))
    });
    println!("after {:.1?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "after {:.1?}", start.elapsed());
    flowcap.wait_until("there is a carrier", || {
        cable.start(&cable.near, "ip", &["link", "show", "dev", link]).finish().stdout.contains("state UP")
    });
}

/// Waits until the log has said something, and so often.
fn wait_for_log(flowcap: &mut Program, what: &str, times: usize) {
    let log = flowcap.stderr.clone();
    flowcap.wait_until(what, || {
        fs::read_to_string(&log)
            .is_ok_and(|log| log.lines().filter(|line| line.contains(what)).count() == times)
    });
}

fn ip(cable: &Cable, namespace: &str, line: &[&str]) {
    let ran = cable.start(namespace, "ip", line).finish();
    assert!(ran.status.success(), "{}", ran.stderr);
}

/// The time that a process has taken of processors, in hundredths of a second.
fn ticks(program: &Program) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.id())).expect("a process");
    // Behind the name, in which anything may stand, from the third field on; utime and stime are the 14th and 15th.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The records of a file that is being written.
fn whole(file: &Path) -> Vec<Value> {
    let all = fs::read_to_string(file).unwrap_or_default();
    records(all.rsplit_once('\n').map_or("", |(lines, _)| lines))
}

/// The latest stats record of a file that is being written.
fn counters(file: &Path) -> Value {
    whole(file).pop().unwrap_or_default()
}

/// Sends 20 packets and deletes the interface (RTM_DELLINK) before anybody has seen them.
const PARTING: &str = "
import socket, struct, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
head = bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 69, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2])
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
number = socket.if_nametoindex(sys.argv[1])
for n in range(20):
    wire.send(head + struct.pack('!HHHHI', 1024 + n, 9, 12, 0, n))
kernel.send(struct.pack('=IHHIIBBHiII', 32, 17, 5, 1, 0, 0, 0, 0, number, 0, 0))
error = struct.unpack_from('=i', kernel.recv(4096), 16)[0]
sys.exit(error)
";
