//! From a socket's inode to the process that holds it.
//!
//! What was read of a process's descriptors is kept, and one look from outside (`/proc/PID/fd`: which process it is, and
//! how many descriptors it has) tells whether to read them again. A sweep takes that look at every process, the newest
//! first, and reads those that are new or have changed; the others only where a socket was found nowhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::{Owner, Process, ProcessTable, Socket};

use super::container::Cgroups;
use super::hints::Hints;
use super::holders::{Holder, Holders, Wanted};
use super::newcomers::Newcomers;
use super::numbers::Numbers;
use super::processes::{Places, Proc, Stat};
use super::users::Users;

/// The processes of this machine, and which sockets they hold.
///
/// Only processes of the PID namespace whose `/proc` is read are seen. Reading those of other users needs
/// `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH`.
#[derive(Debug)]
pub struct Processes {
    proc: Proc,
    users: Users,
    cgroups: Cgroups,
    holders: Holders,
    /// The processes that were named last, the latest first.
    recent: VecDeque<u32>,
    /// Who owned the last sockets of an end.
    hints: Hints,
    /// Sockets that no process was found to hold.
    nowhere: Numbers,
    /// Users of processes that cannot be looked into.
    closed_users: HashSet<u32>,
    /// When the last sweep began.
    swept: Option<Instant>,
    /// When processes without descriptors were last looked at: threads of the kernel, half of all on a small machine.
    swept_empty: Option<Instant>,
    /// Who came since.
    newcomers: Newcomers,
    sweeps: u64,
    lookups: u64,
    /// Parents of ancestors, as far as this lookup asked for them.
    parents: HashMap<u32, u32>,
    budget: Duration,
    counts: OwnerCounts,
}

/// What the search for owners came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnerCounts {
    /// Sockets asked for.
    pub asked: u64,
    /// Of these, those whose holders were known and hold them still.
    pub remembered: u64,
    /// Of these, those found with one of the latest owners.
    pub recent: u64,
    /// Walks over all processes.
    pub sweeps: u64,
    /// Processes whose descriptors were read.
    pub processes_read: u64,
    /// Searches that ended because their time was up.
    pub out_of_time: u64,
    /// Sockets held by several processes of which none descends from the others.
    pub ambiguous: u64,
    /// Processes of the last sweep that may not be looked into.
    pub closed_processes: u64,
}

impl Processes {
    /// Opens `/proc` of this machine.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open() -> io::Result<Self> {
        Processes::at(&Places::default())
    }

    /// Opens another `/proc`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn at(places: &Places) -> io::Result<Self> {
        Ok(Processes {
            proc: Proc::open(&places.proc)?,
            users: Users::new(places.passwd.clone()),
            cgroups: Cgroups::new(places.cgroups()),
            holders: Holders::default(),
            recent: VecDeque::with_capacity(RECENT),
            hints: Hints::default(),
            nowhere: Numbers::default(),
            closed_users: HashSet::new(),
            swept: None,
            swept_empty: None,
            newcomers: Newcomers::default(),
            sweeps: 0,
            lookups: 0,
            parents: HashMap::new(),
            budget: BUDGET,
            counts: OwnerCounts::default(),
        })
    }

    /// Sets how long the search for one owner may take; 20 ms unless it is set.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Reads a process as it is now; none where it is gone.
    pub fn process(&mut self, pid: u32) -> Option<Process> {
        self.proc.process(pid, &mut self.users).ok().map(|(process, ..)| process)
    }

    /// Returns the name of a user of this machine.
    pub fn user(&mut self, uid: u32) -> Option<&str> {
        self.users.name(uid)
    }

    /// Returns what the searches came to so far.
    pub fn counts(&self) -> OwnerCounts {
        self.counts
    }
}

impl ProcessTable for Processes {
    /// A socket whose holders are known is answered from memory when they hold it still, by the same descriptor, and
    /// all processes were looked at within the last second: a child that was forked since is not yet seen.
    ///
    /// The first search has to read the descriptors of all processes. On a machine with many, that takes longer than one
    /// search may take, and who else holds the socket may be missed: `owners(&[])` reads them all at the start.
    fn owner(&mut self, socket: &Socket) -> Owner {
        self.owner_while(socket, &mut || true)
    }

