//! Differences as sentences for people: what, where, by which process, when.

use std::fmt::Write;

use super::baseline::Difference;
use super::role::Role;
use crate::field::Printable;
use crate::record::{AlertRecord, Rule, SocketRecord, Who};
use crate::time::Timestamp;

impl Difference {
    /// Makes the alert of this difference; `at` is when it was noticed, `compared_with` how people call the baseline.
    pub fn alert(&self, at: Timestamp, compared_with: &str) -> AlertRecord {
        AlertRecord {
            timestamp: at,
            rule: self.rule,
            compared_with: compared_with.to_owned(),
            message: self.sentence(compared_with),
            socket: self.socket.clone(),
        }
    }

    fn sentence(&self, compared_with: &str) -> String {
        let record = &self.socket;
        let protocol = record.protocol();
        let what = match self.role {
            Role::Listener { port: Some(port), .. } => {
                format!("{protocol} port {port} (address {})", record.socket.local.addr)
            }
            Role::Listener { port: None, .. } => format!("{protocol} (address {})", record.socket.local.addr),
            Role::Outgoing { remote, .. } => format!("{remote} ({protocol})"),
            Role::Accepted { port: Some(port), remote, .. } => format!("{remote} at {protocol} port {port}"),
            Role::Accepted { port: None, remote, .. } => format!("{remote} at {protocol}"),
            Role::Other { .. } => format!("{protocol} {}", record.socket.local),
        };
        let (who, when) = (owner(record), second(record.timestamp));
        let name = Printable(compared_with);
        let mut sentence = match self.rule {
            Rule::UnexpectedListener => {
                format!("Unexpected listener on {what}: {who}, seen {when}; not in {name}")
            }
            Rule::GoneListener => {
                format!("Listener is gone from {what}: was {who}, last seen {when} in {name}")
            }
            Rule::NewRemote => {
                format!("New outgoing connection to {what} by {who}, seen {when}; not in {name}")
            }
            Rule::NewClient => {
                format!("New incoming connection from {what}, taken by {who}, seen {when}; not in {name}")
            }
            Rule::NewProcess => format!("New program with sockets: {who}, seen {when}; not in {name}"),
        };
        if !self.instead_of.is_empty() {
            let known = self.instead_of.join(", ");
            // Writing to a String cannot fail.
            _ = write!(sentence, ", where it was {}", Printable(&known));
        }
        sentence
    }
}

/// `python3 (pid 7821, /usr/bin/python3, user root)`
fn owner(record: &SocketRecord) -> String {
    let user = |name: Option<&str>, uid: u32| name.map_or_else(|| uid.to_string(), str::to_owned);
    match record.process.as_ref().map(|object| &object.who) {
        Some(Who::Process(process)) => {
            let exe = process.exe.as_deref().map(|exe| format!(", {}", Printable(exe))).unwrap_or_default();
            let user = user(process.user.as_deref(), process.credentials.uid);
            let name = Printable(&process.name);
            format!("{name} (pid {}{exe}, user {})", process.pid, Printable(&user))
        }
        _ => {
            let user = user(record.user.as_deref(), record.socket.uid);
            format!("a process that is not known (user {})", Printable(&user))
        }
    }
}

/// `2026-03-02 21:12:04 UTC`
fn second(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}
