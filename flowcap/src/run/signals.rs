//! What signals ask for.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use flowcore::Error;
use flowcore::meter::{Reopen, Stop, Watched};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::fail;

/// Has a file that grows beyond the limit (`ulimit -f`, `LimitFSIZE=`) be one that cannot be written, as on a full disk: the
/// signal that comes with it would end the process in the middle of a line.
pub(crate) fn survive_large_files() -> io::Result<()> {
    // What it sets is not looked at. To ignore the signal would do as well, but takes unsafe code.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// Requests a stop at the first SIGINT or SIGTERM; the second ends the process at once.
pub(crate) fn stop_on_signals(stop: Stop) -> Result<(), Error> {
    let asked = Asked { stops: [stop, Stop::new()], reopen: Reopen::new(), watched: Watched::new() };
    Signals::new([SIGINT, SIGTERM])
        .and_then(|signals| stop_on(signals, asked))
        .map_err(|error| unheard(&error))
}

/// What signals ask a meter for.
pub(super) struct Asked {
    /// The meter's, and one that nobody else requests.
    pub(super) stops: [Stop; 2],
    pub(super) reopen: Reopen,
    pub(super) watched: Watched,
}

/// The same; a SIGHUP, where it is among the signals, has the meter open its files again, a SIGUSR1 write its counters.
pub(super) fn stop_on(mut signals: Signals, ask: Asked) -> io::Result<()> {
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut is_asked = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => ask.reopen.request(),
                SIGUSR1 => ask.watched.request_record(),
                _ if is_asked => std::process::exit(128 + signal),
                _ => {
                    is_asked = true;
                    ask.stops.iter().for_each(Stop::request);
                }
            }
        }
    })?;
    Ok(())
}

/// Says that signals cannot be heard.
pub(crate) fn no_signals(error: &io::Error) -> ExitCode {
    fail(&unheard(error))
}

fn unheard(error: &io::Error) -> Error {
    Error::Internal(format!("signals: {error}"))
}
