//! The index of sockets: one writer, many readers.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dashmap::DashMap;

use super::news::{Introduced, Told};
use super::sighting::{self, Entry, Sighting, Tuple};
use crate::host::{Owner, Query, Socket};
use crate::record::{SightedAs, SightedSocket, SocketNews};
use crate::time::Timestamp;

/// How much an index holds, and how long.
#[derive(Clone, Debug)]
pub struct IndexLimits {
    /// The most sockets at tuples. What has no room sends away the first that died, then the oldest.
    pub sockets: usize,
    /// How long a socket stays after its death, and an unconnected or listening one at a tuple that it has not
    /// answered for since.
    ///
    /// A flow is written once it was silent for its idle timeout, so that a socket has to outlive that.
    pub keep: Duration,
    /// The inode of the network namespace that flows are seen in; 0 where it is not known.
    pub netns: u64,
}

impl Default for IndexLimits {
    /// 200,000 sockets, 60 s, one namespace.
    fn default() -> Self {
        IndexLimits { sockets: 200_000, keep: Duration::from_secs(60), netns: 0 }
    }
}

/// The readers' side of the index; can be cloned and sent to other threads.
#[derive(Clone, Debug)]
pub struct SocketIndex(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    home: u64,
    tuples: DashMap<Tuple, Vec<Entry>>,
    sockets: AtomicU64,
    evicted: AtomicU64,
    /// Network namespaces of sockets, other than `home`.
    others: RwLock<Vec<u64>>,
    /// Tuples that could not be asked for: the queue was full.
    refused: DashMap<Tuple, Timestamp>,
}

impl SocketIndex {
    /// Makes the index of recorded sockets, however many they are.
    pub fn recorded(sockets: impl IntoIterator<Item = SightedSocket>) -> Self {
        let mut writer = IndexWriter::new(IndexLimits { sockets: usize::MAX, ..IndexLimits::default() });
        sockets.into_iter().for_each(|socket| writer.load(socket));
        writer.index()
    }

    /// Returns the addresses of this machine that sockets are bound to.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let local = self.0.tuples.iter().filter(|entries| entries.key().netns == self.0.home);
        let bound = local.map(|entries| entries.key().local.addr);
        bound.filter(|address| !address.is_unspecified() && !address.is_multicast()).collect()
    }

    /// Returns the namespace that flows are seen in.
    pub(super) fn home(&self) -> u64 {
        self.0.home
    }

    /// Returns how many sockets at tuples the index holds.
    pub fn len(&self) -> u64 {
        self.0.sockets.load(Ordering::Relaxed)
    }

    /// Tells whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many had to make room.
    pub fn evicted(&self) -> u64 {
        self.0.evicted.load(Ordering::Relaxed)
    }

    /// Looks at what is known for a tuple.
    pub(super) fn at<R>(&self, tuple: &Tuple, look: impl FnOnce(&[Entry]) -> R) -> R {
        match self.0.tuples.get(tuple) {
            Some(entries) => look(&entries),
            None => look(&[]),
        }
    }

    /// Tells whether a tuple is known in a network namespace other than the one flows are seen in.
    pub(super) fn is_elsewhere(&self, tuple: &Tuple) -> bool {
        let others = self.0.others.read().unwrap_or_else(PoisonError::into_inner);
        others.iter().any(|&netns| self.0.tuples.contains_key(&Tuple { netns, ..*tuple }))
    }

    /// Tells whether a tuple could not be asked for since a time.
    pub(super) fn was_refused(&self, tuple: &Tuple, since: Timestamp) -> bool {
        self.0.refused.get(tuple).is_some_and(|at| *at >= since)
    }

    /// Takes note that a tuple could not be asked for.
    pub(super) fn refuse(&self, query: &Query, at: Timestamp) {
        if self.0.refused.len() < MOST_REFUSED {
            self.0.refused.insert(Tuple::of_query(self.0.home, query), at);
        }
    }
}

/// Is given each socket that leaves the index.
type Leaving = Box<dyn FnMut(&SightedSocket) + Send>;

/// The writer's side of the index.
///
/// All times are the caller's: the index reads no clock.
pub struct IndexWriter {
    index: SocketIndex,
    limits: IndexLimits,
    keep: u64,
    known: HashMap<u64, Arc<Sighting>>,
    /// Sockets whose end was noticed, in that order: (when, where, number).
    dead: VecDeque<(Timestamp, Tuple, u64)>,
    /// All sockets at tuples, each once: (when to look whether it may go, where, number).
    held: VecDeque<(Timestamp, Tuple, u64)>,
    leaving: Option<Leaving>,
    pub(super) told: Option<Told>,
    pub(super) introduced: Introduced,
}

