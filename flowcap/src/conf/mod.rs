//! Configuration: a TOML file says what flags say, and flags win over it.
//!
//! A key is a long flag with `_` for `-`. What it takes is what the flag takes: the file is turned into arguments that
//! stand before those of the command line, and clap reads both. So a new flag is a new key, of the section that
//! [`Sections`] gives its heading.

mod check;
mod document;
mod found;
mod outputs;
mod section;
mod settings;

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, CommandFactory, FromArgMatches};

pub(crate) use check::check;
pub(crate) use document::Fault;
pub(crate) use outputs::{FileKeys, OutputKeys, ServerKeys, is_server};
pub(crate) use settings::Setting;

use document::Document;
use found::Found;
use section::{Entry, Section};

use crate::args::Args;
use crate::events::EventsArgs;
use crate::sockets::SocketsArgs;

/// What was asked for, by flags and by a file.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) args: Args,
    /// Every setting, for `--check`.
    pub(crate) settings: Vec<Setting>,
    /// The configuration file.
    pub(crate) file: Option<String>,
    /// What is to be said about that file although it is used.
    pub(crate) warning: Option<String>,
}

/// What is done beside the capture, in the same process.
#[derive(Clone, Debug)]
pub(crate) struct Beside<A> {
    pub(crate) args: A,
    /// The same as flags.
    pub(crate) flags: Vec<OsString>,
    /// Its own outputs; none: those of the flows.
    pub(crate) outputs: Vec<OutputKeys>,
}

/// Why nothing can be done.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// What was typed.
    Usage(clap::Error),
    /// The file.
    File(Fault),
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Wrong::File(fault)
    }
}

/// Reads the command line, and the file that it or the environment names.
///
/// # Errors
/// [`Wrong`], where either cannot be understood, or where both together make no sense.
pub(crate) fn read(line: Vec<OsString>) -> Result<Given, Wrong> {
    // What a flag needs beside it may stand in the file.
    let lenient = Args::command().mut_args(|argument| argument.requires(Resettable::Reset));
    let typed = lenient.try_get_matches_from(&line).map_err(Wrong::Usage)?;
    let is_of_flows = typed.subcommand().is_none() && !typed.get_flag("list_interfaces");
    match typed.get_one::<String>("config").filter(|file| is_of_flows && !file.is_empty()) {
        Some(file) => read_with(file, &line, &typed),
        None => {
            let matches = Args::command().try_get_matches_from(&line).map_err(Wrong::Usage)?;
            let args = Args::from_arg_matches(&matches).map_err(Wrong::Usage)?;
            let settings = settings::of_line(&Sections::new(), &matches, &[]);
            Ok(Given { args, settings, file: None, warning: None })
        }
    }
}

/// Reads a file and flags beside it, for the fuzz target `conf`: what `--check` would print and the plan, or what is wrong.
#[cfg(fuzzing)]
pub fn configured(file: &str, flags: &[&str]) -> Result<(String, String), String> {
    // Most inputs are no TOML, and need not wait for the flags to be read.
    Document::read(file)
        .and_then(|document| document.parse().map(drop))
        .map_err(|fault| fault.to_string())?;
    let line = ["flowcap", "-C", file].iter().chain(flags).map(OsString::from).collect();
    let given = match read(line) {
        Ok(given) => given,
        Err(Wrong::File(fault)) => return Err(fault.to_string()),
        Err(Wrong::Usage(error)) => return Err(format!("{file}: {error}")),
    };
    let table = settings::table(&given.settings, given.file.as_deref());
    match crate::plan::Plan::new(given.args) {
        Ok(plan) => Ok((table, format!("{plan:?}"))),
        Err(refusal) => Err(Fault::whole(file, format!("{refusal:?}")).to_string()),
    }
}

/// Reads a file, and puts what was typed above it.
fn read_with(file: &str, line: &[OsString], typed: &ArgMatches) -> Result<Given, Wrong> {
    let document = Document::read(file)?;
    let sections = Sections::new();
    let mut found = Found::read(&document, &sections)?;
    found.entries.retain(|entry| !gives_way(&entry.id, typed));
    let (program, flags) = line.split_at(line.len().min(1));
    let of_file = found.entries.iter().flat_map(Entry::arguments);
    let both = program.iter().cloned().chain(of_file).chain(flags.iter().cloned());
    let matches = Args::command()
        .try_get_matches_from(both)
        .map_err(|error| clash(&document, &found.entries, &error))?;
    let mut args = Args::from_arg_matches(&matches).map_err(Wrong::Usage)?;
    let mut settings = settings::of_line(&sections, &matches, &found.entries);
    if !found.outputs.is_empty() && !is_typed(typed, "output") {
        // The flag's default is not what holds.
        settings.retain(|setting| !setting.is("", "output"));
        for (output, nth) in found.outputs.iter_mut().zip(1..) {
            output.give_way(typed);
            settings.extend(settings::of_output(&sections.output, nth, &output.keys.to, &output.entries));
        }
        args.outputs = found.outputs.into_iter().map(|output| output.keys).collect();
    }
    // They belong to this machine as it is, not to a capture of some other time.
    match found.beside_line {
        Some(_) if args.read.is_empty() => {
            args.watched = found.sockets.map(|part| part.into(&mut settings));
            args.followed = found.events.map(|part| part.into(&mut settings));
        }
        Some(line) if !is_typed(typed, "read") => {
            return Err(document.fault_in(line, "stands beside live capture only, not beside 'read'").into());
        }
        _ => {}
    }
    Ok(Given { args, settings, file: Some(file.to_owned()), warning: document.warning })
}

