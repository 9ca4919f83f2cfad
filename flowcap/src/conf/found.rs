//! What stands in a configuration file, section by section.

use std::ffi::OsString;

use clap::{ArgMatches, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Document, Fault, in_order};
use super::outputs::{self, FILE, OutputKeys};
use super::section::{Entry, Section};
use super::settings::{self, Setting};
use super::{Beside, Sections, clash, is_typed};
use crate::events::EventsArgs;
use crate::sockets::SocketsArgs;

/// What stands in a file.
#[derive(Default)]
pub(super) struct Found {
    /// The keys that are flags of flows.
    pub(super) entries: Vec<Entry>,
    pub(super) outputs: Vec<FoundOutput>,
    pub(super) sockets: Option<Part<SocketsArgs>>,
    pub(super) events: Option<Part<EventsArgs>>,
    /// Where the first of the two stands.
    pub(super) beside_line: Option<usize>,
}

/// An output, and the keys that stand there.
pub(super) struct FoundOutput {
    pub(super) keys: OutputKeys,
    pub(super) entries: Vec<Entry>,
}

impl FoundOutput {
    /// Leaves to the flags what they say of all outputs.
    pub(super) fn give_way(&mut self, typed: &ArgMatches) {
        let OutputKeys { format, fields, file, .. } = &mut self.keys;
        for id in ["format", "fields", "rotate", "keep", "compress", "sync"] {
            if !is_typed(typed, id) {
                continue;
            }
            match id {
                "format" => *format = None,
                "fields" => *fields = None,
                "rotate" => file.rotate = None,
                "keep" => file.keep = None,
                "compress" => file.compress = None,
                _ => file.sync = None,
            }
            self.entries.retain(|entry| entry.id != id);
        }
    }
}

/// A part that is run beside the flows, and its settings.
pub(super) struct Part<A> {
    beside: Beside<A>,
    settings: Vec<Setting>,
}

impl<A> Part<A> {
    pub(super) fn into(self, settings: &mut Vec<Setting>) -> Beside<A> {
        settings.extend(self.settings);
        self.beside
    }
}

impl Found {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Fault`] for the first thing that is wrong with it.
    pub(super) fn read(document: &Document, sections: &Sections) -> Result<Self, Fault> {
        let all = sections.all();
        let mut found = Found::default();
        let table = document.parse()?;
        for (key, at, value) in in_order(&table) {
            match (key, value.get_ref()) {
                ("flows", DeValue::Table(flows)) => {
                    found.entries.extend(sections.flows.read(document, flows, &all)?);
                }
                ("running", DeValue::Table(running)) => {
                    found.entries.extend(sections.running.read(document, running, &all)?);
                }
                ("output", DeValue::Array(list)) if holds_tables(list) => {
                    found.outputs = outputs(document, list, &sections.output, &all)?;
                }
                ("output", DeValue::Table(_)) => {
                    return Err(document.fault(&at, "an output begins with [[output]]: there may be several"));
                }
                ("sockets", DeValue::Table(part)) => {
                    found.beside_line.get_or_insert(document.line(&at));
                    found.sockets =
                        Some(beside(document, part, &sections.sockets, &sections.sockets_output, &all)?);
                }
                ("events", DeValue::Table(part)) => {
                    found.beside_line.get_or_insert(document.line(&at));
                    found.events =
                        Some(beside(document, part, &sections.events, &sections.events_output, &all)?);
                }
                ("flows" | "running" | "events", _) => {
                    return Err(document.fault(&at, format!("{key} is a section: [{key}]")));
                }
                (_, DeValue::Table(_)) if all.iter().all(|section| section.find(key).is_none()) => {
                    let nearest =
                        flowcore::error::nearest(key, ["flows", "running", "sockets", "events", "output"]);
                    return Err(document
                        .fault(&at, format!("no section is named [{key}]; the nearest is [{nearest}]")));
                }
                _ => found.entries.push(sections.top.entry(document, key, &at, value, &all)?),
            }
        }
        Ok(found)
    }
}

/// Reads `[sockets]` or `[events]` with their outputs.
fn beside<A: FromArgMatches>(
    document: &Document,
    table: &DeTable<'_>,
    part: &Section,
    of_output: &Section,
    all: &[&Section],
) -> Result<Part<A>, Fault> {
    let (mut entries, mut found) = (Vec::new(), Vec::new());
    for (key, at, value) in in_order(table) {
        match (key, value.get_ref()) {
            ("output", DeValue::Array(list)) if holds_tables(list) => {
                found = outputs(document, list, of_output, all)?;
            }
            ("output", _) => {
                return Err(document.fault(&at, format!("an output begins with {}", of_output.name)));
            }
            _ => entries.push(part.entry(document, key, &at, value, all)?),
        }
    }
    let flags: Vec<OsString> = entries.iter().flat_map(Entry::arguments).collect();
    let line = std::iter::once("flowcap".into()).chain(flags.iter().cloned());
    let refused = |error| clash(document, &entries, &error);
    let matches = part.command.clone().try_get_matches_from(line).map_err(refused)?;
    let args = A::from_arg_matches(&matches).map_err(refused)?;
    let mut settings = settings::of_section(part, &matches, &entries);
    for (output, nth) in found.iter().zip(1..) {
        settings.extend(settings::of_output(of_output, nth, &output.keys.to, &output.entries));
    }
    let outputs = found.into_iter().map(|output| output.keys).collect();
    Ok(Part { beside: Beside { args, flags, outputs }, settings })
}

/// Reads the tables of an `[[output]]`.
fn outputs(
    document: &Document,
    list: &[Spanned<DeValue<'_>>],
    section: &Section,
    all: &[&Section],
) -> Result<Vec<FoundOutput>, Fault> {
    let read = |table: &Spanned<DeValue<'_>>| {
        let DeValue::Table(keys) = table.get_ref() else {
            return Err(document.fault(&table.span(), "an output is a section"));
        };
        let entries = section.read(document, keys, all)?;
        let line =
            std::iter::once(OsString::from("flowcap")).chain(entries.iter().flat_map(Entry::arguments));
        let Ok(keys) = section
            .command
            .clone()
            .try_get_matches_from(line)
            .and_then(|matches| OutputKeys::from_arg_matches(&matches))
        else {
            return Err(
                document.fault(&table.span(), format!("{} needs a destination: to = \"…\"", section.name))
            );
        };
        let misplaced = outputs::misplaced(&keys.to);
        for entry in &entries {
            let heading = section.find(&entry.key).and_then(|argument| argument.get_help_heading());
            if heading == Some(misplaced) {
                let what = format!(
                    "{} is a key for {}",
                    entry.key,
                    if misplaced == FILE { "files" } else { "servers" }
                );
                return Err(document.fault_in(entry.line, what));
            }
        }
        if let Some((key, what)) = keys.fault() {
            let line = entries.iter().find(|entry| entry.key == key).map_or(0, |entry| entry.line);
            return Err(document.fault_in(line, format!("{key}: {what}")));
        }
        Ok(FoundOutput { keys, entries })
    };
    list.iter().map(read).collect()
}

fn holds_tables(list: &[Spanned<DeValue<'_>>]) -> bool {
    list.iter().any(|value| value.get_ref().is_table())
}
