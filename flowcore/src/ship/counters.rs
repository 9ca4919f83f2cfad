//! How it goes, readable from other threads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::syslog::time_of_day;
use crate::time::Timestamp;

/// Counts what a shipper does while it does it.
#[derive(Debug, Default)]
pub struct ShipCounters {
    records: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    refused: AtomicU64,
    failing_since: Mutex<Option<Timestamp>>,
    last_error: Mutex<Option<LastError>>,
}

/// What a shipper has done so far.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ShipCounts {
    /// Records that the server has, each counted once.
    pub records: u64,
    /// Batches, or parts of batches, that were taken.
    pub batches: u64,
    /// Bytes of what was taken, as they were sent: compressed for HTTP, with what was sent again after a reconnection.
    pub bytes: u64,
    /// Tries that failed and were, or will be, made again.
    pub retries: u64,
    /// Records set aside for good, because the server calls them bad or they are too long.
    pub refused: u64,
    /// When the first of the tries failed of which none has gone well since, by the time of day; none while it goes well.
    pub failing_since: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<LastError>,
}

/// Something that went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastError {
    /// When, by the time of day.
    pub time: Timestamp,
    /// What, in one line.
    pub text: String,
}

impl ShipCounters {
    /// Returns what they stand at.
    pub fn read(&self) -> ShipCounts {
        ShipCounts {
            records: self.records.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            failing_since: *self.failing_since.lock().unwrap_or_else(PoisonError::into_inner),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(super) fn sent(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        *self.failing_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn refused(&self, records: u64) {
        self.refused.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        self.failing_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(time_of_day);
    }

    pub(super) fn failed(&self, text: &str) {
        let error = LastError { time: time_of_day(), text: text.to_owned() };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
