//! Turns raw packets into flow records.
//!
//! One way leads through the house, and imports only go down it:
//!
//! - **Words**: [`time`], [`key`], [`field`], [`error`] and [`stop`] are what everything else is said in. A
//!   [`FiveTuple`](key::FiveTuple) is directed, a [`FlowKey`](key::FlowKey) is not.
//! - **[`packet`]**: a [`Frame`](packet::Frame) as it was captured, and the [`Packet`](packet::Packet) that
//!   decoding makes of it.
//! - **Rooms that do not know each other**: [`capture`] is where frames come from, [`decode`] makes packets of
//!   them, [`feature`] holds the per-flow numbers, [`l7`] reads payloads, [`host`] asks the machine for its sockets
//!   and for the processes that own them, [`spool`] keeps lines on disk until a server has taken them.
//! - **[`record`]**: what comes out, with the name, type and unit of every field.
//! - **[`table`]**: the heart. A [`FlowTable`](table::FlowTable) takes packets and returns records; it has no
//!   threads and no clock, and is told the time by the packets.
//! - **[`watch`]**: beside it, sockets and connections followed: what changed between two snapshots, what differs from
//!   a baseline, which connections were opened, closed and refused.
//! - **[`filter`]** says which records pass.
//! - **`ship`** (feature `ship`): what waits in a backlog, sent to a server until the server has it.
//! - **[`shard`]** runs tables in threads and merges their records into one order; **[`enrich`]** names the processes at
//!   the ends of their flows, by the sockets of the machine or of a recording; **[`sink`]** writes them.
//! - **[`meter`]** wires all of it together.
//!
//! There are two ways in. [`FlowTable`](table::FlowTable), fed by hand, gives all control
//! (`examples/by_hand.rs`). [`Meter`] runs the whole:
//!
//! ```
//! use flowcore::capture::FileSource;
//! use flowcore::sink::{self, Existing, Format};
//! use flowcore::{Meter, Stop};
//!
//! # fn main() -> Result<(), flowcore::Error> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/captures/http.pcap");
//! let out = sink::open("-", Format::Jsonl, None, &Existing::Refuse.into())?;
//! let meter = Meter::builder().sink("-", out).build()?;
//! let summary = meter.run(Box::new(FileSource::open(&[path])?), &Stop::new());
//! assert_eq!(summary.stats.packets, summary.stats.flow_packets + summary.stats.dropped.values().sum::<u64>());
//! # Ok(())
//! # }
//! ```
//!
//! The library never prints, and reads no environment and no configuration file.

pub mod capture;
pub mod decode;
pub mod enrich;
pub mod error;
pub mod feature;
pub mod field;
pub mod filter;
pub mod host;
pub mod key;
pub mod l7;
pub mod meter;
pub mod packet;
pub mod record;
pub mod shard;
#[cfg(feature = "ship")]
pub mod ship;
pub mod sink;
pub mod spool;
pub mod stop;
pub mod table;
pub mod time;
pub mod watch;

pub use error::Error;
pub use meter::{Meter, Stop};
