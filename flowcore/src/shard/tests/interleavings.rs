//! Every order in which the threads can take their turns, with room for one thing at a time in each channel.
//!
//! With one shard, in every order that takes its turn from a thread once before it waits, or as often as FLOWCAP_ORDERS
//! says (2 takes ten minutes); FLOWCAP_ORDERS=all asks for counters as well, and tries two shards, which takes longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::model::Builder;
use loom::thread;

use super::super::{WhenFull, start_with};
use super::{ports, read, write};
use crate::table::{KeyHash, TableOptions};

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

/// Has a reader, shards and a writer work on two packets; the writer goes away after `most` records.
fn in_every_order(when_full: WhenFull, most: usize) {
    let orders = std::env::var("FLOWCAP_ORDERS").unwrap_or_default();
    let turns = orders.parse().unwrap_or(1);
    in_orders(1, &[0, 0], turns, false, when_full, most);
    if orders == "all" {
        in_orders(1, &[0, 0], 1, true, when_full, most);
        in_orders(2, &[0, 1], 1, false, when_full, most);
    }
}

fn in_orders(count: usize, shards: &[usize], turns: usize, asks: bool, when_full: WhenFull, most: usize) {
    // The same in every order: loom has to see the same steps again.
    let hash = KeyHash::default();
    let ports = ports(&hash, shards);
    let mut model = Builder::new();
    model.preemption_bound = Some(turns);
    model.max_branches = 100_000;
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    model.check(move || {
        let options = TableOptions::default();
        let (router, merge, threads) = start_with(hash.clone(), count, &options, when_full).unwrap();
        let writer = thread::spawn(move || write(merge, most));
        let dropped = read(router, &ports, asks);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let places = writer.join().unwrap();
        assert!(places.is_sorted());
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
