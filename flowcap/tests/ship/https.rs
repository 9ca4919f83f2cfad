//! The whole command over HTTPS, to a server of this machine with an authority of its own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::arrived::Arrived;
use crate::certificates::Authority;
use crate::processes::{family, sender};
use crate::server::{Habit, OK, Server, header, status};
use crate::stand::{Running, Stand, capture, is_root, numbers, records};

const TOKEN: &str = "s3cret-qZ81vK-never-shown";

/// A server that wants a certificate and a token, and a folder with a configuration for it.
struct Scene {
    stand: Stand,
    authority: Authority,
    server: Server,
}

impl Scene {
    /// Sets one up; the server's certificate is for `name`.
    fn new(name: &str, habits: impl IntoIterator<Item = Habit>) -> Scene {
        let (stand, authority) = (Stand::new(), Authority::new());
        let server = Server::with_tls(authority.server(&authority.certificate(name), true), habits)
            .always(Habit::Authorize(format!("Bearer {TOKEN}")));
        let client = authority.certificate("sensor.example");
        fs::write(stand.path("token"), format!("{TOKEN}\n")).unwrap();
        let config = format!(
            "[[output]]\nto = 'https://127.0.0.1:{}/flows'\nspool = 'spool'\nbatch = '100,100ms'\n\
             token_file = 'token'\nca_file = '{}'\nclient_cert = '{}'\nclient_key = '{}'\n\
             [[output]]\nto = 'f.jsonl'\n[running]\nlog_level = 'debug'\n",
            server.port,
            authority.file().display(),
            client.certificate.display(),
            client.key.display()
        );
        fs::write(stand.path("f.toml"), config).unwrap();
        Scene { stand, authority, server }
    }

    /// Starts a replay of what is written to its standard input.
    fn start(&self) -> (Running, Pipe) {
        let line = "-C f.toml -r - --idle-timeout 1s --stats s.jsonl -q";
        let mut child = self.stand.command(line).stdin(Stdio::piped()).spawn().expect("flowcap runs");
        let pipe = Pipe { file: capture(FLOWS, 30), written: 0, child: child.stdin.take().expect("a pipe") };
        (Running { child }, pipe)
    }

    /// The output's counters in the last stats record.
    fn counts(&self) -> Value {
        let stats = records(&fs::read_to_string(self.stand.path("s.jsonl")).expect("stats"));
        stats.last().expect("a record")["sinks"][0].clone()
    }
}

/// A capture on its way into flowcap.
struct Pipe {
    file: Vec<u8>,
    written: usize,
    child: std::process::ChildStdin,
}

impl Pipe {
    /// Writes up to a part of the whole, in percent.
    fn write(&mut self, percent: usize) {
        let end = self.file.len() * percent / 100;
        self.child.write_all(&self.file[self.written..end]).expect("it is read");
        self.written = end;
    }
}

#[test]
fn a_replay_arrives_as_it_is_written_whatever_the_server_does_meanwhile() {
    let asked = "HTTP/1.1 429 Slowly\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let bad = [
        Habit::Say(status(500, TOKEN)),
        Habit::Say(asked.to_owned()),
        Habit::Cut("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned()),
        Habit::CloseMidBody,
        Habit::Hang(String::new()),
    ];
    // A good one after each, so that waits begin anew.
    let habits = bad.into_iter().flat_map(|habit| [habit, Habit::Say(OK.to_owned())]);
    let scene = Scene::new("127.0.0.1", habits);
    let (mut flowcap, mut pipe) = scene.start();
    pipe.write(50);
    flowcap.wait_until("it goes on after all of them", || {
        let requests = scene.server.requests();
        let hung = requests.iter().position(|request| request.status == 0);
        hung.is_some_and(|hung| requests.len() > hung + 1)
    });
    pipe.write(100);
    drop(pipe);
    let ran = flowcap.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.err.contains(TOKEN) && ran.err.contains("status 500: [token]"), "{}", ran.err);
    assert!(ran.err.contains("the server takes records again"), "{}", ran.err);

    let requests = scene.server.requests();
    let bearer = format!("Bearer {TOKEN}");
    assert!(requests.iter().all(|request| header(&request.head, "authorization").as_ref() == Some(&bearer)));
    let arrived = Arrived::at(&scene.server);
    assert!(arrived.repeats > 0, "what was cut has come again");
    let written = fs::read_to_string(scene.stand.path("f.jsonl")).unwrap();
    assert_eq!(numbers(&written), (0..FLOWS).collect::<Vec<_>>());
    let plain = arrived.records().into_iter().enumerate().map(|(nth, mut record)| {
        let members = record.as_object_mut().expect("an object");
        assert_eq!(members.remove("seq"), Some(nth.into()));
        assert!(members.remove("instance").is_some());
        record
    });
    assert!(plain.eq(records(&written)), "what arrived is what was written");
    let counts = scene.counts();
    assert_eq!(
        (counts["records"].as_u64(), counts["spooled"].as_u64()),
        (Some(FLOWS.into()), Some(FLOWS.into()))
    );
    assert_eq!((counts.get("restarts"), counts.get("spool_lost")), (None, None), "{counts}");
}

