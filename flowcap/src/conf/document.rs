//! A configuration file as text: read, parsed, and pointed into.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;

use flowcore::field::Printable;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a configuration file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    file: String,
    line: Option<usize>,
    what: String,
}

impl Fault {
    /// A fault of the file as a whole.
    pub(crate) fn whole(file: &str, what: impl Into<String>) -> Self {
        Fault { file: file.to_owned(), line: None, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", Printable(&self.file), Printable(&self.what)),
            None => write!(f, "{}: {}", Printable(&self.file), Printable(&self.what)),
        }
    }
}

/// The text of a configuration file.
#[derive(Debug)]
pub(super) struct Document {
    name: String,
    text: String,
    /// What is to be said about the file although it can be used.
    pub(super) warning: Option<String>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Fault`] for one that cannot be read, is no text, is too long, or that everybody may write.
    pub(super) fn read(name: &str) -> Result<Self, Fault> {
        let fault = |what: String| Fault::whole(name, what);
        let file = File::open(name).map_err(|error| fault(error.to_string()))?;
        let about = file.metadata().map_err(|error| fault(error.to_string()))?;
        let mode = if about.is_file() { about.permissions().mode() } else { 0 };
        if mode & 0o002 != 0 {
            return Err(fault("everybody may write it, so it is not used; chmod o-w helps".to_owned()));
        }
        let warning = (mode & 0o020 != 0)
            .then(|| format!("{name}: its group may write it; whoever does decides what runs"));
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
        if text.len() as u64 > LONGEST {
            return Err(fault(format!("longer than {LONGEST} bytes")));
        }
        Ok(Document { name: name.to_owned(), text, warning })
    }

    /// Parses it.
    ///
    /// # Errors
    /// [`Fault`] for what is no TOML.
    pub(super) fn parse(&self) -> Result<DeTable<'_>, Fault> {
        match DeTable::parse(&self.text) {
            Ok(table) => Ok(table.into_inner()),
            Err(error) => {
                let at = error.span().unwrap_or(self.text.len()..self.text.len());
                Err(self.fault(&at, error.message().replace('\n', ", ")))
            }
        }
    }

    /// Makes a fault of no place in particular.
    pub(super) fn whole(&self, what: impl Into<String>) -> Fault {
        Fault::whole(&self.name, what)
    }

    /// Makes a fault of a place in the text.
    pub(super) fn fault(&self, at: &Range<usize>, what: impl Into<String>) -> Fault {
        Fault { file: self.name.clone(), line: Some(self.line(at)), what: what.into() }
    }

    /// Makes a fault of a line.
    pub(super) fn fault_in(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { file: self.name.clone(), line: Some(line), what: what.into() }
    }

    /// Returns the number of a place's line, counted from 1.
    pub(super) fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..at.start).unwrap_or(self.text.as_bytes());
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }
}

/// Returns the keys of a table with their places, in the order of the file.
pub(super) fn in_order<'t, 'd>(
    table: &'t DeTable<'d>,
) -> Vec<(&'t str, Range<usize>, &'t Spanned<DeValue<'d>>)> {
    let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value));
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|(_, at, _)| at.start);
    entries
}

/// The longest configuration that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;
