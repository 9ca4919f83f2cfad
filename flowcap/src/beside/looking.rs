//! Processes that look into others, which the main one may not: how they start and end.

use std::io::{self, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flowcore::Error;
use flowcore::record::Message;
use flowcore::sink::read_news;

use super::{Order, Station, is_cut};
use crate::confine::Confinement;
use crate::run::unreadable;
use crate::sandbox::Role;

impl Station {
    /// Confines a process that looks into others.
    pub(crate) fn looking(&self) -> Result<Confinement, Error> {
        Confinement::of_role(Role::Lookups, Vec::new(), self.user.as_deref(), self.sandbox)
    }
}

/// Starts a process that looks into others, and waits until it says that all it needs is open.
pub(crate) fn start(mut command: Command, who: &str) -> Result<(Child, BufReader<ChildStdout>), Error> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(unreadable(who))?;
    let Some(from) = child.stdout.take() else {
        return Err(Error::Internal("a process without output".into()));
    };
    let mut from = BufReader::new(from);
    started(&mut from, who)?;
    Ok((child, from))
}

/// Waits until a process says that it has started, or why it has not.
fn started(from: &mut BufReader<ChildStdout>, process: &str) -> Result<(), Error> {
    let failed = unreadable(process);
    loop {
        match read_news::<Message<()>>(from) {
            Ok(Some(Message::Ready)) => return Ok(()),
            Ok(Some(Message::Failed { what, hint: Some(hint) })) => {
                return Err(Error::Permission { what, hint });
            }
            Ok(Some(Message::Failed { what, .. })) => return Err(failed(io::Error::other(what))),
            Err(error) if is_cut(&error) => {}
            Err(error) => return Err(failed(error)),
            Ok(_) => return Err(failed(io::Error::other("it has ended"))),
        }
    }
}

/// Does something once the main process wants no more.
pub(crate) fn when_ended(then: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let wait = move || {
        Order::after(Order::GoOn, None);
        then();
    };
    let waits = thread::Builder::new().name("parent".into()).spawn(wait);
    waits.map(|_| ()).map_err(unreadable("a thread"))
}

/// Waits for the end of a process that may go, and of the thread that listens to it; not for ever.
pub(crate) fn ended(child: &mut Child, thread: Option<JoinHandle<()>>, who: &str) -> Result<(), Error> {
    let end = Instant::now() + LAST_WORDS;
    loop {
        let status = child.try_wait().map_err(unreadable(who))?;
        if let Some(status) = status.filter(|_| thread.as_ref().is_none_or(JoinHandle::is_finished)) {
            let broke = thread.is_some_and(|thread| thread.join().is_err());
            let is_well = status.success() && !broke;
            return if is_well { Ok(()) } else { Err(Error::Internal(format!("{who}: {status}"))) };
        }
        if Instant::now() > end {
            return Err(Error::Internal(format!("{who} does not end")));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// How long a process may take to end.
const LAST_WORDS: Duration = Duration::from_secs(5);
