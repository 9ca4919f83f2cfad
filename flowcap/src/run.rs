//! From a plan to a running meter, and what is said about it afterwards.

mod interfaces;
mod opening;
mod signals;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::TcpListener;
use std::process::ExitCode;

use flowcore::Error;
use flowcore::field::{Printable, shortened};
use flowcore::meter::{Aides, Reopen, Stop, Summary, Watched};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::confine::Confinement;
use crate::health::{Health, Supervisor};
use crate::log;
use crate::lookups::Asking;
use crate::metrics::{self, Metrics};
use crate::plan::{Input, MeterPlan};
use crate::progress::{Bar, counted, grouped};

pub(crate) use interfaces::list_interfaces;
use opening::{Started, start};
use signals::{Asked, stop_on};
pub(crate) use signals::{no_signals, stop_on_signals, survive_large_files};

/// The exit codes (of sysexits.h from 64 on).
pub(crate) mod exit {
    /// All went well.
    pub(crate) const DONE: u8 = 0;
    /// Something is new or gone.
    pub(crate) const DIFFERENT: u8 = 1;
    /// The arguments make no sense.
    pub(crate) const USAGE: u8 = 2;
    /// An input is damaged; every readable packet was used.
    pub(crate) const DAMAGED: u8 = 65;
    /// There is no such input.
    pub(crate) const NO_INPUT: u8 = 66;
    /// A server cannot be reached (--check).
    pub(crate) const SERVER: u8 = 69;
    /// Something broke inside, or the counters contradict each other.
    pub(crate) const INTERNAL: u8 = 70;
    /// An output could not be opened or written.
    pub(crate) const OUTPUT: u8 = 74;
    /// The system does not permit it.
    pub(crate) const NO_PERMISSION: u8 = 77;
    /// The configuration is wrong.
    pub(crate) const CONFIG: u8 = 78;
}

/// Runs a meter to its end, says how it went, and returns the exit code; `misuse` is that of settings that are refused.
pub(crate) fn meter(plan: MeterPlan, misuse: u8) -> ExitCode {
    let (quiet, files) = (plan.quiet, matches!(plan.input, Input::Files(_)));
    let bar_wanted = files && !quiet && !(writes_to_stdout(&plan) && io::stdout().is_terminal());
    let (reopen, watched, aides) = (Reopen::new(), Watched::new(), Aides::new());
    let live = plan.files.live;
    log::set_level(plan.running.log_level);
    let started = plan.check_files().and_then(|()| Confinement::of(&plan)).and_then(|inside| {
        inside.check_folders()?;
        let service = Service::open(&plan)?;
        Ok((service, start(plan, &inside, reopen.clone(), watched.clone(), aides.clone())?, inside))
    });
    match started {
        Ok((
            service,
            Started { source, total_bytes, meter, mut owners, mut watchers, mut shippers },
            inside,
        )) => {
            let signals = match Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]) {
                Ok(signals) => signals,
                Err(error) => return no_signals(&error),
            };
            if let Err(refusal) = inside.enter() {
                say(&format!("flowcap: {refusal}"));
                return exit::NO_PERMISSION.into();
            }
            let no_thread = |error: io::Error| {
                say(&format!("flowcap: cannot start a thread: {error}"));
                exit::INTERNAL.into()
            };
            let (stop, signalled) = (Stop::new(), Stop::new());
            let asking = owners.as_mut().map_or(Ok(()), |asking| asking.start(&aides));
            let watching = asking.and_then(|()| watchers.start(&aides));
            if let Err(error) = watching.and_then(|()| shippers.start(&aides)) {
                return no_thread(error);
            }
            let stops = [stop.clone(), signalled.clone()];
            let asked = Asked { stops, reopen, watched: watched.clone() };
            if let Err(error) = stop_on(signals, asked) {
                return no_signals(&error);
            }
            let looked_after = match Service::start(service, &watched, &aides) {
                Ok(service) => service,
                Err(error) => return no_thread(error),
            };
            let bar = bar_wanted.then(|| Bar::show(meter.progress(), total_bytes));
            let mut summary = meter.run(source, &stop);
            drop((bar, looked_after));
            let asked = owners.map_or(Ok(()), Asking::finish);
            let shipped = shippers.finish(live, &signalled);
            for error in [asked.err(), watchers.finish().err(), shipped.err()].into_iter().flatten() {
                match &summary.failure {
                    Some(failure) if !is_closed_stdout(failure) => say(&describe(&error)),
                    _ => summary.failure = Some(error),
                }
            }
            report(&summary, quiet).into()
        }
        Err(error) if code(&error) == exit::USAGE => {
            say(&describe(&error));
            misuse.into()
        }
        Err(error) => fail(&error),
    }
}

