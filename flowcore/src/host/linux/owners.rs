//! From a socket's inode to the process that holds it.
//!
//! What was read of a process's descriptors is kept, and one look from outside (`/proc/PID/fd`: which process it is, and
//! how many descriptors it has) tells whether to read them again. A sweep takes that look at every process, the newest
//! first, and reads those that are new or have changed; the others only where a socket was found nowhere.

mod choice;
mod search;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use crate::host::{Owner, Process, ProcessTable, Socket};

use super::container::Cgroups;
use super::hints::Hints;
use super::holders::{Holders, Wanted};
use super::newcomers::Newcomers;
use super::numbers::Numbers;
use super::processes::{Places, Proc};
use super::users::Users;
use search::Search;

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

    fn remember(&mut self, pid: u32) {
        if self.recent.front() != Some(&pid) {
            self.recent.retain(|other| *other != pid);
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(pid);
        }
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
/// How far up ancestors are followed.
const GENERATIONS: usize = 64;
