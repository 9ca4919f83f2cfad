//! Owners of sockets on this machine: real processes that fork, pass sockets on, change their user, hide and vanish.
//!
//! Needs root, python3 and util-linux; without them each test says SKIPPED, and with CI_REQUIRE_LIVE=1 it fails instead.
#![cfg(all(target_os = "linux", feature = "host"))]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use flowcore::Error;
use flowcore::host::{Owner, Process, ProcessTable, Socket, SocketKind, SocketState};
use flowcore::host::{Places, ProcessEvent, ProcessEvents, Processes};
use flowcore::key::Endpoint;

/// The user without rights.
const NOBODY: &str = "65534";

/// Says the inode of `s`, then waits.
const SAY: &str =
    "import os, socket, sys\ndef say(s): print(os.fstat(s.fileno()).st_ino, os.getpid(), flush=True)\n";

#[test]
fn a_forked_child_is_named() {
    if !can_run() {
        return;
    }
    let mut family = Talk::python(
        "s = socket.socket(); child = os.fork()\n\
         if child: say(s); print(child, 0, flush=True)\n\
         sys.stdin.read()",
    );
    let (inode, parent) = family.numbers();
    let (child, _) = family.numbers();
    let (process, shared) = named(&both(inode, 0));
    assert_eq!((process.pid as u64, process.ppid as u64, shared), (child, parent, 2));
}

#[test]
fn a_process_that_changed_its_user() {
    if !can_run() {
        return;
    }
    let mut server =
        Talk::python("s = socket.socket(); os.setgid(65534); os.setuid(65534); say(s); sys.stdin.read()");
    let (inode, pid) = server.numbers();
    let (process, shared) = named(&both(inode, 0));
    assert_eq!((process.pid as u64, shared), (pid, 1));
    assert_eq!(
        (process.credentials.uid, process.credentials.euid, process.credentials.gid),
        (65534, 65534, 65534)
    );
    assert_eq!(process.credentials.cap_effective, 0);
    assert_eq!(process.user.as_deref(), Some("nobody"));
}

/// What is kept of a process is read again when it changes its user or runs another program.
#[test]
fn a_process_that_changes_while_it_is_known() {
    if !can_run() {
        return;
    }
    let mut server = Talk::python(
        "s = socket.socket(); s.set_inheritable(True); say(s); sys.stdin.readline()\n\
         os.setuid(65534); say(s); sys.stdin.readline()\n\
         os.execv('/bin/sh', ['sh', '-c', 'echo 1 1; read x'])",
    );
    let mut processes = Processes::open().unwrap();
    let (inode, pid) = server.numbers();
    let before = named(&processes.owner(&socket(inode, 0))).0;
    assert_eq!((before.pid as u64, before.credentials.euid), (pid, 0));
    server.go_on();
    server.numbers();
    let user = named(&processes.owner(&socket(inode, 0))).0;
    assert_eq!((user.pid as u64, user.credentials.euid), (pid, 65534));
    server.go_on();
    server.numbers();
    let program = named(&processes.owner(&socket(inode, 0))).0;
    assert_eq!((program.pid as u64, program.name.as_str(), program.started), (pid, "sh", before.started));
    assert_eq!(program.args.first().map(String::as_str), Some("sh"));
}

#[test]
fn a_socket_passed_to_a_stranger_has_no_single_owner() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pass");
    let path = path.to_str().unwrap();
    let mut receiver = Talk::python(&format!(
        "u = socket.socket(socket.AF_UNIX); u.bind('{path}'); u.listen(); say(u)\n\
         c = u.accept()[0]; fds = socket.recv_fds(c, 1, 1)[1]\n\
         print(os.fstat(fds[0]).st_ino, os.getpid(), flush=True)\n\
         sys.stdin.read()"
    ));
    receiver.numbers();
    let mut sender = Talk::python(&format!(
        "s = socket.socket(); say(s); sys.stdin.readline()\n\
         u = socket.socket(socket.AF_UNIX); u.connect('{path}'); socket.send_fds(u, [b'x'], [s.fileno()])\n\
         sys.stdin.readline(); s.close(); say(u); sys.stdin.read()"
    ));
    let (inode, pid) = sender.numbers();
    let mut processes = Processes::open().unwrap();
    assert_eq!(named(&processes.owner(&socket(inode, 0))).0.pid as u64, pid);
    sender.go_on();
    let (received, heir) = receiver.numbers();
    assert_eq!(received, inode);
    assert_eq!(both(inode, 0), Owner::Ambiguous);
    // What was remembered is put right by the next look at all processes.
    assert_eq!(processes.owners(&[socket(inode, 0)]), [Owner::Ambiguous]);
    assert_eq!(processes.owner(&socket(inode, 0)), Owner::Ambiguous);
    sender.go_on();
    sender.numbers();
    assert_eq!(named(&processes.owner(&socket(inode, 0))).0.pid as u64, heir);
}

