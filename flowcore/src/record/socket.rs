//! A socket as a record: one of a snapshot, or one that changed between two.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::members::{Described, Members, Row, nonzero, serialize_described, text};
use super::process::{Match, ProcessObject};
use crate::field::Scalar;
use crate::host::{Owner, Socket, SocketKind, SocketState};
use crate::time::Timestamp;

/// A socket of a snapshot, or a change between two (record.md, type "socket").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketRecord {
    /// When the snapshot was taken.
    pub timestamp: Timestamp,
    /// What happened to it.
    pub change: Change,
    /// The socket; of one that was closed, as it was seen last.
    pub socket: Socket,
    /// Its state before, where it changed.
    pub previous_state: Option<SocketState>,
    /// The name of the user it belongs to.
    pub user: Option<Arc<str>>,
    /// Who owns it.
    pub process: Option<ProcessObject>,
}

/// What happened to a socket from one snapshot to the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is there; nothing was compared.
    Present,
    /// It is new.
    Opened,
    /// It is no more.
    Closed,
    /// Its state, an end, its inode, its user or its process is another one.
    Changed,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 4] = [Change::Present, Change::Opened, Change::Closed, Change::Changed];

    /// Returns the word that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            Change::Present => "present",
            Change::Opened => "opened",
            Change::Closed => "closed",
            Change::Changed => "changed",
        }
    }
}

impl SocketRecord {
    /// Makes the record of a socket in a snapshot, with its owner as the process table named it.
    pub fn new(timestamp: Timestamp, socket: Socket, user: Option<Arc<str>>, owner: &Owner) -> Self {
        let process = ProcessObject::of(owner, Match::Exact, None);
        SocketRecord { timestamp, change: Change::Present, socket, previous_state: None, user, process }
    }

    /// Returns `"TCP"`, `"UDPv6"` and so on.
    pub fn protocol(&self) -> &'static str {
        self.socket.kind.name(self.socket.local.addr)
    }
}

impl Described for SocketRecord {
    fn describe(&self, members: &mut dyn Members) {
        let socket = &self.socket;
        members.scalar("type", Scalar::Word("socket"));
        members.scalar("timestamp", Scalar::Time(self.timestamp));
        members.scalar("change", Scalar::Word(self.change.name()));
        members.scalar("protocol", Scalar::Word(self.protocol()));
        if let SocketKind::Raw(proto) = socket.kind {
            members.scalar("protocol_number", Scalar::U64(proto.0.into()));
        }
        members.scalar("local_ip", Scalar::Ip(socket.local.addr));
        members.scalar("local_port", Scalar::number(socket.local.port));
        if let Some(remote) = socket.remote {
            members.scalar("remote_ip", Scalar::Ip(remote.addr));
            members.scalar("remote_port", Scalar::number(remote.port));
        }
        members.scalar("state", Scalar::Word(socket.state.name()));
        if let Some(previous) = self.previous_state {
            members.scalar("previous_state", Scalar::Word(previous.name()));
        }
        members.scalar("uid", Scalar::U64(socket.uid.into()));
        members.scalar("user", text(self.user.as_deref()));
        members.scalar("inode", nonzero(socket.inode));
        members.scalar("cookie", nonzero(socket.cookie));
        members.scalar("netns", nonzero(socket.netns));
        if let Some(process) = &self.process {
            members.object("process", process);
        }
    }
}

impl Row for SocketRecord {
    const COLUMNS: &'static [&'static str] = &[
        "type",
        "timestamp",
        "change",
        "protocol",
        "protocol_number",
        "local_ip",
        "local_port",
        "remote_ip",
        "remote_port",
        "state",
        "previous_state",
        "uid",
        "user",
        "inode",
        "cookie",
        "netns",
        "process_pid",
        "process_name",
        "process_exe",
        "process_args",
        "process_user",
        "process_uid",
        "process_start_time",
        "process_ppid",
        "process_parent_name",
        "process_container_id",
        "process_upid",
        "process_match",
        "process_evidence_age_ms",
        "process_shared",
    ];
}

serialize_described!(SocketRecord);
