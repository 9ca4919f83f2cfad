//! Two network namespaces with a cable between them; programs run in them and end with the test.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use std::{env, process};

use serde_json::Value;
use tempfile::TempDir;

/// The interface at either end of the cable.
pub const LINK: &str = "wire0";
/// The address at the talking end.
pub const NEAR: &str = "10.77.0.1";
/// The address at the listening end.
pub const FAR: &str = "10.77.0.2";

/// A cable: `near` is where traffic comes from, `far` is where flowcap listens.
pub struct Cable {
    pub near: String,
    pub far: String,
    pub folder: TempDir,
}

impl Cable {
    /// Lays a cable, or says loudly why it cannot, which is a failure with CI_REQUIRE_LIVE=1.
    pub fn lay() -> Option<Cable> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("flowcap-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().expect("a folder");
        let cable = Cable { near: format!("{name}-near"), far: format!("{name}-far"), folder };
        match cable.connect() {
            Ok(()) => Some(cable),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn connect(&self) -> Result<(), String> {
        run("python3", &["--version"])?;
        for name in [&self.near, &self.far] {
            run("ip", &["netns", "add", name])?;
            // Where the system has IPv6, its own packets (neighbours, routers) would be among ours.
            let quiet = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; \
                         echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
            let _ = run("ip", &["netns", "exec", name, "sh", "-c", quiet]);
        }
        self.join(LINK)?;
        for (name, address) in [(&self.near, NEAR), (&self.far, FAR)] {
            run("ip", &["-n", name, "address", "add", &format!("{address}/24"), "dev", LINK])?;
            run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// Lays a link between the ends, a further one or one that was deleted; it has no addresses.
    pub fn join(&self, link: &str) -> Result<(), String> {
        let mut line = vec!["-n", &self.near, "link", "add", link, "mtu", "9000", "type", "veth"];
        line.extend(["peer", "name", link, "mtu", "9000", "netns", &self.far]);
        run("ip", &line)?;
        for name in [&self.near, &self.far] {
            run("ip", &["-n", name, "link", "set", link, "up"])?;
        }
        Ok(())
    }

    /// Starts a program in a namespace; what it prints goes to a file.
    pub fn start(&self, namespace: &str, program: &str, arguments: &[&str]) -> Program {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let stdout = self.folder.path().join(format!("{number}.out"));
        let stderr = self.folder.path().join(format!("{number}.err"));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]).args(arguments);
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).expect("a file"));
        command.stderr(File::create(&stderr).expect("a file"));
        Program { child: command.spawn().expect("ip runs"), stdout, stderr }
    }

    /// Starts flowcap at the far end, and waits until it listens.
    pub fn listen(&self, arguments: &[&str]) -> Program {
        self.listen_through(env!("CARGO_BIN_EXE_flowcap"), arguments)
    }

    /// The same by a program that becomes flowcap.
    pub fn listen_through(&self, program: &str, arguments: &[&str]) -> Program {
        let mut program = self.start(&self.far, program, arguments);
        let maps = format!("/proc/{}/maps", program.child.id());
        // libpcap maps the ring of its socket last of all.
        program
            .wait_until("it listens", || fs::read_to_string(&maps).unwrap_or_default().contains("socket:"));
        sleep(Duration::from_millis(200));
        program
    }

    /// Starts flowcap in a namespace as a user without privileges.
    pub fn as_nobody(&self, namespace: &str, arguments: &[&str]) -> Program {
        // Its own folder may be closed to others.
        let copy = self.folder.path().join("flowcap");
        if !copy.exists() {
            fs::copy(env!("CARGO_BIN_EXE_flowcap"), &copy).expect("a copy");
        }
        let open_to_all = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        open_to_all(&copy).and(open_to_all(self.folder.path())).expect("permissions");
        let mut line = vec!["--reuid=65534", "--regid=65534", "--clear-groups", text(&copy)];
        line.extend(arguments);
        self.start(namespace, "setpriv", &line)
    }

