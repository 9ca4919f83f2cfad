//! `flowcap events`: what happens to connections, at each of their ends on the machine.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::Machine;

const SERVER: &str = r#"
call_me("the-server")
listeners = [listen("127.0.0.1", 80), listen("::1", 80)]
say()
held = [listener.accept()[0] for listener in listeners]
wait("end")
for one in held:
    one.recv(10)
    one.close()
wait("stop")
"#;

const CLIENT: &str = r#"
call_me("the-client")
held = [connect("127.0.0.1", 80), connect("::1", 80)]
say(ports=[port(one) for one in held])
wait("end")
for one in held:
    one.close()
wait("stop")
"#;

#[test]
fn each_end_tells_of_its_connection() {
    let Some(machine) = Machine::start() else { return };
    let mut all = machine.capture(&["events", "-i", "lo", "-o", "{}all.jsonl"]);
    let filtered =
        machine.capture(&["events", "-i", "lo", "--process", "the-server", "-o", "{}server.jsonl"]);
    let (server, the_server) = machine.program("server", SERVER);
    let (client, the_client) = machine.program("client", CLIENT);
    all.wait_until("both are opened", || machine.records("all.jsonl").len() >= 4);
    machine.go("end");
    all.wait_until("both are closed", || machine.records("all.jsonl").len() >= 8);
    machine.go("stop");
    for program in [server, client] {
        assert_eq!(program.finish().status.code(), Some(0));
    }
    for flowcap in [all, filtered] {
        let finished = flowcap.stop("INT");
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    }

    let events = machine.records("all.jsonl");
    assert_eq!(events.len(), 8, "{events:#?}");
    for (nth, address) in ["127.0.0.1", "::1"].into_iter().enumerate() {
        let port = the_client["ports"][nth].as_u64().expect("a port");
        for (kind, sport, dport, who) in [
            ("TcpConnectionEstablish", port, 80, &the_client),
            ("TcpConnectionClose", port, 80, &the_client),
            ("TcpConnectionAccept", 80, port, &the_server),
            ("TcpConnectionClose", 80, port, &the_server),
        ] {
            is_whole(one(&events, kind, address, sport, dport), who);
        }
        for (opened, sport, dport) in
            [("TcpConnectionEstablish", port, 80), ("TcpConnectionAccept", 80, port)]
        {
            let opened = one(&events, opened, address, sport, dport);
            let closed = one(&events, "TcpConnectionClose", address, sport, dport);
            assert_eq!(opened["network_event"]["cookie"], closed["network_event"]["cookie"]);
            assert!(opened["timestamp"].as_str() < closed["timestamp"].as_str());
            assert_eq!(opened["source"], "packet");
        }
    }
    let times: Vec<_> = events.iter().map(|event| event["timestamp"].as_str()).collect();
    assert!(times.is_sorted(), "{times:?}");

    // One program's only.
    let is_of_server = |event: &&Value| event["process"]["pid"] == the_server["pid"];
    let of_server: Vec<&Value> = events.iter().filter(is_of_server).collect();
    let filtered = machine.records("server.jsonl");
    assert_eq!(of_server.len(), 4);
    assert_eq!(kinds(filtered.iter()), kinds(of_server));
    assert!(filtered.iter().all(|event| is_of_server(&event)));
}

#[test]
fn refused_connections_fail() {
    let Some(machine) = Machine::start() else { return };
    let mut flowcap = machine.capture(&["events", "-i", "lo", "-o", "{}x.jsonl"]);
    // A listener whose queue is full answers nothing; once it is closed, the next SYN is refused.
    let (server, _) = machine.program(
        "server",
        "one = listen('127.0.0.1', 90, backlog=0)\nwaits = connect('127.0.0.1', 90)\nsay()\n\
         wait('shut')\none.close()\n",
    );
    let (late, the_late) = machine.program(
        "late",
        "one = socket.socket()\none.setblocking(False)\none.connect_ex(('127.0.0.1', 90))\n\
         say(port=port(one))\nwait('end')\n",
    );
    let (at_once, the_first) = machine.program(
        "at_once",
        "one = udp('127.0.0.1')\nown = port(one)\n\
         try:\n    connect('127.0.0.1', 9, source=('127.0.0.1', own))\nexcept ConnectionRefusedError:\n    say(port=own)\n\
         wait('end')\n",
    );
    sleep(Duration::from_millis(200));
    machine.go("shut");
    let failed = || {
        let all = machine.records("x.jsonl").into_iter();
        all.filter(|event| event["network_event"]["type"] == "TcpConnectionFailed").collect::<Vec<_>>()
    };
    flowcap.wait_until("both are refused", || failed().len() >= 2);
    machine.go("end");
    for program in [server, late, at_once] {
        assert_eq!(program.finish().status.code(), Some(0));
    }
    assert_eq!(flowcap.stop("INT").status.code(), Some(0));

    let events = failed();
    assert_eq!(events.len(), 2, "{events:#?}");
    let port = |facts: &Value| facts["port"].as_u64().expect("a port");
    is_whole(one(&events, "TcpConnectionFailed", "127.0.0.1", port(&the_late), 90), &the_late);
    // The socket of the other one was gone before anybody could ask for it: nobody is named, or the right one.
    let event = one(&events, "TcpConnectionFailed", "127.0.0.1", port(&the_first), 9);
    // Its packets and the kernel's notice tell the same; who comes first is named.
    assert!(event["source"] == "packet" || event["source"] == "kernel", "{event}");
    let pid = &event["process"]["pid"];
    assert!(pid.is_null() || *pid == the_first["pid"], "{event}");
}

