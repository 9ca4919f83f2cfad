//! The loop: batches from the backlog to the server, until it has them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::counters::ShipCounters;
use super::options::ShipOptions;
use super::patience::Patience;
use super::syslog::time_of_day;
use super::{Backlog, Batch, SendError, Sender, Sent};
use crate::stop::Stop;

/// Sends what waits in a backlog, in order, until it is asked to stop.
pub struct Shipper<B> {
    backlog: B,
    sender: Box<dyn Sender>,
    options: ShipOptions,
    counters: Arc<ShipCounters>,
    log: Log,
    trouble: Option<Trouble>,
    /// What the backlog failed with, as long as it does.
    backlog_said: String,
    /// Batches that were sent and are not done, without their lines.
    sent: VecDeque<Batch>,
}

/// How grave a message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Records are lost, or will not be taken before somebody mends something.
    Error,
    /// Something failed that will be tried again.
    Warn,
    /// It goes on as it should.
    Info,
}

/// Where messages go.
type Log = Box<dyn Fn(Level, &str) + Send>;

/// Tries that failed since the last success.
struct Trouble {
    since: Instant,
    tries: u64,
    waits: ExponentialBackoff,
    said: String,
}

/// Lines that wait for more.
struct Held {
    since: Instant,
    batch: Batch,
}

/// What became of a part of a batch.
enum Outcome {
    Done,
    Cut(Batch, Batch),
    Stopped,
}

impl<B: Backlog> Shipper<B> {
    /// Makes one that says nothing in a log.
    pub fn new(backlog: B, sender: Box<dyn Sender>, options: ShipOptions) -> Self {
        Shipper {
            backlog,
            sender,
            options,
            counters: Arc::default(),
            log: Box::new(|_, _| {}),
            trouble: None,
            backlog_said: String::new(),
            sent: VecDeque::new(),
        }
    }

    /// Gives its messages to `log`: one when the server fails and whenever it fails otherwise, one when it is back, and
    /// one for all records set aside.
    pub fn log(mut self, log: impl Fn(Level, &str) + Send + 'static) -> Self {
        self.log = Box::new(log);
        self
    }

    /// Returns the counters, which can be read while it runs.
    pub fn counters(&self) -> Arc<ShipCounters> {
        Arc::clone(&self.counters)
    }

    /// Sends until it is asked to stop, then what still waits, as long as the server takes it and for no longer than
    /// `drain` of the options. A wait ends at once and a silent server is left after 0.6 s. What was not taken, or may
    /// not have been, is not done in the backlog.
    ///
    /// # Errors
    /// That of a backlog that has to be opened anew.
    pub fn run(mut self, stop: &Stop) -> io::Result<()> {
        let outcome = self.send(stop);
        self.sender.finish();
        self.settle();
        outcome
    }

    fn send(&mut self, stop: &Stop) -> io::Result<()> {
        let patience = Patience::new(stop.clone(), self.options.drain);
        let mut held: Option<Held> = None;
        while !patience.is_over() {
            self.settle();
            let stopping = patience.stopped().is_some();
            let more = match self.next(held.as_ref()) {
                Ok(more) => {
                    self.backlog_said.clear();
                    more
                }
                Err(gone) if gone.kind() == io::ErrorKind::NotFound && held.is_none() && !stopping => {
                    return Err(gone);
                }
                Err(error) => {
                    self.backlog_failed(&error);
                    if !patience.sleep(IDLE * 10) {
                        break;
                    }
                    None
                }
            };
            if stopping && more.is_none() && held.is_none() {
                break;
            }
            let Some(batch) = self.due(&mut held, more, stopping) else {
                patience.sleep(IDLE);
                continue;
            };
            if !self.ship(&batch, &patience) {
                break;
            }
            self.sent.push_back(Batch { lines: Vec::new(), ..batch });
        }
        Ok(())
    }

    /// Notes in the backlog what the server surely has.
    fn settle(&mut self) {
        let in_doubt = self.sender.in_doubt();
        let is_done = |batch: &Batch| in_doubt.is_none_or(|first| batch.last_seq < first);
        let settled = self.sent.iter().take_while(|batch| is_done(batch)).count();
        if let Some(last) = settled.checked_sub(1).and_then(|last| self.sent.get(last)) {
            match self.backlog.done(last) {
                Ok(()) => _ = self.sent.drain(..settled),
                Err(error) => self.backlog_failed(&error),
            }
        }
    }

