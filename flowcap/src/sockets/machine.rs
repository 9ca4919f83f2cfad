//! Snapshots of this machine's sockets, with their owners.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flowcore::Error;
use flowcore::host::{
    MachineSockets, NetNamespace, Owner, ProcessTable, Processes, QueuePair, Socket, SocketKind, SocketState,
    SocketTable, network_stats, queue_pairs, routes,
};
use flowcore::key::Endpoint;
use flowcore::meter::{Stop, wall_clock};
use flowcore::record::{Change, NetworkStatsRecord, ProcessObjects, Record, RouteRecord, SocketRecord};
use flowcore::time::Timestamp;
use flowcore::watch::{self, Changes};

use super::Watch;
use super::args::{Netns, SocketsArgs, With};
use crate::progress::{counted, grouped};
use crate::run::{program, say, unreadable};

impl Watch {
    /// Shows this machine's sockets, once or until it is to stop; returns the number of alerts. `enter` is called when all
    /// that it takes is open.
    pub(super) fn machine(
        mut self,
        args: &SocketsArgs,
        stop: &Stop,
        enter: impl FnOnce() -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let interval = args.interval.or(args.changes.then_some(INTERVAL));
        let started = Instant::now();
        let end = args.duration.and_then(|limit| limit.0).map(|duration| started + duration);
        let mut machine = Machine::open(args.netns).map_err(unreadable("sockets"))?;
        enter()?;
        let (mut changes, mut processes) = (Changes::default(), watch::Processes::default());
        let mut is_first = true;
        loop {
            let mut snapshot = machine.snapshot().map_err(unreadable("sockets"))?;
            if std::mem::take(&mut is_first) {
                self.note_what_is_missing(&snapshot, machine.closed_namespaces);
            }
            let at = snapshot.at;
            self.check(&snapshot.sockets, at)?;
            snapshot.sockets.retain(|record| self.filter.passes(&record.socket));
            let shown = snapshot.sockets;
            if args.with.contains(&With::Process) {
                for record in processes.take(&shown, at) {
                    self.outputs.write(Record::Process(&record))?;
                }
            }
            let shown = if args.changes { changes.take(shown, at) } else { shown };
            for record in &shown {
                self.outputs.write(Record::Socket(record))?;
            }
            self.write_tables(&args.with, at)?;
            self.outputs.flush()?;
            let Some(interval) = interval else { break };
            // One that took too long, or a machine that slept, is not made up for.
            let rounds = started.elapsed().as_nanos() / interval.as_nanos().max(1) + 1;
            let next = started + interval.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
            if !wait_until(next, end, stop) {
                break;
            }
        }
        self.finish()
    }

    /// Writes the machine's counters and routes.
    fn write_tables(&mut self, with: &[With], timestamp: Timestamp) -> Result<(), Error> {
        if with.contains(&With::Stats) {
            let all = network_stats(Path::new("/proc")).map_err(unreadable("network counters"))?;
            for stats in all {
                self.outputs.write(Record::NetworkStats(&NetworkStatsRecord { timestamp, stats }))?;
            }
        }
        if with.contains(&With::Routes) {
            for route in routes().map_err(unreadable("routes"))? {
                self.outputs.write(Record::Route(&RouteRecord { timestamp, route }))?;
            }
        }
        Ok(())
    }

    /// Says, once, how much cannot be seen, and why.
    fn note_what_is_missing(&self, snapshot: &Snapshot, closed_namespaces: u64) {
        if self.quiet {
            return;
        }
        if snapshot.not_permitted > 0 {
            let (some, all) = (snapshot.not_permitted as u64, snapshot.sockets.len() as u64);
            say(&format!(
                "flowcap: no process for {} of {}: those of other users are shown to root, or with CAP_SYS_PTRACE \
                 and CAP_DAC_READ_SEARCH: sudo setcap cap_sys_ptrace,cap_dac_read_search=eip {}",
                grouped(some),
                counted(all, "socket"),
                program()
            ));
        }
        if closed_namespaces > 0 {
            say(&format!(
                "flowcap: not looked into: {}; that takes root, or CAP_SYS_ADMIN and CAP_SYS_PTRACE",
                counted(closed_namespaces, "network namespace")
            ));
        }
    }
}

