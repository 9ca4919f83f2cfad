//! Replays in the sandbox.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::cable::{skip, testdata, text};
use crate::{can_be_had, flowcap, is_root};

#[test]
fn every_capture_gives_the_same_bytes() {
    if !can_be_had() {
        return;
    }
    let captures = fs::read_dir(testdata().join("captures")).expect("captures");
    let mut paths: Vec<_> = captures.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() > 20);
    let replay = |mode: &str, path: &Path| {
        let output =
            flowcap(&["-q", "--sandbox", mode, "--fields", "@all", "--stats", "-", "-r", text(path)]);
        (output.status.code(), without_run(&output), output.stderr)
    };
    for path in paths {
        assert_eq!(replay("require", &path), replay("off", &path), "{}", path.display());
    }
}

/// Standard output, but for what differs from run to run.
fn without_run(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let flows = text.lines().filter(|line| !line.contains(r#""type":"stats""#));
    flows.map(str::to_owned).collect()
}

#[test]
fn all_outputs_filters_and_inputs_work() {
    if !can_be_had() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| text(&folder.path().join(name)).to_owned();
    let http = testdata().join("captures/http.pcap");
    let dns = testdata().join("captures/dns.pcap");
    let names = ["a.jsonl", "a.csv", "b.jsonl.zst", "b.csv.gz"].map(file);
    let mut line =
        vec!["--sandbox", "require", "-f", "tcp or udp", "-r", text(&http), "-r", text(&dns), "-o", "-"];
    names.iter().for_each(|name| line.extend(["-o", name]));
    let stats = file("stats.jsonl");
    line.extend(["--stats", &stats]);
    let output = flowcap(&line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.starts_with("flowcap: sandbox: Landlock ") && said.contains(", seccomp, capabilities: none\n"),
        "{said}"
    );
    for name in names.iter().chain([&stats]) {
        assert!(fs::metadata(name).is_ok_and(|file| file.len() > 0), "{name}");
    }
    assert_eq!(fs::read(&names[0]).expect("a file"), output.stdout);
}

#[test]
fn root_writes_into_the_folder_of_somebody_else() {
    if !can_be_had() || !is_root() {
        return;
    }
    let (folder, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for (path, owner) in [(folder.path(), 0), (home.path(), 65_534)] {
        std::os::unix::fs::chown(path, Some(owner), Some(owner)).expect("root may");
    }
    let http = testdata().join("captures/http.pcap");
    let replay = |folder: &Path, more: &[&str]| {
        let outputs = ["a.jsonl.zst", "b-%H.jsonl"].map(|name| text(&folder.join(name)).to_owned());
        let line = [&["-r", text(&http), "--force", "-o", &outputs[0], "-o", &outputs[1]], more].concat();
        let output = flowcap(&line);
        let whole = fs::metadata(&outputs[0]).is_ok_and(|file| file.len() > 0);
        (output.status.code(), whole, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, whole, said) = replay(folder.path(), &[]);
    assert!(code == Some(0) && whole && said.contains("capabilities: none\n"), "{said}");
    let (code, whole, said) = replay(home.path(), &[]);
    assert!(code == Some(0) && whole && said.contains("capabilities: cap_dac_override\n"), "{said}");
    // Another user has no such right.
    let (code, _, said) = replay(folder.path(), &["-Z", "nobody"]);
    assert!(code == Some(77) && said.contains("nobody cannot create files there"), "{said}");
}

#[test]
fn standard_input_works() {
    if !can_be_had() {
        return;
    }
    let path = testdata().join("captures/http.pcap");
    let line =
        format!("cat '{}' | '{}' -q --sandbox require -r -", path.display(), env!("CARGO_BIN_EXE_flowcap"));
    let piped = Command::new("sh").args(["-c", &line]).output().expect("a shell");
    assert_eq!(piped.status.code(), Some(0), "{}", String::from_utf8_lossy(&piped.stderr));
    assert_eq!(piped.stdout, flowcap(&["-q", "--sandbox", "off", "-r", text(&path)]).stdout);
}

#[test]
fn a_kernel_without_landlock() {
    if !can_be_had() || !cfg!(target_arch = "x86_64") {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox/calls.py");
    let path = testdata().join("captures/http.pcap");
    let run = |mode: &str| {
        let mut python = Command::new("python3");
        python.arg("-B").arg(&script).args([
            "without-landlock",
            env!("CARGO_BIN_EXE_flowcap"),
            "--sandbox",
            mode,
        ]);
        python.args(["-r", text(&path)]).output()
    };
    let Ok(required) = run("require") else { return skip("no python3") };
    let said = String::from_utf8_lossy(&required.stderr);
    assert_eq!((required.status.code(), required.stdout.len()), (Some(77), 0), "{said}");
    assert!(said.contains("--sandbox require: Landlock: not enabled in this kernel"), "{said}");
    let auto = run("auto").expect("python3");
    let said = String::from_utf8_lossy(&auto.stderr);
    assert_eq!(auto.status.code(), Some(0), "{said}");
    assert!(said.contains("sandbox: seccomp, capabilities: none, missing: Landlock: not enabled"), "{said}");
    assert!(!auto.stdout.is_empty());
}

#[test]
fn a_user_that_cannot_be_had_ends_it() {
    let path = testdata().join("captures/http.pcap");
    let unknown = flowcap(&["-r", text(&path), "-Z", "no-such-user"]);
    assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(2), 0));
    for mode in ["require", "auto", "off"] {
        let line = ["-r", text(&path), "-Z", "root", "--sandbox", mode];
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
        let folder = tempfile::tempdir().expect("a folder");
        if rustix::process::geteuid().is_root() {
            let open_to_all = |path: &Path| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
            };
            let [copy, capture] = ["flowcap", "http.pcap"].map(|name| folder.path().join(name));
            fs::copy(env!("CARGO_BIN_EXE_flowcap"), &copy).expect("a copy");
            fs::copy(&path, &capture).expect("a copy");
            [folder.path(), &copy].into_iter().for_each(open_to_all);
            command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(copy)
                .arg("-r")
                .arg(capture);
            command.args(&line[2..]);
        } else {
            command.args(line);
        }
        let Ok(refused) = command.output() else { return skip("no setpriv") };
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(77), 0), "{mode}: {said}");
        assert!(said.contains("-Z root: only root can become another user"), "{said}");
    }
}
