//! What can go wrong: errors of set-up and I/O, and packets that are none (counted, never fatal).

use std::fmt;
use std::io;
use std::ops::Index;

/// Why something could not be set up, read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An input that does not exist or cannot be opened.
    Input {
        /// The file or interface as the user named it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// An input whose bytes stop making sense; everything before `offset` was used.
    Damaged {
        /// The file as the user named it.
        name: String,
        /// Where the damage begins, in bytes of the (uncompressed) input.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// An output that could not be opened or written.
    Output {
        /// The destination as the user named it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system did not permit it.
    Permission {
        /// What was to be done, on what.
        what: String,
        /// How to get the permission.
        hint: String,
    },
    /// A filter expression that libpcap does not compile.
    Filter {
        /// The expression.
        expression: String,
        /// What libpcap says of it.
        what: String,
    },
    /// A name in a field list that no field has.
    UnknownField {
        /// The name.
        name: String,
        /// The field with the most similar name.
        nearest: &'static str,
    },
    /// An option that cannot be had: out of its range, or not in this build.
    Option(String),
    /// A thread of the pipeline panicked; what its table held was written as far as it could be.
    Internal(String),
}

impl Error {
    /// Tells whether an output failed because its reader went away, as `head` does when it has seen enough.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Output { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Input { name, source } => write!(f, "{name}: {source}"),
            Error::Damaged { name, offset, what } => {
                write!(f, "{name}: damaged at byte {offset}: {what}")
            }
            Error::Output { name, source } => write!(f, "{name}: {source}"),
            Error::Permission { what, hint } => write!(f, "{what}: no permission; {hint}"),
            Error::Filter { expression, what } => write!(f, "filter '{expression}': {what}"),
            Error::UnknownField { name, nearest } => {
                write!(f, "no field is named '{name}'; the nearest is '{nearest}'")
            }
            Error::Option(what) | Error::Internal(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Input { source, .. } | Error::Output { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Returns the known name that is most similar to one that is not known; empty where none is known.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    known.into_iter().min_by_key(|candidate| edit_distance(name, candidate)).unwrap_or_default()
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

/// An enum of reasons, each with the name it is counted under.
pub trait Reason: Copy + 'static {
    /// All reasons, in order.
    const ALL: &'static [Self];
    /// The snake_case name it has in the stats record.
    fn name(self) -> &'static str;
    /// Its place in [`Reason::ALL`].
    fn index(self) -> usize;
}

/// Makes an enum of reasons, with their names.
macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $crate::error::Reason for $name {
            const ALL: &'static [Self] = &[$($name::$variant),+];

            fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use reasons;

reasons! {
    /// Why a packet belongs to no flow: no IP header could be read in it.
    DropReason {
        /// ARP or RARP.
        Arp = "arp",
        /// An 802.2 LLC frame that is not IP.
        Llc = "llc",
        /// An ethertype that is not decoded.
        UnknownEthertype = "unknown_ethertype",
        /// A link type that is not decoded.
        UnknownLinkType = "unknown_link_type",
        /// An address family other than IP, in link types that name one.
        UnknownFamily = "unknown_family",
        /// A PPP protocol other than IP: LCP, IPCP and the like.
        PppControl = "ppp_control",
        /// PPPoE discovery.
        PppoeDiscovery = "pppoe_discovery",
        /// An MPLS payload that is not IP.
        MplsPayload = "mpls_payload",
        /// An 802.11 frame without readable data: management, control, protected, no data.
        Ieee80211 = "ieee80211_no_data",
        /// A frame of a cooked, shim or other link header that announces something other than IP.
        OtherProtocol = "other_protocol",
        /// Bytes missing in the link-layer headers.
        LinkHeaderCut = "link_header_cut",
        /// Bytes missing in the first IP header.
        IpHeaderCut = "ip_header_cut",
        /// An IP version field that contradicts what was announced.
        IpVersion = "ip_version",
        /// A length field of the first IP header that contradicts itself.
        IpHeaderLength = "ip_header_length",
    }
}

reasons! {
    /// Why decoding stopped early inside a packet that has a flow.
    StopReason {
        /// A later fragment: its transport header is in the first one.
        LaterFragment = "later_fragment",
        /// Bytes missing in an IPv6 extension header or authentication header.
        ExtensionCut = "extension_cut",
        /// More than 64 extension headers.
        ExtensionsTooMany = "extensions_too_many",
        /// Bytes missing in the transport header.
        TransportCut = "transport_cut",
        /// A length in the transport header that cannot be.
        TransportLength = "transport_length",
        /// Bytes missing in a tunnel header, or a tunnel header that contradicts itself.
        TunnelHeader = "tunnel_header",
        /// A tunnel with a payload that is not IP.
        TunnelPayload = "tunnel_payload",
        /// An IP header inside the first one that is cut or contradicts itself.
        InnerIp = "inner_ip",
        /// More than 8 IP headers.
        TooDeep = "too_deep",
    }
}

/// One counter for each reason of `R`.
#[derive(Clone, PartialEq, Eq)]
pub struct Counters<R> {
    counts: Vec<u64>,
    of: std::marker::PhantomData<R>,
}

impl<R: Reason> Counters<R> {
    /// Makes counters that stand at 0.
    pub fn new() -> Self {
        Counters { counts: vec![0; R::ALL.len()], of: std::marker::PhantomData }
    }

    /// Counts one.
    #[inline]
    pub fn count(&mut self, reason: R) {
        self.add(reason, 1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&mut self, reason: R, n: u64) {
        if let Some(count) = self.counts.get_mut(reason.index()) {
            *count += n;
        }
    }

    /// Returns the sum over all reasons.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        R::ALL.iter().copied().zip(self.counts.iter().copied())
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Counters<R>) {
        for (reason, n) in other.iter() {
            self.add(reason, n);
        }
    }
}

impl<R: Reason> Default for Counters<R> {
    fn default() -> Self {
        Counters::new()
    }
}

impl<R: Reason> Index<R> for Counters<R> {
    type Output = u64;

    fn index(&self, reason: R) -> &u64 {
        &self.counts[reason.index()]
    }
}

impl<R: Reason> fmt::Debug for Counters<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.iter().filter(|(_, n)| *n > 0).map(|(reason, n)| (reason.name(), n));
        f.debug_map().entries(counted).finish()
    }
}
