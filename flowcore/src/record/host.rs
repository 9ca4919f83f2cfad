//! What a process that watches this machine tells another one, which may not: records that own all they hold.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::news::word;
use super::{
    AlertRecord, Change, EventKind, EventSource, Match, NetworkEvent, NetworkStatsRecord, ProcessChange,
    ProcessObject, ProcessRecord, Record, RouteRecord, Rule, SocketRecord, Who,
};
use crate::host::counters::NetworkStats;
use crate::host::route::Route;
use crate::host::{Process, Socket, SocketState};
use crate::key::Endpoint;
use crate::time::Timestamp;

/// A record of what this machine says, or that what came before it belongs together.
///
/// Its JSON stays between two processes of one program and keeps what no output shows: it is no record's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HostNews {
    /// A socket.
    Socket(#[serde(with = "SocketFields")] SocketRecord),
    /// A process that owns sockets.
    Process(#[serde(with = "ProcessFields")] ProcessRecord),
    /// Something that was not expected.
    Alert(#[serde(with = "AlertFields")] AlertRecord),
    /// A connection that was opened or closed.
    Event(#[serde(with = "EventFields")] NetworkEvent),
    /// Counters of the network.
    NetworkStats(#[serde(with = "NetworkStatsFields")] NetworkStatsRecord),
    /// A route.
    Route(#[serde(with = "RouteFields")] RouteRecord),
    /// A snapshot is complete: what came until now can be shown.
    Complete,
}

impl HostNews {
    /// Makes it of a record; none of one that is not about this machine.
    pub fn of(record: Record<'_>) -> Option<Self> {
        Some(match record {
            Record::Socket(record) => HostNews::Socket(record.clone()),
            Record::Process(record) => HostNews::Process(record.clone()),
            Record::Alert(record) => HostNews::Alert(record.clone()),
            Record::Event(record) => HostNews::Event(record.clone()),
            Record::NetworkStats(record) => HostNews::NetworkStats(record.clone()),
            Record::Route(record) => HostNews::Route(record.clone()),
            Record::Flow(_) | Record::Stats(_) => return None,
        })
    }

    /// Returns the record in it.
    pub fn record(&self) -> Option<Record<'_>> {
        Some(match self {
            HostNews::Socket(record) => Record::Socket(record),
            HostNews::Process(record) => Record::Process(record),
            HostNews::Alert(record) => Record::Alert(record),
            HostNews::Event(record) => Record::Event(record),
            HostNews::NetworkStats(record) => Record::NetworkStats(record),
            HostNews::Route(record) => Record::Route(record),
            HostNews::Complete => return None,
        })
    }
}

// The fields of records once more, since their own `Serialize` is the contract with those who read them.

#[derive(Serialize, Deserialize)]
#[serde(remote = "SocketRecord")]
struct SocketFields {
    timestamp: Timestamp,
    change: Change,
    socket: Socket,
    previous_state: Option<SocketState>,
    user: Option<Arc<str>>,
    #[serde(with = "owner")]
    process: Option<ProcessObject>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ProcessRecord")]
struct ProcessFields {
    timestamp: Timestamp,
    change: ProcessChange,
    process: Arc<Process>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AlertRecord")]
struct AlertFields {
    timestamp: Timestamp,
    rule: Rule,
    compared_with: String,
    message: String,
    #[serde(with = "SocketFields")]
    socket: SocketRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NetworkEvent")]
struct EventFields {
    timestamp: Timestamp,
    kind: EventKind,
    cookie: Option<u64>,
    local: Endpoint,
    remote: Endpoint,
    process: Option<Arc<Process>>,
    tid: Option<u32>,
    source: EventSource,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NetworkStatsRecord")]
struct NetworkStatsFields {
    timestamp: Timestamp,
    stats: NetworkStats,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RouteRecord")]
struct RouteFields {
    timestamp: Timestamp,
    route: Route,
}

/// The owner of a socket, by the parts that its object is made of.
mod owner {
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Parts {
        who: Who,
        #[serde(with = "word")]
        matched: Match,
        evidence_age_ms: Option<u64>,
        shared: u32,
    }

    pub(super) fn serialize<S: Serializer>(
        object: &Option<ProcessObject>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let parts = object.as_ref().map(|object| Parts {
            who: object.who.clone(),
            matched: object.matched,
            evidence_age_ms: object.evidence_age_ms,
            shared: object.shared,
        });
        parts.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ProcessObject>, D::Error> {
        let parts = Option::<Parts>::deserialize(deserializer)?;
        Ok(parts
            .map(|parts| ProcessObject::new(parts.who, parts.matched, parts.evidence_age_ms, parts.shared)))
    }
}
