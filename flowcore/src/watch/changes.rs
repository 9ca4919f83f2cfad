//! What changed between two snapshots: sockets by their identity, processes by theirs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::host::{Process, Socket, SocketKind};
use crate::key::Endpoint;
use crate::record::{Change, ProcessChange, ProcessObject, ProcessRecord, SocketRecord, Who};
use crate::time::Timestamp;

/// Turns a row of snapshots into the changes between them.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    last: Option<Vec<SocketRecord>>,
}

impl Changes {
    /// Takes the next snapshot, of the time `at`, and returns what changed since the one before (see [`between`]).
    ///
    /// The first snapshot comes back whole, as it is: its sockets were there.
    pub fn take(&mut self, snapshot: Vec<SocketRecord>, at: Timestamp) -> Vec<SocketRecord> {
        let changes = match &self.last {
            Some(last) => between(last, &snapshot, at),
            None => snapshot.clone(),
        };
        self.last = Some(snapshot);
        changes
    }
}

/// Returns the records of the sockets that were closed, in the order of the old snapshot, and of those that were
/// opened or changed, in the order of the new one.
///
/// A socket is the same one if its cookie is; where there is no cookie, if kind, ends, inode and namespace are. It has
/// changed if its state, an end, its inode, its user or its process is another one. `at` is the time of the new
/// snapshot, which the records of closed sockets get.
pub fn between(old: &[SocketRecord], new: &[SocketRecord], at: Timestamp) -> Vec<SocketRecord> {
    let (old, new) = without_unchanged(old, new);
    let (old_identities, new_identities) = (identities(&old), identities(&new));
    // The place in the old snapshot; none once the socket has been met in the new one.
    let places = (0..old.len()).map(Some);
    let mut known: HashMap<Identity, Option<usize>> = old_identities.iter().copied().zip(places).collect();
    let mut opened_or_changed = Vec::new();
    for (identity, record) in new_identities.into_iter().zip(&new) {
        let (change, previous_state) = match known.insert(identity, None) {
            // A dump may show a socket twice while it moves.
            Some(None) => continue,
            Some(Some(place)) => match old.get(place) {
                Some(was) if !is_same(was, record) => (Change::Changed, Some(was.socket.state)),
                _ => continue,
            },
            None => (Change::Opened, None),
        };
        opened_or_changed.push(SocketRecord { change, previous_state, ..SocketRecord::clone(record) });
    }
    let is_gone = |&(place, identity): &(usize, &Identity)| known.get(identity) == Some(&Some(place));
    let gone = old_identities.iter().enumerate().filter(is_gone).filter_map(|(place, _)| old.get(place));
    let closed = gone.map(|&record| SocketRecord {
        timestamp: at,
        change: Change::Closed,
        previous_state: None,
        ..record.clone()
    });
    closed.chain(opened_or_changed).collect()
}

/// Returns what is left of two snapshots without the sockets that are the same in both, as far as that is seen from
/// their places: the kernel lists what stays in the same order.
fn without_unchanged<'a>(
    mut old: &'a [SocketRecord],
    new: &'a [SocketRecord],
) -> (Vec<&'a SocketRecord>, Vec<&'a SocketRecord>) {
    let (mut old_rest, mut new_rest) = (Vec::new(), Vec::new());
    let mut unchanged = Vec::with_capacity(new.len());
    for record in new {
        let cookie = record.socket.cookie;
        let is_it = |was: &SocketRecord| cookie != 0 && was.socket.cookie == cookie;
        let ahead = old.iter().take(AHEAD).position(is_it);
        let Some((gone, [was, rest @ ..])) = ahead.and_then(|gone| old.split_at_checked(gone)) else {
            new_rest.push(record);
            continue;
        };
        old = rest;
        old_rest.extend(gone);
        if is_same(was, record) {
            unchanged.push(cookie);
        } else {
            old_rest.push(was);
            new_rest.push(record);
        }
    }
    old_rest.extend(old);
    // One that stands twice in a snapshot is the same there as well.
    let left = old_rest.iter().chain(&new_rest).map(|record| record.socket.cookie);
    let left: HashSet<u64> = left.collect();
    if !left.is_empty() {
        unchanged.retain(|cookie| left.contains(cookie));
        let is_left = |record: &&SocketRecord| !unchanged.contains(&record.socket.cookie);
        old_rest.retain(is_left);
        new_rest.retain(is_left);
    }
    (old_rest, new_rest)
}

