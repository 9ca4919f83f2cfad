//! Files over a long time, from outside: rotation, full disks, folders that vanish, signals and kills. What captures does
//! so on the loopback interface and needs root; without it a test says SKIPPED, and with CI_REQUIRE_LIVE=1 it fails.
#![cfg(target_os = "linux")]

mod killed;
mod kills;
mod stand;
mod users;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use stand::{Ran, Running, Stand, capture, number, numbers, records};

fn run(stand: &Stand, line: &str) -> Ran {
    Running { child: stand.command(line).spawn().expect("flowcap runs") }.finish()
}

/// The output's counters in the last stats record.
fn counts(stand: &Stand, file: &str) -> Value {
    let stats = records(&fs::read_to_string(stand.path(file)).expect("stats"));
    let counts = stats.last().expect("a record")["sinks"][0].clone();
    let sum =
        |names: &[&str]| names.iter().map(|name| counts[*name].as_u64().expect("a number")).sum::<u64>();
    let dropped: u64 =
        counts["dropped"].as_object().expect("reasons").values().filter_map(Value::as_u64).sum();
    assert_eq!(sum(&["records"]), sum(&["written", "filtered", "spooled", "failed"]) + dropped, "{counts}");
    counts
}

#[test]
fn a_replay_rotates_by_the_time_of_its_packets() {
    let stand = Stand::new();
    fs::write(stand.path("a.pcap"), capture(1_000, 30)).unwrap();
    let ran = run(&stand, "-r a.pcap --idle-timeout 1s -o o/%H/f-%M%S.jsonl --rotate 10s -q");
    assert_eq!(ran.code, Some(74), "{}", ran.err);
    fs::create_dir(stand.path("o")).unwrap();
    let line = "-r a.pcap --idle-timeout 1s -o o/%H/f-%M%S.jsonl --rotate 10s -q --compress";
    let ran = run(&stand, &format!("{line} zstd"));
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let texts = stand.texts("o");
    let names: Vec<&str> = texts.keys().map(String::as_str).collect();
    let expected = ["22/f-1320.jsonl.zst", "22/f-1330.jsonl.zst", "22/f-1340.jsonl.zst"];
    assert_eq!(names, expected);
    let all: String = texts.values().map(String::as_str).collect();
    assert_eq!(numbers(&all), (0..1_000).collect::<Vec<_>>());
    // Due a second after its packet: those of the first 9 s are in the first file.
    assert_eq!(numbers(&texts[names[0]]).last(), Some(&299));

    let again = run(&stand, &line.replace("--compress", "-n"));
    assert_eq!(again.code, Some(0), "{}", again.err);
    let refused = run(&stand, &line.replace("--compress", "-n"));
    assert_eq!(refused.code, Some(74));
    assert!(refused.err.contains("exists already; --force"), "{}", refused.err);
    let kept = run(&stand, &format!("{line} gzip --force --keep 2"));
    assert_eq!((kept.code, kept.err.as_str()), (Some(0), ""));
    assert_eq!(stand.texts("o").len(), 2);
}

#[test]
fn other_placeholders_and_symbolic_links_are_refused() {
    let stand = Stand::new();
    fs::write(stand.path("a.pcap"), capture(3, 1)).unwrap();
    for name in ["%N.jsonl", "f-%y.csv", "100%", "%Y/../../x"] {
        let ran = run(&stand, &format!("-r a.pcap -o {name}"));
        assert_eq!(ran.code, Some(2), "{name}: {}", ran.err);
        assert!(ran.err.contains(name), "{}", ran.err);
    }
    fs::write(stand.path("target"), "mine\n").unwrap();
    symlink(stand.path("target"), stand.path("link.jsonl")).unwrap();
    symlink(stand.path("nowhere"), stand.path("dangling.jsonl")).unwrap();
    symlink(stand.folder.path(), stand.path("2023")).unwrap();
    for name in ["link.jsonl", "dangling.jsonl", "%Y/x.jsonl"] {
        let ran = run(&stand, &format!("-r a.pcap --force -o {name}"));
        assert_eq!(ran.code, Some(74), "{name}: {}", ran.err);
    }
    assert_eq!(fs::read_to_string(stand.path("target")).unwrap(), "mine\n");
    assert!(!stand.path("nowhere").exists() && !stand.path("x.jsonl").exists());
    assert_eq!(run(&stand, "-r a.pcap -o 100%%.jsonl").code, Some(0));
    assert!(stand.path("100%.jsonl").exists());
}

