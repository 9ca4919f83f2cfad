//! The thread that looks up sockets as they are asked for, and all of them now and then.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::index::SocketIndex;
use super::resolver::{Answer, Resolver};
use crate::error::Error;
use crate::host::{ProcessTable, Query, Socket, SocketTable};
use crate::record::{AttributionStats, SocketNews};
use crate::time::Timestamp;

/// What can be set about lookups.
#[derive(Clone, Debug)]
pub struct LookupOptions {
    /// The most requests that wait; what comes then is dropped and counted.
    pub queue: usize,
    /// How often all sockets are taken in; none for never.
    pub snapshots: Option<Duration>,
}

impl Default for LookupOptions {
    /// 4,096 requests, a snapshot every 5 s.
    fn default() -> Self {
        LookupOptions { queue: 4096, snapshots: Some(Duration::from_secs(5)) }
    }
}

/// A thread that answers requests; it stops when this is dropped.
pub struct Lookups {
    requests: Requests,
    thread: Option<JoinHandle<()>>,
}

/// Packets that open flows, as what asks for lookups: in the very thread that makes them, since many sockets are gone
/// before another one has woken up.
pub trait Tap: Send {
    /// Waits at most so long for a packet, and hands to `ask` what is to be looked up for it, with the packet's time.
    fn wait(&mut self, patience: Duration, ask: &mut dyn FnMut(Query, Timestamp)) -> Tapped;

    /// Returns how many packets it has lost.
    fn lost(&mut self) -> u64;
}

/// What came of waiting for a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tapped {
    /// A packet came, and more may be there.
    Packet,
    /// None came in time.
    Nothing,
    /// No more packets will come.
    End,
}

/// Takes requests for a thread of [`Lookups`]; can be cloned and sent to other threads. Never waits.
#[derive(Clone, Debug)]
pub struct Requests {
    queue: SyncSender<Request>,
    index: SocketIndex,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    lookups: AtomicU64,
    dropped: AtomicU64,
    /// Packets that the tap has lost.
    lost: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug)]
enum Request {
    Find(Query, Timestamp),
    Closed(Box<Socket>, Timestamp),
    Stop,
}

impl Lookups {
    /// Starts the thread; it takes all sockets in before it answers the first request. A tap asks beside what
    /// [`Requests`] ask.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start<S, P>(
        resolver: Resolver<S, P>,
        tap: Option<Box<dyn Tap>>,
        options: LookupOptions,
    ) -> io::Result<Lookups>
    where
        S: SocketTable + 'static,
        P: ProcessTable + 'static,
    {
        let (queue, requests) = mpsc::sync_channel(options.queue);
        let requests_of = Requests { queue, index: resolver.index(), counts: Arc::new(Counts::default()) };
        let counts = requests_of.counts.clone();
        let work = Work {
            resolver,
            tap,
            options,
            requests,
            counts,
            again: Default::default(),
            queue_waits: QUEUE_WAITS,
        };
        let thread = std::thread::Builder::new().name("lookups".into()).spawn(|| work.run())?;
        Ok(Lookups { requests: requests_of, thread: Some(thread) })
    }

    /// Returns where requests go.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Answers what was asked for until now, ends the recording where there is one, and stops.
    ///
    /// # Errors
    /// [`Error::Internal`] where the thread has panicked: what it had not recorded until then is lost.
    pub fn finish(mut self) -> Result<(), Error> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), Error> {
        // The thread is gone already if it has panicked.
        let _ = self.requests.queue.send(Request::Stop);
        let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) else { return Ok(()) };
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(Error::Internal(format!("the thread that looks up sockets broke: {}", text.unwrap_or("a panic"))))
    }
}

impl Drop for Lookups {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl Requests {
    /// Makes what counts for a machine that another process asks; nothing can be asked for here.
    pub fn elsewhere(index: SocketIndex) -> Self {
        Requests { queue: mpsc::sync_channel(0).0, index, counts: Arc::default() }
    }

    /// Takes over what was counted elsewhere.
    pub fn counted(&self, news: &SocketNews) {
        let SocketNews::Counted { lookups, dropped, lost, failed } = news else { return };
        let Counts { lookups: a, dropped: b, lost: c, failed: d } = &*self.counts;
        for (counter, value) in [(a, lookups), (b, dropped), (c, lost), (d, failed)] {
            counter.store(*value, Ordering::Relaxed);
        }
    }

    /// Asks for the socket at one end of a flow; `packet` is the time of the packet that asks.
    pub fn ask(&self, query: Query, packet: Timestamp) {
        if self.queue.try_send(Request::Find(query, packet)).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            self.index.refuse(&query, packet);
        }
    }