/// The sockets of one network namespace or of all, and the processes that own them.
struct Machine {
    sockets: Vec<MachineSockets>,
    processes: Processes,
    /// Namespaces that may not be looked into.
    closed_namespaces: u64,
}

/// The sockets at one moment.
struct Snapshot {
    /// When it was taken.
    at: Timestamp,
    /// All sockets.
    sockets: Vec<SocketRecord>,
    /// Of these, those whose processes may not be looked into.
    not_permitted: usize,
}

impl Machine {
    /// Opens what is asked for.
    fn open(netns: Netns) -> io::Result<Self> {
        let own = MachineSockets::open()?;
        let mut machine = Machine { sockets: vec![own], processes: Processes::open()?, closed_namespaces: 0 };
        if netns == Netns::All {
            let (namespaces, unseen) = NetNamespace::all()?;
            machine.closed_namespaces = unseen;
            let current = NetNamespace::current()?.inode();
            for namespace in namespaces.iter().filter(|one| one.inode() != current) {
                match namespace.enter(MachineSockets::open) {
                    Ok(sockets) => machine.sockets.push(sockets),
                    Err(_) => machine.closed_namespaces += 1,
                }
            }
        }
        Ok(machine)
    }

    /// Takes a snapshot.
    fn snapshot(&mut self) -> io::Result<Snapshot> {
        // The sockets first and the processes after them: what is opened in between has no owner yet.
        let at = wall_clock();
        let mut sockets: Vec<Socket> = Vec::new();
        for table in &mut self.sockets {
            table.snapshot(&mut sockets)?;
        }
        let mut owners = self.processes.owners(&sockets);
        for pair in queue_pairs()? {
            let process = pair.pid.and_then(|pid| self.processes.process(pid)).map(Arc::new);
            sockets.push(queue_pair(&pair, process.as_ref().map_or(0, |process| process.credentials.uid)));
            owners.push(process.map_or(Owner::NoProcess, |process| Owner::Process { process, shared: 1 }));
        }
        let not_permitted = owners.iter().filter(|owner| **owner == Owner::NotPermitted).count();
        let mut users: Vec<(u32, Option<Arc<str>>)> = Vec::new();
        let mut objects = ProcessObjects::default();
        let records = sockets.into_iter().zip(owners).map(|(socket, owner)| {
            let known = users.iter().find(|(uid, _)| *uid == socket.uid).map(|(_, name)| name.clone());
            let user = known.unwrap_or_else(|| {
                let name: Option<Arc<str>> = self.processes.user(socket.uid).map(Arc::from);
                users.push((socket.uid, name.clone()));
                name
            });
            let (change, process) = (Change::Present, objects.of(&owner));
            SocketRecord { timestamp: at, change, socket, previous_state: None, user, process }
        });
        Ok(Snapshot { at, sockets: records.collect(), not_permitted })
    }
}

/// Makes a socket of an RDMA queue pair: connected where it has a peer.
fn queue_pair(pair: &QueuePair, uid: u32) -> Socket {
    let nowhere = Endpoint { addr: Ipv4Addr::UNSPECIFIED.into(), port: None };
    let is_connected = pair.remote.is_some() || pair.remote_number.is_some();
    Socket {
        kind: SocketKind::Rdma,
        local: pair.local.unwrap_or(nowhere),
        remote: pair.remote,
        state: if is_connected { SocketState::Established } else { SocketState::Unconnected },
        uid,
        inode: 0,
        cookie: 0,
        netns: 0,
        interface: 0,
        cgroup: None,
    }
}

/// Waits for a point in time; returns whether there is to be another snapshot.
fn wait_until(next: Instant, end: Option<Instant>, stop: &Stop) -> bool {
    loop {
        let now = Instant::now();
        if stop.is_requested() || end.is_some_and(|end| now >= end) {
            return false;
        }
        if now >= next {
            return true;
        }
        let until = end.map_or(next, |end| end.min(next));
        std::thread::sleep(until.saturating_duration_since(now).min(LOOK_FOR_STOP));
    }
}

/// Between two snapshots, where only --changes is given.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long Ctrl-C may have to wait.
const LOOK_FOR_STOP: Duration = Duration::from_millis(100);
