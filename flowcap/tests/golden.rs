//! Replays every capture of testdata/captures and compares the output, byte for byte, with what lies in
//! testdata/golden. `make golden` writes that folder anew; read its diff before committing it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// The captures that end in damage, with what is said of it; all others are read whole.
const DAMAGED: &[(&str, &str)] = &[("cut_short.pcap", "damaged at byte 222")];

/// The captures whose output is also kept as CSV and as a table.
const IN_EVERY_FORMAT: &[&str] = &["dns_udp.pcap", "http.pcap", "ng_interfaces.pcapng", "tunnels.pcap"];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

fn captures() -> Vec<PathBuf> {
    let folder = fs::read_dir(testdata().join("captures")).expect("testdata/captures");
    let mut captures: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    captures.sort();
    captures
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8")
}

fn flowcap(capture: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
    command.arg("--quiet").arg("--read").arg(capture).args(flags);
    command.output().expect("flowcap runs")
}

/// The golden files of a capture: the extension behind its name, and the flags that make them.
fn outputs(capture: &Path) -> Vec<(&'static str, &'static [&'static str])> {
    let mut outputs: Vec<(_, &[_])> = vec![("jsonl", &["--fields", "@all"])];
    if IN_EVERY_FORMAT.contains(&file_name(capture)) {
        outputs.push(("csv", &["--format", "csv"]));
        outputs.push(("table", &["--format", "table"]));
    }
    outputs
}

#[test]
fn every_capture_gives_its_golden_output() {
    let rewrite = env::var_os("GOLDEN").is_some_and(|value| value == "rewrite");
    let golden = testdata().join("golden");
    let mut expected_files = BTreeSet::new();
    let mut differences = Vec::new();
    for capture in captures() {
        for (extension, flags) in outputs(&capture) {
            let name = format!("{}.{extension}", file_name(&capture));
            let output = flowcap(&capture, flags);
            if rewrite {
                fs::write(golden.join(&name), &output.stdout).expect("testdata/golden can be written");
            } else if let Some(difference) = difference(&golden.join(&name), &output.stdout) {
                differences.push(format!("{name}: {difference}"));
            }
            expected_files.insert(name);
        }
    }
    assert!(differences.is_empty(), "`make golden` accepts these:\n{}", differences.join("\n"));

    let entries = fs::read_dir(&golden).expect("testdata/golden");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        assert!(expected_files.contains(file_name(&path)), "no capture belongs to {}", path.display());
    }
}

/// Returns the first line that differs, as it is expected and as it is.
fn difference(golden: &Path, output: &[u8]) -> Option<String> {
    let Ok(expected) = fs::read_to_string(golden) else { return Some("there is no golden file".into()) };
    let output = String::from_utf8(output.to_vec()).expect("UTF-8");
    if expected == output {
        return None;
    }
    let (mut old, mut new) = (expected.lines(), output.lines());
    for line in 1.. {
        let (old, new) = (old.next(), new.next());
        if old != new || old.is_none() {
            return Some(format!("line {line}\n  golden: {}\n  now:    {}", shown(old), shown(new)));
        }
    }
    None
}

fn shown(line: Option<&str>) -> &str {
    line.unwrap_or("(no such line)")
}

#[test]
fn damage_is_told_and_everything_else_is_read_whole() {
    for capture in captures() {
        let output = flowcap(&capture, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        match DAMAGED.iter().find(|(name, _)| *name == file_name(&capture)) {
            Some((name, what)) => {
                assert_eq!(output.status.code(), Some(65), "{name}: {said}");
                assert!(said.contains(what), "{name}: {said}");
            }
            None => {
                assert_eq!(output.status.code(), Some(0), "{}: {said}", capture.display());
                assert_eq!(said, "", "{}", capture.display());
            }
        }
    }
}

#[test]
fn the_number_of_shards_changes_nothing() {
    for capture in captures() {
        let one = flowcap(&capture, &["--fields", "@all", "--shards", "1"]);
        for shards in ["2", "5"] {
            let many = flowcap(&capture, &["--fields", "@all", "--shards", shards]);
            assert!(one.stdout == many.stdout, "{} with {shards} shards", capture.display());
        }
    }
}

#[test]
fn the_made_captures_are_those_of_the_generator() {
    let script = testdata().join("make/synthetic.py");
    let Ok(output) = Command::new("python3").arg("-B").arg(script).arg("--check").output() else {
        assert!(env::var_os("CI").is_none(), "python3 is missing");
        let _ = writeln!(std::io::stderr(), "SKIPPED: python3 is missing");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
