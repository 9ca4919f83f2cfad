//! Texts from outside: what packets, capture files, processes and names of files say can drive neither a terminal nor a
//! spreadsheet nor a log.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A formula, an escape sequence, its C1 form, a line, a tab, what turns the direction of writing, a line separator, and
/// what is not seen at all: a space without width, a byte order mark, a tag.
const EVIL: &str =
    "=cmd|'/C calc'!A0\x1b[2J\u{9b}31m\nERROR forged\r\t\u{202e}\u{2028}\x7fss\u{200b}hd\u{feff}\u{e0041}";

#[test]
fn what_a_capture_says_is_data() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.pcapng"), pcapng()).unwrap();
    let run = |name: &str| {
        let line = ["-r", "a.pcapng", "-q", "--force", "--fields", "interface,src_ip,dns,app", "-o", name];
        let ran = flowcap(folder.path(), &line);
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        fs::read_to_string(folder.path().join(name)).unwrap()
    };
    let json = run("f.jsonl");
    is_harmless(&json);
    let record: Value = serde_json::from_str(json.trim_end()).unwrap();
    assert_eq!(record["interface"], EVIL, "{json}");
    assert!(record["dns"][0]["query"].as_str().unwrap().starts_with("=evil\\027"), "{json}");
    let sheet = run("f.csv");
    is_harmless(&sheet);
    let mut cells = csv::Reader::from_reader(sheet.as_bytes());
    let row = cells.records().next().unwrap().unwrap();
    assert!(row[0].starts_with("'=cmd"), "{sheet}");
    assert!(row.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{sheet}");
    let table = flowcap(folder.path(), &["-r", "a.pcapng", "-q", "-T", "table", "--fields", "interface,dns"]);
    let table = String::from_utf8(table.stdout).unwrap();
    is_harmless(&table);
    assert_eq!(table.lines().count(), 2, "{table}");
}

#[cfg(all(target_os = "linux", feature = "host"))]
#[test]
fn what_a_process_calls_itself_is_data() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let script = "import socket, sys\n\
                  open('/proc/self/comm', 'w').write('=1+\\x1b[2J\\u202e\\u200b')\n\
                  ear = socket.create_server(('127.0.0.1', 0))\n\
                  print(ear.getsockname()[1], flush=True)\n\
                  sys.stdin.read()\n";
    let mut python = Command::new("python3");
    python.args(["-c", script, EVIL]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("python3 runs");
    let mut port = String::new();
    BufReader::new(python.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for format in ["jsonl", "csv", "table", "log"] {
        let name = format!("sockets.{format}");
        // A table is for a terminal.
        let to = if format == "table" { ["-T", "table"] } else { ["-o", &name] };
        let line = [&["sockets", "--listening", "--with", "process"][..], &to].concat();
        let ran = flowcap(folder.path(), &line);
        assert!(ran.status.success(), "{ran:?}");
        let shown = fs::read(folder.path().join(&name)).unwrap_or(ran.stdout);
        let text = String::from_utf8(shown).unwrap();
        is_harmless(&text);
        let name = if format == "log" { "=1+\\033[2J" } else { "=1+\\u001b[2J" };
        assert!(text.contains(name), "{format}: {text}");
        if format == "csv" {
            assert!(text.contains("'=1+"), "{text}");
        }
    }
    drop(python.stdin.take());
    python.wait().unwrap();
}

#[test]
fn names_of_files_cannot_forge_messages() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, damaged) = ("no\x1b[2J\nERROR such", "cut\x1b[2J\n\u{202e}.pcap");
    fs::write(folder.path().join(damaged), &pcapng()[..150]).unwrap();
    for line in [
        vec!["-r", missing],
        vec!["-r", damaged, "-o", "out.jsonl"],
        vec!["-r", "/dev/null", "-o", "no\x1b[2J\nERROR/such.jsonl"],
        vec!["-C", missing],
        vec!["-r", "/dev/null", "-o", "https://host\x1b[2J/"],
        vec!["sockets", "-r", missing],
    ] {
        let ran = flowcap(folder.path(), &line);
        assert!(!ran.status.success(), "{line:?}");
        let said = String::from_utf8(ran.stderr).unwrap();
        is_harmless(&said);
        assert!(said.contains("\\u001b[2J") && !said.contains("\nERROR"), "{line:?}: {said}");
    }
}

/// What clap quotes, or an answer to it does.
#[test]
fn what_is_typed_wrongly_is_shown_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let evil = "a\x1b]0;PWN\x07\u{9b}31m\u{202e}";
    let flag = format!("--{evil}");
    for (line, level) in [
        (vec!["-r", "x", "--fields", evil], None),
        (vec!["-r", "x", "--idle-timeout", evil], None),
        (vec!["-r", "x", "-T", evil], None),
        (vec!["-r", "x", "--metrics", evil], None),
        (vec!["-r", "x", &flag], None),
        (vec!["sockets", evil], None),
        (vec!["sockets", "--allow", evil], None),
        (vec!["-r", "x"], Some(evil)),
    ] {
        let ran = flowcap_with(folder.path(), &line, level);
        assert_eq!(ran.status.code(), Some(2), "{line:?}");
        let said = String::from_utf8(ran.stderr).unwrap();
        is_harmless(&said);
        assert!(said.contains("a\\u001b]0;PWN\\u0007") && said.contains("--help"), "{line:?}: {said}");
        assert!(!said.contains("\\u001b["), "clap's own colours are no text: {said}");
    }
}

