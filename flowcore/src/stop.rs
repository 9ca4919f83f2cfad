//! A request to stop, shared between threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks what runs to stop: a [`Meter`](crate::Meter), a shipper; can be cloned and sent to another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Makes one that asks for nothing yet.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Asks to stop: a meter reads no further and writes every open flow.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Tells whether it was asked to stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
