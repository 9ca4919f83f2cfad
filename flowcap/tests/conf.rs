//! Configuration files and --check, as a black box.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder with a capture and a configuration in it.
struct Place {
    folder: tempfile::TempDir,
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new(configuration: &str) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        for name in CAPTURES {
            let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures");
            fs::copy(captures.join(name), place.path(name)).unwrap();
        }
        fs::write(place.path("f.toml"), configuration).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
        command.current_dir(&self.folder).args(arguments.split_whitespace()).env_remove("FLOWCAP_CONFIG");
        command
    }

    fn run(&self, arguments: &str) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    /// The files of the folder, captures left out.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !CAPTURES.contains(&name.as_str()));
        names.sort();
        names
    }
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Flows of several protocols, and of both IP versions.
const CAPTURES: &[&str] = &["dns.pcap", "dns_multicast.pcap", "http_ipv6.pcap", "icmp_messages.pcap"];

#[test]
fn what_is_wrong_ends_with_78_and_names_the_place() {
    for (text, said) in [
        (
            "read = 'dns.pcap'\n[flows]\nidel_timeout = 5\n",
            "flowcap: f.toml:3: no key of [flows] is named 'idel_timeout'; the nearest is 'idle_timeout'\n",
        ),
        (
            "read = 'dns.pcap'\nfilter = 5\n",
            "flowcap: f.toml:2: filter: text in quotes is needed, not a number\n",
        ),
        (
            "[flows]\nidle_timeout = 'soon'\n",
            "flowcap: f.toml:2: idle_timeout: 'soon' is refused: a time is written 90s, 10m, 1h30m, 500ms, or as a number of seconds\n",
        ),
        (
            "[[output]]\nto = 'https://a.example/'\ntoken = 'geheim'\n",
            "flowcap: f.toml:3: no key of [[output]] is named 'token'; the nearest is 'token_file'\n",
        ),
        ("", "flowcap: f.toml: nothing to read: it needs 'interface' or 'read', or a flag -i or -r\n"),
        (
            "read = 'dns.pcap'\n[[output]]\nto = 'x'\n[[output]]\nto = 'x'\n",
            "flowcap: f.toml: x: named twice as an output\n",
        ),
    ] {
        let place = Place::new(text);
        for flags in ["-C f.toml", "-C f.toml --check"] {
            let ran = place.run(flags);
            assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(78), said, ""), "{text}");
        }
        assert_eq!(place.files(), ["f.toml"]);
    }
    let place = Place::new("");
    let missing = place.run("-C g.toml -r dns.pcap");
    assert_eq!(
        (missing.code, missing.err.as_str()),
        (Some(78), "flowcap: g.toml: No such file or directory (os error 2)\n")
    );
    // What is wrong with the command line is wrong usage, file or not.
    assert_eq!(place.run("-C f.toml -r dns.pcap --bogus").code, Some(2));
    assert_eq!(place.run("-C f.toml -r dns.pcap port 53").code, Some(2));
}

#[test]
fn the_environment_names_a_file_and_flags_win() {
    let place = Place::new("read = 'dns.pcap'\nformat = 'csv'\n[running]\nquiet = true\n");
    let by_flag = place.run("-C f.toml");
    assert_eq!((by_flag.code, by_flag.err.as_str()), (Some(0), ""));
    assert!(by_flag.out.starts_with("type,"));
    let by_variable = ran(place.command("").env("FLOWCAP_CONFIG", "f.toml").output().unwrap());
    assert_eq!((by_variable.code, &by_variable.out), (Some(0), &by_flag.out));
    let json = ran(place.command("-T jsonl").env("FLOWCAP_CONFIG", "f.toml").output().unwrap());
    assert_eq!(json.out, place.run("-r dns.pcap -q").out);
    // The flag wins over the variable, an empty one names nothing, and subcommands read none.
    let other = ran(place.command("-C f.toml").env("FLOWCAP_CONFIG", "missing.toml").output().unwrap());
    assert_eq!((other.code, &other.out), (Some(0), &by_flag.out));
    let none = ran(place.command("-r dns.pcap -q").env("FLOWCAP_CONFIG", "").output().unwrap());
    assert_eq!(none.out, json.out);
    fs::write(place.path("s.jsonl"), "").unwrap();
    let sockets =
        ran(place.command("sockets -r s.jsonl").env("FLOWCAP_CONFIG", "missing.toml").output().unwrap());
    assert_eq!((sockets.code, sockets.err.as_str()), (Some(0), ""));
}

