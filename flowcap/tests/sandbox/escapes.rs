//! A process that has entered the sandbox, as flowcap does, and then tries to get out.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::{env, thread};

use rustix::thread::{CapabilitySet, CapabilitySets, Uid, set_capabilities, set_thread_res_uid};
use tempfile::TempDir;

use crate::cable::skip;
use crate::sandbox::{Folder, Mode, Profile, Role, User, calls, enter};
use crate::{can_be_had, is_root};

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// What each attempt came to, by its name; 0 is success.
type Outcomes = BTreeMap<String, i32>;

#[test]
fn a_replay_cannot_get_out() {
    escape(Role::Replay, None);
}

#[test]
fn a_capture_cannot_get_out() {
    escape(Role::Capture, None);
}

#[test]
fn who_sends_cannot_get_out() {
    escape(Role::Shipper, None);
}

#[test]
fn who_looks_up_cannot_write() {
    if is_root() {
        escape(Role::Lookups, None);
    }
}

#[test]
fn neither_can_another_user() {
    if is_root() {
        escape(Role::Capture, Some("nobody"));
        escape(Role::Shipper, Some("nobody"));
    }
}

/// Runs [`escapee`] in a process of its own.
fn escape(role: Role, user: Option<&str>) {
    if !can_be_had() {
        return;
    }
    let folder = room();
    let test = env::current_exe().expect("a path");
    let mut command = Command::new(test);
    command.args(["--exact", "escapes::escapee", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder.path()).env(ROLE, format!("{role:?}")).env(USER, user.unwrap_or_default());
    let output = command.output().expect("the test runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let mut outcomes: Outcomes = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("attempt ")?.split_once('='))
        .map(|(name, errno)| (name.to_owned(), errno.parse().expect("a number")))
        .collect();
    let said = String::from_utf8_lossy(&output.stderr);
    let mut expected: BTreeMap<&str, i32> = REFUSED.iter().copied().collect();
    expected.extend(ALLOWED.iter().map(|&name| (name, 0)));
    match role {
        Role::Capture => _ = expected.insert("write in a folder made again", 0),
        // As its user may.
        Role::Shipper if user.is_some() => {
            expected.extend(SENDING.iter().copied().chain([("read a file of root", EACCES)]))
        }
        Role::Shipper => expected.extend(SENDING.iter().copied()),
        Role::Lookups => {
            expected.extend(LOOKING.iter().copied());
            // As the machine lets it.
            outcomes.remove("read memory of init");
            expected.remove("read memory of init");
        }
        _ => {}
    }
    for (name, errno) in &expected {
        assert_eq!(outcomes.get(*name), Some(errno), "{role:?}: {name}: {stdout} {said}");
    }
    assert_eq!(outcomes.len(), expected.len(), "{stdout}");
    assert!(!folder.path().join("other/evil").exists());
}

/// A folder for outputs, one that is none of the process's business, and ways from one to the other.
fn room() -> TempDir {
    let room = tempfile::tempdir().expect("a folder");
    for folder in ["log/out", "log/again", "other", "keys"] {
        fs::create_dir_all(room.path().join(folder)).expect("a folder");
    }
    fs::write(room.path().join("other/secret"), "secret").expect("a file");
    fs::write(room.path().join("log/out/mine"), "mine").expect("a file");
    fs::write(room.path().join("keys/token"), "token").expect("a file");
    symlink("../../other/secret", room.path().join("log/out/link")).expect("a link");
    symlink("../../other", room.path().join("log/out/way")).expect("a link");
    for folder in ["", "log", "log/out", "log/again", "other", "other/secret", "log/out/mine", "keys"] {
        let open_to_all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(room.path().join(folder), open_to_all).expect("permissions");
    }
    room
}

/// Enters, and tries. No test of its own: the sandbox stays.
#[test]
#[ignore = "run by the tests of this file"]
fn escapee() {
    let Some(room) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let role = match env::var(ROLE).as_deref() {
        Ok("Capture") => Role::Capture,
        Ok("Shipper") => Role::Shipper,
        Ok("Lookups") => Role::Lookups,
        _ => Role::Replay,
    };
    let user = env::var(USER).ok().filter(|user| !user.is_empty());
    let (out, other, again) = (room.join("log/out"), room.join("other"), room.join("log/again"));
    // Threads that run already stay as they are: this one does what somebody else would do.
    let (order, orders) = channel::<PathBuf>();
    let (told, done) = channel();
    thread::spawn(move || {
        let token = |path: &Path| {
            fs::write(path.with_extension("new"), "new")
                .and_then(|()| fs::rename(path.with_extension("new"), path))
        };
        let done = |path: &Path| if path.is_dir() { fs::remove_dir_all(path) } else { token(path) };
        orders.iter().for_each(|path| told.send(done(&path).is_ok()).expect("heard"))
    });
    let ears = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a port"));
    let [near, far] = ears.each_ref().map(|ear| ear.local_addr().expect("an address"));
    let token = room.join("keys/token");
    let ear = UnixListener::bind(other.join("ear")).expect("a socket");
    let profile = Profile {
        role,
        user: user.map(|user| User::find(&user).expect("a user")),
        folders: match role {
            Role::Shipper => [&out, &again].map(|path| Folder::of_spool(path.clone(), false)).into(),
            Role::Lookups => Vec::new(),
            _ => [&out, &again].map(|path| Folder::new(path.clone(), role == Role::Capture, false)).into(),
        },
        files: if role == Role::Shipper { vec![token.clone()] } else { Vec::new() },
        ports: if role == Role::Shipper { vec![near.port()] } else { Vec::new() },
    };
    let state = enter(&profile, Mode::Require).expect("a sandbox");
    println!("{state}");

    let write = |path: PathBuf| OpenOptions::new().write(true).create(true).truncate(true).open(path);
    attempt("create a file", write(out.join("new")).and_then(|mut file| file.write_all(b"x")));
    attempt("rename a file", fs::rename(out.join("new"), out.join("newer")));
    attempt("delete a file", fs::remove_file(out.join("newer")));
    attempt("read an output", fs::read(out.join("mine")));
    attempt("make a folder", fs::create_dir(out.join("2026")));
    attempt(
        "start a thread",
        thread::Builder::new().spawn(|| ()).map(|thread| thread.join().expect("it ends")),
    );
    order.send(again.clone()).expect("heard");
    assert!(done.recv().expect("an answer"));
    let remade = fs::create_dir(&again).and_then(|()| write(again.join("flows.jsonl")));
    attempt("write in a folder made again", remade);
    attempt("read a key", fs::read(&token));
    order.send(token.clone()).expect("heard");
    assert!(done.recv().expect("an answer"));
    attempt("read a key that was replaced", fs::read(&token));

    attempt("read a file of root", fs::read("/etc/shadow"));
    attempt("read a file of all", fs::read("/etc/passwd"));
    attempt("list a folder", fs::read_dir("/"));
    attempt("read elsewhere", fs::read(other.join("secret")));
    attempt("list elsewhere", fs::read_dir(&other));
    attempt("write a key", write(token));
    attempt("write elsewhere", write(other.join("evil")));
    attempt("write by ..", write(out.join("../../other/evil")));
    attempt("read by a link", fs::read(out.join("link")));
    attempt("write by a link", write(out.join("link")));
    attempt("write by a link to a folder", write(out.join("way/evil")));
    attempt("delete elsewhere", fs::remove_file(other.join("secret")));
    attempt("move a file out", fs::rename(out.join("mine"), other.join("evil")));
    attempt("link a file", fs::hard_link(out.join("mine"), other.join("evil")));
    attempt("make a link", symlink("/etc/shadow", out.join("shadow")));
    attempt("change a mode", fs::set_permissions(out.join("mine"), fs::Permissions::from_mode(0o4755)));
    attempt("read memory of init", File::open("/proc/1/mem"));
    attempt("read own memory", File::open("/proc/self/mem"));
    attempt("write own memory", OpenOptions::new().write(true).open("/proc/self/mem"));
    attempt("become another program", Err::<(), _>(Command::new("/bin/true").exec()));
    attempt("start a program", Command::new("/bin/true").spawn());
    attempt("UDP", UdpSocket::bind("127.0.0.1:0"));
    attempt("TCP where it may", TcpStream::connect(near));
    attempt("TCP", TcpStream::connect(far));
    attempt("listen", TcpListener::bind("127.0.0.1:0"));
    attempt("a socket in the file system", UnixStream::connect(other.join("ear")));
    drop(ear);
    attempt("a pair of sockets", UnixStream::pair());
    attempt("change the root", std::os::unix::fs::chroot("/"));
    let root = Uid::ROOT;
    attempt("become root", set_thread_res_uid(root, root, root).map_err(io::Error::from));
    let all = CapabilitySet::SYS_ADMIN;
    let sets = CapabilitySets { effective: all, permitted: all, inheritable: all };
    attempt("take capabilities", set_capabilities(None, sets).map_err(io::Error::from));
    io::stdout().flush().expect("written");
    std::process::exit(0);
}

fn attempt<T>(name: &str, result: io::Result<T>) {
    let errno = match result {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    };
    println!("attempt {name}={errno}");
}

/// The system calls themselves, each with the filter and, to see that it is the filter that refuses, without.
#[test]
fn system_calls_are_refused() {
    if !can_be_had() || !cfg!(target_arch = "x86_64") {
        return;
    }
    for role in [Role::Replay, Role::Capture, Role::Lookups, Role::Shipper, Role::LocalShipper] {
        let mut filters = String::new();
        for program in calls::programs(role).expect("filters") {
            let lines = program.iter().map(|op| format!("{} {} {} {}\n", op.code, op.jt, op.jf, op.k));
            filters.extend(lines);
            filters.push('\n');
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox/calls.py");
        let python = Command::new("python3")
            .arg("-B")
            .arg(script)
            .arg(format!("{role:?}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut python) = python else { return skip("no python3") };
        python.stdin.take().expect("a pipe").write_all(filters.as_bytes()).expect("it reads");
        let output = python.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("all as expected"), "{role:?}: {said}");
    }
}

const REFUSED: &[(&str, i32)] = &[
    ("read a file of root", EACCES),
    ("read a file of all", EACCES),
    ("list a folder", EACCES),
    ("read elsewhere", EACCES),
    ("list elsewhere", EACCES),
    ("read a key", EACCES),
    ("read a key that was replaced", EACCES),
    ("write a key", EACCES),
    ("write in a folder made again", EACCES),
    ("write elsewhere", EACCES),
    ("write by ..", EACCES),
    ("read by a link", EACCES),
    ("write by a link", EACCES),
    ("write by a link to a folder", EACCES),
    ("delete elsewhere", EACCES),
    ("move a file out", EACCES),
    ("link a file", EPERM),
    ("make a link", EPERM),
    ("change a mode", EPERM),
    ("read memory of init", EACCES),
    ("read own memory", EACCES),
    ("write own memory", EACCES),
    ("become another program", EPERM),
    ("start a program", EPERM),
    ("UDP", EPERM),
    ("TCP", EPERM),
    ("TCP where it may", EPERM),
    ("listen", EPERM),
    ("a socket in the file system", EPERM),
    ("a pair of sockets", EPERM),
    ("change the root", EPERM),
    ("become root", EPERM),
    ("take capabilities", EPERM),
];
/// What is otherwise for who sends.
const SENDING: &[(&str, i32)] = &[
    ("read a file of root", 0),
    ("read a file of all", 0),
    ("read a key", 0),
    ("read a key that was replaced", 0),
    ("UDP", 0),
    ("TCP", EACCES),
    ("TCP where it may", 0),
    ("listen", EACCES),
];
/// What is otherwise for who looks up the owners of sockets, as root: all can be read, nothing can be written.
const LOOKING: &[(&str, i32)] = &[
    ("create a file", EPERM),
    ("rename a file", EPERM),
    ("delete a file", EPERM),
    ("make a folder", EPERM),
    ("write in a folder made again", EPERM),
    ("read a file of root", 0),
    ("read a file of all", 0),
    ("list a folder", 0),
    ("read elsewhere", 0),
    ("list elsewhere", 0),
    ("read a key", 0),
    ("read a key that was replaced", 0),
    ("read by a link", 0),
    ("read own memory", 0),
    ("write own memory", EPERM),
    ("write a key", EPERM),
    ("write elsewhere", EPERM),
    ("write by ..", EPERM),
    ("write by a link", EPERM),
    ("write by a link to a folder", EPERM),
    ("delete elsewhere", EPERM),
    ("move a file out", EPERM),
];
const ALLOWED: &[&str] =
    &["create a file", "rename a file", "delete a file", "read an output", "make a folder", "start a thread"];
const FOLDER: &str = "FLOWCAP_TEST_FOLDER";
const ROLE: &str = "FLOWCAP_TEST_ROLE";
const USER: &str = "FLOWCAP_TEST_USER";
