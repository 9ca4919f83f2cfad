//! Sockets, processes, events and alerts for people.

mod network;

use std::cmp::Ordering;

use super::grid::Grid;
use super::host::HostRecords;
use super::output::Output;
use super::{Sink, by_output};
use crate::error::Error;
use crate::field::Printable;
use crate::host::SocketKind;
use crate::key::Endpoint;
use crate::record::{Change, NetworkEvent, ProcessRecord, Record, SocketRecord, Who};
use crate::time::Timestamp;
use network::Network;

/// Shows snapshots one after the other: listeners first, then connections, processes, counters and routes, and warnings
/// at the end.
///
/// Events stand one below the other under one header.
pub(super) struct People {
    output: Output,
    records: HostRecords,
    sockets: Vec<SocketRecord>,
    processes: Vec<ProcessRecord>,
    network: Network,
    warnings: Vec<String>,
    events: Grid,
    /// How many records wait to be shown.
    waiting: u64,
    /// Something was written.
    begun: bool,
}

impl People {
    /// Makes a table of sockets, processes or events.
    pub(super) fn new(output: Output, records: HostRecords) -> Self {
        let events = Grid::new()
            .text("TIME (UTC)", 23)
            .text("EVENT", 9)
            .text("LOCAL", 21)
            .text("REMOTE", 21)
            .text("PROCESS", 15)
            .number("PID", 7)
            .text("USER", 8);
        let (sockets, processes, warnings) = (Vec::new(), Vec::new(), Vec::new());
        let network = Network::new();
        People { output, records, sockets, processes, network, warnings, events, waiting: 0, begun: false }
    }

    /// Returns the time of what waits to be shown.
    fn time_waiting(&self) -> Option<Timestamp> {
        let socket = self.sockets.last().map(|socket| socket.timestamp);
        socket.or(self.processes.last().map(|process| process.timestamp))
    }

    /// Shows what waits.
    fn show(&mut self) -> Result<(), Error> {
        let out = self.output.room_for(self.waiting)?;
        self.waiting = 0;
        if !self.events.is_empty() {
            self.events.write(out, !self.begun);
            self.begun = true;
        }
        if !self.sockets.is_empty() {
            begin(out, &mut self.begun);
            sockets(out, &mut self.sockets);
        }
        if !self.processes.is_empty() {
            begin(out, &mut self.begun);
            processes(out, &self.processes);
            self.processes.clear();
        }
        self.network.write(out, |out| begin(out, &mut self.begun));
        if !self.warnings.is_empty() && self.records != HostRecords::Events {
            begin(out, &mut self.begun);
        }
        for warning in self.warnings.drain(..) {
            out.extend_from_slice(b"WARNING: ");
            out.extend_from_slice(warning.as_bytes());
            out.push(b'\n');
        }
        Ok(())
    }
}

impl Sink for People {
    fn takes(&self, record: Record<'_>) -> bool {
        match record {
            Record::Socket(_) | Record::NetworkStats(_) | Record::Route(_) => {
                self.records == HostRecords::Sockets
            }
            Record::Process(_) => self.records != HostRecords::Events,
            Record::Event(_) => self.records == HostRecords::Events,
            Record::Alert(_) => true,
            _ => false,
        }
    }

    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        if !self.takes(record) {
            let other = "the table has no room for records of this type; JSON lines have all";
            return Err(Error::Option(other.to_owned()));
        }
        let time = match record {
            Record::Socket(socket) => Some(socket.timestamp),
            Record::Process(process) => Some(process.timestamp),
            _ => None,
        };
        if let (Some(time), Some(waiting)) = (time, self.time_waiting())
            && time != waiting
        {
            self.show()?;
        }
        self.waiting += 1;
        match record {
            Record::Socket(socket) => self.sockets.push(socket.clone()),
            Record::Process(process) => self.processes.push(process.clone()),
            Record::Event(event) => self.events.row(event_cells(event)),
            Record::Alert(alert) => self.warnings.push(alert.to_string()),
            Record::NetworkStats(record) => self.network.counters(&record.stats),
            Record::Route(record) => self.network.route(&record.route),
            _ => {}
        }
        Ok(())
    }

    by_output!(output);

    fn flush(&mut self) -> Result<(), Error> {
        self.show()?;
        self.output.flush()
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.show()?;
        self.output.finish()
    }
}

/// Parts what comes from what was shown before.
fn begin(out: &mut Vec<u8>, begun: &mut bool) {
    if *begun {
        out.push(b'\n');
    }
    *begun = true;
}

