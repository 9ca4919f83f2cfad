//! Floods: what may come from whoever can send packets, more of it than there is room for. Memory stays within what
//! faults.md says, nothing is lost unseen, and those who talk are not driven out by those who shout.
//!
//! Memory is held to its bound by a control group, which takes root; without one it is watched and the test says SKIPPED, and with
//! CI_REQUIRE_LIVE=1 it fails instead.
//!
//! Small ones; the full ones with FLOWCAP_FLOODS=full, for a release build: millions of flows, some minutes.
#![cfg(target_os = "linux")]

mod cage;
mod flood;

use std::sync::Mutex;

use flood::{Flood, Run};
use flowcap_benches::Shape;
use flowcap_benches::wire::{Ends, Wire};
use serde_json::Value;

/// The tests have the machine one after the other, so that times can be compared.
static ALONE: Mutex<()> = Mutex::new(());

/// Returns how much of the full size is asked for, and how many flows flowcap may hold then.
fn size() -> (f64, u64) {
    match std::env::var("FLOWCAP_FLOODS").as_deref() {
        Ok("full") => (1.0, 1_000_000),
        Ok(other) => panic!("FLOWCAP_FLOODS is full, or not there: {other}"),
        Err(_) => (0.02, 20_000),
    }
}

/// What faults.md allows for flows without payload.
const fn bound(flows: u64) -> u64 {
    (64 << 20) + 400 * flows
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Sees to it that every flow was written under one of these reasons.
fn ended(run: &Run, expected: &[(&str, u64)]) {
    for (reason, count) in expected {
        assert_eq!(number(&run.stats["records"][reason]), *count, "{}", run.stats);
    }
    let flows = expected.iter().map(|(_, count)| count).sum::<u64>();
    assert_eq!(number(&run.stats["flows_opened"]), flows, "{}", run.stats);
}

#[test]
fn flows_of_one_packet_without_end() {
    let _alone = ALONE.lock();
    let (part, most) = size();
    let limit = most.to_string();
    for millions in [2, 20] {
        let flags = ["--fields", "end_reason", "--max-flows", &limit];
        let scale = part * f64::from(millions);
        let flood = Flood { shape: Shape::Syns, scale, memory: bound(most), flags: &flags, last: None };
        let mut lines = 0;
        let run = flood.run(|_| lines += 1);
        assert_eq!(lines, run.sent);
        // Of two shards one may be full while the other is not yet.
        let left = number(&run.stats["records"]["eof"]);
        assert!(left <= most && left > most * 9 / 10, "{left}");
        ended(&run, &[("resource", run.sent - left), ("eof", left)]);
    }
}

#[test]
fn connections_in_a_flood_of_syns() {
    let _alone = ALONE.lock();
    let (part, most) = size();
    let flags = ["--fields", "dst_port,packets,end_reason", "--max-flows", &most.to_string()];
    // Each of the connections may have its first payload kept, and its state.
    let connections = (10_000.0 * part) as u64;
    let memory = bound(most) + 1024 * connections;
    let flood = Flood { shape: Shape::Siege, scale: part, memory, flags: &flags, last: None };
    let mut whole = 0;
    let run = flood.run(|line| {
        whole += u64::from(line.contains("\"dst_port\":22,") && line.contains("\"packets\":13,"));
    });
    println!("{whole} of {connections} connections whole");
    assert!(number(&run.stats["records"]["resource"]) > most / 2, "{}", run.stats);
    assert!(whole * 1000 >= connections * 999, "{whole} of {connections}");
}

#[test]
fn fragments_that_never_become_a_datagram() {
    let _alone = ALONE.lock();
    let (part, _) = size();
    let flood = |shape, scale| {
        let flags = ["--fields", "end_reason", "--shards", "1"];
        Flood { shape, scale, memory: 64 << 20, flags: &flags, last: None }.run(|_| ())
    };
    // What packets take on their way, whatever they are: the more, the more of them wait.
    let on_their_way = (0..3).map(|_| flood(Shape::Bigflow, 0.02).peak).max().unwrap_or_default();
    let many = flood(Shape::Fragments, part);
    println!("fragments: {} bytes more than bulk flows take", many.peak as i64 - on_their_way as i64);
    assert!(many.peak <= on_their_way + (8 << 20), "{} and {on_their_way}", many.peak);
    assert!(number(&many.stats["fragments_evicted"]) > 0, "{}", many.stats);
    assert!(number(&many.stats["datagrams_evicted"]) > 0, "{}", many.stats);
}

#[test]
fn keys_that_would_meet() {
    let _alone = ALONE.lock();
    let (part, most) = size();
    let flood = |shape| {
        let flags = ["--fields", "end_reason", "--max-flows", &(2 * most).to_string()];
        // 8 bytes of payload are kept for each.
        Flood { shape, scale: part, memory: bound(most) + 340 * most, flags: &flags, last: None }.run(|_| ())
    };
    let (strangers, crafted) = (flood(Shape::Strangers), flood(Shape::Keys));
    for run in [&strangers, &crafted] {
        ended(run, &[("eof", run.sent)]);
    }
    println!("crafted keys / random ones: {:.2}", crafted.took.as_secs_f64() / strangers.took.as_secs_f64());
}

#[test]
fn dns_messages_of_64_kib() {
    let _alone = ALONE.lock();
    let (part, _) = size();
    let flood = |shape, memory| {
        let flags = ["--fields", "dns,end_reason", "--shards", "1"];
        let mut longest = 0;
        let flood = Flood { shape, scale: part, memory, flags: &flags, last: None };
        (flood.run(|line| longest = longest.max(line.len())), longest)
    };
    let (bulks, _) = flood(Shape::Bulks, 1 << 30);
    let flows = bulks.sent;
    // Where records are made and written, some hundred are on their way.
    let (bombs, longest) = flood(Shape::Bombs, bulks.peak + 4096 * flows + (8 << 20));
    let each = (bombs.peak as f64 - bulks.peak as f64) / flows as f64;
    println!("DNS: {each:.0} bytes a flow; longest record {longest} bytes");
    ended(&bombs, &[("eof", flows)]);
    let read = number(&bombs.stats["dns_partial"]) + number(&bombs.stats["dns_whole"]);
    assert!(read * 10 > flows * 9, "{}", bombs.stats);
}

#[test]
fn flows_that_are_all_due_at_once() {
    let _alone = ALONE.lock();
    let (part, most) = size();
    let addresses = ["198.51.100.1", "198.51.100.2"].map(|text| text.parse().expect("an address"));
    let [src, dst] = addresses;
    let mut wire = Wire::default();
    wire.udp(&Ends { src, dst, sport: 4000, dport: 4500, vlan: None }, b"at last");
    let flags = ["--fields", "end_reason", "--max-flows", &(2 * most).to_string()];
    let last = Some((wire.bytes(), 3600));
    let flood = Flood { shape: Shape::Syns, scale: part, memory: bound(most), flags: &flags, last };
    let run = flood.run(|_| ());
    ended(&run, &[("idle", run.sent - 1), ("eof", 1)]);
}
