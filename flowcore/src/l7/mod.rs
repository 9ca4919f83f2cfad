//! Facts from payload, one file per protocol.
#![forbid(unsafe_code)]

use serde::{Serialize, Serializer};

use crate::key::Dir;
use crate::packet::Packet;

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
    /// QUIC (RFC 9000).
    Quic = "quic",
    /// HTTP/1 (RFC 9112), and HTTP/2 by its preface.
    Http = "http",
    /// SSH (RFC 4253).
    Ssh = "ssh",
}

impl Serialize for App {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What the protocol parsers keep of one flow.
#[derive(Default, Debug)]
pub struct Conversation {}

impl Conversation {
    /// Reads a packet's message; returns the direction of the client where this packet shows it.
    #[inline]
    pub fn read(&mut self, _packet: &Packet<'_>, _dir: Dir, _counts: &mut L7Counts) -> Option<Dir> {
        None
    }

    /// Returns the protocol, once it is known.
    pub fn app(&self) -> Option<App> {
        None
    }

    /// Swaps the directions.
    pub fn turn(&mut self) {}

    /// Takes out what the slice that ends now has to say; `last` says that no slice follows.
    pub fn finish(&mut self, _last: bool) -> Option<Box<L7Facts>> {
        None
    }

    /// Returns how many bytes are held outside.
    pub fn heap_bytes(&self) -> usize {
        0
    }
}

/// What the parsers say in a flow record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct L7Facts {
    /// DNS transactions, in the order of their first message; at most 16.
    pub dns: Vec<Transaction>,
    /// There were more than fit.
    pub dns_truncated: bool,
}

/// A DNS question with what answered it (record.md, field `dns`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transaction {
    /// The message id.
    pub id: u16,
    /// The name asked for, in the notation of definitions.md ("DNS").
    pub query: String,
}

/// How many messages were read, and how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L7Counts {}
