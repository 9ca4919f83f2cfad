//! The command as a black box: exit codes, streams, files.

mod manners;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// A folder with a capture of three packets in it: a DNS-like exchange and one packet of another flow.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        fs::write(place.path("three.pcap"), three()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command, in the folder.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(cargo_bin("flowcap"));
        command.current_dir(&self.folder).args(arguments.split_whitespace()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &str) -> Ran {
        self.command(arguments).output().unwrap().into()
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A pcap file with microseconds.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend(word.to_le_bytes());
    }
    for (nth, packet) in packets.iter().enumerate() {
        for word in [1_700_000_000, 1_000 * nth as u32, packet.len() as u32, packet.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

/// An Ethernet frame with four bytes of UDP payload; no checksums.
fn udp(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(src);
    frame.extend(dst);
    for word in [sport, dport, 12, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(b"abcd");
    frame
}

fn three() -> Vec<u8> {
    let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    pcap(&[udp(a, 40_000, b, 53), udp(b, 53, a, 40_000), udp(a, 40_001, b, 7)])
}

/// Waits for a process, but not for ever.
fn wait(mut child: Child) -> Ran {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap().into()
}

#[cfg(unix)]
fn send(signal: &str, child: &Child) {
    let killed =
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn help_and_version_go_to_standard_output() {
    let place = Place::new();
    for flag in ["-h", "--help"] {
        let help = place.run(flag);
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
        for word in ["--interface", "--idle-timeout", "Examples:", "flowcap -r file.pcap -T table"] {
            assert!(help.out.contains(word), "{word}");
        }
    }
    let version = place.run("--version");
    assert_eq!(version.out, concat!("flowcap ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn without_a_source_it_says_how_to_use_it() {
    let ran = Place::new().run("");
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("Usage: flowcap") && ran.err.contains("Examples:"));
}

#[test]
fn wrong_usage_is_2_and_says_what_is_meant() {
    let place = Place::new();
    for (arguments, advice) in [
        ("-i eth0 port 53", "to filter packets use -f 'port 53'"),
        ("three.pcap", "use -r 'three.pcap'"),
        ("-r three.pcap --fields src_adr", "'src_adr'"),
        ("-r three.pcap --bogus", "--bogus"),
        ("-r three.pcap -p", "--no-promiscuous"),
        ("-r three.pcap -i eth0", "cannot be used with"),
        ("-r three.pcap --active-timeout soon", "90s, 10m"),
        ("-r three.pcap --max-memory much", "256MB"),
        ("-r three.pcap --idle-timeout sctp=3s", "'sctp' is none of tcp, udp, icmp, other"),
        ("-r three.pcap --stats flows.csv", "JSON lines only"),
        ("-r three.pcap -o x -o x", "named twice"),
        ("-r three.pcap --shards 0", "shards"),
        ("-r three.pcap -o gopher://127.0.0.1/", "gopher://127.0.0.1/"),
    ] {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments}");
        assert!(ran.err.contains(advice), "{arguments}: {}", ran.err);
    }
}

#[test]
fn flows_as_json_lines_and_one_line_of_summary() {
    let ran = Place::new().run("-n -r three.pcap");
    assert_eq!(ran.code, Some(0));
    let flows: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(flows.len(), 2);
    let exchange = flows.iter().find(|flow| flow["dst_port"] == 53).unwrap();
    assert_eq!(exchange["type"], "flow");
    assert_eq!((&exchange["src_ip"], &exchange["src_port"]), (&"10.0.0.1".into(), &40_000.into()));
    assert_eq!((&exchange["packets"], &exchange["bytes"]), (&2.into(), &92.into()));
    assert_eq!(exchange["duration"], 0.001);
    let said: Vec<&str> = ran.err.lines().collect();
    let [sandbox, summary] = said.as_slice() else { panic!("{}", ran.err) };
    assert!(sandbox.starts_with("flowcap: sandbox: "), "{sandbox}");
    assert!(summary.starts_with("flowcap: 3 packets, 2 flows, 0 dropped, "), "{summary}");
}

#[test]
fn quiet_says_nothing() {
    let ran = Place::new().run("-q -r three.pcap --fields dst_port");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn standard_input_is_read_like_a_file() {
    let place = Place::new();
    let mut child = place.command("-q -r -").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&three()).unwrap();
    assert_eq!(wait(child).out, place.run("-q -r three.pcap").out);
}

#[test]
fn the_extension_picks_the_format_and_the_compression() {
    let place = Place::new();
    let ran =
        place.run("-q -r three.pcap --fields dst_port -o a.csv -o b.jsonl -o c.jsonl.zst -o d -T csv -o -");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let csv = place.read("a.csv");
    assert!(csv.starts_with("dst_port\n") && csv.lines().count() == 3, "{csv}");
    assert_eq!((place.read("d"), ran.out), (csv.clone(), csv));
    assert!(place.read("b.jsonl").contains("{\"dst_port\":53}\n"));
    assert_eq!(fs::read(place.path("c.jsonl.zst")).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    assert!(!place.path("c.jsonl.zst.part").exists());
}

#[test]
fn a_table_has_a_line_for_each_flow() {
    let ran = Place::new().run("-q -r three.pcap -T table");
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("START (UTC) "));
    assert!(lines.iter().any(|line| line.starts_with("2023-11-14 22:13:20 1.00ms UDP    10.0.0.1:40000")));
}

#[test]
fn a_replay_overwrites_only_by_force() {
    let place = Place::new();
    fs::write(place.path("flows.jsonl"), "precious\n").unwrap();
    let ran = place.run("-r three.pcap -o flows.jsonl");
    assert_eq!(ran.code, Some(74));
    assert!(ran.err.contains("flows.jsonl: exists already; --force"), "{}", ran.err);
    assert_eq!(place.read("flows.jsonl"), "precious\n");
    assert_eq!(place.run("-r three.pcap -o flows.jsonl --force").code, Some(0));
    assert_eq!(place.read("flows.jsonl").lines().count(), 2);
}

#[test]
fn a_missing_input_is_66_and_nothing_is_written() {
    let place = Place::new();
    let ran = place.run("-r three.pcap -r missing.pcap -o flows.jsonl");
    assert_eq!((ran.code, ran.out.as_str()), (Some(66), ""));
    assert!(ran.err.contains("missing.pcap"), "{}", ran.err);
    assert!(!place.path("flows.jsonl").exists());
}

#[test]
fn damage_is_65_after_every_readable_packet() {
    let place = Place::new();
    let whole = three();
    fs::write(place.path("cut.pcap"), &whole[..whole.len() - 10]).unwrap();
    let ran = place.run("-r cut.pcap -r three.pcap --fields packets,dst_port");
    assert_eq!(ran.code, Some(65));
    assert!(ran.err.contains("cut.pcap: damaged at byte "), "{}", ran.err);
    assert!(ran.out.contains(r#"{"packets":4,"dst_port":53}"#), "{}", ran.out);
    assert!(ran.out.contains(r#"{"packets":1,"dst_port":7}"#), "{}", ran.out);
}

#[test]
fn a_full_disk_is_74() {
    let ran = Place::new().run("-r three.pcap -o /dev/full");
    assert_eq!(ran.code, Some(74));
    assert!(ran.err.contains("/dev/full: "), "{}", ran.err);
}

#[test]
fn a_closed_standard_output_is_a_quiet_success() {
    let place = Place::new();
    let mut child = place.command("-r three.pcap").spawn().unwrap();
    drop(child.stdout.take());
    let ran = wait(child);
    assert_eq!(ran.code, Some(0));
    assert!(!ran.err.contains("pipe"), "{}", ran.err);
}

#[test]
fn counters_go_where_they_are_asked_to() {
    let place = Place::new();
    assert_eq!(place.run("-q -r three.pcap -o - --stats stats.jsonl").code, Some(0));
    let stats: Value = serde_json::from_str(&place.read("stats.jsonl")).unwrap();
    assert_eq!((&stats["type"], &stats["packets"]), (&"stats".into(), &3.into()));
    assert_eq!(stats["sinks"][0]["written"], 2);

    let ran = place.run("-q -r three.pcap --stats -");
    let last: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!((ran.out.lines().count(), &last["type"]), (3, &"stats".into()));
}

#[test]
fn the_count_of_packets_is_a_limit() {
    let ran = Place::new().run("-r three.pcap -c 2");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1));
    assert!(ran.err.contains(" 2 packets, 1 flow,"), "{}", ran.err);
}

#[test]
fn the_output_is_the_same_for_any_number_of_shards() {
    let place = Place::new();
    let one = place.run("-q -r three.pcap --shards 1");
    assert_eq!(one.out.lines().count(), 2);
    assert_eq!(one.out, place.run("-q -r three.pcap --shards 4").out);
}

#[cfg(feature = "live")]
#[test]
fn a_filter_lets_only_matching_packets_through() {
    let place = Place::new();
    let mut command = place.command("-q -r three.pcap --fields dst_port -f");
    let ran = Ran::from(command.arg("udp port 7").output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "{\"dst_port\":7}\n"));
    let ran = place.run("-r three.pcap -f ((");
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_pipe_that_gives_no_more_and_every_open_flow_is_written() {
    let place = Place::new();
    let all = three();
    // Nothing, half a file header, half a packet header, half a packet, all of it.
    let given = [(0, 0), (10, 0), (24 + 8, 0), (all.len() - 20, 1), (all.len(), 2)];
    let both = ["INT", "TERM"].map(|signal| given.map(|(bytes, flows)| (signal, bytes, flows)));
    let started = both.concat().into_iter().map(|(signal, bytes, flows)| {
        let mut child = place.command("-r -").stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&all[..bytes]).unwrap();
        (child, input, signal, bytes, flows)
    });
    let started: Vec<_> = started.collect();
    let start = Instant::now();
    while started.iter().any(|(_, input, ..)| rustix::io::ioctl_fionread(input).unwrap() > 0) {
        assert!(start.elapsed() < Duration::from_secs(20), "pipes are not read");
        std::thread::sleep(Duration::from_millis(10));
    }
    // No way to see that all packets were taken in: their flows are written only at the end.
    std::thread::sleep(Duration::from_secs(1));
    for (child, input, signal, bytes, flows) in started {
        let start = Instant::now();
        send(signal, &child);
        let ran = wait(child);
        assert!(start.elapsed() < Duration::from_secs(5), "{bytes} bytes, {signal}: {:?}", start.elapsed());
        drop(input);
        assert_eq!(ran.code, Some(0), "{bytes} bytes, {signal}: {}", ran.err);
        assert_eq!(ran.out.lines().count(), flows, "{bytes} bytes, {signal}: {}", ran.out);
        assert!(ran.out.lines().all(|line| line.contains(r#""end_reason":"shutdown""#)), "{}", ran.out);
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_stops_at_once() {
    let place = Place::new();
    // A pipe that nobody reads: the first signal cannot end it.
    let many: Vec<Vec<u8>> = (1024..60_000).map(|port| udp([10, 0, 0, 1], port, [10, 0, 0, 2], 7)).collect();
    fs::write(place.path("many.pcap"), pcap(&many)).unwrap();
    let mut child = place.command("-q -r many.pcap").spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    send("INT", &child);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "the pipe was large enough for all");
    send("INT", &child);
    assert_eq!(wait(child).code, Some(130));
    drop(out);
}

#[test]
fn each_subcommand_has_a_help_of_its_own() {
    let place = Place::new();
    for (subcommand, words) in [
        (
            "sockets",
            &["--baseline", "--allow", "--changes", "--with", "--no-self", "Examples:", "Exit codes:"][..],
        ),
        ("events", &["--source", "--process", "--interval", "Examples:", "Exit codes:"]),
    ] {
        for flag in ["-h", "--help"] {
            let help = place.run(&format!("{subcommand} {flag}"));
            assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
            assert!(help.out.contains(&format!("Usage: flowcap {subcommand} [OPTIONS]")), "{}", help.out);
            for word in words {
                assert!(help.out.contains(word), "{subcommand} {flag}: {word}");
            }
        }
        assert!(place.run("--help").out.contains(&format!("\n  {subcommand} ")), "{subcommand}");
    }
}

#[test]
fn wrong_usage_of_a_subcommand_is_2() {
    let place = Place::new();
    for (arguments, advice) in [
        ("sockets --once --interval 5s", "cannot be used with"),
        ("sockets --once --changes", "cannot be used with"),
        ("sockets --read before.jsonl --interval 5s", "cannot be used with"),
        ("sockets --read before.jsonl --with stats", "cannot be used with"),
        ("sockets --allow tcp22", "'tcp/22 sshd'"),
        ("sockets --interval soon", "90s, 10m"),
        ("sockets --interval 0", "longer than 0"),
        ("sockets --with cpu", "possible values: process, stats, routes"),
        ("sockets -T xml", "possible values"),
        ("sockets -o https://127.0.0.1/", "https://127.0.0.1/"),
        ("sockets -o x.csv -o x.csv", "named twice"),
        ("sockets port 53", "'port'"),
        ("events --source wire", "possible values: auto, kernel, packet, snapshot"),
        ("events --interval 0", "longer than 0"),
        ("events --once", "--once"),
        ("events -o x.csv -o x.csv", "named twice"),
        ("-i lo --sockets s.jsonl", "cannot be used with"),
        ("-r three.pcap --write-sockets s.jsonl", "cannot be used with"),
    ] {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments}: {}", ran.err);
        assert!(ran.err.contains(advice), "{arguments}: {}", ran.err);
    }
    assert!(!place.path("x.csv").exists());
}

#[test]
fn what_is_read_is_not_written() {
    let place = Place::new();
    let capture = place.path("three.pcap");
    fs::hard_link(&capture, place.path("linked.jsonl")).unwrap();
    std::os::unix::fs::symlink(".", place.path("same")).unwrap();
    fs::write(place.path("before.jsonl"), SOCKET).unwrap();
    fs::write(place.path("recorded.jsonl"), "").unwrap();
    fs::write(place.path("f.toml"), "read = ['three.pcap']\n[[output]]\nto = 'same/three.pcap'\n").unwrap();
    for (arguments, read, written) in [
        ("-r three.pcap -o three.pcap --force", "three.pcap", "three.pcap"),
        ("-r three.pcap -o linked.jsonl --force", "three.pcap", "linked.jsonl"),
        ("-r same/three.pcap -o - --stats linked.jsonl --force", "same/three.pcap", "linked.jsonl"),
        ("-r - -o ./three.pcap --force", "-", "./three.pcap"),
        (
            "-r three.pcap --sockets recorded.jsonl -o same/recorded.jsonl --force",
            "recorded.jsonl",
            "same/recorded.jsonl",
        ),
        ("sockets -r before.jsonl -o ./before.jsonl", "before.jsonl", "./before.jsonl"),
        ("sockets --baseline before.jsonl -o same/before.jsonl --force", "before.jsonl", "same/before.jsonl"),
        ("-C f.toml --force", "three.pcap", "same/three.pcap"),
    ] {
        let input = fs::File::open(&capture).unwrap();
        let ran = Ran::from(place.command(arguments).stdin(input).output().unwrap());
        let code = if arguments.starts_with("-C") { 78 } else { 2 };
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{arguments}: {}", ran.err);
        let said = format!("{written}: is the same file as {read}, which is read");
        assert!(ran.err.contains(&said), "{arguments}: {}", ran.err);
    }
    let checked = place.run("-C f.toml --force --check");
    assert_eq!(checked.code, Some(78));
    assert!(checked.out.contains("which is read"), "{}", checked.out);
    assert_eq!(fs::read(capture).unwrap(), three());
    assert_eq!(
        (place.read("before.jsonl"), place.read("recorded.jsonl")),
        (SOCKET.to_owned(), String::new())
    );
}

#[test]
fn no_file_is_written_twice() {
    let place = Place::new();
    fs::create_dir(place.path("t")).unwrap();
    std::os::unix::fs::symlink("t", place.path("same")).unwrap();
    for arguments in [
        "-r three.pcap -o t/s.jsonl -o t/./s.jsonl",
        "-r three.pcap -o t/s.jsonl -o same/s.jsonl --force",
        "-r three.pcap -o t/s.jsonl --stats t/./s.jsonl --force",
        "-r three.pcap -o t/%Y/s.jsonl -o same/%Y/s.jsonl",
        "sockets -o t/s.jsonl -o same/s.jsonl",
    ] {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments}: {}", ran.err);
        assert!(ran.err.contains(" is the same file as t/"), "{arguments}: {}", ran.err);
        assert_eq!(fs::read_dir(place.path("t")).unwrap().count(), 0, "{arguments}");
    }
}

#[test]
fn saved_sockets_are_there_and_whole_or_refused() {
    let place = Place::new();
    fs::write(place.path("whole.jsonl"), SOCKET).unwrap();
    fs::write(place.path("cut.jsonl"), &SOCKET[..60]).unwrap();
    fs::write(place.path("wrong.csv"), "type,timestamp\nsocket,yesterday\n").unwrap();
    fs::write(place.path("notes.txt"), "nothing of that kind\n").unwrap();
    for (file, code) in [("missing.jsonl", 66), ("cut.jsonl", 65), ("wrong.csv", 65), ("notes.txt", 65)] {
        for arguments in [
            format!("sockets -o new.jsonl -r {file} --baseline whole.jsonl"),
            format!("sockets -o new.jsonl -r whole.jsonl --baseline {file}"),
            format!("sockets -r {file}"),
        ] {
            let ran = place.run(&arguments);
            assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{arguments}: {}", ran.err);
            assert!(ran.err.starts_with(&format!("flowcap: {file}: ")), "{arguments}: {}", ran.err);
        }
    }
    let same = place.run("sockets -r whole.jsonl --baseline whole.jsonl");
    assert_eq!((same.code, same.out.as_str(), same.err.as_str()), (Some(0), "", ""));
    let shown = place.run("sockets -r whole.jsonl");
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.contains("127.0.0.1:31337"), "{}", shown.out);
    let unexpected = place.run("sockets -r whole.jsonl --allow tcp/22");
    assert_eq!(unexpected.code, Some(1));
    assert!(unexpected.out.contains("Unexpected listener on TCP port 31337"), "{}", unexpected.out);
}

const SOCKET: &str = "{\"type\":\"socket\",\"timestamp\":\"2026-03-02T21:12:04.250000000Z\",\"change\":\"present\",\
                      \"protocol\":\"TCP\",\"local_ip\":\"127.0.0.1\",\"local_port\":31337,\"state\":\"LISTEN\",\
                      \"uid\":0,\"user\":\"root\",\"inode\":31000,\"cookie\":4097,\"netns\":4026531840}\n";
