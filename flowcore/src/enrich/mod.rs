//! Who owned a flow: an index of sockets by tuple and time, what fills it, and the matching of flows against it.
//!
//! - [`IndexWriter`] writes and [`SocketIndex`] reads: which socket answered for a tuple, from when to when, and whose
//!   it was.
//! - [`Resolver`] asks the machine for one socket and its owner, or for all of them; [`Lookups`] does so in a thread.
//! - [`Attribution`] names the owners of a flow's ends, or says why not. It needs the index only, so that recorded
//!   sockets serve as well as a machine that runs.
//!
//! The rules stand in definitions.md, "Attribution".
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod addresses;
mod attribution;
mod index;
mod lookups;
mod matching;
mod news;
mod resolver;
mod sighting;
#[cfg(test)]
mod tests;

pub use addresses::LocalAddresses;
pub use attribution::Attribution;
pub use index::{IndexLimits, IndexWriter, SocketIndex};
pub use lookups::{LookupOptions, Lookups, Requests, Tap, Tapped};
pub use matching::FlowEnd;
pub use resolver::{Answer, Resolver};
pub use sighting::Tuple;
