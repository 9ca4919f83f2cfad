//! `--check`: what holds, and whether it could work. Nothing is created, opened for writing or overwritten.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use flowcore::Error;
use flowcore::field::Printable;
use flowcore::sink::{self, Existing, FileOptions};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::outputs::is_server;
use super::settings::{Setting, table};
use crate::plan::{Input, MeterPlan, Output, Owners};
use crate::run::{exit, show};
use crate::sandbox::{self, Mode, User};
use crate::shippers;

/// Prints the settings and what was tried, and returns the exit code: that of the first trial that failed.
///
/// `server` tries to reach the server of an output.
pub(crate) fn check(
    file: Option<&str>,
    settings: &[Setting],
    plan: &MeterPlan,
    server: impl Fn(&Output) -> Result<(), String>,
) -> ExitCode {
    let trials = trials(plan, server);
    let failed = trials.iter().filter_map(|trial| trial.outcome.as_ref().err());
    let code = failed.map(|failure| failure.code).next().unwrap_or(exit::DONE);
    let mut text = table(settings, file);
    text.push('\n');
    for trial in &trials {
        let (state, about) = match &trial.outcome {
            Ok(None) => ("ok", String::new()),
            Ok(Some(note)) => ("note", format!(": {note}")),
            Err(failure) => ("FAILED", format!(": {}", failure.what)),
        };
        _ = writeln!(text, "{state:6}  {}{}", Printable(&trial.what), Printable(&about));
    }
    show(&text).err().unwrap_or_else(|| code.into())
}

/// Something that was tried.
struct Trial {
    what: String,
    /// Right, perhaps with a remark.
    outcome: Result<Option<String>, Failure>,
}

struct Failure {
    code: u8,
    what: String,
}

impl Failure {
    fn config(what: impl ToString) -> Self {
        Failure { code: exit::CONFIG, what: what.to_string() }
    }

    fn output(what: impl ToString) -> Self {
        Failure { code: exit::OUTPUT, what: what.to_string() }
    }
}

/// Tries everything: inputs and permissions first, then files, then servers.
fn trials(plan: &MeterPlan, server: impl Fn(&Output) -> Result<(), String>) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut tried =
        |what: String, outcome: Result<Option<String>, Failure>| trials.push(Trial { what, outcome });
    // Who does it: what is opened later is opened by that user.
    let user = plan.running.user.as_deref().map(User::find).transpose();
    if let Some(name) = &plan.running.user {
        let found = user.as_ref().map(|_| None);
        tried(format!("become {name}"), found.map_err(Failure::config));
    }
    let user = user.ok().flatten();
    let plain = FileOptions::from(plan.files.existing);
    let is_confined = plan.running.sandbox.unwrap_or_else(Mode::default_here) != Mode::Off;
    if let Some(expression) = &plan.filter {
        let compiled = filter(expression).map(|()| None);
        tried(format!("filter {expression}"), compiled.map_err(Failure::config));
    }
    if let Some(address) = plan.running.metrics {
        tried(format!("listen on {address}"), listening(address));
    }
    match &plan.input {
        Input::Files(files) => {
            for file in files.iter().filter(|file| *file != "-") {
                tried(format!("read {file}"), readable(file));
            }
        }
        Input::Live(live) => {
            for name in &live.interfaces {
                tried(format!("capture on {name}"), capture(name));
            }
        }
    }
    match &plan.owners {
        Owners::Unknown => {}
        Owners::Recorded(file) => tried(format!("read {file}"), readable(file)),
        Owners::Machine { record } => {
            tried("see processes of all users".to_owned(), Ok(processes()));
            if let Some(file) = record {
                tried(format!("write {file}"), writable(file, &plain, user.as_ref()));
            }
        }
    }
    if let Err(error) = plan.check_files() {
        tried("keep files apart".to_owned(), Err(Failure::config(error)));
    }
    for file in plan.files_read() {
        let outcome = as_user(user.as_ref(), || readable(file)).map_err(|failure| match failure.code {
            exit::NO_INPUT => Failure { code: exit::CONFIG, ..failure },
            _ => failure,
        });
        tried(format!("read {file}"), outcome);
    }
    if let Some(stats) = plan.stats.as_ref().filter(|stats| stats.destination != "-") {
        tried(format!("write {}", stats.destination), writable(&stats.destination, &plain, user.as_ref()));
    }
    let (servers, files): (Vec<&Output>, Vec<&Output>) =
        plan.all_outputs().partition(|output| is_server(&output.destination));
    for output in files {
        let name = if output.destination == "-" { "standard output" } else { &output.destination };
        tried(format!("write {name}"), writable(&output.destination, &output.files, user.as_ref()));
    }
    for output in servers {
        let spool = shippers::spool_folder(&output.destination, &output.server);
        let user = user.as_ref().filter(|_| output.server.spool.is_some() || !is_handed_over(&spool));
        let outcome = match sandbox::is_of_others(there(&spool)) {
            Ok(true) if user.is_none() && is_confined => Err(Failure {
                code: exit::NO_PERMISSION,
                what: "root has no special rights there in a sandbox; -Z names the owner".to_owned(),
            }),
            _ => as_user(user, || spool_folder(&spool)),
        };
        tried(format!("write {}", spool.display()), outcome);
        let reached = server(output).map(|()| None);
        let outcome = reached.map_err(|what| Failure { code: exit::SERVER, what });
        tried(format!("reach {}", output.destination), outcome);
    }
    trials
}

