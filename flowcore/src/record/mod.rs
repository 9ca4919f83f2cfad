//! The records: what flowcap writes (record.md is the contract of names, types and units).
#![forbid(unsafe_code)]

mod alert;
mod column;
mod event;
mod host;
mod members;
mod network;
mod news;
mod only;
mod process;
mod sighted;
mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::reasons;
use crate::feature::{CommunityId, FeatureValues, Values};
use crate::field::{Field, Scalar};
use crate::key::{End, FlowKey};
use crate::l7::{App, L7Facts};
use crate::packet::Labels;
use crate::time::{TableTime, Timestamp};

pub use alert::{AlertRecord, Rule};
pub use column::{Column, Value};
pub use event::{EventKind, EventSource, NetworkEvent};
pub use host::HostNews;
pub use members::{Described, Members, Row};
pub use network::{NetworkStatsRecord, RouteRecord};
pub use news::{Message, OwnerNews, SocketNews};
pub use only::Only;
pub use process::{
    Match, Owners, ProcessChange, ProcessObject, ProcessObjects, ProcessRecord, Unattributed, Who,
};
pub use sighted::{SightedAs, SightedSocket};
pub use socket::{Change, SocketRecord};

reasons! {
    /// Why a flow's record was written.
    EndReason {
        /// Silent for longer than its idle timeout.
        Idle = "idle",
        /// Cut by the active timeout; the flow goes on in the next slice.
        Active = "active",
        /// Both sides sent FIN.
        Fin = "fin",
        /// A side sent RST.
        Rst = "rst",
        /// A new connection took the same key.
        Reuse = "reuse",
        /// The input ended, or its time jumped back.
        Eof = "eof",
        /// The program was stopped.
        Shutdown = "shutdown",
        /// The table was full.
        Resource = "resource",
    }
}

impl EndReason {
    /// Returns the flowEndReason of IPFIX (IE 136).
    pub const fn ipfix(self) -> u8 {
        match self {
            EndReason::Idle => 1,
            EndReason::Active => 2,
            EndReason::Fin | EndReason::Rst | EndReason::Reuse => 3,
            EndReason::Eof | EndReason::Shutdown => 4,
            EndReason::Resource => 5,
        }
    }
}

/// Which rule said who the initiator is; the earlier one is the better one (definitions.md, "Direction").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Orientation {
    /// It sent a SYN without ACK.
    Syn,
    /// It received a SYN-ACK.
    SynAck,
    /// As in the flow's previous slice.
    Carried,
    /// Its payload is a client's.
    App,
    /// Only the other end's port is a service's.
    Port,
    /// The other end is a multicast or broadcast address.
    Multicast,
    /// It sent the first packet.
    First,
}

impl Orientation {
    /// Returns the name that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            Orientation::Syn => "syn",
            Orientation::SynAck => "syn_ack",
            Orientation::Carried => "carried",
            Orientation::App => "app",
            Orientation::Port => "port",
            Orientation::Multicast => "multicast",
            Orientation::First => "first",
        }
    }
}

/// One flow, or one slice of it: what a line of output is made of.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// A stable hash of key and first time, below 2^53; the same in every slice.
    pub flow_id: u64,
    /// The flow's key.
    pub key: FlowKey,
    /// Which end of the key is the initiator.
    pub src: End,
    /// Community ID.
    pub community_id: CommunityId,
    /// The smallest packet time of this record.
    pub first: Timestamp,
    /// The largest packet time of this record.
    pub last: Timestamp,
    /// Labels of the first packet; none where there are none.
    pub labels: Option<Arc<Labels>>,
    /// ICMP type and code of the first packet.
    pub icmp: Option<(u8, u8)>,
    /// DSCP of the first packet.
    pub dscp: u8,
    /// The per-flow numbers.
    pub features: FeatureValues,
    /// The application protocol, where it is known.
    pub app: Option<App>,
    /// What the protocol parsers found.
    pub l7: L7Facts,
    /// Who owned its ends; none where nobody asks.
    pub owners: Option<Box<Owners>>,
    /// Why the record was written.
    pub end_reason: EndReason,
    /// Which rule said who is src.
    pub orientation: Orientation,
    /// 0, 1, 2 … for the records of a flow that the active timeout cut.
    pub slice: u32,
    /// No slice of this flow follows.
    pub is_final: bool,
    /// The table time at which it was due; with flow_id and slice it gives the order of replay.
    pub due: TableTime,
    /// Values of a feature that was added from outside (see [`Column::added`]).
    pub extra: Option<Arc<dyn AddedValues>>,
}

