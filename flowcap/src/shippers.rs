//! Records on their way to servers: into a spool, and from there by a process of its own for each server.
//!
//! That process is this program started again as `flowcap ship`, before anything is given up, since nothing can be
//! started from inside the sandbox. The two share the folder of the spool. It ends when its standard input does, after
//! what waits was sent, if the server takes it; for each time that its sender died and was started again, it writes a
//! byte to its standard output.

mod sending;

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flowcore::Error;
use flowcore::meter::Stop;
use flowcore::ship::{self, Destination, ShipOptions};
use flowcore::sink::{self, FileOptions, Sink};
use flowcore::spool::{Spool, SpoolOptions};

use crate::args::read;
use crate::conf::ServerKeys;
use crate::confine::Confinement;
use crate::log;
use crate::plan::Output;

pub(crate) use sending::{ShipArgs, serve};

/// The processes that send.
#[derive(Default)]
pub(crate) struct Shippers(Vec<Sending>);

struct Sending {
    to: String,
    input: Option<ChildStdin>,
    child: Option<Child>,
    /// How often it was started again.
    restarts: Arc<AtomicU64>,
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
        let defaults = SpoolOptions::default();
        let max_bytes = output.server.spool_max.unwrap_or(defaults.max_bytes);
        let kept = SpoolOptions { max_bytes, sync: files.sync, live: files.live };
        // What is made here has to be open to all processes that use it later.
        let spool =
            confinement.as_user(|| Spool::open(&folder, kept)).and_then(|opened| opened.map_err(failed))?;
        let (columns, restarts) = (output.columns.as_deref().unwrap_or_default(), Arc::default());
        let sink = sink::open_spooled(to, spool, columns, files, Arc::clone(&restarts))?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["ship", "--to", to, "--spool"]).arg(&folder);
        output.server.pass_on(&mut command);
        command.arg("--drain").arg(if files.live { DRAIN_LIVE } else { DRAIN_REPLAY }.as_secs().to_string());
        command.args(["--sandbox", confinement.mode().word(), "--level", level.word()]);
        confinement.user().iter().for_each(|user| _ = command.arg(format!("--user={user}")));
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|source| Error::Output { name: to.to_owned(), source })?;
        self.0.push(Sending {
            to: to.to_owned(),
            input: child.stdin.take(),
            child: Some(child),
            restarts,
            waits: None,
        });
        Ok(sink)
    }

    /// Begins to count what was started again, and to wait for what may end too early.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        for sending in &mut self.0 {
            let (Some(mut child), to) = (sending.child.take(), sending.to.clone()) else { continue };
            let (output, restarts) = (child.stdout.take(), Arc::clone(&sending.restarts));
            let wait = move || {
                output.into_iter().for_each(|output| count(output, &restarts));
                let ended = child.wait();
                if ended.as_ref().is_ok_and(|ended| !ended.success()) {
                    log::write(
                        log::Level::Error,
                        &format!("{to}: who sees to {PROCESS} has ended, nobody would start it again"),
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

/// Counts the bytes that come until there are no more.
fn count(mut output: ChildStdout, restarts: &AtomicU64) {
    while matches!(output.read(&mut [0]), Ok(1)) {
        restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells whether a server answers; nothing is sent.
pub(crate) fn check(output: &Output) -> Result<(), String> {
    let options = options(&output.server).map_err(|error| error.to_string())?;
    let destination = Destination::parse(&output.destination).map_err(|error| error.to_string())?;
    // Whoever asks has said which server it is.
    ship::check(&destination, &options).map(|_| ()).map_err(|error| {
        let what = error.to_string();
        what.strip_prefix(&format!("{destination}: ")).map_or(what.clone(), str::to_owned)
    })
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

fn options(server: &ServerKeys) -> Result<ShipOptions, Error> {
    let path = |file: &Option<String>| file.as_ref().map(PathBuf::from);
    let batch = server.batch.as_ref().map(|batch| read(&batch.0)).transpose().map_err(Error::Option)?;
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
