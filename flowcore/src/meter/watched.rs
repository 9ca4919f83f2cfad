//! What a running meter counts, seen from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::record::StatsRecord;

/// A view of a running [`Meter`](super::Meter): its counters, a second old at most while it is well.
///
/// Clones see the same meter. The meter never waits for who looks.
#[derive(Clone, Debug, Default)]
pub struct Watched(Arc<Inside>);

#[derive(Debug, Default)]
struct Inside {
    latest: Mutex<Option<(Instant, StatsRecord)>>,
    wants_record: AtomicBool,
}

impl Watched {
    /// Makes a view of no meter yet.
    pub fn new() -> Self {
        Watched::default()
    }

    /// Returns the latest counters and when they were put together; none before the first second has gone by.
    pub fn latest(&self) -> Option<(Instant, StatsRecord)> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the meter to write a stats record now, besides those that are due by their interval.
    pub fn request_record(&self) {
        self.0.wants_record.store(true, Ordering::Relaxed);
    }

    /// Tells whether a record was asked for since the last call.
    pub(super) fn takes_request(&self) -> bool {
        self.0.wants_record.load(Ordering::Relaxed) && self.0.wants_record.swap(false, Ordering::Relaxed)
    }

    pub(super) fn show(&self, stats: &StatsRecord) {
        let mut latest = self.0.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = Some((Instant::now(), stats.clone()));
    }
}