fn sockets(out: &mut Vec<u8>, sockets: &mut Vec<SocketRecord>) {
    sockets.sort_by(in_order);
    let mut grid = Grid::new()
        .optional("CHANGE")
        .text("PROTO", 6)
        .text("STATE", 11)
        .text("LOCAL", 15)
        .text("REMOTE", 15)
        .text("PROCESS", 12)
        .number("PID", 6)
        .text("USER", 4)
        .optional("CONTAINER");
    let listening = sockets.iter().filter(|record| record.socket.remote.is_none()).count();
    let time = sockets.first().map(|record| second(record.timestamp)).unwrap_or_default();
    let connected = sockets.len() - listening;
    let heading = if sockets.iter().all(|record| record.change == Change::Present) {
        format!("{time} UTC: {listening} listening or bound, {connected} connected\n")
    } else {
        format!("{time} UTC\n")
    };
    out.extend_from_slice(heading.as_bytes());
    sockets.drain(..).for_each(|record| grid.row(socket_cells(&record)));
    grid.write(out, true);
}

/// Listeners first, by kind and port; then connections, by kind, local port and remote end.
fn in_order(one: &SocketRecord, other: &SocketRecord) -> Ordering {
    let key = |record: &SocketRecord| {
        let socket = &record.socket;
        (socket.remote.is_some(), rank(socket.kind), socket.local.port, socket.local.addr, socket.remote)
    };
    key(one).cmp(&key(other)).then_with(|| one.socket.cookie.cmp(&other.socket.cookie))
}

fn rank(kind: SocketKind) -> u8 {
    match kind {
        SocketKind::Tcp => 0,
        SocketKind::Udp => 1,
        SocketKind::UdpLite => 2,
        SocketKind::Raw(_) => 3,
        SocketKind::Ping => 4,
        SocketKind::Rdma => 5,
    }
}

fn socket_cells(record: &SocketRecord) -> Vec<String> {
    let socket = &record.socket;
    let change = if record.change == Change::Present { "" } else { record.change.name() };
    let state = match (record.previous_state, socket.kind) {
        (Some(previous), _) if previous != socket.state => {
            format!("{} (was {})", socket.state.name(), previous.name())
        }
        (_, SocketKind::Raw(proto)) if socket.remote.is_none() => format!("{} {proto}", socket.state.name()),
        _ => socket.state.name().to_owned(),
    };
    let (mut name, mut pid, mut container) = ("-".to_owned(), "-".to_owned(), None);
    let mut user = record.user.as_deref().map(|user| Printable(user).to_string());
    if let Some(object) = &record.process {
        match &object.who {
            Who::Process(process) => {
                name = Printable(&process.name).to_string();
                pid = process.pid.to_string();
                container = process.container_id.as_deref();
                user = process.user.as_deref().map(|user| Printable(user).to_string()).or(user);
            }
            Who::User { container_id, .. } => container = container_id.as_deref(),
        }
        if object.shared > 1 {
            name = format!("{name} (+{})", object.shared - 1);
        }
    }
    let container: String = container.unwrap_or_default().chars().take(12).collect();
    vec![
        change.to_owned(),
        record.protocol().to_owned(),
        state,
        socket.local.to_string(),
        end(socket.remote),
        name,
        pid,
        user.unwrap_or_else(|| socket.uid.to_string()),
        Printable(&container).to_string(),
    ]
}

fn processes(out: &mut Vec<u8>, processes: &[ProcessRecord]) {
    let mut grid = Grid::new()
        .text("PROCESS", 12)
        .number("PID", 6)
        .text("USER", 4)
        .text("CHANGE", 7)
        .text("STARTED (UTC)", 19)
        .text("COMMAND", 0);
    for ProcessRecord { change, process, .. } in processes {
        let command = if process.args.is_empty() {
            process.exe.clone().unwrap_or_else(|| "-".to_owned())
        } else {
            process.args.join(" ")
        };
        grid.row([
            Printable(&process.name).to_string(),
            process.pid.to_string(),
            user(process.user.as_deref(), process.credentials.uid),
            change.name().to_owned(),
            second(process.started),
            Printable(&command).to_string(),
        ]);
    }
    grid.write(out, true);
}

fn event_cells(event: &NetworkEvent) -> Vec<String> {
    let time = event.timestamp.to_string().replace('T', " ");
    let process = event.process.as_deref();
    vec![
        time.chars().take(23).collect(),
        event.kind.name().trim_start_matches("TcpConnection").to_owned(),
        event.local.to_string(),
        end(Some(event.remote)),
        process.map_or_else(|| "-".to_owned(), |process| Printable(&process.name).to_string()),
        process.map_or_else(|| "-".to_owned(), |process| process.pid.to_string()),
        process
            .map_or_else(|| "-".to_owned(), |process| user(process.user.as_deref(), process.credentials.uid)),
    ]
}

fn user(name: Option<&str>, uid: u32) -> String {
    name.map_or_else(|| uid.to_string(), |name| Printable(name).to_string())
}

fn end(end: Option<Endpoint>) -> String {
    end.map_or_else(|| "-".to_owned(), |end| end.to_string())
}

/// `2026-03-02 21:12:04`
fn second(time: Timestamp) -> String {
    time.to_string().replace('T', " ").chars().take(19).collect()
}

#[cfg(test)]
mod tests;
