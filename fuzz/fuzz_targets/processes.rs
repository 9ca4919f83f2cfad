//! Any bytes as the texts of `/proc/PID` and of passwd: a process is read twice alike, within bounds, and its record is
//! JSON.
//!
//! Input: files, as `files` of this crate takes them apart.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::LazyLock;

use flowcap_fuzz::{files, folder};
use flowcore::host::{Owner, Places, Process, ProcessTable, Processes, Socket, SocketKind, SocketState};
use flowcore::key::Endpoint;
use libfuzzer_sys::fuzz_target;

/// Two processes, of which 7 is the parent of 77 if its texts say so.
const NAMES: [&str; 10] = [
    "77/stat",
    "77/status",
    "77/cmdline",
    "77/cgroup",
    "77/loginuid",
    "7/stat",
    "7/status",
    "passwd",
    "stat",
    "loadavg",
];
const INODE: u64 = 4711;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = folder();
    for name in ["7/fd", "77/fd", "cgroup"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    for pid in ["7", "77"] {
        symlink(format!("socket:[{INODE}]"), folder.join(pid).join("fd/3")).expect("a link");
    }
    symlink("/usr/bin/a-program-of-a-long-name (deleted)", folder.join("77/exe")).expect("a link");
    folder
});

thread_local! {
    static WRITTEN: RefCell<[Vec<u8>; NAMES.len()]> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    let mut texts = [&[][..]; NAMES.len()];
    texts[8] = b"btime 1700000000\n";
    files(data).for_each(|(which, bytes)| texts[which % NAMES.len()] = bytes);
    WRITTEN.with_borrow_mut(|written| {
        // Most inputs differ from the one before in one file.
        for ((name, text), before) in
            NAMES.iter().zip(texts).zip(written).filter(|((_, text), before)| text != before)
        {
            fs::write(FOLDER.join(name), text).expect("room");
            *before = text.to_vec();
        }
    });
    let (passwd, cgroup) = (FOLDER.join("passwd"), Some(FOLDER.join("cgroup")));
    let places = Places { proc: FOLDER.clone(), passwd, cgroup };
    let Ok(mut processes) = Processes::at(&places) else { return };
    let found = processes.process(77);
    assert_eq!(found, Processes::at(&places).expect("as before").process(77));
    found.iter().for_each(hold);
    let socket = Socket {
        kind: SocketKind::Tcp,
        local: Endpoint { addr: [192, 0, 2, 1].into(), port: Some(1) },
        remote: None,
        state: SocketState::Listen,
        uid: 1000,
        inode: INODE,
        cookie: 0,
        netns: 0,
        interface: 0,
        cgroup: Some(5),
    };
    let owners = processes.owners(&[socket.clone()]);
    for owner in owners.iter().chain([&processes.owner(&socket)]) {
        if let Owner::Process { process, shared } = owner {
            assert!(matches!(process.pid, 7 | 77) && (1..=2).contains(shared));
            hold(process);
        }
    }
});

fn hold(process: &Process) {
    // 16 KiB are read of a command line, and a byte that is no text becomes three.
    assert!(process.args.iter().map(String::len).sum::<usize>() <= 3 * 16 << 10);
    assert!(process.name.len() <= 3 * 4096);
    let is_id = |id: &String| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(process.container_id.as_ref().is_none_or(is_id));
    let json = serde_json::to_string(process).expect("JSON");
    assert_eq!(serde_json::from_str::<Process>(&json).expect("what was written"), *process);
}
