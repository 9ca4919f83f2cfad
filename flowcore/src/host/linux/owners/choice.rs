//! The owner among those who hold a socket.

use std::sync::Arc;

use super::super::holders::Holder;
use super::{GENERATIONS, Processes};
use crate::host::{Owner, Process, Socket};

impl Processes {
    /// Says who owns a socket, of those who are known to hold it.
    pub(super) fn choose(&mut self, socket: &Socket, whole: bool) -> Owner {
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

    /// Says what is known of a socket that no process was found to hold.
    pub(super) fn nobody(&mut self, socket: &Socket, whole: bool) -> Owner {
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