impl IndexWriter {
    /// Makes an empty index.
    pub fn new(limits: IndexLimits) -> Self {
        let shared = Shared {
            home: limits.netns,
            tuples: DashMap::new(),
            sockets: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            others: RwLock::default(),
            refused: DashMap::new(),
        };
        IndexWriter {
            index: SocketIndex(Arc::new(shared)),
            keep: limits.keep.as_nanos().try_into().unwrap_or(u64::MAX),
            limits,
            known: HashMap::new(),
            dead: VecDeque::new(),
            held: VecDeque::new(),
            leaving: None,
            told: None,
            introduced: Introduced::default(),
        }
    }

    /// Hands each socket that leaves to `leaving`: this is how sockets are recorded. At the end call
    /// [`finish`](Self::finish).
    pub fn on_leaving(&mut self, leaving: impl FnMut(&SightedSocket) + Send + 'static) {
        self.leaving = Some(Box::new(leaving));
    }

    /// Returns the readers' side.
    pub fn index(&self) -> SocketIndex {
        self.index.clone()
    }

    /// Tells whether the owner of a socket that lives is known to be a process, and was found out since a time.
    pub(super) fn knows_owner(&self, socket: &Socket, since: Timestamp) -> bool {
        let known = self.known.get(&sighting::number(socket));
        known.is_some_and(|known| known.to().is_none() && known.has_process(since))
    }

    /// Takes the answer for a tuple: this socket, now; `asked` is the time of the packet that it was looked up for.
    pub(super) fn answered(
        &mut self,
        query: &Query,
        socket: &Socket,
        is: SightedAs,
        asked: Timestamp,
        now: Timestamp,
        owner: Option<Owner>,
    ) {
        self.tell_with(owner.as_ref(), |owner| SocketNews::Answered {
            query: *query,
            socket: socket.clone(),
            is,
            asked,
            now,
            owner,
        });
        let tuple = Tuple::of_query(self.index.home(), query);
        let Some(socket) = self.sighting(socket, now, owner) else { return };
        self.put(tuple, is, Some((asked, now)), now, socket);
    }

    /// Tells whether a listener is known to stand by for a connection that was asked for.
    pub(super) fn has_listener(&self, query: &Query, asked: Timestamp) -> bool {
        let tuple = Tuple::of_query(self.index.home(), query);
        let stands_by =
            |entry: &Entry| entry.socket.cookie & sighting::STANDS_BY != 0 && entry.latest >= asked;
        self.index.at(&tuple, |entries| entries.iter().any(stands_by))
    }

    /// Takes the listener that a connection arrived at, beside the socket of the connection itself.
    pub(super) fn stands_by(
        &mut self,
        query: &Query,
        listener: &Socket,
        asked: Timestamp,
        now: Timestamp,
        owner: Option<Owner>,
    ) {
        self.tell_with(owner.as_ref(), |owner| SocketNews::StandsBy {
            query: *query,
            listener: listener.clone(),
            asked,
            now,
            owner,
        });
        let tuple = Tuple::of_query(self.index.home(), query);
        // Its owner is that of this connection only: it may be one of several listeners.
        let number = sighting::number(listener) | sighting::STANDS_BY;
        let socket = Arc::new(Sighting::new(number, tuple, now, now, owner));
        let (is, asked) = (SightedAs::Listener, Some((asked, now)));
        self.insert(tuple, Entry { is, asked, latest: now, replaced: true, socket }, now);
    }

    /// Takes a socket that is there now, whoever it may answer for.
    pub(super) fn seen(&mut self, socket: &Socket, now: Timestamp, owner: Option<Owner>) {
        self.tell_with(owner.as_ref(), |owner| SocketNews::Seen { socket: socket.clone(), now, owner });
        let Some(tuple) = Tuple::of_socket(self.index.home(), socket) else { return };
        let Some(is) = sighting::relation(&tuple, socket) else { return };
        let Some(socket) = self.sighting(socket, now, owner) else { return };
        self.put(tuple, is, None, now, socket);
    }

    /// Takes the answer that no socket answers for a tuple.
    pub(super) fn none_answers(&mut self, query: &Query, now: Timestamp) {
        self.tell(|| SocketNews::NobodyAnswers { query: *query, now });
        let tuple = Tuple::of_query(self.index.home(), query);
        self.replace(&tuple, 0, now, now);
    }

