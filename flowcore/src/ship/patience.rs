//! Waiting that ends in time when the program is asked to stop.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::stop::Stop;

/// How long whatever waits may go on waiting.
///
/// Nothing here blocks for longer than [`SLICE`]: between two slices the request to stop is looked at. After it, a
/// server that is silent for [`SILENCE`] is given up, and one that answers is until the time to drain is over.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    stop: Stop,
    stopped: Arc<OnceLock<Instant>>,
    drain: Duration,
}

impl Patience {
    pub(super) fn new(stop: Stop, drain: Duration) -> Self {
        Patience { stop, stopped: Arc::new(OnceLock::new()), drain }
    }

    /// Returns when the request to stop was first noticed.
    pub(super) fn stopped(&self) -> Option<Instant> {
        self.stop.is_requested().then(|| *self.stopped.get_or_init(Instant::now))
    }

    /// Tells whether the time to drain is over.
    pub(super) fn is_over(&self) -> bool {
        self.stop.is_leaving() || self.stopped().is_some_and(|since| since.elapsed() >= self.drain)
    }

    /// Returns how long the next wait of something may last that has been silent since `since` and may be until
    /// `limit`.
    ///
    /// # Errors
    /// `TimedOut` once `limit` is reached; after a request to stop, an error that says so.
    pub(super) fn slice(&self, since: Instant, limit: Instant) -> io::Result<Duration> {
        if let Some(stopped) = self.stopped()
            && (stopped.max(since).elapsed() >= SILENCE || self.is_over())
        {
            return Err(io::Error::other("the server was silent at the end"));
        }
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
        }
        // A socket takes a timeout of 0 for none at all.
        Ok(left.min(SLICE).max(Duration::from_millis(1)))
    }

    /// Sleeps, and returns false if it was woken by the request to stop.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.stopped().is_some() {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(SLICE));
        }
    }
}

/// The longest that anything blocks.
const SLICE: Duration = Duration::from_millis(100);
/// After a request to stop, how long a server may be silent.
const SILENCE: Duration = Duration::from_millis(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_limit_or_soon_after_a_stop() {
        let stop = Stop::new();
        let patience = Patience::new(stop.clone(), Duration::from_secs(5));
        let now = Instant::now();
        assert_eq!(patience.slice(now, now).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let far = now + Duration::from_secs(100);
        assert_eq!(patience.slice(now, far).unwrap(), SLICE);
        stop.request();
        assert!(!patience.sleep(Duration::from_secs(100)));
        assert_eq!(patience.slice(now, far).unwrap(), SLICE);
        thread::sleep(SILENCE);
        assert!(patience.slice(now, far).is_err());
        // What still goes may go on.
        assert!(patience.slice(Instant::now(), far).is_ok());
        assert!(!patience.is_over());
        stop.leave();
        assert!(patience.is_over() && patience.slice(Instant::now(), far).is_err());
    }
}
