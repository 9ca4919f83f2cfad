//! `flowcap ship`: a process that sends what waits in a spool.
//!
//! It alone resolves names, connects and speaks TLS, in a sandbox of its own. While it goes on it tells the main process
//! what it counts, and it ends as that process orders.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use flowcore::Error;
use flowcore::meter::Stop;
use flowcore::record::{Message, ServerStats};
use flowcore::ship::{self, Destination, Level, Scheme, ShipCounters, ShipOptions, Shipper};
use flowcore::sink::NewsWriter;
use flowcore::spool::Backlog;

use super::{PROCESS, options, spool_folder};
use crate::beside::{self, Order, Station};
use crate::conf::ServerKeys;
use crate::confine::Confinement;
use crate::log;
use crate::progress::counted;
use crate::run::exit;
use crate::sandbox::{Folder, Role};

/// Sends what waits in a spool; no subcommand for people.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShipArgs {
    #[arg(long)]
    to: String,
    #[command(flatten)]
    server: ServerKeys,
    #[command(flatten)]
    station: Station,
    #[arg(long, value_enum)]
    level: log::Level,
}

/// Sends, or sees to it that this is done, until the main process wants no more.
pub(crate) fn serve(args: &ShipArgs) -> ExitCode {
    log::set_level(args.level);
    let who = format!("{}: {PROCESS}", args.to);
    beside::serve(&who, args.station.attempt, args.confinement(), |inside, has_started| {
        // Whatever hinders it may pass: nobody waits for its start.
        *has_started = true;
        args.send(&inside)
    })
}

impl ShipArgs {
    fn send(&self, inside: &Confinement) -> Result<(), Error> {
        let failed = |source| Error::Output { name: "the spool".to_owned(), source };
        beside::leave_signals()?;
        // Linux calls it by the link that it was started by.
        let _ = std::fs::write("/proc/self/comm", "flowcap");
        let stop = Stop::new();
        let (options, folder) = (options(&self.server)?, spool_folder(&self.to, &self.server));
        let options = ShipOptions { drain: DRAIN, ..options };
        let sender = ship::open(&Destination::parse(&self.to)?, &options, &stop)?;
        let Some(backlog) = self.open(&folder).map_err(failed)? else { return Ok(()) };
        inside.enter_told()?;
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
        let account = Account::begin(shipper.counters(), &folder)?;
        let (telling, stopping) = (account.clone(), stop.clone());
        let obey = move || obey(&stopping, &telling);
        thread::Builder::new().name("parent".into()).spawn(obey).map_err(failed)?;
        let outcome = shipper.run(&stop);
        account.tell();
        // Another process finds the folder that is in its place, and may use it.
        outcome.map_err(failed)?;
        self.tell_what_waits(&folder);
        let counts = counters.read();
        log::write(log::Level::Info, &format!("{}: sent {}", self.to, counted(counts.records, "record")));
        Ok(())
    }

    /// Opens the spool for reading, as soon as nobody else reads it; none where it is to end before.
    fn open(&self, folder: &Path) -> io::Result<Option<Backlog>> {
        let (mut is_told, mut ending) = (false, Ending::default());
        loop {
            match Backlog::open(folder) {
                Err(busy) if busy.kind() == io::ErrorKind::ResourceBusy => {
                    if !is_told {
                        let line = format!("{}: {busy}; records wait until it has ended", self.to);
                        log::write(log::Level::Warn, &line);
                        is_told = true;
                    }
                }
                outcome => return outcome.map(Some),
            }
            if ending.is_over(Order::now()) {
                self.tell_what_waits(folder);
                return Ok(None);
            }
            thread::sleep(BETWEEN_TRIES);
        }
    }

    fn tell_what_waits(&self, folder: &Path) {
        let left = Backlog::waiting_in(folder);
        if left > 0 {
            let (left, folder) = (counted(left, "record"), folder.display());
            log::write(log::Level::Warn, &format!("{}: {left} wait in {folder} for the next start", self.to));
        }
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
        let folder = Folder::of_spool(spool_folder(&self.to, &self.server), false);
        let Station { user, sandbox, .. } = &self.station;
        let confinement = Confinement::of_role(role, vec![folder], user.as_deref(), *sandbox)?;
        Ok(confinement.reaching(files, ports))
    }
}

/// Does what the main process orders, and tells it what is counted, until this process ends.
fn obey(stop: &Stop, account: &Account) {
    let (mut order, mut ending) = (Order::GoOn, Ending::default());
    loop {
        account.tell();
        order = Order::after(order, Some(BETWEEN_NEWS));
        match order {
            Order::GoOn => {}
            Order::End | Order::Hurry => stop.request(),
            // What was sent and not noted is sent again: better than to go on without anybody who knows.
            Order::Leave => std::process::exit(exit::DONE.into()),
        }
        if ending.is_over(order) {
            stop.leave();
        }
    }
}

/// How long what waits may still take.
#[derive(Default)]
struct Ending {
    since: Option<Instant>,
    hurries_since: Option<Instant>,
}

impl Ending {
    /// Tells whether the time is over, with what is wanted now.
    fn is_over(&mut self, order: Order) -> bool {
        let over = |since: &mut Option<Instant>, from: Order, time: Duration| {
            order >= from && since.get_or_insert_with(Instant::now).elapsed() >= time
        };
        let is_late = over(&mut self.since, Order::End, DRAIN);
        over(&mut self.hurries_since, Order::Hurry, HURRIED) || is_late || order == Order::Leave
    }
}

/// What the main process knows of the sending.
#[derive(Clone)]
struct Account(Arc<Mutex<Told>>);

struct Told {
    parent: NewsWriter<File>,
    counters: Arc<ShipCounters>,
    folder: PathBuf,
    latest: Option<ServerStats>,
}

impl Account {
    fn begin(counters: Arc<ShipCounters>, folder: &Path) -> Result<Self, Error> {
        let mut parent = beside::to_parent()?;
        // That nobody hears it is told by standard input, too.
        _ = parent.write(&Message::<()>::Ready);
        let told = Told { parent, counters, folder: folder.to_owned(), latest: None };
        Ok(Account(Arc::new(Mutex::new(told))))
    }

    /// Tells what is counted, if it is news.
    fn tell(&self) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = told.counters.read();
        let (error, error_at) = match counts.last_error {
            // Longer ones would not go through the pipe at once, nor into anybody's head.
            Some(error) => (Some(error.text.chars().take(MOST_OF_ERROR).collect()), Some(error.time)),
            None => (None, None),
        };
        let now = ServerStats {
            sent: counts.records,
            refused: counts.refused,
            retries: counts.retries,
            waiting: Backlog::waiting_in(&told.folder),
            failing_since: counts.failing_since,
            error,
            error_at,
        };
        if told.latest.as_ref() != Some(&now) {
            _ = told.parent.write(&Message::News(&now)).and_then(|()| told.parent.flush());
            told.latest = Some(now);
        }
    }
}

/// How long what waits is sent at the end, as long as the server takes it.
const DRAIN: Duration = Duration::from_secs(3600);
/// The same where nobody wants to wait for that: after a live capture, and a signal.
const HURRIED: Duration = Duration::from_secs(5);
/// How often a spool is tried that another process reads.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// How often what is counted is told.
const BETWEEN_NEWS: Duration = Duration::from_secs(1);
/// Letters of an error that are told.
const MOST_OF_ERROR: usize = 400;
