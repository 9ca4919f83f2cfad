//! Flows that begin evenly over a time and go on at their own pace.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::flow::{Carriage, Flow};
use crate::pools::Pools;
use crate::rng::{Rng, mix};
use crate::shapes::{Maker, Sent, places};
use crate::wire::Wire;

/// Writes flow number `index` and its script into `flow`.
pub(super) type Write = fn(index: u32, rng: &mut Rng, flow: &mut Flow);

/// The open flows by the time of their next packet, and the flows to come.
pub(super) struct Schedule {
    write: Write,
    seed: u64,
    flows: u32,
    opened: u32,
    seconds: u32,
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    open: Vec<Flow>,
    free: Vec<u32>,
}

impl Schedule {
    pub(super) fn new(write: Write, flows: u32, seconds: u32, seed: u64) -> Self {
        let (queue, open, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Schedule { write, seed, flows, opened: 0, seconds, queue, open, free }
    }

    /// Returns when the next flow begins: somewhere in its share of the time.
    fn next_opening(&self) -> Option<u64> {
        (self.opened < self.flows).then(|| {
            let share = u64::from(self.seconds) * 1_000_000;
            let begin = |index: u32| share * u64::from(index) / u64::from(self.flows);
            let (from, to) = (begin(self.opened), begin(self.opened + 1));
            from + mix(self.seed ^ u64::from(self.opened)) % (to - from).max(1)
        })
    }

    fn open(&mut self, at_us: u64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            let nobody = places::ends(places::known(0, false), 0, places::known(0, false), 0);
            self.open.push(Flow::new("", nobody, Carriage::Udp, [0, 0]));
            self.open.len() as u32 - 1
        });
        let flow = &mut self.open[slot as usize];
        (self.write)(self.opened, &mut Rng::new(self.seed ^ mix(u64::from(self.opened))), flow);
        self.opened += 1;
        let first = at_us + u64::from(flow.next_gap().unwrap_or(0));
        self.queue.push(Reverse((first, slot)));
    }
}

impl Maker for Schedule {
    fn next(&mut self, pools: &Pools, wire: &mut Wire) -> Option<Sent> {
        while let Some(opening) = self.next_opening()
            && self.queue.peek().is_none_or(|Reverse((next, _))| opening <= *next)
        {
            self.open(opening);
        }
        let mut top = self.queue.peek_mut()?;
        let Reverse((at_us, slot)) = *top;
        let flow = &mut self.open[slot as usize];
        let opens = flow.is_new() && flow.carriage != Carriage::Arp;
        let payload = flow.send(at_us, pools, wire)?;
        let sent = Sent { at_us, kind: flow.kind, payload, opens };
        match flow.next_gap() {
            Some(gap) => *top = Reverse((at_us + u64::from(gap), slot)),
            None => {
                std::collections::binary_heap::PeekMut::pop(top);
                self.free.push(slot);
            }
        }
        Some(sent)
    }
}
