//! Sockets and events beside a capture: `[sockets]` and `[events]` of a configuration.
//!
//! What watches is a process of its own, as the one for lookups is: it may look into all others, reads no more of a
//! packet than its headers, and writes nothing but what it tells the main process, whose outputs take it.

use std::ffi::OsString;
use std::io::BufReader;
use std::process::{Child, ChildStdin, ChildStdout, ExitCode};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use clap::{Args, Subcommand};
use flowcore::Error;
use flowcore::meter::{Aides, Beside, Stop};
use flowcore::record::{HostNews, Message};

use crate::beside::{self, Heard, Listener, Station};
use crate::confine::Confinement;
use crate::events::EventsArgs;
use crate::outputs::Outputs;
use crate::plan::Watch;
use crate::run::unreadable;
use crate::sockets::SocketsArgs;
use crate::{events, sockets};

/// Watches for another process; no subcommand for people.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    station: Station,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Sockets(SocketsArgs),
    Events(EventsArgs),
}

/// The processes that watch.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Watching>);

struct Watching {
    what: Watch,
    child: Child,
    /// Until the thread has started.
    waiting: Option<(BufReader<ChildStdout>, SyncSender<HostNews>)>,
    thread: Option<JoinHandle<()>>,
    /// Requested when no more is wanted.
    over: Stop,
}

/// What keeps a process at work.
struct Wanted {
    over: Stop,
    _input: Option<ChildStdin>,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.over.request();
    }
}

impl Watchers {
    /// Starts a process that watches as the arguments say, and returns where its records come from.
    pub(crate) fn open(
        &mut self,
        what: Watch,
        arguments: &[OsString],
        quiet: bool,
        confinement: &Confinement,
    ) -> Result<Beside, Error> {
        let mut command = beside::command("watch", confinement).map_err(unreadable(process(what)))?;
        command.arg(what.word()).args(arguments).args(quiet.then_some("--quiet"));
        let (mut child, from) = beside::start(command, process(what))?;
        let over = Stop::new();
        let wanted = Wanted { over: over.clone(), _input: child.stdin.take() };
        let (to_meter, news) = sync_channel(WAITING);
        let waiting = Some((from, to_meter));
        self.0.push(Watching { what, child, waiting, thread: None, over });
        Ok(Beside::new(news, Box::new(wanted)))
    }

    /// Begins to take in what they say; these are threads that have to be inside the sandbox.
    pub(crate) fn start(&mut self, aides: &Aides) -> std::io::Result<()> {
        for Watching { what, waiting, thread, over, .. } in &mut self.0 {
            let Some((from, to_meter)) = waiting.take() else { continue };
            let (who, aides, over) = (process(*what).to_owned(), aides.clone(), over.clone());
            let listener = Listener { who, does: Some(what.word()), aides, over };
            let take_in = move || {
                listener.listen(from, |heard| {
                    if let Heard::News(news) = heard {
                        // Where the meter has ended, what comes is read all the same, so that nobody waits for it.
                        _ = to_meter.send(news);
                    }
                });
            };
            *thread = Some(thread::Builder::new().name("watching".into()).spawn(take_in)?);
        }
        Ok(())
    }

    /// Waits for their ends, once the meter wants no more of them.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for Watching { what, mut child, thread, .. } in self.0 {
            outcome = outcome.and(beside::ended(&mut child, thread, process(what)));
        }
        outcome
    }
}

/// Watches, or sees to it that this is done, until the main process wants no more.
pub(crate) fn serve(args: &WatchArgs) -> ExitCode {
    let what = match args.what {
        What::Sockets(_) => Watch::Sockets,
        What::Events(_) => Watch::Events,
    };
    beside::serve(process(what), args.station.attempt, args.station.looking(), |inside, has_started| {
        args.watch(&inside, has_started)
    })
}

impl WatchArgs {
    fn watch(&self, confinement: &Confinement, has_started: &mut bool) -> Result<(), Error> {
        beside::leave_signals()?;
        let (stop, mut parent) = (Stop::new(), beside::to_parent()?);
        let stopping = stop.clone();
        let mut say = |message: Message<()>| {
            let said = parent.write(&message).and_then(|()| parent.flush());
            said.map_err(unreadable("standard output"))
        };
        let enter = || {
            confinement.enter_told()?;
            beside::when_ended(move || stopping.request())?;
            *has_started = true;
            say(Message::Ready)
        };
        let outputs = Outputs::of(Box::new(beside::to_parent()?));
        match &self.what {
            What::Sockets(args) => sockets::watch(args, outputs, &stop, enter)?,
            What::Events(args) => events::follow(args, outputs, &stop, enter)?,
        }
        // As a duration asks for; who is told to end need not say so.
        say(Message::Done)
    }
}

fn process(what: Watch) -> &'static str {
    match what {
        Watch::Sockets => "the process that watches sockets",
        Watch::Events => "the process that follows events",
    }
}

/// Records that wait for the meter; it looks for them four times a second at least.
const WAITING: usize = 16_384;