#[test]
fn a_file_that_everybody_may_write_is_refused() {
    let place = Place::new("read = 'dns.pcap'\n[running]\nquiet = true\n");
    let run_as = |mode: u32| {
        fs::set_permissions(place.path("f.toml"), fs::Permissions::from_mode(mode)).unwrap();
        place.run("-C f.toml")
    };
    let (open, group, own) = (run_as(0o666), run_as(0o664), run_as(0o644));
    assert_eq!((open.code, open.out.as_str()), (Some(78), ""));
    assert_eq!(open.err, "flowcap: f.toml: everybody may write it, so it is not used; chmod o-w helps\n");
    assert_eq!((group.code, own.code, own.err.as_str()), (Some(0), Some(0), ""));
    assert_eq!(
        group.err,
        "flowcap: warning: f.toml: its group may write it; whoever does decides what runs\n"
    );
}

#[test]
fn several_outputs_take_their_parts_and_none_is_lost() {
    let place = Place::new(
        "read = ['dns.pcap', 'dns_multicast.pcap', 'http_ipv6.pcap', 'icmp_messages.pcap']\nstats = 'stats.jsonl'\nfields = '@all'\n[running]\nquiet = true\n\
         [[output]]\nto = 'all.jsonl'\n\
         [[output]]\nto = 'tcp.jsonl'\nonly = ['tcp']\n\
         [[output]]\nto = 'udp6.csv'\nonly = ['udp', 'ipv6']\nfields = ['dst_ip', 'dst_port', 'bytes']\n\
         [[output]]\nto = 'rest.jsonl'\nonly = 'raw'\nfields = '@core'\n\
         [[output]]\nto = 'none.jsonl'\ntypes = ['socket', 'alert']\n",
    );
    let ran = place.run("-C f.toml");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let all = lines(&place.read("all.jsonl"));
    let by_hand =
        |wanted: &dyn Fn(&Value) -> bool| -> Vec<&Value> { all.iter().filter(|flow| wanted(flow)).collect() };
    let tcp = by_hand(&|flow| flow["protocol"] == "TCP");
    let udp6 = by_hand(&|flow| flow["protocol"] == "UDP" && flow["ip_version"] == 6);
    let rest = by_hand(&|flow| flow["protocol"] != "TCP" && flow["protocol"] != "UDP");
    for (name, part) in [("tcp", &tcp), ("udp6", &udp6), ("rest", &rest)] {
        assert!(!part.is_empty() && part.len() < all.len(), "the capture has flows for {name} and others");
    }

    assert_eq!(lines(&place.read("tcp.jsonl")).iter().collect::<Vec<_>>(), tcp);
    let csv = place.read("udp6.csv");
    let rows: Vec<String> = udp6
        .iter()
        .map(|flow| format!("{},{},{}", flow["dst_ip"].as_str().unwrap(), flow["dst_port"], flow["bytes"]))
        .collect();
    assert_eq!(csv.lines().next(), Some("dst_ip,dst_port,bytes"));
    assert_eq!(csv.lines().skip(1).collect::<Vec<_>>(), rows);
    let core = lines(&place.read("rest.jsonl"));
    assert_eq!(core.len(), rest.len());
    assert!(core.iter().all(|flow| flow["flow_id"].is_u64() && flow["ip_version"].is_null()));
    assert_eq!(place.read("none.jsonl"), "");

    let stats = lines(&place.read("stats.jsonl")).pop().unwrap();
    let sinks = stats["sinks"].as_array().unwrap();
    assert_eq!(sinks.len(), 5);
    let count = |sink: &Value, name: &str| sink[name].as_u64().unwrap();
    for (sink, written) in sinks.iter().zip([all.len(), tcp.len(), udp6.len(), rest.len(), 0]) {
        assert_eq!(count(sink, "records"), all.len() as u64);
        assert_eq!((count(sink, "written"), count(sink, "failed")), (written as u64, 0), "{sink}");
        assert_eq!(count(sink, "written") + count(sink, "filtered"), count(sink, "records"));
    }
}

