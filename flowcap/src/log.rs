//! The log: what is said on standard error while flowcap runs, by level.
//!
//! Under systemd each line begins with its priority (sd-daemon(3)), which journald takes off and keeps; so nothing else
//! than standard error has to be open. In a file it begins with the time; on a terminal with neither.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::ValueEnum;
use flowcore::meter::wall_clock;

use crate::run::say;

/// How important a line is.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub(crate) enum Level {
    /// Nothing at all.
    Off,
    /// What ends the run or loses what cannot be made good.
    Error,
    /// What was lost, or goes on failing.
    #[default]
    Warn,
    /// What a service does: starts, rotates, reconnects.
    Info,
    /// What helps to find a fault.
    Debug,
}

impl Level {
    /// Returns the word for --log-level.
    #[cfg(feature = "ship")]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// Returns the variable that names a level where no flag does; one that is empty is as good as not set.
pub(crate) fn variable() -> Option<&'static str> {
    let name = "FLOWCAP_LOG";
    Some(name).filter(|name| std::env::var_os(name).is_none_or(|level| !level.is_empty()))
}

/// Sets which lines are written: those of this level and the more important ones.
pub(crate) fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Writes a line, if its level is wanted.
pub(crate) fn write(level: Level, line: &str) {
    if level as u8 <= LEVEL.load(Ordering::Relaxed) {
        say(&PLACE.get_or_init(Place::found).line(level, line));
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Warn as u8);
static PLACE: OnceLock<Place> = OnceLock::new();

/// Where standard error goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Journal,
    Terminal,
    Elsewhere,
}

impl Place {
    fn found() -> Self {
        if std::env::var_os("JOURNAL_STREAM").is_some() && !io::stderr().is_terminal() {
            Place::Journal
        } else if io::stderr().is_terminal() {
            Place::Terminal
        } else {
            Place::Elsewhere
        }
    }

    fn line(self, level: Level, line: &str) -> String {
        let (priority, word) = match level {
            Level::Off | Level::Error => (3, "error"),
            Level::Warn => (4, "warning"),
            Level::Info => (6, "info"),
            Level::Debug => (7, "debug"),
        };
        match self {
            Place::Journal => format!("<{priority}>{line}"),
            Place::Terminal => format!("flowcap: {line}"),
            Place::Elsewhere => format!("{} {word} flowcap: {line}", wall_clock()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_where_it_goes() {
        assert_eq!(Place::Journal.line(Level::Warn, "lost"), "<4>lost");
        assert_eq!(Place::Terminal.line(Level::Info, "rotated"), "flowcap: rotated");
        let line = Place::Elsewhere.line(Level::Error, "gone");
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == 30, "{time}");
        assert_eq!(rest, "error flowcap: gone");
    }

    #[test]
    fn levels_are_in_order() {
        assert!(Level::Error < Level::Warn && Level::Warn < Level::Info && Level::Info < Level::Debug);
        assert_eq!(Level::default(), Level::Warn);
    }
}
