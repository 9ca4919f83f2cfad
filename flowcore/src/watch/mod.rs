//! Snapshots of sockets and connections, watched: what changed, which processes own what, and what was not to be expected.
//!
//! Nothing here asks the machine or reads a clock: it works on records, on packets, on what the kernel said, and on the
//! time it is told.
#![forbid(unsafe_code)]

mod allow;
mod baseline;
mod changes;
mod connections;
mod filter;
mod kernel_events;
mod role;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod scene;
mod sentence;

pub use allow::Allow;
pub use baseline::{Alarm, Baseline, Difference};
pub use changes::{Changes, Processes, between, last_snapshot};
pub use connections::{ConnectionCounts, ConnectionEvent, ConnectionOptions, Connections, Happened, Source};
pub use filter::SocketFilter;
pub use kernel_events::{Counted, Gone, KernelEvents};
pub use role::{AddressClass, Role};
