//! Linux: processes and sockets as the kernel tells of them.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

#[cfg(fuzzing)]
pub mod answers;
mod container;
mod counters;
mod descriptors;
mod destroyed;
mod diag;
mod diag_message;
mod exec;
mod hints;
mod holders;
mod listing;
mod namespace;
mod netlink;
mod newcomers;
mod numbers;
mod owners;
mod processes;
mod rdma;
mod routes;
mod sockets;
mod text;
mod users;

pub use counters::network_stats;
pub use destroyed::{Destroyed, DestroyedSockets, TcpCounters};
pub use diag::KernelSockets;
pub use exec::{ProcessEvent, ProcessEvents};
pub use namespace::NetNamespace;
pub use owners::{OwnerCounts, Processes};
pub use processes::Places;
pub use rdma::{QueuePair, queue_pairs};
pub use routes::routes;
pub use sockets::MachineSockets;
pub use text::TextSockets;
