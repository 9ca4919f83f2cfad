//! A section of the file: the long flags of a command are its keys, and what a flag takes, its key takes.

use std::any::TypeId;
use std::ffi::OsString;
use std::ops::Range;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use flowcore::error::nearest;
use flowcore::table::IdleTimeouts;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Document, Fault, in_order};

/// The keys that a section may have.
#[derive(Debug)]
pub(super) struct Section {
    /// How the file names it: `[flows]`; empty for what stands before all sections.
    pub(super) name: &'static str,
    /// The command whose flags are the keys.
    pub(super) command: Command,
    /// The headings under which those flags stand in its help; none means all.
    headings: &'static [&'static str],
    /// Flags that are no keys.
    without: &'static [&'static str],
}

/// A key that stands in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The name that clap has for the flag.
    pub(super) id: String,
    pub(super) key: String,
    flag: String,
    is_switch: bool,
    values: Vec<String>,
    pub(super) line: usize,
}

impl Section {
    pub(super) fn new(
        name: &'static str,
        command: Command,
        headings: &'static [&'static str],
        without: &'static [&'static str],
    ) -> Self {
        Section { name, command, headings, without }
    }

    /// Returns the flags that are its keys, in the order of the help.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &Arg> {
        self.command.get_arguments().filter(|argument| {
            let heading = argument.get_help_heading().unwrap_or_default();
            argument.get_long().is_some_and(|flag| !self.without.contains(&flag))
                && (self.headings.is_empty() || self.headings.contains(&heading))
        })
    }

    /// Returns the flag of a key.
    pub(super) fn find(&self, key: &str) -> Option<&Arg> {
        self.arguments().find(|argument| key_of(argument) == key)
    }

    /// Reads a table whose keys are all of this section, `others` being those that a lost key may belong into.
    pub(super) fn read(
        &self,
        document: &Document,
        table: &DeTable<'_>,
        others: &[&Section],
    ) -> Result<Vec<Entry>, Fault> {
        let entries = in_order(table).into_iter();
        entries.map(|(key, at, value)| self.entry(document, key, &at, value, others)).collect()
    }

    /// Reads one key.
    pub(super) fn entry(
        &self,
        document: &Document,
        key: &str,
        at: &Range<usize>,
        value: &Spanned<DeValue<'_>>,
        others: &[&Section],
    ) -> Result<Entry, Fault> {
        let Some(argument) = self.find(key) else {
            return Err(document.fault(at, self.unknown(key, others)));
        };
        let values =
            texts(argument, value.get_ref()).map_err(|what| document.fault(at, format!("{key}: {what}")))?;
        let entry = Entry {
            id: argument.get_id().to_string(),
            key: key.to_owned(),
            flag: argument.get_long().unwrap_or_default().to_owned(),
            is_switch: is_switch(argument),
            values,
            line: document.line(at),
        };
        match self.refusal(&entry) {
            Some(what) => Err(document.fault(at, format!("{key}: {what}"))),
            None => Ok(entry),
        }
    }

    /// Says what is meant by a key that is none of its own.
    fn unknown(&self, key: &str, others: &[&Section]) -> String {
        if let Some(home) = others.iter().find(|other| other.find(key).is_some()) {
            return match home.name {
                "" => format!("'{key}' belongs above all sections"),
                name => format!("'{key}' belongs into {name}"),
            };
        }
        let names: Vec<String> = self.arguments().map(key_of).collect();
        let of = if self.name.is_empty() { String::new() } else { format!(" of {}", self.name) };
        // The beginning of a name says more than letters that differ: a token is given by token_file.
        let begun =
            names.iter().find(|name| name.strip_prefix(key).is_some_and(|rest| rest.starts_with('_')));
        let nearest = begun.map_or_else(|| nearest(key, names.iter().map(String::as_str)), String::as_str);
        format!("no key{of} is named '{key}'; the nearest is '{nearest}'")
    }

    /// Says why the flag does not take these values.
    fn refusal(&self, entry: &Entry) -> Option<String> {
        let line = std::iter::once(OsString::from("flowcap")).chain(entry.arguments());
        let error = self.command.clone().try_get_matches_from(line).err()?;
        let context = |kind| error.get(kind);
        let value = match context(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) => value.as_str(),
            _ => "",
        };
        match error.kind() {
            ErrorKind::ValueValidation => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                Some(format!("'{value}' is refused: {}", reason.unwrap_or_default()))
            }
            ErrorKind::InvalidValue => {
                let Some(ContextValue::Strings(valid)) = context(ContextKind::ValidValue) else {
                    return Some(format!("'{value}' is refused"));
                };
                Some(format!("'{value}' is none of {}", valid.join(", ")))
            }
            // What a flag needs or cannot stand beside it is seen when all of them are there.
            _ => None,
        }
    }
}

impl Entry {
    /// Returns what the key says, to be read by people.
    pub(super) fn text(&self) -> String {
        self.values.join(", ")
    }

    /// Returns the arguments that say on a command line what the key says.
    pub(super) fn arguments(&self) -> impl Iterator<Item = OsString> {
        let on = self.is_switch && self.values.iter().any(|value| value == "true");
        let switch = on.then(|| format!("--{}", self.flag));
        let values = self.values.iter().filter(|_| !self.is_switch);
        switch.into_iter().chain(values.map(|value| format!("--{}={value}", self.flag))).map(OsString::from)
    }
}

/// Returns the key of a flag.
pub(super) fn key_of(argument: &Arg) -> String {
    argument.get_long().unwrap_or_default().replace('-', "_")
}

/// Tells whether a flag takes no value.
pub(super) fn is_switch(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}

/// Returns the values of a key as they would stand behind its flag.
fn texts(argument: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let is_type = |wanted: TypeId| argument.get_value_parser().type_id() == wanted;
    let only_text = is_type(TypeId::of::<String>());
    let repeats = matches!(argument.get_action(), ArgAction::Append);
    let is_map = is_type(TypeId::of::<IdleTimeouts>());
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if !only_text => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        _ => None,
    };
    let values = match value {
        DeValue::Boolean(on) if is_switch(argument) => Some(vec![on.to_string()]),
        _ if is_switch(argument) => None,
        DeValue::Array(list) if repeats || !only_text => {
            let values: Option<Vec<String>> = list.iter().map(|value| scalar(value.get_ref())).collect();
            values.map(|values| if repeats { values } else { vec![values.join(",")] })
        }
        DeValue::Table(table) if is_map => {
            let parts = in_order(table).into_iter();
            let parts = parts.map(|(key, _, value)| Some(format!("{key}={}", scalar(value.get_ref())?)));
            parts.collect::<Option<Vec<_>>>().map(|parts| vec![parts.join(",")])
        }
        value => scalar(value).map(|value| vec![value]),
    };
    values.ok_or_else(|| {
        let wanted = match (is_switch(argument), only_text, repeats) {
            (true, ..) => "true or false",
            (_, true, true) => "text in quotes, or a list of texts,",
            (_, true, false) => "text in quotes",
            (_, false, _) => "text in quotes or a whole number",
        };
        format!("{wanted} is needed, not {}", about(value))
    })
}

fn about(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "such a list",
        DeValue::Table(_) => "a section",
    }
}
