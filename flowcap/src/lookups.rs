//! Who asks for owners: threads of this process, or, where there is a sandbox, a process beside it.
//!
//! The process that takes packets apart may then look into no other one. The process beside it can: it reads the
//! headers of packets that open flows, asks the kernel, and tells what it finds through a pipe. It is told nothing but to
//! end. While it is missing nothing that was known counts, since what became of it is not seen.

use std::time::Duration;

use flowcore::Error;
use flowcore::enrich::{Attribution, Requests};
use flowcore::meter::Aides;
use flowcore::sink::SightedLines;

use crate::confine::Confinement;
use crate::owners::{self, Owners};

#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
pub(crate) use apart::{LookupsArgs, serve};

/// What asks for owners while flows are captured.
pub(crate) enum Asking {
    /// Threads of this process.
    Here(Owners),
    /// A process of its own.
    #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
    Beside(Box<apart::Beside>),
}

impl Asking {
    /// Begins to take in what a process beside this one finds; this is a thread that has to be inside the sandbox.
    pub(crate) fn start(&mut self, aides: &Aides) -> std::io::Result<()> {
        let _ = aides;
        match self {
            Asking::Here(_) => Ok(()),
            #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
            Asking::Beside(beside) => beside.start(aides),
        }
    }

    /// Stops asking, and ends the recording.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self {
            Asking::Here(owners) => owners.finish(),
            #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
            Asking::Beside(beside) => beside.finish(),
        }
    }
}

/// Starts to ask for the sockets of flows on these interfaces, as [`owners::ask`] does.
pub(crate) fn ask(
    interfaces: &[String],
    keep: Duration,
    recording: Option<SightedLines>,
    confinement: &Confinement,
) -> Result<Option<(Asking, Attribution, Requests)>, Error> {
    #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
    if confinement.changes_anything() {
        return apart::ask(interfaces, keep, recording, confinement).map(Some);
    }
    let _ = confinement;
    let asked = owners::ask(interfaces, keep, recording)?;
    Ok(asked.map(|(owners, attribution, requests)| (Asking::Here(owners), attribution, requests)))
}

#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
mod apart {
    use std::fs::File;
    use std::io::{self, BufReader, ErrorKind};
    use std::process::{Child, ChildStdout, Command, ExitCode};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::{self, JoinHandle};
    use std::time::Instant;

    use clap::Args;
    use flowcore::enrich::{IndexWriter, LocalAddresses};
    use flowcore::meter::{Stop, wall_clock};
    use flowcore::record::{Message, SocketNews};
    use flowcore::sink::NewsWriter;
    use flowcore::time::Timestamp;

    use super::*;
    use crate::beside::{self, Heard, Listener, Station};
    use crate::owners::{Recording, SOCKETS, index_writer, own_addresses};
    use crate::run::{say, unreadable};

    /// Looks sockets up for another process; no subcommand for people.
    #[derive(Args, Clone, Debug)]
    pub(crate) struct LookupsArgs {
        #[arg(long)]
        interface: Vec<String>,
        /// Seconds that a flow may be silent.
        #[arg(long)]
        keep: u64,
        #[command(flatten)]
        station: Station,
    }

    /// The process, and what takes in what it finds.
    pub(crate) struct Beside {
        child: Child,
        /// Until the thread has started.
        waiting: Option<(BufReader<ChildStdout>, Following)>,
        thread: Option<JoinHandle<()>>,
        recording: Option<Recording>,
        /// Requested once it may end.
        over: Stop,
    }

    struct Following {
        writer: IndexWriter,
        addresses: LocalAddresses,
        requests: Requests,
        /// What those have counted that have died, and all of them until now.
        before: Counted,
        until_now: Counted,
    }

    /// Lookups, dropped requests, packets lost, lookups that failed.
    type Counted = [u64; 4];

    pub(super) fn ask(
        interfaces: &[String],
        keep: Duration,
        recording: Option<SightedLines>,
        confinement: &Confinement,
    ) -> Result<(Asking, Attribution, Requests), Error> {
        let mut writer = index_writer(keep)?;
        let recording = recording.map(|lines| Recording::new(lines, say));
        recording.iter().for_each(|recording| recording.of(&mut writer));
        let addresses = LocalAddresses::new(own_addresses().map_err(unreadable(SOCKETS))?);
        let command = line(interfaces, keep, confinement).map_err(unreadable(PROCESS))?;
        let (child, from) = beside::start(command, PROCESS)?;
        let requests = Requests::elsewhere(writer.index());
        let attribution = Attribution::live(writer.index(), addresses.clone());
        let none = Counted::default();
        let following =
            Following { writer, addresses, requests: requests.clone(), before: none, until_now: none };
        let (waiting, over) = (Some((from, following)), Stop::new());
        let beside = Beside { child, waiting, thread: None, recording, over };
        Ok((Asking::Beside(Box::new(beside)), attribution, requests))
    }

    /// Returns what starts this program anew.
    fn line(interfaces: &[String], keep: Duration, confinement: &Confinement) -> io::Result<Command> {
        let mut command = beside::command("lookups", confinement)?;
        command.args(["--keep", &keep.as_secs().saturating_add(1).to_string()]);
        interfaces.iter().for_each(|interface| _ = command.arg(format!("--interface={interface}")));
        Ok(command)
    }

