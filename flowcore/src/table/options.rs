//! What a user can set about the flow table.

use std::time::Duration;

use crate::feature::FeatureOptions;
use crate::key::Proto;

/// The settings of a [`FlowTable`](super::FlowTable).
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// How long a flow may be silent before it ends.
    pub idle: IdleTimeouts,
    /// How long a record may span before the flow is cut into slices; `None` never cuts. Default 300 s.
    pub active: Option<Duration>,
    /// How many flows are held at most; the next one pushes another out. Default 1,000,000.
    ///
    /// A flow costs 320 to 850 bytes, 2 KiB more where its payload needs a histogram, and 8 KiB from 64 KiB of payload on.
    pub max_flows: usize,
    /// How many bytes states, payload and parsers may take together. Default 2 GB.
    pub max_memory: u64,
    /// The seed of Community IDs. Default 0, as in the public specification.
    pub community_seed: u16,
    /// The settings of the per-flow numbers.
    pub features: FeatureOptions,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            idle: IdleTimeouts::default(),
            active: Some(Duration::from_secs(300)),
            max_flows: 1_000_000,
            max_memory: 2_000_000_000,
            community_seed: 0,
            features: FeatureOptions::default(),
        }
    }
}

/// Idle timeouts by protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdleTimeouts {
    /// TCP. Default 300 s.
    pub tcp: Duration,
    /// UDP and UDP-Lite. Default 60 s.
    pub udp: Duration,
    /// ICMP and ICMPv6. Default 30 s.
    pub icmp: Duration,
    /// Everything else. Default 60 s.
    pub other: Duration,
}

impl Default for IdleTimeouts {
    fn default() -> Self {
        IdleTimeouts {
            tcp: Duration::from_secs(300),
            udp: Duration::from_secs(60),
            icmp: Duration::from_secs(30),
            other: Duration::from_secs(60),
        }
    }
}

impl IdleTimeouts {
    /// Makes the same timeout for all protocols.
    pub const fn all(timeout: Duration) -> Self {
        IdleTimeouts { tcp: timeout, udp: timeout, icmp: timeout, other: timeout }
    }

    /// Returns the timeout of a protocol.
    pub const fn of(&self, proto: Proto) -> Duration {
        match proto {
            Proto::TCP => self.tcp,
            Proto::UDP | Proto::UDP_LITE => self.udp,
            Proto::ICMP | Proto::ICMPV6 => self.icmp,
            _ => self.other,
        }
    }

    /// Returns the largest of them: how far time may step back before all flows end.
    pub fn largest(&self) -> Duration {
        self.tcp.max(self.udp).max(self.icmp).max(self.other)
    }
}

/// The timeouts in nanoseconds, as they are compared for each packet.
#[derive(Clone, Debug)]
pub(super) struct Timeouts {
    /// By protocol number.
    idle: Box<[u64; 256]>,
    /// The largest number where flows are never cut.
    pub(super) active: u64,
}

impl Timeouts {
    pub(super) fn new(options: &TableOptions) -> Self {
        let nanos = |timeout: Duration| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Timeouts {
            idle: Box::new(std::array::from_fn(|proto| nanos(options.idle.of(Proto(proto as u8))))),
            active: options.active.map_or(u64::MAX, nanos),
        }
    }

    #[inline]
    pub(super) fn idle(&self, proto: Proto) -> u64 {
        self.idle[usize::from(proto.0)]
    }
}
