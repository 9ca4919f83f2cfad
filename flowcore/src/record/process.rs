//! Who owned a socket: the process object of other records, and the process as a record of its own.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Value;
use super::members::{Described, Members, Row, serialize_described, text};
use crate::error::{Reason, reasons};
use crate::field::Scalar;
use crate::host::{Owner, Process};
use crate::time::Timestamp;

reasons! {
    /// How the owner of a flow's end is known (record.md, "process object").
    Match {
        /// Seen as it was opened.
        Event = "event",
        /// The connection's own socket.
        Exact = "exact",
        /// An unconnected UDP socket bound to that address and port.
        Local = "local",
        /// The listening socket of the port.
        Listener = "listener",
        /// A socket now closed whose time covers the flow.
        History = "history",
        /// The user is known and maybe the container, the process is not.
        UidOnly = "uid_only",
    }
}

reasons! {
    /// Why a flow's end has no process object (definitions.md, "Attribution").
    Unattributed {
        /// No socket of that tuple and time is known.
        NoSocket = "no_socket",
        /// No process holds the socket any more.
        NoPid = "no_pid",
        /// The processes that may hold it cannot be looked into.
        Eperm = "eperm",
        /// Neither end is an address of this machine.
        NotLocal = "not_local",
        /// The socket is in another network namespace.
        OtherNetns = "other_netns",
        /// Too many were to be looked up at once.
        QueueFull = "queue_full",
        /// The recorded sockets do not tell.
        Offline = "offline",
        /// Several owners that cannot be told apart.
        Ambiguous = "ambiguous",
    }
}

/// The process object of a record: who owned the socket, and how that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessObject {
    /// Who it is.
    pub who: Who,
    /// How it was found.
    pub matched: Match,
    /// From the record's first packet to the nearest moment at which the socket was known to be there, in
    /// milliseconds; none where no flow is meant.
    pub evidence_age_ms: Option<u64>,
    /// How many processes hold the socket; 1 for this one alone.
    pub shared: u32,
    upid: Option<Arc<str>>,
}

/// A process, or what is known in its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Who {
    /// The process.
    Process(Arc<Process>),
    /// The user that the socket belongs to, and the container where there is one.
    User {
        /// The user's number.
        uid: u32,
        /// The container: 64 hex digits.
        container_id: Option<String>,
    },
}

/// Makes the process objects of many owners, the texts in them once for each process.
#[derive(Clone, Debug, Default)]
pub struct ProcessObjects(HashMap<u32, ProcessObject>);

/// What is known of the owners of a flow's two ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owners {
    /// The initiator's; none where it is no address of this machine.
    pub src: Option<Result<ProcessObject, Unattributed>>,
    /// The responder's.
    pub dst: Option<Result<ProcessObject, Unattributed>>,
}

impl ProcessObject {
    /// The names of the members, in their order.
    pub const MEMBERS: &[&str] = &[
        "pid",
        "name",
        "exe",
        "args",
        "user",
        "uid",
        "start_time",
        "ppid",
        "parent_name",
        "container_id",
        "upid",
        "match",
        "evidence_age_ms",
        "shared",
    ];

    /// Makes the object.
    pub fn new(who: Who, matched: Match, evidence_age_ms: Option<u64>, shared: u32) -> Self {
        let upid = match &who {
            Who::Process(process) => Some(process.upid().into()),
            Who::User { .. } => None,
        };
        ProcessObject { who, matched, evidence_age_ms, shared, upid }
    }

    /// Makes the object of an owner; none where no owner is known. Of a user alone the match is always
    /// [`Match::UidOnly`].
    pub fn of(owner: &Owner, matched: Match, evidence_age_ms: Option<u64>) -> Option<Self> {
        let (who, matched, shared) = match owner {
            Owner::Process { process, shared } => (Who::Process(Arc::clone(process)), matched, *shared),
            Owner::UidOnly { uid, container_id } => {
                (Who::User { uid: *uid, container_id: container_id.clone() }, Match::UidOnly, 1)
            }
            Owner::NoProcess | Owner::NotPermitted | Owner::Ambiguous => return None,
        };
        Some(ProcessObject::new(who, matched, evidence_age_ms, shared))
    }

    /// Returns the process, where it is known.
    pub fn process(&self) -> Option<&Arc<Process>> {
        match &self.who {
            Who::Process(process) => Some(process),
            Who::User { .. } => None,
        }
    }

