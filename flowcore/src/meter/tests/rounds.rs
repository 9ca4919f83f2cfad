//! Many short runs, as the machine takes them, of which each is made up by its number: 5,000, or FLOWCAP_ROUNDS of them;
//! `=123` is number 123 alone.
//!
//! A source that has nothing for the moment has batches sent as they are, so that a few packets fill all channels.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{env, panic, process, thread};

use super::super::{Meter, Stop, Watched};
use crate::capture::{Next, Source, SourceCounts};
use crate::error::Error;
use crate::packet::{Frame, LinkType};
use crate::record::Record;
use crate::shard::{FATAL, datagram};
use crate::sink::Sink;
use crate::table::TableOptions;
use crate::time::Timestamp;

#[test]
fn every_round_ends_and_its_sums_hold() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(WANTED) {
            usual(info);
        }
    }));
    let begins = watchdog();
    for round in rounds() {
        begins.send(round).unwrap();
        Round::new(round).run();
    }
}

fn rounds() -> std::ops::Range<u64> {
    let Ok(wish) = env::var("FLOWCAP_ROUNDS") else { return 0..5_000 };
    match wish.strip_prefix('=').map(str::parse) {
        Some(Ok(nth)) => nth..nth + 1,
        _ => 0..wish.parse().expect("FLOWCAP_ROUNDS: a number, or = and a number"),
    }
}

/// Is told which round begins; where the next does not follow, ends all tests with its number.
fn watchdog() -> Sender<u64> {
    let (begins, begun) = channel();
    thread::spawn(move || {
        let mut current = 0;
        loop {
            match begun.recv_timeout(LONGEST) {
                Ok(round) => current = round,
                Err(RecvTimeoutError::Disconnected) => return,
                // Nobody would see what is printed the usual way.
                Err(RecvTimeoutError::Timeout) => {
                    let round = Round::new(current);
                    let _ = writeln!(io::stderr(), "FLOWCAP_ROUNDS='={current}' does not end: {round:?}");
                    process::abort();
                }
            }
        }
    });
    begins
}

/// What fails in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Source,
    SourcePanics,
    ShardPanics,
    Sink,
    SinkPanics,
}

/// A round: its packets are each of a flow of its own.
#[derive(Clone, Debug)]
struct Round {
    random: Random,
    shards: usize,
    packets: u64,
    is_live: bool,
    max_flows: usize,
    /// One call in so many finds no packet.
    idle: u64,
    fault: Fault,
    /// The packet or record at which something fails.
    fatal: u64,
    /// How long the writer takes for each record.
    pace: Option<Duration>,
    /// The record before which the writer stands still for a while.
    standstill: u64,
    /// When somebody wants all to end.
    stop: Option<Duration>,
}

impl Round {
    fn new(round: u64) -> Self {
        let mut random = Random(round);
        let packets = random.below(120);
        let faults = [Fault::Source, Fault::SourcePanics, Fault::ShardPanics, Fault::Sink, Fault::SinkPanics];
        Round {
            shards: 1 + random.below(4) as usize,
            packets,
            is_live: random.below(3) == 0,
            // Of flows that are evicted the records come at once, of others at the end.
            max_flows: [4, 1_000][random.below(2) as usize],
            idle: [2, 2, 8, u64::MAX][random.below(4) as usize],
            fault: if random.below(3) == 0 { faults[random.below(5) as usize] } else { Fault::None },
            fatal: random.below(packets.max(1)),
            pace: (random.below(8) == 0).then_some(Duration::from_micros(10)),
            standstill: if random.below(4) == 0 { random.below(packets.max(1)) } else { u64::MAX },
            stop: (random.below(3) == 0).then(|| Duration::from_micros(random.below(3_000))),
            random,
        }
    }

    fn run(self) {
        let (stop, watched, records) = (Stop::new(), Watched::new(), Arc::new(AtomicU64::new(0)));
        let table = TableOptions { max_flows: self.max_flows, ..TableOptions::default() };
        let sink = Slow { round: self.clone(), records: Arc::clone(&records) };
        let meter = Meter::builder().table(table).shards(self.shards).watched(watched.clone());
        let meter = meter.sink("slow", Box::new(sink)).build().unwrap();
        let somebody = self.stop.map(|after| {
            let stop = stop.clone();
            thread::spawn(move || {
                thread::sleep(after);
                stop.request();
            })
        });
        let source = Traffic { round: self.clone(), watched, sent: 0, data: Vec::new() };
        let summary = meter.run(Box::new(source), &stop);
        somebody.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(summary.false_identities, [""; 0], "{self:?}");
        let fails = self.fault != Fault::None;
        assert!(fails || summary.failure.is_none(), "{self:?}: {:?}", summary.failure);
        // A live capture may drop what is fatal.
        if self.stop.is_none() && !self.is_live && self.packets > 0 {
            assert_eq!(summary.failure.is_some(), fails, "{self:?}");
            assert!(fails || records.load(Ordering::Relaxed) == self.packets, "{self:?}");
        }
    }

    /// Tells whether something fails that may fail at this packet or record.
    fn fails(&self, fault: Fault, nth: u64) -> bool {
        self.fault == fault && self.fatal == nth
    }
}

/// Where the packets of a round come from, a microsecond from one to the next.
struct Traffic {
    round: Round,
    watched: Watched,
    sent: u64,
    data: Vec<u8>,
}

impl Source for Traffic {
    fn next(&mut self, _: Duration) -> Result<Next<'_>, Error> {
        let round = &mut self.round;
        if self.sent == round.packets {
            return Ok(Next::End);
        }
        if round.random.below(round.idle) == 0 {
            return Ok(Next::Idle);
        }
        if round.random.below(16) == 0 {
            self.watched.request_record();
        }
        assert!(!round.fails(Fault::SourcePanics, self.sent), "{WANTED}");
        if round.fails(Fault::Source, self.sent) {
            return Err(Error::Internal(WANTED.to_owned()));
        }
        let wire_len = if round.fails(Fault::ShardPanics, self.sent) { FATAL } else { 28 };
        self.sent += 1;
        self.data = datagram(self.sent as u16);
        Ok(Next::Frame(Frame {
            data: &self.data,
            time: Some(Timestamp::from_nanos(self.sent as i64 * 1_000)),
            wire_len,
            link: LinkType(101),
            interface: None,
        }))
    }

    fn counts(&mut self) -> SourceCounts {
        SourceCounts::default()
    }

    fn is_live(&self) -> bool {
        self.round.is_live
    }
}

/// Where the records of a round go.
struct Slow {
    round: Round,
    records: Arc<AtomicU64>,
}

impl Sink for Slow {
    fn write(&mut self, _: Record<'_>) -> Result<(), Error> {
        let nth = self.records.fetch_add(1, Ordering::Relaxed);
        self.round.pace.into_iter().for_each(thread::sleep);
        if nth == self.round.standstill {
            thread::sleep(STANDSTILL);
        }
        assert!(!self.round.fails(Fault::SinkPanics, nth), "{WANTED}");
        if self.round.fails(Fault::Sink, nth) { Err(Error::Internal(WANTED.to_owned())) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

const WANTED: &str = "as the test wants it";
/// Longer than any round takes, on a machine that has much else to do.
const LONGEST: Duration = Duration::from_secs(60);
/// Longer than the merge waits for a shard before it looks at the others.
const STANDSTILL: Duration = Duration::from_millis(8);
