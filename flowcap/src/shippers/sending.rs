//! `flowcap ship`: a process that sends what waits in a spool, and one above it that starts it again when it dies.
//!
//! The one below alone resolves names, connects and speaks TLS, in a sandbox of its own. The one above has to be able to
//! start a program, and what it would forbid itself the other could not do either: it gives up privileges only. But it
//! reads no file, no socket and no record.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use flowcore::Error;
use flowcore::meter::Stop;
use flowcore::ship::{self, Destination, Level, Scheme, ShipOptions, Shipper};
use flowcore::spool::Backlog;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use super::{PROCESS, options, spool_folder};
use crate::conf::ServerKeys;
use crate::confine::Confinement;
use crate::log;
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
    /// Send, in place of seeing to it that another process does.
    #[arg(long)]
    sends: bool,
}

/// Sends, or sees to it that this is done, until standard input ends.
pub(crate) fn serve(args: &ShipArgs) -> ExitCode {
    log::set_level(args.level);
    match if args.sends { args.send() } else { args.keep_sending() } {
        Ok(()) => exit::DONE.into(),
        Err(error) => {
            say(&format!("flowcap: {}: {error}", args.to));
            exit::INTERNAL.into()
        }
    }
}

impl ShipArgs {
    /// Starts the process that sends, and starts it again until it ends as it should.
    fn keep_sending(&self) -> Result<(), Error> {
        let failed = |source| Error::Output { name: PROCESS.to_owned(), source };
        leave_signals().map_err(failed)?;
        self.confinement()?.give_up().map_err(|refusal| Error::Option(refusal.to_string()))?;
        let ended = until_input_ends().map_err(failed)?;
        let mut wait = FIRST_WAIT;
        loop {
            // What waits is worth one more try at the end.
            let is_last = ended.try_recv() == Err(TryRecvError::Disconnected);
            let began = Instant::now();
            let mut command = self_again();
            command.arg("--sends");
            let what = match command.stdin(Stdio::inherit()).stdout(Stdio::null()).status() {
                Ok(status) if status.success() => return Ok(()),
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            if is_last {
                return Err(Error::Internal(format!("{PROCESS}: {what}")));
            }
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            let (to, seconds) = (&self.to, wait.as_secs());
            let line = format!(
                "{to}: {PROCESS} has ended: {what}; records wait, it is started again in {seconds} s"
            );
            log::write(log::Level::Error, &line);
            let _ = ended.recv_timeout(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            // Nobody who counts: then standard input has ended, too.
            let _ = io::stdout().write_all(b".").and_then(|()| io::stdout().flush());
        }
    }

    fn send(&self) -> Result<(), Error> {
        let failed = |source| Error::Output { name: "the spool".to_owned(), source };
        leave_signals().map_err(failed)?;
        // Linux calls it by the link that it was started by.
        let _ = std::fs::write("/proc/self/comm", "flowcap");
        let stop = Stop::new();
        let (options, folder) = (options(&self.server)?, spool_folder(&self.to, &self.server));
        let options = ShipOptions { drain: Duration::from_secs(self.drain), ..options };
        let sender = ship::open(&Destination::parse(&self.to)?, &options, &stop)?;
        let backlog = patiently(|| Backlog::open(&folder)).map_err(failed)?;
        self.confinement()?.enter().map_err(|refusal| Error::Option(refusal.to_string()))?;
        let (ended, stopping) = (until_input_ends().map_err(failed)?, stop.clone());
        let ask = move || {
            let _ = ended.recv();
            stopping.request();
        };
        thread::Builder::new().name("stop".into()).spawn(ask).map_err(failed)?;
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
        // Another process finds the folder that is in its place, and may use it.
        shipper.run(&stop).map_err(failed)?;
        let left = Backlog::open(&folder).map(|backlog| backlog.waiting()).unwrap_or_default();
        if left > 0 {
            let (left, folder) = (counted(left, "record"), folder.display());
            log::write(log::Level::Warn, &format!("{}: {left} wait in {folder} for the next start", self.to));
        }
        let counts = counters.read();
        log::write(log::Level::Info, &format!("{}: sent {}", self.to, counted(counts.records, "record")));
        Ok(())
    }

    fn confinement(&self) -> Result<Confinement, Error> {
        let (options, to) = (options(&self.server)?, Destination::parse(&self.to)?);
        let of_system =
            ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| std::env::var_os(name).map(PathBuf::from));
        let named = [options.token_file, options.ca_file, options.client_cert, options.client_key];
        let files = named.into_iter().chain(of_system).flatten().collect();
        let (role, ports) = match to.scheme {
            Scheme::Unix => (Role::LocalShipper, Vec::new()),
            // The resolver of names asks by TCP where an answer is long.
            _ => (Role::Shipper, vec![to.port, 53]),
        };
        let folder = Folder::new(spool_folder(&self.to, &self.server), false, true);
        let confinement = Confinement::of_role(role, vec![folder], self.user.as_deref(), self.sandbox)?;
        Ok(confinement.reaching(files, ports))
    }
}

/// Returns what starts this process again, with its arguments.
fn self_again() -> Command {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // What runs here, even if another file has its name by now, or its folder is closed to this user.
    #[cfg(target_os = "linux")]
    let program = "/proc/self/exe";
    #[cfg(not(target_os = "linux"))]
    let program = crate::run::program();
    let mut command = Command::new(program);
    std::os::unix::process::CommandExt::arg0(&mut command, name).args(arguments);
    command
}

/// Leaves signals alone: one to the whole group is for the first process, which then ends the input of the others.
fn leave_signals() -> io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// Returns what is disconnected when standard input ends; nothing is ever written there.
fn until_input_ends() -> io::Result<Receiver<()>> {
    let (here, ended) = channel();
    let read = move || {
        while !matches!(io::Read::read(&mut io::stdin(), &mut [0]), Ok(0)) {}
        drop(here);
    };
    thread::Builder::new().name("parent".into()).spawn(read)?;
    Ok(ended)
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

/// How long it takes until a process that died is started again; it doubles from one time to the next.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest of those times; who has lived for longer begins anew.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
