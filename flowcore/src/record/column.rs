//! The columns of flow records: which fields there are, and where their values come from.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{FlowRecord, Owners, ProcessObject, Unattributed};
use crate::error::{Error, Reason, nearest};
use crate::feature::{FEATURE_FIELDS, Values};
use crate::field::{Field, Lists, Scalar};
use crate::l7::Transaction;
use crate::packet::{Labels, Tunnel};

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
    /// Texts that came from outside.
    Texts(&'a [String]),
    /// The owner of an end.
    Process(&'a ProcessObject),
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
            Value::Texts(list) => list.is_empty(),
            Value::Process(_) => false,
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
            Value::Texts(list) => list.serialize(serializer),
            Value::Process(process) => process.serialize(serializer),
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
    /// A name that comes twice counts once, where it comes first. The lists do not hold the owners of sockets: they
    /// stay unknown unless flows are attributed.
    ///
    /// # Errors
    /// [`Error::UnknownField`] for a name that no field has.
    pub fn parse(list: &str) -> Result<Vec<Column>, Error> {
        Column::parse_among(list, |column| column.field.lists != Lists::Owners)
    }

    /// Does the same where flows are attributed to processes: `@core` and `@all` hold the owners of sockets too.
    ///
    /// # Errors
    /// [`Error::UnknownField`] for a name that no field has.
    pub fn parse_with_owners(list: &str) -> Result<Vec<Column>, Error> {
        Column::parse_among(list, |_| true)
    }

    fn parse_among(list: &str, listed: fn(&Column) -> bool) -> Result<Vec<Column>, Error> {
        let all = Column::all();
        let mut chosen: Vec<Column> = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let wanted: Vec<&Column> = match name {
                "@all" => all.iter().filter(|column| listed(column)).collect(),
                "@core" => all.iter().filter(|column| column.in_core() && listed(column)).collect(),
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

    /// Tells whether its values are process objects.
    pub(crate) fn is_process(&self) -> bool {
        matches!(self.from, From::Record(_)) && ["src_process", "dst_process"].contains(&self.field.name)
    }

    /// Returns the place of this column among [`Column::all`], none of one that was added.
    pub(crate) fn place(&self) -> Option<usize> {
        Column::all().iter().position(|column| column.from == self.from)
    }

    /// Returns the value of the column at a place that is known when it is compiled, and with it where the value is.
    #[inline(always)]
    pub(crate) fn value_at<const PLACE: usize>(record: &FlowRecord) -> Value<'_> {
        const { From::nth(PLACE) }.value(record)
    }

    fn in_core(&self) -> bool {
        matches!(self.field.lists, Lists::Core | Lists::CoreAndStats | Lists::Owners)
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
    Error::UnknownField { name: name.to_owned(), nearest: nearest(name, names) }
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
    Field::owner("src_process"),
    Field::owner("dst_process"),
    Field::owner("src_unattributed"),
    Field::owner("dst_unattributed"),
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
            24 => process(self, |owners| owners.src.as_ref()),
            25 => process(self, |owners| owners.dst.as_ref()),
            26 => unattributed(self, |owners| owners.src.as_ref()),
            27 => unattributed(self, |owners| owners.dst.as_ref()),
            28 => word(self.end_reason.name()),
            29 => number(self.end_reason.ipfix()),
            30 => optional(self.was_cut().then_some(self.slice)),
            31 => Value::Scalar(if self.was_cut() { Scalar::Bool(self.is_final) } else { Scalar::Absent }),
            32 => word(self.orientation.name()),
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

type OwnerOf = fn(&Owners) -> Option<&Result<ProcessObject, Unattributed>>;

fn process(record: &FlowRecord, end: OwnerOf) -> Value<'_> {
    match record.owners.as_deref().and_then(end) {
        Some(Ok(owner)) => Value::Process(owner),
        _ => Value::Scalar(Scalar::Absent),
    }
}

fn unattributed(record: &FlowRecord, end: OwnerOf) -> Value<'_> {
    match record.owners.as_deref().and_then(end) {
        Some(Err(reason)) => word(reason.name()),
        _ => Value::Scalar(Scalar::Absent),
    }
}
