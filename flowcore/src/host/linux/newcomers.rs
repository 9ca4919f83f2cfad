//! The numbers that were given to processes and threads since all processes were looked at.

use std::time::{Duration, Instant};

use super::descriptors::Glance;

/// Which numbers are new, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    /// All numbers up to this one were looked at.
    looked: Option<u32>,
    /// Processes that began a moment ago, in that order: most of them will run another program and open sockets.
    young: Vec<(u32, Instant)>,
    /// Threads, which show the descriptors of their process, and how they looked.
    threads: Vec<(u32, Glance)>,
}

/// The numbers that are to be looked at.
#[derive(Default)]
pub(super) struct Round {
    /// The number that was given last.
    newest: Option<u32>,
    /// The newest, and who is young.
    pub first: Vec<u32>,
    /// The others that are new: to tell threads from processes takes time, and there may be many.
    pub then: Vec<u32>,
    /// Whether nobody is new beside them.
    pub whole: bool,
}

impl Newcomers {
    /// Takes note that all processes up to a number were looked at.
    pub(super) fn looked(&mut self, newest: Option<u32>) {
        self.looked = newest;
    }

    /// Takes note that all of a round were looked at.
    pub(super) fn end(&mut self, round: &Round) {
        if round.whole {
            self.looked = round.newest;
        }
    }

    /// Returns what came since then, and who is young; `newest` is the number that was given last.
    pub(super) fn round(&mut self, newest: u32) -> Round {
        let new = self.looked.and_then(|looked| newest.checked_sub(looked)).filter(|new| *new <= MANY);
        // A number is given before its process can be seen.
        let count = new.map_or(NEWEST, |new| new.max(AGAIN));
        let first = newest.saturating_sub(count).saturating_add(1);
        self.young.retain(|(_, since)| since.elapsed() < YOUTH);
        self.threads.retain(|(number, _)| (first..=newest).contains(number));
        let young = self.young.iter().rev().map(|(pid, _)| *pid).filter(|pid| *pid < first);
        let early = newest.saturating_sub(EARLY).saturating_add(1).max(first);
        Round {
            newest: Some(newest),
            first: (early..=newest).rev().chain(young).collect(),
            then: (first..early).rev().collect(),
            whole: new.is_some(),
        }
    }

    /// Takes note of a process.
    pub(super) fn add(&mut self, pid: u32) {
        if self.young.iter().all(|(other, _)| *other != pid) {
            if self.young.len() == YOUNG {
                self.young.remove(0);
            }
            self.young.push((pid, Instant::now()));
        }
    }

    /// Takes note that a process is gone.
    pub(super) fn forget(&mut self, pid: u32) {
        self.young.retain(|(other, _)| *other != pid);
    }

    /// Takes note of a thread.
    pub(super) fn add_thread(&mut self, number: u32, glance: Glance) {
        self.threads.retain(|(other, _)| *other != number);
        self.threads.push((number, glance));
    }

    /// Tells whether a number is known to be a thread's.
    pub(super) fn is_thread(&self, number: u32, glance: &Glance) -> bool {
        self.threads.iter().any(|(other, seen)| *other == number && seen.instance == glance.instance)
    }
}

/// So many of the numbers that were given last are looked at again.
const AGAIN: u32 = 2;
/// So many are looked at where it is not known which are new.
const NEWEST: u32 = 8;
/// So many are looked at before those who owned sockets lately.
const EARLY: u32 = 3;
/// Where more numbers are new, it costs less to look at all processes.
const MANY: u32 = 64;
/// For how long a process is young, and how many are.
const YOUTH: Duration = Duration::from_secs(2);
const YOUNG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_number_is_in_a_round() {
        let mut newcomers = Newcomers::default();
        let round = newcomers.round(100);
        assert_eq!(
            (round.whole, round.first, round.then),
            (false, vec![100, 99, 98], vec![97, 96, 95, 94, 93])
        );
        newcomers.looked(Some(100));
        let round = newcomers.round(120);
        assert!(
            round.whole
                && round.first == [120, 119, 118]
                && round.then == (101..=117).rev().collect::<Vec<_>>()
        );
        newcomers.end(&round);
        // One that is young, and one that is new as well.
        newcomers.add(105);
        newcomers.add(120);
        let round = newcomers.round(121);
        assert_eq!((round.whole, round.first, round.then), (true, vec![121, 120, 105], vec![]));
        newcomers.forget(105);
        assert_eq!(newcomers.round(121).first, [121, 120]);
        // Too many, and numbers that began anew.
        assert!(!newcomers.round(1000).whole && !newcomers.round(50).whole);
        (0..100).for_each(|pid| newcomers.add(pid));
        assert_eq!(newcomers.young.len(), YOUNG);
    }

    #[test]
    fn a_thread_is_known_until_its_number_is_given_again() {
        let mut newcomers = Newcomers::default();
        let glance = Glance { instance: (1, 2, 3), ..Glance::default() };
        newcomers.add_thread(7, glance);
        newcomers.round(9);
        assert!(newcomers.is_thread(7, &Glance { open: 5, ..glance }));
        assert!(!newcomers.is_thread(7, &Glance { instance: (2, 2, 3), ..glance }));
        newcomers.round(20);
        assert!(!newcomers.is_thread(7, &glance));
    }
}
