//! What the tests of files share: flowcap on the loopback interface, flows that are numbered, and what was written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A folder, and a port whose packets nobody else sends.
pub struct Stand {
    pub folder: TempDir,
    port: u16,
    socket: UdpSocket,
    mounted: bool,
}

impl Stand {
    /// Makes one for live capture, or says loudly why it cannot, which is a failure with CI_REQUIRE_LIVE=1.
    pub fn live() -> Option<Stand> {
        if is_root() && cfg!(feature = "live") {
            return Some(Stand::new());
        }
        let required = std::env::var("CI_REQUIRE_LIVE").is_ok_and(|value| value == "1");
        assert!(!required, "live capture needs root");
        let _ = writeln!(std::io::stderr(), "SKIPPED: live capture needs root");
        None
    }

    /// Makes one for replays.
    pub fn new() -> Stand {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let number = (std::process::id() as u16 % 300) * 32 + COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        Stand {
            folder: tempfile::tempdir().expect("a folder"),
            port: 20_000 + number,
            socket,
            mounted: false,
        }
    }

    /// Puts a small file system on the folder `disk`.
    pub fn mount(&mut self, size: &str) -> PathBuf {
        let disk = self.path("disk");
        fs::create_dir(&disk).expect("a folder");
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&disk).status();
        assert!(mount.expect("mount runs").success());
        self.mounted = true;
        disk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Flowcap in the folder.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
        command.current_dir(&self.folder).args(line.split_whitespace()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts flowcap on the loopback interface and waits until it listens.
    pub fn listen(&self, line: &str) -> Running {
        self.listen_with(line, |_| ())
    }

    /// The same with more that is set about the command.
    pub fn listen_with(&self, line: &str, set: impl FnOnce(&mut Command)) -> Running {
        let filter = format!("udp and dst port {}", self.port);
        let mut command =
            self.command("-i lo --no-process --idle-timeout 50ms --fields type,dst_ip,packets,splt");
        command.args(["-f", &filter]).args(line.split_whitespace());
        set(&mut command);
        let mut running = Running { child: command.spawn().expect("flowcap runs") };
        let maps = format!("/proc/{}/maps", running.child.id());
        // libpcap maps the ring of its socket last of all.
        running
            .wait_until("it listens", || fs::read_to_string(&maps).unwrap_or_default().contains("socket:"));
        // Until its filter is set it lets packets go.
        sleep(Duration::from_millis(500));
        running
    }

    /// Sends one packet, which becomes one flow: its number is in the destination address.
    pub fn send(&self, number: u32) {
        let to = Ipv4Addr::from(0x7F00_0000 | (number + 0x1_0000));
        self.socket.send_to(b"x", (to, self.port)).expect("it is sent");
    }

    /// Sends packets from a number on, so many a second, for so long; returns the number of the next.
    pub fn send_for(&self, first: u32, time: Duration, rate: u32) -> u32 {
        let (start, mut next) = (Instant::now(), first);
        while start.elapsed() < time {
            let due = first + (start.elapsed().as_secs_f64() * f64::from(rate)) as u32;
            while next <= due {
                self.send(next);
                next += 1;
            }
            sleep(Duration::from_millis(2));
        }
        next
    }

    /// The names of all files beneath a folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let (root, mut names) = (self.path(folder), Vec::new());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.push(path.strip_prefix(&root).expect("beneath").to_string_lossy().into_owned());
                }
            }
        }
        names
    }

    /// All files beneath a folder, by name, unpacked.
    pub fn texts(&self, folder: &str) -> BTreeMap<String, String> {
        let root = self.path(folder);
        let names = self.names(folder).into_iter();
        names
            .map(|name| {
                let text = unpacked(&root.join(&name));
                (name, text)
            })
            .collect()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(self.path("disk")).status();
        }
    }
}

/// Tells whether root runs the tests.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t0\t"))
}

/// Reads a file, compressed or not; every line of it must be whole.
pub fn unpacked(path: &Path) -> String {
    let bytes = fs::read(path).expect("the file");
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return String::from_utf8(bytes).expect("UTF-8"),
    };
    let output = Command::new(program).arg("-dc").arg(path).output().expect("it runs");
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The records of JSON lines, all of which must be whole.
pub fn records(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "a cut line: {:?}", text.lines().last());
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The number of a flow, by its destination.
pub fn number(record: &Value) -> Option<u32> {
    let to: Ipv4Addr = record["dst_ip"].as_str()?.parse().ok()?;
    Some((u32::from(to) & 0xFF_FFFF) - 0x1_0000)
}

/// The numbers of all flows in a text, in order of the numbers.
pub fn numbers(text: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = records(text).iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// A capture of flows of one packet each, so many of them and so far apart.
pub fn capture(flows: u32, millis_apart: u32) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend(word.to_le_bytes());
    }
    for nth in 0..flows {
        let millis = nth * millis_apart;
        // From 2023-11-14T22:13:20Z on.
        for word in [1_700_000_000 + millis / 1000, millis % 1000 * 1000, 46, 46] {
            file.extend(word.to_le_bytes());
        }
        file.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        file.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1]);
        file.extend((0x7F00_0000u32 | (nth + 0x1_0000)).to_be_bytes());
        for word in [40_000u16, 9, 12, 0] {
            file.extend(word.to_be_bytes());
        }
        file.extend(b"abcd");
    }
    file
}

/// Flowcap at work; it is killed when dropped.
pub struct Running {
    pub child: Child,
}

/// What it left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub err: String,
}

impl Running {
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs").success()
        );
    }

    /// Waits for something, but not for ever, nor for a program that has ended.
    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                let mut err = String::new();
                self.child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut err));
                panic!("it ended before {what}: {status} {err}");
            }
            assert!(Instant::now() < deadline, "never: {what}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end and waits for that.
    pub fn stop(self) -> Ran {
        self.signal("TERM");
        self.finish()
    }

    pub fn finish(mut self) -> Ran {
        let mut err = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
        Ran { code: self.child.wait().expect("it ends").code(), err }
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