    /// Gives the end of the cable in a namespace an IPv6 address, too; returns whether the system has IPv6.
    pub fn add_ipv6(&self, namespace: &str, address: &str) -> bool {
        let script = format!(
            "for i in all default {LINK} lo; do echo 0 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done; \
             ip address add {address}/64 dev {LINK} nodad"
        );
        self.start(namespace, "sh", &["-c", &script]).finish().status.success()
    }

    /// Sends the frames of a capture from the near end; returns how many.
    pub fn send(&self, capture: &str) -> u64 {
        self.send_through(LINK, capture)
    }

    /// The same through another link.
    pub fn send_through(&self, link: &str, capture: &str) -> u64 {
        let script = testdata().join("make/send.py");
        let path = testdata().join("captures").join(capture);
        let arguments = ["-B", text(&script), link, text(&path)];
        let sender = self.start(&self.near, "python3", &arguments).finish();
        sender.stdout.trim().parse().unwrap_or_else(|_| panic!("{capture}: {}", sender.stderr))
    }

    /// Sends small UDP packets from the near end, each a flow of its own, as fast as they can all be received; returns how
    /// many no rule there has dropped.
    pub fn burst(&self, count: u64) -> u64 {
        let arguments = ["-c", BURST, LINK, &count.to_string()];
        let sender = self.start(&self.near, "python3", &arguments).finish();
        sender.stdout.trim().parse().unwrap_or_else(|_| panic!("{}", sender.stderr))
    }

    /// Starts one of the talking programs of testdata/make/talk.py.
    pub fn talk(&self, namespace: &str, words: &[&str]) -> Program {
        let script = testdata().join("make/talk.py");
        let mut arguments = vec!["-B", text(&script)];
        arguments.extend(words);
        self.start(namespace, "python3", &arguments)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            let _ = run("ip", &["netns", "delete", name]);
        }
    }
}

/// A running program; it is killed when dropped.
pub struct Program {
    child: Child,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

/// What became of a program.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `condition` holds; panics if the program ends before, or never gets there.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            let ended = self.child.try_wait().expect("a child");
            let said = fs::read_to_string(&self.stderr).unwrap_or_default();
            assert!(ended.is_none(), "it ended before {what}: {said}");
            assert!(start.elapsed() < PATIENCE, "{what}: never: {said}");
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the program has printed something.
    pub fn wait_until_it_prints(&mut self) {
        let stdout = self.stdout.clone();
        self.wait_until("it prints", || fs::metadata(&stdout).is_ok_and(|file| file.len() > 0));
    }

    /// Sends a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        // The shell has kill built in; as a program it may be missing.
        run("sh", &["-c", &format!("kill -{name} {}", self.child.id())]).expect("kill");
    }

    /// Sends a signal and waits for the end.
    pub fn stop(self, signal: &str) -> Finished {
        self.signal(signal);
        self.finish()
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Finished {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            sleep(Duration::from_millis(5));
        };
        let read = |path| fs::read_to_string(path).expect("UTF-8");
        Finished { status, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Returns the records of a program that ended well.
    pub fn records(&self) -> Vec<Value> {
        assert_eq!(self.status.code(), Some(0), "{}", self.stderr);
        records(&self.stdout)
    }
}

/// Reads JSON lines.
pub fn records(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The folder of captures and scripts.
pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Says loudly why a test cannot be run, which is a failure with CI_REQUIRE_LIVE=1.
pub fn skip(why: &str) {
    assert!(env::var_os("CI_REQUIRE_LIVE").is_none_or(|value| value != "1"), "no live capture here: {why}");
    // Past the test harness, which keeps what a passing test prints to itself.
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: no live capture here: {why}");
}

const BURST: &str = "
import errno, socket, struct, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
head = bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 69, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2])
sent = 0
for n in range(int(sys.argv[2])):
    try:
        wire.send(head + struct.pack('!HHHHI', 1024 + n, 9, 12, 0, n))
        sent += 1
    except OSError as refused:
        if refused.errno != errno.ENOBUFS:
            raise
    if n % 500 == 499:
        time.sleep(0.01)
print(sent)
";

const PATIENCE: Duration = Duration::from_secs(30);
