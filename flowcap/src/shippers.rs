//! Records on their way to servers: into a spool, and from there by a process of its own for each server.
//!
//! That process is this program started again as `flowcap ship`, before anything is given up, since nothing can be
//! started from inside the sandbox. The two share the folder of the spool. At the end it is ordered to send what waits, if
//! the server takes it, and is waited for.

mod sending;

use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flowcore::Error;
use flowcore::meter::{Aides, Stop};
use flowcore::record::ServerStats;
use flowcore::ship::{self, Destination, ShipOptions};
use flowcore::sink::{self, FileOptions, Sink};
use flowcore::spool::{Backlog, Spool, SpoolOptions};

use crate::args::read;
use crate::beside::{self, Heard, Listener, Order};
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
    /// What the output shows of it.
    shown: sink::Sending,
    /// Requested once it may end.
    over: Stop,
    threads: Option<Threads>,
}

struct Threads {
    waits: JoinHandle<io::Result<ExitStatus>>,
    listens: JoinHandle<()>,
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
        if output.server.spool.is_none() {
            let state = state_folder();
            [state.join("spool"), state].iter().rev().try_for_each(|folder| confinement.hand_over(folder))?;
        }
        // What is made here has to be open to all processes that use it later.
        let spool =
            confinement.as_user(|| Spool::open(&folder, kept)).and_then(|opened| opened.map_err(failed))?;
        let (columns, shown) = (output.columns.as_deref().unwrap_or_default(), sink::Sending::default());
        let sink = sink::open_spooled(to, spool, columns, files, shown.clone())?;
        let mut command = beside::command("ship", confinement).map_err(failed)?;
        command.args(["--to", to, "--level", level.word(), "--spool"]).arg(&folder);
        output.server.pass_on(&mut command);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|source| Error::Output { name: to.to_owned(), source })?;
        self.0.push(Sending {
            to: to.to_owned(),
            input: child.stdin.take(),
            child: Some(child),
            shown,
            over: Stop::new(),
            threads: None,
        });
        Ok(sink)
    }

    /// Begins to take in what they count, and to wait for what may end too early.
    pub(crate) fn start(&mut self, aides: &Aides) -> io::Result<()> {
        for sending in &mut self.0 {
            let Some(mut child) = sending.child.take() else { continue };
            let (from, shown) = (child.stdout.take(), sending.shown.clone());
            let listener = Listener {
                who: format!("{}: {PROCESS}", sending.to),
                does: None,
                aides: aides.clone(),
                over: sending.over.clone(),
            };
            let listens = move || {
                let mut counted =
                    Counted { shown, restarts: 0, before: ServerStats::default(), latest: None };
                if let Some(from) = from {
                    listener.listen(BufReader::new(from), |heard| counted.take(heard));
                }
            };
            let (to, over) = (sending.to.clone(), sending.over.clone());
            let waits = move || {
                let ended = child.wait();
                if !over.is_requested() {
                    log::write(
                        log::Level::Error,
                        &format!("{to}: who sees to {PROCESS} has ended, nobody would start it again"),
                    );
                }
                ended
            };
            sending.threads = Some(Threads {
                waits: thread::Builder::new().name("shipping".into()).spawn(waits)?,
                listens: thread::Builder::new().name("shipped".into()).spawn(listens)?,
            });
        }
        Ok(())
    }

    /// Has what waits sent, as far as the servers take it, and ends the processes. After a live capture there is little
    /// time for that, nor is there once somebody `hurries`.
    pub(crate) fn finish(mut self, live: bool, hurries: &Stop) -> Result<(), Error> {
        self.order(if live { Order::Hurry } else { Order::End });
        let mut is_hurried = live;
        while !self.0.iter().all(Sending::has_ended) {
            if hurries.is_requested() && !is_hurried {
                self.order(Order::Hurry);
                is_hurried = true;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        let mut outcome = Ok(());
        for Sending { to, threads, .. } in self.0 {
            let Some(Threads { waits, listens }) = threads else { continue };
            let internal = |what: String| Err(Error::Internal(format!("{to}: {PROCESS}: {what}")));
            match (waits.join(), listens.join()) {
                (Ok(Ok(ended)), Ok(())) if ended.success() => {}
                (Ok(Ok(ended)), Ok(())) => outcome = internal(ended.to_string()),
                (Ok(Err(error)), _) => outcome = internal(error.to_string()),
                _ => outcome = internal("a thread broke".to_owned()),
            }
        }
        outcome
    }

    fn order(&mut self, order: Order) {
        for sending in &mut self.0 {
            sending.over.request();
            sending.input.iter_mut().for_each(|input| order.give(input));
        }
    }
}

impl Sending {
    fn has_ended(&self) -> bool {
        self.threads.as_ref().is_none_or(|two| two.waits.is_finished() && two.listens.is_finished())
    }
}

/// What was sent by all processes of a server, one after the other.
struct Counted {
    shown: sink::Sending,
    restarts: u64,
    /// What those have counted that have died.
    before: ServerStats,
    latest: Option<ServerStats>,
}

impl Counted {
    /// Takes what the process of now has counted, or that it has died.
    fn take(&mut self, heard: Heard<ServerStats>) {
        match heard {
            Heard::News(mut counted) => {
                counted.add(&self.before);
                self.latest = Some(counted);
            }
            Heard::Died => {
                self.restarts += 1;
                self.before = self.latest.clone().unwrap_or_default();
            }
            Heard::Gone => {}
        }
        self.shown.show(self.restarts, self.latest.clone());
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
    let spools = state_folder().join("spool");
    // As it was called once: what waits there is still to be sent.
    let before = spools.join(plain(to));
    if Backlog::waiting_in(&before) > 0 { before } else { spools.join(name(to)) }
}

/// Returns the name of a server's folder: as much of its address as people look at, and a number of all of it.
fn name(to: &str) -> String {
    let shown: String = to.split('?').next().unwrap_or_default().chars().take(MOST_SHOWN).collect();
    // FNV-1a, which stays the same for ever.
    let number = to.bytes().fold(0xcbf2_9ce4_8422_2325u64, |number, byte| {
        (number ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{number:016x}", plain(&shown))
}

fn plain(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ".-".contains(letter);
    text.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect()
}

/// Returns where services, or this user, keep what outlives a run.
fn state_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_user = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    match variable("STATE_DIRECTORY") {
        Some(folder) => folder,
        None if rustix::process::geteuid().is_root() => "/var/lib/flowcap".into(),
        None => of_user().unwrap_or_else(|| ".".into()).join("flowcap"),
    }
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
/// Letters of a server's address in the name of its folder.
const MOST_SHOWN: usize = 80;
/// How often is looked whether the processes have ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_folder_of_its_own_with_a_name_that_can_be() {
        let long = format!("https://h/{}?key={}", "a/".repeat(200), "b".repeat(300));
        let all = ["https://h/a/b", "https://h/a_b", "https://h/a/b?c", "https://h/ä", "https://h/ö", &long];
        let names: std::collections::BTreeSet<String> = all.iter().map(|to| name(to)).collect();
        assert_eq!(names.len(), all.len(), "{names:?}");
        assert!(
            names.iter().all(|name| name.is_ascii() && name.len() <= 100 && name.starts_with("https___h_a")
                || name.starts_with("https___h__-")),
            "{names:?}"
        );
        // What waits in it is found by the next version, too.
        assert_eq!(name("https://h/a/b"), "https___h_a_b-7d9d3ae5ae7a2d2f");
        assert!(!name("https://h/a?key=secret").contains("secret"));
    }
}