/// The values of a feature that was added from outside.
pub trait AddedValues: Send + Sync + std::fmt::Debug {
    /// Returns the fields.
    fn fields(&self) -> &'static [Field];
    /// Returns the value of the field at `index`.
    fn value(&self, index: usize) -> Scalar<'_>;
}

impl<V: Values> AddedValues for V {
    fn fields(&self) -> &'static [Field] {
        V::FIELDS
    }

    fn value(&self, index: usize) -> Scalar<'_> {
        Values::value(self, index)
    }
}

/// The meter's own counters (record.md, type "stats"): written at intervals and at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StatsRecord {
    /// When it was written.
    pub timestamp: Timestamp,
    /// Seconds since the meter started.
    pub uptime: f64,
    /// Packets read.
    pub packets: u64,
    /// Wire bytes of the packets read.
    pub bytes: u64,
    /// Packets that the kernel's filter accepted.
    pub kernel_received: u64,
    /// Packets that the kernel had no room for.
    pub kernel_dropped: u64,
    /// Packets that the interface dropped.
    pub interface_dropped: u64,
    /// Interfaces that are gone now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces_missing: Vec<String>,
    /// Packets that the pipeline had no room for; live only.
    pub queue_dropped: u64,
    /// Wire bytes of those.
    pub queue_dropped_bytes: u64,
    /// Packets of files that the filter expression did not let through; not among `packets`.
    pub filtered: u64,
    /// Packets without a flow, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Wire bytes of the packets without a flow.
    pub dropped_bytes: u64,
    /// Packets with a flow in which decoding stopped early, by reason.
    pub stopped: BTreeMap<&'static str, u64>,
    /// Packets that carried no time.
    pub packets_without_time: u64,
    /// Packets older than one before them.
    pub packets_out_of_order: u64,
    /// Times that were clamped to what can be held.
    pub times_clamped: u64,
    /// Steps back in time by more than the largest idle timeout.
    pub time_jumps: u64,
    /// Fragments that wait for the first one of their datagram.
    pub fragments_held: u64,
    /// Wire bytes of those.
    pub fragments_held_bytes: u64,
    /// Fragments that were held and had to make room.
    pub fragments_evicted: u64,
    /// Datagrams whose fragments were forgotten to make room.
    pub datagrams_evicted: u64,
    /// Fragments whose first one never came.
    pub fragments_expired: u64,
    /// Fragments that overlapped bytes already there.
    pub fragments_overlapping: u64,
    /// Packets that flows have counted.
    pub flow_packets: u64,
    /// Wire bytes that flows have counted.
    pub flow_bytes: u64,
    /// Flows in the table.
    pub flows_active: u64,
    /// Packets of the flows in the table, slices already written left out.
    pub flows_active_packets: u64,
    /// Wire bytes of the flows in the table, slices already written left out.
    pub flows_active_bytes: u64,
    /// Flows ever opened.
    pub flows_opened: u64,
    /// Records by end reason.
    pub records: BTreeMap<&'static str, u64>,
    /// Packets in those records.
    pub record_packets: u64,
    /// Wire bytes in those records.
    pub record_bytes: u64,
    /// DNS messages read whole.
    pub dns_whole: u64,
    /// DNS messages read in part.
    pub dns_partial: u64,
    /// What was no DNS message on a DNS port, by reason.
    pub dns_refused: BTreeMap<&'static str, u64>,
    /// How the ends of flows were attributed to processes; none where nobody asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<AttributionStats>,
    /// What became of the records, for each sink.
    pub sinks: Vec<SinkStats>,
    /// Bytes held for flows: states, payload, parsers.
    pub memory_bytes: u64,
    /// How often processes that work beside the meter died and were started again, by what they do.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts: BTreeMap<&'static str, u64>,
}

