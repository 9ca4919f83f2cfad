//! Facts from payload, one file per protocol.
//!
//! A protocol is probed on the first few messages of a flow, may keep a state from then on, and ends
//! in facts for the record. To add one: a file with an `impl Protocol`, and a line in the list below.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod dhcp;
mod dns;
mod dtls;
mod http;
mod mqtt;
mod quic;
mod roce;
mod sip;
mod smb;
mod smtp;
mod ssdp;
mod ssh;
mod stream;
mod tls;

#[cfg(test)]
mod tests;

use serde::{Serialize, Serializer};

use crate::error::Counters;
use crate::key::{Dir, End, Proto};
use crate::packet::Packet;

pub use dns::{Answer, Answers, DnsClass, DnsRefusal, Rcode, RecordType, Transaction, Transport};

macro_rules! apps {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// An application protocol, recognised from the payload.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum App { $($(#[$doc])* $variant,)+ }

        impl App {
            /// Returns the name that stands in records.
            pub const fn name(self) -> &'static str {
                match self { $(App::$variant => $text),+ }
            }
        }
    };
}

apps! {
    /// DNS (RFC 1035) over UDP or TCP.
    Dns = "dns",
    /// Multicast DNS (RFC 6762).
    Mdns = "mdns",
    /// LLMNR (RFC 4795).
    Llmnr = "llmnr",
    /// TLS (RFC 8446).
    Tls = "tls",
    /// DTLS (RFC 9147).
    Dtls = "dtls",
    /// QUIC (RFC 9000).
    Quic = "quic",
    /// HTTP/1 (RFC 9112), and HTTP/2 by its preface.
    Http = "http",
    /// SSH (RFC 4253).
    Ssh = "ssh",
    /// DHCP for IPv4 (RFC 2131).
    Dhcp = "dhcp",
    /// MQTT (OASIS, versions 3.1 to 5).
    Mqtt = "mqtt",
    /// SIP (RFC 3261).
    Sip = "sip",
    /// SMB, all versions, behind its four-byte TCP header (MS-SMB2).
    Smb = "smb",
    /// SMTP (RFC 5321).
    Smtp = "smtp",
    /// SSDP: UPnP's discovery over UDP.
    Ssdp = "ssdp",
    /// RDMA over Converged Ethernet, version 2.
    Roce = "roce",
}

impl Serialize for App {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What the protocol parsers keep of one flow; 16 bytes until a protocol with a state is found.
#[derive(Default, Debug)]
pub struct Conversation {
    state: Option<Box<State>>,
    app: Option<App>,
    /// Messages that were probed.
    looks: u8,
}

impl Conversation {
    /// Reads a packet's message; returns the direction of the client where this packet shows it.
    ///
    /// `dir` is the packet's direction as the flow stands now.
    #[inline]
    pub fn read(&mut self, packet: &Packet<'_>, dir: Dir, counts: &mut L7Counts) -> Option<Dir> {
        if self.state.is_none() && (self.app.is_some() || self.looks >= LOOKS) {
            return None;
        }
        let message = packet.message?;
        if message.bytes.is_empty() {
            return None;
        }
        let look = Look { packet, bytes: message.bytes, seq: message.seq, complete: message.complete, dir };
        self.look(&look, counts)
    }

    fn look(&mut self, look: &Look<'_>, counts: &mut L7Counts) -> Option<Dir> {
        if let Some(state) = &mut self.state {
            let sight = state.read(look, counts);
            self.app = self.app.or(sight.app);
            if sight.finished {
                self.state = None;
            }
            if sight.client.is_some() || self.app.is_some() {
                return sight.client;
            }
        }
        if self.looks >= LOOKS {
            return None;
        }
        self.looks += 1;
        self.probe(look, counts)
    }

    /// Returns the protocol, once it is known.
    pub fn app(&self) -> Option<App> {
        self.app
    }

    /// Swaps the directions.
    pub fn turn(&mut self) {
        if let Some(state) = &mut self.state {
            state.turn();
        }
    }

    /// Takes out what the slice that ends now has to say; `last` says that no slice follows.
    pub fn finish(&mut self, last: bool) -> L7Facts {
        let mut facts = L7Facts::default();
        if let Some(state) = &mut self.state {
            state.finish(last, &mut facts);
        }
        facts
    }

    /// Returns how many bytes are held outside.
    pub fn heap_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |state| size_of::<State>() + state.heap_bytes())
    }
}

/// A conversation that nothing was recognised in after so many messages stays unknown.
const LOOKS: u8 = 4;

/// What the parsers say in a flow record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct L7Facts {
    /// DNS transactions, in the order of their first message; at most 16.
    pub dns: Vec<Transaction>,
    /// There were more than fit.
    pub dns_truncated: bool,
}

/// How many messages were read, and how they ended.
///
/// Whole, partial and refused add up to the messages that were handed to the DNS parser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L7Counts {
    /// DNS messages of which everything was read.
    pub dns_whole: u64,
    /// DNS messages that are damaged, or larger than what is read of one.
    pub dns_partial: u64,
    /// What is no DNS message although it came where only DNS should.
    pub dns_refused: Counters<DnsRefusal>,
}

