//! All processes of a running flowcap, from outside: each may do what it is for, and leaves no core file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use rustix::thread::{Uid, set_thread_res_uid};

use crate::cable::{Cable, LINK, Program, text};
use crate::processes::{does, family, status};
use crate::sandbox::{Mode, Profile, Role, enter};
use crate::{can_be_had, is_root};

/// CAP_NET_RAW, as /proc shows it.
const NET_RAW: &str = "0000000000002000";
/// CAP_DAC_READ_SEARCH, CAP_NET_RAW, CAP_SYS_PTRACE.
const LOOKUPS: &str = "0000000000082004";
const NONE: &str = "0000000000000000";

/// Waits until a capture has these processes besides, each with the one that starts it again, and looks at all of them.
pub fn are_confined(flowcap: &mut Program, beside: &[&str], user: &str) {
    let process = flowcap.id();
    let keepers =
        beside.iter().map(|does| format!("starts {}", if *does == "sends" { "ship" } else { does }));
    let expected: BTreeSet<_> = beside.iter().map(|does| (*does).to_owned()).chain(keepers).collect();
    let here = || family(process).into_iter().skip(1);
    flowcap.wait_until("all of them work", || {
        let is_in = |&one: &u32| status(one, "Seccomp").as_deref() == Some("2");
        here().filter_map(does).collect::<BTreeSet<_>>() == expected
            && here().filter(is_in).filter(|&one| threads(one).len() > 1).count() * 2 == here().count()
    });
    is_confined(process, NET_RAW, "2", user);
    for one in here() {
        let does = does(one).expect("it is there");
        let capabilities = if does == "sends" || does == "starts ship" { NONE } else { LOOKUPS };
        is_confined(one, capabilities, if does.starts_with("starts ") { "0" } else { "2" }, user);
    }
}

/// Looks at all threads of a process: user, capabilities, no new privileges, seccomp; and at what a crash would leave.
fn is_confined(process: u32, capabilities: &str, seccomp: &str, user: &str) {
    for thread in threads(process) {
        let status = fs::read_to_string(&thread).expect("a status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{name} in {status}")).split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!((field("Uid"), field("Gid")), (vec![user; 4], vec![user; 4]), "{status}");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(field(set), [capabilities], "{set}: {status}");
        }
        // Who starts a program has to pass on what that one needs.
        let passed = if seccomp == "0" { capabilities } else { NONE };
        assert_eq!((field("CapInh"), field("CapAmb")), (vec![passed], vec![passed]), "{status}");
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), (vec!["1"], vec![seccomp]), "{status}");
        // The kernel gives to root what is known of a process that is not to be dumped.
        assert_eq!(fs::metadata(&thread).expect("a status").uid(), 0, "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"], "{limits}");
}

/// Returns the files with the status of each thread of a process.
fn threads(process: u32) -> Vec<std::path::PathBuf> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path().join("status")).collect()
}

#[test]
fn every_process_of_a_service() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let folder = cable.folder.path();
    let (config, open) = (folder.join("f.toml"), folder.join("open"));
    fs::create_dir(&open).expect("a folder");
    let to = |server: &str, spool: &str| {
        format!("[[output]]\nto = '{server}'\nspool = '{}'\n", open.join(spool).display())
    };
    // Nobody listens there.
    let [http, unix] = [("http://127.0.0.1:9/", "1"), ("unix:///no/such/ear", "2")].map(|(a, b)| to(a, b));
    fs::write(&config, format!("{http}{unix}[sockets]\n[events]\n")).expect("a file");
    for path in [folder, &open] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("permissions");
    }
    for (more, user) in [(&["-Z", "nobody"][..], "65534"), (&[], "0")] {
        let line = [&["-C", text(&config), "-i", LINK, "--sandbox", "require"], more].concat();
        let mut flowcap = cable.listen(&line);
        are_confined(&mut flowcap, &["lookups", "sends", "watch"], user);
        assert_eq!(flowcap.stop("INT").status.code(), Some(0));
        fs::remove_dir_all(&open).and_then(|()| fs::create_dir(&open)).expect("a folder");
    }
}

#[test]
fn a_replay() {
    if !can_be_had() || !is_root() {
        return;
    }
    for (more, user) in [(&["-Z", "65534:65534"][..], "65534"), (&[], "0")] {
        let mut flowcap = Command::new(env!("CARGO_BIN_EXE_flowcap"));
        flowcap.args(["-r", "-", "-o", "-", "--sandbox", "require"]).args(more);
        let mut flowcap = flowcap
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("flowcap runs");
        let mut said = std::io::BufReader::new(flowcap.stderr.take().expect("a pipe"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).expect("text");
        assert!(line.contains("sandbox: "), "{line}");
        is_confined(flowcap.id(), NONE, "2", user);
        flowcap.kill().and_then(|()| flowcap.wait()).expect("it ends");
    }
}

/// Whichever process is the first that would have to.
#[test]
fn a_user_that_root_may_not_become() {
    let Some(cable) = Cable::lay().filter(|_| can_be_had()) else { return };
    let file = |name: &str| text(&cable.folder.path().join(name)).to_owned();
    let (config, spool, sockets) = (file("f.toml"), file("spool"), file("sockets.jsonl"));
    fs::write(&config, format!("[[output]]\nto = 'tcp://127.0.0.1:9'\nspool = '{spool}'\n")).expect("a file");
    let lines = [
        &["-r", "/dev/null", "-o", "/dev/null"][..],
        &["-r", "/dev/null", "-C", &config],
        &["-i", LINK, "-o", "/dev/null"],
        &["-i", LINK, "-o", "/dev/null", "--write-sockets", &sockets],
    ];
    for line in lines {
        let start = ["--bounding-set=-setuid,-setgid", env!("CARGO_BIN_EXE_flowcap"), "-Z", "nobody"];
        let refused = cable.start(&cable.far, "setpriv", &[&start, line].concat()).finish();
        assert_eq!(refused.status.code(), Some(77), "{line:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("-Z nobody: "), "{line:?}: {}", refused.stderr);
    }
}

/// Who has kept a way back to root does not go on, whatever the mode.
#[test]
fn root_cannot_be_had_again() {
    if !is_root() {
        return;
    }
    let myself = std::env::current_exe().expect("a program");
    let tried = Command::new(myself)
        .args(["--ignored", "--exact", "roles::somebody_who_can_be_root_again"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&tried.stdout);
    assert!(tried.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by the test above"]
fn somebody_who_can_be_root_again() {
    for mode in [Mode::Require, Mode::Auto] {
        // Who a thread is does not concern the others.
        let refusal = std::thread::spawn(move || {
            let (nobody, root) = (Uid::from_raw(65_534), Uid::ROOT);
            set_thread_res_uid(nobody, nobody, root).expect("root may");
            let (folders, files, ports) = (Vec::new(), Vec::new(), Vec::new());
            let profile = Profile { role: Role::Replay, user: None, folders, files, ports };
            enter(&profile, mode).expect_err("a refusal").to_string()
        });
        assert_eq!(refusal.join().expect("no panic"), "dropping capabilities: root can be had again");
    }
}
