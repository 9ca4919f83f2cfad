//! Tests of how the threads work together: batches, the merge, and the end of all.

#[cfg(feature = "__interleaved")]
mod interleavings;
#[cfg(not(feature = "__interleaved"))]
mod reports;

use super::Batch;

/// A packet of so many bytes has its shard panic.
pub(crate) const FATAL: u32 = 0xdead;

pub(super) fn may_panic(batch: &Batch) {
    assert!(batch.packets().all(|packet| packet.wire_len != FATAL), "as the test wants it");
}

/// Returns a UDP datagram in an IPv4 packet.
pub(crate) fn datagram(port: u16) -> Vec<u8> {
    let ports = [port.to_be_bytes(), 9_999u16.to_be_bytes()].concat();
    let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1];
    [&ip[..], &ports, &[0, 8, 0, 0]].concat()
}