    /// Takes what would still fit beside what is held.
    fn next(&mut self, held: Option<&Held>) -> io::Result<Option<Batch>> {
        let limits = self.options.batch;
        let (lines, bytes) = held.map_or((0, 0), |held| (held.batch.count(), held.batch.lines.len()));
        let records = limits.records.saturating_sub(lines).max(1);
        self.backlog.next_batch(records, limits.bytes.saturating_sub(bytes).max(1))
    }

    /// Puts more beside what is held, and returns what has to be sent now: what is full, or old enough, or has no room
    /// for what comes next.
    fn due(&self, held: &mut Option<Held>, more: Option<Batch>, stopping: bool) -> Option<Batch> {
        let limits = self.options.batch;
        if let Some(more) = more {
            match held {
                Some(held) if held.batch.lines.len() + more.lines.len() <= limits.bytes => {
                    held.batch.append(more)
                }
                _ => {
                    let before = held.replace(Held { since: Instant::now(), batch: more });
                    if let Some(before) = before {
                        return Some(before.batch);
                    }
                }
            }
        }
        let due = held.take_if(|held| {
            let is_full = held.batch.count() >= limits.records || held.batch.lines.len() >= limits.bytes;
            is_full || stopping || held.since.elapsed() >= limits.time
        });
        due.map(|held| held.batch)
    }

    /// Sends a batch until the server has it or it is set aside; returns false if it was left because of a stop.
    fn ship(&mut self, batch: &Batch, patience: &Patience) -> bool {
        let mut parts = vec![batch.clone()];
        let mut tries = 0;
        let mut cuts = MOST_CUTS;
        while let Some(part) = parts.pop() {
            match self.ship_part(&part, &mut tries, &mut cuts, patience) {
                Outcome::Done => {}
                Outcome::Cut(first, second) => {
                    parts.push(second);
                    parts.push(first);
                }
                Outcome::Stopped => return false,
            }
        }
        true
    }

    /// Sends a part of a batch. `tries` are those that the whole has had, `cuts` those that it may still have.
    fn ship_part(&mut self, part: &Batch, tries: &mut u32, cuts: &mut u32, patience: &Patience) -> Outcome {
        loop {
            let error = match self.sender.send(part) {
                Ok(sent) => {
                    self.taken(part, sent);
                    return Outcome::Done;
                }
                Err(error) => error,
            };
            // The stop may be what ended it; if not, why it is left now is worth a line.
            if patience.stopped().is_some() {
                self.leave(&error);
                return Outcome::Stopped;
            }
            self.counters.failed(&error.to_string());
            match &error {
                SendError::Retry { .. } | SendError::Settings(_) => {}
                SendError::TooLarge(what) => match part.halves() {
                    Some((first, second)) => return Outcome::Cut(first, second),
                    None => return self.set_aside(part, what, patience),
                },
                SendError::Refused(what) => {
                    *tries += 1;
                    if *tries >= self.options.tries {
                        match part.halves().filter(|_| *cuts > 0) {
                            Some((first, second)) => {
                                *cuts -= 1;
                                return Outcome::Cut(first, second);
                            }
                            None => return self.set_aside(part, what, patience),
                        }
                    }
                }
            }
            let wait = self.fail(&error);
            if !patience.sleep(wait) {
                return Outcome::Stopped;
            }
        }
    }

    fn taken(&mut self, part: &Batch, sent: Sent) {
        self.counters.sent(part.records.saturating_sub(sent.refused), sent.bytes);
        if sent.refused > 0 {
            self.counters.refused(sent.refused);
            let what = format!("{} of the records {} are too long for a datagram", sent.refused, span(part));
            self.counters.failed(&what);
            (self.log)(Level::Error, &what);
        }
        if let Some(trouble) = self.trouble.take() {
            let (tries, since) = (trouble.tries, trouble.since.elapsed());
            (self.log)(
                Level::Info,
                &format!("the server takes records again, after {tries} tries in {since:.1?}"),
            );
        }
    }

