//! Whether a server can be reached, tried without sending anything to it.

use std::time::{Duration, Instant};

use super::destination::{Destination, Scheme};
use super::dial;
use super::options::ShipOptions;
use super::patience::Patience;
use super::stream::Stream;
use super::syslog;
use super::token::Token;
use crate::error::Error;
use crate::stop::Stop;

/// Tries a destination as far as that goes without sending a record: the name is resolved, a connection opened and
/// closed again, TLS hands shaken, the token read. For UDP it is seen that there is a route. Whether a server would
/// take the token and the records is not known before they are sent.
///
/// Returns in one line what was found.
///
/// # Errors
/// [`Error::Option`] for options that do not go together and files that are wrong, [`Error::Output`] for a server that
/// cannot be reached.
pub fn check(destination: &Destination, options: &ShipOptions) -> Result<String, Error> {
    let stop = Stop::new();
    drop(super::open(destination, options, &stop)?);
    if let Some(file) = &options.token_file {
        Token::read(file).map_err(Error::Option)?;
    }
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::InvalidInput => Error::Option(format!("{destination}: {source}")),
        _ => Error::Output { name: destination.to_string(), source },
    };
    let patience = Patience::new(stop, Duration::ZERO);
    let limit = Instant::now() + options.connect_timeout;
    if destination.scheme == Scheme::Syslog {
        let addresses =
            dial::resolve(destination, options.allow_plaintext, &patience, limit).map_err(failed)?;
        let socket = syslog::connect_udp(&addresses).map_err(failed)?;
        let peer = socket.peer_addr().map_err(failed)?;
        return Ok(format!("{destination}: {peer}, UDP: whether anybody listens cannot be known"));
    }
    let mut stream = Stream::open(destination, options, &patience, limit).map_err(failed)?;
    stream.settle(SETTLE).map_err(failed)?;
    let peer = stream.peer().map(|peer| format!(", {peer}")).unwrap_or_default();
    let tls =
        stream.tls_version().map(|version| format!(", {version}, certificate verified")).unwrap_or_default();
    stream.close(Instant::now() + SETTLE);
    Ok(format!("{destination}: connected{peer}{tls}"))
}

/// How long a server is given to refuse after the handshake, and to say goodbye.
const SETTLE: Duration = Duration::from_millis(300);
