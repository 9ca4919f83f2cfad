//! Records on their way to servers: into a spool, and from there by a process of its own for each server.
//!
//! That process is this program started again as `flowcap ship`, before anything is given up: it alone resolves names,
//! connects and speaks TLS. The two share the folder of the spool. It ends when its standard input does, after what waits
//! was sent, if the server takes it.

use std::io;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use flowcore::Error;
use flowcore::meter::Stop;
use flowcore::ship::{self, Destination, Level, ShipOptions, Shipper};
use flowcore::sink::{self, FileOptions, Sink};
use flowcore::spool::{Backlog, Spool, SpoolOptions, SyncPolicy};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::args::read;
use crate::conf::ServerKeys;
use crate::confine::Confinement;
use crate::log;
use crate::plan::Output;
use crate::progress::counted;
use crate::run::{exit, say};
use crate::sandbox::{Folder, Mode, Role};

/// Sends what waits in a spool; no subcommand for people.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShipArgs {
    #[arg(long)]
    to: String,
    #[command(flatten)]
    server: ServerKeys,
    /// Seconds for what waits at the end.
    #[arg(long)]
    drain: u64,
    #[arg(long)]
    user: Option<String>,
    #[arg(long, value_enum)]
    sandbox: Mode,
    #[arg(long, value_enum)]
    level: log::Level,
}

/// The processes that send.
#[derive(Default)]
pub(crate) struct Shippers(Vec<Sending>);

struct Sending {
    to: String,
    input: Option<ChildStdin>,
    child: Option<Child>,
    waits: Option<JoinHandle<io::Result<ExitStatus>>>,
}

impl Shippers {
    /// Opens the spool of an output, starts the process that sends from it, and returns what puts records in.
    pub(crate) fn open(
        &mut self,
        output: &Output,
        files: &FileOptions,
        level: log::Level,
        confinement: &Confinement,
    ) -> Result<Box<dyn Sink>, Error> {
        let to = output.destination.as_str();
        let (destination, folder) = (Destination::parse(to)?, spool_folder(to, &output.server));
        // What is wrong is said here, not by the process that would have to be looked for.
        ship::open(&destination, &options(&output.server)?, &Stop::new())?;
        let failed = |source| Error::Output { name: format!("spool {}", folder.display()), source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let defaults = SpoolOptions::default();
        let sync = match files.sync {
            sink::SyncPolicy::Always => SyncPolicy::Always,
            sink::SyncPolicy::Every(time) => SyncPolicy::Every(time),
            _ => SyncPolicy::Never,
        };
        let max_bytes = output.server.spool_max.unwrap_or(defaults.max_bytes);
        let spool = Spool::open(&folder, SpoolOptions { max_bytes, sync }).map_err(failed)?;
        let sink = sink::open_spooled(to, spool, output.columns.as_deref().unwrap_or_default(), files)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["ship", "--to", to, "--spool"]).arg(&folder);
        output.server.pass_on(&mut command);
        command.arg("--drain").arg(if files.live { DRAIN_LIVE } else { DRAIN_REPLAY }.as_secs().to_string());
        command.args(["--sandbox", confinement.mode().word(), "--level", level.word()]);
        confinement.user().iter().for_each(|user| _ = command.arg(format!("--user={user}")));
        let started = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = started.map_err(|source| Error::Output { name: to.to_owned(), source })?;
        self.0.push(Sending {
            to: to.to_owned(),
            input: child.stdin.take(),
            child: Some(child),
            waits: None,
        });
        Ok(sink)
    }

    /// Begins to wait for what may end too early.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        for sending in &mut self.0 {
            let (Some(mut child), to) = (sending.child.take(), sending.to.clone()) else { continue };
            let wait = move || {
                let ended = child.wait();
                if ended.as_ref().is_ok_and(|ended| !ended.success()) {
                    log::write(
                        log::Level::Error,
                        &format!("{to}: {PROCESS} has ended; records wait in the spool"),
                    );
                }
                ended
            };
            sending.waits = Some(thread::Builder::new().name("shipping".into()).spawn(wait)?);
        }
        Ok(())
    }

    /// Has what waits sent, as far as the servers take it, and ends the processes.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.0.iter_mut().for_each(|sending| sending.input = None);
        let mut outcome = Ok(());
        for Sending { to, child, waits, .. } in self.0 {
            let ended = match (waits.map(JoinHandle::join), child) {
                (Some(Ok(ended)), _) => ended,
                (_, Some(mut child)) => child.wait(),
                _ => continue,
            };
            let internal = |what: String| Err(Error::Internal(format!("{to}: {PROCESS}: {what}")));
            match ended {
                Ok(ended) if ended.success() => {}
                Ok(ended) => outcome = internal(ended.to_string()),
                Err(error) => outcome = internal(error.to_string()),
            }
        }
        outcome
    }
}

