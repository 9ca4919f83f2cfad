//! One flood: made traffic on flowcap's standard input, its records counted, its memory bounded.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use flowcap_benches::pcap::Pcap;
use flowcap_benches::{Frame, Shape, Traffic};
use serde_json::Value;

use crate::cage::Cage;

/// A flood, and how flowcap has to bear it.
pub struct Flood<'a> {
    pub shape: Shape,
    /// How much of the shape: 1 is its full size.
    pub scale: f64,
    /// What flowcap may have, in bytes.
    pub memory: u64,
    pub flags: &'a [&'a str],
    /// A frame, and how many seconds behind the last one of the shape it comes.
    pub last: Option<(&'a [u8], i64)>,
}

/// What came of it.
pub struct Run {
    /// The stats record at the end.
    pub stats: Value,
    /// Packets that were sent.
    pub sent: u64,
    /// The most memory that was in use, in bytes.
    pub peak: u64,
    pub took: Duration,
}

impl Flood<'_> {
    /// Has it come over flowcap; `seen` is called with each record.
    pub fn run(&self, mut seen: impl FnMut(&str)) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let stats = folder.path().join("stats.jsonl");
        let cage = Cage::new(self.memory).map_err(|why| {
            let required = env::var_os("CI_REQUIRE_LIVE").is_some_and(|value| value == "1");
            assert!(!required, "no control group: {why}");
            // Past the test harness, which keeps what a passing test prints to itself.
            let shape = self.shape.name();
            let _ = writeln!(
                io::stderr(),
                "SKIPPED: {shape}: no control group ({why}): resident memory is watched instead"
            );
        });
        let cage = cage.ok();
        let mut command = Command::new("sh");
        let enter = "[ -z \"$DOOR\" ] || echo $$ > \"$DOOR\" || exit 99; exec \"$0\" \"$@\"";
        command.args(["-c", enter, env!("CARGO_BIN_EXE_flowcap"), "-q", "-r", "-", "--stats"]).arg(&stats);
        command.args(self.flags).env_remove("FLOWCAP_CONFIG");
        command.env("DOOR", cage.as_ref().map(Cage::door).unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(folder.path().join("err")).unwrap());
        let start = Instant::now();
        let mut child = command.spawn().expect("sh runs");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let number = child.id();
        let (sent, status, resident) = thread::scope(|scope| {
            let feeder = scope.spawn(|| self.feed(stdin));
            let watcher = scope.spawn(|| watch(child, number));
            let mut lines = BufReader::with_capacity(1 << 20, stdout);
            let mut line = String::new();
            while lines.read_line(&mut line).expect("UTF-8") > 0 {
                seen(&line);
                line.clear();
            }
            let (status, resident) = watcher.join().expect("no panic");
            (feeder.join().expect("no panic"), status, resident)
        });
        let said = fs::read_to_string(folder.path().join("err")).unwrap();
        let shape = self.shape.name();
        assert!(status.success() && said.is_empty(), "{shape}: {status}: {said}");
        let sent = sent.expect("flowcap reads");
        let took = start.elapsed();
        let peak = cage.as_ref().map_or(resident, Cage::peak);
        assert!(peak <= self.memory, "{shape}: {peak} bytes, {} are allowed", self.memory);
        let stats = fs::read_to_string(&stats).unwrap();
        let stats: Value = serde_json::from_str(stats.lines().last().unwrap()).unwrap();
        assert_eq!(stats["packets"], sent, "{shape}");
        println!(
            "{shape}: {sent} packets in {:.1} s, {:.0} ns each; peak {:.1} MiB ({:.1} resident) of {:.1}",
            took.as_secs_f64(),
            took.as_nanos() as f64 / sent as f64,
            mib(peak),
            mib(resident),
            mib(self.memory)
        );
        Run { stats, sent, peak, took }
    }

    /// Writes the traffic as a capture file; returns how many packets.
    fn feed(&self, stdin: impl Write) -> io::Result<u64> {
        let mut traffic = Traffic::new(self.shape, self.scale, 1);
        let mut file = Pcap::new(stdin);
        let (mut sent, mut end) = (0, 0);
        while let Some(frame) = traffic.next() {
            file.write(&frame)?;
            (sent, end) = (sent + 1, frame.ts_ns);
        }
        if let Some((bytes, seconds)) = self.last {
            file.write(&Frame { ts_ns: end + seconds * 1_000_000_000, bytes })?;
            sent += 1;
        }
        file.finish()?;
        Ok(sent)
    }
}

/// Waits for a process; returns how it ended and the most memory of its own that it was seen to have.
fn watch(mut child: Child, number: u32) -> (process::ExitStatus, u64) {
    let mut most = 0;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return (status, most);
        }
        let text = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(kib.unwrap_or_default() * 1024);
        thread::sleep(Duration::from_millis(5));
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
