//! What a process that looks up sockets tells another one, which has no permission to.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sighted::SightedAs;
use crate::error::Reason;
use crate::host::{Owner, Process, Query, Socket};
use crate::time::Timestamp;

/// What a process says to the one that it works beside; `N` is its news.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message<N> {
    /// The first thing: all that it needs is open, and what it does not need is given up.
    Ready,
    /// The first thing and the last: nothing will come.
    Failed {
        /// What failed.
        what: String,
        /// How to get the permission, where that is what is missing.
        hint: Option<String>,
    },
    /// What it has found.
    News(N),
    /// The last thing: there is no more to do.
    Done,
    /// It has died, says who looks after it; another one is started in its place and begins anew.
    Died,
}

/// What changes an index of sockets, in the order in which it happened, and what else belongs to it.
///
/// All times are those of the process that looks sockets up. It stays between two processes of one program: no output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SocketNews {
    /// The machine's addresses are these.
    Addresses(Vec<IpAddr>),
    /// What was counted until now.
    Counted {
        /// Sockets asked for.
        lookups: u64,
        /// Requests and notices that found the queue full.
        dropped: u64,
        /// Packets that the tap has lost.
        lost: u64,
        /// Questions that the machine did not answer.
        failed: u64,
    },
    /// A process that is named by this number from now on.
    Process {
        /// The number, which another process may have had until now.
        number: u32,
        /// The process.
        process: Arc<Process>,
    },
    /// A socket answered for a tuple.
    Answered {
        /// The tuple.
        query: Query,
        /// The socket.
        socket: Socket,
        /// What it is to the tuple.
        #[serde(with = "word")]
        is: SightedAs,
        /// The time of the packet that it was looked up for.
        asked: Timestamp,
        /// When the answer came.
        now: Timestamp,
        /// Its owner, where that was looked up as well.
        owner: Option<OwnerNews>,
    },
    /// A listener stands by for a connection.
    StandsBy {
        /// The connection.
        query: Query,
        /// The listener.
        listener: Socket,
        /// The time of the packet that it was looked up for.
        asked: Timestamp,
        /// When the answer came.
        now: Timestamp,
        /// Its owner.
        owner: Option<OwnerNews>,
    },
    /// A socket is there.
    Seen {
        /// The socket.
        socket: Socket,
        /// When.
        now: Timestamp,
        /// Its owner, where that was looked up as well.
        owner: Option<OwnerNews>,
    },
    /// No socket answers for a tuple.
    NobodyAnswers {
        /// The tuple.
        query: Query,
        /// When.
        now: Timestamp,
    },
    /// A socket was closed.
    Closed {
        /// The socket.
        socket: Socket,
        /// When it was closed.
        at: Timestamp,
        /// When that became known.
        now: Timestamp,
    },
    /// What was not seen since then is gone.
    EndUnseen {
        /// Since when.
        since: Timestamp,
        /// When that became known.
        now: Timestamp,
    },
    /// What has been dead for long enough is let go.
    Expire {
        /// When.
        now: Timestamp,
    },
}

/// An owner, as it is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OwnerNews {
    /// A process, and how many hold the socket with it.
    Process {
        /// The number of [`SocketNews::Process`].
        number: u32,
        /// How many processes hold the socket.
        shared: u32,
    },
    /// Anything else.
    Other(Owner),
}

/// A word of records, as it stands there.
pub(super) mod word {
    use super::*;

    pub(in crate::record) fn serialize<R: Reason, S: Serializer>(
        word: &R,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(word.name())
    }

    pub(in crate::record) fn deserialize<'de, R: Reason, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<R, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = R::ALL.iter().find(|word| word.name() == text);
        found.copied().ok_or_else(|| serde::de::Error::custom(format!("no such word: {text}")))
    }
}
