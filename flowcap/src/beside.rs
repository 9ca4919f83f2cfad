//! Processes of this program beside the main one, each for what that one gives up.
//!
//! They are started before anything is given up, and there are two of each: one that works, and a keeper above it, which
//! starts it again when it dies. What the main process wants of them it says by the [`Order`] in the pipe that is their
//! standard input; what they say goes through another one, as [`Message`]s.

mod keeper;
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
mod looking;
mod order;

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{ChildStdout, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use flowcore::Error;
use flowcore::meter::{Aides, Stop};
use flowcore::record::Message;
use flowcore::sink::{NewsWriter, read_news};
use serde::de::DeserializeOwned;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::confine::Confinement;
use crate::log;
use crate::run::{exit, say, unreadable};
use crate::sandbox::Mode;

use keeper::keep;
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
pub(crate) use looking::{ended, start, when_ended};
pub(crate) use order::Order;

/// What all of them are started with.
#[derive(Args, Clone, Debug)]
pub(crate) struct Station {
    #[arg(long)]
    pub(crate) user: Option<String>,
    #[arg(long, value_enum)]
    pub(crate) sandbox: Mode,
    /// Do the work, in place of seeing to it that another process does.
    #[arg(long)]
    pub(crate) attempt: Option<u64>,
}

/// Begins the line that starts this program anew as a hidden subcommand, confined as the main process is.
pub(crate) fn command(name: &str, confinement: &Confinement) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([name, "--sandbox", confinement.mode().word()]);
    confinement.user().iter().for_each(|user| _ = command.arg(format!("--user={user}")));
    Ok(command)
}

/// Tells the main process of a failure; false where it does not hear it.
fn is_told(error: &Error) -> bool {
    let failed = match error {
        Error::Permission { what, hint } => {
            Message::Failed::<()> { what: what.clone(), hint: Some(hint.clone()) }
        }
        other => Message::Failed { what: other.to_string(), hint: None },
    };
    to_parent().is_ok_and(|mut parent| parent.write(&failed).and_then(|()| parent.flush()).is_ok())
}

/// Does the work of a process beside the main one, or is its keeper where this is no `attempt` at the work; `work` says
/// when it has started.
///
/// What hinders the very first one from that is told to the main process, and it is not tried again.
pub(crate) fn serve(
    who: &str,
    attempt: Option<u64>,
    confinement: Result<Confinement, Error>,
    work: impl FnOnce(Confinement, &mut bool) -> Result<(), Error>,
) -> ExitCode {
    let mut has_started = attempt.is_some_and(|attempt| attempt > 1);
    let done = confinement.and_then(|inside| match attempt {
        Some(_) => work(inside, &mut has_started),
        None => inside.give_up().and_then(|()| {
            has_started = true;
            keep(who)
        }),
    });
    match done {
        Err(error) if !error.is_closed_pipe() && (has_started || !is_told(&error)) => {
            say(&format!("flowcap: {error}"));
            exit::INTERNAL.into()
        }
        _ => exit::DONE.into(),
    }
}

/// Returns the way to the process that has started this one.
pub(crate) fn to_parent() -> Result<NewsWriter<File>, Error> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(unreadable("standard output"))?;
    Ok(NewsWriter::new(File::from(stdout)))
}

/// Leaves signals to the main process: one to the whole group is for that one, which then gives its orders.
pub(crate) fn leave_signals() -> Result<(), Error> {
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(unreadable("signals"))?;
    }
    Ok(())
}

/// What is heard of a process.
pub(crate) enum Heard<N> {
    /// What it says.
    News(N),
    /// It has died, and is started again.
    Died,
    /// It has gone for good.
    Gone,
}

/// What listens to a process, and sees whether it is there.
pub(crate) struct Listener {
    /// Who it is, in messages.
    pub(crate) who: String,
    /// What it does, in the counters of stats records; none where it is counted elsewhere.
    pub(crate) does: Option<&'static str>,
    pub(crate) aides: Aides,
    /// Requested once it may end.
    pub(crate) over: Stop,
}

impl Listener {
    /// Hands over what it says until it says no more.
    pub(crate) fn listen<N: DeserializeOwned>(
        self,
        mut from: BufReader<ChildStdout>,
        mut take: impl FnMut(Heard<N>),
    ) {
        let why = loop {
            match read_news(&mut (&mut from).take(LONGEST)) {
                Ok(Some(Message::News(news))) => take(Heard::News(news)),
                Ok(Some(Message::Ready)) => self.aides.is_back(&self.who),
                Ok(Some(Message::Died)) => {
                    self.aides.is_missing(&self.who);
                    self.does.into_iter().for_each(|does| self.aides.started_again(does));
                    take(Heard::Died);
                }
                Ok(Some(Message::Done)) => self.over.request(),
                Ok(Some(Message::Failed { .. })) => {}
                Ok(None) => break String::new(),
                // It died in the middle of a line.
                Err(error) if is_cut(&error) => {}
                Err(error) => break format!(": {error}"),
            }
        };
        if !self.over.is_requested() {
            self.aides.is_missing(&self.who);
            let line = format!("{} has ended{why}; it is missing until flowcap is started again", self.who);
            log::write(log::Level::Error, &line);
            take(Heard::Gone);
        }
    }
}

/// Tells whether a line was no whole message.
fn is_cut(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

/// No message is longer, in bytes.
const LONGEST: u64 = 16 << 20;