    /// Tells that a socket was closed.
    pub fn closed(&self, socket: Socket, at: Timestamp) {
        if self.queue.try_send(Request::Closed(Box::new(socket), at)).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the index that the answers go to.
    pub fn index(&self) -> SocketIndex {
        self.index.clone()
    }

    /// Adds what was counted.
    pub fn count(&self, stats: &mut AttributionStats) {
        stats.lookups += self.counts.lookups.load(Ordering::Relaxed);
        stats.lookups_dropped += self.counts.dropped.load(Ordering::Relaxed);
        stats.tap_dropped += self.counts.lost.load(Ordering::Relaxed);
        stats.lookups_failed += self.counts.failed.load(Ordering::Relaxed);
    }
}

/// What the thread works with.
struct Work<S, P> {
    resolver: Resolver<S, P>,
    tap: Option<Box<dyn Tap>>,
    options: LookupOptions,
    requests: Receiver<Request>,
    counts: Arc<Counts>,
    /// What is to be asked again, by how often it was; each in the order of time.
    again: [VecDeque<Again>; PAUSES.len()],
    /// How long what stands in the queue may wait for a packet.
    queue_waits: Duration,
}

struct Again {
    due: Instant,
    query: Query,
    packet: Timestamp,
}

impl<S: SocketTable, P: ProcessTable> Work<S, P> {
    fn run(mut self) {
        let mut next_snapshot = self.snapshot();
        let mut next_expiry = Instant::now() + EXPIRY;
        loop {
            self.resolver.rest();
            let mut due = next_expiry.min(next_snapshot.unwrap_or(next_expiry));
            due = self.again.iter().filter_map(|again| Some(again.front()?.due)).fold(due, Instant::min);
            if !self.answer(due.saturating_duration_since(Instant::now())) {
                break;
            }
            let now = Instant::now();
            self.ask_again(now);
            if next_snapshot.is_some_and(|due| now >= due) {
                next_snapshot = self.snapshot();
            }
            if now >= next_expiry {
                self.resolver.expire();
                if let Some(tap) = &mut self.tap {
                    self.counts.lost.store(tap.lost(), Ordering::Relaxed);
                }
                next_expiry = now + EXPIRY;
            }
        }
        self.resolver.rest();
        self.resolver.finish();
    }

    /// Waits for requests at most so long, and answers some of the tap's and some of the others: neither waits for the
    /// other to be done. Returns whether to go on.
    fn answer(&mut self, patience: Duration) -> bool {
        let Some(mut tap) = self.tap.take() else {
            return match self.requests.recv_timeout(patience) {
                Err(RecvTimeoutError::Timeout) => true,
                request => request.is_ok_and(|request| self.take(request)),
            };
        };
        let mut patience = patience.min(self.queue_waits);
        let mut tapped = Tapped::Packet;
        for _ in 0..AT_ONCE {
            tapped = tap.wait(patience, &mut |query, packet| self.find(query, packet, 0));
            patience = Duration::ZERO;
            if tapped != Tapped::Packet {
                break;
            }
        }
        self.tap = (tapped != Tapped::End).then_some(tap);
        for _ in 0..AT_ONCE {
            let Ok(request) = self.requests.try_recv() else { break };
            if !self.take(request) {
                return false;
            }
        }
        true
    }

    /// Does what is asked for; returns whether to go on.
    fn take(&mut self, request: Request) -> bool {
        match request {
            Request::Find(query, packet) => {
                self.queue_waits = ASKED_QUEUE_WAITS;
                self.find(query, packet, 0);
            }
            Request::Closed(socket, at) => self.resolver.closed(&socket, at),
            Request::Stop => return false,
        }
        true
    }

    fn find(&mut self, query: Query, packet: Timestamp, times: usize) {
        self.counts.lookups.fetch_add(1, Ordering::Relaxed);
        let answer = self.resolver.resolve(&query, packet);
        // What is accepted at once needs no listener.
        let stands_by = match answer {
            Ok(Answer::Provisional) => times >= ACCEPTED_BY,
            Ok(Answer::Unowned) => true,
            Ok(Answer::Nobody) => times > 0,
            Ok(Answer::Settled) | Err(_) => false,
        };
        let stood_by = if stands_by { self.resolver.stand_by(&query, packet) } else { Ok(()) };
        self.counts.failed.fetch_add(u64::from(answer.is_err() || stood_by.is_err()), Ordering::Relaxed);
        if let (Ok(Answer::Provisional), Some((again, pause))) =
            (answer, self.again.get_mut(times).zip(PAUSES.get(times)))
        {
            if again.len() < self.options.queue {
                again.push_back(Again { due: Instant::now() + *pause, query, packet });
            } else {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn ask_again(&mut self, now: Instant) {
        for times in 0..PAUSES.len() {
            for _ in 0..AT_ONCE {
                let due =
                    self.again.get_mut(times).and_then(|again| again.pop_front_if(|again| again.due <= now));
                let Some(again) = due else { break };
                self.find(again.query, again.packet, times + 1);
            }
        }
    }

    /// Takes all sockets in; returns when to do so again.
    fn snapshot(&mut self) -> Option<Instant> {
        let pause = self.options.snapshots?;
        if self.resolver.snapshot().is_err() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        Some(Instant::now() + pause)
    }
}

/// When to ask again while only the listening socket answers, or no process has accepted the connection: at first often,
/// since servers do so at once and many connections are short; then for peers farther away.
const PAUSES: [Duration; 7] = [
    Duration::from_micros(200),
    Duration::from_micros(400),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
];
/// After so many pauses most servers have accepted.
const ACCEPTED_BY: usize = 3;
/// How much of one kind is answered before the next kind has its turn.
const AT_ONCE: usize = 32;
/// How long the queue may wait for a packet while none but ends of sockets stand in it, and once it was asked for one.
const QUEUE_WAITS: Duration = Duration::from_millis(50);
const ASKED_QUEUE_WAITS: Duration = Duration::from_millis(10);
/// How often dead sockets are let go.
const EXPIRY: Duration = Duration::from_secs(1);