    impl Beside {
        pub(super) fn start(&mut self, aides: &Aides) -> io::Result<()> {
            let Some((from, mut following)) = self.waiting.take() else { return Ok(()) };
            let (who, aides, over) = (PROCESS.to_owned(), aides.clone(), self.over.clone());
            let listener = Listener { who, does: Some("lookups"), aides, over };
            let follow = move || {
                listener.listen(from, |heard| following.take(heard));
                following.writer.finish();
            };
            let thread = thread::Builder::new().name("owners".into()).spawn(follow)?;
            self.thread = Some(thread);
            Ok(())
        }

        pub(super) fn finish(mut self: Box<Self>) -> Result<(), Error> {
            self.over.request();
            drop(self.child.stdin.take());
            beside::ended(&mut self.child, self.thread.take(), PROCESS)?;
            self.recording.map_or(Ok(()), |recording| recording.finish())
        }
    }

    impl Following {
        fn take(&mut self, heard: Heard<SocketNews>) {
            match heard {
                Heard::News(SocketNews::Addresses(addresses)) => self.addresses.replace(addresses),
                Heard::News(SocketNews::Counted { lookups, dropped, lost, failed }) => {
                    let counted = [lookups, dropped, lost, failed];
                    self.until_now = std::array::from_fn(|nth| self.before[nth] + counted[nth]);
                    let [lookups, dropped, lost, failed] = self.until_now;
                    self.requests.counted(&SocketNews::Counted { lookups, dropped, lost, failed });
                }
                Heard::News(news) => self.writer.follow(news),
                Heard::Died | Heard::Gone => {
                    self.before = self.until_now;
                    // Each of them may end from now on, and another take its place: nobody would see it.
                    self.writer.follow(SocketNews::EndUnseen { since: Timestamp::MAX, now: wall_clock() });
                }
            }
        }
    }

    /// Looks sockets up, or sees to it that this is done, until the main process wants no more.
    pub(crate) fn serve(args: &LookupsArgs) -> ExitCode {
        beside::serve(PROCESS, args.station.attempt, args.station.looking(), |inside, has_started| {
            args.look_up(&inside, has_started)
        })
    }

    impl LookupsArgs {
        fn look_up(&self, confinement: &Confinement, has_started: &mut bool) -> Result<(), Error> {
            beside::leave_signals()?;
            let parent = Parent { pipe: beside::to_parent()?, told: Instant::now() };
            let news = News(Arc::new(Mutex::new(parent)));
            let told = news.clone();
            let prepare =
                move |writer: &mut IndexWriter| writer.on_news(move |news| told.take(news.as_ref()));
            let enter = || {
                confinement.enter_told()?;
                *has_started = true;
                news.say(&Message::Ready);
                Ok(())
            };
            let keep = Duration::from_secs(self.keep);
            let (owners, requests, addresses) = owners::start(&self.interface, keep, prepare, enter)?;
            let (here, ended) = channel::<()>();
            beside::when_ended(move || drop(here))?;
            let mut known = Vec::new();
            loop {
                news.tell(&requests.news());
                let addresses = addresses.list();
                if addresses != known {
                    news.tell(&SocketNews::Addresses(addresses.clone()));
                    known = addresses;
                }
                if ended.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            owners.finish()?;
            news.tell(&requests.news());
            Ok(())
        }
    }

    /// The way to the other process, for all threads.
    #[derive(Clone)]
    struct News(Arc<Mutex<Parent>>);

    struct Parent {
        pipe: NewsWriter<File>,
        /// When all that there was was sent off.
        told: Instant,
    }

    impl Parent {
        fn flush(&mut self) -> io::Result<()> {
            self.told = Instant::now();
            self.pipe.flush()
        }
    }

    impl News {
        /// Tells at once.
        fn tell(&self, news: &SocketNews) {
            self.say(&Message::News(news));
        }

        /// Tells at once.
        fn say(&self, message: &Message<&SocketNews>) {
            self.send(|parent| parent.pipe.write(message).and_then(|()| parent.flush()));
        }

        /// Takes what comes, and sends it off together when nothing more does; a moment later if that was done just now.
        fn take(&self, news: Option<&SocketNews>) {
            self.send(|parent| match news {
                Some(news) => parent.pipe.write(&Message::News(news)),
                None if parent.told.elapsed() < TOGETHER => Ok(()),
                None => parent.flush(),
            });
        }

        /// Writes, as long as there is somebody to read: without, standard input ends as well.
        fn send(&self, send: impl FnOnce(&mut Parent) -> io::Result<()>) {
            let mut parent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = send(&mut parent)
                && error.kind() != ErrorKind::BrokenPipe
            {
                say(&format!("flowcap: {PROCESS}: {error}"));
            }
        }
    }

    const PROCESS: &str = "the process that looks up sockets";
    /// How long news wait for others: a flow is written later than that, and waking up costs more than reading them.
    const TOGETHER: Duration = Duration::from_millis(20);
    /// How often counters and addresses are told.
    const TICK: Duration = Duration::from_secs(1);
}