#[test]
fn check_prints_what_holds_and_where_it_came_from() {
    let place = Place::new(
        "read = 'dns.pcap'\n[flows]\nidle_timeout = { udp = '5s' }\n[[output]]\nto = 'x.csv'\nonly = ['tcp']\n",
    );
    let ran = place.run("-C f.toml --check --splt 3");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let row = |key: &str| {
        let row = ran.out.lines().find(|line| line.split_whitespace().next() == Some(key));
        row.unwrap_or_else(|| panic!("{key}: {}", ran.out))
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row("read"), "dns.pcap f.toml:1");
    assert_eq!(row("idle_timeout"), "udp=5s f.toml:3");
    assert_eq!(row("splt"), "3 flag");
    assert_eq!(row("max_flows"), "1000000 default");
    assert_eq!(row("duration"), "not set default");
    assert_eq!(row("no_decap"), "false default");
    assert_eq!(row("only"), "tcp f.toml:6");
    assert!(ran.out.ends_with("\nok      read dns.pcap\nok      write x.csv\n"), "{}", ran.out);
    assert!(
        ran.out.contains("\n[[output]] 1\n") && ran.out.lines().all(|line| line.len() <= 110),
        "{}",
        ran.out
    );
    // Columns stand below one another.
    let origins: Vec<_> = ran.out.lines().filter_map(|line| line.find(" default")).collect();
    assert!(origins.len() > 30 && origins.windows(2).all(|pair| pair[0] == pair[1]), "{}", ran.out);
    assert_eq!(place.files(), ["f.toml"]);
}

#[test]
fn check_tries_and_touches_nothing() {
    let place = Place::new("");
    fs::write(place.path("there.jsonl"), "old\n").unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    for (flags, code, said) in [
        ("-r dns.pcap", 0, "ok      write standard output"),
        ("-r missing.pcap", 66, "FAILED  read missing.pcap: No such file or directory (os error 2)"),
        (
            "-r dns.pcap -o there.jsonl",
            74,
            "FAILED  write there.jsonl: exists already; --force overwrites it",
        ),
        ("-r dns.pcap -o there.jsonl --force", 0, "ok      write there.jsonl"),
        ("-r dns.pcap -o folder", 74, "FAILED  write folder: is a folder"),
        (
            "-r dns.pcap -o gone/x.jsonl",
            74,
            "FAILED  write gone/x.jsonl: gone: No such file or directory (os error 2)",
        ),
        ("-r dns.pcap -o folder/%Y/x.jsonl", 0, "ok      write folder/%Y/x.jsonl"),
        (
            "-r dns.pcap --stats gone/s.jsonl",
            74,
            "FAILED  write gone/s.jsonl: gone: No such file or directory (os error 2)",
        ),
        ("-i none0", 66, "FAILED  capture on none0: no such interface"),
        (
            "-r dns.pcap -f nonsense",
            78,
            "FAILED  filter nonsense: filter 'nonsense': can't parse filter expression: syntax error (link type 1)",
        ),
        (
            "-r dns.pcap -Z nobody-of-that-name",
            78,
            "FAILED  become nobody-of-that-name: no such user in /etc/passwd",
        ),
        (
            "-r dns.pcap --sockets missing.jsonl",
            66,
            "FAILED  read missing.jsonl: No such file or directory (os error 2)",
        ),
    ] {
        let ran = place.run(&format!("--check {flags}"));
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{flags}: {}", ran.out);
        assert!(ran.out.lines().any(|line| line == said), "{flags}: {}", ran.out);
    }
    assert_eq!(place.files(), ["f.toml", "folder", "there.jsonl"]);
    assert_eq!(place.read("there.jsonl"), "old\n");
    assert_eq!(place.run("--check -D").code, Some(2));
    assert_eq!(place.run("--check").code, Some(2));
}

