//! Bytes to packets.
//!
//! A [`Decoder`] takes captured frames and hands out packets: it goes through link layer, shims and
//! tunnels to the innermost IP header, reads the transport header, and gives each fragment the flow of
//! its datagram. Whatever the bytes are, each frame ends as a packet or is counted under a
//! [`DropReason`]; nothing here panics, allocates for a packet that is no fragment, or reads a clock.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod checksum;
mod fragments;
mod ip;
mod link;
mod radio;
mod shim;
mod transport;
mod tunnels;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Counters, DropReason, StopReason};
use crate::key::{FlowKey, Proto};
use crate::packet::{Facts, Fragment, Frame, Labels, Message, Packet};
use crate::time::{ClockCounts, TableClock, TableTime, Timestamp};

use fragments::{Flow, Fragments, Released, first_payload_seq};
use walk::{DatagramId, Halt, Layer, Next, Walk};

pub use fragments::FragmentCounts;

/// What a user can set about decoding.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// Open tunnels, so that the innermost IP header makes the flow (the default); otherwise the outermost.
    pub decap: bool,
    /// Verify the checksums of whole packets; off by default.
    pub checksums: bool,
    /// How far time may step back before it is a time jump: the table's largest idle timeout (300 s).
    pub jump: Duration,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions { decap: true, checksums: false, jump: Duration::from_secs(300) }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was handed out as a packet.
    Packet,
    /// It is a fragment, held until the first fragment of its datagram comes.
    Held,
    /// It has no flow.
    Dropped(DropReason),
}

/// What a [`Decoder`] counted: `packets` = packets handed out + dropped + held, and the same for bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodeCounts {
    /// Frames read.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Frames without a flow.
    pub dropped: Counters<DropReason>,
    /// The bytes of those on the wire.
    pub dropped_bytes: u64,
    /// Packets in which decoding stopped before the innermost transport header, or in it.
    pub stopped: Counters<StopReason>,
    /// Packets without a time or out of order, and time jumps.
    pub clock: ClockCounts,
    /// Fragments held now, expired, evicted, overlapping.
    pub fragments: FragmentCounts,
}

/// Turns frames into packets.
#[derive(Debug)]
pub struct Decoder {
    options: DecodeOptions,
    clock: TableClock,
    counts: DecodeCounts,
    labels: Labels,
    fragments: Fragments,
    released: Vec<Released>,
}

impl Decoder {
    /// Makes a decoder.
    pub fn new(options: DecodeOptions) -> Self {
        Decoder {
            clock: TableClock::new(options.jump),
            options,
            counts: DecodeCounts::default(),
            labels: Labels::default(),
            fragments: Fragments::default(),
            released: Vec::new(),
        }
    }

    /// Tells whether this frame makes time jump: then everything before it is to be ended first.
    #[inline]
    pub fn jumps_at(&self, frame: &Frame<'_>) -> bool {
        frame.time.is_some_and(|time| self.clock.jumps_at(time))
    }

