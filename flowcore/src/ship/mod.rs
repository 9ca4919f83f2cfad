//! Records sent to servers: HTTP, lines over TCP, TLS and Unix sockets, syslog.
//!
//! A [`Shipper`] takes batches from a [`Backlog`] and gives them to a [`Sender`] until the server has them: without
//! end, with growing waits in between. Each record arrives at least once; a repeat is told by the `instance` and `seq`
//! that every line carries. What "has them" means depends on what is spoken:
//!
//! - **HTTP** ([`Scheme::Https`], [`Scheme::Http`]): the server has answered with a 2xx status, and its answer is whole.
//!   A batch is the body of a POST as NDJSON (`application/x-ndjson`), by default compressed by gzip. The headers
//!   `Flowcap-Instance`, `Flowcap-First-Seq` and `Flowcap-Last-Seq` name what is in it. Redirects are not followed.
//! - **Lines** ([`Scheme::Tcp`], [`Scheme::Tls`], [`Scheme::Unix`]) and **syslog over TCP and TLS**: the kernel has taken
//!   the bytes, and the server has not closed the connection. There is no acknowledgement: a server that dies may take
//!   with it what it had not read. What was sent in the last 60 s of a connection, up to 4 MiB, is therefore sent again
//!   over the next, however late, and is not done in the backlog before. What a server has left unread for longer, or
//!   beyond that, when it dies is lost unseen.
//! - **syslog over UDP**: the datagram was sent. What the network or the server drops is lost unseen.
//!
//! Nothing here follows a proxy, and only the certificate authorities of the system can be moved by the environment
//! (`SSL_CERT_FILE`, which the loader of system certificates reads; a `ca_file` replaces them).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod batch;
mod check;
mod counters;
mod destination;
mod dial;
mod http;
mod lines;
mod options;
mod patience;
mod shipper;
mod status;
mod stream;
mod syslog;
mod tls;
mod token;
mod transport;

use std::fmt;
use std::time::Duration;

pub use batch::{Backlog, Batch};
pub use check::check;
pub use counters::{LastError, ShipCounters, ShipCounts};
pub use destination::{Destination, Scheme};
pub use options::{BatchLimits, ShipOptions};
pub use shipper::{Level, Shipper};

use crate::error::Error;
use crate::stop::Stop;
use patience::Patience;

/// What takes batches to a server.
pub trait Sender: Send {
    /// Sends a batch.
    ///
    /// # Errors
    /// [`SendError`] says what can be done about it.
    fn send(&mut self, batch: &Batch) -> Result<Sent, SendError>;

    /// Returns the first number of what was sent that the server may not have yet; none where it has all of it.
    ///
    /// Asked all the while, also when nothing is sent, so that a connection which is lost is noticed.
    fn in_doubt(&mut self) -> Option<u64> {
        None
    }

    /// Ends the connection in order, at the end.
    fn finish(&mut self) {}
}

/// What was sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    /// The bytes of bodies or messages, compressed where they were.
    pub bytes: u64,
    /// Records of the batch that can never be sent this way: too long for a datagram.
    pub refused: u64,
}

/// Why a batch was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The server could not be reached or had trouble: the same again later.
    Retry {
        /// What happened.
        what: String,
        /// How long the server asked to wait.
        after: Option<Duration>,
    },
    /// Someone has to mend something: an address, a token, a certificate; the same again later.
    Settings(String),
    /// Smaller batches may be taken.
    TooLarge(String),
    /// The server says that what is in it is bad.
    Refused(String),
}

/// Makes what sends to a destination; nothing is connected yet.
///
/// `drain` of the options and `stop` have to be those that [`Shipper::run`] is given: they end what waits.
///
/// # Errors
/// [`Error::Option`] for options that do not go together, and for what would go in the clear to another machine.
pub fn open(destination: &Destination, options: &ShipOptions, stop: &Stop) -> Result<Box<dyn Sender>, Error> {
    options.check()?;
    if destination.scheme.is_in_the_clear() && !options.allow_plaintext && !destination.is_this_machine() {
        return Err(Error::Option(format!(
            "{destination}: what is not encrypted goes to this machine only, since anyone on the way could read along; \
             use https, tls or syslog+tls, or set allow_plaintext"
        )));
    }
    let patience = Patience::new(stop.clone(), options.drain);
    Ok(match destination.scheme {
        Scheme::Https | Scheme::Http => Box::new(http::HttpSender::new(destination, options, patience)?),
        Scheme::Syslog => Box::new(syslog::DatagramSender::new(destination, options, patience)),
        _ => Box::new(lines::LineSender::new(destination, options, patience)),
    })
}

impl SendError {
    /// Makes one that asks for the same again.
    pub fn retry(what: impl Into<String>) -> Self {
        SendError::Retry { what: what.into(), after: None }
    }

    /// Makes one of an error in reading or writing.
    fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            // Files and certificates that are not good: nothing that passes by itself.
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                SendError::Settings(error.to_string())
            }
            _ => SendError::retry(error.to_string()),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Retry { what, .. }
            | SendError::Settings(what)
            | SendError::TooLarge(what)
            | SendError::Refused(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for SendError {}
