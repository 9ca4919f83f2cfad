//! One flow: its state between packets, and what is left of it at its end.

use std::sync::Arc;

use super::direction::{self, Evidence};
use super::ended::{EndedFlow, Numbers};
use super::hash::KeyTag;
use super::options::{TableOptions, Timeouts};
use crate::feature::{Feature, Features, Values, VolumeValues};
use crate::key::{Dir, End, FlowKey};
use crate::l7::{Conversation, L7Counts};
use crate::packet::{Labels, Packet, TcpFlags};
use crate::record::{EndReason, Orientation};
use crate::time::{TableTime, Timestamp};

/// The state of a flow.
pub(super) struct Flow<X> {
    pub(super) key: FlowKey,
    pub(super) tag: KeyTag,
    src: End,
    first_sender: End,
    orientation: Orientation,
    /// Better evidence has turned it round; that happens once.
    turned: bool,
    /// One packet so far, or a TCP handshake that is not complete: the first to go when the table is full.
    pub(super) young: bool,
    flow_id: u64,
    slice: u32,
    /// Time of the packet that opened the slice.
    opened: Timestamp,
    /// Smallest and largest packet time of the slice.
    first: Timestamp,
    last: Timestamp,
    /// Largest packet time of the flow.
    newest: Timestamp,
    /// Table time of the latest packet.
    touched: Timestamp,
    closing: Option<Closing>,
    fins: u8,
    last_syn: Option<u32>,
    icmp: Option<(u8, u8)>,
    dscp: u8,
    labels: Option<Arc<Labels>>,
    /// What the labels take: others may share them, but nobody knows for how long.
    label_bytes: u16,
    /// Bytes held outside, as of the latest packet.
    pub(super) heap: u32,
    features: Features,
    l7: Conversation,
    extra: X,
}

/// How and when a TCP flow was closed.
#[derive(Clone, Copy, Debug)]
struct Closing {
    reason: EndReason,
    at: Timestamp,
}

/// What a packet changed that the table keeps account of.
pub(super) struct Change {
    /// Bytes held outside: so many more.
    pub(super) heap: i64,
    /// The flow is no longer young.
    pub(super) grew_up: bool,
    /// The flow is closed, and so due earlier.
    pub(super) closes: bool,
}

/// What a packet means for the flow that its key names.
pub(super) enum Fate {
    /// It belongs to the flow.
    Goes,
    /// It belongs to the flow's next slice.
    Cuts,
    /// The flow has ended, for this reason and at this table time; the packet opens a new one.
    Ended(EndReason, Timestamp),
}

impl<X: Feature> Flow<X> {
    /// Makes the flow that a packet opens; the packet itself is still to be counted by [`Flow::count`].
    pub(super) fn open(packet: &Packet<'_>, tag: KeyTag, labels: Option<Arc<Labels>>) -> Self {
        let Evidence { rule, src } = direction::first_packet(packet.facts);
        let time = packet.time;
        Flow {
            key: packet.key,
            tag,
            src: if packet.key.ends_equal() { End::Low } else { src },
            first_sender: packet.sender,
            orientation: rule,
            turned: false,
            young: true,
            flow_id: packet.key.stable_hash(time.as_nanos() as u64) >> 11,
            slice: 0,
            opened: time,
            first: time,
            last: time,
            newest: time,
            touched: packet.table_time.time,
            closing: None,
            fins: 0,
            last_syn: None,
            icmp: packet.icmp,
            dscp: packet.dscp,
            label_bytes: labels
                .as_ref()
                .map_or(0, |labels| (LABELS_BYTES + labels.heap_bytes()).try_into().unwrap_or(u16::MAX)),
            labels,
            heap: 0,
            features: Features::default(),
            l7: Conversation::default(),
            extra: X::default(),
        }
    }