#[test]
fn files_and_folders_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;

    let stand = Stand::new();
    fs::write(stand.path("a.pcap"), capture(3, 1)).unwrap();
    let line = format!("umask 0; exec {} -q -r a.pcap -o %Y/f.jsonl", env!("CARGO_BIN_EXE_flowcap"));
    let ran = Command::new("sh").args(["-c", &line]).current_dir(&stand.folder).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    for (path, mode) in [("2023", 0o750), ("2023/f.jsonl", 0o640)] {
        assert_eq!(fs::metadata(stand.path(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn a_million_open_flows_are_written_when_it_is_terminated() {
    let stand = Stand::new();
    let line = "-r - --max-flows 4000000 --fields type,dst_ip,end_reason -o f.jsonl --stats s.jsonl -q";
    let mut child = stand.command(line).stdin(Stdio::piped()).spawn().expect("flowcap runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&capture(1_000_000, 0)).expect("it is read");
    // What the pipe holds still.
    sleep(Duration::from_secs(1));
    let start = Instant::now();
    // The pipe stays open: nobody says that nothing more comes.
    let ran = Running { child }.stop();
    println!("ended in {:.1?}", start.elapsed());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    drop(pipe);
    let text = fs::read_to_string(stand.path("f.jsonl")).unwrap();
    assert_eq!(text.matches("\"end_reason\":\"shutdown\"").count(), 1_000_000);
    assert_eq!(numbers(&text), (0..1_000_000).collect::<Vec<_>>());
    assert_eq!(counts(&stand, "s.jsonl")["written"].as_u64(), Some(1_000_000));
}

#[test]
fn a_replay_ends_on_a_full_disk_with_whole_lines() {
    let Some(mut stand) = Stand::live() else { return };
    stand.mount("1m");
    fs::write(stand.path("a.pcap"), capture(20_000, 1)).unwrap();
    for name in ["f.jsonl", "f.csv", "f-%H.jsonl"] {
        let ran = run(&stand, &format!("-r a.pcap -o disk/{name} --stats s.jsonl --force -q"));
        assert_eq!(ran.code, Some(74), "{}", ran.err);
        assert!(ran.err.contains("No space left"), "{}", ran.err);
        let (name, text) = stand.texts("disk").pop_first().expect("a file");
        assert!(text.len() > 900_000 && text.ends_with('\n'), "{name}");
        fs::remove_file(stand.path("disk").join(name)).unwrap();
    }
    let counts = counts(&stand, "s.jsonl");
    assert!(counts["failed"].as_u64() > Some(0) && counts["written"].as_u64() > Some(0), "{counts}");
}

#[test]
fn a_full_disk_does_not_end_a_capture() {
    let Some(mut stand) = Stand::live() else { return };
    let disk = stand.mount("256k");
    fs::write(disk.join("ballast"), vec![0; 200_000]).unwrap();
    let mut flowcap = stand.listen("-o disk/f.jsonl --stats s.jsonl --stats-interval 1s -q");
    // More than the disk and the buffer hold.
    let mut next = stand.send_for(0, Duration::from_secs(3), 3_000);
    let dropped = || {
        let stats = fs::read_to_string(stand.path("s.jsonl")).unwrap_or_default();
        let whole = stats.rfind('\n').map_or("", |end| &stats[..=end]);
        records(whole)
            .last()
            .and_then(|stats| stats["sinks"][0]["dropped"]["disk_full"].as_u64())
            .unwrap_or(0)
    };
    flowcap.wait_until("records are dropped", || {
        next = stand.send_for(next, Duration::from_millis(200), 3_000);
        dropped() > 0
    });
    let full = fs::read_to_string(disk.join("f.jsonl")).unwrap();
    assert_eq!(numbers(&full).first(), Some(&0));
    let mount = Command::new("mount").args(["-o", "remount,size=32m"]).arg(&disk).status();
    assert!(mount.unwrap().success());
    let gap = || fs::read_to_string(disk.join("f.jsonl")).unwrap().contains("\"type\":\"gap\"");
    flowcap.wait_until("the gap is told of", gap);
    let end = stand.send_for(next, Duration::from_millis(500), 1_000);
    sleep(Duration::from_millis(500));
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("records not written"), "{}", ran.err);

    let text = fs::read_to_string(disk.join("f.jsonl")).unwrap();
    assert!(text.starts_with(&full));
    let all = records(&text);
    let told: u64 = all.iter().filter_map(|record| record["records"].as_u64()).sum();
    let counts = counts(&stand, "s.jsonl");
    assert_eq!(counts["dropped"], serde_json::json!({ "disk_full": told }));
    assert_eq!(counts["written"].as_u64(), Some(numbers(&text).len() as u64));
    assert_eq!(numbers(&text).len() as u64 + told, u64::from(end));
    // Nothing else is missing: the numbers before a gap and after it are told by its records.
    let mut expected = 0;
    for record in &all {
        match number(record) {
            Some(number) => {
                assert_eq!(u64::from(number), std::mem::replace(&mut expected, u64::from(number) + 1))
            }
            None => {
                assert_eq!(
                    (record["reason"].as_str(), record["type"].as_str()),
                    (Some("disk_full"), Some("gap"))
                );
                expected += record["records"].as_u64().unwrap();
            }
        }
    }
}

#[test]
fn a_folder_that_vanishes_is_made_again() {
    let Some(stand) = Stand::live() else { return };
    for name in ["out/f.jsonl", "out/%Y/f.jsonl", "out/%Y/f.jsonl.zst"] {
        fs::create_dir_all(stand.path("out")).unwrap();
        let mut flowcap = stand.listen(&format!("-o {name} --sync always"));
        let first = stand.send_for(0, Duration::from_millis(500), 1_000);
        let written = || fs::read_dir(stand.path("out")).is_ok_and(|mut out| out.next().is_some());
        flowcap.wait_until("it is written", written);
        fs::remove_dir_all(stand.path("out")).unwrap();
        let start = Instant::now();
        flowcap.wait_until("it is there again", || {
            stand.send_for(1_000_000, Duration::from_millis(10), 100);
            written()
        });
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let end = stand.send_for(first, Duration::from_millis(500), 1_000);
        let ran = flowcap.stop();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let text: String = stand.texts("out").into_values().collect();
        let after: Vec<u32> =
            numbers(&text).into_iter().filter(|number| (first..1_000_000).contains(number)).collect();
        assert_eq!(after, (first..end).collect::<Vec<_>>());
        fs::remove_dir_all(stand.path("out")).unwrap();
    }
}

#[test]
fn a_signal_has_moved_files_made_again_and_nothing_is_lost() {
    let Some(stand) = Stand::live() else { return };
    fs::create_dir(stand.path("out")).unwrap();
    let flowcap = stand.listen("-o out/f.jsonl");
    let mut next = 0;
    for nth in 1..=10 {
        next = stand.send_for(next, Duration::from_millis(300), 2_000);
        fs::rename(stand.path("out/f.jsonl"), stand.path(&format!("out/f.jsonl.{nth}"))).unwrap();
        flowcap.signal("HUP");
        let start = Instant::now();
        while !stand.path("out/f.jsonl").exists() {
            next = stand.send_for(next, Duration::from_millis(20), 2_000);
            assert!(start.elapsed() < Duration::from_secs(3), "no new file");
        }
    }
    next = stand.send_for(next, Duration::from_millis(300), 2_000);
    sleep(Duration::from_millis(300));
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let texts = stand.texts("out");
    assert_eq!(texts.len(), 11);
    let all: String = texts.values().map(String::as_str).collect();
    assert_eq!(numbers(&all), (0..next).collect::<Vec<_>>());
    assert!(texts.values().filter(|text| !text.is_empty()).count() > 5);
}

#[test]
fn every_second_has_a_file_and_the_newest_stay() {
    let Some(stand) = Stand::live() else { return };
    for (ending, flags) in [(".jsonl", "--compress zstd"), (".csv.gz", ""), (".jsonl", "")] {
        let stranger = stand.path("out/2020/f-strange.jsonl");
        fs::create_dir_all(stranger.parent().unwrap()).unwrap();
        fs::write(&stranger, "mine\n").unwrap();
        fs::write(stand.path("out/2020/f-0101000000.jsonl.gz"), "old").unwrap();
        let line = format!("-o out/%Y/f-%m%d%H%M%S{ending} --rotate 1s --keep 3 {flags} --stats s.jsonl");
        let flowcap = stand.listen(&line);
        let end = stand.send_for(0, Duration::from_secs(7), 1_000);
        sleep(Duration::from_millis(500));
        let ran = flowcap.stop();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert_eq!(counts(&stand, "s.jsonl")["written"].as_u64(), Some(u64::from(end)));
        fs::remove_file(stranger).unwrap();
        let _ = fs::remove_file(stand.path("out/2020/f-0101000000.jsonl.gz"));
        let texts = stand.texts("out");
        // The thread that deletes may be one file behind when flowcap ends.
        assert!((3..=5).contains(&texts.len()), "{:?}", texts.keys());
        let all: String = texts.values().map(String::as_str).collect();
        if ending == ".jsonl" {
            let numbers = numbers(&all);
            assert_eq!(numbers, (numbers[0]..end).collect::<Vec<_>>());
        } else {
            assert!(texts.values().all(|text| text.starts_with("type,dst_ip")));
        }
        fs::remove_dir_all(stand.path("out")).unwrap();
        fs::remove_file(stand.path("s.jsonl")).unwrap();
    }
}
