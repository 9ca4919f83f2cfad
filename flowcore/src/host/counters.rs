//! Counters that the machine keeps of its network: by protocol and by interface.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of the machine's counter sets (record.md, "network_stats").
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NetworkStats {
    /// Of a protocol.
    Protocol(ProtocolCounters),
    /// Of an interface.
    Interface(InterfaceCounters),
}

/// The counters of a protocol since the machine, or its network namespace, was started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProtocolCounters {
    /// The kernel's word: `"Ip"`, `"Tcp"`, `"Udp6"`, `"TcpExt"` …
    pub protocol: String,
    /// Names and values in the kernel's order. A value below 0 means that there is none, and is left out.
    #[serde(serialize_with = "as_map", deserialize_with = "of_map")]
    pub counters: Vec<(String, u64)>,
}

/// The counters of an interface since it was made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct InterfaceCounters {
    /// Its name.
    pub interface: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets received with errors.
    pub received_errors: u64,
    /// Packets received and dropped.
    pub received_dropped: u64,
    /// Multicast packets received.
    pub received_multicast: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that could not be sent for errors.
    pub sent_errors: u64,
    /// Packets that were to be sent and were dropped.
    pub sent_dropped: u64,
}

fn as_map<S: Serializer>(counters: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter().map(|(name, value)| (name, value)))
}

fn of_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, u64)>, D::Error> {
    struct InOrder;

    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, u64)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("counters by name")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut counters = Vec::new();
            while let Some(counter) = map.next_entry()? {
                counters.push(counter);
            }
            Ok(counters)
        }
    }

    deserializer.deserialize_map(InOrder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json() {
        let counters = vec![("OutSegs".to_owned(), 7), ("InSegs".to_owned(), 8)];
        let tcp = NetworkStats::Protocol(ProtocolCounters { protocol: "Tcp".to_owned(), counters });
        assert_eq!(
            serde_json::to_string(&tcp).unwrap(),
            r#"{"protocol":"Tcp","counters":{"OutSegs":7,"InSegs":8}}"#
        );
        let lo = InterfaceCounters { interface: "lo".to_owned(), sent_bytes: 9, ..Default::default() };
        assert_eq!(
            serde_json::to_string(&NetworkStats::Interface(lo)).unwrap(),
            r#"{"interface":"lo","received_bytes":0,"received_packets":0,"received_errors":0,"received_dropped":0,"#
                .to_owned()
                + r#""received_multicast":0,"sent_bytes":9,"sent_packets":0,"sent_errors":0,"sent_dropped":0}"#
        );
    }
}