    fn owner_while(&mut self, socket: &Socket, is_there: &mut dyn FnMut() -> bool) -> Owner {
        self.counts.asked += 1;
        self.lookups += 1;
        self.parents.clear();
        let inode = socket.inode;
        if inode == 0 {
            return self.nobody(socket, true);
        }
        let deadline = Instant::now() + self.budget;
        let wanted = Wanted::new(std::slice::from_ref(socket));
        let remembered = self.still_held(inode);
        let is_recent = self.swept.is_some_and(|at| at.elapsed() < RECHECK);
        let (mut found, mut others) = (remembered, !(remembered && is_recent));
        if others {
            let round = self.proc.newest().map(|newest| self.newcomers.round(newest)).unwrap_or_default();
            let mut whole = self.ask_newcomers(&round.first, &wanted, inode, deadline) && round.whole;
            found = found
                || !self.holders.of(inode).is_empty()
                || self.ask_likely(socket, &wanted, deadline)
                || self.ask_recent(&wanted, inode, deadline);
            whole = whole && self.ask_newcomers(&round.then, &wanted, inode, deadline);
            found = found || !self.holders.of(inode).is_empty();
            if whole {
                self.newcomers.end(&round);
            }
            // Sockets spread by fork, seldom otherwise: among those who were there before nobody else has come to hold it.
            others = !(whole && is_recent);
        }
        self.counts.remembered += u64::from(remembered);
        self.counts.recent += u64::from(found && !remembered);
        let whole = if found && !others {
            true
        } else if found || is_there() {
            let settle = if self.proc.counts_descriptors { self.budget } else { SETTLE };
            let deadline = if found { deadline.min(Instant::now() + settle) } else { deadline };
            self.sweep(&wanted, deadline, Search { settle, others, is_there })
        } else {
            true
        };
        let owner = match self.choose(socket, whole) {
            // What is gone is held by nobody, not even by those who may not be looked into.
            Owner::NotPermitted if !is_there() => Owner::NoProcess,
            owner => owner,
        };
        if let Owner::Process { process, .. } = &owner {
            self.hints.add(socket, process.pid);
            self.remember(process.pid);
        }
        owner
    }

    /// Takes the time it needs, at most 2 s: every descriptor of every process may have to be read once.
    fn owners(&mut self, sockets: &[Socket]) -> Vec<Owner> {
        self.counts.asked += sockets.len() as u64;
        self.lookups += 1;
        self.parents.clear();
        let wanted = Wanted::new(sockets);
        let search = Search { settle: LONG_BUDGET, others: true, is_there: &mut || true };
        let whole = self.sweep(&wanted, Instant::now() + LONG_BUDGET, search);
        self.nowhere.retain(|inode| wanted.has(*inode));
        let choose = |socket| {
            let owner = self.choose(socket, whole);
            if let Owner::Process { process, .. } = &owner
                && !self.recent.contains(&process.pid)
            {
                self.remember(process.pid);
            }
            owner
        };
        sockets.iter().map(choose).collect()
    }
}

impl Processes {
    /// Looks whether those who held a socket do so still, and forgets those who do not.
    fn still_held(&mut self, inode: u64) -> bool {
        for holder in self.holders.of(inode).to_vec() {
            match self.proc.descriptors(holder.pid) {
                Ok(descriptors) if descriptors.socket(holder.descriptor) == Some(inode) => {
                    let known = self.holders.known(holder.pid);
                    if known.is_none_or(|known| known.seen.instance != descriptors.glance.instance) {
                        self.holders.forget(holder.pid);
                    }
                }
                Ok(_) => self.holders.drop(holder, inode),
                Err(_) => self.holders.forget(holder.pid),
            }
        }
        !self.holders.of(inode).is_empty()
    }

    /// Reads processes that came since the last sweep: many live but for one exchange, and are gone before all processes
    /// can be looked at. With a holder its ancestors are read. Returns whether there was time for all.
    fn ask_newcomers(&mut self, numbers: &[u32], wanted: &Wanted<'_>, inode: u64, deadline: Instant) -> bool {
        for &pid in numbers {
            let Ok(glance) = self.proc.glance(pid) else {
                self.newcomers.forget(pid);
                continue;
            };
            let is_known =
                self.holders.known(pid).is_some_and(|known| known.seen.instance == glance.instance);
            if self.newcomers.is_thread(pid, &glance)
                || (self.holders.is_unchanged(pid, &glance) && self.trusts_glance(pid))
            {
                continue;
            }
            if !is_known && !self.proc.is_process(pid) {
                self.newcomers.add_thread(pid, glance);
                continue;
            }
            self.newcomers.add(pid);
            if self.read(pid, wanted, deadline) {
                self.ask_ancestors(pid, wanted, inode, deadline);
            }
            if Instant::now() > deadline {
                return false;
            }
        }
        true
    }

