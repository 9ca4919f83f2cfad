//! Where records are to go.

use std::time::Duration;

use flowcore::filter::Filter;
use flowcore::record::Column;
use flowcore::sink::{Existing, FileOptions, Format};

use super::{Alongside, Owners, Refusal, usage};
use crate::args::{self, Args};
use crate::conf::{FileKeys, OutputKeys, ServerKeys, is_server};

/// A destination of records.
#[derive(Debug)]
pub(crate) struct Output {
    /// A file, `-`, or the address of a server.
    pub(crate) destination: String,
    /// How records are written there.
    pub(crate) format: Format,
    /// The fields; `None` leaves them to the format.
    pub(crate) columns: Option<Vec<Column>>,
    /// Which records it takes.
    pub(crate) filter: Filter,
    /// How files are named anew, kept and compressed.
    pub(crate) files: FileOptions,
    /// How a server is reached.
    pub(crate) server: ServerKeys,
}

/// Where stats records go, and how often.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    /// A file, or `-`.
    pub(crate) destination: String,
    /// Time between two records of live capture.
    pub(crate) interval: Duration,
}

impl Output {
    /// Makes one of a destination alone.
    pub(super) fn typed(to: &str, args: &Args, owners: &Owners) -> Result<Output, Refusal> {
        let keys = OutputKeys::plain(to);
        match keys.fault() {
            Some((_, what)) => Err(usage(format!("-o: {what}"))),
            None => Output::new(&keys, args, owners, args.format),
        }
    }

    /// Makes one of its keys, and of what holds where they say nothing.
    pub(super) fn new(
        keys: &OutputKeys,
        args: &Args,
        owners: &Owners,
        format: args::Format,
    ) -> Result<Output, Refusal> {
        let given = keys.format.unwrap_or(format).into();
        // Servers are sent lines.
        let format = if is_server(&keys.to) { Format::Jsonl } else { Format::of(&keys.to, given) };
        let list = keys.fields.as_ref().or(args.fields.as_ref()).map(|fields| fields.0.as_str());
        // A table makes a choice of its own, for people.
        let list = list.or((format != Format::Table).then_some("@core"));
        let columns = list.map(|list| owners.columns(list)).transpose();
        Ok(Output {
            destination: keys.to.clone(),
            format,
            columns: columns.map_err(|error| usage(format!("fields: {error}")))?,
            filter: Filter {
                types: keys.types.clone().unwrap_or_default(),
                only: keys.only.unwrap_or_default(),
            },
            files: {
                let FileKeys { rotate, keep, compress, sync } = keys.file;
                let of_flags = file_options(args);
                FileOptions {
                    rotate: rotate.or(of_flags.rotate),
                    keep: keep.unwrap_or(of_flags.keep),
                    compress: compress.or(of_flags.compress),
                    sync: sync.unwrap_or(of_flags.sync),
                    ..of_flags
                }
            },
            server: keys.server.clone(),
        })
    }
}

pub(super) fn file_options(args: &Args) -> FileOptions {
    FileOptions {
        existing: match (args.force, args.interface.is_empty()) {
            (true, _) => Existing::Overwrite,
            (false, true) => Existing::Refuse,
            (false, false) => Existing::Append,
        },
        rotate: args.rotate,
        keep: args.keep.unwrap_or_default(),
        compress: args.compress,
        sync: args.sync,
        live: !args.interface.is_empty(),
        now: None,
        owner: None,
    }
}

/// Standard output and servers have no names to change, to compress or to keep.
pub(super) fn check_files(args: &Args, outputs: &[Output]) -> Result<(), Refusal> {
    let flags = [
        ("--rotate", args.rotate.is_some()),
        ("--keep", args.keep.is_some()),
        ("--compress", args.compress.is_some()),
    ];
    let given = flags.into_iter().find(|(_, is_given)| *is_given);
    let is_file = |output: &Output| output.destination != "-" && !is_server(&output.destination);
    match given.filter(|_| !outputs.iter().any(is_file)) {
        Some((flag, _)) => Err(usage(format!("{flag}: name a file with -o"))),
        None => Ok(()),
    }
}

/// What has no output of its own goes to those of flows, where JSON lines alone hold several types of records.
pub(super) fn check_watched(watched: &[Alongside], outputs: &[Output]) -> Result<(), Refusal> {
    let homeless =
        watched.iter().find(|watched| watched.outputs.is_empty()).map(|watched| watched.what.word());
    match homeless.filter(|_| outputs.iter().all(|output| output.format != Format::Jsonl)) {
        Some(word) => Err(usage(format!(
            "[{word}]: no output takes its records, which only JSON lines hold beside flows; name one of its own with \
             [[{word}.output]]"
        ))),
        None => Ok(()),
    }
}

/// Stats records are JSON lines, also among flows.
pub(super) fn check_stats(outputs: &[Output], stats: Option<&Stats>) -> Result<(), Refusal> {
    let Some(Stats { destination, .. }) = stats else { return Ok(()) };
    let shared = outputs.iter().find(|output| output.destination == *destination);
    if shared.is_some_and(|_| destination != "-") {
        return Err(usage(format!(
            "--stats {destination}: flow records go there; name another file, or '-'"
        )));
    }
    if Format::of(destination, Format::Jsonl) != Format::Jsonl
        || shared.is_some_and(|output| output.format != Format::Jsonl)
    {
        return Err(usage(format!("--stats {destination}: counters are written as JSON lines only")));
    }
    Ok(())
}
