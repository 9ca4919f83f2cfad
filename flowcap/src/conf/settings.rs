//! Every setting with its value and where it came from, to be read by people.

use std::fmt::Write;

use clap::ArgMatches;
use clap::parser::ValueSource;
use flowcore::field::Printable;

use super::Sections;
use super::outputs::misplaced;
use super::section::{Entry, Section, is_switch, key_of};

/// A setting as it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    /// The heading it stands under; empty for none.
    section: String,
    key: String,
    /// Empty where nothing is set.
    value: String,
    origin: Origin,
}

impl Setting {
    /// Tells whether it is the one of this section and key.
    pub(super) fn is(&self, section: &str, key: &str) -> bool {
        self.section == section && self.key == key
    }

    #[cfg(test)]
    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

/// Where a setting came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// An environment variable.
    Environment,
    /// The command line.
    Flag,
    /// This line of the file.
    Line(usize),
}

/// Returns the settings that have flags, given those keys of the file that were heard.
pub(super) fn of_line(sections: &Sections, matches: &ArgMatches, heard: &[Entry]) -> Vec<Setting> {
    let sections = [&sections.top, &sections.flows, &sections.running];
    sections.into_iter().flat_map(|section| of_section(section, matches, heard)).collect()
}

/// Returns the settings of one section.
pub(super) fn of_section(section: &Section, matches: &ArgMatches, heard: &[Entry]) -> Vec<Setting> {
    let settings = section.arguments().map(|argument| {
        let id = argument.get_id().as_str();
        let origin = match (matches.value_source(id), heard.iter().find(|entry| entry.id == id)) {
            (_, Some(entry)) => Origin::Line(entry.line),
            (Some(ValueSource::CommandLine), None) => Origin::Flag,
            (Some(ValueSource::EnvVariable), None) => Origin::Environment,
            _ => Origin::Default,
        };
        let value = if is_switch(argument) {
            matches.get_flag(id).to_string()
        } else {
            let values = matches.get_raw(id).into_iter().flatten();
            values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(", ")
        };
        Setting { section: section.name.to_owned(), key: key_of(argument), value, origin }
    });
    settings.collect()
}

/// Returns the settings that an output can have, the `nth` of its section.
pub(super) fn of_output(section: &Section, nth: usize, to: &str, entries: &[Entry]) -> Vec<Setting> {
    let fitting = section.arguments().filter(|argument| argument.get_help_heading() != Some(misplaced(to)));
    let settings = fitting.map(|argument| {
        let key = key_of(argument);
        let entry = entries.iter().find(|entry| entry.key == key);
        let (value, origin) = match entry {
            Some(entry) => (entry.text(), Origin::Line(entry.line)),
            None if is_switch(argument) => ("false".to_owned(), Origin::Default),
            None => (String::new(), Origin::Default),
        };
        Setting { section: format!("{} {nth}", section.name), key, value, origin }
    });
    settings.collect()
}

/// Writes the settings as aligned columns: name, value, origin.
pub(super) fn table(settings: &[Setting], file: Option<&str>) -> String {
    let of = |width: fn(&Setting) -> usize| settings.iter().map(width).max().unwrap_or_default();
    let keys = of(|setting| setting.key.len());
    let values = of(|setting| shown(setting).chars().count()).min(WIDEST);
    let mut table = String::new();
    let mut section = "";
    for setting in settings {
        if setting.section != section {
            section = &setting.section;
            _ = writeln!(table, "{section}");
        }
        let origin = match setting.origin {
            Origin::Default => "default".to_owned(),
            Origin::Environment => "environment".to_owned(),
            Origin::Flag => "flag".to_owned(),
            Origin::Line(line) => format!("{}:{line}", file.unwrap_or_default()),
        };
        let (key, value) = (&setting.key, shown(setting));
        _ = writeln!(table, "  {key:keys$}  {value:values$}  {}", Printable(&origin));
    }
    table
}

fn shown(setting: &Setting) -> String {
    if setting.value.is_empty() { "not set".to_owned() } else { Printable(&setting.value).to_string() }
}

/// Values longer than this push what stands behind them aside.
const WIDEST: usize = 44;
