//! What was sent, counted.

use std::collections::BTreeMap;
use std::fmt;

/// Totals of one kind, or of all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames, without preamble and frame check sequence.
    pub wire_bytes: u64,
    /// Bytes above the transport header; for ESP all of the IP payload.
    pub payload_bytes: u64,
    /// Unordered five-tuples.
    pub flows: u64,
}

/// Totals of a run; its text is one JSON object.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Of all kinds.
    pub all: Count,
    /// Of each kind.
    pub kinds: BTreeMap<&'static str, Count>,
}

impl Totals {
    pub(crate) fn add(&mut self, kind: &'static str, wire: usize, payload: usize, opens: bool) {
        for count in [&mut self.all, self.kinds.entry(kind).or_default()] {
            count.packets += 1;
            count.wire_bytes += wire as u64;
            count.payload_bytes += payload as u64;
            count.flows += u64::from(opens);
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{},\"kinds\":{{", self.all)?;
        for (at, (kind, count)) in self.kinds.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}\"{kind}\":{{{count}}}")?;
        }
        f.write_str("}}")
    }
}

/// The members of a JSON object, without its braces.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { packets, wire_bytes, payload_bytes, flows } = self;
        write!(
            f,
            "\"packets\":{packets},\"wire_bytes\":{wire_bytes},\"payload_bytes\":{payload_bytes},\"flows\":{flows}"
        )
    }
}
