//! Which processes hold which sockets, as far as their descriptors were read.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::host::{Process, Socket};

use super::descriptors::{Descriptors, Glance};
use super::numbers::{ByNumber, Numbers};
use super::processes::Stat;

/// The descriptors of processes, and the sockets behind them.
#[derive(Debug, Default)]
pub(super) struct Holders {
    processes: HashMap<u32, Known>,
    sockets: ByNumber<Held>,
    /// How many descriptors are kept.
    kept: usize,
}

/// A process whose descriptors were read.
#[derive(Debug)]
pub(super) struct Known {
    /// What it looked like then.
    pub seen: Glance,
    /// Its effective user, where its descriptors may not be read.
    pub closed: Option<u32>,
    /// Whether all its sockets are kept.
    whole: bool,
    /// Whether it has no descriptors, as the kernel counts them.
    pub empty: bool,
    /// Its sockets: descriptor and inode, by descriptor.
    sockets: Vec<(u32, u64)>,
    /// The process, once it was asked for, and the state in which it was read.
    pub about: Option<(Arc<Process>, Stat)>,
    /// The sweep in which it was last seen.
    sweep: u64,
    /// The lookup in which `about` was last compared with the process.
    pub checked: u64,
    /// The descriptor of the socket that was last asked for.
    pub last: Option<u32>,
}

/// A process that holds a socket, and by which descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Holder {
    pub pid: u32,
    pub descriptor: u32,
}

/// Those who hold a socket: nearly always one, for which nothing is allocated.
#[derive(Debug)]
enum Held {
    One([Holder; 1]),
    Several(Vec<Holder>),
}

/// The sockets that are asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    sockets: &'a [Socket],
    /// Their inodes and users, once one is looked for among many.
    inodes: OnceCell<Numbers>,
    users: OnceCell<Numbers>,
}

impl Holders {
    pub(super) fn of(&self, inode: u64) -> &[Holder] {
        self.sockets.get(&inode).map_or(&[], Held::all)
    }

    pub(super) fn known(&self, pid: u32) -> Option<&Known> {
        self.processes.get(&pid)
    }

    pub(super) fn known_mut(&mut self, pid: u32) -> Option<&mut Known> {
        self.processes.get_mut(&pid)
    }

    /// Tells whether a process is the one whose descriptors were read and seems to have the same ones still.
    pub(super) fn is_unchanged(&self, pid: u32, glance: &Glance) -> bool {
        self.processes.get(&pid).is_some_and(|known| known.seen == *glance)
    }

    /// Reads all descriptors of a process; returns whether there was time for all.
    pub(super) fn read(
        &mut self,
        pid: u32,
        descriptors: &Descriptors,
        wanted: &Wanted<'_>,
        deadline: Instant,
    ) -> io::Result<bool> {
        let mut sockets = Vec::new();
        let in_time = descriptors.sockets(
            || Instant::now() <= deadline,
            |number, inode| {
                sockets.push((number, inode));
            },
        )?;
        let mut seen = descriptors.closed();
        // What was not read whole looks changed the next time.
        seen.open = if in_time { seen.open } else { u64::MAX };
        self.replace(pid, seen, sockets, wanted);
        Ok(in_time)
    }

    /// Takes note of one more descriptor of a process that has been read.
    pub(super) fn add(&mut self, pid: u32, descriptor: u32, inode: u64) {
        let Some(known) = self.processes.get_mut(&pid) else { return };
        match known.sockets.binary_search_by_key(&descriptor, |(number, _)| *number) {
            Ok(at) => {
                let Some((_, place)) = known.sockets.get_mut(at) else { return };
                let before = std::mem::replace(place, inode);
                unhold(&mut self.sockets, before, Holder { pid, descriptor });
            }
            Err(at) => {
                known.sockets.insert(at, (descriptor, inode));
                self.kept += 1;
            }
        }
        hold(&mut self.sockets, inode, Holder { pid, descriptor });
    }

    /// Takes note of a process of `user` whose descriptors may not be read.
    pub(super) fn close(&mut self, pid: u32, seen: Glance, user: u32) {
        self.replace(pid, seen, Vec::new(), &Wanted::default());
        if let Some(known) = self.processes.get_mut(&pid) {
            known.closed = Some(user);
        }
    }

    /// Takes note of a process without descriptors.
    pub(super) fn note_empty(&mut self, pid: u32, seen: Glance) {
        self.replace(pid, seen, Vec::new(), &Wanted::default());
        if let Some(known) = self.processes.get_mut(&pid) {
            known.empty = true;
        }
    }

