//! Packets made to order, for tests.

use crate::feature::{FeatureOptions, FeatureValues, Features, Values};
use crate::field::Scalar;
use crate::key::{Dir, End, FlowKey, Proto, TunnelKey, VlanStack};
use crate::packet::{Facts, Fragment, Message, NO_LABELS, Packet, TcpFacts, TcpFlags};
use crate::time::{TableTime, Timestamp};

/// A packet and the direction that the flow has it in.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) facts: Facts,
    pub(crate) dir: Dir,
    pub(crate) payload: Vec<u8>,
    /// What the packet's message is, where there is one: bytes and sequence number.
    pub(crate) message: Option<(Vec<u8>, u32)>,
}

/// Makes a packet of a protocol, without payload.
pub(crate) fn packet(proto: Proto, dir: Dir) -> Made {
    let addr = crate::key::AddrWords::v4;
    let (from, to) = match dir {
        Dir::Fwd => (addr([10, 0, 0, 1]), addr([10, 0, 0, 2])),
        Dir::Rev => (addr([10, 0, 0, 2]), addr([10, 0, 0, 1])),
    };
    let (vlans, tunnel) = (VlanStack::default(), TunnelKey::default());
    let (key, sender): (FlowKey, End) = FlowKey::new(4, from, to, proto, Some((1000, 1000)), vlans, tunnel);
    let facts = Facts {
        key,
        sender,
        time: Timestamp::EPOCH,
        table_time: TableTime::default(),
        wire_len: 54,
        ip_len: 40,
        payload_len: 0,
        ttl: 64,
        dscp: 0,
        fragment: Fragment::No,
        icmp: None,
        tcp: None,
        bad_checksum: false,
    };
    Made { facts, dir, payload: Vec::new(), message: None }
}

/// Makes a TCP packet; `flags` are letters of FSRPAUEC.
pub(crate) fn tcp(dir: Dir, flags: &str, seq: u32, ack: u32) -> Made {
    let mut made = packet(Proto::TCP, dir);
    let flags = flags.chars().map(|letter| 1 << "FSRPAUEC".find(letter).unwrap()).sum();
    let (window, mss, window_scale) = (1024, None, None);
    made.facts.tcp = Some(TcpFacts { flags: TcpFlags(flags), seq, ack, window, mss, window_scale });
    made
}

impl Made {
    pub(crate) fn at(mut self, nanos: i64) -> Made {
        self.facts.time = Timestamp::from_nanos(nanos);
        self
    }

    pub(crate) fn payload(mut self, bytes: &[u8]) -> Made {
        self.payload = bytes.to_vec();
        self.data(bytes.len() as u64)
    }

    /// Announces payload that was not captured.
    pub(crate) fn data(mut self, len: u64) -> Made {
        self.facts.payload_len = len;
        self.facts.ip_len = 40 + len;
        self.facts.wire_len = 54 + len as u32;
        self
    }

    pub(crate) fn window(mut self, window: u16) -> Made {
        self.facts.tcp.as_mut().unwrap().window = window;
        self
    }

    pub(crate) fn options(mut self, mss: u16, scale: u8) -> Made {
        let tcp = self.facts.tcp.as_mut().unwrap();
        (tcp.mss, tcp.window_scale) = (Some(mss), Some(scale));
        self
    }

    pub(crate) fn bad_checksum(mut self) -> Made {
        self.facts.bad_checksum = true;
        self
    }

    pub(crate) fn fragment(mut self, fragment: Fragment) -> Made {
        self.facts.fragment = fragment;
        if fragment == Fragment::Later {
            self.facts.tcp = None;
        }
        self
    }

    pub(crate) fn message(mut self, bytes: &[u8], seq: u32) -> Made {
        self.message = Some((bytes.to_vec(), seq));
        self
    }

    pub(crate) fn packet(&self) -> Packet<'_> {
        let message = self.message.as_ref();
        Packet {
            facts: &self.facts,
            payload: &self.payload,
            message: message.map(|(bytes, seq)| Message { bytes, seq: *seq, complete: true }),
            labels: &NO_LABELS,
        }
    }
}

/// Shows a flow's packets to all features.
pub(crate) fn features<'m>(
    packets: impl IntoIterator<Item = &'m Made>,
    options: &FeatureOptions,
) -> Features {
    let mut features = Features::default();
    for made in packets {
        features.update(&made.packet(), made.dir, options);
    }
    features
}

/// Shows a flow's packets to all features and returns what they make of them.
pub(crate) fn flow<'m>(packets: impl IntoIterator<Item = &'m Made>) -> FeatureValues {
    features(packets, &FeatureOptions::default()).finish()
}

/// All fields of a feature's values that are there, as `name=value`.
pub(crate) fn fields<V: Values>(values: &V) -> Vec<String> {
    let shown = V::FIELDS.iter().enumerate().map(|(index, field)| (field.name, show(values.value(index))));
    shown.filter(|(_, text)| text != "absent").map(|(name, text)| format!("{name}={text}")).collect()
}

/// The value of the field of that name; "absent" where it is not there, nanoseconds where it is a time.
///
/// # Panics
/// Where no field has that name.
pub(crate) fn field<V: Values>(values: &V, name: &str) -> String {
    let index = V::FIELDS.iter().position(|field| field.name == name).expect(name);
    show(values.value(index))
}

fn show(value: Scalar<'_>) -> String {
    match value {
        Scalar::Absent => "absent".to_owned(),
        Scalar::U64(number) | Scalar::Micros(number) => number.to_string(),
        Scalar::Word(text) => text.to_owned(),
        Scalar::Ascii(word) => String::from_utf8_lossy(word).into_owned(),
        Scalar::Float(number) => format!("{number:.6}"),
        other => format!("{other:?}"),
    }
}
