//! An index that follows another one, in a process that may not look sockets up itself.

use std::collections::HashMap;
use std::sync::Arc;

use super::index::IndexWriter;
use super::lookups::Requests;
use crate::host::{Owner, Process};
use crate::record::{OwnerNews, SocketNews};

/// Is told of all that changes an index, and with none that nothing more comes for a while.
pub(super) type Told = Box<dyn FnMut(Option<SocketNews>) + Send>;

impl IndexWriter {
    /// Hands all that changes the index to `told`, so that another index can [`follow`](Self::follow); none says that
    /// nothing more comes for a while, and what has come is to be sent off.
    pub fn on_news(&mut self, told: impl FnMut(Option<SocketNews>) + Send + 'static) {
        self.told = Some(Box::new(told));
    }

    /// Does what was done to the index that is followed; news of other things change nothing.
    pub fn follow(&mut self, news: SocketNews) {
        match news {
            SocketNews::Process { number, process } => self.introduced.meet(number, process),
            SocketNews::Answered { query, socket, is, asked, now, owner } => {
                self.answered(&query, &socket, is, asked, now, self.introduced.owner(owner));
            }
            SocketNews::StandsBy { query, listener, asked, now, owner } => {
                self.stands_by(&query, &listener, asked, now, self.introduced.owner(owner));
            }
            SocketNews::Seen { socket, now, owner } => {
                self.seen(&socket, now, self.introduced.owner(owner));
            }
            SocketNews::NobodyAnswers { query, now } => self.none_answers(&query, now),
            SocketNews::Closed { socket, at, now } => self.closed(&socket, at, now),
            SocketNews::EndUnseen { since, now } => self.end_unseen(since, now),
            SocketNews::Expire { now } => self.expire(now),
            SocketNews::Addresses(_) | SocketNews::Counted { .. } => {}
        }
    }

    pub(super) fn tell(&mut self, news: impl FnOnce() -> SocketNews) {
        if let Some(told) = &mut self.told {
            told(Some(news()));
        }
    }

    /// Tells what is said of a socket with an owner; a process is introduced first.
    pub(super) fn tell_with(
        &mut self,
        owner: Option<&Owner>,
        news: impl FnOnce(Option<OwnerNews>) -> SocketNews,
    ) {
        if self.told.is_none() {
            return;
        }
        let owner = owner.map(|owner| match owner {
            Owner::Process { process, shared } => {
                let (number, is_new) = self.introduced.number(process);
                if is_new {
                    self.tell(|| SocketNews::Process { number, process: Arc::clone(process) });
                }
                OwnerNews::Process { number, shared: *shared }
            }
            other => OwnerNews::Other(other.clone()),
        });
        self.tell(|| news(owner));
    }

    /// Says that nothing more comes for a while.
    pub(super) fn rest(&mut self) {
        if let Some(told) = &mut self.told {
            told(None);
        }
    }
}

/// The processes that both sides know by number. What is said of one is long, most sockets are of few, and one who follows
/// keeps each once.
#[derive(Default)]
pub(super) struct Introduced {
    processes: HashMap<u32, Arc<Process>>,
    /// The number that is given next.
    next: u32,
}

impl Introduced {
    /// Returns the number of a process, and whether it was given only now.
    fn number(&mut self, process: &Arc<Process>) -> (u32, bool) {
        let known = self.processes.iter().find(|(_, known)| Arc::ptr_eq(known, process));
        if let Some((number, _)) = known {
            return (*number, false);
        }
        let number = self.next;
        self.next = (number + 1) % PROCESSES;
        self.meet(number, Arc::clone(process));
        (number, true)
    }

    /// Takes note of a number.
    fn meet(&mut self, number: u32, process: Arc<Process>) {
        if number < PROCESSES {
            self.processes.insert(number, process);
        }
    }

    /// Returns the owner that is meant; none where the process was never introduced.
    fn owner(&self, owner: Option<OwnerNews>) -> Option<Owner> {
        match owner? {
            OwnerNews::Process { number, shared } => {
                let process = Arc::clone(self.processes.get(&number)?);
                Some(Owner::Process { process, shared })
            }
            OwnerNews::Other(owner) => Some(owner),
        }
    }
}

/// So many processes are known by number at a time.
const PROCESSES: u32 = 64;

impl Requests {
    /// Returns what was counted until now, as news.
    pub fn news(&self) -> SocketNews {
        let mut stats = Default::default();
        self.count(&mut stats);
        SocketNews::Counted {
            lookups: stats.lookups,
            dropped: stats.lookups_dropped,
            lost: stats.tap_dropped,
            failed: stats.lookups_failed,
        }
    }
}
