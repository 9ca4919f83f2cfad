//! Tests of the meter: what is left of a run in which a thread panics.

mod rounds;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Meter, Stop, Summary};
use crate::capture::{Next, Source, SourceCounts};
use crate::error::Error;
use crate::packet::{Frame, LinkType};
use crate::record::Record;
use crate::shard::{FATAL, datagram};
use crate::sink::Sink;
use crate::time::Timestamp;

const PACKETS: u16 = 5_000;

/// A packet of a flow of its own every millisecond.
struct Packets {
    sent: u16,
    data: Vec<u8>,
    is_live: bool,
    /// The packet at which something panics.
    fatal: u16,
    panics_itself: bool,
}

impl Source for Packets {
    fn next(&mut self, _: Duration) -> Result<Next<'_>, Error> {
        if self.sent == PACKETS {
            return Ok(Next::End);
        }
        self.sent += 1;
        let is_fatal = self.sent == self.fatal;
        assert!(!(is_fatal && self.panics_itself), "as the test wants it");
        self.data = datagram(self.sent);
        Ok(Next::Frame(Frame {
            data: &self.data,
            time: Some(Timestamp::from_nanos(i64::from(self.sent) * 1_000_000)),
            wire_len: if is_fatal { FATAL } else { 28 },
            link: LinkType(101),
            interface: None,
        }))
    }

    fn counts(&mut self) -> SourceCounts {
        SourceCounts::default()
    }

    fn is_live(&self) -> bool {
        self.is_live
    }
}

fn packets(fatal: u16, panics_itself: bool, is_live: bool) -> Box<Packets> {
    Box::new(Packets { sent: 0, data: Vec::new(), is_live, fatal, panics_itself })
}

/// Counts its records; may panic at one of them, or at the end.
#[derive(Clone, Default)]
struct Counted {
    records: Arc<AtomicU64>,
    has_ended: Arc<AtomicBool>,
    fatal: Option<u64>,
    panics_at_the_end: bool,
}

impl Sink for Counted {
    fn write(&mut self, _: Record<'_>) -> Result<(), Error> {
        let before = self.records.fetch_add(1, Ordering::Relaxed);
        assert_ne!(Some(before), self.fatal, "as the test wants it");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        assert!(!self.panics_at_the_end, "as the test wants it");
        self.has_ended.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs a meter of two shards; returns the summary, and how many records were written, where the sink was ended.
fn run(source: Box<Packets>, before: Option<Counted>) -> (Summary, Option<u64>) {
    let counted = Counted::default();
    let mut meter = Meter::builder().shards(2);
    if let Some(before) = before {
        meter = meter.sink("before", Box::new(before));
    }
    let meter = meter.sink("counted", Box::new(counted.clone())).build().unwrap();
    let summary = meter.run(source, &Stop::new());
    let has_ended = counted.has_ended.load(Ordering::Relaxed);
    (summary, has_ended.then(|| counted.records.load(Ordering::Relaxed)))
}

fn assert_internal(summary: &Summary) {
    assert!(matches!(summary.failure, Some(Error::Internal(_))), "{:?}", summary.failure);
}

#[test]
fn a_shard_that_panics_costs_what_it_had_in_its_hands() {
    for is_live in [false, true] {
        let (summary, records) = run(packets(2_500, false, is_live), None);
        assert_internal(&summary);
        assert_eq!(summary.false_identities, [""; 0], "live: {is_live}");
        let stats = &summary.stats;
        assert!(stats.dropped["panic"] > 0 && stats.flow_packets > 0, "{stats:?}");
        assert_eq!(records, Some(stats.flow_packets));
    }
}

#[test]
fn a_source_that_panics_ends_the_run_like_one_that_fails() {
    for is_live in [false, true] {
        let (summary, records) = run(packets(2_500, true, is_live), None);
        assert_internal(&summary);
        assert_eq!(summary.false_identities, [""; 0]);
        assert_eq!((summary.stats.packets, records), (2_499, Some(2_499)));
    }
}

#[test]
fn an_output_that_panics_does_not_keep_the_others_from_their_end() {
    let while_writing = Counted { fatal: Some(1_000), ..Counted::default() };
    let (summary, records) = run(packets(0, false, false), Some(while_writing));
    assert_internal(&summary);
    assert_eq!(records, Some(1_000));

    let at_the_end = Counted { panics_at_the_end: true, ..Counted::default() };
    let (summary, records) = run(packets(0, false, false), Some(at_the_end));
    assert_internal(&summary);
    assert_eq!((records, summary.stats.packets), (Some(5_000), 5_000));
}
