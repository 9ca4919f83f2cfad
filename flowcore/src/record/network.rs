//! The machine's counters and routes as records.

use serde::{Serialize, Serializer};

use crate::host::counters::NetworkStats;
use crate::host::route::Route;
use crate::time::Timestamp;

/// Counters of a protocol or of an interface at a moment (record.md, type "network_stats").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkStatsRecord {
    /// When they were read.
    pub timestamp: Timestamp,
    /// The counters.
    pub stats: NetworkStats,
}

/// A route at a moment (record.md, type "route").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteRecord {
    /// When it was read.
    pub timestamp: Timestamp,
    /// The route.
    pub route: Route,
}

/// What stands in front of the members of a record.
#[derive(Serialize)]
struct Headed<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
    #[serde(flatten)]
    members: &'a T,
}

impl Serialize for NetworkStatsRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headed = Headed { kind: "network_stats", timestamp: self.timestamp, members: &self.stats };
        headed.serialize(serializer)
    }
}

impl Serialize for RouteRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Headed { kind: "route", timestamp: self.timestamp, members: &self.route }.serialize(serializer)
    }
}
