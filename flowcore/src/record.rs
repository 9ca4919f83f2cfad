//! The records: what flowcap writes (record.md is the contract of names, types and units).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::{Error, Reason, reasons};
use crate::feature::{CommunityId, FEATURE_FIELDS, FeatureValues, Values};
use crate::field::{Field, Lists, Scalar};
use crate::key::{End, FlowKey};
use crate::l7::{App, L7Facts, Transaction};
use crate::packet::{Labels, Tunnel};
use crate::time::{TableTime, Timestamp};

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

/// A value of a record's field: plain, or a list.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A plain value.
    Scalar(Scalar<'a>),
    /// VLAN ids.
    Vlans(&'a [u16]),
    /// MPLS labels.
    Mpls(&'a [u32]),
    /// Tunnels.
    Tunnels(&'a [Tunnel]),
    /// DNS transactions.
    Dns(&'a [Transaction]),
}

impl Value<'_> {
    /// Tells whether there is nothing to write.
    #[inline]
    pub fn is_absent(&self) -> bool {
        match self {
            Value::Scalar(scalar) => matches!(scalar, Scalar::Absent),
            Value::Vlans(list) => list.is_empty(),
            Value::Mpls(list) => list.is_empty(),
            Value::Tunnels(list) => list.is_empty(),
            Value::Dns(list) => list.is_empty(),
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Scalar(scalar) => scalar.serialize(serializer),
            Value::Vlans(list) => list.serialize(serializer),
            Value::Mpls(list) => list.serialize(serializer),
            Value::Tunnels(list) => list.serialize(serializer),
            Value::Dns(list) => list.serialize(serializer),
        }
    }
}

/// A column of flow records: a field, and where its value comes from.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The field.
    pub field: Field,
    from: From,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    /// From the record itself, by the place in [`HEAD`] and behind that in [`TAIL`].
    Record(usize),
    /// From the values of a feature, by the places in [`FEATURE_FIELDS`].
    Feature(usize, usize),
    /// From the values of a feature that was added from outside.
    Added(usize),
}

impl Column {
    /// Returns the columns of a feature that was added to a flow table from outside.
    pub fn added<V: Values>() -> Vec<Column> {
        let columns = V::FIELDS.iter().enumerate();
        columns.map(|(nth, &field)| Column { field, from: From::Added(nth) }).collect()
    }

    /// Returns all columns of a flow record, in the order of the record.
    pub fn all() -> Vec<Column> {
        let features = FEATURE_FIELDS.iter().copied().flatten();
        let fields = HEAD.iter().chain(features).chain(TAIL).enumerate();
        fields.map(|(place, &field)| Column { field, from: From::nth(place) }).collect()
    }

    /// Returns the columns that a comma-separated list names: fields, `@core`, `@stats`, `@all`.
    ///
    /// A name that comes twice counts once, where it comes first.
    ///
    /// # Errors
    /// [`Error::UnknownField`] for a name that no field has.
    pub fn parse(list: &str) -> Result<Vec<Column>, Error> {
        let all = Column::all();
        let mut chosen: Vec<Column> = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let wanted: Vec<&Column> = match name {
                "@all" => all.iter().collect(),
                "@core" => all.iter().filter(|column| column.in_core()).collect(),
                "@stats" => all.iter().filter(|column| column.in_stats()).collect(),
                _ => all.iter().filter(|column| column.field.name == name).collect(),
            };
            if wanted.is_empty() {
                return Err(unknown_field(name, &all));
            }
            for column in wanted {
                if chosen.iter().all(|other| other.field.name != column.field.name) {
                    chosen.push(*column);
                }
            }
        }
        Ok(chosen)
    }

    /// Returns the value of this column in a record.
    #[inline]
    pub fn value<'r>(&self, record: &'r FlowRecord) -> Value<'r> {
        self.from.value(record)
    }

    /// Returns the place of this column among [`Column::all`], none of one that was added.
    pub(crate) fn place(&self) -> Option<usize> {
        (0..Column::all().len()).find(|&place| From::nth(place) == self.from)
    }

    /// Returns the value of the column at a place that is known when it is compiled, and with it where the value is.
    #[inline(always)]
    pub(crate) fn value_at<const PLACE: usize>(record: &FlowRecord) -> Value<'_> {
        const { From::nth(PLACE) }.value(record)
    }

    fn in_core(&self) -> bool {
        matches!(self.field.lists, Lists::Core | Lists::CoreAndStats)
    }

    fn in_stats(&self) -> bool {
        matches!(self.field.lists, Lists::Stats | Lists::CoreAndStats)
    }
}

