//! `flowcap sockets`: snapshots, changes, baselines.

mod args;
#[cfg(all(target_os = "linux", feature = "host"))]
mod machine;

use std::ops::RangeInclusive;
use std::process::ExitCode;

use flowcore::Error;
use flowcore::meter::Stop;
use flowcore::record::{AlertRecord, Record, SocketRecord};
use flowcore::sink::{self, HostRecords};
use flowcore::time::Timestamp;
use flowcore::watch::{Alarm, Baseline, SocketFilter, last_snapshot};

pub(crate) use args::SocketsArgs;

use crate::outputs::Outputs;
use crate::run::{exit, fail, say};

/// Runs the subcommand, and returns the exit code.
pub(crate) fn sockets(args: SocketsArgs) -> ExitCode {
    match run(&args) {
        Ok(0) => exit::DONE.into(),
        Ok(_) => exit::DIFFERENT.into(),
        Err(error) => fail(&error),
    }
}

/// Returns the number of alerts.
fn run(args: &SocketsArgs) -> Result<usize, Error> {
    Outputs::check(args.read.iter().chain(&args.baseline).map(String::as_str), &args.output)?;
    let (stop, recorded) = (Stop::new(), args.read.as_deref().map(sink::read_sockets).transpose()?);
    let watch = Watch::open(args, &stop)?;
    match recorded {
        Some(records) => watch.records(&records),
        None => watch.machine(args, &stop, || Ok(())),
    }
}

/// Watches this machine's sockets until it is to stop; `enter` gives up what is not needed once all is open.
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
pub(crate) fn watch(
    args: &SocketsArgs,
    outputs: Outputs,
    stop: &Stop,
    enter: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    Watch::new(args, || Ok(outputs))?.machine(args, stop, enter).map(|_| ())
}

/// Where records go, and what they are compared with.
struct Watch {
    outputs: Outputs,
    /// A table on standard output shows alerts itself.
    alerts_are_shown: bool,
    filter: SocketFilter,
    alarm: Option<Alarm>,
    alerts: usize,
    quiet: bool,
}

impl Watch {
    /// Opens what the arguments name.
    fn open(args: &SocketsArgs, stop: &Stop) -> Result<Self, Error> {
        let open = || Outputs::open(&args.output, args.format, args.force, HostRecords::named, stop);
        let is_table = args.format == crate::args::Format::Table;
        let alerts_are_shown = is_table && args.output.iter().any(|to| to == "-");
        Ok(Watch { alerts_are_shown, ..Watch::new(args, open)? })
    }

    /// Opens the baseline first and then the outputs, so that a missing baseline leaves nothing behind.
    fn new(args: &SocketsArgs, outputs: impl FnOnce() -> Result<Outputs, Error>) -> Result<Self, Error> {
        let rules = args.allow.clone();
        let alarm = match &args.baseline {
            Some(file) => {
                let before = sink::read_sockets(file)?;
                let baseline = Baseline::from_records(&before, ephemeral_ports()).allow(rules);
                Some(Alarm::new(baseline, file))
            }
            None if rules.is_empty() => None,
            None => Some(Alarm::new(Baseline::of_rules(rules, ephemeral_ports()), "allow")),
        };
        Ok(Watch {
            outputs: outputs()?,
            alerts_are_shown: false,
            filter: args.which.filter(),
            alarm,
            alerts: 0,
            quiet: args.quiet,
        })
    }

    /// Shows the sockets of a file, or what is new in it and gone; returns the number of alerts.
    fn records(mut self, records: &[SocketRecord]) -> Result<usize, Error> {
        match self.alarm {
            Some(_) => {
                let at = records.iter().map(|record| record.timestamp).max().unwrap_or_default();
                self.check(records, at)?;
            }
            None => {
                let shown = last_snapshot(records).into_iter();
                for record in shown.filter(|record| self.filter.passes(&record.socket)) {
                    self.outputs.write(Record::Socket(record))?;
                }
            }
        }
        self.finish()
    }

    #[cfg(not(all(target_os = "linux", feature = "host")))]
    fn machine(
        self,
        _: &SocketsArgs,
        _: &Stop,
        _: impl FnOnce() -> Result<(), Error>,
    ) -> Result<usize, Error> {
        Err(Error::Option("this build cannot see this machine's sockets, only saved ones (-r)".to_owned()))
    }

    /// Raises alerts for what is new and what is gone.
    fn check(&mut self, now: &[SocketRecord], at: Timestamp) -> Result<(), Error> {
        let Some(alarm) = &mut self.alarm else { return Ok(()) };
        let alerts = alarm.check(now, at).into_iter();
        let alerts: Vec<AlertRecord> =
            alerts.filter(|alert| self.filter.passes(&alert.socket.socket)).collect();
        for alert in &alerts {
            if !self.quiet && !self.alerts_are_shown {
                say(&format!("flowcap: warning: {alert}"));
            }
            self.outputs.write(Record::Alert(alert))?;
        }
        self.alerts += alerts.len();
        Ok(())
    }

    fn finish(mut self) -> Result<usize, Error> {
        self.outputs.finish()?;
        Ok(self.alerts)
    }
}

/// Returns the ports that the kernel gives to those who ask for any.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        // Linux's default.
        _ => 32_768..=60_999,
    }
}
