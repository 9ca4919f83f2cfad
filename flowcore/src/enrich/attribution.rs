//! Attributes the ends of flows to their owners as the records pass by.

use std::collections::{BTreeMap, HashMap};

use super::addresses::LocalAddresses;
use super::index::SocketIndex;
use super::matching::{self, FlowEnd};
use super::sighting::Tuple;
use crate::error::{Counters, Reason};
use crate::key::End;
use crate::record::{AttributionStats, FlowRecord, Match, Orientation, Owners, ProcessObject, Unattributed};

/// Names the owners of flows' ends, and counts.
pub struct Attribution {
    index: SocketIndex,
    addresses: LocalAddresses,
    recorded: bool,
    found: Counters<Match>,
    unattributed: Counters<Unattributed>,
    /// Owners of flows of which a slice was written.
    carried: HashMap<u64, Owners>,
    carried_dropped: u64,
}

impl Attribution {
    /// Attributes by an index that is being written, on a machine with these addresses.
    pub fn live(index: SocketIndex, addresses: LocalAddresses) -> Self {
        Attribution {
            index,
            addresses,
            recorded: false,
            found: Counters::new(),
            unattributed: Counters::new(),
            carried: HashMap::new(),
            carried_dropped: 0,
        }
    }

    /// Attributes by recorded sockets; the machine's addresses are those that sockets were bound to.
    pub fn recorded(index: SocketIndex) -> Self {
        let addresses = LocalAddresses::new(index.addresses());
        Attribution { recorded: true, ..Attribution::live(index, addresses) }
    }

    /// Names the owner of an end that is this machine's, or says why there is none to be named.
    ///
    /// # Errors
    /// The reason.
    pub fn owner(&self, end: &FlowEnd) -> Result<ProcessObject, Unattributed> {
        self.owner_and_cookie(end).map(|(owner, _)| owner)
    }

    /// Does the same, and returns the cookie of the socket too, where it is this connection's own.
    ///
    /// # Errors
    /// The reason.
    pub fn owner_and_cookie(&self, end: &FlowEnd) -> Result<(ProcessObject, Option<u64>), Unattributed> {
        matching::owner(&self.index, end).map_err(|reason| match reason {
            Unattributed::NoSocket if self.recorded => Unattributed::Offline,
            reason => reason,
        })
    }

    /// Adds the owners of its ends to a record.
    pub fn attach(&mut self, flow: &mut FlowRecord) {
        let mut owners = Owners { src: self.end(flow, flow.src), dst: self.end(flow, flow.src.other()) };
        if flow.slice > 0 || !flow.is_final {
            self.carry(flow, &mut owners);
        }
        if owners.src.is_none() && owners.dst.is_none() {
            return self.unattributed.count(Unattributed::NotLocal);
        }
        for end in [&owners.src, &owners.dst].into_iter().flatten() {
            match end {
                Ok(owner) => self.found.count(owner.matched),
                Err(reason) => self.unattributed.count(*reason),
            }
        }
        flow.owners = Some(Box::new(owners));
    }

    /// Returns what was counted; the caller adds what it knows of lookups.
    pub fn stats(&self) -> AttributionStats {
        AttributionStats {
            sockets: self.index.len(),
            sockets_evicted: self.index.evicted(),
            found: by_name(&self.found),
            unattributed: by_name(&self.unattributed),
            slices_not_carried: self.carried_dropped,
            ..AttributionStats::default()
        }
    }

    /// Tells whether an address is this machine's.
    pub fn is_local(&self, address: std::net::IpAddr) -> bool {
        self.addresses.contains(address)
    }

    /// Names the owner of an end; none where it is not this machine's.
    fn end(&self, flow: &FlowRecord, end: End) -> Option<Result<ProcessObject, Unattributed>> {
        let (local, remote) = (flow.key.endpoint(end), flow.key.endpoint(end.other()));
        let proto = flow.key.proto();
        if !self.addresses.contains(local.addr) {
            let tuple = Tuple::new(self.index.home(), proto, local, Some(remote));
            return self.index.is_elsewhere(&tuple).then_some(Err(Unattributed::OtherNetns));
        }
        let opened = end == flow.src;
        let begun = matches!(flow.orientation, Orientation::Syn | Orientation::SynAck).then_some(flow.first);
        Some(self.owner(&FlowEnd { proto, local, remote, opened, begun, first: flow.first, last: flow.last }))
    }

    /// Gives a slice the owners of the slices before it, where those are known better, and keeps them for the next.
    fn carry(&mut self, flow: &FlowRecord, owners: &mut Owners) {
        if let Some(before) = self.carried.remove(&flow.flow_id) {
            better(&mut owners.src, before.src);
            better(&mut owners.dst, before.dst);
        }
        if flow.is_final {
            return;
        }
        if self.carried.len() < MOST_CARRIED {
            self.carried.insert(flow.flow_id, owners.clone());
        } else {
            self.carried_dropped += 1;
        }
    }
}

type Known = Option<Result<ProcessObject, Unattributed>>;

fn better(now: &mut Known, before: Known) {
    let rank = |known: &Known| match known {
        Some(Ok(owner)) => owner.matched.index(),
        Some(Err(_)) => usize::MAX - 1,
        None => usize::MAX,
    };
    if rank(&before) <= rank(now) {
        *now = before;
    }
}

fn by_name<R: Reason>(counters: &Counters<R>) -> BTreeMap<&'static str, u64> {
    counters.iter().filter(|(_, n)| *n > 0).map(|(reason, n)| (reason.name(), n)).collect()
}

/// Flows in slices whose owners are remembered, at most.
const MOST_CARRIED: usize = 100_000;
