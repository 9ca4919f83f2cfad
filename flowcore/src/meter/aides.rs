//! Processes that work beside a meter, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which of the processes that work beside a meter are missing, and how often they were started again.
///
/// Who looks after the processes says so here; the meter shows it in its stats records. Clones are of the same
/// processes.
#[derive(Clone, Debug, Default)]
pub struct Aides(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    missing: BTreeSet<String>,
    restarts: BTreeMap<&'static str, u64>,
}

impl Aides {
    /// Makes one that knows of none.
    pub fn new() -> Self {
        Aides::default()
    }

    /// Takes note that a process is missing.
    pub fn is_missing(&self, who: &str) {
        self.inside().missing.insert(who.to_owned());
    }

    /// Takes note that it is there again.
    pub fn is_back(&self, who: &str) {
        self.inside().missing.remove(who);
    }

    /// Counts that one was started again; it stands in stats records under what it does.
    pub fn started_again(&self, does: &'static str) {
        *self.inside().restarts.entry(does).or_default() += 1;
    }

    /// Returns those that are missing.
    pub fn missing(&self) -> Vec<String> {
        self.inside().missing.iter().cloned().collect()
    }

    pub(super) fn restarts(&self) -> BTreeMap<&'static str, u64> {
        self.inside().restarts.clone()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