/// How the ends of flows were attributed to processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AttributionStats {
    /// Sockets of flows in the index now.
    pub sockets: u64,
    /// Sockets that had to make room in the index.
    pub sockets_evicted: u64,
    /// Ends with an owner, by match.
    pub found: BTreeMap<&'static str, u64>,
    /// Ends without one, by reason; flows without a local end count once.
    pub unattributed: BTreeMap<&'static str, u64>,
    /// Slices whose owners were not remembered for the next slice: there were too many.
    pub slices_not_carried: u64,
    /// Sockets asked for.
    pub lookups: u64,
    /// Requests that found the queue full.
    pub lookups_dropped: u64,
    /// Packets that the tap had no room for: flows that were not asked for as they opened.
    pub tap_dropped: u64,
    /// Questions that the machine did not answer.
    pub lookups_failed: u64,
}

/// What became of the records that went to a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkStats {
    /// The destination as the user named it.
    pub to: String,
    /// Records given to it.
    pub records: u64,
    /// Of these, records of this machine: sockets, processes, events and the like.
    #[serde(skip_serializing_if = "is_zero")]
    pub host_records: u64,
    /// Records written.
    pub written: u64,
    /// Records that its filter did not let through.
    pub filtered: u64,
    /// Records that were put on disk, to wait for a server.
    pub spooled: u64,
    /// Records that had to make room in the spool before the server had them, those of earlier runs too.
    #[serde(skip_serializing_if = "is_zero")]
    pub spool_lost: u64,
    /// How often the process that sends to that server had to be started again.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u64,
    /// How that process is getting on, by its own account; none of other sinks, and before its first word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStats>,
    /// Records that could not be written.
    pub failed: u64,
    /// Records that had no room, by reason: `disk_full`, `unwritable`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What hinders more than single records: work on closed files, or a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How records get to a server from the spool that they wait in, since this program was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStats {
    /// Records that the server has taken, those of earlier runs too.
    pub sent: u64,
    /// Records that it does not take, set aside for good.
    pub refused: u64,
    /// Tries that failed and are made again.
    pub retries: u64,
    /// About how many records are in the spool that are not done.
    pub waiting: u64,
    /// Since when every try has failed, by the time of day; none while it goes well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_at: Option<Timestamp>,
}

impl ServerStats {
    /// Adds what was counted before by another one that did the same.
    pub fn add(&mut self, before: &ServerStats) {
        self.sent += before.sent;
        self.refused += before.refused;
        self.retries += before.retries;
    }
}

/// A record of any type, on its way to a sink.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A flow, or a slice of one.
    Flow(&'a FlowRecord),
    /// The meter's own counters.
    Stats(&'a StatsRecord),
    /// A socket of a snapshot, or a change.
    Socket(&'a SocketRecord),
    /// A process that owns sockets.
    Process(&'a ProcessRecord),
    /// An expectation that was not met.
    Alert(&'a AlertRecord),
    /// A connection that was opened, accepted, closed or refused.
    Event(&'a NetworkEvent),
    /// Counters of a protocol or an interface.
    NetworkStats(&'a NetworkStatsRecord),
    /// A route.
    Route(&'a RouteRecord),
}

impl Record<'_> {
    /// Returns the word that stands in the field `type`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Record::Flow(_) => "flow",
            Record::Stats(_) => "stats",
            Record::Socket(_) => "socket",
            Record::Process(_) => "process",
            Record::Alert(_) => "alert",
            Record::Event(_) => "NetworkEvent",
            Record::NetworkStats(_) => "network_stats",
            Record::Route(_) => "route",
        }
    }
}

/// Serde asks for it in this form.
fn is_zero(number: &u64) -> bool {
    *number == 0
}
