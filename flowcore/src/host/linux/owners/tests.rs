use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::host::{SocketKind, SocketState};
use crate::key::Endpoint;

/// A `/proc` of our own.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stat"), "btime 1700000000\n").unwrap();
        fs::create_dir(folder.path().join("cgroups")).unwrap();
        Machine { folder }
    }

    /// Starts a process, or puts another in its place.
    fn process(&self, pid: u32, ppid: u32, start: u64, sockets: &[(u32, u64)]) {
        self.end(pid);
        let folder = self.folder.path().join(pid.to_string());
        fs::create_dir_all(folder.join("fd")).unwrap();
        for (descriptor, inode) in sockets {
            self.open(pid, *descriptor, *inode);
        }
        self.name(pid, ppid, start, &format!("p{pid}"));
    }

    fn name(&self, pid: u32, ppid: u32, start: u64, name: &str) {
        // 17 fields that are not read stand before the start.
        let stat = format!("{pid} ({name}) S {ppid} {}{start} 0 0", "0 ".repeat(17));
        fs::write(self.folder.path().join(format!("{pid}/stat")), stat).unwrap();
        self.group(pid, pid);
    }

    /// Says of which process a number is.
    fn group(&self, number: u32, pid: u32) {
        fs::write(self.folder.path().join(format!("{number}/status")), format!("Tgid:\t{pid}\n")).unwrap();
    }

    /// Says which number was given last.
    fn newest(&self, number: u32) {
        fs::write(self.folder.path().join("loadavg"), format!("0.20 0.18 0.12 1/80 {number}\n")).unwrap();
    }

    fn open(&self, pid: u32, descriptor: u32, inode: u64) {
        let path = self.folder.path().join(format!("{pid}/fd/{descriptor}"));
        symlink(format!("socket:[{inode}]"), path).unwrap();
    }

    fn close(&self, pid: u32, descriptor: u32) {
        fs::remove_file(self.folder.path().join(format!("{pid}/fd/{descriptor}"))).unwrap();
    }

    fn end(&self, pid: u32) {
        // Not at once: its inodes must not be used again for the next one.
        let gone = self
            .folder
            .path()
            .join(format!("gone-{pid}-{}", fs::read_dir(self.folder.path()).unwrap().count()));
        let _ = fs::rename(self.folder.path().join(pid.to_string()), gone);
    }

    fn processes(&self) -> Processes {
        let root = self.folder.path();
        let cgroup = Some(root.join("cgroups"));
        Processes::at(&Places { proc: root.to_owned(), passwd: root.join("passwd"), cgroup }).unwrap()
    }
}

fn socket(inode: u64) -> Socket {
    Socket {
        kind: SocketKind::Tcp,
        local: Endpoint { addr: [127, 0, 0, 1].into(), port: Some(80) },
        remote: None,
        state: SocketState::Listen,
        uid: 0,
        inode,
        cookie: 0,
        netns: 0,
        interface: 0,
        cgroup: None,
    }
}

/// The owner's name and with how many it shares the socket, or why there is none; the same from both ways to ask.
#[track_caller]
fn owner(processes: &mut Processes, inode: u64) -> String {
    let word = |owner: &Owner| match owner {
        Owner::Process { process, shared } => format!("{} of {shared}", process.name),
        other => format!("{other:?}"),
    };
    let one = word(&processes.owner(&socket(inode)));
    let many = processes.owners(&[socket(inode), socket(0)]);
    assert_eq!(one, word(&many[0]));
    assert_eq!(many[1], Owner::NoProcess);
    one
}

#[test]
fn the_only_holder() {
    let machine = Machine::new();
    machine.process(10, 1, 100, &[(3, 5001), (4, 5002)]);
    machine.process(11, 1, 100, &[(3, 5003), (9, 5003)]);
    let mut processes = machine.processes();
    assert_eq!(owner(&mut processes, 5002), "p10 of 1");
    assert_eq!(owner(&mut processes, 5003), "p11 of 1");
    assert_eq!(owner(&mut processes, 5004), "NoProcess");
    assert_eq!(owner(&mut processes, 0), "NoProcess");
}

