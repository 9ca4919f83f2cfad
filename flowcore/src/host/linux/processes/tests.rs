use std::os::unix::fs::symlink;

use super::*;

const ID: &str = "7f1e0c3a9b2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7";

/// Process 4242 of testdata, a server in a container, and its parent 4200.
fn fixture() -> (Proc, Users) {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    (Proc::open(&testdata.join("proc")).unwrap(), Users::new(testdata.join("proc/passwd")))
}

#[test]
fn a_process_is_read() {
    let (proc, mut users) = fixture();
    let (process, ..) = proc.process(4242, &mut users).unwrap();
    let tick = 1_000_000_000 / i64::try_from(rustix::param::clock_ticks_per_second()).unwrap();
    let expected = Process {
        pid: 4242,
        name: "long-named-server".to_owned(),
        exe: Some("/usr/sbin/long-named-server".to_owned()),
        args: vec!["long-named-server".to_owned(), "--bind".to_owned(), String::new(), "[::]:80".to_owned()],
        started: Timestamp::from_nanos(1_700_000_000_000_000_000 + 123_457 * tick),
        ppid: 4200,
        parent_name: Some("a) (b".to_owned()),
        credentials: Credentials {
            uid: 33,
            euid: 34,
            gid: 43,
            egid: 44,
            auid: Some(1000),
            cap_inheritable: 1,
            cap_permitted: 0x400,
            cap_effective: 0x1ff_ffff_ffff,
        },
        user: Some("www-data".to_owned()),
        container_id: Some(ID.to_owned()),
    };
    assert_eq!(process, expected);
    if tick == 10_000_000 {
        assert_eq!(process.upid(), "long-named-server|4242|1700001234.57");
    }
}

#[test]
fn what_cannot_be_read_is_left_empty() {
    let (proc, mut users) = fixture();
    let (process, stat, _) = proc.process(4200, &mut users).unwrap();
    assert_eq!(process.name, "a) (b");
    assert_eq!(stat.start, 77);
    assert_eq!((process.exe, process.args), (None, Vec::new()));
    assert_eq!((process.parent_name, process.container_id, process.credentials.auid), (None, None, None));
    assert!(proc.process(1, &mut users).is_err());
}

#[test]
fn a_parent_younger_than_its_child_is_none() {
    let (proc, _) = fixture();
    let mut child = proc.stat(4242).unwrap();
    assert!(proc.parent_name(&child).is_some());
    child.start = 76;
    assert_eq!(proc.parent_name(&child), None);
}

#[test]
fn sockets_behind_descriptors() {
    let (proc, _) = fixture();
    let descriptors = proc.descriptors(4242).unwrap();
    let numbers = descriptors.numbers().unwrap();
    assert_eq!(numbers, [0, 3, 10]);
    let sockets: Vec<_> = numbers.into_iter().map(|number| descriptors.socket(number)).collect();
    assert_eq!(sockets, [None, Some(18_446_744_073_709_551_615), Some(90_001)]);
    assert_eq!(descriptors.socket(4), None);
}

#[test]
fn the_newest_process_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    for pid in [1, 20, 300, 400, 30_000] {
        fs::create_dir(folder.path().join(pid.to_string())).unwrap();
    }
    fs::create_dir(folder.path().join("sys")).unwrap();
    fs::write(folder.path().join("stat"), "btime 5\n").unwrap();
    let proc = Proc::open(folder.path()).unwrap();
    assert_eq!(proc.newest(), None);
    assert_eq!(proc.pids(None).unwrap(), [30_000, 400, 300, 20, 1]);
    // Numbers have begun anew: what is above the last one was given before it.
    fs::write(folder.path().join("loadavg"), "0.10 0.20 0.30 2/150 310\n").unwrap();
    let proc = Proc::open(folder.path()).unwrap();
    assert_eq!(proc.newest(), Some(310));
    assert_eq!(proc.pids(proc.newest()).unwrap(), [300, 20, 1, 30_000, 400]);
}

#[test]
fn a_folder_that_is_open_never_becomes_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("stat"), "btime 5\n").unwrap();
    let make = |inode: u64| {
        fs::create_dir_all(root.join("7/fd")).unwrap();
        symlink(format!("socket:[{inode}]"), root.join("7/fd/3")).unwrap();
    };
    make(11);
    let proc = Proc::open(root).unwrap();
    let before = proc.descriptors(7).unwrap();
    fs::rename(root.join("7"), root.join("gone")).unwrap();
    make(12);
    let after = proc.descriptors(7).unwrap();
    assert_eq!((before.socket(3), after.socket(3)), (Some(11), Some(12)));
    assert_ne!(before.glance.instance, after.glance.instance);
}

#[test]
fn names_that_the_kernel_cut() {
    assert_eq!(name("NetworkManager", Some("/usr/sbin/NetworkManager")), "NetworkManager");
    assert_eq!(name("systemd-resolve", Some("/usr/lib/systemd/systemd-resolved")), "systemd-resolved");
    // A script's name is that of the script, and threads may name themselves.
    assert_eq!(name("a-script-with-a", Some("/usr/bin/python3.11")), "a-script-with-a");
    assert_eq!(name("short", Some("/usr/bin/shorter")), "short");
    assert_eq!(name("systemd-resolve", None), "systemd-resolve");
}

#[test]
fn a_thread_is_no_process() {
    let mut proc = Proc::open(Path::new("/proc")).unwrap();
    let number = || rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    // A number that is nobody's, as is that of a thread which has ended.
    let gone = std::thread::spawn(number).join().unwrap();
    assert!(proc.is_own_namespace);
    for is_own_namespace in [true, false] {
        proc.is_own_namespace = is_own_namespace;
        let (is_process, own) = (|pid| proc.is_process(pid), std::process::id());
        let thread = std::thread::scope(|scope| scope.spawn(move || is_process(number())).join().unwrap());
        assert_eq!((is_process(own), thread, is_process(gone)), (true, false, false));
    }
}

#[test]
fn the_start_of_this_process() {
    let proc = Proc::open(Path::new("/proc")).unwrap();
    let own = proc.process(std::process::id(), &mut Users::new("/etc/passwd".into())).unwrap().0;
    let now = clock_gettime(ClockId::Realtime);
    let age = Timestamp::from_nanos(now.tv_sec * 1_000_000_000 + now.tv_nsec).nanos_since(own.started);
    assert!(age > 0 && age < 600_000_000_000, "{age}");
    assert_eq!(own.exe.as_deref(), std::env::current_exe().unwrap().to_str());
    assert_eq!(own.args, std::env::args().collect::<Vec<_>>());
    assert!(proc.newest().is_some());
}

#[test]
fn damaged_texts() {
    assert_eq!(Stat::parse(b""), None);
    assert_eq!(Stat::parse(b"1 (a) S 1"), None);
    assert_eq!(Stat::parse(b")("), None);
    assert_eq!(args(b""), Vec::<String>::new());
    assert_eq!(args(b"one"), ["one"]);
    assert_eq!(args(b"\xff\0\0"), ["\u{fffd}", ""]);
    assert_eq!(auid(b"4294967295"), None);
    assert_eq!(auid(b"x"), None);
    assert!(booted("cpu 1 2\n").is_err());
    assert!(booted("btime 99999999999999999999\n").is_err());
}