    /// Reads the ancestors of a holder, as far as they hold the socket, too.
    fn ask_ancestors(&mut self, mut pid: u32, wanted: &Wanted<'_>, inode: u64, deadline: Instant) {
        for _ in 0..GENERATIONS {
            let about = self.holders.known(pid).and_then(|known| known.about.as_ref());
            let Some(parent) = about.map(|(process, _)| process.ppid).filter(|ppid| *ppid > 0) else { break };
            let is_known =
                self.proc.glance(parent).is_ok_and(|glance| self.holders.is_unchanged(parent, &glance));
            if !is_known {
                self.read(parent, wanted, deadline);
            }
            if self.holders.of(inode).iter().all(|holder| holder.pid != parent) {
                break;
            }
            pid = parent;
        }
    }

    /// Asks the processes that owned the last sockets of the same ends.
    fn ask_likely(&mut self, socket: &Socket, wanted: &Wanted<'_>, deadline: Instant) -> bool {
        self.hints.of(socket).into_iter().any(|pid| self.ask_owner(pid, wanted, socket.inode, deadline, true))
    }

    /// Asks the processes that were named last whether they hold a socket.
    fn ask_recent(&mut self, wanted: &Wanted<'_>, inode: u64, deadline: Instant) -> bool {
        let mut unchanged = Vec::new();
        for pid in self.recent.clone() {
            if self.has_as_many(pid) {
                unchanged.push(pid);
            } else if self.ask_owner(pid, wanted, inode, deadline, false) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
        }
        // Who closed one socket and opened the next has as many as before.
        let last = |table: &Self, pid| table.holders.known(pid).and_then(|known| known.last);
        let holds =
            |pid: &u32| last(self, *pid).is_some_and(|last| self.proc.socket(*pid, last) == Some(inode));
        let swapped = unchanged.into_iter().find(holds);
        swapped.is_some_and(|pid| self.ask_owner(pid, wanted, inode, deadline, false))
    }

    /// Tells whether a process has as many descriptors as when they were read.
    fn has_as_many(&self, pid: u32) -> bool {
        let is_unchanged = |glance| self.holders.is_unchanged(pid, &glance);
        self.proc.counts_descriptors && self.proc.glance(pid).is_ok_and(is_unchanged)
    }

    /// Asks a process that was named not long ago whether it holds a socket.
    fn ask_owner(
        &mut self,
        pid: u32,
        wanted: &Wanted<'_>,
        inode: u64,
        deadline: Instant,
        is_likely: bool,
    ) -> bool {
        let Ok(descriptors) = self.proc.descriptors(pid) else {
            self.recent.retain(|other| *other != pid);
            return false;
        };
        let known = self.holders.known(pid);
        let same = known.filter(|known| known.seen.instance == descriptors.glance.instance);
        // A new descriptor gets the lowest free number, so it is mostly near the last one.
        let last = same.and_then(|known| known.last);
        let near = last.into_iter().flat_map(|last| [0, 1, 2, 3].map(|step| last.saturating_add(step)));
        let hit = near.into_iter().find(|number| descriptors.socket(*number) == Some(inode));
        if let Some(number) = hit {
            self.holders.add(pid, number, inode);
        } else if !self.holders.is_unchanged(pid, &descriptors.glance)
            || (is_likely && descriptors.glance.open <= FEW)
        {
            self.counts.processes_read += 1;
            if self.holders.read(pid, &descriptors, wanted, deadline).is_err() {
                self.holders.forget(pid);
            }
        }
        let is_found = !self.holders.of(inode).is_empty();
        if is_found {
            self.look_at(pid);
        }
        is_found
    }

