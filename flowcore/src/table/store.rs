//! Where flows are kept: a slab that never moves them, and an index by key.

use hashbrown::HashTable;

use super::flow::Flow;
use super::hash::{KeyHash, KeyTag};
use super::list::Links;
use crate::feature::Feature;
use crate::key::FlowKey;

/// Flows by number and by key.
///
/// The slab grows by chunks, so that a million flows never have to be copied; freed numbers are used
/// again first. The index holds 8 bytes per flow and is hashed with [`KeyHash`].
pub(super) struct Store<X> {
    chunks: Vec<Vec<Option<Flow<X>>>>,
    free: Vec<u32>,
    index: HashTable<Entry>,
    hash: KeyHash,
    len: usize,
}

/// A flow's number, and the upper half of its key's hash, so that most look-ups touch one flow only.
#[derive(Clone, Copy)]
struct Entry {
    tag: KeyTag,
    at: u32,
}

impl<X> Store<X> {
    /// State, places in two lists, index at its usual load, and free list.
    pub(super) const BYTES_PER_FLOW: u64 = (size_of::<Option<Flow<X>>>() + 2 * Links::BYTES + 16 + 4) as u64;

    pub(super) fn new(hash: KeyHash) -> Self {
        Store { chunks: Vec::new(), free: Vec::new(), index: HashTable::new(), hash, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn tag(&self, key: &FlowKey) -> KeyTag {
        self.hash.of(key).tag()
    }

    #[inline]
    pub(super) fn find(&self, key: &FlowKey, tag: KeyTag) -> Option<u32> {
        let same =
            |entry: &Entry| entry.tag == tag && self.flow(entry.at).is_some_and(|flow| flow.key == *key);
        self.index.find(tag.spread(), same).map(|entry| entry.at)
    }

    /// Returns the flow that a tag most likely belongs to, without looking at it.
    #[inline]
    pub(super) fn guess(&self, tag: KeyTag) -> Option<u32> {
        self.index.find(tag.spread(), |entry| entry.tag == tag).map(|entry| entry.at)
    }

    pub(super) fn insert(&mut self, flow: Flow<X>) -> u32 {
        let tag = flow.tag;
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.place(at) {
                    *place = Some(flow);
                }
                at
            }
            None => {
                if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                    self.chunks.push(Vec::with_capacity(CHUNK));
                }
                let before = (self.chunks.len() - 1) * CHUNK;
                let chunk = &mut self.chunks[before / CHUNK];
                chunk.push(Some(flow));
                (before + chunk.len() - 1) as u32
            }
        };
        self.index.insert_unique(tag.spread(), Entry { tag, at }, |entry| entry.tag.spread());
        self.len += 1;
        at
    }

    /// Drops a flow that is in no list any more.
    pub(super) fn remove(&mut self, at: u32) {
        let Some(tag) = self.flow(at).map(|flow| flow.tag) else { return };
        if let Ok(entry) = self.index.find_entry(tag.spread(), |entry| entry.at == at) {
            entry.remove();
        }
        if let Some(place) = self.place(at) {
            *place = None;
        }
        self.free.push(at);
        self.len -= 1;
    }

    #[inline]
    pub(super) fn flow(&self, at: u32) -> Option<&Flow<X>> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?.as_ref()
    }

    #[inline]
    pub(super) fn flow_mut(&mut self, at: u32) -> Option<&mut Flow<X>> {
        self.place(at)?.as_mut()
    }

    /// Reads a little of each of these flows, so that memory is waited for once for all, and not for each.
    #[inline]
    pub(super) fn touch(&self, flows: impl Iterator<Item = u32>)
    where
        X: Feature,
    {
        let touched = flows.filter_map(|at| self.flow(at)).map(Flow::touch);
        std::hint::black_box(touched.fold(0, u64::wrapping_add));
    }

    /// The same for what is needed of a flow only at its end: its payload, and its place in the index.
    #[inline]
    pub(super) fn touch_last(&self, flows: impl Iterator<Item = u32>)
    where
        X: Feature,
    {
        let place = |flow: &Flow<X>| self.guess(flow.tag).map_or(0, u64::from);
        let touched = flows.filter_map(|at| self.flow(at)).map(|flow| flow.touch_payload() ^ place(flow));
        std::hint::black_box(touched.fold(0, u64::wrapping_add));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Flow<X>)> {
        let all = self.chunks.iter().flatten().enumerate();
        all.filter_map(|(at, flow)| Some((at as u32, flow.as_ref()?)))
    }

    fn place(&mut self, at: u32) -> Option<&mut Option<Flow<X>>> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)
    }
}

/// Flows per chunk of the slab; few where fuzz targets are to meet its end.
const CHUNK: usize = if cfg!(fuzzing) { 4 } else { 1024 };
