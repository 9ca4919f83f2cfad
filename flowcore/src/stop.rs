//! A request to stop, shared between threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Asks what runs to stop: a [`Meter`](crate::Meter), a shipper; can be cloned and sent to another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Makes one that asks for nothing yet.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Asks to stop: a meter reads no further and writes every open flow.
    pub fn request(&self) {
        self.0.fetch_max(REQUESTED, Ordering::Relaxed);
    }

    /// Asks to stop, and a shipper to leave what still waits.
    pub fn leave(&self) {
        self.0.fetch_max(LEAVING, Ordering::Relaxed);
    }

    /// Tells whether it was asked to stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= REQUESTED
    }

    /// Tells whether what still waits is to be left.
    pub fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LEAVING
    }
}

const REQUESTED: u8 = 1;
const LEAVING: u8 = 2;