#[test]
fn check_reaches_for_servers_and_the_files_of_settings() {
    let place = Place::new(
        "read = 'dns.pcap'\n[[output]]\nto = 'https://collector.invalid/'\ntoken_file = 'token'\nspool = 'spool'\n",
    );
    let missing = place.run("-C f.toml --check");
    assert_eq!(missing.code, Some(78), "{}", missing.out);
    assert!(missing.out.contains("\nFAILED  read token: No such file"), "{}", missing.out);
    // What only files have is not shown of a server.
    let of_server = missing.out.split("[[output]] 1").nth(1).unwrap_or_default();
    assert!(of_server.contains("  spool_max ") && !of_server.contains("  rotate "), "{}", missing.out);
    fs::write(place.path("token"), "geheim\n").unwrap();
    let unreached = place.run("-C f.toml --check");
    assert_eq!(unreached.code, Some(69), "{}", unreached.out);
    assert!(unreached.out.contains("\nok      write spool\nFAILED  reach https://collector.invalid/: "));
    assert!(!unreached.out.contains("geheim"));
    assert_eq!(place.files(), ["f.toml", "token"]);
}

#[test]
fn what_a_file_says_wrong_is_its_fault_however_late_it_is_seen() {
    let place = Place::new("read = 'dns.pcap'\nfilter = 'tcp udp'\n");
    let (of_file, of_flag) = (place.run("-C f.toml"), place.run("-r dns.pcap -f nonsense"));
    assert_eq!((of_file.code, of_flag.code), (Some(78), Some(2)), "{} {}", of_file.err, of_flag.err);
    let shared = Place::new(
        "interface = 'lo'\n[[output]]\nto = 'tcp://a:1'\nspool = 's'\n[[output]]\nto = 'tcp://b:1'\nspool = 's'\n",
    )
    .run("-C f.toml --check");
    assert!(
        shared.code == Some(78) && shared.err.contains("two servers cannot share a spool"),
        "{}",
        shared.err
    );
}

#[test]
fn check_names_the_permission_that_is_missing() {
    let place = Place::new("");
    let program = place.path("flowcap");
    fs::copy(env!("CARGO_BIN_EXE_flowcap"), &program).unwrap();
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Somebody without capabilities, whoever runs this test.
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    let is_root = fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0);
    let mut command = if is_root { Command::new("setpriv") } else { Command::new(&program) };
    if is_root {
        command.args(nobody).arg(&program);
    }
    let line = ["-i", "lo", "--check", "-o", "x.jsonl"];
    let ran =
        ran(command.args(line).current_dir(&place.folder).env_remove("FLOWCAP_CONFIG").output().unwrap());
    let code = if cfg!(feature = "live") { 77 } else { 2 };
    assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{}", ran.out);
    assert!(ran.out.contains("\nFAILED  capture on lo: "), "{}", ran.out);
    if cfg!(feature = "live") {
        let advice = format!("setcap cap_net_raw=eip {}", program.display());
        assert!(ran.out.contains(&advice), "{}", ran.out);
    }
    assert!(
        ran.out.contains(
            "note    see processes of all users: only those of its own user, without CAP_SYS_PTRACE"
        )
    );
    if is_root {
        assert!(ran.out.contains("FAILED  write x.jsonl: .: Permission denied"), "{}", ran.out);
    }
    assert_eq!(place.files(), ["f.toml", "flowcap"]);
}