/// What happened, and the ports.
fn kinds<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let told = events.into_iter().map(|event| {
        let event = &event["network_event"];
        format!("{} {} {} {}", event["type"], event["saddr"], event["sport"], event["dport"])
    });
    let mut told: Vec<String> = told.collect();
    told.sort();
    told
}

fn one<'a>(events: &'a [Value], kind: &str, address: &str, sport: u64, dport: u64) -> &'a Value {
    let is_it = |event: &&Value| {
        let event = &event["network_event"];
        event["type"] == kind
            && (event["sport"].as_u64(), event["dport"].as_u64()) == (Some(sport), Some(dport))
            && event["saddr"] == address
            && event["daddr"] == address
    };
    let found: Vec<&Value> = events.iter().filter(is_it).collect();
    let [event] = found.as_slice() else { panic!("{kind} {address} {sport} {dport}: {events:#?}") };
    event
}

/// Checks the shape of an event, and whose it is.
fn is_whole(event: &Value, who: &Value) {
    let members = |value: &Value| {
        value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    assert_eq!(members(event), ["network_event", "process", "source", "timestamp", "type"], "{event}");
    assert_eq!(event["type"], "NetworkEvent");
    assert!(event["source"] == "packet" || event["source"] == "kernel", "{event}");
    let inner = &event["network_event"];
    assert_eq!(members(inner), ["cookie", "daddr", "dport", "saddr", "sport", "type"], "{event}");
    assert!(inner["cookie"].as_u64() > Some(0), "{event}");
    let process = &event["process"];
    assert_eq!((&process["pid"], &process["binary_path"]), (&who["pid"], &who["exe"]), "{event}");
    let exe = who["exe"].as_str().and_then(|exe| exe.rsplit('/').next());
    assert_eq!(process["filename"].as_str(), exe, "{event}");
    assert!(process["args"].as_str().is_some_and(|args| args.starts_with("-B ")), "{event}");
    for id in ["uid", "euid", "gid", "egid"] {
        assert_eq!(process[id], 0, "{id}: {event}");
    }
    for text in ["cap_inheritable", "cap_permitted", "cap_effective", "secureexec", "start_time"] {
        assert!(process[text].is_string(), "{text}: {event}");
    }
    assert!(process["ppid"].is_u64(), "{event}");
}

#[test]
fn without_privileges_snapshots_and_the_kernels_notices_tell() {
    let Some(machine) = Machine::start() else { return };
    let arguments = ["events", "--interval", "100ms"];
    let mut flowcap = machine.cable.as_nobody(&machine.cable.far, &arguments);
    let (stdout, stderr) = (flowcap.stdout.clone(), flowcap.stderr.clone());
    let lines = |file: &Path| fs::read_to_string(file).unwrap_or_default().lines().count();
    flowcap.wait_until("it says what it cannot do", || lines(&stderr) == 1);
    // Its first snapshot follows.
    sleep(Duration::from_millis(500));
    let (server, _) = machine.program("server", SERVER);
    let (client, the_client) = machine.program("client", CLIENT);
    flowcap.wait_until("both are opened", || lines(&stdout) == 4);
    machine.go("end");
    flowcap.wait_until("both are closed", || lines(&stdout) == 8);
    machine.go("stop");
    for program in [server, client] {
        assert_eq!(program.finish().status.code(), Some(0));
    }
    let finished = flowcap.stop("INT");
    let events = finished.records();
    let port = the_client["ports"][1].as_u64().expect("a port");
    let opened = one(&events, "TcpConnectionEstablish", "::1", port, 80);
    assert_eq!((&opened["source"], &opened["process"]), (&"snapshot".into(), &Value::Null));
    one(&events, "TcpConnectionAccept", "::1", 80, port);
    for (sport, dport) in [(port, 80), (80, port)] {
        let closed = one(&events, "TcpConnectionClose", "::1", sport, dport);
        // Whichever comes first.
        assert!(closed["source"] == "kernel" || closed["source"] == "snapshot", "{closed}");
    }
    let notes: Vec<&str> = finished.stderr.lines().collect();
    assert!(notes.len() == 1 && notes[0].contains("no permission to capture"), "{}", finished.stderr);
}

#[test]
fn an_output_that_fails_takes_nothing_from_the_others() {
    let Some(machine) = Machine::start() else { return };
    let flowcap = machine.capture(&["events", "-i", "lo", "-o", "/dev/full", "-o", "{}all.jsonl"]);
    let (server, _) = machine.program(
        "server",
        "one = listen('127.0.0.1', 80)\nsay()\nheld = [one.accept()[0] for _ in range(20)]\nwait('end')\n",
    );
    let (client, _) = machine
        .program("client", "held = [connect('127.0.0.1', 80) for _ in range(20)]\nsay()\nwait('end')\n");
    let finished = flowcap.finish();
    assert_eq!(finished.status.code(), Some(74), "{}", finished.stderr);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);
    machine.go("end");
    for program in [server, client] {
        assert_eq!(program.finish().status.code(), Some(0));
    }
    // At least those of the moment in which it failed, each whole.
    assert!(!machine.records("all.jsonl").is_empty());
}
