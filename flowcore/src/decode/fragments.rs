//! Fragments on their way through: each gets the flow of its datagram, or is held until that is known.

use super::Outcome;
use super::datagram::{Flow, Released};
use super::datagrams::{Datagrams, FragmentCounts};
use super::walk::Walk;
use crate::packet::{Facts, Fragment, Packet};
use crate::time::TableTime;

/// The fragments of a [`Decoder`](super::Decoder).
#[derive(Default, Debug)]
pub(super) struct Fragments {
    datagrams: Datagrams,
    /// What is about to be handed out; empty between two frames.
    released: Vec<Released>,
}

impl Fragments {
    /// Tells whether nothing is held or known.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Returns what was counted so far.
    pub(super) fn counts(&self) -> FragmentCounts {
        self.datagrams.counts
    }

    /// Returns the memory on the account, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.datagrams.memory
    }

    /// Finishes a packet that is a fragment, or one inside the first fragment of an outer datagram.
    #[cold]
    pub(super) fn take(
        &mut self,
        mut facts: Facts,
        walk: &Walk<'_, '_>,
        out: &mut dyn FnMut(Packet<'_>),
    ) -> Outcome {
        let (layer, now) = (&walk.layer, facts.table_time);
        let payload = layer.transport.payload;
        let own = layer.datagram().zip(layer.ip.piece);
        if let Some(outer) = &walk.split {
            self.datagrams.make_room(outer, 0, &mut self.released);
        }
        if let Some((id, piece)) = &own {
            self.datagrams.make_room(id, piece.bytes.len(), &mut self.released);
        }
        let (mut place, mut is_held) = (None, false);
        if let Some((id, piece)) = &own {
            if piece.offset == 0 {
                facts.fragment = Fragment::First;
                place = Some(self.datagrams.begin(id, Flow::of(&facts), now.time, &mut self.released));
            } else {
                facts.fragment = Fragment::Later;
                let (found, flow) = self.datagrams.find(id, piece, now.time);
                place = Some(found);
                match flow {
                    Some(flow) => (facts.key, facts.sender) = (flow.key, flow.sender),
                    None => is_held = true,
                }
            }
        }
        if let Some(outer) = &walk.split {
            // Its later fragments belong to the flow in it; a tunnel is not put together.
            let begun = self.datagrams.begin(outer, Flow::of(&facts), now.time, &mut self.released);
            self.datagrams.keep_apart(begun);
            // A fragment of the same id as the datagram around it has just become a part of a flow itself.
            is_held &= own.as_ref().is_none_or(|(id, _)| id != outer);
        }
        self.hand_out(now, out);
        if let (true, Some(place)) = (is_held, place) {
            self.datagrams.hold(place, facts, payload, walk.labels);
        }
        let message = match (place, &own) {
            (Some(place), Some((_, piece))) => self.datagrams.add(place, piece),
            _ => layer.transport.message(),
        };
        if is_held {
            return Outcome::Held;
        }
        out(Packet { facts: &facts, payload, message, labels: walk.labels });
        Outcome::Packet
    }

    /// Lets fragments go whose time is over; all of them, at the old table time, where time jumped.
    #[cold]
    pub(super) fn expire(&mut self, before: TableTime, now: TableTime, out: &mut dyn FnMut(Packet<'_>)) {
        if now.epoch != before.epoch {
            return self.clear(before, out);
        }
        self.datagrams.expire(now.time, &mut self.released);
        self.hand_out(now, out);
    }

    /// Lets everything go.
    #[cold]
    pub(super) fn clear(&mut self, now: TableTime, out: &mut dyn FnMut(Packet<'_>)) {
        self.datagrams.clear(&mut self.released);
        self.hand_out(now, out);
    }

    fn hand_out(&mut self, now: TableTime, out: &mut dyn FnMut(Packet<'_>)) {
        for Released { mut facts, labels, payload, .. } in self.released.drain(..) {
            facts.table_time = now;
            out(Packet { facts: &facts, payload: &payload, message: None, labels: &labels });
        }
    }
}