    /// Tells what a packet of this key means for the flow.
    #[inline]
    pub(super) fn fate(&self, packet: &Packet<'_>, timeouts: &Timeouts) -> Fate {
        let now = packet.table_time.time;
        if let Some(reason) = self.ended(now, timeouts) {
            return Fate::Ended(reason, self.due(timeouts));
        }
        if let Some(tcp) = packet.tcp
            && tcp.flags.is_syn()
            && !packet.bad_checksum
            && self.last_syn != Some(tcp.seq)
        {
            if let Some(closing) = self.closing {
                return Fate::Ended(closing.reason, now);
            }
            if now.nanos_since(self.newest) >= LINGER {
                return Fate::Ended(EndReason::Reuse, now);
            }
        }
        if now.nanos_since(self.opened) > timeouts.active { Fate::Cuts } else { Fate::Goes }
    }

    /// Returns why the flow has ended by a table time, if it has.
    #[inline]
    pub(super) fn ended(&self, now: Timestamp, timeouts: &Timeouts) -> Option<EndReason> {
        if let Some(closing) = self.closing
            && now.nanos_since(closing.at) > LINGER
        {
            return Some(closing.reason);
        }
        let silent = now.nanos_since(self.newest);
        (silent > timeouts.idle(self.key.proto())).then(|| self.end_reason(EndReason::Idle))
    }

    /// Returns the reason of a flow that ends for want of packets, room or input.
    pub(super) fn end_reason(&self, otherwise: EndReason) -> EndReason {
        self.closing.map_or(otherwise, |closing| closing.reason)
    }

    /// Returns the table time at which the flow ends if nothing more comes.
    #[inline]
    pub(super) fn due(&self, timeouts: &Timeouts) -> Timestamp {
        let idle = timeouts.idle(self.key.proto());
        let idle = self.newest.saturating_add_nanos(idle).max(self.touched);
        match self.closing {
            Some(closing) => idle.min(closing.at.saturating_add_nanos(LINGER)),
            None => idle,
        }
    }

    /// Returns what stands behind the due time in the order of replay.
    pub(super) fn order(&self) -> (u64, u32) {
        (self.flow_id, self.slice)
    }

