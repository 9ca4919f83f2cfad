//! `[sockets]` and `[events]` of a configuration: watched beside a capture, by a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::{Machine, last_words, text};

const SERVER: &str = r#"
call_me("the-server")
listener = listen("127.0.0.1", 80)
say()
wait("talk")
near, far = meet(listener, "127.0.0.1")
near.sendall(b"hello")
receive(far, 5)
wait("end")
"#;

/// Watches everything and talks; returns what flowcap said at its end, for more that is in its configuration.
fn watch(machine: &Machine, more: &str) -> crate::Finished {
    let folder = text(machine.cable.folder.path()).to_owned();
    let configuration = format!(
        "interface = 'lo'\nstats = '{folder}/stats.jsonl'\n[[output]]\nto = '{folder}/all.jsonl'\n\
         [[output]]\nto = '{folder}/flows.csv'\n[[output]]\nto = '{folder}/sockets.jsonl'\ntypes = 'socket'\n\
         [sockets]\ninterval = '200ms'\nchanges = true\nlistening = true\nwith = ['process', 'stats', 'routes']\n\
         allow = ['tcp/22 sshd']\n\
         [events]\n[[events.output]]\nto = '{folder}/events.jsonl'\n\
         [[events.output]]\nto = '{folder}/events-%s.csv'\nrotate = '1s'\n{more}"
    );
    fs::write(machine.path("flowcap.toml"), configuration).expect("a file");
    let flowcap = machine.capture(&["-C", "{}flowcap.toml"]);
    let (server, the_server) = machine.program("server", SERVER);
    sleep(Duration::from_secs(1));
    machine.go("talk");
    sleep(Duration::from_secs(1));
    machine.go("end");
    assert_eq!(server.finish().status.code(), Some(0));
    sleep(Duration::from_secs(1));
    let finished = flowcap.stop("INT");
    fs::write(machine.path("pid"), the_server["pid"].to_string()).expect("a file");
    finished
}

fn types(records: &[Value]) -> Vec<&str> {
    let mut types: Vec<_> = records.iter().filter_map(|record| record["type"].as_str()).collect();
    types.sort_unstable();
    types.dedup();
    types
}

/// All of it is there, of the right process, and counted.
fn is_whole(machine: &Machine) {
    let pid: u64 = machine.read("pid").parse().expect("a number");
    let all = machine.records("all.jsonl");
    assert_eq!(types(&all), ["alert", "flow", "network_stats", "process", "route", "socket"]);
    let sockets = machine.records("sockets.jsonl");
    assert_eq!(types(&sockets), ["socket"]);
    let of_server: Vec<_> = sockets.iter().filter(|record| record["local_port"] == 80).collect();
    let changes: Vec<_> = of_server.iter().filter_map(|record| record["change"].as_str()).collect();
    assert_eq!(changes, ["opened", "closed"], "{of_server:#?}");
    assert!(of_server.iter().all(|record| record["process"]["pid"] == pid), "{of_server:#?}");
    let alert = all.iter().find(|record| record["type"] == "alert" && record["socket"]["local_port"] == 80);
    assert_eq!(alert.expect("an alert")["rule"], "unexpected_listener");
    let flow = all.iter().find(|record| record["type"] == "flow" && record["dst_port"] == 80);
    assert_eq!(flow.expect("a flow")["dst_process"]["pid"], pid);

    let events = machine.records("events.jsonl");
    let kinds: Vec<_> = events.iter().map(|record| record["network_event"]["type"].as_str()).collect();
    for kind in ["TcpConnectionEstablish", "TcpConnectionAccept", "TcpConnectionClose"] {
        assert!(kinds.contains(&Some(kind)), "{kinds:?}");
    }
    assert!(events.iter().all(|record| record["process"]["pid"] == pid), "{events:#?}");
    let mut rows = 0;
    for file in fs::read_dir(machine.cable.folder.path()).expect("a folder").flatten() {
        let name = file.file_name().into_string().expect("UTF-8");
        if name.starts_with("events-") {
            rows += machine.read(&name).lines().count().saturating_sub(1);
        }
    }
    assert_eq!(rows, events.len(), "rotated files");

    let stats = machine.records("stats.jsonl").pop().expect("counters");
    let sink = |name: &str| {
        let mut sinks = stats["sinks"].as_array().into_iter().flatten();
        sinks.find(|sink| sink["to"].as_str().is_some_and(|to| to.ends_with(name))).expect("a sink").clone()
    };
    let flows = all.iter().filter(|record| record["type"] == "flow").count();
    assert_eq!(sink("all.jsonl")["written"], all.len());
    assert_eq!(sink("all.jsonl")["host_records"], all.len() - flows);
    assert_eq!(sink("flows.csv")["records"], flows);
    assert_eq!(sink("/sockets.jsonl")["filtered"], all.len() - sockets.len());
    assert_eq!(sink("events.jsonl")["written"], events.len());
}

