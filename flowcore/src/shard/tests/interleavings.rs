//! Every order in which the threads can take their turns, with room for one thing at a time in each channel.
//!
//! One shard in every order that takes its turn from a thread once before it waits, or as often as FLOWCAP_ORDERS says (2
//! takes ten minutes). Two shards at the end, where all wait for one another; FLOWCAP_ORDERS=all tries two shards all the
//! way, which takes longer, and asks for counters as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::model::Builder;
use loom::thread;

use super::super::{Dropped, Merge, Merged, Router, WhenFull, start_with};
use super::datagram;
use crate::decode::{DecodeOptions, Decoder};
use crate::packet::{Frame, LinkType};
use crate::record::EndReason;
use crate::table::{KeyHash, TableOptions};
use crate::time::{TableTime, Timestamp};

/// What the reader reads.
#[derive(Clone, Copy, Default)]
struct Input {
    /// For each packet, which is of a flow of its own, the shard of two that it goes to.
    shards: &'static [usize],
    /// A report is asked for in the middle.
    asks: bool,
    /// All packets are sent in one order; others are tried while the shards are told that no more come.
    ends_only: bool,
}

#[test]
fn each_flow_is_written_once_and_in_its_place() {
    in_every_order(WhenFull::Wait, usize::MAX);
}

#[test]
fn what_finds_no_room_is_counted() {
    in_every_order(WhenFull::Drop, usize::MAX);
}

#[test]
fn a_writer_that_goes_away_holds_nobody_up() {
    in_every_order(WhenFull::Wait, 0);
    in_every_order(WhenFull::Wait, 1);
}

/// The reader waits for the first shard, that one for the merge, and the merge for the second shard, which is to be told
/// by the reader that no more comes: in the first shard each packet but one ends a flow, all within one slot of the timing
/// wheel, so that by then everything is full.
#[test]
fn a_shard_that_has_all_the_records_holds_nobody_up() {
    let input = Input { shards: &[0; 4], ends_only: true, ..Input::default() };
    let one_flow_each = TableOptions { max_flows: 2, ..TableOptions::default() };
    in_orders(2, input, 1, &one_flow_each, WhenFull::Wait, usize::MAX);
}

/// Has a reader, shards and a writer work on two packets; the writer goes away after `most` records.
fn in_every_order(when_full: WhenFull, most: usize) {
    let (one, two) =
        (Input { shards: &[0, 0], ..Input::default() }, Input { shards: &[0, 1], ..Input::default() });
    let table = TableOptions::default();
    let orders = std::env::var("FLOWCAP_ORDERS").unwrap_or_default();
    in_orders(1, one, orders.parse().unwrap_or(1), &table, when_full, most);
    if orders == "all" {
        in_orders(1, Input { asks: true, ..one }, 1, &table, when_full, most);
        in_orders(2, two, 1, &table, when_full, most);
    }
}

fn in_orders(
    count: usize,
    input: Input,
    turns: usize,
    table: &TableOptions,
    when_full: WhenFull,
    most: usize,
) {
    // The same in every order: loom has to see the same steps again.
    let hash = KeyHash::default();
    let (ports, table) = (ports(&hash, input.shards), table.clone());
    let mut model = Builder::new();
    model.preemption_bound = Some(turns);
    model.max_branches = 100_000;
    model.expect_explicit_explore = true;
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    model.check(move || {
        let (router, merge, threads) = start_with(hash.clone(), count, &table, when_full).unwrap();
        let writer = thread::spawn(move || write(merge, most));
        let dropped = read(router, &ports, &input);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let places = writer.join().unwrap();
        // Evicted flows leave at once, out of that order.
        assert!(places.is_sorted() || table.max_flows < ports.len());
        if most > ports.len() {
            assert_eq!(places.len() as u64 + dropped.packets, ports.len() as u64);
            assert_eq!(dropped.bytes, dropped.packets * 28);
        }
        assert!(when_full == WhenFull::Drop || dropped.packets == 0);
        counted.fetch_add(1, Ordering::Relaxed);
    });
    println!(
        "{count} shards, {when_full:?}, at most {most} records: {} orders",
        orders.load(Ordering::Relaxed)
    );
}

/// The reader: sends a packet from each of these source ports, a nanosecond from one to the next.
fn read(mut router: Router, ports: &[u16], input: &Input) -> Dropped {
    let mut decoder = Decoder::new(DecodeOptions::default());
    if !input.ends_only {
        loom::explore();
    }
    for (nth, &port) in ports.iter().enumerate() {
        let data = datagram(port);
        let time = Some(Timestamp::from_nanos(nth as i64));
        let frame = Frame { data: &data, time, wire_len: 28, link: LinkType(101), interface: None };
        decoder.decode(&frame, |packet| router.send(&packet));
        if input.asks && nth == ports.len() / 2 {
            router.ask_for_report(1);
        }
    }
    if input.ends_only {
        loom::explore();
    }
    let dropped = router.finish(EndReason::Shutdown);
    if input.ends_only {
        loom::stop_exploring();
    }
    dropped
}

/// The writer: takes what comes, at most so many records; returns their places in the order of replay.
fn write(mut merge: Merge, most: usize) -> Vec<(TableTime, u64, u32)> {
    let (mut places, mut wait, mut reported, mut pauses) = (Vec::new(), false, 0, 0);
    while places.len() < most
        && let Some(next) = merge.next(wait)
    {
        wait = matches!(next, Merged::Pause);
        match next {
            Merged::Record(record) => places.push((record.due, record.flow_id, record.slice)),
            Merged::Report(reports) => {
                assert!(reports[0].number > reported, "each report comes once, and in turn");
                assert!(reports.iter().all(|report| report.number == reports[0].number));
                reported = reports[0].number;
            }
            Merged::Pause => pauses += 1,
        }
        assert!(pauses < 1000, "the writer waits for records without end");
    }
    assert!(!merge.has_panicked());
    places
}

/// Returns source ports whose flows go to these shards of two.
fn ports(hash: &KeyHash, shards: &[usize]) -> Vec<u16> {
    let mut free = 1024..;
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut shard_of = |port| {
        let (data, mut shard) = (datagram(port), None);
        let frame = Frame { data: &data, time: None, wire_len: 28, link: LinkType(101), interface: None };
        decoder.decode(&frame, |packet| shard = Some(hash.of(&packet.key).pick(2)));
        shard
    };
    shards.iter().map(|&shard| free.find(|&port| shard_of(port) == Some(shard)).unwrap()).collect()
}
