//! Processes as `/proc` shows them, each read through one open directory: when the process is gone, so is the
//! directory, whoever gets its number next.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use crate::host::{Credentials, Process};
use crate::time::Timestamp;

use super::container::container_in;
use super::descriptors::{Descriptors, Glance, glance, numbers, socket};
use super::users::Users;

/// The file system of the processes, and what is needed to understand its numbers.
#[derive(Debug)]
pub(super) struct Proc {
    root: OwnedFd,
    /// Stays open, since it is read for every lookup.
    loadavg: Option<OwnedFd>,
    /// When the machine started.
    booted: Timestamp,
    /// The nanoseconds of a clock tick.
    tick: u64,
    /// Whether the size of a folder of descriptors is their number: from Linux 6.2 on.
    pub counts_descriptors: bool,
    /// Whether processes of others are not even listed (`hidepid`).
    pub hides_others: bool,
    /// The number of this process.
    own: u32,
    /// Whether numbers are the same here as in system calls: not so in `/proc` of another PID namespace.
    is_own_namespace: bool,
}

/// The parts of `/proc/PID/stat` that are needed. Another program in the same process begins at another address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    /// At most 15 bytes.
    pub comm: String,
    pub ppid: u32,
    /// Clock ticks after the machine's start.
    pub start: u64,
    /// Where its stack begins; 0 without permission.
    stack: u64,
}