#[test]
fn sockets_and_events_are_watched_beside_a_capture() {
    let Some(machine) = Machine::start() else { return };
    let finished = watch(&machine, "");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("Unexpected listener on TCP port 80"), "{}", finished.stderr);
    is_whole(&machine);
}

#[test]
fn they_are_watched_without_a_sandbox_as_well() {
    let Some(machine) = Machine::start() else { return };
    let finished = watch(&machine, "[running]\nsandbox = 'off'\nquiet = true\n");
    assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""));
    is_whole(&machine);
}

#[test]
fn what_cannot_be_watched_is_said_at_the_start() {
    let Some(machine) = Machine::start() else { return };
    let start = |sections: &str, flags: &[&str]| {
        fs::write(machine.path("flowcap.toml"), format!("interface = 'lo'\n{sections}")).expect("a file");
        let finished = machine.flowcap(&[&["-C", "{}flowcap.toml"], flags].concat());
        (finished.status.code(), finished.stderr)
    };
    let (code, said) = start("[sockets]\nbaseline = '/no/such.jsonl'\n", &["-o", "{}x.jsonl"]);
    assert!(code == Some(66) && said.contains("/no/such.jsonl"), "{code:?} {said}");
    let (code, said) = start("[events]\ninterface = 'no-such'\n", &["-o", "{}x.jsonl"]);
    assert!(code == Some(66) && said.contains("no-such"), "{code:?} {said}");
    let (code, said) = start("[events]\n", &["-o", "{}x.csv"]);
    assert!(code == Some(78) && said.contains("[[events.output]]"), "{code:?} {said}");
}

const HEALTH: &str = r#"
import urllib.request, urllib.error
def health():
    try:
        return urllib.request.urlopen("http://127.0.0.1:9464/health").read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError as error:
        return str(error)
said = [health()]
say(said=said)
while not os.path.exists(os.path.join(sys.argv[1], "heard")):
    now = health()
    if now != said[-1]:
        said.append(now)
    time.sleep(0.01)
say(said=said)
"#;

/// The processes that work beside a capture, by what they do.
fn workers(flowcap: u32) -> BTreeMap<String, u32> {
    let words = |process: u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect::<Vec<_>>()
    };
    let children = |process: u32| {
        let entries = fs::read_dir("/proc").expect("processes").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_child = move |number: &u32| {
            let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            status.lines().any(|line| line == format!("PPid:\t{process}"))
        };
        numbers.filter(is_child).collect::<Vec<_>>()
    };
    let all = children(flowcap).into_iter().flat_map(children);
    let named = all.filter_map(|process| {
        let words = words(process);
        let what = words.iter().find(|word| ["lookups", "sockets", "events"].contains(&word.as_str()))?;
        Some((what.clone(), process))
    });
    named.collect()
}

