//! What is kept of a connection while it lasts.

use super::flags::FlagCounts;
use super::handshake::Handshake;
use super::history::{CAPACITY, CONTROL, LastNumbers, Letters};
use super::sequence::{Holes, News, Segment, Stream};
use super::state::{self, SideState};
use super::values::{TcpNumbers, TcpSide, TcpValues};
use crate::key::Dir;
use crate::packet::{Fragment, Packet, TcpFacts, TcpFlags};
use crate::time::Timestamp;

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Track {
    /// False for UDP, of which only the letters are kept.
    is_tcp: bool,
    /// Any payload but that of an RST, in any slice.
    payload: bool,
    later_slice: bool,
    states: [SideState; 2],
    flags: FlagCounts,
    side: [Side; 2],
    letters: Letters<CAPACITY>,
    handshake: Handshake,
    trouble: Option<Box<Trouble>>,
}

/// What a connection takes from a packet with a TCP header.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    tcp: TcpFacts,
    payload: u64,
    time: Timestamp,
    dir: Dir,
    /// More fragments of the segment follow.
    fragmented: bool,
    bad_checksum: bool,
}

impl Arrival {
    #[inline]
    fn new(packet: &Packet<'_>, dir: Dir) -> Option<Self> {
        packet.tcp.map(|tcp| Arrival {
            tcp,
            payload: packet.payload_len,
            time: packet.time,
            dir,
            fragmented: packet.fragment != Fragment::No,
            bad_checksum: packet.bad_checksum,
        })
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Side {
    stream: Stream,
    last: LastNumbers,
    flags: TcpFlags,
    window_init: Option<u16>,
    mss: Option<u16>,
    window_scale: Option<u8>,
    /// The first fragment of the segment that is being put together has FIN.
    fragmented_fin: bool,
}

/// What a connection without trouble does not need; and flag counts that became large.
#[derive(Default, Debug)]
struct Trouble {
    side: [SideTrouble; 2],
    flags: [u64; 8],
}

#[derive(Clone, Copy, Default, Debug)]
struct SideTrouble {
    retransmits: u64,
    out_of_order: u64,
    zero_windows: u64,
    /// How often each [`Mark`] came in this slice.
    marks: [u64; 4],
    holes: Holes,
}

/// Letters that are written at the first, tenth, hundredth … time.
#[derive(Clone, Copy)]
enum Mark {
    Checksum,
    Gap,
    Retransmit,
    ZeroWindow,
}

impl Track {
    pub(super) fn new(is_tcp: bool, letters: Letters<CAPACITY>) -> Self {
        Track {
            is_tcp,
            payload: false,
            later_slice: false,
            states: Default::default(),
            flags: FlagCounts::default(),
            side: Default::default(),
            letters,
            handshake: Handshake::default(),
            trouble: None,
        }
    }

    #[inline]
    pub(super) fn update(&mut self, packet: &Packet<'_>, dir: Dir) {
        let at = dir.index();
        match Arrival::new(packet, dir) {
            Some(arrival) if self.is_tcp => self.segment(&arrival),
            _ if packet.bad_checksum => self.mark(at, Mark::Checksum),
            _ if self.is_tcp => {}
            _ if packet.payload_len > 0 => self.letters.once(at, super::Once::Data),
            _ => {}
        }
        if self.is_tcp && packet.fragment != Fragment::No {
            self.complete(packet, at);
        }
    }

    #[inline]
    fn segment(&mut self, arrival: &Arrival) {
        let Arrival { tcp, dir, .. } = arrival;
        let at = dir.index();
        if self.flags.count(tcp.flags) {
            self.flags.empty_into(&mut self.trouble.get_or_insert_default().flags);
        }
        self.side[at].flags |= tcp.flags;
        if arrival.bad_checksum {
            // Its receiver drops it, so nothing else in it is believed.
            return self.mark(at, Mark::Checksum);
        }
        // Most packets are plain. Told so before, the compiler leaves out what only concerns the others.
        if tcp.flags.intersects(CONTROL) {
            self.step(arrival);
        } else {
            let flags = TcpFlags(tcp.flags.0 & !CONTROL.0);
            self.step(&Arrival { tcp: TcpFacts { flags, ..*tcp }, ..*arrival });
        }
    }

    #[inline(always)]
    fn step(&mut self, arrival: &Arrival) {
        let Arrival { tcp, payload, dir, .. } = arrival;
        let (at, peer) = (dir.index(), dir.flip().index());
        let control = tcp.flags.intersects(CONTROL);
        let restart = self.restarts(tcp, at);
        self.letters.segment(&mut self.side[at].last, at, tcp, *payload);
        self.handshake_values(tcp, at);
        if tcp.window == 0 {
            self.zero_window(tcp, at, control);
        }
        self.sequence(arrival, restart);
        let acks = tcp.flags.contains(TcpFlags::ACK) && !control;
        if acks && let Some(trouble) = &mut self.trouble {
            for _ in 0..trouble.side[peer].holes.acknowledge(tcp.ack) {
                self.mark(peer, Mark::Gap);
            }
        }
        state::advance(&mut self.states, at, tcp.flags, *payload > 0);
        self.payload |= *payload > 0 && !tcp.flags.contains(TcpFlags::RST);
        if !self.later_slice {
            self.handshake.update(tcp, *dir, arrival.time);
        }
    }

    /// Tells whether a packet is a SYN of another connection than its side's packets so far.
    #[inline(always)]
    fn restarts(&self, tcp: &TcpFacts, at: usize) -> bool {
        let Side { stream, last, .. } = &self.side[at];
        tcp.flags.contains(TcpFlags::SYN)
            && match last.syn() {
                Some(number) => number != tcp.seq,
                None => !stream.is_opened_by(tcp.seq),
            }
    }

    #[inline(always)]
    fn handshake_values(&mut self, tcp: &TcpFacts, at: usize) {
        let side = &mut self.side[at];
        side.window_init.get_or_insert(tcp.window);
        if tcp.flags.contains(TcpFlags::SYN) {
            side.mss = side.mss.or(tcp.mss);
            side.window_scale = side.window_scale.or(tcp.window_scale);
        }
    }

    fn zero_window(&mut self, tcp: &TcpFacts, at: usize, control: bool) {
        let peer_closed = self.states[!at & 1] == SideState::Closed;
        if tcp.flags.contains(TcpFlags::RST) || peer_closed || self.states[at].is_reset() {
            return;
        }
        self.trouble.get_or_insert_default().side[at].zero_windows += 1;
        if !control {
            self.mark(at, Mark::ZeroWindow);
        }
    }

    #[inline(always)]
    fn sequence(&mut self, arrival: &Arrival, restart: bool) {
        let (at, flags) = (arrival.dir.index(), arrival.tcp.flags);
        // FIN stands behind the last fragment.
        let fin = flags.contains(TcpFlags::FIN) && !arrival.fragmented;
        let numbers = u32::from(flags.contains(TcpFlags::SYN)) + u32::from(fin);
        let payload = arrival.payload.min(LONGEST) as u32;
        let plain = !flags.intersects(CONTROL);
        let bare_reset = flags.contains(TcpFlags::RST) && payload + numbers == 0;
        let segment = Segment { start: arrival.tcp.seq, len: payload + numbers, plain, bare_reset, restart };
        if self.side[at].stream.append(segment) {
            return;
        }
        let side = &mut self.side[at];
        let news = match &mut self.trouble {
            Some(trouble) => side.stream.insert(segment, &mut trouble.side[at].holes),
            None => {
                let mut holes = Holes::default();
                let news = side.stream.insert(segment, &mut holes);
                if !holes.is_empty() {
                    self.trouble.get_or_insert_default().side[at].holes = holes;
                }
                news
            }
        };
        match news {
            News::New => {}
            News::OutOfOrder => self.trouble.get_or_insert_default().side[at].out_of_order += 1,
            News::Retransmit => {
                self.trouble.get_or_insert_default().side[at].retransmits += 1;
                if plain {
                    self.mark(at, Mark::Retransmit);
                }
            }
        }
    }

    /// Takes the rest of a fragmented segment into account once it is put together.
    fn complete(&mut self, packet: &Packet<'_>, at: usize) {
        let side = &mut self.side[at];
        if let Some(tcp) = &packet.tcp {
            side.fragmented_fin = tcp.flags.contains(TcpFlags::FIN);
        }
        let Some(message) = &packet.message else { return };
        let len = (message.bytes.len() as u64).min(LONGEST) as u32 + u32::from(side.fragmented_fin);
        let holes = &mut self.trouble.get_or_insert_default().side[at].holes;
        side.stream.complete(message.seq, message.seq.wrapping_add(len), holes);
        side.fragmented_fin = false;
    }

    fn mark(&mut self, at: usize, mark: Mark) {
        let count = &mut self.trouble.get_or_insert_default().side[at].marks[mark as usize];
        *count += 1;
        if 10u64.pow(count.ilog10()) == *count {
            self.letters.write(at, b"CGTW"[mark as usize]);
        }
    }

    pub(super) fn turn(&mut self) {
        self.states.swap(0, 1);
        self.side.swap(0, 1);
        self.letters.turn();
        self.handshake.turn();
        if let Some(trouble) = &mut self.trouble {
            trouble.side.swap(0, 1);
        }
    }

    /// Counters start from zero; numbers, holes and states stay.
    pub(super) fn next_slice(&mut self) {
        self.later_slice = true;
        self.flags = FlagCounts::default();
        self.letters.next_slice();
        for side in &mut self.side {
            side.flags = TcpFlags::default();
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.flags = [0; 8];
            for side in &mut trouble.side {
                *side = SideTrouble { holes: side.holes, ..SideTrouble::default() };
            }
        }
    }

    pub(super) fn finish(&self) -> TcpValues {
        TcpValues { history: self.letters.text(), tcp: self.is_tcp.then(|| self.numbers()) }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.trouble.as_deref().map_or(0, size_of_val)
    }

    fn numbers(&self) -> TcpNumbers {
        let aborted_attempt = self.letters.aborted_attempt();
        let wide = self.trouble.as_ref().map(|trouble| trouble.flags).unwrap_or_default();
        TcpNumbers {
            src: self.side_values(0),
            dst: self.side_values(1),
            flag_counts: self.flags.plus(&wide),
            state: state::conn_state(self.states, self.payload, aborted_attempt),
            handshake: if self.later_slice { None } else { self.handshake.times() },
        }
    }

    fn side_values(&self, at: usize) -> TcpSide {
        let side = &self.side[at];
        let trouble = self.trouble.as_ref().map(|trouble| trouble.side[at]).unwrap_or_default();
        let first_slice = !self.later_slice;
        TcpSide {
            flags: side.flags,
            retransmits: trouble.retransmits,
            out_of_order: trouble.out_of_order,
            zero_windows: trouble.zero_windows,
            window_init: side.window_init.filter(|_| first_slice),
            mss: side.mss.filter(|_| first_slice),
            window_scale: side.window_scale.filter(|_| first_slice),
        }
    }
}

/// The most bytes that one segment counts for: TCP's largest window. Only a lying length is longer.
const LONGEST: u64 = 1 << 30;
