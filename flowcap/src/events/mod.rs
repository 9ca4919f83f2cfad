//! `flowcap events`: TCP connections as they are opened, accepted, closed and refused.

#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
mod feed;
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
mod opened;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use flowcore::Error;
use flowcore::meter::Stop;
use flowcore::record::NetworkEvent;
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
use flowcore::sink::HostRecords;

use crate::args::{Format, Limit, limit, positive};
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
use crate::outputs::Outputs;
use crate::run::{exit, fail};

/// Shows TCP connections as they are opened, accepted, closed and refused, with the process at this machine's end.
///
/// A connection between two processes of this machine is shown for each of them.
#[derive(Args, Clone, Debug)]
#[command(max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct EventsArgs {
    /// Where events are taken from.
    #[arg(long, value_enum, default_value_t, help_heading = "Input")]
    pub(crate) source: Source,

    /// Watch this interface, or 'any'; may repeat.
    #[arg(short, long, value_name = "NAME", default_value = "any", help_heading = "Input")]
    pub(crate) interface: Vec<String>,

    /// Compare snapshots this often, where they are the source.
    #[arg(long, value_name = "TIME", value_parser = positive, default_value = "1s", help_heading = "Input")]
    pub(crate) interval: Duration,

    /// Stop after this long.
    #[arg(long, value_name = "TIME", value_parser = limit, help_heading = "Input")]
    pub(crate) duration: Option<Limit>,

    /// Show only the connections of this process: its number, its name, or the name or path of its program.
    ///
    /// A name is that of the process, or the base name of its executable; with a '/' in it, the whole path. The rules of
    /// `flowcap sockets --allow` take the same.
    #[arg(long, value_name = "PROCESS", help_heading = "Input")]
    pub(crate) process: Option<String>,

    /// Write events to this file; '-' is standard output; may repeat.
    ///
    /// The extension picks the format: .jsonl or .csv, with .gz or .zst behind it to compress.
    #[arg(short, long, value_name = "DEST", default_value = "-", help_heading = "Output")]
    pub(crate) output: Vec<String>,

    /// Write this format where the extension names none.
    #[arg(short = 'T', long, value_enum, default_value = "jsonl", help_heading = "Output")]
    pub(crate) format: Format,

    /// Overwrite files that exist; otherwise they are added to.
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,

    /// Say nothing on standard error but errors.
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// Where events are taken from.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Source {
    /// Packets and the kernel's notices; without the permission to capture, notices and snapshots.
    #[default]
    Auto,
    /// The kernel's notices of closed sockets, and snapshots for what is opened; needs no privileges.
    Kernel,
    /// Packets only.
    Packet,
    /// Snapshots only: what is opened and closed between two of them is missed.
    Snapshot,
}

/// Runs the subcommand, and returns the exit code.
pub(crate) fn events(args: EventsArgs) -> ExitCode {
    match show(&args, &Stop::new()) {
        Ok(()) => exit::DONE.into(),
        Err(error) => fail(&error),
    }
}

#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
fn show(args: &EventsArgs, stop: &Stop) -> Result<(), Error> {
    Outputs::check([], &args.output)?;
    let open = || Outputs::open(&args.output, args.format, args.force, |_| HostRecords::Events, stop);
    feed::Feed::open(args, open, || Ok(()))?.run(args, stop)
}

/// Follows connections until it is to stop; `enter` gives up what is not needed once all is open.
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
pub(crate) fn follow(
    args: &EventsArgs,
    outputs: Outputs,
    stop: &Stop,
    enter: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    feed::Feed::open(args, || Ok(outputs), enter)?.run(args, stop)
}

#[cfg(not(all(target_os = "linux", feature = "host", feature = "live")))]
fn show(_: &EventsArgs, _: &Stop) -> Result<(), Error> {
    Err(Error::Option("this build cannot see this machine's connections".to_owned()))
}

/// Tells whether an event is of the process that was asked for.
#[cfg_attr(not(all(target_os = "linux", feature = "host", feature = "live")), expect(dead_code))]
fn is_of(event: &NetworkEvent, wanted: Option<&str>) -> bool {
    let Some(wanted) = wanted else { return true };
    event.process.as_ref().is_some_and(|process| match wanted.parse::<u32>() {
        Ok(pid) => process.pid == pid,
        Err(_) => process.runs(wanted) == Some(true),
    })
}

const EXAMPLES: &str = "\
Examples:
  flowcap events                                all connections, as JSON lines
  flowcap events -T table --process nginx       for people, of one program
  flowcap events -i eth0 -o events.jsonl        on one interface, into a file
  flowcap events --source kernel                without the permission to capture

Exit codes: 0 done, 2 wrong usage, 66 no such interface, 74 output failed, 77 no permission.";

#[cfg(all(test, target_os = "linux", feature = "host", feature = "live"))]
mod tests {
    use std::sync::Arc;

    use flowcore::host::{Credentials, Process};
    use flowcore::key::Endpoint;
    use flowcore::record::{EventKind, EventSource};
    use flowcore::time::Timestamp;

    use super::*;

    #[test]
    fn a_process_is_asked_for_by_number_name_or_program() {
        let process = Process {
            pid: 4711,
            // As a thread may call its process.
            name: "MainThread".into(),
            exe: Some("/usr/bin/python3.13 (deleted)".into()),
            args: Vec::new(),
            started: Timestamp::from_nanos(0),
            ppid: 1,
            parent_name: None,
            credentials: Credentials::default(),
            user: None,
            container_id: None,
        };
        let end = Endpoint { addr: [192, 0, 2, 1].into(), port: Some(1) };
        let mut event = NetworkEvent {
            timestamp: Timestamp::from_nanos(0),
            kind: EventKind::Close,
            cookie: None,
            local: end,
            remote: end,
            process: Some(Arc::new(process)),
            tid: None,
            source: EventSource::Packet,
        };
        for wanted in ["4711", "MainThread", "python3.13", "/usr/bin/python3.13"] {
            assert!(is_of(&event, Some(wanted)), "{wanted}");
        }
        for wanted in ["471", "python3", "bin/python3.13", "/usr/bin/python3.13 (deleted)", ""] {
            assert!(!is_of(&event, Some(wanted)), "{wanted}");
        }
        event.process = None;
        assert!(is_of(&event, None) && !is_of(&event, Some("python3.13")));
    }
}
