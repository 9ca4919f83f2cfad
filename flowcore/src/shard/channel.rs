//! The threads, the channels between them and what else they share: for tests of every interleaving they are those of a
//! model.

#[cfg(feature = "__interleaved")]
mod modelled;

use std::io;

#[cfg(not(feature = "__interleaved"))]
pub(super) use crossbeam_channel::{Receiver, Sender, bounded};
pub(super) use crossbeam_channel::{RecvTimeoutError, TryRecvError, TrySendError};
#[cfg(feature = "__interleaved")]
pub(super) use loom::sync::atomic::AtomicBool;
#[cfg(feature = "__interleaved")]
pub use loom::thread::{Builder, JoinHandle};
#[cfg(feature = "__interleaved")]
pub(super) use modelled::{Receiver, Sender, bounded};
#[cfg(not(feature = "__interleaved"))]
pub(super) use std::sync::atomic::AtomicBool;
#[cfg(not(feature = "__interleaved"))]
pub use std::thread::{Builder, JoinHandle};

/// Starts a thread.
pub(super) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(work)
}
