//! Tests of how the threads work together: batches, the merge, and the end of all.

#[cfg(feature = "__interleaved")]
mod interleavings;
#[cfg(not(feature = "__interleaved"))]
mod reports;
#[cfg(not(feature = "__interleaved"))]
mod rounds;

use super::{Batch, Dropped, Merge, Merged, Router};
use crate::decode::{DecodeOptions, Decoder};
use crate::packet::{Frame, LinkType};
use crate::record::EndReason;
#[cfg(feature = "__interleaved")]
use crate::table::KeyHash;
use crate::time::{TableTime, Timestamp};

/// A packet of so many bytes has its shard panic.
pub(crate) const FATAL: u32 = 0xdead;

pub(super) fn may_panic(batch: &Batch) {
    assert!(batch.packets().all(|packet| packet.wire_len != FATAL), "as the test wants it");
}

/// The reader: sends a packet of a flow of its own for each of these source ports, a second from one to the next, and
/// may ask for a report in the middle.
fn read(mut router: Router, ports: &[u16], asks: bool) -> Dropped {
    let mut decoder = Decoder::new(DecodeOptions::default());
    for (nth, &port) in ports.iter().enumerate() {
        let data = datagram(port);
        let time = Some(Timestamp::from_nanos(nth as i64 * 1_000_000_000));
        let frame = Frame { data: &data, time, wire_len: 28, link: LinkType(101), interface: None };
        decoder.decode(&frame, |packet| router.send(&packet));
        if asks && nth == ports.len() / 2 {
            router.ask_for_report(1);
        }
    }
    router.finish(EndReason::Shutdown)
}

/// The writer: takes what comes, at most so many records; returns their places in the order of replay.
fn write(mut merge: Merge, most: usize) -> Vec<(TableTime, u64, u32)> {
    let (mut places, mut wait, mut reported) = (Vec::new(), false, 0);
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
            Merged::Pause => {}
        }
    }
    assert!(!merge.has_panicked());
    places
}

/// Returns source ports whose flows go to these shards of two.
#[cfg(feature = "__interleaved")]
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

/// Returns a UDP datagram in an IPv4 packet.
fn datagram(port: u16) -> Vec<u8> {
    let ports = [port.to_be_bytes(), 9_999u16.to_be_bytes()].concat();
    let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1];
    [&ip[..], &ports, &[0, 8, 0, 0]].concat()
}
