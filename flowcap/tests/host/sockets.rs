//! `flowcap sockets`: beside `ss`, from one snapshot to the next, against a baseline, without privileges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::cable::{Finished, records};
use crate::{FAR_V6, Machine, NEAR};

/// Protocol, state, local and remote end, as text.
type Ends = (String, String, String, String);

/// Sockets of every kind and state that TCP and UDP have; a child shares one of the listeners.
const EVERY_KIND: &str = r#"
web = listen("127.0.0.1", 80)
both = listen("::", 8080)
only = listen("::1", 22, only_v6=True)
held = [*meet(web, "127.0.0.1"), *meet(both, "::1"), *meet(both, "127.0.0.1"), *meet(both, "::ffff:127.0.0.1")]
near, far = meet(web, "127.0.0.1")
near.shutdown(socket.SHUT_WR)  # FIN_WAIT2 and CLOSE_WAIT
gone = meet(only, "::1")
gone[0].close()
gone[1].close()  # TIME_WAIT
full = listen("127.0.0.1", 9000, backlog=0)
waits = connect("127.0.0.1", 9000)  # nobody has accepted it
asks = socket.socket()
asks.setblocking(False)
asks.connect_ex(("127.0.0.1", 9000))  # SYN_SENT, as the queue is full
names = udp("127.0.0.1", 53)
names6 = udp("::", 5353)
bound = [udp("127.0.0.1", to=("127.0.0.1", 53)), udp("::1", to=("::1", 5353)), udp("::ffff:127.0.0.1", to=("::ffff:127.0.0.1", 53))]
if os.fork() == 0:
    for one in [web, only, near, far, full, waits, asks, names, names6, *held, *bound]:
        one.close()
    wait("end")
    os._exit(0)
time.sleep(0.3)
say()
wait("end")
os.wait()
"#;

#[test]
fn the_sockets_are_those_of_ss() {
    let Some(machine) = Machine::start() else { return };
    let (program, facts) = machine.program("every_kind", EVERY_KIND);
    let (other, _) = machine.program("other", "one = listen('0.0.0.0', 7)\nsay()\nwait('end')\n");
    let snapshot = || machine.flowcap(&["sockets", "--once", "-T", "csv"]);
    let listing = || machine.cable.start(&machine.cable.far, "ss", &["-tunapH"]).finish();

    // Before and after, since sockets move by themselves.
    let (before, ours, after) = (listing(), snapshot(), listing());
    let listed = by_ss(&before.stdout);
    assert_eq!(listed.keys().collect::<Vec<_>>(), by_ss(&after.stdout).keys().collect::<Vec<_>>());
    assert_eq!((ours.status.code(), ours.stderr.as_str()), (Some(0), ""));
    let shown = by_csv(&ours.stdout);
    assert_eq!(shown.keys().collect::<Vec<_>>(), listed.keys().collect::<Vec<_>>());

    for (ends, holders) in &listed {
        let rows = &shown[ends];
        assert_eq!(rows.len(), holders.len(), "{ends:?}");
        // One row of each stands for itself: no two sockets of these programs have the same ends.
        let ([row], [holders]) = (rows.as_slice(), holders.as_slice()) else { panic!("{ends:?}: {rows:?}") };
        match holders.len() {
            0 => assert_eq!(row["process_pid"], "", "{row:?}"),
            1 => assert_eq!(row["process_pid"], holders.first().expect("one").to_string(), "{row:?}"),
            _ => {
                let pid = row["process_pid"].parse().expect("a pid");
                assert!(holders.contains(&pid), "{row:?} {holders:?}");
                assert_eq!(row["process_shared"], holders.len().to_string(), "{row:?}");
            }
        }
        assert_eq!(row["change"], "present");
        assert_eq!(row["user"], "root");
    }
    let has = |protocol: &str, state: &str, local: &str| {
        listed.keys().any(|ends| ends.0 == protocol && ends.1 == state && ends.2.starts_with(local))
    };
    for (protocol, state, local) in [
        ("TCP", "LISTEN", "127.0.0.1:80"),
        ("TCPv6", "LISTEN", ":::8080"),
        ("TCPv6", "LISTEN", "::1:22"),
        ("TCP", "ESTABLISHED", "127.0.0.1:80"),
        ("TCPv6", "ESTABLISHED", "::1:8080"),
        ("TCPv6", "ESTABLISHED", "::ffff:127.0.0.1:8080"),
        ("TCP", "FIN_WAIT2", "127.0.0.1:"),
        ("TCP", "CLOSE_WAIT", "127.0.0.1:80"),
        ("TCP", "SYN_SENT", "127.0.0.1:"),
        ("UDP", "UNCONN", "127.0.0.1:53"),
        ("UDP", "ESTABLISHED", "127.0.0.1:"),
        ("UDPv6", "UNCONN", ":::5353"),
        ("UDPv6", "ESTABLISHED", "::1:"),
        ("UDPv6", "ESTABLISHED", "::ffff:127.0.0.1:"),
    ] {
        assert!(has(protocol, state, local), "ss shows no {protocol} {state} {local}: {listed:#?}");
    }
    let pid = facts["pid"].to_string();
    assert!(shown.values().flatten().any(|row| row["process_pid"] == pid));

    // The table has the same rows.
    let table = machine.flowcap(&["sockets", "--once"]).stdout;
    let rows = table.lines().filter(|line| line.starts_with("TCP") || line.starts_with("UDP")).count();
    assert_eq!(rows, listed.len(), "{table}");
    machine.go("end");
    for program in [program, other] {
        assert_eq!(program.finish().status.code(), Some(0));
    }
}