    /// Decodes a frame and hands each packet that it makes ready to `out`.
    ///
    /// That is none where the frame is dropped or held, and several where it sets held fragments free;
    /// those come first, in the order in which they arrived.
    #[inline]
    pub fn decode(&mut self, frame: &Frame<'_>, mut out: impl FnMut(Packet<'_>)) -> Outcome {
        self.counts.packets += 1;
        self.counts.bytes += u64::from(frame.wire_len);
        let before = self.clock.now();
        let (time, now) = self.clock.observe(frame.time);
        if !self.fragments.is_empty() {
            self.expire(before, now, &mut out);
        }
        self.prepare_labels(frame.interface);

        let missing = u64::from(frame.wire_len).saturating_sub(frame.data.len() as u64);
        let mut walk = Walk::new(self.options.decap, missing, &mut self.labels);
        let start = match frame.link.0 {
            1 => Next::Ethernet(frame.data),
            link => Next::Link(link, frame.data),
        };
        let halt = walk.run(start).err();
        if halt.is_some() {
            walk.forget_inner_labels();
        }
        let Walk { layer, split, .. } = walk;
        let Some(layer) = layer else { return self.drop_frame(frame, halt) };
        if let Some(halt) = halt {
            self.counts.stopped.count(halt.as_stop());
        }
        let (key, sender) = FlowKey::new(
            layer.version,
            layer.src,
            layer.dst,
            Proto(layer.proto),
            layer.transport.ports,
            layer.vlans,
            layer.tunnel,
        );
        let facts = Facts {
            key,
            sender,
            time,
            table_time: now,
            wire_len: frame.wire_len,
            ip_len: layer.ip_len,
            payload_len: layer.transport.payload_len,
            ttl: layer.ttl,
            dscp: layer.dscp,
            fragment: Fragment::No,
            icmp: layer.transport.icmp,
            tcp: layer.transport.tcp,
            bad_checksum: self.options.checksums && checksum::is_bad(&layer),
        };
        if layer.piece.is_some() || split.is_some() {
            return self.fragment(facts, &layer, split, &mut out);
        }
        let message = whole_message(&facts, &layer);
        out(Packet { facts: &facts, payload: layer.transport.payload, message, labels: &self.labels });
        Outcome::Packet
    }

    /// Hands out all fragments that are still held, at the end of the input.
    pub fn finish(&mut self, mut out: impl FnMut(Packet<'_>)) {
        self.fragments.clear(&mut self.released);
        self.hand_out_released(self.clock.now(), &mut out);
    }

    /// Moves table time on while no packet comes, and hands out the held fragments that expire by it.
    pub fn tick(&mut self, time: Timestamp, mut out: impl FnMut(Packet<'_>)) {
        self.clock.tick(time);
        let now = self.clock.now();
        self.expire(now, now, &mut out);
    }

    /// Returns the table time.
    pub fn now(&self) -> TableTime {
        self.clock.now()
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> DecodeCounts {
        DecodeCounts { clock: self.clock.counts(), fragments: self.fragments.counts, ..self.counts.clone() }
    }

    /// Empties the labels. The interface rarely changes from packet to packet, so it is compared first.
    #[inline]
    fn prepare_labels(&mut self, interface: Option<&Arc<str>>) {
        self.labels.vlans.clear();
        self.labels.mpls.clear();
        self.labels.tunnels.clear();
        let same = match (&self.labels.interface, interface) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.labels.interface = interface.cloned();
        }
    }

    /// Lets fragments go whose time is over; all of them, at the old table time, where time jumped.
    #[cold]
    fn expire(&mut self, before: TableTime, now: TableTime, out: &mut dyn FnMut(Packet<'_>)) {
        if now.epoch == before.epoch {
            self.fragments.expire(now.time, &mut self.released);
            self.hand_out_released(now, out);
        } else {
            self.fragments.clear(&mut self.released);
            self.hand_out_released(before, out);
        }
    }

    fn hand_out_released(&mut self, now: TableTime, out: &mut dyn FnMut(Packet<'_>)) {
        for Released { mut facts, labels, payload, .. } in self.released.drain(..) {
            facts.table_time = now;
            out(Packet { facts: &facts, payload: &payload, message: None, labels: &labels });
        }
    }

    /// Finishes a packet that is a fragment, or one that the first fragment of the datagram `split` carries.
    #[cold]
    fn fragment(
        &mut self,
        mut facts: Facts,
        layer: &Layer<'_>,
        split: Option<DatagramId>,
        out: &mut dyn FnMut(Packet<'_>),
    ) -> Outcome {
        let now = facts.table_time;
        let payload = layer.transport.payload;
        let own = layer.datagram().zip(layer.piece);
        for (id, bytes) in split.iter().map(|id| (id, 0)).chain(own.iter().map(|(id, p)| (id, p.bytes.len())))
        {
            self.fragments.make_room(id, bytes, &mut self.released);
        }
        let (mut place, mut is_held) = (None, false);
        if let Some((id, piece)) = &own {
            if piece.offset == 0 {
                facts.fragment = Fragment::First;
                let flow = Flow { key: facts.key, sender: facts.sender };
                place = Some(self.fragments.begin(id, flow, now.time, &mut self.released));
            } else {
                facts.fragment = Fragment::Later;
                let (found, flow) = self.fragments.find(id, piece, now.time);
                place = Some(found);
                match flow {
                    Some(flow) => (facts.key, facts.sender) = (flow.key, flow.sender),
                    None => is_held = true,
                }
            }
        }
        if let Some(outer) = &split {
            // Its later fragments belong to the flow in it; a tunnel is not put together.
            let flow = Flow { key: facts.key, sender: facts.sender };
            let outer = self.fragments.begin(outer, flow, now.time, &mut self.released);
            self.fragments.keep_apart(outer);
        }
        self.hand_out_released(now, out);
        if let (true, Some(place)) = (is_held, place) {
            self.fragments.hold(place, facts, payload, &self.labels);
        }
        let message = match (place, &own) {
            (Some(place), Some((_, piece))) => self.fragments.add(place, piece),
            _ => whole_message(&facts, layer),
        };
        if is_held {
            return Outcome::Held;
        }
        out(Packet { facts: &facts, payload, message, labels: &self.labels });
        Outcome::Packet
    }

    #[cold]
    fn drop_frame(&mut self, frame: &Frame<'_>, halt: Option<Halt>) -> Outcome {
        let reason = match halt {
            Some(Halt::Unreadable(reason)) => reason,
            _ => DropReason::OtherProtocol,
        };
        self.counts.dropped.count(reason);
        self.counts.dropped_bytes += u64::from(frame.wire_len);
        Outcome::Dropped(reason)
    }
}

/// Returns what a parser may read of a packet that is whole: nothing where the transport header is damaged.
#[inline]
fn whole_message<'a>(facts: &Facts, layer: &Layer<'a>) -> Option<Message<'a>> {
    let transport = &layer.transport;
    transport.sound.then(|| Message {
        bytes: transport.payload,
        seq: facts.tcp.map_or(0, |tcp| first_payload_seq(tcp.seq, tcp.flags)),
        complete: transport.payload.len() as u64 == transport.payload_len,
    })
}

#[cfg(test)]
mod tests;