#[test]
fn what_dies_beside_a_capture_is_started_again() {
    let Some(machine) = Machine::start() else { return };
    let folder = text(machine.cable.folder.path()).to_owned();
    let configuration = format!(
        "interface = 'lo'\nstats = '{folder}/stats.jsonl'\n[[output]]\nto = '{folder}/all.jsonl'\n\
         [running]\nmetrics = '127.0.0.1:9464'\nuser = 'nobody'\n\
         [sockets]\ninterval = '200ms'\nchanges = true\n[events]\n[[events.output]]\nto = '{folder}/events.jsonl'\n"
    );
    fs::write(machine.path("flowcap.toml"), configuration).expect("a file");
    // Outputs are looked for, and made again, as that user.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("permissions");
    let mut flowcap = machine.capture(&["-C", "{}flowcap.toml"]);
    sleep(Duration::from_secs(2));
    let (ear, _) = machine.program("ear", HEALTH);
    let before = workers(flowcap.id());
    assert_eq!(before.len(), 3, "{before:?}");
    let numbers: Vec<String> = before.values().map(u32::to_string).collect();
    let line = format!("kill -KILL {}", numbers.join(" "));
    assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    let id = flowcap.id();
    flowcap.wait_until("others are in their place", || {
        let now = workers(id);
        now.len() == 3 && now.iter().all(|(what, process)| before[what] != *process)
    });
    // Until they have begun to work.
    sleep(Duration::from_secs(2));
    machine.go("heard");
    let said = last_words(&ear.finish())["said"].clone();
    let (server, the_server) = machine.program("server", SERVER);
    sleep(Duration::from_millis(500));
    machine.go("talk");
    sleep(Duration::from_secs(1));
    machine.go("end");
    assert_eq!(server.finish().status.code(), Some(0));
    sleep(Duration::from_secs(1));
    let finished = flowcap.stop("INT");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    for who in ["looks up sockets", "watches sockets", "follows events"] {
        let line =
            format!("the process that {who} has ended: signal: 9 (SIGKILL); it is started again in 1 s");
        assert!(finished.stderr.contains(&line), "{}", finished.stderr);
    }
    let said: Vec<&str> = said.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!((said.first(), said.last()), (Some(&"well\n"), Some(&"well\n")), "{said:?}");
    assert!(
        said.iter().any(|said| said.starts_with("503 missing: ") && said.contains("looks up sockets")),
        "{said:?}"
    );
    let stats = machine.records("stats.jsonl").pop().expect("counters");
    assert_eq!(stats["restarts"], serde_json::json!({"lookups": 1, "sockets": 1, "events": 1}));
    // They do what the first ones did.
    let pid = &the_server["pid"];
    let all = machine.records("all.jsonl");
    let flow = all.iter().find(|record| record["type"] == "flow" && record["dst_port"] == 80);
    assert_eq!(&flow.expect("a flow")["dst_process"]["pid"], pid);
    let opened = |record: &&Value| record["type"] == "socket" && record["change"] == "opened";
    assert!(all.iter().filter(opened).any(|record| &record["process"]["pid"] == pid));
    let events = machine.records("events.jsonl");
    let accepted = |record: &&Value| record["network_event"]["type"] == "TcpConnectionAccept";
    assert!(events.iter().filter(accepted).any(|record| &record["process"]["pid"] == pid), "{events:#?}");
}

#[test]
fn who_watches_and_hangs_costs_no_flow() {
    let Some(machine) = Machine::start() else { return };
    fs::write(machine.path("f.toml"), "interface = 'lo'\n[[output]]\nto = '-'\n[sockets]\n").expect("a file");
    let flowcap = machine.capture(&["-C", "{}f.toml"]);
    let (server, _) = machine.program("server", SERVER);
    machine.go("talk");
    machine.go("end");
    assert_eq!(server.finish().status.code(), Some(0));
    sleep(Duration::from_secs(1));
    let watcher = workers(flowcap.id())["sockets"];
    let signal = |name: &str| {
        let kill = Command::new("kill").args([name, &watcher.to_string()]).status();
        assert!(kill.expect("kill runs").success());
    };
    signal("-STOP");
    let finished = flowcap.stop("INT");
    signal("-CONT");
    assert_eq!(finished.status.code(), Some(70), "{}", finished.stderr);
    assert!(finished.stderr.contains("the process that watches sockets does not end"), "{}", finished.stderr);
    let flows = crate::records(&finished.stdout);
    assert!(flows.iter().any(|record| record["dst_port"] == 80), "{}", finished.stdout);
}

#[test]
fn a_duration_is_no_failure() {
    let Some(machine) = Machine::start() else { return };
    let configuration = "interface = 'lo'\nduration = '3s'\n[events]\nduration = '500ms'\n";
    fs::write(machine.path("f.toml"), configuration).expect("a file");
    let finished = machine.flowcap(&["-C", "{}f.toml", "-q"]);
    assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""));
}
