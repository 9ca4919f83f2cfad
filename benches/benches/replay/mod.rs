//! Made traffic in the words of flowcore.
#![allow(dead_code, reason = "each target uses its part")]

use std::collections::HashMap;
use std::ops::Range;

use flowcap_benches as made;
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::packet::{Facts, Frame, Labels, LinkType, Message, Packet};
use flowcore::record::FlowRecord;
use flowcore::table::{FlowTable, KeyHash, KeyTag, TableOptions};
use flowcore::time::Timestamp;

/// Memory comes from where it comes from in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Returns a made frame as one that was captured whole.
pub(super) fn captured(frame: made::Frame<'_>) -> Frame<'_> {
    Frame {
        data: frame.bytes,
        time: Some(Timestamp::from_nanos(frame.ts_ns)),
        wire_len: frame.bytes.len() as u32,
        link: LinkType(1),
        interface: None,
    }
}

/// Decoded packets side by side, so that what follows decoding can be measured alone.
#[derive(Default)]
pub(super) struct Packets {
    packets: Vec<(Facts, Range<usize>, Option<Look>, usize)>,
    tags: Vec<KeyTag>,
    hash: KeyHash,
    payload: Vec<u8>,
    labels: Vec<Labels>,
}

/// A [`Message`] without its bytes: the payload is the message, for none of the packets is a fragment.
struct Look {
    seq: u32,
    complete: bool,
}

impl Packets {
    /// Decodes frames.
    pub(super) fn new(frames: &made::Frames) -> Self {
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut packets = Packets::default();
        frames.iter().for_each(|frame| packets.read(&mut decoder, frame));
        packets
    }

    /// Adds what a decoder makes of a frame.
    pub(super) fn read(&mut self, decoder: &mut Decoder, frame: made::Frame<'_>) {
        decoder.decode(&captured(frame), |packet| self.push(&packet));
    }

    /// Forgets all packets and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.packets.clear();
        self.tags.clear();
        self.payload.clear();
    }

    /// Returns how many packets there are.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Makes a table for packets that are hashed here, as the reader hashes them for the shards.
    pub(super) fn table(&self, options: TableOptions) -> FlowTable {
        FlowTable::with_hash(options, self.hash.clone())
    }

    /// Counts all packets in a table that was made here.
    pub(super) fn ingest(&self, table: &mut FlowTable, out: impl FnMut(FlowRecord)) {
        table.ingest_all(self.tags.iter().copied(), self.iter(), out);
    }

    /// Returns the packets in capture order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Packet<'_>> + Clone {
        self.packets.iter().map(|(facts, payload, look, labels)| {
            let payload = &self.payload[payload.clone()];
            let message = |look: &Look| Message { bytes: payload, seq: look.seq, complete: look.complete };
            Packet { facts, payload, message: look.as_ref().map(message), labels: &self.labels[*labels] }
        })
    }

    /// Returns the packets of each flow, flows in the order in which they begin.
    pub(super) fn flows(&self) -> Vec<Vec<Packet<'_>>> {
        let mut flows: Vec<Vec<Packet<'_>>> = Vec::new();
        let mut places = HashMap::new();
        for packet in self.iter() {
            let place = *places.entry(packet.key).or_insert(flows.len());
            if place == flows.len() {
                flows.push(Vec::new());
            }
            flows[place].push(packet);
        }
        flows
    }

    fn push(&mut self, packet: &Packet<'_>) {
        let begin = self.payload.len();
        self.payload.extend_from_slice(packet.payload);
        let look = packet.message.map(|message| Look { seq: message.seq, complete: message.complete });
        let labels = self.labels.iter().position(|labels| labels == packet.labels).unwrap_or_else(|| {
            self.labels.push(packet.labels.clone());
            self.labels.len() - 1
        });
        self.tags.push(self.hash.of(&packet.key).tag());
        self.packets.push((*packet.facts, begin..self.payload.len(), look, labels));
    }
}

/// Returns `full` when measuring, and a hundredth of it when `cargo test` only wants to know that it works.
pub(super) fn scale(full: f64) -> f64 {
    if is_measuring() { full } else { full / 100.0 }
}

/// Tells whether this is `cargo bench`.
pub(super) fn is_measuring() -> bool {
    std::env::args().any(|word| word == "--bench")
}