    /// Takes note that a process was seen in a sweep.
    pub(super) fn see(&mut self, pid: u32, sweep: u64) {
        if let Some(known) = self.processes.get_mut(&pid) {
            known.sweep = sweep;
        }
    }

    /// Forgets a process.
    pub(super) fn forget(&mut self, pid: u32) {
        let Some(known) = self.processes.remove(&pid) else { return };
        self.kept = self.kept.saturating_sub(known.sockets.len());
        for (descriptor, inode) in known.sockets {
            unhold(&mut self.sockets, inode, Holder { pid, descriptor });
        }
    }

    /// Forgets one descriptor of a process, which stands for another file now.
    pub(super) fn drop(&mut self, holder: Holder, inode: u64) {
        let Some(known) = self.processes.get_mut(&holder.pid) else { return };
        if let Some(at) = known.sockets.iter().position(|socket| *socket == (holder.descriptor, inode)) {
            known.sockets.remove(at);
            self.kept = self.kept.saturating_sub(1);
            unhold(&mut self.sockets, inode, holder);
        }
        known.seen.open = u64::MAX;
    }

    /// Forgets the processes that were not seen in a sweep: they are gone.
    pub(super) fn keep_seen_in(&mut self, sweep: u64) {
        let gone = |(pid, known): (&u32, &Known)| (known.sweep != sweep).then_some(*pid);
        let gone: Vec<u32> = self.processes.iter().filter_map(gone).collect();
        gone.into_iter().for_each(|pid| self.forget(pid));
    }

    /// Tells whether a process holds one of the sockets that are asked for.
    pub(super) fn holds_any(&self, pid: u32, wanted: &Wanted<'_>) -> bool {
        let known = self.processes.get(&pid);
        known.is_some_and(|known| known.sockets.iter().any(|(_, inode)| wanted.has(*inode)))
    }

    /// Returns the users of the processes that may not be looked into, and how many such processes there are.
    pub(super) fn unreadable(&self) -> (HashSet<u32>, usize) {
        let users: Vec<u32> = self.processes.values().filter_map(|known| known.closed).collect();
        (users.iter().copied().collect(), users.len())
    }

    /// Puts a process's descriptors in the place of those it had. Where too many are kept, only those are that are
    /// asked for.
    fn replace(&mut self, pid: u32, seen: Glance, mut sockets: Vec<(u32, u64)>, wanted: &Wanted<'_>) {
        let same = self.processes.get_mut(&pid).filter(|known| known.seen.instance == seen.instance);
        let (about, last) = same.map(|known| (known.about.take(), known.last)).unwrap_or_default();
        let sweep = self.processes.get(&pid).map_or(0, |known| known.sweep);
        let old = self.processes.remove(&pid).map(|known| known.sockets).unwrap_or_default();
        self.kept = self.kept.saturating_sub(old.len());
        let whole = self.kept + sockets.len() <= LIMIT && self.processes.len() < PROCESSES;
        if !whole {
            sockets.retain(|(_, inode)| wanted.has(*inode));
        }
        if old.is_empty() {
            self.sockets.reserve(sockets.len());
        }
        // Most descriptors are the same as before: both lists go by descriptor.
        let mut before = old.iter().peekable();
        let mut after = sockets.iter().peekable();
        loop {
            let next = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => old.cmp(new),
            };
            if next.is_le()
                && let Some((descriptor, inode)) = before.next()
                && next.is_lt()
            {
                unhold(&mut self.sockets, *inode, Holder { pid, descriptor: *descriptor });
            }
            if next.is_ge()
                && let Some((descriptor, inode)) = after.next()
                && next.is_gt()
            {
                hold(&mut self.sockets, *inode, Holder { pid, descriptor: *descriptor });
            }
        }
        self.kept += sockets.len();
        if self.processes.len() < PROCESSES || !sockets.is_empty() {
            let known =
                Known { seen, closed: None, whole, empty: false, sockets, about, sweep, checked: 0, last };
            self.processes.insert(pid, known);
        }
    }
}

impl<'a> Wanted<'a> {
    pub(super) fn new(sockets: &'a [Socket]) -> Self {
        Wanted { sockets, inodes: OnceCell::new(), users: OnceCell::new() }
    }