/// Says what failed, unless it is that nobody reads any more, and returns the exit code.
pub(crate) fn fail(error: &Error) -> ExitCode {
    if is_closed_stdout(error) {
        return exit::DONE.into();
    }
    say(&describe(error));
    code(error).into()
}

/// Says that the machine could not be asked for something.
#[cfg(any(feature = "ship", all(target_os = "linux", feature = "host")))]
pub(crate) fn unreadable(what: &str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Input { name: what.to_owned(), source }
}

/// Writes a line to standard error, in one piece; that it is closed stops nothing. What names of files and the like
/// could do to a terminal or a log is escaped, and of what is too long the middle left out.
pub(crate) fn say(line: &str) {
    let line = format!("{}\n", Printable(&shortened(line.trim_end(), LONGEST_SAID)));
    _ = io::stderr().write_all(line.as_bytes());
}

/// Writes lines to standard output; that nobody reads them is no failure.
///
/// # Errors
/// The exit code, where they cannot be written; that is said.
pub(crate) fn show(lines: &str) -> Result<(), ExitCode> {
    match io::stdout().write_all(lines.as_bytes()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => {
            Err(fail(&Error::Output { name: "standard output".to_owned(), source }))
        }
        _ => Ok(()),
    }
}

/// The most characters of a line on standard error.
const LONGEST_SAID: usize = 2_000;

/// What serves those who look after a live capture; opened before the sandbox is entered, started inside.
struct Service {
    supervisor: Supervisor,
    metrics: Option<TcpListener>,
}

impl Service {
    /// Opens nothing for a replay.
    fn open(plan: &MeterPlan) -> Result<Option<Self>, Error> {
        if !plan.files.live {
            return Ok(None);
        }
        let supervisor = Supervisor::of_environment()
            .map_err(|source| Error::Output { name: "NOTIFY_SOCKET".to_owned(), source })?;
        let metrics = plan.running.metrics.map(metrics::listen).transpose()?;
        Ok(Some(Service { supervisor, metrics }))
    }

    fn start(
        this: Option<Self>,
        watched: &Watched,
        aides: &Aides,
    ) -> io::Result<Option<(Health, Option<Metrics>)>> {
        let Some(Service { supervisor, metrics }) = this else { return Ok(None) };
        let metrics =
            metrics.map(|listener| Metrics::serve(listener, watched.clone(), aides.clone())).transpose()?;
        Ok(Some((Health::watch(watched.clone(), supervisor)?, metrics)))
    }
}

fn writes_to_stdout(plan: &MeterPlan) -> bool {
    let stats = plan.stats.iter().map(|stats| stats.destination.as_str());
    plan.outputs.iter().map(|output| output.destination.as_str()).chain(stats).any(|to| to == "-")
}

/// Says how a run went and returns its exit code.
fn report(summary: &Summary, quiet: bool) -> u8 {
    let failure = summary.failure.as_ref().filter(|failure| !is_closed_stdout(failure));
    for error in summary.damage.iter().chain(failure) {
        say(&describe(error));
    }
    if failure.is_none() {
        warn_of_readers_gone(summary);
    }
    for identity in &summary.false_identities {
        say(&format!("flowcap: the counters contradict each other: {identity}"));
    }
    let reader_left = summary.failure.is_some() && failure.is_none();
    if !quiet && !reader_left {
        say(&summary_line(summary));
    }
    match failure {
        Some(error) => code(error),
        None if !summary.false_identities.is_empty() => exit::INTERNAL,
        None if !summary.damage.is_empty() => exit::DAMAGED,
        None => exit::DONE,
    }
}

/// Says which outputs lost records although nothing failed: those whose reader went away while others went on. That of
/// standard output may, as `head` does.
fn warn_of_readers_gone(summary: &Summary) {
    for sink in summary.stats.sinks.iter().filter(|sink| sink.failed > 0 && sink.to != "-") {
        let lost = counted(sink.failed, "record");
        say(&format!("flowcap: warning: {}: its reader went away; not written: {lost}", sink.to));
    }
}

fn summary_line(summary: &Summary) -> String {
    let stats = &summary.stats;
    let lost = stats.kernel_dropped + stats.interface_dropped + stats.queue_dropped;
    let without = match stats.dropped.values().sum() {
        0 => String::new(),
        packets => format!(" ({} without a flow)", grouped(packets)),
    };
    format!(
        "flowcap: {}{without}, {}, {} dropped, {:.2} s",
        counted(stats.packets, "packet"),
        counted(stats.flows_opened, "flow"),
        grouped(lost),
        summary.elapsed.as_secs_f64()
    )
}