    /// Counts a packet in every number of the flow; `opens` says that it is the flow's first one.
    ///
    /// Returns what the table has to know of it.
    #[inline]
    pub(super) fn count(
        &mut self,
        packet: &Packet<'_>,
        opens: bool,
        options: &TableOptions,
        l7_counts: &mut L7Counts,
    ) -> Change {
        let (was_young, was_closing) = (self.young, self.closing.is_some());
        self.first = self.first.min(packet.time);
        self.last = self.last.max(packet.time);
        self.newest = self.newest.max(packet.time);
        self.touched = packet.table_time.time;
        // A packet with a wrong checksum is counted, but nobody acted on it: nor is it believed here.
        let believed = !packet.bad_checksum;
        if !opens
            && believed
            && let Some(evidence) = direction::handshake(packet.facts)
        {
            self.follow(evidence, opens);
        }
        if packet.message.is_some()
            && believed
            && let Some(client) = self.l7.read(packet, self.dir(packet.sender), l7_counts)
        {
            let src = if client == Dir::Fwd { self.src } else { self.src.other() };
            self.follow(Evidence { rule: Orientation::App, src }, opens);
        }
        let dir = self.dir(packet.sender);
        self.features.update(packet, dir, &options.features);
        self.extra.update(packet, dir, &options.features);
        match packet.tcp {
            Some(tcp) if believed => {
                self.young &= opens || tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST);
                if tcp.flags.is_syn() {
                    self.last_syn = Some(tcp.seq);
                }
                self.close(tcp.flags, packet);
            }
            _ => self.young &= opens,
        }
        Change {
            heap: self.measure(),
            grew_up: was_young && !self.young,
            closes: self.closing.is_some() && !was_closing,
        }
    }

    /// Reads a little of each part, so that it is in the cache when it is needed.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        self.key.as_words()[4] ^ self.newest.as_nanos() as u64 ^ self.heap_bytes() as u64
    }

    /// The same for the payload that is held outside.
    pub(super) fn touch_payload(&self) -> u64 {
        self.features.touch_payload()
    }

    /// Returns the bytes held outside.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        let labels = usize::from(self.label_bytes);
        self.features.heap_bytes() + self.extra.heap_bytes() + self.l7.heap_bytes() + labels
    }

    /// Returns by how much the bytes held outside have changed since the last call.
    #[inline]
    fn measure(&mut self) -> i64 {
        let heap = u32::try_from(self.heap_bytes()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.heap, heap);
        i64::from(self.heap) - i64::from(before)
    }

    /// Returns the packets and bytes of the slice so far.
    pub(super) fn volume(&self) -> VolumeValues {
        self.features.volume()
    }

    /// Ends the slice at a packet that belongs to the next one.
    pub(super) fn cut(&mut self, packet: &Packet<'_>, options: &TableOptions) -> EndedFlow {
        let values = Numbers::Values(Box::new(self.features.finish()));
        let ended = self.ended_with(values, EndReason::Active, packet.table_time, options);
        self.features.next_slice();
        self.extra.next_slice();
        self.slice += 1;
        self.orientation = self.orientation.min(Orientation::Carried);
        (self.opened, self.first, self.last) = (packet.time, packet.time, packet.time);
        ended
    }

    /// Ends the flow; nothing of its state is left.
    #[inline]
    pub(super) fn end(&mut self, reason: EndReason, due: TableTime, options: &TableOptions) -> EndedFlow {
        let states = Numbers::States(std::mem::take(&mut self.features));
        self.ended_with(states, reason, due, options)
    }

    #[inline]
    fn ended_with(
        &mut self,
        numbers: Numbers,
        end_reason: EndReason,
        due: TableTime,
        options: &TableOptions,
    ) -> EndedFlow {
        let is_final = end_reason != EndReason::Active;
        EndedFlow {
            flow_id: self.flow_id,
            key: self.key,
            src: self.src,
            first_sender: self.first_sender,
            community_seed: options.community_seed,
            first: self.first,
            last: self.last,
            labels: self.labels.clone(),
            icmp: self.icmp,
            dscp: self.dscp,
            numbers,
            app: self.l7.app(),
            l7: self.l7.finish(is_final),
            end_reason,
            orientation: self.orientation,
            slice: self.slice,
            is_final,
            due,
            extra: if X::Values::FIELDS.is_empty() { None } else { Some(Arc::new(self.extra.finish())) },
        }
    }

    #[inline]
    fn dir(&self, sender: End) -> Dir {
        if sender == self.src { Dir::Fwd } else { Dir::Rev }
    }

    /// Takes better evidence of who the initiator is; turns the flow round if it must and still may.
    fn follow(&mut self, evidence: Evidence, opens: bool) {
        if evidence.rule >= self.orientation {
            return;
        }
        if evidence.src != self.src && !self.key.ends_equal() {
            if self.turned || self.slice > 0 {
                return;
            }
            self.src = evidence.src;
            self.l7.turn();
            // The first packet turns nothing: the numbers have not begun yet.
            if !opens {
                self.turned = true;
                self.features.turn();
                self.extra.turn();
            }
        }
        self.orientation = evidence.rule;
    }

    fn close(&mut self, flags: TcpFlags, packet: &Packet<'_>) {
        if flags.contains(TcpFlags::FIN) {
            self.fins |= 1 << packet.sender as u8;
        }
        if self.closing.is_some() {
            return;
        }
        let at = packet.table_time.time;
        if flags.contains(TcpFlags::RST) {
            self.closing = Some(Closing { reason: EndReason::Rst, at });
        } else if self.fins == 0b11 {
            self.closing = Some(Closing { reason: EndReason::Fin, at });
        }
    }
}

/// How long a closed flow still takes packets, and how long one must be silent for a new SYN to end it.
const LINGER: u64 = 5_000_000_000;
/// What labels take that are shared, beside what they hold outside: two counters stand before them.
const LABELS_BYTES: usize = 2 * size_of::<usize>() + size_of::<Labels>();