    /// Returns the inodes of those that a process can hold.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.sockets.iter().map(|socket| socket.inode).filter(|inode| *inode != 0)
    }

    /// Tells whether a socket is one of them.
    pub(super) fn has(&self, inode: u64) -> bool {
        match self.sockets {
            [one] => one.inode == inode,
            _ => self.inodes.get_or_init(|| self.inodes().collect()).contains(&inode),
        }
    }

    /// Tells whether one of them is a user's.
    pub(super) fn has_user(&self, uid: u32) -> bool {
        let users = || self.sockets.iter().map(|socket| socket.uid.into()).collect();
        match self.sockets {
            [one] => one.uid == uid,
            _ => self.users.get_or_init(users).contains(&uid.into()),
        }
    }
}

impl Held {
    fn all(&self) -> &[Holder] {
        match self {
            Held::One(one) => one,
            Held::Several(several) => several,
        }
    }
}

impl Known {
    /// Tells whether a socket that it is not known to hold may be one of its nevertheless: descriptors that were closed
    /// and opened leave their number as it was.
    pub(super) fn may_hold_more(&self) -> bool {
        self.closed.is_none() && (self.seen.open > 0 || !self.whole)
    }
}

fn hold(sockets: &mut ByNumber<Held>, inode: u64, holder: Holder) {
    let held = sockets.entry(inode).or_insert(Held::One([holder]));
    if held.all().contains(&holder) {
        return;
    }
    match held {
        Held::One([other]) => *held = Held::Several(vec![*other, holder]),
        Held::Several(holders) => holders.push(holder),
    }
}

fn unhold(sockets: &mut ByNumber<Held>, inode: u64, holder: Holder) {
    let is_last = match sockets.get_mut(&inode) {
        None => false,
        Some(Held::One([only])) => *only == holder,
        Some(Held::Several(holders)) => {
            holders.retain(|other| *other != holder);
            holders.is_empty()
        }
    };
    if is_last {
        sockets.remove(&inode);
    }
}

/// How many descriptors are kept at most.
const LIMIT: usize = 262_144;
/// How many processes are kept at most, but for those with sockets that are asked for.
const PROCESSES: usize = 32_768;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::host::{SocketKind, SocketState};
    use crate::key::Endpoint;

    fn held_socket(inode: u64) -> Socket {
        let local = Endpoint { addr: Ipv4Addr::LOCALHOST.into(), port: Some(1) };
        let (kind, state) = (SocketKind::Udp, SocketState::Unconnected);
        let (remote, uid, cookie, netns, interface, cgroup) = (None, 0, 0, 0, 0, None);
        Socket { kind, local, remote, state, uid, inode, cookie, netns, interface, cgroup }
    }

    fn list(sockets: &ByNumber<Held>) -> Vec<(u64, u32, u32)> {
        let rows = sockets.iter().flat_map(|(inode, held)| {
            held.all().iter().map(|holder| (*inode, holder.pid, holder.descriptor))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable();
        rows
    }

    proptest! {
        #[test]
        fn both_directions_say_the_same(steps in prop::collection::vec((0..5u8, 1..4u32, 0..6u32, 1..8u64), 0..60)) {
            let mut holders = Holders::default();
            for (step, pid, descriptor, inode) in steps {
                match step {
                    0 | 1 => {
                        let sockets = (0..descriptor).map(|number| (number, (inode * 7 + u64::from(number)) % 8));
                        holders.replace(pid, Glance::default(), sockets.collect(), &Wanted::default());
                    }
                    2 => holders.add(pid, descriptor, inode),
                    3 => holders.drop(Holder { pid, descriptor }, inode),
                    _ => holders.forget(pid),
                }
            }
            let known = holders.processes.iter().flat_map(|(pid, known)| {
                known.sockets.iter().map(|(descriptor, inode)| (*inode, *pid, *descriptor))
            });
            let mut known: Vec<_> = known.collect();
            known.sort_unstable();
            prop_assert_eq!(known.len(), holders.kept);
            prop_assert_eq!(known, list(&holders.sockets));
        }
    }

    #[test]
    fn beyond_the_limit_only_what_is_asked_for_is_kept() {
        let mut holders = Holders::default();
        let many = (0..LIMIT as u32).map(|number| (number, u64::from(number) + 1));
        holders.replace(1, Glance::default(), many.collect(), &Wanted::default());
        assert_eq!(holders.kept, LIMIT);
        let wanted = [held_socket(1_000_002)];
        let wanted = Wanted::new(&wanted);
        holders.replace(2, Glance::default(), vec![(1, 1_000_001), (2, 1_000_002)], &wanted);
        assert_eq!(holders.kept, LIMIT + 1);
        assert_eq!(holders.of(1_000_001), []);
        assert_eq!(holders.of(1_000_002), [Holder { pid: 2, descriptor: 2 }]);
        assert!(holders.known(2).unwrap().may_hold_more());
    }
}
