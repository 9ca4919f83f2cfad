//! Where frames come from: capture files of every kind, and live interfaces.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

#[cfg(feature = "live")]
mod bpf;
mod bytes;
mod file;
#[cfg(feature = "live")]
mod filter;
mod input;
#[cfg(feature = "live")]
mod interfaces;
#[cfg(feature = "live")]
mod link;
#[cfg(feature = "live")]
mod live;
mod pcap_file;
mod pcapng;
#[cfg(feature = "live")]
mod tap;
#[cfg(test)]
mod tests;
mod unpack;
mod window;

pub use file::FileSource;
#[cfg(feature = "live")]
pub use filter::check_filter;
#[cfg(feature = "live")]
pub use interfaces::{Interface, interfaces};
#[cfg(feature = "live")]
pub use live::{LiveOptions, LiveSource};
#[cfg(feature = "live")]
pub use tap::tap;

use std::time::Duration;

use crate::error::Error;
use crate::packet::Frame;

/// What a [`Source`] has to give.
#[derive(Debug)]
pub enum Next<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Nothing came within the time that was allowed, or much was read that holds no packet; more may come.
    Idle,
    /// The input is at its end.
    End,
}

/// A place where frames come from.
pub trait Source: Send {
    /// Returns the next frame; waits for it no longer than `patience`.
    ///
    /// A source that never has to wait (a regular file, unlike a pipe) ignores `patience`. After an [`Error::Damaged`] the next
    /// call goes on with the next input, if there is one.
    ///
    /// # Errors
    /// When the input is damaged or its device fails; every frame before that was returned.
    fn next(&mut self, patience: Duration) -> Result<Next<'_>, Error>;

    /// Returns what the source counted so far.
    fn counts(&mut self) -> SourceCounts;

    /// Returns the interfaces that are gone.
    fn missing(&self) -> Vec<String> {
        Vec::new()
    }

    /// Tells whether `next` may have to wait: for an interface or a pipe, but not for a file.
    fn may_wait(&self) -> bool {
        self.is_live()
    }

    /// Tells whether frames come as they happen, so that waiting for a reader would lose some.
    fn is_live(&self) -> bool {
        false
    }
}

/// What a source counted; 64 bit everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Packets that the kernel's filter accepted; live only.
    pub kernel_received: u64,
    /// Packets that the kernel had no room for; live only.
    pub kernel_dropped: u64,
    /// Packets that the interface or its driver dropped; live only.
    pub interface_dropped: u64,
    /// Packets of files that a filter expression did not let through.
    pub filtered: u64,
    /// Times outside what a [`Timestamp`](crate::time::Timestamp) can hold; they were clamped.
    pub times_clamped: u64,
    /// Bytes of the input files read so far, as they lie on disk.
    pub file_bytes: u64,
}
