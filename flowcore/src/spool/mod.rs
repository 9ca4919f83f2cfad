//! Lines that wait on disk for a server.
//!
//! One process writes ([`Spool`]), another reads ([`Backlog`]), and they share nothing but a folder:
//!
//! - `00000000000000000000.spool`, …: **segments**, named by the first `seq` in them. A segment is a row of frames and
//!   nothing else; a frame is a header of fixed size and whole lines, compressed, each with a checksum of its own.
//! - `head`: the writer's lock, the instance, and how far numbers are reserved. On the disk before a number is used:
//!   the only thing that has to be. What else reaches it, in the order in which it was written, is a matter of
//!   [`SyncPolicy`]; what is missing after a loss of power is a gap, wherever it stood.
//! - `mark`: how far numbers are written and how far segments were deleted for room. Of use while the machine runs.
//! - `cursor`: the reader's lock, and the first number that is not done.
//!
//! Every record gets the next number. A number is never given to another record, whatever was lost: after a kill the
//! mark says how far they were used, after a loss of power the reservation does. What is missing, for whichever
//! reason, is put out as a gap line in its place:
//!
//! ```json
//! {"type":"gap","timestamp":"2023-11-14T22:13:20.000000000Z","instance":"00c0ffee00c0ffee","reason":"spool_full","records":7,"first_seq":3,"last_seq":9}
//! ```
//!
//! What is written is delivered at least once: between a batch being sent and being [done](Backlog::done) a reader may
//! be killed, and the next one sends it again, with the same numbers.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod backlog;
mod frame;
mod gap;
mod numbers;
mod recover;
mod segment;
mod slots;
mod stamp;
mod store;
mod syncer;
mod waiting;
mod writer;

use std::time::Duration;

pub use backlog::{Backlog, Batch};
pub use gap::GapReason;
pub use writer::{MIN_BYTES, Spool, SpoolCounts};

/// How a [`Spool`] is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpoolOptions {
    /// Bytes that all segments together may take on disk, at least 64 KiB; the oldest ones go first.
    pub max_bytes: u64,
    /// When the disk is made to write.
    pub sync: SyncPolicy,
    /// Records come whether they can be written or not, so that nobody waits for a disk: a thread of the spool's own
    /// does, except with [`SyncPolicy::Always`] and at the end.
    pub live: bool,
}

/// When the disk has to have what was written. Written `always`, `500ms` or another time, `off`.
///
/// It matters when the machine loses its power; what a killed program had written is in the kernel's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncPolicy {
    /// Before a flush returns.
    Always,
    /// So long after it was written, in live capture; by another thread.
    Every(Duration),
    /// When the system likes.
    Off,
}

impl Default for SpoolOptions {
    /// 2 GB, and the default of [`SyncPolicy`].
    fn default() -> Self {
        SpoolOptions { max_bytes: 2_000_000_000, sync: SyncPolicy::default(), live: false }
    }
}

impl Default for SyncPolicy {
    /// Once in 500 ms.
    fn default() -> Self {
        SyncPolicy::Every(Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests;