/// Tells whether a flag was typed, or stands in the environment.
fn is_typed(typed: &ArgMatches, id: &str) -> bool {
    typed.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue)
}

/// Tells whether a key of the file gives way to flags: to its own, and to those that cannot stand beside it.
fn gives_way(id: &str, typed: &ArgMatches) -> bool {
    let command = Args::command();
    let rivals = |argument: &Arg| -> Vec<String> {
        command.get_arg_conflicts_with(argument).iter().map(|rival| rival.get_id().to_string()).collect()
    };
    let of_own =
        command.get_arguments().find(|argument| argument.get_id() == id).map(rivals).unwrap_or_default();
    let beaten = |argument: &Arg| {
        let other = argument.get_id().as_str();
        other == id
            || of_own.iter().any(|rival| rival == other)
            || rivals(argument).iter().any(|rival| rival == id)
            || SOURCES.contains(&other) && SOURCES.contains(&id)
    };
    command.get_arguments().any(|argument| is_typed(typed, argument.get_id().as_str()) && beaten(argument))
}

/// Says which keys cannot stand beside one another.
fn clash(document: &Document, entries: &[Entry], error: &clap::Error) -> Fault {
    let key = |kind| match error.get(kind) {
        Some(ContextValue::String(flag)) => Some(flag.as_str()),
        Some(ContextValue::Strings(flags)) => flags.first().map(String::as_str),
        _ => None,
    };
    let entry = |flag: &str| {
        let name = flag.split([' ', '=']).next().unwrap_or_default();
        entries.iter().find(|entry| name.trim_start_matches("--") == entry.key.replace('_', "-"))
    };
    let (one, other) = (key(ContextKind::InvalidArg), key(ContextKind::PriorArg));
    match (error.kind(), one.and_then(entry), other.and_then(entry)) {
        (ErrorKind::ArgumentConflict, Some(one), Some(other)) => {
            let (first, second) = if one.line <= other.line { (one, other) } else { (other, one) };
            let what =
                format!("'{}' and '{}' (line {}) exclude each other", second.key, first.key, first.line);
            document.fault_in(second.line, what)
        }
        (ErrorKind::MissingRequiredArgument, ..) => {
            let missing = one.unwrap_or_default().split(' ').next().unwrap_or_default();
            let missing = missing.trim_start_matches("--").replace('-', "_");
            document.whole(format!("'{missing}' is missing, and another key needs it"))
        }
        _ => {
            let said = error.to_string();
            document.whole(said.lines().next().unwrap_or_default().trim_start_matches("error: "))
        }
    }
}

/// All sections that a file may have.
struct Sections {
    top: Section,
    flows: Section,
    running: Section,
    output: Section,
    sockets: Section,
    sockets_output: Section,
    events: Section,
    events_output: Section,
}

impl Sections {
    fn new() -> Self {
        let flows = |name, headings, without| Section::new(name, Args::command(), headings, without);
        let output = |name, without| Section::new(name, OutputKeys::command(), &[], without);
        let sockets = SocketsArgs::augment_args(Command::new("flowcap"));
        let events = EventsArgs::augment_args(Command::new("flowcap"));
        Sections {
            top: flows("", &["Input", "Output"], &["list-interfaces"]),
            flows: flows("[flows]", &["Flows"], &[]),
            running: flows("[running]", &["Running"], &["config", "check"]),
            output: output("[[output]]", &[]),
            sockets: Section::new("[sockets]", sockets, &[], &["read", "once", "output", "quiet"]),
            sockets_output: output("[[sockets.output]]", &["fields"]),
            events: Section::new("[events]", events, &[], &["output", "quiet"]),
            events_output: output("[[events.output]]", &["fields"]),
        }
    }

    fn all(&self) -> [&Section; 8] {
        let Sections { top, flows, running, output, sockets, sockets_output, events, events_output } = self;
        [top, flows, running, output, sockets, sockets_output, events, events_output]
    }
}

/// Flags of which one only can be given.
const SOURCES: &[&str] = &["interface", "read", "list_interfaces"];

#[cfg(test)]
mod tests;