impl From {
    /// Returns where the value of the column at this place among all comes from.
    const fn nth(place: usize) -> From {
        if place < HEAD.len() {
            return From::Record(place);
        }
        let mut place = place - HEAD.len();
        let mut feature = 0;
        while feature < FEATURE_FIELDS.len() {
            if place < FEATURE_FIELDS[feature].len() {
                return From::Feature(feature, place);
            }
            place -= FEATURE_FIELDS[feature].len();
            feature += 1;
        }
        From::Record(HEAD.len() + place)
    }

    #[inline(always)]
    fn value(self, record: &FlowRecord) -> Value<'_> {
        match self {
            From::Record(nth) => record.value(nth),
            From::Feature(feature, nth) => Value::Scalar(record.features.value(feature, nth)),
            From::Added(nth) => {
                Value::Scalar(record.extra.as_deref().map_or(Scalar::Absent, |extra| extra.value(nth)))
            }
        }
    }
}

fn unknown_field(name: &str, all: &[Column]) -> Error {
    let lists = ["@core", "@stats", "@all"];
    let names = all.iter().map(|column| column.field.name).chain(lists);
    let nearest = names.min_by_key(|candidate| edit_distance(name, candidate)).unwrap_or("@core");
    Error::UnknownField { name: name.to_owned(), nearest }
}

/// Levenshtein distance, by bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl Serialize for FlowRecord {
    /// Writes every field of the record that is known, as `@all` does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for column in Column::all() {
            let value = column.value(self);
            if !value.is_absent() {
                map.serialize_entry(column.field.name, &value)?;
            }
        }
        if let Some(extra) = self.extra.as_deref() {
            for (nth, field) in extra.fields().iter().enumerate() {
                map.serialize_entry(field.name, &extra.value(nth))?;
            }
        }
        map.end()
    }
}

/// The fields that come before those of the features.
const HEAD: &[Field] = &[
    Field::core_and_stats("type"),
    Field::core_and_stats("flow_id"),
    Field::core_and_stats("community_id"),
    Field::core_and_stats("timestamp"),
    Field::core_and_stats("end"),
    Field::core_and_stats("duration"),
    Field::core_and_stats("src_ip"),
    Field::core_and_stats("src_port"),
    Field::core_and_stats("dst_ip"),
    Field::core_and_stats("dst_port"),
    Field::core_and_stats("protocol"),
    Field::stats("protocol_number"),
    Field::stats("ip_version"),
    Field::core_and_stats("icmp_type"),
    Field::core_and_stats("icmp_code"),
    Field::core_and_stats("vlan"),
    Field::stats("mpls"),
    Field::core_and_stats("tunnel"),
    Field::core_and_stats("interface"),
    Field::core_and_stats("app"),
    Field::stats("dscp"),
];

/// The fields that come after those of the features.
const TAIL: &[Field] = &[
    Field::core_and_stats("dns_query"),
    Field::core("dns"),
    Field::core("dns_truncated"),
    Field::core_and_stats("end_reason"),
    Field::stats("flow_end_reason"),
    Field::core_and_stats("slice"),
    Field::core_and_stats("final"),
    Field::stats("orientation"),
];

