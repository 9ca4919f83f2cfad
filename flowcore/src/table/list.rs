//! Lists of flows by number, whose links stand close together and not in the flows.
//!
//! To go along a list, or to take a flow out of its middle, reads no flow: those are rarely in the cache.

/// The ends of a doubly linked list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

/// The links of any number of lists, of which each flow is in one at most.
#[derive(Default)]
pub(super) struct Links {
    /// In chunks, so that they never have to be copied.
    chunks: Vec<Box<[Link]>>,
}

/// A flow's place in a list.
#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    /// The number of the list; [`NO_LIST`] outside of all.
    list: u16,
}

impl List {
    pub(super) const EMPTY: List = List { head: NONE, tail: NONE };

    pub(super) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Returns the first flow.
    pub(super) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Returns the flows from the first one on.
    pub(super) fn iter(&self, links: &Links) -> impl Iterator<Item = u32> {
        std::iter::successors(self.front(), |&at| Some(links.link(at).next).filter(|&next| next != NONE))
    }

    /// Adds a flow that is in no list to this one, which goes by the number `list`.
    pub(super) fn push_back(&mut self, at: u32, list: u16, links: &mut Links) {
        links.make_room_for(at);
        *links.link_mut(at) = Link { prev: self.tail, next: NONE, list };
        if self.tail == NONE {
            self.head = at;
        } else {
            links.link_mut(self.tail).next = at;
        }
        self.tail = at;
    }

    /// Takes out a flow that is in this list.
    pub(super) fn unlink(&mut self, at: u32, links: &mut Links) {
        let Link { prev, next, .. } = std::mem::replace(links.link_mut(at), Link::NONE);
        if prev == NONE {
            self.head = next;
        } else {
            links.link_mut(prev).next = next;
        }
        if next == NONE {
            self.tail = prev;
        } else {
            links.link_mut(next).prev = prev;
        }
    }
}

impl Links {
    /// Bytes for each flow.
    pub(super) const BYTES: usize = size_of::<Link>();

    /// Returns the number of the list that a flow is in.
    pub(super) fn list_of(&self, at: u32) -> Option<u16> {
        let link = self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?;
        (link.list != NO_LIST).then_some(link.list)
    }

    fn make_room_for(&mut self, at: u32) {
        while self.chunks.len() <= at as usize / CHUNK {
            self.chunks.push(vec![Link::NONE; CHUNK].into());
        }
    }

    #[inline]
    fn link(&self, at: u32) -> &Link {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    #[inline]
    fn link_mut(&mut self, at: u32) -> &mut Link {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

impl Link {
    const NONE: Link = Link { prev: NONE, next: NONE, list: NO_LIST };
}

/// No flow.
pub(super) const NONE: u32 = u32::MAX;
/// The number of no list.
const NO_LIST: u16 = u16::MAX;
/// Links that are made at once: some 48 KiB; few where fuzz targets are to meet the end of them.
const CHUNK: usize = if cfg!(fuzzing) { 4 } else { 4096 };
