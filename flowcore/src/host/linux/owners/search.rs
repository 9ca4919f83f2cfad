//! The search for who holds a socket: among those who are known, the likely ones, those who came since, and all.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::{Process, Socket};

use super::super::holders::Wanted;
use super::super::processes::Stat;
use super::{GENERATIONS, Processes, RECHECK};

impl Processes {
    /// Looks whether those who held a socket do so still, and forgets those who do not.
    pub(super) fn still_held(&mut self, inode: u64) -> bool {
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
    pub(super) fn ask_newcomers(
        &mut self,
        numbers: &[u32],
        wanted: &Wanted<'_>,
        inode: u64,
        deadline: Instant,
    ) -> bool {
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
    pub(super) fn ask_likely(&mut self, socket: &Socket, wanted: &Wanted<'_>, deadline: Instant) -> bool {
        self.hints.of(socket).into_iter().any(|pid| self.ask_owner(pid, wanted, socket.inode, deadline, true))
    }

    /// Asks the processes that were named last whether they hold a socket.
    pub(super) fn ask_recent(&mut self, wanted: &Wanted<'_>, inode: u64, deadline: Instant) -> bool {
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

    /// Asks a process that was named not long ago whether it holds a socket; a likely one that has few descriptors is read
    /// although it has as many as before.
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
    pub(super) fn sweep(&mut self, wanted: &Wanted<'_>, mut deadline: Instant, search: Search<'_>) -> bool {
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
    pub(super) fn look_at(&mut self, pid: u32) -> Option<Arc<Process>> {
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
}

/// How a sweep goes on.
pub(super) struct Search<'a> {
    /// How long after a socket was found.
    pub settle: Duration,
    /// Whether it does once one was found: others may hold it.
    pub others: bool,
    /// Whether the socket is still there.
    pub is_there: &'a mut dyn FnMut() -> bool,
}

/// Up to so many descriptors of a likely owner are read although there are as many as before.
const FEW: u64 = 32;
/// How many sockets without a holder are remembered at most.
const NOWHERE: usize = 65_536;
