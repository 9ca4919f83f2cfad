//! A TCP connection that was opened, accepted, closed or refused, with its process (record.md, type "NetworkEvent").

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::members::{Described, Members, Row, serialize_described, text};
use crate::field::Scalar;
use crate::host::Process;
use crate::key::Endpoint;
use crate::time::Timestamp;

/// What happened to a connection, at one of its ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkEvent {
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The kernel's number of the socket.
    pub cookie: Option<u64>,
    /// The end of the process that is named: `saddr` and `sport`.
    pub local: Endpoint,
    /// The other end: `daddr` and `dport`.
    pub remote: Endpoint,
    /// The process.
    pub process: Option<Arc<Process>>,
    /// The thread, where it is known.
    pub tid: Option<u32>,
    /// How it was noticed.
    pub source: EventSource,
}

/// What happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum EventKind {
    /// The handshake of an outgoing connection is complete.
    #[serde(rename = "TcpConnectionEstablish")]
    Establish,
    /// The handshake of an incoming connection is complete.
    #[serde(rename = "TcpConnectionAccept")]
    Accept,
    /// It is closed, or was reset.
    #[serde(rename = "TcpConnectionClose")]
    Close,
    /// It was refused, or nobody answered.
    #[serde(rename = "TcpConnectionFailed")]
    Failed,
}

impl EventKind {
    /// Returns the word that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Establish => "TcpConnectionEstablish",
            EventKind::Accept => "TcpConnectionAccept",
            EventKind::Close => "TcpConnectionClose",
            EventKind::Failed => "TcpConnectionFailed",
        }
    }
}

/// How an event was noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventSource {
    /// By its packets.
    Packet,
    /// The kernel told.
    Kernel,
    /// By comparing snapshots.
    Snapshot,
}

impl EventSource {
    /// Returns the word that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            EventSource::Packet => "packet",
            EventSource::Kernel => "kernel",
            EventSource::Snapshot => "snapshot",
        }
    }
}

impl Described for NetworkEvent {
    fn describe(&self, members: &mut dyn Members) {
        members.scalar("type", Scalar::Word("NetworkEvent"));
        members.scalar("timestamp", Scalar::Time(self.timestamp));
        members.object("network_event", &Connection(self));
        if let Some(process) = &self.process {
            members.object("process", &Actor { process, tid: self.tid });
        }
        members.scalar("source", Scalar::Word(self.source.name()));
    }
}

impl Row for NetworkEvent {
    const COLUMNS: &'static [&'static str] = &[
        "type",
        "timestamp",
        "network_event_type",
        "network_event_cookie",
        "network_event_saddr",
        "network_event_daddr",
        "network_event_sport",
        "network_event_dport",
        "process_pid",
        "process_tid",
        "process_ppid",
        "process_uid",
        "process_euid",
        "process_gid",
        "process_egid",
        "process_auid",
        "process_cap_inheritable",
        "process_cap_permitted",
        "process_cap_effective",
        "process_secureexec",
        "process_filename",
        "process_binary_path",
        "process_args",
        "process_start_time",
        "process_container_id",
        "source",
    ];
}

serialize_described!(NetworkEvent);

/// The member `network_event`.
struct Connection<'a>(&'a NetworkEvent);

impl Described for Connection<'_> {
    fn describe(&self, members: &mut dyn Members) {
        let Connection(event) = self;
        members.scalar("type", Scalar::Word(event.kind.name()));
        members.scalar("cookie", Scalar::number(event.cookie));
        members.scalar("saddr", Scalar::Ip(event.local.addr));
        members.scalar("daddr", Scalar::Ip(event.remote.addr));
        members.scalar("sport", Scalar::number(event.local.port));
        members.scalar("dport", Scalar::number(event.remote.port));
    }
}

/// The member `process`: other names than the process object's, and more of them.
struct Actor<'a> {
    process: &'a Process,
    tid: Option<u32>,
}

impl Described for Actor<'_> {
    fn describe(&self, members: &mut dyn Members) {
        let process = self.process;
        let who = &process.credentials;
        let number = |number: u32| Scalar::U64(number.into());
        members.scalar("pid", number(process.pid));
        members.scalar("tid", Scalar::number(self.tid));
        members.scalar("ppid", number(process.ppid));
        members.scalar("uid", number(who.uid));
        members.scalar("euid", number(who.euid));
        members.scalar("gid", number(who.gid));
        members.scalar("egid", number(who.egid));
        members.scalar("auid", Scalar::number(who.auid));
        members.scalar("cap_inheritable", Scalar::Text(&capabilities(who.cap_inheritable)));
        members.scalar("cap_permitted", Scalar::Text(&capabilities(who.cap_permitted)));
        members.scalar("cap_effective", Scalar::Text(&capabilities(who.cap_effective)));
        // Whether the kernel ran it in secure mode is told by no file that is looked at.
        members.scalar("secureexec", Scalar::Word(""));
        members.scalar("filename", Scalar::Text(filename(process)));
        members.scalar("binary_path", text(process.exe.as_deref()));
        let args = process.args.get(1..).filter(|_| !process.args.is_empty()).map(|args| args.join(" "));
        members.scalar("args", text(args.as_deref()));
        members.scalar("start_time", Scalar::Time(process.started));
        members.scalar("container_id", text(process.container_id.as_deref()));
    }
}

/// Returns the base name of the executable, or the name where the executable is not known.
fn filename(process: &Process) -> &str {
    let base = process.exe.as_deref().and_then(|exe| exe.rsplit('/').next());
    base.filter(|base| !base.is_empty()).unwrap_or(&process.name)
}

/// Spells capabilities: `ALL_CAPS`, nothing, or their names joined by `|`.
///
/// All are those that are known here, or more; a kernel that knows fewer has them spelled out.
fn capabilities(bits: u64) -> String {
    let all = (1 << CAPABILITIES.len()) - 1;
    if bits & all == all {
        return "ALL_CAPS".to_owned();
    }
    let names = (0..u64::BITS as usize).filter(|nth| bits >> nth & 1 == 1);
    let names = names.map(|nth| match CAPABILITIES.get(nth) {
        Some(name) => format!("CAP_{name}"),
        None => format!("CAP_{nth}"),
    });
    names.collect::<Vec<_>>().join("|")
}

/// Capabilities in the order of their bits (capabilities(7)).
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_by_hand() {
        assert_eq!(CAPABILITIES.len(), 41);
        assert_eq!(capabilities(0), "");
        assert_eq!(capabilities(0x1ff_ffff_ffff), "ALL_CAPS");
        assert_eq!(capabilities(u64::MAX), "ALL_CAPS");
        assert_eq!(capabilities(1 << 12 | 1 << 13), "CAP_NET_ADMIN|CAP_NET_RAW");
        assert_eq!(capabilities(1 | 1 << 40 | 1 << 63), "CAP_CHOWN|CAP_CHECKPOINT_RESTORE|CAP_63");
    }
}
