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
mod datagram;
mod datagrams;
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
use crate::packet::{Facts, Fragment, Frame, Labels, Packet};
use crate::time::{ClockCounts, TableClock, TableTime, Timestamp};

use fragments::Fragments;
use ip::Ip;
use walk::{Halt, Layer, Next, Walk};

pub use datagrams::FragmentCounts;

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
            self.fragments.expire(before, now, &mut out);
        }
        self.set_interface(frame.interface);
        if self.plain(frame, time, now, &mut out) {
            return Outcome::Packet;
        }
        let outcome = self.walk(frame, time, now, &mut out);
        self.labels.vlans.clear();
        self.labels.mpls.clear();
        self.labels.tunnels.clear();
        outcome
    }

    /// Hands out all fragments that are still held, at the end of the input.
    pub fn finish(&mut self, mut out: impl FnMut(Packet<'_>)) {
        self.fragments.clear(self.clock.now(), &mut out);
    }

    /// Moves table time on while no packet comes, and hands out the held fragments that expire by it.
    pub fn tick(&mut self, time: Timestamp, mut out: impl FnMut(Packet<'_>)) {
        self.clock.tick(time);
        let now = self.clock.now();
        self.fragments.expire(now, now, &mut out);
    }

    /// Returns the table time.
    pub fn now(&self) -> TableTime {
        self.clock.now()
    }

    /// Returns how many frames were read so far.
    #[inline]
    pub fn packets(&self) -> u64 {
        self.counts.packets
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> DecodeCounts {
        DecodeCounts { clock: self.clock.counts(), fragments: self.fragments.counts(), ..self.counts.clone() }
    }

    /// Keeps the interface's name in the labels; it rarely changes, so it is compared first.
    #[inline]
    fn set_interface(&mut self, interface: Option<&Arc<str>>) {
        let same = match (&self.labels.interface, interface) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.labels.interface = interface.cloned();
        }
    }

    /// Decodes what most frames are: Ethernet, IP without fragments or extension headers, TCP or UDP, no tunnel.
    ///
    /// Returns whether it was that. The same readers as on the longer way, but all in one function and apart for
    /// each transport, so that nothing is stored and loaded again.
    #[inline(always)]
    fn plain(
        &self,
        frame: &Frame<'_>,
        time: Timestamp,
        now: TableTime,
        out: &mut impl FnMut(Packet<'_>),
    ) -> bool {
        if frame.link.0 != 1 || self.options.checksums {
            return false;
        }
        let ip = match shim::ethernet(frame.data) {
            Ok(Next::Ipv4(bytes)) => ip::ipv4(bytes, missing(frame)),
            Ok(Next::Ipv6(bytes)) => ip::ipv6(bytes, missing(frame)),
            _ => return false,
        };
        let Some(ip) = ip.ok().filter(Ip::is_plain) else { return false };
        match ip.proto {
            6 => {
                let Some(transport) = transport::sound_tcp(ip.body, ip.body_len) else { return false };
                self.hand_out(Layer::bare(ip, transport), frame, time, now, out);
            }
            17 => {
                let transport = transport::udp(ip.body, ip.body_len);
                let is_tunnel = transport.ports.is_some_and(|(src, dst)| tunnels::is_tunnel(src, dst));
                if transport.stop.is_some() || (is_tunnel && self.options.decap) {
                    return false;
                }
                self.hand_out(Layer::bare(ip, transport), frame, time, now, out);
            }
            _ => return false,
        }
        true
    }

    /// Hands out a packet that has no labels but the interface. A function and no closure, to be inlined for sure.
    #[inline(always)]
    fn hand_out(
        &self,
        layer: Layer<'_>,
        frame: &Frame<'_>,
        time: Timestamp,
        now: TableTime,
        out: &mut impl FnMut(Packet<'_>),
    ) {
        let facts = facts(&layer, frame, time, now);
        let (payload, message) = (layer.transport.payload, layer.transport.message());
        out(Packet { facts: &facts, payload, message, labels: &self.labels });
    }

    /// Decodes a frame of any kind. The labels are empty but for the interface, and stay filled.
    #[inline(never)]
    fn walk(
        &mut self,
        frame: &Frame<'_>,
        time: Timestamp,
        now: TableTime,
        out: &mut dyn FnMut(Packet<'_>),
    ) -> Outcome {
        let mut walk = Walk::new(self.options.decap, missing(frame), &mut self.labels);
        if let Err(halt) = walk.run(Next::Link(frame.link.0, frame.data)) {
            if walk.depth == 0 {
                return self.counts.drop_frame(frame, &halt);
            }
            walk.forget_inner_labels();
            self.counts.stopped.count(halt.as_stop());
        }
        let layer = &walk.layer;
        let mut facts = facts(layer, frame, time, now);
        facts.bad_checksum = self.options.checksums && checksum::is_bad(layer);
        if layer.ip.piece.is_some() || walk.split.is_some() {
            return self.fragments.take(facts, &walk, out);
        }
        let (payload, message) = (layer.transport.payload, layer.transport.message());
        out(Packet { facts: &facts, payload, message, labels: walk.labels });
        Outcome::Packet
    }
}

/// Puts together what the packet says; the checksum is not verified yet.
#[inline(always)]
fn facts(layer: &Layer<'_>, frame: &Frame<'_>, time: Timestamp, table_time: TableTime) -> Facts {
    let Layer { ip, transport, vlans, tunnel, .. } = layer;
    let (key, sender) =
        FlowKey::new(ip.version, ip.src, ip.dst, Proto(ip.proto), transport.ports, *vlans, *tunnel);
    Facts {
        key,
        sender,
        time,
        table_time,
        wire_len: frame.wire_len,
        ip_len: ip.ip_len,
        payload_len: transport.payload_len,
        ttl: ip.ttl,
        dscp: ip.dscp,
        fragment: Fragment::No,
        icmp: transport.icmp,
        tcp: transport.tcp,
        bad_checksum: false,
    }
}

/// Returns how many bytes of a frame were not captured.
#[inline(always)]
fn missing(frame: &Frame<'_>) -> u64 {
    u64::from(frame.wire_len).saturating_sub(frame.data.len() as u64)
}

impl DecodeCounts {
    #[cold]
    fn drop_frame(&mut self, frame: &Frame<'_>, halt: &Halt) -> Outcome {
        let reason = match halt {
            Halt::Unreadable(reason) => *reason,
            Halt::Stop(_) => DropReason::OtherProtocol,
        };
        self.dropped.count(reason);
        self.dropped_bytes += u64::from(frame.wire_len);
        Outcome::Dropped(reason)
    }
}

#[cfg(test)]
mod tests;
