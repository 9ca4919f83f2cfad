//! The stats record: the counters of all parts at one point of the input, and the identities they obey.

use std::collections::BTreeMap;

use super::reader::ReaderReport;
use crate::error::{Counters, Reason};
use crate::l7::L7Counts;
use crate::record::{EndReason, SinkStats, StatsRecord};
use crate::shard::ShardReport;

/// Puts together what reader, shards and sinks counted.
pub(super) fn gather(reader: &ReaderReport, shards: &[ShardReport], sinks: &[SinkStats]) -> StatsRecord {
    let (decode, source) = (&reader.decode, &reader.source);
    let mut stats = StatsRecord {
        timestamp: reader.at,
        uptime: reader.uptime.as_secs_f64(),
        packets: decode.packets,
        bytes: decode.bytes,
        kernel_received: source.kernel_received,
        kernel_dropped: source.kernel_dropped,
        interface_dropped: source.interface_dropped,
        interfaces_missing: reader.missing.clone(),
        queue_dropped: reader.dropped.packets,
        queue_dropped_bytes: reader.dropped.bytes,
        filtered: source.filtered,
        dropped: by_name(&decode.dropped),
        dropped_bytes: decode.dropped_bytes,
        stopped: by_name(&decode.stopped),
        packets_without_time: decode.clock.without_time,
        packets_out_of_order: decode.clock.out_of_order,
        times_clamped: source.times_clamped,
        time_jumps: decode.clock.jumps,
        fragments_held: decode.fragments.held,
        fragments_held_bytes: decode.fragments.held_bytes,
        fragments_evicted: decode.fragments.evicted,
        datagrams_evicted: decode.fragments.datagrams_evicted,
        fragments_expired: decode.fragments.expired,
        fragments_overlapping: decode.fragments.overlapping,
        sinks: sinks.to_vec(),
        ..StatsRecord::default()
    };
    let mut records = Counters::<EndReason>::new();
    let mut l7 = L7Counts::default();
    for shard in shards {
        let counts = &shard.counts;
        stats.flow_packets += counts.packets;
        stats.flow_bytes += counts.bytes;
        stats.flows_opened += counts.opened;
        stats.flows_active += shard.open_flows;
        stats.flows_active_packets += shard.open_packets;
        stats.flows_active_bytes += shard.open_bytes;
        stats.record_packets += counts.record_packets;
        stats.record_bytes += counts.record_bytes;
        stats.memory_bytes += shard.memory;
        records.merge(&counts.records);
        l7.merge(&counts.l7);
    }
    stats.records = by_name(&records);
    stats.dns_whole = l7.dns_whole;
    stats.dns_partial = l7.dns_partial;
    stats.dns_refused = by_name(&l7.dns_refused);
    stats
}

/// Counts what a thread had in its hands when it panicked as dropped for that reason.
pub(super) fn count_lost(stats: &mut StatsRecord) {
    let (packets, bytes) = placed(stats);
    let lost = stats.packets.saturating_sub(packets);
    if lost > 0 {
        stats.dropped.insert("panic", lost);
        stats.dropped_bytes += stats.bytes.saturating_sub(bytes);
    }
}

/// Returns the packets and bytes of which it is known what became of them.
fn placed(stats: &StatsRecord) -> (u64, u64) {
    let dropped: u64 = stats.dropped.values().sum();
    (
        stats.flow_packets + dropped + stats.queue_dropped + stats.fragments_held,
        stats.flow_bytes + stats.dropped_bytes + stats.queue_dropped_bytes + stats.fragments_held_bytes,
    )
}

/// Returns the identities of faults.md that do not hold, each with its two sides. At the end of a run the first sinks, those
/// of flows, have been given every record that was made; until then some are on their way.
pub(super) fn false_identities(stats: &StatsRecord, of_flows: usize, at_the_end: bool) -> Vec<String> {
    let (packets, bytes) = placed(stats);
    let records: u64 = stats.records.values().sum();
    let slices = stats.records.get(EndReason::Active.name()).copied().unwrap_or_default();
    let mut identities = vec![
        ("packets read = in flows + dropped + queue_dropped + held", stats.packets, packets),
        ("bytes read = in flows + dropped + queue_dropped + held", stats.bytes, bytes),
        (
            "packets in flows = in records + active",
            stats.flow_packets,
            stats.record_packets + stats.flows_active_packets,
        ),
        (
            "bytes in flows = in records + active",
            stats.flow_bytes,
            stats.record_bytes + stats.flows_active_bytes,
        ),
        ("flows opened = final records + active", stats.flows_opened, records - slices + stats.flows_active),
    ];
    for (nth, sink) in stats.sinks.iter().enumerate() {
        let made = if nth < of_flows { records } else { 0 };
        if at_the_end {
            identities.push(("records made = given to the sink", made + sink.host_records, sink.records));
        }
        let dropped: u64 = sink.dropped.values().sum();
        identities.push((
            "records given to the sink = written + filtered + spooled + failed + dropped",
            sink.records,
            sink.written + sink.filtered + sink.spooled + sink.failed + dropped,
        ));
    }
    let broken = identities.iter().filter(|(_, left, right)| left != right);
    broken.map(|(name, left, right)| format!("{name}: {left} ≠ {right}")).collect()
}

fn by_name<R: Reason>(counters: &Counters<R>) -> BTreeMap<&'static str, u64> {
    counters.iter().filter(|(_, n)| *n > 0).map(|(reason, n)| (reason.name(), n)).collect()
}
