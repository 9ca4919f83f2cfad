//! Counters and routes for people: as `netstat -i`, `-s` and `-r` show them.

use super::super::grid::Grid;
use crate::field::Printable;
use crate::host::counters::{NetworkStats, ProtocolCounters};
use crate::host::route::{Route, RouteKind};

/// Interfaces, protocols and routes that wait to be shown.
pub(super) struct Network {
    interfaces: Grid,
    protocols: Grid,
    routes: Grid,
}

impl Network {
    pub(super) fn new() -> Self {
        Network {
            interfaces: Grid::new()
                .text("INTERFACE", 10)
                .number("RECEIVED", 14)
                .number("PACKETS", 10)
                .number("ERRORS", 7)
                .number("DROPPED", 8)
                .number("SENT", 14)
                .number("PACKETS", 10)
                .number("ERRORS", 7)
                .number("DROPPED", 8),
            protocols: Grid::new().text("PROTOCOL", 10).text("COUNTER", 24).number("VALUE", 12),
            routes: Grid::new()
                .text("DESTINATION", 18)
                .text("GATEWAY", 15)
                .text("INTERFACE", 10)
                .number("METRIC", 6)
                .number("TABLE", 5)
                .text("KIND", 9),
        }
    }

    /// Takes counters; those that are 0 are left out where they are a protocol's.
    pub(super) fn counters(&mut self, stats: &NetworkStats) {
        match stats {
            NetworkStats::Interface(one) => {
                let received =
                    [one.received_bytes, one.received_packets, one.received_errors, one.received_dropped];
                let sent = [one.sent_bytes, one.sent_packets, one.sent_errors, one.sent_dropped];
                let numbers = received.into_iter().chain(sent).map(|number| number.to_string());
                let name = Printable(&one.interface).to_string();
                self.interfaces.row([name].into_iter().chain(numbers).collect::<Vec<_>>());
            }
            NetworkStats::Protocol(ProtocolCounters { protocol, counters }) => {
                for (name, value) in counters.iter().filter(|(_, value)| *value > 0) {
                    self.protocols.row([protocol.clone(), name.clone(), value.to_string()]);
                }
            }
        }
    }

    /// Takes a route, unless it is one to the machine itself or to all on a link.
    pub(super) fn route(&mut self, route: &Route) {
        if matches!(
            route.kind,
            RouteKind::Local | RouteKind::Broadcast | RouteKind::Anycast | RouteKind::Multicast
        ) {
            return;
        }
        let version = if route.destination.is_ipv6() { "default (IPv6)" } else { "default" };
        let destination = match route.prefix_length {
            0 => version.to_owned(),
            length => format!("{}/{length}", route.destination),
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        self.routes.row([
            destination,
            or_none(route.gateway.map(|gateway| gateway.to_string())),
            or_none(route.interface.as_deref().map(|name| Printable(name).to_string())),
            route.metric.to_string(),
            route.table.to_string(),
            format!("{:?}", route.kind).to_lowercase(),
        ]);
    }

    /// Appends all of it, each part behind `begin`.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, mut begin: impl FnMut(&mut Vec<u8>)) {
        for grid in [&mut self.interfaces, &mut self.protocols, &mut self.routes] {
            if !grid.is_empty() {
                begin(out);
                grid.write(out, true);
            }
        }
    }
}