    /// Looks at all processes and reads the descriptors of those that are new or have changed; of the others too, if a
    /// socket is then held by nobody and is there still. Returns whether everything was looked at that had to be.
    fn sweep(&mut self, wanted: &Wanted<'_>, mut deadline: Instant, search: Search<'_>) -> bool {
        self.counts.sweeps += 1;
        self.sweeps += 1;
        let began = (Instant::now(), self.proc.newest());
        let Ok(pids) = self.proc.pids(began.1) else { return false };
        let mut is_found = false;
        let mut later = Vec::new();
        let mut unchanged = Vec::new();
        let mut visit = |table: &mut Self, pid: u32| {
            if table.read(pid, wanted, deadline) && !is_found {
                is_found = true;
                deadline = deadline.min(Instant::now() + search.settle);
            }
            Instant::now() <= deadline && (search.others || !is_found)
        };
        let mut goes_on = true;
        let skips_empty = self.swept_empty.is_some_and(|at| at.elapsed() < RECHECK);
        for pid in pids {
            if !goes_on {
                break;
            }
            if skips_empty && self.holders.known(pid).is_some_and(|known| known.empty) {
                self.holders.see(pid, self.sweeps);
                continue;
            }
            let glance = self.proc.glance(pid);
            let is_known = glance.as_ref().is_ok_and(|glance| self.holders.is_unchanged(pid, glance));
            if is_known && self.trusts_glance(pid) {
                self.holders.see(pid, self.sweeps);
                unchanged.push(pid);
            } else if let Ok(glance) = &glance
                && glance.open == 0
                && self.proc.counts_descriptors
            {
                self.holders.note_empty(pid, *glance);
                self.holders.see(pid, self.sweeps);
            } else if glance.is_ok_and(|glance| wanted.has_user(glance.uid)) {
                goes_on = visit(self, pid);
            } else {
                later.push(pid);
            }
        }
        for pid in later {
            goes_on = goes_on && visit(self, pid);
        }
        if goes_on {
            self.holders.keep_seen_in(self.sweeps);
            self.swept = Some(began.0);
            self.newcomers.looked(began.1);
            self.swept_empty = if skips_empty { self.swept_empty } else { Some(began.0) };
        }
        if self.is_any_missing(wanted) && (search.is_there)() {
            for pid in unchanged {
                let may_hold = self.holders.known(pid).is_some_and(|known| known.may_hold_more());
                if may_hold {
                    goes_on = goes_on && visit(self, pid);
                }
                if !goes_on || !self.is_any_missing(wanted) {
                    break;
                }
            }
            if goes_on {
                self.note_missing(wanted);
            }
        }
        let (users, closed) = self.holders.unreadable();
        self.closed_users = users;
        self.counts.closed_processes = closed as u64;
        let whole = goes_on || (is_found && !search.others);
        self.counts.out_of_time += u64::from(!whole && !is_found);
        whole
    }

    /// Tells whether an unchanged look means unchanged descriptors; a process that may not be read is not tried again.
    fn trusts_glance(&self, pid: u32) -> bool {
        self.proc.counts_descriptors || self.holders.known(pid).is_some_and(|known| known.closed.is_some())
    }