/// Who closes one socket and opens the next has as many descriptors as before, and the number of the new one says nothing.
#[test]
fn who_talked_with_a_peer_before_is_asked_whole() {
    if !can_run() {
        return;
    }
    let mut client = Talk::python(
        "a = [socket.socket() for _ in range(20)]; say(a[0])\n\
         while at := sys.stdin.readline(): at = int(at); a[at].close(); a[at] = socket.socket(); say(a[at])",
    );
    let mut processes = Processes::open().unwrap();
    let (mut inode, pid) = client.numbers();
    for at in [19, 0].repeat(10) {
        assert_eq!(u64::from(named(&processes.owner(&socket(inode, 0))).0.pid), pid);
        client.tell(&at.to_string());
        inode = client.numbers().0;
    }
    // Others start processes meanwhile, and each second all are looked at.
    assert!(processes.counts().sweeps <= 10, "{:?}", processes.counts());
}

#[test]
fn a_process_that_vanished() {
    if !can_run() {
        return;
    }
    let mut server = Talk::python("s = socket.socket(); say(s); sys.stdin.read()");
    let (inode, pid) = server.numbers();
    let mut processes = Processes::open().unwrap();
    assert_eq!(named(&processes.owner(&socket(inode, 0))).0.pid as u64, pid);
    drop(server);
    // Of a user none of whose processes is closed to root: of those it could be.
    let socket = socket(inode, 4_000_000_000);
    assert_eq!(processes.owner(&socket), Owner::NoProcess);
    assert_eq!(processes.owners(&[socket]), [Owner::NoProcess]);
    assert_eq!(processes.process(pid as u32), None);
}

#[test]
fn a_socket_in_another_network_namespace() {
    if !can_run() {
        return;
    }
    let mut command = Command::new("unshare");
    let mut server = Talk::start(
        command.args(["--net", "python3", "-c"]),
        "s = socket.socket(); say(s); sys.stdin.read()",
    );
    let (inode, pid) = server.numbers();
    assert_eq!(named(&both(inode, 0)).0.pid as u64, pid);
}

/// In a PID namespace of its own the kernel can be told which number comes next.
#[test]
fn a_process_id_used_again() {
    if !can_run() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "python3", "-c"]);
    let mut init = Talk::start(
        &mut command,
        "import signal, time\n\
         def child():\n\
        \x20   open('/proc/sys/kernel/ns_last_pid', 'w').write('499')\n\
        \x20   pid = os.fork()\n\
        \x20   if pid == 0:\n\
        \x20       s = socket.socket(); say(s); time.sleep(100)\n\
        \x20   return pid\n\
         print(os.readlink('/proc/self/ns/pid')[5:-1], 0, flush=True)\n\
         for _ in range(3):\n\
        \x20   pid = child(); sys.stdin.readline(); os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0); time.sleep(0.05)\n",
    );
    let (namespace, _) = init.numbers();
    let proc = inside(namespace);
    let mut processes = Processes::at(&Places { proc, ..Places::default() }).unwrap();
    let mut before: Option<(u64, Process)> = None;
    for _ in 0..3 {
        let (inode, pid) = init.numbers();
        assert_eq!(pid, 500);
        let one = named(&processes.owner(&socket(inode, 0))).0;
        assert_eq!(one.pid, 500);
        if let Some((old_inode, old)) = before {
            assert_ne!(one.upid(), old.upid());
            assert_eq!(processes.owner(&socket(old_inode, 0)), Owner::NoProcess);
            assert_eq!(processes.owners(&[socket(old_inode, 0)]), [Owner::NoProcess]);
        }
        before = Some((inode, one));
        init.go_on();
    }
}

#[test]
fn processes_of_others_need_permission() {
    if !can_run() {
        return;
    }
    let mut of_root = Talk::python("s = socket.socket(); say(s); sys.stdin.read()");
    let inode = of_root.numbers().0.to_string();
    run_self("as_nobody", &["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"], &inode);
}