impl FlowRecord {
    /// Returns the value of the field at `index` of [`HEAD`] and [`TAIL`] as one list.
    #[inline(always)]
    fn value(&self, index: usize) -> Value<'_> {
        match index {
            0 => word("flow"),
            1 => number(self.flow_id),
            2 => Value::Scalar(Scalar::Ascii(self.community_id.as_bytes())),
            3 => Value::Scalar(Scalar::Time(self.first)),
            4 => Value::Scalar(Scalar::Time(self.last)),
            5 => Value::Scalar(Scalar::Seconds(self.last.nanos_since(self.first))),
            6 => Value::Scalar(Scalar::Ip(self.key.endpoint(self.src).addr)),
            7 => optional(self.key.endpoint(self.src).port),
            8 => Value::Scalar(Scalar::Ip(self.key.endpoint(self.src.other()).addr)),
            9 => optional(self.key.endpoint(self.src.other()).port),
            10 => match self.key.proto().keyword() {
                Some(keyword) => word(keyword),
                None => Value::Scalar(Scalar::NumberAsText(self.key.proto().0)),
            },
            11 => number(self.key.proto().0),
            12 => number(self.key.ip_version()),
            13 => optional(self.icmp.map(|icmp| icmp.0)),
            14 => optional(self.icmp.map(|icmp| icmp.1)),
            15 => Value::Vlans(labels(self, |l| &l.vlans)),
            16 => Value::Mpls(labels(self, |l| &l.mpls)),
            17 => Value::Tunnels(labels(self, |l| &l.tunnels)),
            18 => {
                let name = self.labels.as_deref().and_then(|labels| labels.interface.as_deref());
                Value::Scalar(name.map_or(Scalar::Absent, Scalar::Text))
            }
            19 => Value::Scalar(self.app.map_or(Scalar::Absent, |app| Scalar::Word(app.name()))),
            20 => number(self.dscp),
            21 => {
                let first = self.l7.dns.iter().find_map(Transaction::query);
                Value::Scalar(first.map_or(Scalar::Absent, Scalar::Text))
            }
            22 => Value::Dns(&self.l7.dns),
            23 => Value::Scalar(if self.l7.dns_truncated { Scalar::Bool(true) } else { Scalar::Absent }),
            24 => word(self.end_reason.name()),
            25 => number(self.end_reason.ipfix()),
            26 => optional(self.was_cut().then_some(self.slice)),
            27 => Value::Scalar(if self.was_cut() { Scalar::Bool(self.is_final) } else { Scalar::Absent }),
            28 => word(self.orientation.name()),
            _ => Value::Scalar(Scalar::Absent),
        }
    }

    fn was_cut(&self) -> bool {
        self.slice > 0 || !self.is_final
    }
}

fn word(text: &str) -> Value<'_> {
    Value::Scalar(Scalar::Word(text))
}

fn number<N: Into<u64>>(value: N) -> Value<'static> {
    Value::Scalar(Scalar::U64(value.into()))
}

fn optional<N: Into<u64>>(value: Option<N>) -> Value<'static> {
    Value::Scalar(Scalar::number(value))
}

fn labels<T>(record: &FlowRecord, part: fn(&Labels) -> &[T]) -> &[T] {
    record.labels.as_deref().map(part).unwrap_or_default()
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
    /// What became of the records, for each sink.
    pub sinks: Vec<SinkStats>,
    /// Bytes held for flows: states, payload, parsers.
    pub memory_bytes: u64,
}

/// What became of the records that went to a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkStats {
    /// The destination as the user named it.
    pub to: String,
    /// Records given to it.
    pub records: u64,
    /// Records written.
    pub written: u64,
    /// Records that could not be written.
    pub failed: u64,
}

/// A record of any type, on its way to a sink.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A flow, or a slice of one.
    Flow(&'a FlowRecord),
    /// The meter's own counters.
    Stats(&'a StatsRecord),
}
