//! What ends flowcap, what it leaves behind, and what it says meanwhile.

use super::*;

/// A limit of the size of files is a full disk, and no signal that kills in the middle of a line.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_is_74_and_ends_with_a_whole_line() {
    let place = Place::new();
    fs::write(place.path("many.pcap"), many()).unwrap();
    fs::write(place.path("many.jsonl"), SOCKET.repeat(500)).unwrap();
    for arguments in ["-q -r many.pcap -o flows.jsonl", "sockets -q -r many.jsonl -o flows.jsonl --force"] {
        let flowcap = place.command(arguments);
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f 16 && exec \"$@\"", "sh"]).arg(flowcap.get_program());
        let ran = shell.args(flowcap.get_args()).current_dir(&place.folder).output().unwrap();
        let ran = Ran::from(ran);
        assert_eq!(ran.code, Some(74), "{arguments}: {}", ran.err);
        assert!(ran.err.contains("flows.jsonl: File too large"), "{arguments}: {}", ran.err);
        let written = place.read("flows.jsonl");
        assert!(written.len() > 4_000 && written.ends_with('\n'), "{arguments}: {} bytes", written.len());
        assert!(written.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{arguments}");
    }
}

#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
#[test]
fn the_first_signal_ends_who_waits_for_a_pipe() {
    use std::os::unix::process::ExitStatusExt;

    let place = Place::new();
    fs::write(place.path("whole.jsonl"), SOCKET).unwrap();
    assert!(Command::new("mkfifo").args([place.path("in"), place.path("out")]).status().unwrap().success());
    let started = [
        "sockets --baseline in",
        "sockets -r in",
        "sockets -r -",
        "sockets -r whole.jsonl -o out",
        "sockets -o out",
        "events --source snapshot -o out",
    ]
    .map(|arguments| {
        let mut child = place.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        (arguments, child, input)
    });
    // No way to see that they wait; one that does not yet is ended all the same.
    std::thread::sleep(Duration::from_secs(1));
    started.iter().for_each(|(_, child, _)| send("TERM", child));
    let deadline = Instant::now() + Duration::from_secs(10);
    let ended = started.map(|(arguments, mut child, _input)| {
        while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        (arguments, child.wait().unwrap().signal())
    });
    for (arguments, signal) in ended {
        assert_eq!(signal, Some(15), "{arguments}");
    }
}

#[cfg(all(target_os = "linux", feature = "live"))]
#[test]
fn lists_that_cannot_be_written_are_74_and_say_so() {
    let place = Place::new();
    for arguments in ["-r three.pcap --check", "-D"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = Ran::from(place.command(arguments).stdout(full).output().unwrap());
        assert_eq!(ran.code, Some(74), "{arguments}");
        assert!(ran.err.contains("standard output: No space left on device"), "{arguments}: {}", ran.err);
    }
}

/// The other outputs are whole, and somebody has to hear of this one.
#[cfg(unix)]
#[test]
fn a_reader_of_a_named_pipe_that_goes_away_is_told_of() {
    let place = Place::new();
    fs::write(place.path("many.pcap"), many()).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    for (arguments, code, said) in [
        (
            "-r many.pcap -o pipe -o all.jsonl --force",
            0,
            "warning: pipe: its reader went away; not written: ",
        ),
        ("-r many.pcap -o pipe", 74, "pipe: Broken pipe"),
    ] {
        let child = place.command(arguments).spawn().unwrap();
        drop(fs::File::open(place.path("pipe")).unwrap());
        let ran = wait(child);
        assert_eq!(ran.code, Some(code), "{}", ran.err);
        assert!(ran.err.contains(said), "{arguments}: {}", ran.err);
    }
    assert_eq!(place.read("all.jsonl").lines().count(), MANY);
}

/// A capture of that many flows.
fn many() -> Vec<u8> {
    let ports = (0..MANY as u16).map(|nth| udp([10, 0, 0, 1], 1024 + nth, [10, 0, 0, 2], 7));
    pcap(&ports.collect::<Vec<_>>())
}

const MANY: usize = 1_000;
