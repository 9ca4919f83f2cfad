//! Something that was not expected: a rule, and the socket that broke it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::members::{Described, Members, serialize_described};
use super::socket::SocketRecord;
use crate::field::{Printable, Scalar};
use crate::time::Timestamp;

/// Which expectation was not met (record.md, type "alert").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A listener that is neither known nor allowed.
    UnexpectedListener,
    /// A known listener is no more.
    GoneListener,
    /// An outgoing connection to a remote address and port, by a program, that is not known.
    NewRemote,
    /// An accepted connection from a remote address that is not known at that port.
    NewClient,
    /// A program that owned no socket before.
    NewProcess,
}

impl Rule {
    /// Returns the word that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::UnexpectedListener => "unexpected_listener",
            Rule::GoneListener => "gone_listener",
            Rule::NewRemote => "new_remote",
            Rule::NewClient => "new_client",
            Rule::NewProcess => "new_process",
        }
    }
}

/// An expectation that was not met, and the socket that did not meet it.
///
/// Its [`Display`](fmt::Display) is the message, safe on a terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlertRecord {
    /// When it was noticed: the time of the snapshot.
    pub timestamp: Timestamp,
    /// Which expectation.
    pub rule: Rule,
    /// What was compared with: the name of a baseline, or `allow` for the allow rules alone.
    pub compared_with: String,
    /// A sentence for people.
    pub message: String,
    /// The socket; of a listener that is gone, as the baseline has it.
    pub socket: SocketRecord,
}

impl fmt::Display for AlertRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(&self.message).fmt(f)
    }
}

impl Described for AlertRecord {
    fn describe(&self, members: &mut dyn Members) {
        members.scalar("type", Scalar::Word("alert"));
        members.scalar("timestamp", Scalar::Time(self.timestamp));
        members.scalar("rule", Scalar::Word(self.rule.name()));
        members.scalar("compared_with", Scalar::Text(&self.compared_with));
        members.scalar("message", Scalar::Text(&self.message));
        members.object("socket", &self.socket);
    }
}

serialize_described!(AlertRecord);
