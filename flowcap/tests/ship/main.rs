//! Records to servers: spooled, sent, sent later where nobody listens, and sent all the same when processes are killed.
#![cfg(all(feature = "ship", target_os = "linux"))]

mod account;
mod arrived;
#[allow(dead_code)]
#[path = "../live/cable.rs"]
mod cable;
#[allow(dead_code)]
#[path = "../../../flowcore/tests/ship/certificates.rs"]
mod certificates;
mod ends;
mod faults;
mod https;
#[path = "../files/killed.rs"]
mod killed;
mod kills;
mod outage;
mod processes;
mod restart;
#[allow(dead_code)]
#[path = "../../../flowcore/tests/ship/server.rs"]
mod server;
mod soak;
mod spools;
#[allow(dead_code)]
#[path = "../files/stand.rs"]
mod stand;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use stand::{Stand, capture as capture_of};

/// A folder with a configuration that sends to a port of this machine.
struct Place {
    folder: tempfile::TempDir,
}

/// What a server has heard, by number.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<BTreeMap<u64, Value>>>);

impl Place {
    fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        let config = format!(
            "[[output]]\nto = 'tcp://127.0.0.1:{port}'\nspool = '{}'\nbatch = '1000,100ms'\n",
            spool.display()
        );
        fs::write(folder.path().join("f.toml"), config).unwrap();
        Place { folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
        command.args(["-C", "f.toml", "-q"]).args(arguments).current_dir(&self.folder);
        command.env_remove("FLOWCAP_LOG").output().unwrap()
    }

    fn read(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Heard {
    /// Listens at a port for as long as the test runs.
    fn listen(listener: TcpListener) -> Self {
        let heard = Heard::default();
        let ears = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let ears = ears.clone();
                std::thread::spawn(move || ears.hear(BufReader::new(stream)));
            }
        });
        heard
    }

    fn hear(&self, lines: impl BufRead) {
        for line in lines.lines() {
            let Ok(line) = line else { return };
            let record: Value = serde_json::from_str(&line).expect("a whole line");
            let number = record["seq"].as_u64().expect("a number");
            let before = self.0.lock().unwrap().insert(number, record.clone());
            assert!(before.is_none_or(|before| before == record), "a number stands for one record");
        }
    }

    /// Waits until so many have come; returns them in order.
    fn all(&self, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let heard: Vec<_> = self.0.lock().unwrap().values().cloned().collect();
            if heard.len() >= count || start.elapsed() > Duration::from_secs(20) {
                assert_eq!(heard.len(), count);
                return heard;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_replay_is_sent_as_it_is_written() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new(listener.local_addr().unwrap().port());
    let heard = Heard::listen(listener);
    let ran = place.run(&["-r", &capture("dns.pcap"), "--stats", "stats.jsonl"]);
    assert!(ran.status.success(), "{ran:?}");
    let plain = Command::new(env!("CARGO_BIN_EXE_flowcap"))
        .args(["-q", "-r", &capture("dns.pcap")])
        .env_remove("FLOWCAP_CONFIG")
        .output()
        .unwrap();
    let written: Vec<Value> =
        plain.stdout.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect();
    assert!(!written.is_empty());
    let sent = heard.all(written.len());
    for (number, (mut sent, written)) in sent.into_iter().zip(&written).enumerate() {
        let members = sent.as_object_mut().unwrap();
        assert_eq!(members.remove("seq"), Some(number.into()));
        assert!(members.remove("instance").is_some_and(|instance| instance.is_string()));
        assert_eq!(&sent, written);
    }
    let stats = place.read("stats.jsonl").pop().unwrap();
    let sink = &stats["sinks"][0];
    assert_eq!(
        (&sink["spooled"], &sink["written"], &sink["records"]),
        (&sink["records"], &0.into(), &written.len().into())
    );
}

#[test]
fn what_nobody_hears_waits_for_the_next_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let place = Place::new(address.port());
    drop(listener);
    let ran = place.run(&["-r", &capture("dns.pcap"), "--stats", "first.jsonl"]);
    assert!(ran.status.success(), "{ran:?}");
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("wait in") && said.contains("for the next start"), "{said}");
    let heard = Heard::listen(TcpListener::bind(address).unwrap());
    let ran = place.run(&["-r", &capture("http.pcap"), "--stats", "second.jsonl"]);
    assert!(ran.status.success(), "{ran:?}");
    let records =
        |name: &str| place.read(name).pop().unwrap()["sinks"][0]["records"].as_u64().unwrap() as usize;
    let (first, second) = (records("first.jsonl"), records("second.jsonl"));
    assert!(first > 0 && second > 0);
    let sent = heard.all(first + second);
    assert!(sent.iter().map(|record| record["seq"].as_u64().unwrap()).eq(0..(first + second) as u64));
    assert!(sent.iter().all(|record| record["instance"] == sent[0]["instance"] && record["type"] == "flow"));
    assert_eq!(sent[0]["app"], "dns");
}

#[test]
fn every_kind_of_server_is_reached_from_the_sandbox() {
    let stand = Stand::new();
    fs::write(stand.path("a.pcap"), capture_of(50, 1)).unwrap();
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix = UnixListener::bind(stand.path("ear")).unwrap();
    let ports = [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()];
    // Two of them by name, so that names are resolved inside.
    let config = format!(
        "[[output]]\nto = 'tcp://localhost:{}'\nspool = '1'\n[[output]]\nto = 'unix://{}'\nspool = '2'\n\
         [[output]]\nto = 'syslog://localhost:{}'\nspool = '3'\n",
        ports[0],
        stand.path("ear").display(),
        ports[1]
    );
    fs::write(stand.path("f.toml"), config).unwrap();
    let lines = |text: String| text.lines().count();
    let tcp = std::thread::spawn(move || lines(std::io::read_to_string(tcp.accept().unwrap().0).unwrap()));
    let unix = std::thread::spawn(move || lines(std::io::read_to_string(unix.accept().unwrap().0).unwrap()));
    let ran = stand.command("-C f.toml -r a.pcap -q --sandbox auto").output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    assert_eq!((tcp.join().unwrap(), unix.join().unwrap()), (50, 50));
    udp.set_nonblocking(true).unwrap();
    let datagrams = std::iter::from_fn(|| udp.recv(&mut [0; 4096]).ok()).count();
    assert_eq!(datagrams, 50);
}

#[test]
fn two_programs_do_not_share_a_spool() {
    let place = Place::new(9);
    let spool = flowcore::spool::Spool::open(place.folder.path().join("spool"), Default::default()).unwrap();
    let ran = place.run(&["-r", &capture("dns.pcap")]);
    assert_eq!(ran.status.code(), Some(74), "{ran:?}");
    drop(spool);
}

fn capture(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures").join(name);
    path.to_str().unwrap().to_owned()
}