impl Proc {
    pub(super) fn open(path: &Path) -> io::Result<Proc> {
        let root = rustix::fs::openat(CWD, path, FOLDER, Mode::empty())?;
        let stat = String::from_utf8_lossy(&read(&root, "stat")?).into_owned();
        let mut proc = Proc {
            loadavg: rustix::fs::openat(&root, "loadavg", FILE, Mode::empty()).ok(),
            root,
            booted: booted(&stat)?,
            tick: 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1),
            counts_descriptors: false,
            hides_others: false,
            own: std::process::id(),
            is_own_namespace: false,
        };
        // This process has descriptors, so their number can't be 0 where they are counted. A directory elsewhere, as in
        // tests, has a size of another meaning.
        let is_proc = rustix::fs::fstatfs(&proc.root).is_ok_and(|about| about.f_type == PROC_MAGIC);
        let own = proc.glance(proc.own);
        proc.counts_descriptors = is_proc && own.is_ok_and(|own| own.open > 0);
        proc.hides_others = is_proc && !proc.exists(1);
        let own = rustix::fs::readlinkat(&proc.root, "self", Vec::new());
        proc.is_own_namespace =
            is_proc && own.is_ok_and(|own| own.to_bytes() == proc.own.to_string().as_bytes());
        Ok(proc)
    }

    /// Returns the process ids, the newest first: downwards from the one given last, then downwards from the highest.
    pub(super) fn pids(&self, newest: Option<u32>) -> io::Result<Vec<u32>> {
        let folder = rustix::fs::openat(&self.root, ".", FOLDER, Mode::empty())?;
        let mut pids = numbers(&folder, u64::MAX)?;
        let newest = newest.unwrap_or(u32::MAX);
        pids.sort_unstable_by_key(|pid| (*pid > newest, std::cmp::Reverse(*pid)));
        Ok(pids)
    }

    /// Returns the process id that was given last, to a process or a thread.
    pub(super) fn newest(&self) -> Option<u32> {
        // 0.20 0.18 0.12 1/80 11206: proc_loadavg(5)
        let mut text = [0; 64];
        let length = rustix::io::pread(self.loadavg.as_ref()?, &mut text, 0).ok()?;
        std::str::from_utf8(text.get(..length)?).ok()?.trim_end().rsplit(' ').next()?.parse().ok()
    }

    /// Looks at a process's folder of descriptors from outside, which needs no permission.
    pub(super) fn glance(&self, pid: u32) -> io::Result<Glance> {
        glance(&self.root, &format!("{pid}/fd"), AtFlags::empty())
    }

    /// Returns the effective user of a process that may not be looked into.
    pub(super) fn user_of(&self, pid: u32) -> io::Result<u32> {
        glance(&self.root, &pid.to_string(), AtFlags::empty()).map(|glance| glance.uid)
    }

    /// Tells whether a number is that of a process, and not of one of its threads.
    pub(super) fn is_process(&self, pid: u32) -> bool {
        // Costs a tenth of what a text costs that the kernel has to write.
        let number = pid.try_into().ok().and_then(Pid::from_raw).filter(|_| self.is_own_namespace);
        match number.map(|number| pidfd_open(number, PidfdFlags::empty())) {
            Some(Ok(_)) => return true,
            // A thread, before and since Linux 6.9.
            Some(Err(Errno::INVAL | Errno::NOENT)) => return false,
            _ => {}
        }
        let status = read(&self.root, &format!("{pid}/status")).unwrap_or_default();
        let mut lines = status.split(|byte| *byte == b'\n');
        let group = lines.find_map(|line| line.strip_prefix(b"Tgid:"));
        group.is_some_and(|group| String::from_utf8_lossy(group).trim().parse() == Ok(pid))
    }

    /// Returns the inode of the socket that a descriptor of a process stands for.
    pub(super) fn socket(&self, pid: u32, descriptor: u32) -> Option<u64> {
        socket(&self.root, format!("{pid}/fd/{descriptor}")).ok().flatten()
    }

    /// Opens a process's folder of descriptors.
    pub(super) fn descriptors(&self, pid: u32) -> io::Result<Descriptors> {
        Descriptors::open(&self.root, pid, self.counts_descriptors, pid == self.own)
    }

    /// Reads what may change a process's name or parent.
    pub(super) fn stat(&self, pid: u32) -> io::Result<Stat> {
        Stat::parse(&read(&self.root, &format!("{pid}/stat"))?).ok_or_else(damaged)
    }

    /// Reads a process as it is now, with what its folder of descriptors looks like.
    ///
    /// # Errors
    /// When it is gone; what else cannot be read is left empty.
    pub(super) fn process(&self, pid: u32, users: &mut Users) -> io::Result<(Process, Stat, Glance)> {
        let folder = rustix::fs::openat(&self.root, pid.to_string(), FOLDER | OFlags::PATH, Mode::empty())?;
        let stat = Stat::parse(&read(&folder, "stat")?).ok_or_else(damaged)?;
        let exe = exe(&folder);
        let args = beginning(&folder, "cmdline", LONGEST_ARGS).map(|text| args(&text)).unwrap_or_default();
        let status = read(&folder, "status").unwrap_or_default();
        let mut credentials = credentials(&String::from_utf8_lossy(&status));
        credentials.auid = read(&folder, "loginuid").ok().and_then(|text| auid(&text));
        let cgroup = read(&folder, "cgroup").unwrap_or_default();
        let glance = glance(&folder, "fd", AtFlags::empty())?;
        let process = Process {
            pid,
            name: name(&stat.comm, exe.as_deref()),
            exe,
            args,
            started: self.started(&stat),
            ppid: stat.ppid,
            parent_name: self.parent_name(&stat),
            user: users.name(credentials.uid).map(str::to_owned),
            credentials,
            container_id: container_in(&String::from_utf8_lossy(&cgroup)).map(str::to_owned),
        };
        Ok((process, stat, glance))
    }

    fn started(&self, stat: &Stat) -> Timestamp {
        self.booted.saturating_add_nanos(stat.start.saturating_mul(self.tick))
    }

    /// A parent that started after its child is another process, which got the number of the parent.
    fn parent_name(&self, child: &Stat) -> Option<String> {
        let folder =
            rustix::fs::openat(&self.root, child.ppid.to_string(), FOLDER | OFlags::PATH, Mode::empty());
        let folder = folder.ok().filter(|_| child.ppid > 0)?;
        let stat = Stat::parse(&read(&folder, "stat").ok()?).filter(|parent| parent.start <= child.start)?;
        let exe = if stat.comm.len() == COMM { exe(&folder) } else { None };
        Some(name(&stat.comm, exe.as_deref()))
    }

    fn exists(&self, pid: u32) -> bool {
        rustix::fs::accessat(&self.root, pid.to_string(), rustix::fs::Access::EXISTS, AtFlags::empty())
            .is_ok()
    }
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Stat> {
        // PID (COMM) STATE PPID …, and COMM may hold anything: proc_pid_stat(5)
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
        let start = field(22)?.parse().ok()?;
        let stack = field(28).and_then(|text| text.parse().ok()).unwrap_or_default();
        Some(Stat { comm, ppid: field(4)?.parse().ok()?, start, stack })
    }
}

/// Reads a file whole, or the beginning of a very large one.
fn read(folder: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    beginning(folder, name, LARGEST)
}