/// What is wrong with a file is said briefly, whatever its lines are like, and its end is not waited for.
#[test]
fn recordings_have_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{{\"type\":\"{}\"}}\n", "a".repeat(1_000_000));
    fs::write(folder.path().join("line"), &line).unwrap();
    fs::write(folder.path().join("long"), format!("\n{}", line.repeat(2).replace('\n', ""))).unwrap();
    for (line, what) in [
        (
            ["-r", "/dev/null", "--sockets", "line"],
            "line: damaged at byte 0: line 1: no recorded socket: unknown variant",
        ),
        (
            ["-r", "/dev/null", "--sockets", "long"],
            "long: damaged at byte 1: line 2: it is longer than 1048576 bytes",
        ),
        (["-r", "/dev/null", "--sockets", "/dev/zero"], "/dev/zero: damaged at byte 0: line 1: it is longer"),
        (["sockets", "-q", "-r", "/dev/zero"], "/dev/zero: damaged at byte 0: line 1: it is longer"),
    ] {
        let ran = flowcap(folder.path(), &line);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(65), "{said}");
        assert!(said.starts_with(&format!("flowcap: {what}")) && said.len() < 500, "{said}");
    }
}

/// Others write to the same log.
#[test]
fn a_message_is_written_in_one_piece() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    // Each write is a datagram.
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let missing = format!("/nowhere/{}", "\n/".repeat(1_500));
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
    command.args(["-r", &missing]).env_remove("FLOWCAP_CONFIG").stderr(OwnedFd::from(far));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut said = [0; 100_000];
    let length = near.recv(&mut said).unwrap();
    drop(near);
    assert_eq!(child.wait().unwrap().code(), Some(66));
    let said = std::str::from_utf8(&said[..length]).unwrap();
    assert!(said.starts_with("flowcap: /nowhere/\\n/") && said.contains('…'), "{said}");
    assert!(said.ends_with(" (os error 2)\n") && said.chars().count() < 4_000, "{said}");
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "pw-0nly-here";
    fs::write(folder.path().join("f.toml"), format!("[[output]]\nto = 'https://user:{secret}@localhost/'\n"))
        .unwrap();
    let address = format!("https://user:{secret}@localhost/");
    for (line, code) in [
        (vec!["-r", "/dev/null", "-o", &address], 2),
        (vec!["-r", "/dev/null", "-C", "f.toml"], 78),
        (vec!["-r", "/dev/null", "-C", "f.toml", "--check"], 78),
    ] {
        let ran = flowcap(folder.path(), &line);
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        let said = [ran.stdout, ran.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains(secret), "{}", String::from_utf8_lossy(&said));
    }
}

fn flowcap(folder: &Path, arguments: &[&str]) -> Output {
    flowcap_with(folder, arguments, None)
}

fn flowcap_with(folder: &Path, arguments: &[&str], level: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
    command.args(arguments).current_dir(folder).env("NO_COLOR", "1").env_remove("FLOWCAP_CONFIG");
    level.iter().for_each(|level| _ = command.env("FLOWCAP_LOG", level));
    command.output().expect("flowcap runs")
}

/// Sees to it that a text has nothing in it but what is printed, and ends of lines.
fn is_harmless(text: &str) {
    let acts = |letter: &char| {
        letter.is_control() && *letter != '\n'
            || ('\u{202a}'..='\u{202e}').contains(letter)
            || ('\u{2066}'..='\u{2069}').contains(letter)
            || ('\u{200b}'..='\u{200f}').contains(letter)
            || ['\u{2028}', '\u{2029}', '\u{feff}', '\u{e0041}'].contains(letter)
    };
    assert_eq!(text.chars().find(acts), None, "{text:?}");
}

/// A capture of one DNS query for an evil name, on an interface of an evil name.
fn pcapng() -> Vec<u8> {
    let mut name = EVIL.as_bytes().to_vec();
    let length = name.len() as u16;
    name.resize(name.len().next_multiple_of(4), 0);
    let mut interface = vec![1, 0, 0, 0, 0, 0, 0, 0];
    // if_name.
    interface.extend([2u16, length].iter().flat_map(|word| word.to_le_bytes()));
    interface.extend(name);
    interface.extend([0; 4]);
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["=evil\x1b[2J\n\u{202e}", "example"] {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let (total, udp) = (28 + message.len() as u16, 8 + message.len() as u16);
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    for word in [40_000, 53, udp, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(message);
    let mut enhanced: Vec<u8> = [0, 0x0005_0000, 0, packet.len() as u32, packet.len() as u32]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    enhanced.extend(&packet);
    enhanced.resize(enhanced.len().next_multiple_of(4), 0);
    let mut section = vec![0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    section.extend([0xff; 8]);
    [(0x0a0d_0d0a, section), (1, interface), (6, enhanced)]
        .into_iter()
        .flat_map(|(kind, body)| block(kind, &body))
        .collect()
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}