    /// Counts a failure, says it if it is news, and returns how long to wait.
    fn fail(&mut self, error: &SendError) -> Duration {
        self.counters.retried();
        let options = &self.options;
        let what = error.to_string();
        let (level, after) = match error {
            SendError::Settings(_) => (Level::Error, None),
            SendError::Retry { after, .. } => (Level::Warn, *after),
            _ => (Level::Warn, None),
        };
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            since: Instant::now(),
            tries: 0,
            waits: waits(options),
            said: String::new(),
        });
        trouble.tries += 1;
        if trouble.said != what {
            (self.log)(level, &format!("{what}; trying again"));
            trouble.said = what;
        }
        let wait = trouble.waits.next().unwrap_or(options.longest_wait).min(options.longest_wait);
        after.map_or(wait, |after| after.min(options.longest_retry_after).max(options.first_wait))
    }

    /// Says why what waits is left after a request to stop, if that is news.
    fn leave(&mut self, error: &SendError) {
        let what = error.to_string();
        self.counters.failed(&what);
        if self.trouble.as_ref().is_none_or(|trouble| trouble.said != what) {
            (self.log)(Level::Warn, &what);
        }
    }

    /// Gives up records that the server will never take. A record of type `gap` tells it which, as soon as it can be
    /// reached; if it does not take that either, the log and the numbers tell.
    ///
    /// The next waits go on from where they were: a server that refuses everything is not fed the whole backlog at speed.
    fn set_aside(&mut self, part: &Batch, what: &str, patience: &Patience) -> Outcome {
        self.counters.refused(part.records);
        (self.log)(Level::Error, &format!("the server does not take the records {}: {what}", span(part)));
        if part.records == 0 {
            return Outcome::Done;
        }
        let gap = gap(part);
        loop {
            let error = match self.sender.send(&gap) {
                Ok(sent) => {
                    self.counters.sent(0, sent.bytes);
                    return Outcome::Done;
                }
                Err(SendError::Refused(_) | SendError::TooLarge(_)) => return Outcome::Done,
                Err(error) => error,
            };
            // The records are refused anew, and counted anew, by the next run.
            if patience.stopped().is_some() {
                self.leave(&error);
                return Outcome::Stopped;
            }
            self.counters.failed(&error.to_string());
            let wait = self.fail(&error);
            if !patience.sleep(wait) {
                return Outcome::Stopped;
            }
        }
    }

    /// Counts a failure of the backlog, and says it if it is news.
    fn backlog_failed(&mut self, error: &io::Error) {
        let what = format!("the spool: {error}");
        self.counters.failed(&what);
        if self.backlog_said != what {
            (self.log)(Level::Error, &what);
            self.backlog_said = what;
        }
    }
}

impl<B: fmt::Debug> fmt::Debug for Shipper<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shipper").field("backlog", &self.backlog).field("options", &self.options).finish()
    }
}

/// Waits that double, each with up to as much again by chance, so that many sensors do not come back together.
fn waits(options: &ShipOptions) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(options.first_wait)
        .with_max_delay(options.longest_wait / 2)
        .without_max_times()
        .with_jitter()
        .build()
}

fn span(part: &Batch) -> String {
    format!("{} to {} ({})", part.first_seq, part.last_seq, part.records)
}

/// The record that stands for those set aside.
fn gap(part: &Batch) -> Batch {
    let time = time_of_day();
    let instance =
        part.instance().map(|instance| format!(",\"instance\":\"{instance}\"")).unwrap_or_default();
    let (first, last, records) = (part.first_seq, part.last_seq, part.records);
    let line = format!(
        "{{\"type\":\"gap\",\"timestamp\":\"{time}\"{instance},\"reason\":\"refused\",\"records\":{records},\
         \"first_seq\":{first},\"last_seq\":{last}}}\n"
    );
    Batch { first_seq: first, last_seq: last, records: 0, gaps: 1, lines: line.into_bytes() }
}

/// How often an empty backlog is looked at.
const IDLE: Duration = Duration::from_millis(100);
/// How often a refused batch is cut in two to find what is bad in it.
const MOST_CUTS: u32 = 32;