fn beginning(folder: &OwnedFd, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = rustix::fs::openat(folder, name, FILE, Mode::empty())?;
    let mut text = Vec::with_capacity(1024);
    fs::File::from(file).take(limit).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns when the machine started: the seconds of `btime`, and the hundredths that they lack where the clocks of this
/// machine agree with them. Rounding keeps it the same from run to run.
fn booted(stat: &str) -> io::Result<Timestamp> {
    const NANOS: i64 = 1_000_000_000;
    const HUNDREDTH: i64 = NANOS / 100;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "));
    let seconds: i64 = seconds.and_then(|text| text.trim().parse().ok()).ok_or_else(damaged)?;
    let btime = seconds.checked_mul(NANOS).ok_or_else(damaged)?;

    let nanos = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec * NANOS + time.tv_nsec
    };
    let boot = nanos(ClockId::Realtime) - nanos(ClockId::Boottime);
    let precise = (boot + HUNDREDTH / 2).div_euclid(HUNDREDTH) * HUNDREDTH;
    let agree = (btime - HUNDREDTH..=btime + NANOS).contains(&precise);
    Ok(Timestamp::from_nanos(if agree { precise } else { btime }))
}

/// The executable, without the note that its file was replaced or deleted.
fn exe(folder: &OwnedFd) -> Option<String> {
    let target = rustix::fs::readlinkat(folder, "exe", Vec::with_capacity(256)).ok()?;
    let path = target.to_string_lossy();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
}

/// The kernel cuts names at 15 bytes; the executable's name, if it begins so, is the whole.
fn name(comm: &str, exe: Option<&str>) -> String {
    let base = exe.and_then(|path| path.rsplit('/').next());
    base.filter(|base| comm.len() >= COMM && base.starts_with(comm)).unwrap_or(comm).to_owned()
}

fn args(cmdline: &[u8]) -> Vec<String> {
    let args = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if args.is_empty() {
        return Vec::new();
    }
    args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

fn auid(loginuid: &[u8]) -> Option<u32> {
    let uid = std::str::from_utf8(loginuid).ok()?.trim().parse().ok()?;
    (uid != u32::MAX).then_some(uid)
}

/// Reads credentials from the text of `/proc/PID/status`.
fn credentials(status: &str) -> Credentials {
    let mut credentials = Credentials::default();
    for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
        // Real, effective, saved, for files: proc_pid_status(5)
        let mut ids = value.split_ascii_whitespace().map(|id| id.parse().unwrap_or_default());
        let mut next = || ids.next().unwrap_or_default();
        let bits = || u64::from_str_radix(value.trim(), 16).unwrap_or_default();
        match name {
            "Uid" => (credentials.uid, credentials.euid) = (next(), next()),
            "Gid" => (credentials.gid, credentials.egid) = (next(), next()),
            "CapInh" => credentials.cap_inheritable = bits(),
            "CapPrm" => credentials.cap_permitted = bits(),
            "CapEff" => credentials.cap_effective = bits(),
            _ => {}
        }
    }
    credentials
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file of /proc is not as it should be")
}

/// Where `/proc`, the users and the control groups are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The file system of processes.
    pub proc: PathBuf,
    /// The users, as passwd(5) describes it.
    pub passwd: PathBuf,
    /// The control groups (version 2); none to ask the list of mounts.
    pub cgroup: Option<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Places { proc: "/proc".into(), passwd: "/etc/passwd".into(), cgroup: None }
    }
}

impl Places {
    /// Returns where the control groups are.
    pub(super) fn cgroups(&self) -> Option<PathBuf> {
        self.cgroup.clone().or_else(|| {
            let mounts = fs::read_to_string(self.proc.join("self/mountinfo")).ok()?;
            super::container::Cgroups::mounted_at(&mounts)
        })
    }
}

const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);
/// How a folder is opened.
pub(super) const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The length at which the kernel cuts names.
const COMM: usize = 15;
/// How much of a command line is read.
const LONGEST_ARGS: u64 = 16 << 10;
/// How much of any file is read; `/proc/stat` has some ten KiB on a large machine.
const LARGEST: u64 = 1 << 20;
/// PROC_SUPER_MAGIC of linux/magic.h.
const PROC_MAGIC: rustix::fs::FsWord = 0x9fa0;

#[cfg(test)]
mod tests;
