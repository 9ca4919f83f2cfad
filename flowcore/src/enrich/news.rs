//! An index that follows another one, in a process that may not look sockets up itself.

use super::index::IndexWriter;
use super::lookups::Requests;
use crate::record::SocketNews;

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
            SocketNews::Answered { query, socket, is, asked, now, owner } => {
                self.answered(&query, &socket, is, asked, now, owner);
            }
            SocketNews::StandsBy { query, listener, asked, now, owner } => {
                self.stands_by(&query, &listener, asked, now, owner);
            }
            SocketNews::Seen { socket, now, owner } => self.seen(&socket, now, owner),
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

    /// Says that nothing more comes for a while.
    pub(super) fn rest(&mut self) {
        if let Some(told) = &mut self.told {
            told(None);
        }
    }
}

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