/// The rows of `ss -tunapH` without TIME_WAIT, which no process holds; with the processes that hold each.
fn by_ss(listing: &str) -> BTreeMap<Ends, Vec<BTreeSet<u32>>> {
    let mut rows: BTreeMap<Ends, Vec<BTreeSet<u32>>> = BTreeMap::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [protocol, state, _, _, local, remote, holders @ ..] = words.as_slice() else {
            panic!("ss: {line}")
        };
        if *state == "TIME-WAIT" {
            continue;
        }
        // A socket of IPv6 that takes IPv4, too, is bound to *.
        let is_v6 = local.starts_with(['[', '*']);
        let protocol = format!("{}{}", protocol.to_uppercase(), if is_v6 { "v6" } else { "" });
        let state = match *state {
            "ESTAB" => "ESTABLISHED".to_owned(),
            other => other.replace("WAIT-", "WAIT").replace('-', "_"),
        };
        let end = |end: &str| end.replace(['[', ']'], "").replace('*', if is_v6 { "::" } else { "0.0.0.0" });
        let remote = if remote.ends_with(":*") { String::new() } else { end(remote) };
        let pids = holders.join(" ");
        let pids = pids.split("pid=").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok());
        rows.entry((protocol, state, end(local), remote)).or_default().push(pids.collect());
    }
    rows
}

fn by_csv(text: &str) -> BTreeMap<Ends, Vec<BTreeMap<String, String>>> {
    let mut rows: BTreeMap<Ends, Vec<BTreeMap<String, String>>> = BTreeMap::new();
    for row in csv::Reader::from_reader(text.as_bytes()).deserialize::<BTreeMap<String, String>>() {
        let row = row.expect("a row");
        let end = |name: &str| match row[&format!("{name}_ip")].as_str() {
            "" => String::new(),
            address => format!("{address}:{}", row[&format!("{name}_port")]),
        };
        let ends = (row["protocol"].clone(), row["state"].clone(), end("local"), end("remote"));
        rows.entry(ends).or_default().push(row);
    }
    rows
}