#[test]
fn the_token_is_seen_nowhere_but_at_the_server() {
    let scene = Scene::new("127.0.0.1", []);
    let (mut flowcap, mut pipe) = scene.start();
    pipe.write(50);
    flowcap.wait_until("the server takes some", || !scene.server.requests().is_empty());
    let (first, sends) = (flowcap.child.id(), sender(flowcap.child.id()).expect("a process that sends"));
    let all = family(first);
    assert_eq!(all.len(), 3, "{all:?}");
    for process in all {
        let folder = format!("/proc/{process}");
        for file in ["cmdline", "environ", "comm", "status", "maps", "mountinfo", "limits"] {
            let shown = fs::read(format!("{folder}/{file}")).unwrap_or_default();
            assert!(!contains(&shown, TOKEN), "{folder}/{file}");
        }
        for entry in fs::read_dir(format!("{folder}/fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            assert!(!target.ends_with("token"), "{target:?} is open in {process}");
        }
        // Who takes packets apart never had it, and neither had who starts the others.
        if process != sends && is_root() {
            let server = format!("https://127.0.0.1:{}/flows", scene.server.port);
            assert!(memory_has(process, &server), "its memory can be read");
            assert!(!memory_has(process, TOKEN), "{process} has it in its memory");
        }
    }
    pipe.write(100);
    drop(pipe);
    let ran = flowcap.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.err.contains(TOKEN), "{}", ran.err);
    assert!(
        files(scene.stand.folder.path())
            .iter()
            .all(|file| { file.ends_with("token") || !contains(&fs::read(file).expect("a file"), TOKEN) })
    );
    assert_eq!(Arrived::at(&scene.server).numbers(), (0..FLOWS).collect::<Vec<_>>());
}

#[test]
fn a_server_of_another_name_gets_nothing_and_that_is_said() {
    let scene = Scene::new("other.example", []);
    let (mut flowcap, mut pipe) = scene.start();
    pipe.write(100);
    flowcap.wait_until("it is tried", || scene.server.connections() > 0);
    sleep(Duration::from_millis(300));
    drop(pipe);
    let ran = flowcap.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("not valid for name"), "{}", ran.err);
    assert!(ran.err.contains("2,000 records wait in spool for the next start"), "{}", ran.err);
    fs::remove_file(scene.stand.path("f.jsonl")).unwrap();
    let check = scene.stand.command("-C f.toml --check -r -").stdin(Stdio::null()).output().unwrap();
    assert_eq!(check.status.code(), Some(69), "{check:?}");
    assert!(scene.server.requests().is_empty());
    assert_eq!(scene.counts()["spooled"].as_u64(), Some(FLOWS.into()));

    // A certificate of the right name is enough: what waited arrives with the next run.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tls = scene.authority.server(&scene.authority.certificate("127.0.0.1"), true);
    let server = Server::on(listener, Some(tls), []);
    let config = fs::read_to_string(scene.stand.path("f.toml")).unwrap();
    let config = config.replace(&scene.server.port.to_string(), &server.port.to_string());
    fs::write(scene.stand.path("f.toml"), config).unwrap();
    fs::remove_file(scene.stand.path("s.jsonl")).unwrap();
    let (flowcap, mut pipe) = scene.start();
    pipe.child.write_all(&capture(0, 1)).unwrap();
    drop(pipe);
    let ran = flowcap.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(Arrived::at(&server).numbers(), (0..FLOWS).collect::<Vec<_>>());
}

/// Looks for a text in all that a process may write to, which takes root.
fn memory_has(process: u32, text: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("its memory");
    let memory = fs::File::open(format!("/proc/{process}/mem")).expect("its memory");
    let spans = maps.lines().filter(|line| line.contains(" rw")).filter_map(|line| {
        let (low, high) = line.split_once(' ')?.0.split_once('-')?;
        Some((u64::from_str_radix(low, 16).ok()?, u64::from_str_radix(high, 16).ok()?))
    });
    let mut piece = vec![0; 1 << 20];
    spans.into_iter().any(|(low, high)| {
        (low..high).step_by(piece.len() - 4096).any(|at| {
            let length = piece.len().min((high - at) as usize);
            memory.read_at(&mut piece[..length], at).is_ok_and(|read| contains(&piece[..read], text))
        })
    })
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Lists all files beneath a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// So many flows are replayed.
const FLOWS: u32 = 2_000;