    /// Reads a process's descriptors; returns whether it holds one of the sockets that are asked for.
    fn read(&mut self, pid: u32, wanted: &Wanted<'_>, deadline: Instant) -> bool {
        self.counts.processes_read += 1;
        let descriptors = self.proc.descriptors(pid);
        let read = descriptors.and_then(|all| self.holders.read(pid, &all, wanted, deadline));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let Ok(uid) = self.proc.user_of(pid) else { return false };
                let seen = self.proc.glance(pid).unwrap_or_default();
                self.holders.close(pid, seen, uid);
            }
            Err(_) => self.holders.forget(pid),
        }
        self.holders.see(pid, self.sweeps);
        let holds = self.holders.holds_any(pid, wanted);
        if holds {
            // At once: it may be gone a moment later.
            self.look_at(pid);
        }
        holds
    }

    fn is_any_missing(&self, wanted: &Wanted<'_>) -> bool {
        let is_missing = |inode| self.holders.of(inode).is_empty() && !self.nowhere.contains(&inode);
        wanted.inodes().any(is_missing)
    }

    fn note_missing(&mut self, wanted: &Wanted<'_>) {
        if self.nowhere.len() >= NOWHERE {
            self.nowhere.clear();
        }
        let missing = wanted.inodes().filter(|inode| self.holders.of(*inode).is_empty());
        self.nowhere.extend(missing.take(NOWHERE));
    }

    /// Returns a process whose descriptors were read, as it is in this lookup; none where it is gone. It is read again
    /// when it runs another program or has another user or parent.
    fn look_at(&mut self, pid: u32) -> Option<Arc<Process>> {
        let lookup = self.lookups;
        let known = self.holders.known(pid)?;
        let is_same = |process: &Process, stat: &Stat| {
            self.proc.glance(pid).is_ok_and(|now| now.instance == known.seen.instance)
                && self.proc.stat(pid).is_ok_and(|now| now == *stat)
                && self.proc.user_of(pid).is_ok_and(|now| now == process.credentials.euid)
        };
        if let Some((process, stat)) = &known.about
            && (known.checked == lookup || is_same(process, stat))
        {
            let process = Arc::clone(process);
            self.holders.known_mut(pid)?.checked = lookup;
            return Some(process);
        }
        let instance = known.seen.instance;
        let read = self.proc.process(pid, &mut self.users);
        let Some((process, stat, _)) = read.ok().filter(|(.., glance)| glance.instance == instance) else {
            self.holders.forget(pid);
            return None;
        };
        let process = Arc::new(process);
        let known = self.holders.known_mut(pid)?;
        known.about = Some((Arc::clone(&process), stat));
        known.checked = lookup;
        Some(process)
    }

    /// Says who owns a socket, of those who are known to hold it.
    fn choose(&mut self, socket: &Socket, whole: bool) -> Owner {
        if let [only] = *self.holders.of(socket.inode)
            && let Some(process) = self.looked_at(only)
        {
            return Owner::Process { process, shared: 1 };
        }
        let holders = self.holders.of(socket.inode).to_vec();
        let mut processes: Vec<Arc<Process>> = Vec::with_capacity(holders.len());
        for holder in &holders {
            if processes.iter().all(|process| process.pid != holder.pid) {
                processes.extend(self.look_at(holder.pid));
            }
        }
        let shared = u32::try_from(processes.len()).unwrap_or(u32::MAX);
        if shared == 0 {
            return self.nobody(socket, whole);
        }
        let Some(process) = self.heir(&processes) else {
            self.counts.ambiguous += 1;
            return Owner::Ambiguous;
        };
        if let Some(holder) = holders.iter().find(|holder| holder.pid == process.pid)
            && let Some(known) = self.holders.known_mut(holder.pid)
        {
            known.last = Some(holder.descriptor);
        }
        Owner::Process { process, shared }
    }

    /// Returns the process of a holder at which this lookup has looked already; of many sockets that is nearly always so.
    fn looked_at(&mut self, holder: Holder) -> Option<Arc<Process>> {
        let lookup = self.lookups;
        let known = self.holders.known_mut(holder.pid).filter(|known| known.checked == lookup)?;
        let (process, _) = known.about.as_ref()?;
        known.last = Some(holder.descriptor);
        Some(Arc::clone(process))
    }

    /// Returns the latest of a family: one process from which all others descend, and of those the one that started
    /// last. None where two have no holder among their ancestors: nothing tells them apart.
    fn heir(&mut self, processes: &[Arc<Process>]) -> Option<Arc<Process>> {
        if let [only] = processes {
            return Some(Arc::clone(only));
        }
        let is_holder = |pid: u32| processes.iter().any(|process| process.pid == pid);
        let mut descends = |process: &Process| {
            let mut ancestor = process.ppid;
            for _ in 0..GENERATIONS {
                if ancestor == 0 || is_holder(ancestor) {
                    break;
                }
                let parent = || self.proc.stat(ancestor).map_or(0, |stat| stat.ppid);
                ancestor = *self.parents.entry(ancestor).or_insert_with(parent);
            }
            is_holder(ancestor)
        };
        let (heirs, roots): (Vec<_>, Vec<_>) = processes.iter().partition(|process| descends(process));
        let [root] = roots.as_slice() else { return None };
        let latest = heirs.into_iter().max_by_key(|process| (process.started, process.pid));
        Some(Arc::clone(latest.unwrap_or(root)))
    }

    fn remember(&mut self, pid: u32) {
        if self.recent.front() != Some(&pid) {
            self.recent.retain(|other| *other != pid);
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(pid);
        }
    }

    /// Says what is known of a socket that no process was found to hold.
    fn nobody(&mut self, socket: &Socket, whole: bool) -> Owner {
        let hidden = self.closed_users.contains(&socket.uid) || self.proc.hides_others;
        if socket.inode != 0 && hidden {
            return Owner::NotPermitted;
        }
        let container_id = socket.cgroup.and_then(|id| self.cgroups.container(id));
        if container_id.is_some() || !whole {
            return Owner::UidOnly { uid: socket.uid, container_id };
        }
        Owner::NoProcess
    }
}

/// How a sweep goes on.
struct Search<'a> {
    /// How long after a socket was found.
    settle: Duration,
    /// Whether it does once one was found: others may hold it.
    others: bool,
    /// Whether the socket is still there.
    is_there: &'a mut dyn FnMut() -> bool,
}

/// How long the search for one owner may take.
const BUDGET: Duration = Duration::from_millis(20);
/// How long the search for the owners of many may take.
const LONG_BUDGET: Duration = Duration::from_secs(2);
/// How long others who hold the same socket are searched for, once one was found, where every search has to read all
/// descriptors anew.
const SETTLE: Duration = Duration::from_millis(2);
/// How long a sweep stands for the present.
const RECHECK: Duration = Duration::from_secs(1);
/// How many of the latest owners are asked first.
const RECENT: usize = 16;
/// Up to so many descriptors of a likely owner are read although there are as many as before.
const FEW: u64 = 32;
/// How many sockets without a holder are remembered at most.
const NOWHERE: usize = 65_536;
/// How far up ancestors are followed.
const GENERATIONS: usize = 64;

#[cfg(test)]
mod tests;