#[test]
fn a_socket_is_opened_changes_and_is_closed() {
    let Some(machine) = Machine::start() else { return };
    let mut flowcap = machine.begin(&[
        "sockets",
        "--interval",
        "200ms",
        "--changes",
        "--with",
        "process,stats,routes",
        "-o",
        "{}x.jsonl",
    ]);
    let has = |kind: &str, condition: &dyn Fn(&Value) -> bool| {
        machine.records("x.jsonl").iter().any(|record| record["type"] == kind && condition(record))
    };
    flowcap.wait_until("the first snapshot is there", || has("route", &|_| true));
    let (program, facts) = machine.program(
        "changing",
        "near, far = meet(listener := listen('127.0.0.1', 80), '127.0.0.1')\n\
         say(port=port(near))\n\
         wait('shut')\nnear.shutdown(socket.SHUT_WR)\n\
         wait('end')\nfar.close()\n",
    );
    let is_near = |record: &Value| record["local_port"] == facts["port"];
    let changed_to = |what: &'static str| move |record: &Value| is_near(record) && record["change"] == what;
    flowcap.wait_until("it is opened", || has("socket", &changed_to("opened")));
    machine.go("shut");
    flowcap.wait_until("it has changed", || has("socket", &changed_to("changed")));
    machine.go("end");
    assert_eq!(program.finish().status.code(), Some(0));
    flowcap.wait_until("it is closed", || has("socket", &changed_to("closed")));
    flowcap.wait_until("the process is gone", || has("process", &|record| record["change"] == "gone"));
    assert_eq!(flowcap.stop("INT").status.code(), Some(0));

    let all = machine.records("x.jsonl");
    let near: Vec<&Value> =
        all.iter().filter(|record| record["type"] == "socket" && is_near(record)).collect();
    let [opened, changed, closed] = near.as_slice() else { panic!("three records: {near:#?}") };
    assert_eq!((&opened["change"], &opened["state"]), (&"opened".into(), &"ESTABLISHED".into()));
    assert_eq!(opened["previous_state"], Value::Null);
    assert_eq!((&changed["change"], &changed["state"]), (&"changed".into(), &"FIN_WAIT2".into()));
    assert_eq!(changed["previous_state"], "ESTABLISHED");
    assert_eq!((&closed["change"], &closed["state"]), (&"closed".into(), &"FIN_WAIT2".into()));
    for record in &near {
        assert_eq!(record["protocol"], "TCP");
        assert_eq!(record["remote_port"], 80);
        assert_eq!(record["process"]["pid"], facts["pid"]);
        assert_eq!(record["cookie"], opened["cookie"]);
    }
    // The listener was opened and closed, and never changed.
    let listener = all.iter().filter(|record| record["type"] == "socket" && record["state"] == "LISTEN");
    let changes: Vec<_> = listener.map(|record| record["change"].clone()).collect();
    assert_eq!(changes, ["opened", "closed"]);

    // Its process is joined by upid.
    let processes: Vec<&Value> = all.iter().filter(|record| record["type"] == "process").collect();
    let [came, gone] = processes.as_slice() else { panic!("{processes:#?}") };
    assert_eq!((&came["change"], &gone["change"]), (&"opened".into(), &"gone".into()));
    for record in [came, gone] {
        assert_eq!(record["upid"], opened["process"]["upid"]);
        assert_eq!((&record["pid"], &record["name"]), (&facts["pid"], &facts["name"]));
        assert_eq!((&record["exe"], &record["user"]), (&facts["exe"], &"root".into()));
    }

    // Counters and routes of each snapshot, of both IP versions.
    let counters = |name: &str, value: &str| {
        all.iter().filter(|record| record["type"] == "network_stats" && record[name] == value).count()
    };
    for protocol in ["Ip", "Tcp", "Udp", "Ip6", "Udp6"] {
        assert!(counters("protocol", protocol) >= 2, "{protocol}");
    }
    for interface in ["lo", "wire0"] {
        assert!(counters("interface", interface) >= 2, "{interface}");
    }
    let loopback =
        all.iter().rfind(|record| record["interface"] == "lo" && record["type"] == "network_stats");
    assert!(loopback.is_some_and(|record| record["sent_packets"].as_u64() >= Some(5)), "{loopback:?}");
    for (destination, length) in [("10.77.0.0", 24), ("fd77::", 64), (FAR_V6, 128), ("127.0.0.1", 32)] {
        let is_it =
            |record: &Value| record["destination"] == destination && record["prefix_length"] == length;
        assert!(has("route", &is_it), "{destination}/{length}");
    }
}

#[test]
fn a_duration_ends_the_snapshots() {
    let Some(machine) = Machine::start() else { return };
    let (_program, _) = machine.program("listener", "one = listen('127.0.0.1', 80)\nsay()\nwait('end')\n");
    let every = ["sockets", "--interval", "200ms", "--duration", "1100ms", "-T", "jsonl"];
    let times = |finished: Finished| -> BTreeSet<String> {
        finished.records().iter().map(|record| record["timestamp"].to_string()).collect()
    };
    let snapshots = times(machine.flowcap(&every)).len();
    assert!((3..=6).contains(&snapshots), "{snapshots} snapshots");
    // Nothing changes after the first.
    assert_eq!(times(machine.flowcap(&[&every[..], &["--changes"]].concat())).len(), 1);
}

/// What was there before: a server, and nothing else.
const BEFORE: &str = "one = listen('0.0.0.0', 8080)\nsay()\nwait('end')\n";