    /// Takes the end of a socket, also of one that was never seen.
    pub fn closed(&mut self, socket: &Socket, at: Timestamp, now: Timestamp) {
        self.tell(|| SocketNews::Closed { socket: socket.clone(), at, now });
        let Some(tuple) = Tuple::of_socket(self.index.home(), socket) else { return };
        let number = sighting::number(socket);
        if let Some(known) = self.known.get(&number).cloned() {
            self.end(&known, at, now);
        } else if number != 0
            // What was never bound has served no flow, and anybody can make any number of them.
            && tuple.local.port.is_some_and(|port| port != 0)
            && let Some(is) = sighting::relation(&tuple, socket)
        {
            let closed = Arc::new(Sighting::new(number, tuple, Timestamp::MIN, Timestamp::MIN, None));
            self.known.insert(number, closed.clone());
            // Another one that holds its tuple was there before it.
            self.put(tuple, is, None, at, closed.clone());
            self.end(&closed, at, now);
        }
    }

    /// Ends the sockets that were not seen since a time: everything that lives was seen.
    pub(super) fn end_unseen(&mut self, since: Timestamp, now: Timestamp) {
        self.tell(|| SocketNews::EndUnseen { since, now });
        let unseen = self.known.values().filter(|known| known.to().is_none() && known.seen() < since);
        let mut unseen: Vec<_> = unseen.cloned().collect();
        // An index that follows has to end them in the same order, which is that in which they make room.
        unseen.sort_unstable_by_key(|known| known.cookie);
        for known in unseen {
            known.is_absent(now);
            self.end(&known, known.seen(), now);
        }
    }

    /// Takes a recorded socket.
    pub fn load(&mut self, recorded: SightedSocket) {
        let tuple = Tuple::new(recorded.netns, recorded.proto, recorded.local, recorded.remote);
        let from = recorded.valid_from;
        let seen = if from == Timestamp::MIN { Timestamp::MIN } else { recorded.seen };
        let socket = Arc::new(Sighting::new(recorded.cookie, tuple, from, seen, recorded.owner));
        if let Some(to) = recorded.valid_to {
            socket.end(to);
        }
        let asked = recorded.asked.zip(recorded.answered);
        let entry = Entry { is: recorded.is, asked, latest: recorded.seen, replaced: false, socket };
        self.insert(tuple, entry, recorded.seen);
    }

    /// Lets go what has been dead for long enough.
    pub fn expire(&mut self, now: Timestamp) {
        self.tell(|| SocketNews::Expire { now });
        while let Some(&(noticed, tuple, number)) = self.dead.front()
            && noticed.saturating_add_nanos(self.keep) <= now
        {
            self.dead.pop_front();
            if self.may_go(&tuple, number, now) == Some(true) {
                self.remove(&tuple, number);
            }
        }
        while let Some(&(due, tuple, number)) = self.held.front()
            && due <= now
        {
            self.held.pop_front();
            match self.may_go(&tuple, number, now) {
                None => {}
                Some(true) => self.remove(&tuple, number),
                Some(false) => self.held.push_back((self.after(now), tuple, number)),
            }
        }
        let keep = self.keep;
        self.index.0.refused.retain(|_, at| at.saturating_add_nanos(keep) > now);
    }

    /// Lets everything go that is to be recorded; the index stays readable.
    pub fn finish(&mut self) {
        let Some(mut leaving) = self.leaving.take() else { return };
        for entries in &self.index.0.tuples {
            entries.iter().for_each(|entry| leaving(&entry.record(entries.key(), self.limits.netns)));
        }
    }

    /// Returns how much there is of all that grows.
    #[cfg(test)]
    pub(super) fn held(&self) -> [usize; 4] {
        [self.known.len(), self.dead.len(), self.held.len(), self.index.0.tuples.len()]
    }

    /// Returns the sighting of a socket, made or brought up to date; none where it cannot be told from others.
    fn sighting(&mut self, socket: &Socket, now: Timestamp, owner: Option<Owner>) -> Option<Arc<Sighting>> {
        let number = sighting::number(socket);
        if number == 0 {
            return None;
        }
        if let Some(known) = self.known.get(&number) {
            known.see(now);
            owner.into_iter().for_each(|owner| known.own(owner, now));
            return Some(known.clone());
        }
        let own = Tuple::of_socket(self.index.home(), socket)?;
        let fresh = Arc::new(Sighting::new(number, own, now, now, owner));
        self.known.insert(number, fresh.clone());
        Some(fresh)
    }