    /// Returns the value of the member at a place of [`ProcessObject::MEMBERS`].
    pub fn value(&self, nth: usize) -> Value<'_> {
        let process = self.process();
        let (uid, container_id) = match &self.who {
            Who::Process(process) => (process.credentials.uid, &process.container_id),
            Who::User { uid, container_id } => (*uid, container_id),
        };
        Value::Scalar(match nth {
            0 => Scalar::number(process.map(|process| process.pid)),
            1 => process.map_or(Scalar::Absent, |process| Scalar::Text(&process.name)),
            2 => text(process.and_then(|process| process.exe.as_deref())),
            3 => return Value::Texts(process.map(|process| process.args.as_slice()).unwrap_or_default()),
            4 => text(process.and_then(|process| process.user.as_deref())),
            5 => Scalar::U64(uid.into()),
            6 => process.map_or(Scalar::Absent, |process| Scalar::Time(process.started)),
            7 => Scalar::number(process.map(|process| process.ppid)),
            8 => text(process.and_then(|process| process.parent_name.as_deref())),
            9 => text(container_id.as_deref()),
            10 => text(self.upid.as_deref()),
            11 => Scalar::Word(self.matched.name()),
            12 => Scalar::number(self.evidence_age_ms),
            13 => Scalar::number(Some(self.shared).filter(|&holders| holders > 1)),
            _ => Scalar::Absent,
        })
    }

    /// Returns the members that are known, with their names.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        let members = Self::MEMBERS.iter().enumerate().map(|(nth, name)| (*name, self.value(nth)));
        members.filter(|(_, value)| !value.is_absent())
    }
}

impl ProcessObjects {
    /// Makes the object of an owner, as [`ProcessObject::of`] does for a socket of its own.
    pub fn of(&mut self, owner: &Owner) -> Option<ProcessObject> {
        let new = || ProcessObject::of(owner, Match::Exact, None);
        let Owner::Process { process, shared } = owner else { return new() };
        let known = self.0.get(&process.pid);
        let same = known.filter(|known| known.process().is_some_and(|known| Arc::ptr_eq(known, process)));
        match same {
            Some(known) => Some(ProcessObject { shared: *shared, ..known.clone() }),
            None => {
                let object = new();
                self.0.extend(object.clone().map(|object| (process.pid, object)));
                object
            }
        }
    }
}

impl Described for ProcessObject {
    fn describe(&self, members: &mut dyn Members) {
        for (name, value) in self.members() {
            match value {
                Value::Scalar(scalar) => members.scalar(name, scalar),
                Value::Texts(texts) => members.texts(name, texts),
                _ => {}
            }
        }
    }
}

/// A process that owns sockets, when it is first seen and when it is gone (record.md, type "process").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessRecord {
    /// When it was seen, or no longer.
    pub timestamp: Timestamp,
    /// What happened.
    pub change: ProcessChange,
    /// The process, as it was seen last.
    pub process: Arc<Process>,
}

/// What happened to a process that owns sockets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessChange {
    /// It owned a socket in the first snapshot.
    Present,
    /// It owns a socket, and did not before.
    Opened,
    /// It owns no socket any more, or is no more.
    Gone,
}

impl ProcessChange {
    /// Returns the word that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            ProcessChange::Present => "present",
            ProcessChange::Opened => "opened",
            ProcessChange::Gone => "gone",
        }
    }
}

impl Described for ProcessRecord {
    fn describe(&self, members: &mut dyn Members) {
        let process = &*self.process;
        members.scalar("type", Scalar::Word("process"));
        members.scalar("timestamp", Scalar::Time(self.timestamp));
        members.scalar("upid", Scalar::Text(&process.upid()));
        members.scalar("change", Scalar::Word(self.change.name()));
        members.scalar("name", Scalar::Text(&process.name));
        members.scalar("pid", Scalar::U64(process.pid.into()));
        members.scalar("ppid", Scalar::U64(process.ppid.into()));
        members.scalar("exe", text(process.exe.as_deref()));
        members.texts("args", &process.args);
        members.scalar("user", text(process.user.as_deref()));
        members.scalar("uid", Scalar::U64(process.credentials.uid.into()));
        members.scalar("start_time", Scalar::Time(process.started));
        members.scalar("container_id", text(process.container_id.as_deref()));
    }
}

impl Row for ProcessRecord {
    const COLUMNS: &'static [&'static str] = &[
        "type",
        "timestamp",
        "upid",
        "change",
        "name",
        "pid",
        "ppid",
        "exe",
        "args",
        "user",
        "uid",
        "start_time",
        "container_id",
    ];
}

serialize_described!(ProcessObject, ProcessRecord);
