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

/// What a start has made before it is refused would hinder the next one.
#[test]
fn a_refused_start_leaves_nothing_behind() {
    let place = Place::new();
    for output in ["a.jsonl", "a.csv", "a.jsonl.zst", "a-%s.csv.gz"] {
        let ran = place.run(&format!("-r three.pcap -o {output} -o no/such/b.jsonl"));
        assert_eq!(ran.code, Some(74), "{}", ran.err);
        assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 1, "{output}");
    }
    fs::write(place.path("a.jsonl"), "").unwrap();
    assert_eq!(place.run("-r three.pcap --force -o a.jsonl -o no/such/b.jsonl").code, Some(74));
    assert!(place.path("a.jsonl").exists(), "it was there before");
}

/// A folder that the user to become may not even see: nothing could be taken away there any more.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_is_closed_to_the_user_is_seen_before_anything_is_made() {
    let place = Place::new();
    fs::create_dir(place.path("closed")).unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let ran = place.run("-r three.pcap -o closed/a.jsonl.zst -Z nobody");
    assert_eq!(ran.code, Some(77), "{}", ran.err);
    assert!(ran.err.contains("closed: nobody cannot create files there"), "{}", ran.err);
    assert_eq!(fs::read_dir(place.path("closed")).unwrap().count(), 0);
}

#[test]
fn it_says_what_has_the_name_of_an_output() {
    let place = Place::new();
    fs::create_dir(place.path("dir.jsonl")).unwrap();
    fs::write(place.path("there.jsonl"), "").unwrap();
    fs::write(place.path("cut.jsonl.zst.part"), "").unwrap();
    std::os::unix::fs::symlink("there.jsonl", place.path("link.jsonl")).unwrap();
    std::os::unix::fs::symlink("none", place.path("link.jsonl.zst")).unwrap();
    for (output, what) in [
        ("there.jsonl", "there.jsonl: exists already; --force overwrites it"),
        ("dir.jsonl", "dir.jsonl: is a folder"),
        ("link.jsonl", "link.jsonl: is a symbolic link, which is not followed"),
        ("link.jsonl.zst", "link.jsonl.zst: is a symbolic link, which is not followed"),
        ("cut.jsonl.zst", "cut.jsonl.zst.part exists already; --force overwrites it"),
    ] {
        let ran = place.run(&format!("-r three.pcap -o {output}"));
        assert_eq!(ran.code, Some(74), "{}", ran.err);
        assert!(ran.err.trim_end().ends_with(what), "{output}: {}", ran.err);
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

#[test]
fn numbers_that_are_too_large_are_called_so() {
    let place = Place::new();
    for arguments in ["--max-flows 18446744073709551615", "--shards 99999999999999999999999"] {
        let ran = place.run(&format!("-r three.pcap {arguments}"));
        assert_eq!(ran.code, Some(2));
        assert!(ran.err.contains("this number is too large"), "{}", ran.err);
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    let place = Place::new();
    let level =
        |level| Ran::from(place.command("-q -r three.pcap").env("FLOWCAP_LOG", level).output().unwrap());
    assert_eq!((level("").code, level("loud").code), (Some(0), Some(2)));
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