fn describe(error: &Error) -> String {
    match error {
        Error::Output { source, .. } if source.kind() == ErrorKind::AlreadyExists => {
            format!("flowcap: {error}; --force overwrites it")
        }
        Error::Permission { .. } => {
            // The library cannot know which program the capability is for.
            format!("flowcap: {error}").replace("PROGRAM", &program())
        }
        _ => format!("flowcap: {error}"),
    }
}

/// Returns the path of this program, for a capability.
pub(crate) fn program() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "flowcap".into());
    program.to_string_lossy().into_owned()
}

/// The reader of standard output went away, as `head` does when it has seen enough.
fn is_closed_stdout(error: &Error) -> bool {
    error.is_closed_pipe() && matches!(error, Error::Output { name, .. } if name == "-")
}

fn code(error: &Error) -> u8 {
    match error {
        Error::Input { source, .. } if source.kind() == ErrorKind::PermissionDenied => exit::NO_PERMISSION,
        Error::Input { .. } => exit::NO_INPUT,
        Error::Damaged { .. } => exit::DAMAGED,
        Error::Output { .. } => exit::OUTPUT,
        Error::Permission { .. } => exit::NO_PERMISSION,
        Error::Filter { .. } | Error::UnknownField { .. } | Error::Option(_) => exit::USAGE,
        _ => exit::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flowcore::record::StatsRecord;

    use super::*;

    fn summary() -> Summary {
        Summary {
            stats: StatsRecord {
                packets: 1_234_567,
                flows_opened: 8_901,
                kernel_dropped: 1,
                interface_dropped: 2,
                queue_dropped: 3,
                ..StatsRecord::default()
            },
            damage: Vec::new(),
            failure: None,
            false_identities: Vec::new(),
            elapsed: Duration::from_millis(1_234),
        }
    }

    fn output(name: &str, kind: ErrorKind) -> Error {
        Error::Output { name: name.to_owned(), source: kind.into() }
    }

    #[test]
    fn one_line_says_it_all() {
        let mut summary = summary();
        assert_eq!(summary_line(&summary), "flowcap: 1,234,567 packets, 8,901 flows, 6 dropped, 1.23 s");
        summary.stats.dropped = [("truncated", 1_000), ("malformed", 2)].into();
        let line = "flowcap: 1,234,567 packets (1,002 without a flow), 8,901 flows, 6 dropped, 1.23 s";
        assert_eq!(summary_line(&summary), line);
    }

    #[test]
    fn exit_codes() {
        let damage = || Error::Damaged { name: "a".into(), offset: 7, what: "cut".into() };
        let run = |change: fn(&mut Summary)| {
            let mut summary = summary();
            change(&mut summary);
            report(&summary, true)
        };
        assert_eq!(run(|_| {}), 0);
        assert_eq!(run(|s| s.false_identities.push("1 = 2".into())), 70);
        assert_eq!(run(|s| s.failure = Some(Error::Internal("a panic".into()))), 70);
        assert_eq!(run(|s| s.failure = Some(output("-", ErrorKind::BrokenPipe))), 0);
        assert_eq!(run(|s| s.failure = Some(output("fifo", ErrorKind::BrokenPipe))), 74);
        assert_eq!(run(|s| s.failure = Some(output("-", ErrorKind::StorageFull))), 74);
        let mut damaged = summary();
        damaged.damage.push(damage());
        assert_eq!(report(&damaged, true), 65);
        damaged.failure = Some(output("x", ErrorKind::StorageFull));
        assert_eq!(report(&damaged, true), 74);

        let input = |kind: ErrorKind| Error::Input { name: "a".into(), source: kind.into() };
        assert_eq!(code(&input(ErrorKind::NotFound)), 66);
        assert_eq!(code(&input(ErrorKind::PermissionDenied)), 77);
        assert_eq!(code(&Error::Permission { what: "eth0".into(), hint: "setcap".into() }), 77);
        assert_eq!(code(&Error::Option("x".into())), 2);
    }

    #[test]
    fn a_refusal_to_overwrite_names_the_way() {
        let text = describe(&Error::Output {
            name: "x.csv".into(),
            source: io::Error::new(ErrorKind::AlreadyExists, "exists already"),
        });
        assert_eq!(text, "flowcap: x.csv: exists already; --force overwrites it");
    }

    #[test]
    fn a_missing_permission_names_the_program() {
        let hint = "sudo setcap cap_net_raw=eip PROGRAM".to_owned();
        let text = describe(&Error::Permission { what: "capture on eth0".into(), hint });
        let program = std::env::current_exe().unwrap();
        assert!(text.ends_with(&format!("cap_net_raw=eip {}", program.display())), "{text}");
    }
}
