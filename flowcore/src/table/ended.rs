//! A flow that has ended: what its record is made of, before the numbers are made.

use std::sync::Arc;

use crate::feature::{CommunityId, FeatureValues, Features, VolumeValues};
use crate::key::{End, FlowKey};
use crate::l7::{App, L7Facts};
use crate::packet::Labels;
use crate::record::{AddedValues, EndReason, FlowRecord, Orientation};
use crate::time::{TableTime, Timestamp};

/// A flow, or a slice of one, that has ended: all that its [`FlowRecord`] is made of.
///
/// Making the record takes as long as counting several packets. So a table can give this instead, and another thread
/// makes the record.
#[derive(Debug)]
pub struct EndedFlow {
    pub(super) flow_id: u64,
    pub(super) key: FlowKey,
    pub(super) src: End,
    pub(super) first_sender: End,
    pub(super) community_seed: u16,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) labels: Option<Arc<Labels>>,
    pub(super) icmp: Option<(u8, u8)>,
    pub(super) dscp: u8,
    pub(super) numbers: Numbers,
    pub(super) app: Option<App>,
    pub(super) l7: L7Facts,
    pub(super) end_reason: EndReason,
    pub(super) orientation: Orientation,
    pub(super) slice: u32,
    pub(super) is_final: bool,
    pub(super) due: TableTime,
    pub(super) extra: Option<Arc<dyn AddedValues>>,
}

/// The per-flow numbers: still to be made, or made already where the flow goes on in another slice.
#[derive(Debug)]
pub(super) enum Numbers {
    States(Features),
    Values(Box<FeatureValues>),
}

impl EndedFlow {
    /// Returns its place in the order of replay: the table time at which it was due, flow id and slice.
    #[inline]
    pub fn place(&self) -> (TableTime, u64, u32) {
        (self.due, self.flow_id, self.slice)
    }

    /// Returns its key, which decides where places are the same.
    #[inline]
    pub fn key(&self) -> FlowKey {
        self.key
    }

    /// Returns why it ended.
    pub fn end_reason(&self) -> EndReason {
        self.end_reason
    }

    /// Returns its packets and bytes.
    #[inline]
    pub fn volume(&self) -> VolumeValues {
        match &self.numbers {
            Numbers::States(features) => features.volume(),
            Numbers::Values(values) => values.volume,
        }
    }
}

impl EndedFlow {
    /// Makes the record; what is held in lists moves into it.
    #[inline]
    pub fn record(&mut self) -> FlowRecord {
        FlowRecord {
            flow_id: self.flow_id,
            key: self.key,
            src: self.src,
            community_id: CommunityId::new(&self.key, self.first_sender, self.icmp, self.community_seed),
            first: self.first,
            last: self.last,
            labels: self.labels.take(),
            icmp: self.icmp,
            dscp: self.dscp,
            features: match &self.numbers {
                Numbers::States(features) => features.finish(),
                Numbers::Values(values) => (**values).clone(),
            },
            app: self.app,
            l7: std::mem::take(&mut self.l7),
            owners: None,
            end_reason: self.end_reason,
            orientation: self.orientation,
            slice: self.slice,
            is_final: self.is_final,
            due: self.due,
            extra: self.extra.take(),
        }
    }
}

impl From<EndedFlow> for FlowRecord {
    #[inline]
    fn from(mut ended: EndedFlow) -> FlowRecord {
        ended.record()
    }
}