#[test]
#[ignore = "run by processes_of_others_need_permission, as another user"]
fn as_nobody() {
    let of_root: u64 = given().parse().unwrap();
    assert_eq!(both(of_root, 0), Owner::NotPermitted);
    let own = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let link = std::fs::read_link(format!("/proc/self/fd/{}", own.as_raw_fd())).unwrap();
    let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap();
    let (process, shared) = named(&both(inode, 65534));
    assert_eq!((process.pid, shared), (std::process::id(), 1));
    let mut processes = Processes::open().unwrap();
    // Known in part: what all may read.
    let init = processes.process(1).unwrap();
    assert_eq!((init.pid, init.exe, init.credentials.euid), (1, None, 0));
    processes.owners(&[socket(of_root, 0)]);
    let counts = processes.counts();
    assert!(counts.closed_processes > 0);
    processes.owners(&[socket(of_root, 0)]);
    // They are not tried again; what is read is new, or has changed.
    assert!(
        processes.counts().processes_read - counts.processes_read < counts.closed_processes,
        "{counts:?}"
    );
}

#[test]
fn processes_begin_run_and_end() {
    if !can_run() {
        return;
    }
    a_child_lives(ProcessEvents::open().unwrap());
}

#[test]
fn process_events_are_for_the_first_namespaces_and_the_administrator() {
    if !can_run() {
        return;
    }
    let nobody = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    run_self("events_or_no_permission", &nobody, "");
    run_self("no_events", &["unshare", "--net"], "initial network namespace");
    run_self("no_events", &["unshare", "--pid", "--fork"], "initial PID and user namespaces");
    run_self("no_events", &["unshare", "--user", "--map-root-user"], "user namespace");
}

#[test]
#[ignore = "run by process_events_are_for_the_first_namespaces_and_the_administrator, in other namespaces"]
fn no_events() {
    let error = ProcessEvents::open().unwrap_err();
    assert!(error.to_string().contains(&given()), "{error}");
}

#[test]
#[ignore = "run by process_events_are_for_the_first_namespaces_and_the_administrator, as another user"]
fn events_or_no_permission() {
    match ProcessEvents::open() {
        Ok(events) => a_child_lives(events),
        Err(error) => {
            assert!(matches!(error, Error::Permission { .. }), "{error:?}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        }
    }
}

#[test]
#[ignore = "measures: cargo test -p flowcore --release --test host_processes -- --ignored --nocapture cost"]
fn cost() {
    println!("{} processes", std::fs::read_dir("/proc").unwrap().flatten().filter(is_process).count());
    for count in [1_000, 10_000] {
        let mut holder = Talk::python(&format!(
            "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
             resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n\
             a = [socket.socket() for _ in range({count})]\n\
             for s in a: say(s)\n\
             sys.stdin.read()"
        ));
        let sockets: Vec<_> = (0..count).map(|_| socket(holder.numbers().0, 0)).collect();
        let ask = |processes: &mut Processes| {
            let (owners, cpu) = measured(|| processes.owners(&sockets));
            assert!(owners.iter().all(|owner| named(owner).0.pid == holder.child.id()));
            cpu
        };
        let cold = median(9, || ask(&mut Processes::open().unwrap()));
        let mut processes = Processes::open().unwrap();
        ask(&mut processes);
        let steady = median(21, || ask(&mut processes));
        println!("{count} sockets: cold {cold:?}, steady {steady:?} of processor time");
    }
    let per_process = "while sys.stdin.readline():\n if not os.fork(): s = socket.socket(); say(s); time.sleep(0.1); os._exit(0)";
    let of_one = "a = []\nwhile sys.stdin.readline(): a.append(socket.socket()); say(a[-1])";
    for (what, script) in [("a new process for each socket", per_process), ("one process", of_one)] {
        let mut maker = Talk::python(&format!(
            "import signal, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n{script}"
        ));
        let mut processes = Processes::open().unwrap();
        processes.owners(&[]);
        let mut times = Vec::new();
        let mut cpu = Duration::ZERO;
        for _ in 0..500 {
            maker.go_on();
            let (inode, pid) = maker.numbers();
            let start = Instant::now();
            let (owner, used) = measured(|| processes.owner(&socket(inode, 0)));
            times.push(start.elapsed());
            cpu += used;
            assert_eq!(u64::from(named(&owner).0.pid), pid);
        }
        times.sort();
        println!("{what}: median {:?}, p99 {:?}, processor {:?} each", times[250], times[495], cpu / 500);
        println!("  {:?}", processes.counts());
    }
}

fn is_process(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())
}

/// Returns what a function returns, and the processor time that it took.
fn measured<T>(function: impl FnOnce() -> T) -> (T, Duration) {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let before = now();
    let result = function();
    (result, now() - before)
}

fn median(times: usize, mut function: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<_> = (0..times).map(|_| function()).collect();
    all.sort();
    all[times / 2]
}

/// Starts a process and looks for its beginning, its program and its end among the events.
fn a_child_lives(mut events: ProcessEvents) {
    let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = Vec::new();
    while seen.len() < 3 && Instant::now() < deadline {
        let event = events.recv(Duration::from_secs(1)).unwrap();
        seen.extend(event.filter(|event| match event {
            ProcessEvent::Fork { pid: other, .. }
            | ProcessEvent::Exec { pid: other, .. }
            | ProcessEvent::Exit { pid: other, .. } => *other == pid,
        }));
    }
    let [
        ProcessEvent::Fork { time, parent, .. },
        ProcessEvent::Exec { time: exec, .. },
        ProcessEvent::Exit { time: exit, status, .. },
    ] = seen.as_slice()
    else {
        panic!("{seen:?}")
    };
    assert_eq!((*parent, *status), (std::process::id(), 3 << 8));
    assert!(time < exec && exec < exit);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    assert!((now - exit.as_nanos()).abs() < 10_000_000_000, "{exit:?}");
    assert_eq!(events.overruns(), 0);
}

/// A program that says numbers, and goes on when it is told.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn python(script: &str) -> Talk {
        Talk::start(Command::new("python3").arg("-c"), script)
    }

    fn start(command: &mut Command, script: &str) -> Talk {
        let command = command.arg(format!("{SAY}{script}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Talk { child, input, output: BufReader::new(output) }
    }

    /// Two numbers on a line: mostly the inode of a socket and the process id.
    fn numbers(&mut self) -> (u64, u64) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let (first, second) = line.trim().split_once(' ').unwrap_or_else(|| panic!("two numbers: {line:?}"));
        (first.parse().unwrap(), second.parse().unwrap())
    }

    fn go_on(&mut self) {
        self.tell("");
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that it forked read to the end of their input.
        let _ = self.input.flush();
    }
}