#[test]
fn what_a_maintenance_window_left_behind() {
    let Some(machine) = Machine::start() else { return };
    let (_database, _) = machine
        .far_away("database", "one = listen('10.77.0.1', 5432)\nsay()\nheld = one.accept()\nwait('end')\n");
    let (_server, _) = machine.program("server", BEFORE);
    assert_eq!(machine.flowcap(&["sockets", "-o", "{}before.jsonl"]).status.code(), Some(0));
    let compare =
        |more: &[&str]| machine.flowcap(&[&["sockets", "--baseline", "{}before.jsonl"], more].concat());
    let same = compare(&["-T", "jsonl"]);
    assert_eq!((same.status.code(), same.stderr.as_str()), (Some(0), ""));
    assert!(same.records().iter().all(|record| record["type"] == "socket"), "{}", same.stdout);

    let (_backdoor, backdoor) =
        machine.program("backdoor", "one = listen('0.0.0.0', 31337)\nsay()\nwait('end')\n");
    let (_thief, thief) =
        machine.program("thief", &format!("one = connect('{NEAR}', 5432)\nsay()\nwait('end')\n"));
    let tells = |text: &str, when: &str| {
        for (what, who) in
            [("Unexpected listener on TCP port 31337", &backdoor), ("10.77.0.1:5432 (TCP)", &thief)]
        {
            let line = text.lines().find(|line| line.contains(what));
            let line = line.unwrap_or_else(|| panic!("nothing of {what}: {text}"));
            let (name, pid) = (who["name"].as_str().expect("a name"), &who["pid"]);
            assert!(line.contains(&format!("{name} (pid {pid}, ")), "{line}");
            assert!(line.contains(&format!("seen {when} UTC")), "{line}");
        }
    };
    // As a table, which shows the warnings itself; as records, with the warnings on standard error.
    let table = compare(&[]);
    assert_eq!(table.status.code(), Some(1), "{}", table.stderr);
    tells(&table.stdout, &table.stdout[..19]);
    let lines = compare(&["-T", "jsonl"]);
    assert_eq!(lines.status.code(), Some(1), "{}", lines.stderr);
    tells(&lines.stderr, &first_time(&lines.stdout));
    let found = records(&lines.stdout);
    let alerts: Vec<&Value> = found.iter().filter(|record| record["type"] == "alert").collect();
    let [listener, remote] = alerts.as_slice() else { panic!("two alerts: {alerts:#?}") };
    assert_eq!(listener["rule"], "unexpected_listener");
    assert_eq!(listener["socket"]["local_port"], 31337);
    assert_eq!(listener["socket"]["process"]["pid"], backdoor["pid"]);
    assert_eq!(remote["rule"], "new_remote");
    assert_eq!(
        (&remote["socket"]["remote_ip"], &remote["socket"]["remote_port"]),
        (&NEAR.into(), &5432.into())
    );
    assert_eq!(remote["socket"]["process"]["pid"], thief["pid"]);

    // Two saved files, compared by anybody; CSV as well as JSON lines.
    for after in ["after.jsonl", "after.csv"] {
        let file = format!("{{}}{after}");
        assert_eq!(machine.flowcap(&["sockets", "-o", &file]).status.code(), Some(0));
        let compared = machine.as_nobody(&["sockets", "-r", &file, "--baseline", "{}before.jsonl"]);
        assert_eq!(compared.status.code(), Some(1), "{}", compared.stderr);
        tells(&compared.stdout, &first_time(&machine.read(after)));
    }
    let same = machine.as_nobody(&["sockets", "-r", "{}after.csv", "--baseline", "{}after.jsonl"]);
    assert_eq!((same.status.code(), same.stderr.as_str()), (Some(0), ""), "{}", same.stdout);

    // Rules: the listener is expected if it is that program.
    let rule = format!("tcp/31337 {}", backdoor["name"].as_str().expect("a name"));
    let allowed = compare(&["--allow", &rule]);
    assert_eq!(allowed.status.code(), Some(1));
    assert!(!allowed.stdout.contains("Unexpected listener"), "{}", allowed.stdout);
    assert!(allowed.stdout.contains("New outgoing connection"), "{}", allowed.stdout);
    let other = compare(&["--allow", "tcp/31337 sshd"]);
    assert!(other.stdout.contains("Unexpected listener on TCP port 31337"), "{}", other.stdout);
    // Without a baseline rules are all that is expected.
    let rules = ["sockets", "--allow", &rule, "--allow", "tcp/8080"];
    assert_eq!(machine.flowcap(&rules).status.code(), Some(0));
    assert_eq!(machine.flowcap(&rules[..3]).status.code(), Some(1));
}

/// The first time in a file of records, to the second, as people write it.
fn first_time(records: &str) -> String {
    let mut words = records.split(['"', ',', '\n']);
    let time = words.find(|word| word.starts_with("20") && word.ends_with('Z')).expect("a time");
    time[..19].replace('T', " ")
}

