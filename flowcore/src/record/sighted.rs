//! A socket that was looked up or seen, for a flow: what `--write-sockets` keeps and `--sockets` brings back.

use crate::error::reasons;
use crate::host::Owner;
use crate::key::{Endpoint, Proto};
use crate::time::Timestamp;

/// A socket as it answers for a tuple, from when to when, and who owned it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SightedSocket {
    /// The inode of its network namespace; 0 for the one that flows were seen in.
    pub netns: u64,
    /// TCP, UDP or UDP-Lite.
    pub proto: Proto,
    /// The end on this machine; IPv4-mapped addresses stand as IPv4.
    pub local: Endpoint,
    /// The other end; none for a socket that has none and was not asked for one.
    pub remote: Option<Endpoint>,
    /// What the socket is to the tuple.
    pub is: SightedAs,
    /// The kernel's number of the socket, or its inode where the kernel gives none.
    pub cookie: u64,
    /// The time of the packet for which it was looked up; none where it was only seen.
    pub asked: Option<Timestamp>,
    /// When the answer came; none where it was only seen.
    pub answered: Option<Timestamp>,
    /// The first time at which it was known to be there.
    pub valid_from: Timestamp,
    /// The last time at which it was known to be there.
    pub seen: Timestamp,
    /// When it was gone; none where it was still there at last.
    pub valid_to: Option<Timestamp>,
    /// Who owned it; none where it was gone before anybody asked.
    pub owner: Option<Owner>,
}

reasons! {
    /// What a socket is to a tuple.
    SightedAs {
        /// The connection's own, seen as it was opened.
        Event = "event",
        /// The connection's own.
        Exact = "exact",
        /// An unconnected UDP socket that gets its datagrams.
        Local = "local",
        /// The listening socket that gets its connection.
        Listener = "listener",
    }
}
