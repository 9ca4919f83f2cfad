//! A batch of packets on its way to a shard: facts in rows, payload bytes in one arena, all reused.

use super::TINY;
use crate::packet::{Facts, Labels, Message, NO_LABELS, Packet};
use crate::table::KeyTag;
use crate::time::TableTime;

/// Packets of one shard, in capture order.
pub(super) struct Batch {
    rows: Vec<Row>,
    bytes: Vec<u8>,
    /// Distinct runs of labels; those beyond `labels_used` are kept for their memory.
    labels: Vec<Labels>,
    labels_used: usize,
    /// What those that are used hold.
    label_bytes: usize,
    /// Table time after the last packet.
    pub(super) now: TableTime,
    /// The shard is to report its counters after this batch, under this number.
    pub(super) report: Option<u64>,
}

struct Row {
    facts: Facts,
    tag: KeyTag,
    payload: Span,
    message: Option<MessageSpan>,
    /// Place in `labels`, counted from 1; 0 for none.
    labels: u32,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

struct MessageSpan {
    span: Span,
    seq: u32,
    complete: bool,
}

impl Batch {
    /// Makes an empty batch with memory for what most batches hold.
    pub(super) fn new() -> Self {
        Batch {
            rows: Vec::with_capacity(MOST_PACKETS),
            bytes: Vec::with_capacity(MOST_BYTES + 2048),
            labels: Vec::new(),
            labels_used: 0,
            label_bytes: 0,
            now: TableTime::default(),
            report: None,
        }
    }

    /// Copies a packet in.
    #[inline]
    pub(super) fn push(&mut self, tag: KeyTag, packet: &Packet<'_>) {
        let payload = self.store(packet.payload);
        let message = packet.message.map(|message| {
            let same = std::ptr::eq(message.bytes, packet.payload);
            let span = if same { payload } else { self.store(message.bytes) };
            MessageSpan { span, seq: message.seq, complete: message.complete }
        });
        let labels = if packet.labels.is_empty() { 0 } else { self.store_labels(packet.labels) };
        self.rows.push(Row { facts: *packet.facts, tag, payload, message, labels });
    }

    /// Returns the tags of the packets' keys.
    #[inline]
    pub(super) fn tags(&self) -> impl Iterator<Item = KeyTag> {
        self.rows.iter().map(|row| row.tag)
    }

    /// Returns the packets in the order in which they came.
    #[inline]
    pub(super) fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        self.rows.iter().map(|row| Packet {
            facts: &row.facts,
            payload: self.span(row.payload),
            message: row.message.as_ref().map(|message| Message {
                bytes: self.span(message.span),
                seq: message.seq,
                complete: message.complete,
            }),
            labels: match row.labels {
                0 => &NO_LABELS,
                nth => &self.labels[nth as usize - 1],
            },
        })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the wire bytes of all packets.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.facts.wire_len)).sum()
    }

    /// Tells whether the batch has reached the size at which it is sent.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= MOST_PACKETS || self.bytes.len() + self.label_bytes >= MOST_BYTES
    }

    /// Empties the batch and keeps its memory, unless a huge packet made it unusually large.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
        self.bytes.shrink_to(2 * MOST_BYTES);
        // Runs of labels differ in length: in time each place would have room for the longest.
        self.labels.retain(|labels| labels.heap_bytes() <= LONG_LABELS);
        (self.labels_used, self.label_bytes) = (0, 0);
        self.report = None;
    }

    #[inline]
    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        if !bytes.is_empty() {
            self.bytes.extend_from_slice(bytes);
        }
        Span { start, len: bytes.len() as u32 }
    }

    #[inline]
    fn span(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..][..span.len as usize]
    }

    fn store_labels(&mut self, labels: &Labels) -> u32 {
        let last = self.labels_used.checked_sub(1).map(|last| &self.labels[last]);
        if last != Some(labels) {
            match self.labels.get_mut(self.labels_used) {
                Some(place) => place.clone_from(labels),
                None => self.labels.push(labels.clone()),
            }
            self.label_bytes += size_of::<Labels>() + self.labels[self.labels_used].heap_bytes();
            self.labels_used += 1;
        }
        self.labels_used as u32
    }
}

/// Packets per batch: smaller ones lose to parking and waking threads, larger ones leave the cache. Few where fuzz targets
/// are to fill some.
const MOST_PACKETS: usize = match (TINY, cfg!(fuzzing)) {
    (true, _) => 1,
    (_, true) => 16,
    _ => 1024,
};
/// Labels that hold more are not kept for their memory.
const LONG_LABELS: usize = 512;
/// Bytes of payload and labels per batch.
const MOST_BYTES: usize = if TINY || cfg!(fuzzing) { 4 << 10 } else { 256 << 10 };

#[cfg(test)]
mod tests {
    use super::super::KeyHash;
    use super::*;
    use crate::decode::{DecodeOptions, Decoder};
    use crate::packet::{Frame, LinkType};

    #[test]
    fn long_labels_fill_a_batch_and_are_not_kept() {
        let ip = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        let frame = Frame { data: &ip, time: None, wire_len: 20, link: LinkType(101), interface: None };
        let (hash, mut batch, mut pushed) = (KeyHash::default(), Batch::new(), 0);
        Decoder::new(DecodeOptions::default()).decode(&frame, |packet| {
            while !batch.is_full() {
                let labels = Labels { mpls: vec![pushed; 1000], ..Labels::default() };
                batch.push(hash.of(&packet.key).tag(), &Packet { labels: &labels, ..packet });
                pushed += 1;
            }
        });
        assert!(pushed > 0 && (pushed as usize - 1) * 4000 < MOST_BYTES, "{pushed}");
        assert_eq!(batch.packets().last().map(|packet| packet.labels.mpls[0] + 1), Some(pushed));
        batch.clear();
        assert!(!batch.is_full() && batch.labels.is_empty());
    }
}