    /// Puts a socket at a tuple, or takes note that it is still there.
    fn put(
        &mut self,
        tuple: Tuple,
        is: SightedAs,
        asked: Option<(Timestamp, Timestamp)>,
        now: Timestamp,
        socket: Arc<Sighting>,
    ) {
        // Any number of sockets may be bound to the same address and port, but only one answers for a connection.
        if tuple.remote.is_some() {
            // Where only its end is known, nothing is known of what was before.
            let from = if socket.was_seen() { socket.from } else { now };
            let begin = asked.map_or(from, |(asked, _)| asked.min(from));
            self.replace(&tuple, socket.cookie, begin, now);
        }
        if let Some(mut entries) = self.index.0.tuples.get_mut(&tuple)
            && let Some(entry) =
                entries.iter_mut().find(|entry| entry.socket.cookie == socket.cookie && !entry.replaced)
        {
            entry.asked = entry.asked.or(asked);
            entry.latest = entry.latest.max(now);
            return;
        }
        self.insert(tuple, Entry { is, asked, latest: now, replaced: false, socket }, now);
    }

    /// Takes note that only this socket can answer for a tuple, and has since `begin`; 0 for none.
    fn replace(&mut self, tuple: &Tuple, by: u64, begin: Timestamp, now: Timestamp) {
        let Some(mut entries) = self.index.0.tuples.get_mut(tuple) else { return };
        let mut ended = Vec::new();
        for entry in entries.iter_mut().filter(|entry| entry.socket.cookie != by && !entry.replaced) {
            if matches!(entry.is, SightedAs::Local | SightedAs::Listener) {
                entry.replaced = true;
                continue;
            }
            // A connected socket that does not answer for its own tuple is no more.
            entry.socket.is_absent(Timestamp::from_nanos(begin.as_nanos().saturating_sub(1)));
            if entry.socket.to().is_none() {
                ended.push(entry.socket.clone());
            }
        }
        drop(entries);
        for socket in ended {
            self.end(&socket, socket.seen(), now);
        }
    }

    fn end(&mut self, socket: &Sighting, at: Timestamp, now: Timestamp) {
        socket.end(at);
        self.dead.push_back((now, socket.own, socket.cookie));
    }

    fn insert(&mut self, tuple: Tuple, entry: Entry, now: Timestamp) {
        while self.index.len() >= self.limits.sockets.max(1) as u64 && self.evict() {}
        if tuple.netns != self.index.home() {
            let mut others = self.index.0.others.write().unwrap_or_else(PoisonError::into_inner);
            if !others.contains(&tuple.netns) {
                others.push(tuple.netns);
            }
        }
        let number = entry.socket.cookie;
        self.index.0.tuples.entry(tuple).or_default().push(entry);
        self.index.0.sockets.fetch_add(1, Ordering::Relaxed);
        self.held.push_back((self.after(now), tuple, number));
    }

    /// Makes room for one: lets the first go that died, or the oldest; false where there is none.
    fn evict(&mut self) -> bool {
        let before = self.index.len();
        while let Some((_, tuple, number)) = self.dead.pop_front().or_else(|| self.held.pop_front()) {
            self.remove(&tuple, number);
            if self.index.len() < before {
                self.index.0.evicted.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Tells whether a socket may leave a tuple; none if it has left.
    fn may_go(&self, tuple: &Tuple, number: u64, now: Timestamp) -> Option<bool> {
        self.index.at(tuple, |entries| {
            let entry = entries.iter().find(|entry| entry.socket.cookie == number)?;
            let answers_only =
                tuple.remote.is_some() && matches!(entry.is, SightedAs::Local | SightedAs::Listener);
            Some(match entry.to() {
                Some(to) => self.after(to) <= now,
                None => answers_only && self.after(entry.latest) <= now,
            })
        })
    }

    fn remove(&mut self, tuple: &Tuple, number: u64) {
        let Some(mut entries) = self.index.0.tuples.get_mut(tuple) else { return };
        let Some(place) = entries.iter().position(|entry| entry.socket.cookie == number) else { return };
        let entry = entries.swap_remove(place);
        let is_empty = entries.is_empty();
        drop(entries);
        if is_empty {
            self.index.0.tuples.remove(tuple);
        }
        self.index.0.sockets.fetch_sub(1, Ordering::Relaxed);
        if let Some(leaving) = &mut self.leaving {
            leaving(&entry.record(tuple, self.limits.netns));
        }
        // What is left are this one and the one among the known.
        if Arc::strong_count(&entry.socket) <= 2 {
            self.known.remove(&number);
        }
    }

    fn after(&self, time: Timestamp) -> Timestamp {
        time.saturating_add_nanos(self.keep)
    }
}

/// Tuples that could not be asked for are remembered up to this number.
const MOST_REFUSED: usize = 4096;