#[test]
fn of_a_family_the_latest() {
    let machine = Machine::new();
    machine.process(10, 1, 100, &[(3, 5001)]);
    machine.process(20, 10, 200, &[(3, 5001)]);
    machine.process(30, 10, 300, &[(3, 5001)]);
    assert_eq!(owner(&mut machine.processes(), 5001), "p30 of 3");
    // Between ancestor and descendant there may be one that holds it no longer.
    machine.process(20, 10, 200, &[]);
    machine.process(30, 1, 300, &[]);
    machine.process(40, 20, 250, &[(7, 5001)]);
    assert_eq!(owner(&mut machine.processes(), 5001), "p40 of 2");
}

#[test]
fn strangers_are_not_told_apart() {
    let machine = Machine::new();
    machine.process(1, 0, 1, &[]);
    machine.process(10, 1, 100, &[(3, 5001)]);
    machine.process(20, 1, 200, &[(3, 5001)]);
    let mut processes = machine.processes();
    assert_eq!(owner(&mut processes, 5001), "Ambiguous");
    assert_eq!(processes.counts().ambiguous, 2);
    // Nor by a third that descends from one of them.
    machine.process(30, 20, 300, &[(3, 5001)]);
    assert_eq!(owner(&mut machine.processes(), 5001), "Ambiguous");
}

#[test]
fn a_number_used_again_is_another_process() {
    let machine = Machine::new();
    machine.process(10, 1, 100, &[(3, 5001)]);
    let mut processes = machine.processes();
    assert_eq!(owner(&mut processes, 5001), "p10 of 1");

    machine.process(10, 1, 900, &[(3, 5002)]);
    assert_eq!(owner(&mut processes, 5001), "NoProcess");
    let Owner::Process { process, .. } = processes.owner(&socket(5002)) else { panic!() };
    assert!(process.upid().ends_with("|10|1700000009.00"), "{}", process.upid());

    // The next one with this number has the same socket by the same descriptor: still it is another.
    machine.process(10, 1, 950, &[(3, 5002)]);
    let Owner::Process { process, .. } = processes.owner(&socket(5002)) else { panic!() };
    assert!(process.upid().ends_with("|10|1700000009.50"), "{}", process.upid());
}

#[test]
fn memory_follows_what_happens() {
    let machine = Machine::new();
    machine.process(10, 1, 100, &[(3, 5001)]);
    machine.process(20, 1, 200, &[]);
    let mut processes = machine.processes();
    assert_eq!(owner(&mut processes, 5001), "p10 of 1");
    // Handed on.
    machine.close(10, 3);
    machine.open(20, 8, 5001);
    assert_eq!(owner(&mut processes, 5001), "p20 of 1");
    // Another program in the same process.
    machine.name(20, 1, 200, "other");
    assert_eq!(owner(&mut processes, 5001), "other of 1");
    // Another socket by the same descriptor.
    machine.close(20, 8);
    machine.open(20, 8, 5009);
    assert_eq!(owner(&mut processes, 5009), "other of 1");
    assert_eq!(owner(&mut processes, 5001), "NoProcess");
    machine.end(20);
    assert_eq!(owner(&mut processes, 5009), "NoProcess");
    assert_eq!(processes.holders.of(5009), []);
}

#[test]
fn the_container_of_a_socket_that_nobody_holds() {
    let id = "7f1e0c3a9b2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7";
    let machine = Machine::new();
    let folder = machine.folder.path().join("cgroups").join(format!("docker-{id}.scope"));
    fs::create_dir(&folder).unwrap();
    let cgroup = Some(fs::metadata(&folder).unwrap().ino());
    let mut processes = machine.processes();
    for inode in [0, 5001] {
        let owner = processes.owner(&Socket { cgroup, uid: 33, ..socket(inode) });
        assert_eq!(owner, Owner::UidOnly { uid: 33, container_id: Some(id.to_owned()) });
    }
}