/// Returns the records of the sockets that are there at the end of a file of snapshots and changes, in its order.
///
/// Records of sockets that are present make a snapshot with all others of the same time, and what came before it no
/// longer counts; changes are applied as they come.
pub fn last_snapshot(records: &[SocketRecord]) -> Vec<&SocketRecord> {
    // Several sockets without a cookie may look the same.
    let mut there: HashMap<Identity, Vec<usize>> = HashMap::new();
    let mut time = None;
    for (nth, record) in records.iter().enumerate() {
        if record.change == Change::Present && time != Some(record.timestamp) {
            there.clear();
            time = Some(record.timestamp);
        }
        let same = there.entry(Identity::of(&record.socket, 0)).or_default();
        let before = |&at: &usize| records.get(at).map(|was| was.socket.state) == record.previous_state;
        match record.change {
            Change::Present | Change::Opened => same.push(nth),
            Change::Closed => _ = same.pop(),
            Change::Changed => match same.iter().position(before).and_then(|at| same.get_mut(at)) {
                Some(place) => *place = nth,
                None => same.push(nth),
            },
        }
    }
    let mut places: Vec<usize> = there.into_values().flatten().collect();
    places.sort_unstable();
    places.into_iter().filter_map(|nth| records.get(nth)).collect()
}

/// Turns a row of snapshots into the processes that come and go as owners of sockets.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    owners: Option<BTreeMap<ProcessId, Arc<Process>>>,
}

impl Processes {
    /// Takes the next snapshot, of the time `at`; returns the processes that own no socket any more and those that
    /// did not before, each in the order of their numbers. The first snapshot returns all of its owners as present.
    pub fn take(&mut self, snapshot: &[SocketRecord], at: Timestamp) -> Vec<ProcessRecord> {
        let processes = snapshot.iter().filter_map(owner_process);
        let now: BTreeMap<ProcessId, Arc<Process>> =
            processes.map(|process| (ProcessId::of(process), Arc::clone(process))).collect();
        let arrival = if self.owners.is_some() { ProcessChange::Opened } else { ProcessChange::Present };
        let before = self.owners.take().unwrap_or_default();
        let record = |change| {
            move |(_, process): (_, &Arc<Process>)| ProcessRecord {
                timestamp: at,
                change,
                process: Arc::clone(process),
            }
        };
        let gone = before.iter().filter(|(id, _)| !now.contains_key(*id)).map(record(ProcessChange::Gone));
        let come = now.iter().filter(|(id, _)| !before.contains_key(*id)).map(record(arrival));
        let changes = gone.chain(come).collect();
        self.owners = Some(now);
        changes
    }
}

/// What the upid of a process is made of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct ProcessId {
    pid: u32,
    started: Timestamp,
    name: String,
}

impl ProcessId {
    fn of(process: &Process) -> Self {
        ProcessId { pid: process.pid, started: process.started, name: process.name.clone() }
    }
}

/// What makes a socket the same one in two snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Identity {
    Cookie(u64),
    /// What is known where there is no cookie; sockets that cannot be told apart are numbered as they come.
    Seen {
        kind: SocketKind,
        local: Endpoint,
        remote: Option<Endpoint>,
        inode: u64,
        netns: u64,
        nth: u32,
    },
}

impl Identity {
    fn of(socket: &Socket, nth: u32) -> Self {
        let Socket { kind, local, remote, inode, netns, .. } = *socket;
        match socket.cookie {
            0 => Identity::Seen { kind, local, remote, inode, netns, nth },
            cookie => Identity::Cookie(cookie),
        }
    }
}

/// Returns the identity of every record of a snapshot; sockets without a cookie are numbered.
fn identities(snapshot: &[&SocketRecord]) -> Vec<Identity> {
    let mut alike: HashMap<Identity, u32> = HashMap::new();
    let each = snapshot.iter().map(|record| match Identity::of(&record.socket, 0) {
        cookie @ Identity::Cookie(_) => cookie,
        first => {
            let count = alike.entry(first).or_default();
            *count += 1;
            Identity::of(&record.socket, *count)
        }
    });
    each.collect()
}

fn is_same(was: &SocketRecord, is: &SocketRecord) -> bool {
    let essence = |record: &SocketRecord| {
        let Socket { kind, local, remote, state, uid, inode, .. } = record.socket;
        (kind, local, remote, state, uid, inode)
    };
    let is_same_process = match (owner_process(was), owner_process(is)) {
        (Some(was), Some(is)) => Arc::ptr_eq(was, is),
        _ => false,
    };
    essence(was) == essence(is) && (is_same_process || owner(was) == owner(is))
}

fn owner_process(record: &SocketRecord) -> Option<&Arc<Process>> {
    record.process.as_ref()?.process()
}

/// Returns what tells one owner from another: not its command line, nor how it was found.
fn owner(record: &SocketRecord) -> Option<(Option<u32>, Timestamp, &str, &str)> {
    record.process.as_ref().map(|ProcessObject { who, .. }| match who {
        Who::Process(process) => {
            (Some(process.pid), process.started, &*process.name, process.exe.as_deref().unwrap_or_default())
        }
        Who::User { container_id, .. } => {
            (None, Timestamp::EPOCH, container_id.as_deref().unwrap_or_default(), "")
        }
    })
}

/// How many sockets that are gone may stand before one that has stayed.
const AHEAD: usize = 32;

#[cfg(test)]
mod tests;