/// Tries something as the user that will do it.
fn as_user<T>(user: Option<&User>, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    match sandbox::as_user(user, work) {
        Ok(tried) => tried,
        Err(refusal) => Err(Failure { code: exit::NO_PERMISSION, what: refusal.to_string() }),
    }
}

#[cfg(feature = "live")]
fn filter(expression: &str) -> Result<(), Error> {
    flowcore::capture::check_filter(expression)
}

#[cfg(not(feature = "live"))]
fn filter(_: &str) -> Result<(), Error> {
    Err(Error::Option("this build has no libpcap".to_owned()))
}

/// Another flowcap may be at work while its configuration is checked.
fn listening(address: SocketAddr) -> Result<Option<String>, Failure> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Ok(Some("somebody listens there now".to_owned()))
        }
        Err(error) => Err(Failure::output(error)),
    }
}

fn readable(file: &str) -> Result<Option<String>, Failure> {
    let failure = |error: io::Error| Failure {
        code: if error.kind() == ErrorKind::PermissionDenied { exit::NO_PERMISSION } else { exit::NO_INPUT },
        what: error.to_string(),
    };
    // A named pipe would wait for its writer.
    match fs::metadata(file) {
        Ok(there) if there.is_file() => File::open(file).map(|_| None).map_err(failure),
        Ok(_) => Ok(None),
        Err(error) => Err(failure(error)),
    }
}

fn capture(interface: &str) -> Result<Option<String>, Failure> {
    if interface != "any" && !Path::new("/sys/class/net").join(interface).exists() {
        return Err(Failure { code: exit::NO_INPUT, what: "no such interface".to_owned() });
    }
    if cfg!(not(feature = "live")) {
        return Err(Failure { code: exit::USAGE, what: "this build has no libpcap".to_owned() });
    }
    if has_capability(CAP_NET_RAW) {
        return Ok(None);
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "flowcap".into());
    let what = format!("no permission; setcap cap_net_raw=eip {}", program.display());
    Err(Failure { code: exit::NO_PERMISSION, what })
}

/// Says what is missing, which hinders no capture.
fn processes() -> Option<String> {
    let wanted = [("CAP_SYS_PTRACE", CAP_SYS_PTRACE), ("CAP_DAC_READ_SEARCH", CAP_DAC_READ_SEARCH)];
    let missing = wanted.iter().filter(|(_, number)| !has_capability(*number)).map(|(name, _)| *name);
    let missing: Vec<&str> = missing.collect();
    (!missing.is_empty()).then(|| format!("only those of its own user, without {}", missing.join(" and ")))
}

/// Tells whether this process has a capability in effect.
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    held.and_then(|held| u64::from_str_radix(held.trim(), 16).ok())
        .is_some_and(|held| held >> number & 1 == 1)
}

/// Tells whether a destination could be opened, as far as that can be seen without doing it. In folders where files come
/// and go, `user` has to be able to make them.
fn writable(
    destination: &str,
    options: &FileOptions,
    user: Option<&User>,
) -> Result<Option<String>, Failure> {
    let path = Path::new(destination);
    let needs = sink::needs(destination, options).map_err(Failure::config)?;
    match (fs::metadata(path), &needs.folder) {
        _ if destination == "-" => Ok(None),
        (Ok(there), _) if there.is_dir() => Err(Failure::output("is a folder")),
        (Ok(there), Some(_)) if there.is_file() && options.existing == Existing::Refuse => {
            Err(Failure::output("exists already; --force overwrites it"))
        }
        (Err(error), _) if error.kind() != ErrorKind::NotFound => Err(Failure::output(error)),
        (_, Some(place)) if needs.renames && place.is_dir() && !sandbox::may_be_held(place) => {
            Ok(Some("in a sandbox files are not renamed there: --sandbox off".to_owned()))
        }
        (_, Some(place)) if needs.renames => as_user(user, || folder(place)),
        (Err(_), Some(place)) => folder(place),
        _ => may(path, Access::WRITE_OK),
    }
}

fn folder(path: &Path) -> Result<Option<String>, Failure> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => may(path, Access::WRITE_OK | Access::EXEC_OK),
        Ok(_) => Err(Failure::output(format!("{}: is no folder", path.display()))),
        Err(error) => Err(Failure::output(format!("{}: {error}", path.display()))),
    }
}

/// A spool is made where it is not there.
fn spool_folder(path: &Path) -> Result<Option<String>, Failure> {
    folder(there(path))
}

/// Tells whether root will make a spool's folder for another user.
fn is_handed_over(spool: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    there(spool) != spool && there(spool).metadata().is_ok_and(|there| there.uid() == 0)
}

/// Returns as much of a path as is there.
fn there(path: &Path) -> &Path {
    let there = path.ancestors().find(|path| path.exists());
    there.unwrap_or(Path::new("."))
}

fn may(path: &Path, access: Access) -> Result<Option<String>, Failure> {
    match accessat(CWD, path, access, AtFlags::EACCESS) {
        Ok(()) => Ok(None),
        Err(error) => Err(Failure::output(format!("{}: {}", path.display(), io::Error::from(error)))),
    }
}

/// The numbers of capabilities(7).
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_PTRACE: u32 = 19;
