//! Processes of this program beside the main one, each for what that one gives up.
//!
//! They are started before anything is given up, and end when their standard input does.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use flowcore::Error;
use flowcore::record::Start;
use flowcore::sink::{NewsWriter, read_news};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::confine::Confinement;
use crate::run::unreadable;

/// Begins the line that starts this program anew as a hidden subcommand, confined as the main process is.
pub(crate) fn command(name: &str, confinement: &Confinement) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([name, "--sandbox", confinement.mode().word()]);
    confinement.user().iter().for_each(|user| _ = command.arg(format!("--user={user}")));
    Ok(command)
}

/// Waits until a process says that it has started, or why it has not.
pub(crate) fn started(from: &mut impl BufRead, process: &str) -> Result<(), Error> {
    let failed = unreadable(process);
    match read_news(from).map_err(&failed)? {
        Some(Start::Ready) => Ok(()),
        Some(Start::Failed { what, hint: Some(hint) }) => Err(Error::Permission { what, hint }),
        Some(Start::Failed { what, .. }) => Err(failed(io::Error::other(what))),
        None => Err(failed(io::Error::other("it has ended"))),
    }
}

/// Returns what the first process hears of a failure.
pub(crate) fn failure(error: Error) -> Start {
    match error {
        Error::Permission { what, hint } => Start::Failed { what, hint: Some(hint) },
        other => Start::Failed { what: other.to_string(), hint: None },
    }
}

/// Returns the way to the process that has started this one.
pub(crate) fn to_parent() -> Result<NewsWriter<File>, Error> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(unreadable("standard output"))?;
    Ok(NewsWriter::new(File::from(stdout)))
}

/// Leaves signals to the other process: one to the whole group is for that one, which then ends this one's input.
pub(crate) fn leave_signals() -> Result<(), Error> {
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(unreadable("signals"))?;
    }
    Ok(())
}

/// Does something once standard input ends.
pub(crate) fn when_input_ends(then: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let wait = move || {
        while !matches!(io::stdin().read(&mut [0]), Ok(0)) {}
        then();
    };
    let waits = thread::Builder::new().name("parent".into()).spawn(wait);
    waits.map(|_| ()).map_err(unreadable("a thread"))
}