impl L7Counts {
    /// Adds the counts of another.
    pub fn merge(&mut self, other: &L7Counts) {
        self.dns_whole += other.dns_whole;
        self.dns_partial += other.dns_partial;
        self.dns_refused.merge(&other.dns_refused);
    }
}

/// A message as a protocol sees it.
struct Look<'a> {
    packet: &'a Packet<'a>,
    bytes: &'a [u8],
    seq: u32,
    complete: bool,
    dir: Dir,
}

impl Look<'_> {
    fn is_tcp(&self) -> bool {
        self.packet.key.proto() == Proto::TCP
    }

    fn is_udp(&self) -> bool {
        self.packet.key.proto() == Proto::UDP
    }

    /// Tells whether one of the two ports is `port`.
    fn has_port(&self, port: u16) -> bool {
        let key = &self.packet.key;
        key.port_or_zero(End::Low) == port || key.port_or_zero(End::High) == port
    }

    /// Tells whether it was sent to a multicast address or to 255.255.255.255, which is nobody's client.
    fn is_to_group(&self) -> bool {
        let key = &self.packet.key;
        match key.words(self.packet.sender.other()).to_ip(key.ip_version()) {
            std::net::IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
            std::net::IpAddr::V6(addr) => addr.is_multicast(),
        }
    }
}

/// What a message showed.
#[derive(Default)]
struct Sight {
    /// The protocol, if it is certain.
    app: Option<App>,
    /// The direction in which the client sends.
    client: Option<Dir>,
    /// There is nothing left to look for.
    finished: bool,
}

impl Sight {
    fn of(app: App, client: Option<Dir>) -> Sight {
        Sight { app: Some(app), client, finished: false }
    }
}

/// What a probe found: the protocol, and a state if one must be kept.
struct Claim<P> {
    sight: Sight,
    state: Option<P>,
}

impl<P> Claim<P> {
    /// Claims a conversation of which nothing needs to be kept.
    fn settled(app: App, client: Option<Dir>) -> Option<Claim<P>> {
        Some(Claim { sight: Sight::of(app, client), state: None })
    }
}

/// A protocol: how it is recognised, and what is kept of a conversation in it.
trait Protocol: Sized {
    /// Tells whether this message begins, or may begin, a conversation in this protocol.
    ///
    /// A claim without an `app` keeps the state but lets the other protocols have a look.
    fn probe(look: &Look<'_>, counts: &mut L7Counts) -> Option<Claim<Self>>;

    /// Reads a further message.
    fn read(&mut self, _look: &Look<'_>, _counts: &mut L7Counts) -> Sight {
        Sight { finished: true, ..Sight::default() }
    }

    /// Swaps the directions.
    fn turn(&mut self) {}

    /// Takes out what belongs to the slice that ends now.
    fn finish(&mut self, _last: bool, _facts: &mut L7Facts) {}

    /// Returns how many bytes it holds outside itself.
    fn heap_bytes(&self) -> usize {
        0
    }
}

macro_rules! protocols {
    ($($name:ident: $protocol:ty,)+) => {
        #[derive(Debug)]
        enum State { $($name($protocol),)+ }

        impl State {
            fn read(&mut self, look: &Look<'_>, counts: &mut L7Counts) -> Sight {
                match self { $(State::$name(state) => state.read(look, counts),)+ }
            }

            fn turn(&mut self) {
                match self { $(State::$name(state) => state.turn(),)+ }
            }

            fn finish(&mut self, last: bool, facts: &mut L7Facts) {
                match self { $(State::$name(state) => state.finish(last, facts),)+ }
            }

            fn heap_bytes(&self) -> usize {
                match self { $(State::$name(state) => state.heap_bytes(),)+ }
            }
        }

        impl Conversation {
            /// Asks the protocols one after the other, until one is certain.
            fn probe(&mut self, look: &Look<'_>, counts: &mut L7Counts) -> Option<Dir> {
                $(
                    let held = matches!(self.state.as_deref(), Some(State::$name(_)));
                    if !held && let Some(claim) = <$protocol>::probe(look, counts) {
                        self.state = claim.state.map(|state| Box::new(State::$name(state)));
                        self.app = claim.sight.app;
                        if self.app.is_some() {
                            return claim.sight.client;
                        }
                    }
                )+
                None
            }
        }
    };
}

protocols! {
    Dns: dns::Dns,
    Tls: tls::Tls,
    Http: http::Http,
    Quic: quic::Quic,
    Ssh: ssh::Ssh,
    Dtls: dtls::Dtls,
    Dhcp: dhcp::Dhcp,
    Mqtt: mqtt::Mqtt,
    Sip: sip::Sip,
    Smb: smb::Smb,
    Smtp: smtp::Smtp,
    Ssdp: ssdp::Ssdp,
    Roce: roce::Roce,
}
