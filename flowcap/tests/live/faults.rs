//! What happens to interfaces, to the kernel's ring, to the way there and to those who read, while flowcap captures: it
//! goes on, and every packet is in a record or counted.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cable::{Cable, LINK, Program, records, skip, text};
use crate::packets;
use crate::ticks::ticks;

#[test]
fn an_interface_that_goes_down_and_up() {
    let Some(cable) = Cable::lay() else { return };
    let (mut flowcap, _) = listen(&cable, &[]);
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
    let (mut flowcap, stats) = listen(&cable, &[]);
    for (times, while_it_is_down) in [(1, false), (2, true)] {
        if while_it_is_down {
            ip(&cable, &cable.far, &["link", "set", LINK, "down"]);
            ip(&cable, &cable.near, &["link", "delete", LINK]);
        } else {
            let parting = cable.start(&cable.near, "python3", &["-c", PARTING, LINK]).finish();
            assert!(parting.status.success(), "{}", parting.stderr);
        }
        wait_for_log(&mut flowcap, "wire0 is gone", times);
        let out = flowcap.stdout.clone();
        // What came last counts, though the kernel had not handed it over yet.
        flowcap.wait_until("all that the kernel had is in records", || {
            let now = counters(&stats);
            now["interfaces_missing"] == json!([LINK]) && now["kernel_received"] == packets(&whole(&out))
        });
        let ticks = || ticks(flowcap.id()).expect("a process");
        let before = ticks();
        sleep(Duration::from_secs(2));
        // 1 % of two seconds are 2 ticks; looking without a rest takes some 200, beside other work some dozens.
        let took = ticks() - before;
        assert!(took <= 10, "{took} ticks in two seconds of nothing to do");
        cable.join(LINK).expect("a link");
        wait_for_capture(&mut flowcap, &cable, LINK);
        let before = packets(&whole(&out));
        wait_for_packets(&mut flowcap, before + cable.send("dns.pcap"));
        wait_for_log(&mut flowcap, "wire0 is back", times);
    }
    assert_eq!(flowcap.stop("INT").status.code(), Some(0));
}

#[test]
fn one_of_two_interfaces_goes_away() {
    const OTHER: &str = "wire1";
    let Some(cable) = Cable::lay() else { return };
    cable.join(OTHER).expect("a second link");
    let (mut flowcap, _) = listen(&cable, &["-i", OTHER]);
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
        let (mut flowcap, stats) = listen(&cable, &["--buffer", buffer]);
        flowcap.signal("STOP");
        assert_eq!(cable.burst(sent), sent);
        flowcap.signal("CONT");
        flowcap.wait_until("all are accounted for", || {
            let now = counters(&stats);
            count(&now, "packets") + count(&now, "kernel_dropped") == sent
        });
        if !fits {
            wait_for_log(&mut flowcap, "dropped by the kernel", 1);
        }
        let seen = packets(&flowcap.stop("INT").records());
        let last = counters(&stats);
        let lost = count(&last, "kernel_dropped");
        assert_eq!((count(&last, "kernel_received"), lost > 0), (sent, !fits), "{last}");
        assert_eq!(seen + lost + count(&last, "queue_dropped"), sent, "{last}");
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
        let (mut flowcap, stats) = listen(&cable, &[]);
        let left = cable.burst(SENT);
        let list = ["-j", "list", "counter", "netdev", "way", "lost"];
        let counter: Value =
            serde_json::from_str(&cable.start(&cable.near, "nft", &list).finish().stdout).expect("JSON");
        let lost = count(&counter["nftables"][1]["counter"], "packets");
        assert_eq!((left + lost, lost > 0), (SENT, percent > 0), "{percent} %: {counter}");
        flowcap.wait_until("the rest is read", || count(&counters(&stats), "packets") == left);
        let seen = packets(&flowcap.stop("INT").records());
        let last = counters(&stats);
        assert_eq!(seen + count(&last, "queue_dropped"), left, "{last}");
        let kernel =
            ["kernel_received", "kernel_dropped", "interface_dropped"].map(|name| count(&last, name));
        assert_eq!(kernel, [left, 0, 0], "{last}");
    }
}

#[test]
fn an_output_that_nobody_reads_for_a_while() {
    let Some(cable) = Cable::lay() else { return };
    let pipe = cable.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    // Whoever opens one end waits for the other, but for who opens both.
    let both = File::options().read(true).write(true).open(&pipe).expect("a pipe");
    let (mut flowcap, stats) = listen(&cable, &["--shards", "1", "-o", text(&pipe)]);
    let sent = cable.burst(20_000) + cable.burst(20_000);
    wait_for_log(&mut flowcap, "an output may take no records", 1);
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
    let (kernel, queue) = (count(&last, "kernel_dropped"), count(&last, "queue_dropped"));
    assert!(queue > 0, "there was room for all: {last}");
    assert_eq!(seen + kernel + queue, sent, "{last}");
}

/// Starts flowcap; returns it, and the file in which its counters are, ten times a second.
fn listen(cable: &Cable, more: &[&str]) -> (Program, PathBuf) {
    let stats = cable.folder.path().join("stats.jsonl");
    // Of a flowcap before this one.
    let _ = fs::remove_file(&stats);
    let line =
        ["-i", LINK, "--no-process", "--idle-timeout", "300ms", "--stats-interval", "100ms", "--stats"];
    (cable.listen(&[&line[..], &[text(&stats)], more].concat()), stats)
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

/// The records of a file that is being written.
fn whole(file: &Path) -> Vec<Value> {
    let all = fs::read_to_string(file).unwrap_or_default();
    records(all.rsplit_once('\n').map_or("", |(lines, _)| lines))
}

/// The latest stats record of a file that is being written.
fn counters(file: &Path) -> Value {
    whole(file).pop().unwrap_or_default()
}

/// One of its counters; 0 of no record.
fn count(counters: &Value, name: &str) -> u64 {
    counters[name].as_u64().unwrap_or_default()
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