#[test]
fn alerts_as_it_happens_and_what_is_gone() {
    let Some(machine) = Machine::start() else { return };
    let (server, _) = machine.program("server", BEFORE);
    assert_eq!(machine.flowcap(&["sockets", "-o", "{}before.csv"]).status.code(), Some(0));
    let mut flowcap = machine.begin(&[
        "sockets",
        "--interval",
        "200ms",
        "--changes",
        "--baseline",
        "{}before.csv",
        "-o",
        "{}x.jsonl",
    ]);
    flowcap.wait_until("the first snapshot", || !machine.records("x.jsonl").is_empty());
    let alerts = || {
        let all = machine.records("x.jsonl").into_iter();
        all.filter(|record| record["type"] == "alert").collect::<Vec<_>>()
    };
    let (_backdoor, _) = machine.program("backdoor", "one = listen('::', 31337)\nsay()\nwait('never')\n");
    flowcap.wait_until("the listener stands out", || alerts().len() == 1);
    machine.go("end");
    assert_eq!(server.finish().status.code(), Some(0));
    flowcap.wait_until("the server is missed", || alerts().len() == 2);
    let finished = flowcap.stop("INT");
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 2, "each once: {}", finished.stderr);
    let rules: Vec<_> = alerts().iter().map(|alert| alert["rule"].clone()).collect();
    assert_eq!(rules, ["unexpected_listener", "gone_listener"]);
}

#[test]
fn files_are_added_to_under_the_same_header() {
    let Some(machine) = Machine::start() else { return };
    let (_program, facts) =
        machine.program("listener", "one = listen('127.0.0.1', 80)\nsay()\nwait('end')\n");
    for _ in 0..2 {
        let outputs = ["-o", "{}x.csv", "-o", "{}x.log", "-o", "{}processes.log"];
        let finished = machine.flowcap(&[&["sockets", "--with", "process"], &outputs[..]].concat());
        assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""));
    }
    let csv = machine.read("x.csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("type,timestamp,change,")).count(), 1);
    assert_eq!(by_csv(&csv).len(), 1);

    let log = machine.read("x.log");
    let fields = "#Fields: timestamp prot laddr lport raddr rport status upid";
    let upid = format!("{}|{}|", facts["name"].as_str().expect("a name"), facts["pid"]);
    assert!(log.starts_with("#Version: 1.0\n#Date: "), "{log}");
    assert_eq!(log.lines().nth(2), Some(fields));
    let rows: Vec<&str> = log.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rows.len(), 2, "{log}");
    for row in rows {
        let words: Vec<&str> = row.split(' ').collect();
        let [time, "TCP", "127.0.0.1", "80", "-", "-", "LISTEN", process] = words.as_slice() else {
            panic!("{row}")
        };
        assert_eq!(time.find('|'), Some(10), "{time}");
        assert!(process.starts_with(&upid), "{process}");
    }
    let processes = machine.read("processes.log");
    assert!(processes.contains("#Fields: timestamp upid [command_line with parameters]\n"), "{processes}");
    let row = processes.lines().find(|line| !line.starts_with('#')).expect("a process");
    assert!(row.contains(&upid) && row.contains("listener.py"), "{row}");

    // Under another header, nothing is added.
    fs::write(machine.path("other.csv"), "a,b\n1,2\n").expect("a file");
    let refused = machine.flowcap(&["sockets", "-o", "{}other.csv"]);
    assert_eq!(refused.status.code(), Some(74), "{}", refused.stderr);
    assert!(refused.stderr.contains("other.csv"), "{}", refused.stderr);
    assert_eq!(machine.read("other.csv"), "a,b\n1,2\n");
}

#[test]
fn without_privileges_everything_but_the_processes_of_others() {
    let Some(machine) = Machine::start() else { return };
    let (_program, _) = machine.program(
        "two",
        "held = listen('127.0.0.1', 80), udp('::1', 53), udp('127.0.0.1', 53)\nsay()\nwait('end')\n",
    );
    let finished = machine.as_nobody(&["sockets", "-T", "jsonl", "--with", "process,stats,routes"]);
    let all = finished.records();
    let of = |kind: &str| all.iter().filter(|record| record["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("socket").len(), 3, "{all:#?}");
    for record in of("socket") {
        assert_eq!(record["process"], Value::Null);
        assert_eq!((&record["uid"], &record["user"]), (&0.into(), &"root".into()));
        assert!(record["inode"].as_u64() > Some(0));
    }
    assert!(of("process").is_empty());
    assert!(!of("network_stats").is_empty() && !of("route").is_empty());
    let [note] = finished.stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("one note: {}", finished.stderr)
    };
    assert!(note.contains("3 of 3 sockets") && note.contains("CAP_SYS_PTRACE"), "{note}");
    assert_eq!(machine.as_nobody(&["sockets", "-q"]).stderr, "");
}