/// Tells whether a server answers; nothing is sent.
pub(crate) fn check(output: &Output) -> Result<(), String> {
    let options = options(&output.server).map_err(|error| error.to_string())?;
    let destination = Destination::parse(&output.destination).map_err(|error| error.to_string())?;
    ship::check(&destination, &options).map(|_| ()).map_err(|error| error.to_string())
}

/// Returns the folder in which records wait: the one that was named, else one of the server's own among the state of
/// services, or of this user.
pub(crate) fn spool_folder(to: &str, server: &ServerKeys) -> PathBuf {
    if let Some(folder) = &server.spool {
        return folder.into();
    }
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_user = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    let state = match variable("STATE_DIRECTORY") {
        Some(folder) => folder,
        None if rustix::process::geteuid().is_root() => "/var/lib/flowcap".into(),
        None => of_user().unwrap_or_else(|| ".".into()).join("flowcap"),
    };
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || ".-".contains(letter) { letter } else { '_' };
    state.join("spool").join(to.chars().map(plain).collect::<String>())
}

/// Sends until standard input ends.
pub(crate) fn serve(args: &ShipArgs) -> ExitCode {
    log::set_level(args.level);
    match args.serve() {
        Ok(()) => exit::DONE.into(),
        Err(error) => {
            say(&format!("flowcap: {}: {error}", args.to));
            exit::INTERNAL.into()
        }
    }
}

impl ShipArgs {
    fn serve(&self) -> Result<(), Error> {
        let failed = |source| Error::Output { name: self.to.clone(), source };
        // A signal to the whole group is for the other process, which then ends this one's input.
        for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1] {
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).map_err(failed)?;
        }
        let stop = Stop::new();
        let (options, folder) = (options(&self.server)?, spool_folder(&self.to, &self.server));
        let options = ShipOptions { drain: Duration::from_secs(self.drain), ..options };
        let sender = ship::open(&Destination::parse(&self.to)?, &options, &stop)?;
        let backlog = patiently(|| Backlog::open(&folder)).map_err(failed)?;
        Confinement::of_role(
            Role::Shipper,
            vec![Folder::of_spool(folder.clone())],
            self.user.as_deref(),
            self.sandbox,
        )?
        .enter()
        .map_err(|refusal| Error::Option(refusal.to_string()))?;
        let stopping = stop.clone();
        let until_end = move || {
            while !matches!(io::Read::read(&mut io::stdin(), &mut [0]), Ok(0)) {}
            stopping.request();
        };
        thread::Builder::new().name("parent".into()).spawn(until_end).map_err(failed)?;
        let to = self.to.clone();
        let log = move |level, line: &str| {
            let level = match level {
                Level::Error => log::Level::Error,
                Level::Warn => log::Level::Warn,
                Level::Info => log::Level::Info,
            };
            log::write(level, &format!("{to}: {line}"));
        };
        let shipper = Shipper::new(backlog, sender, options).log(log);
        let counters = shipper.counters();
        shipper.run(&stop);
        let left = Backlog::open(&folder).map(|backlog| backlog.waiting()).unwrap_or_default();
        if left > 0 {
            let (left, folder) = (counted(left, "record"), folder.display());
            log::write(log::Level::Warn, &format!("{}: {left} wait in {folder} for the next start", self.to));
        }
        let counts = counters.read();
        log::write(log::Level::Info, &format!("{}: sent {}", self.to, counted(counts.records, "record")));
        Ok(())
    }
}

/// Tries while the process of the run before has not ended.
fn patiently<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..100 {
        match open() {
            Err(busy) if busy.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(100))
            }
            outcome => return outcome,
        }
    }
    open()
}

fn options(server: &ServerKeys) -> Result<ShipOptions, Error> {
    let path = |file: &Option<String>| file.as_ref().map(PathBuf::from);
    let batch = server.batch.as_deref().map(read).transpose().map_err(Error::Option)?;
    let defaults = ShipOptions::default();
    Ok(ShipOptions {
        token_file: path(&server.token_file),
        ca_file: path(&server.ca_file),
        client_cert: path(&server.client_cert),
        client_key: path(&server.client_key),
        allow_plaintext: server.allow_plaintext,
        batch: batch.unwrap_or(defaults.batch),
        ..defaults
    })
}

const PROCESS: &str = "the process that sends";
/// How long what waits is sent after a live capture.
const DRAIN_LIVE: Duration = Duration::from_secs(5);
/// The same after a replay, whose records somebody waits for.
const DRAIN_REPLAY: Duration = Duration::from_secs(3600);
