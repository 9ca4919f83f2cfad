//! Which records pass: by their type, by their protocol and IP version.
#![forbid(unsafe_code)]

use std::str::FromStr;

use crate::error::{Error, nearest};
use crate::record::{Only, Record};

/// Which records pass; the default lets all of them through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// The types.
    pub types: Types,
    /// The protocols and IP versions.
    pub only: Only,
}

impl Filter {
    /// Tells whether a record passes.
    ///
    /// Records that are of no protocol, as processes, routes and counters are, pass by their type alone.
    pub fn passes(&self, record: Record<'_>) -> bool {
        self.types.has(record.type_name())
            && match record {
                Record::Flow(flow) => self.only.passes_flow(flow),
                Record::Socket(socket) => self.only.passes_socket(&socket.socket),
                Record::Alert(alert) => self.only.passes_socket(&alert.socket.socket),
                Record::Event(event) => self.only.passes_event(event),
                Record::Stats(_) | Record::Process(_) | Record::NetworkStats(_) | Record::Route(_) => true,
            }
    }

    /// Tells whether it lets every record through.
    pub fn is_open(&self) -> bool {
        *self == Filter::default()
    }
}

/// A choice of types of records, by the word that stands in their field `type`; none chosen means all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Types(Vec<&'static str>);

impl Types {
    /// All that can be chosen.
    pub const NAMES: &[&str] =
        &["flow", "stats", "socket", "process", "alert", "NetworkEvent", "network_stats", "route", "gap"];

    /// Tells whether records of this type are chosen.
    pub fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.contains(&name)
    }
}

impl FromStr for Types {
    type Err = Error;

    /// Reads names separated by commas.
    ///
    /// # Errors
    /// [`Error::Option`] for a name that no type has.
    fn from_str(list: &str) -> Result<Self, Error> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let known = |name| {
            Types::NAMES.iter().copied().find(|known| *known == name).ok_or_else(|| {
                let nearest = nearest(name, Types::NAMES.iter().copied());
                Error::Option(format!("no type is named '{name}'; the nearest is '{nearest}'"))
            })
        };
        names.map(known).collect::<Result<_, _>>().map(Types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StatsRecord;

    #[test]
    fn none_chosen_means_all() {
        let stats = StatsRecord::default();
        assert!(Filter::default().passes(Record::Stats(&stats)) && Filter::default().is_open());
        assert_eq!(" ".parse::<Types>().unwrap(), Types::default());
    }

    #[test]
    fn types_by_their_names() {
        let stats = StatsRecord::default();
        for (types, passes) in [("stats", true), ("flow, stats", true), ("flow,gap", false)] {
            let filter = Filter { types: types.parse().unwrap(), only: Only::default() };
            assert_eq!(filter.passes(Record::Stats(&stats)), passes, "{types}");
        }
        let wrong = "flow,sockets".parse::<Types>().unwrap_err().to_string();
        assert_eq!(wrong, "no type is named 'sockets'; the nearest is 'socket'");
    }

    #[test]
    fn what_has_no_protocol_passes_by_its_type() {
        let stats = StatsRecord::default();
        let filter = Filter { only: "rdma".parse().unwrap(), ..Filter::default() };
        assert!(filter.passes(Record::Stats(&stats)));
    }
}