#[test]
fn a_search_ends_when_its_time_is_up() {
    let machine = Machine::new();
    machine.process(10, 1, 100, &[(3, 5001)]);
    machine.process(11, 1, 100, &[]);
    machine.process(12, 1, 100, &[]);
    let mut processes = machine.processes().budget(Duration::ZERO);
    assert_eq!(processes.owner(&socket(5001)), Owner::UidOnly { uid: 0, container_id: None });
    assert_eq!(processes.counts().out_of_time, 1);
    // Many are not asked for in such haste.
    assert!(matches!(processes.owners(&[socket(5001)])[0], Owner::Process { .. }));
}

#[test]
fn a_socket_that_is_gone_is_not_searched_for() {
    let machine = Machine::new();
    machine.process(10, 1, 100, &[(3, 5001)]);
    let mut processes = machine.processes();
    assert_eq!(processes.owner_while(&socket(5001), &mut || false), Owner::NoProcess);
    assert_eq!(processes.counts().sweeps, 0);
    assert!(matches!(processes.owner_while(&socket(5001), &mut || true), Owner::Process { .. }));
    assert_eq!(processes.counts().sweeps, 1);
}

#[test]
fn who_came_since_is_asked_instead_of_all() {
    let machine = Machine::new();
    machine.process(5, 1, 100, &[]);
    machine.process(10, 5, 100, &[]);
    machine.newest(10);
    let mut processes = machine.processes().budget(Duration::from_secs(60));
    processes.owners(&[]);
    let swept = Instant::now();
    // A process opens a socket and hands it to a child, which has a thread.
    machine.open(10, 4, 5001);
    machine.process(20, 10, 200, &[(4, 5001)]);
    machine.process(21, 10, 200, &[(4, 5001)]);
    machine.group(21, 20);
    machine.newest(21);
    let Owner::Process { process, shared } = processes.owner(&socket(5001)) else { panic!() };
    assert_eq!((process.pid, shared), (20, 2));
    // A moment later the child opens another one; by then others have come and gone.
    machine.open(20, 5, 5002);
    machine.newest(40);
    let Owner::Process { process, shared } = processes.owner(&socket(5002)) else { panic!() };
    assert_eq!((process.pid, shared), (20, 1));
    // What was looked at a second ago is looked at again.
    assert!(processes.counts().sweeps == 1 || swept.elapsed() >= RECHECK);
}

#[test]
fn the_latest_owners_are_asked_first() {
    let machine = Machine::new();
    for pid in 10..60 {
        machine.process(pid, 1, 100, &[(3, 5000 + u64::from(pid))]);
    }
    let mut processes = machine.processes();
    for pid in 10..60 {
        assert!(matches!(processes.owner(&socket(5000 + pid)), Owner::Process { shared: 1, .. }));
    }
    assert_eq!(processes.recent.len(), RECENT);
    assert_eq!(processes.recent.front(), Some(&59));
    machine.open(50, 4, 6000);
    assert!(matches!(processes.owner(&socket(6000)), Owner::Process { .. }));
    assert_eq!(processes.recent.front(), Some(&50));
    assert_eq!(processes.counts().recent, 1);
}

#[test]
fn what_is_gone_is_not_said_to_be_hidden() {
    let machine = Machine::new();
    machine.process(7, 1, 100, &[(3, 55)]);
    let mut processes = machine.processes();
    processes.proc.hides_others = true;
    assert_eq!(processes.owner_while(&socket(99), &mut || true), Owner::NotPermitted);
    assert_eq!(processes.owner_while(&socket(99), &mut || false), Owner::NoProcess);
    assert!(matches!(processes.owner(&socket(55)), Owner::Process { .. }));
}
