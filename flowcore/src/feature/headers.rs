//! A flow's headers: its first two packets as they are, and the states of all features from the third on.
//!
//! Most flows of a scan and most look-ups end with two packets. Kept as they are those take 80 bytes beside
//! the flow's key, where the states would take five times as much; their numbers are made when the flow ends.

use super::{Feature, States, Volume, VolumeValues};
use crate::key::{AddrWords, Dir, End, FlowKey, Proto, TunnelKey, VlanStack};
use crate::packet::{Facts, Fragment, NO_LABELS, Packet, TcpFacts, TcpFlags};
use crate::time::{TableTime, Timestamp};

/// What the features that look at headers know of a flow.
#[derive(Default, Debug)]
pub(super) enum Headers {
    #[default]
    Nothing,
    One(Kept),
    Two(Kept, Kept),
    Counted(Box<States>),
}

/// A packet's headers, as far as features look at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    time: Timestamp,
    wire_len: u32,
    ip_len: u32,
    payload_len: u32,
    seq: u32,
    ack: u32,
    window: u16,
    mss: u16,
    flags: TcpFlags,
    window_scale: u8,
    ttl: u8,
    proto: Proto,
    /// Which of the above there are, bit by bit.
    has: u8,
    bad_checksum: bool,
    dir: Dir,
}

impl Headers {
    /// Takes a packet into account.
    #[inline]
    pub(super) fn update(&mut self, packet: &Packet<'_>, dir: Dir) {
        if let Headers::Counted(states) = self {
            return states.update(packet, dir);
        }
        match (&*self, Kept::new(packet, dir)) {
            (Headers::Nothing, Some(first)) => *self = Headers::One(first),
            (&Headers::One(first), Some(second)) => *self = Headers::Two(first, second),
            _ => self.states().update(packet, dir),
        }
    }

    /// Swaps the directions.
    pub(super) fn turn(&mut self) {
        match self {
            Headers::Nothing => {}
            Headers::One(packet) => packet.dir = packet.dir.flip(),
            Headers::Two(first, second) => {
                (first.dir, second.dir) = (first.dir.flip(), second.dir.flip());
            }
            Headers::Counted(states) => states.turn(),
        }
    }

    /// Returns the states, made of the packets kept so far where there are none yet.
    pub(super) fn states(&mut self) -> &mut States {
        if !matches!(self, Headers::Counted(_)) {
            *self = Headers::Counted(Box::new(self.replay()));
        }
        match self {
            Headers::Counted(states) => states,
            _ => unreachable!("counted from here on"),
        }
    }

    /// Shows the packets that are kept to all features.
    #[inline]
    pub(super) fn replay(&self) -> States {
        let mut states = States::default();
        self.each(|packet, dir| states.update(packet, dir));
        states
    }

    /// Returns packets and bytes.
    pub(super) fn volume(&self) -> VolumeValues {
        if let Headers::Counted(states) = self {
            return states.volume.finish();
        }
        let mut volume = Volume::default();
        self.each(|packet, dir| volume.update(packet, dir, &super::NO_OPTIONS));
        volume.finish()
    }

    /// Returns how many bytes are held outside.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Headers::Counted(states) => size_of::<States>() + states.heap_bytes(),
            _ => 0,
        }
    }

    #[inline]
    fn each(&self, mut look: impl FnMut(&Packet<'_>, Dir)) {
        let kept = match self {
            Headers::One(first) => [Some(first), None],
            Headers::Two(first, second) => [Some(first), Some(second)],
            Headers::Nothing | Headers::Counted(_) => [None; 2],
        };
        for kept in kept.into_iter().flatten() {
            let facts = kept.facts();
            look(&Packet { facts: &facts, payload: &[], message: None, labels: &NO_LABELS }, kept.dir);
        }
    }
}

impl Kept {
    /// Keeps a packet; none where it is a fragment, or longer than fits here.
    #[inline]
    fn new(packet: &Facts, dir: Dir) -> Option<Kept> {
        if packet.fragment != Fragment::No {
            return None;
        }
        let tcp = packet.tcp.as_ref();
        let bit = |there: bool, bit: u8| if there { bit } else { 0 };
        Some(Kept {
            time: packet.time,
            wire_len: packet.wire_len,
            ip_len: u32::try_from(packet.ip_len).ok()?,
            payload_len: u32::try_from(packet.payload_len).ok()?,
            seq: tcp.map_or(0, |tcp| tcp.seq),
            ack: tcp.map_or(0, |tcp| tcp.ack),
            window: tcp.map_or(0, |tcp| tcp.window),
            mss: tcp.and_then(|tcp| tcp.mss).unwrap_or_default(),
            flags: tcp.map_or(TcpFlags(0), |tcp| tcp.flags),
            window_scale: tcp.and_then(|tcp| tcp.window_scale).unwrap_or_default(),
            ttl: packet.ttl,
            proto: packet.key.proto(),
            has: bit(tcp.is_some(), TCP)
                | bit(tcp.is_some_and(|tcp| tcp.mss.is_some()), MSS)
                | bit(tcp.is_some_and(|tcp| tcp.window_scale.is_some()), WINDOW_SCALE),
            bad_checksum: packet.bad_checksum,
            dir,
        })
    }

    /// Returns what was kept; of the key that is the protocol only.
    #[inline]
    fn facts(&self) -> Facts {
        let has = |bit: u8| self.has & bit != 0;
        let nowhere = AddrWords::default();
        let (vlans, tunnel) = (VlanStack::default(), TunnelKey::default());
        let (key, _) = FlowKey::new(4, nowhere, nowhere, self.proto, None, vlans, tunnel);
        Facts {
            key,
            sender: End::Low,
            time: self.time,
            table_time: TableTime { epoch: 0, time: self.time },
            wire_len: self.wire_len,
            ip_len: self.ip_len.into(),
            payload_len: self.payload_len.into(),
            ttl: self.ttl,
            dscp: 0,
            fragment: Fragment::No,
            icmp: None,
            tcp: has(TCP).then(|| TcpFacts {
                flags: self.flags,
                seq: self.seq,
                ack: self.ack,
                window: self.window,
                mss: has(MSS).then_some(self.mss),
                window_scale: has(WINDOW_SCALE).then_some(self.window_scale),
            }),
            bad_checksum: self.bad_checksum,
        }
    }
}

const TCP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 4;