fn can_run() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let is_root = status.lines().any(|line| line.split_ascii_whitespace().take(3).eq(["Uid:", "0", "0"]));
    let has = |program: &str, arg: &str| {
        let quiet = Command::new(program).arg(arg).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    let can =
        is_root && has("python3", "--version") && has("setpriv", "--version") && has("unshare", "--version");
    if !can {
        let _ = writeln!(std::io::stderr(), "SKIPPED: needs root, python3, setpriv and unshare");
        assert!(std::env::var_os("CI_REQUIRE_LIVE").is_none(), "CI_REQUIRE_LIVE is set");
    }
    can
}

/// Runs a test of this program as another user or in other namespaces, with a text for it.
fn run_self(test: &str, prefix: &[&str], text: &str) {
    // The program may lie where others may not go.
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let program = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let [first, rest @ ..] = prefix else { panic!("a program") };
    let mut command = Command::new(first);
    command.args(rest).arg(program).args(["--ignored", "--exact", "--nocapture", test]);
    let output = command.env("GIVEN", text).current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{prefix:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// The text that [`run_self`] gave.
fn given() -> String {
    std::env::var("GIVEN").expect("run by another test")
}

/// The file system of processes that the first process of a PID namespace sees.
fn inside(namespace: u64) -> PathBuf {
    let link = PathBuf::from(format!("pid:[{namespace}]"));
    let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_in = |path: &PathBuf| std::fs::read_link(path.join("ns/pid")).is_ok_and(|found| found == link);
    pids.into_iter().find(is_in).expect("a process in the namespace").join("root/proc")
}

/// Asks for an owner in both ways; a table that knows nothing must say the same each time.
#[track_caller]
fn both(inode: u64, uid: u32) -> Owner {
    let one = Processes::open().unwrap().owner(&socket(inode, uid));
    let many = Processes::open().unwrap().owners(&[socket(inode, uid)]);
    assert_eq!(many, std::slice::from_ref(&one));
    one
}

#[track_caller]
fn named(owner: &Owner) -> (Process, u32) {
    let Owner::Process { process, shared } = owner else { panic!("{owner:?}") };
    (Process::clone(process), *shared)
}

fn socket(inode: u64, uid: u32) -> Socket {
    Socket {
        kind: SocketKind::Tcp,
        local: Endpoint { addr: [127, 0, 0, 1].into(), port: Some(80) },
        remote: None,
        state: SocketState::Listen,
        uid,
        inode,
        cookie: 0,
        netns: 0,
        interface: 0,
        cgroup: None,
    }
}
