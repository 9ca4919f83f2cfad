//! Where records leave the house: JSON lines, CSV and tables, to standard output and to files.
//!
//! To add a format: a file with a type that is a [`Sink`], and an arm in [`open`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod csv;
mod digits;
mod dns;
mod filtered;
mod grid;
mod host;
mod json;
mod jsonl;
mod line;
mod log;
mod news;
mod output;
mod people;
mod read;
mod rows;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod sample_host;
mod sighted;
mod spell;
mod table;

use std::collections::BTreeMap;

use crate::error::Error;
use crate::record::{Column, Record};

use output::Output;

pub use filtered::Filtered;
pub use host::{HostRecords, open_host};
pub use news::{NewsWriter, read_news};
pub use read::read_sockets;
pub use sighted::{SightedLines, read_sighted};

/// A place where records go.
///
/// The meter owns its sinks and calls them from one thread: [`write`](Sink::write) for each record,
/// [`flush`](Sink::flush) now and then, [`finish`](Sink::finish) once at the end.
pub trait Sink: Send {
    /// Takes a record.
    ///
    /// It may stand in a buffer until the next flush. After an error the record was not taken and nothing of it is
    /// in the output; the records before it are kept, and a later call tries to write them again.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes; its kind is
    /// [`BrokenPipe`](std::io::ErrorKind::BrokenPipe) when the reader has closed it.
    /// [`Error::Option`] for a type of record that the format cannot hold.
    fn write(&mut self, record: Record<'_>) -> Result<(), Error>;

    /// Tells whether it holds records of this type; by default it does.
    fn takes(&self, _record: Record<'_>) -> bool {
        true
    }

    /// Makes everything written so far visible to readers of the destination.
    ///
    /// The meter calls it whenever no record is left to write, if its input is an interface or a pipe. A compressed file may
    /// put it off until 500 ms after the last one.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes.
    fn flush(&mut self) -> Result<(), Error>;

    /// Ends the output: writes what is buffered and gives a compressed file its own name.
    ///
    /// The meter calls it once, after the last record, also when an earlier call failed.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes, or the file its name.
    fn finish(&mut self) -> Result<(), Error>;

    /// Returns what became of the records it took, but for those that it wrote; by default nothing did.
    fn counts(&self) -> SinkCounts {
        SinkCounts::default()
    }
}

/// What became of the records that a sink took without writing them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SinkCounts {
    /// Its filter did not let them through.
    pub filtered: u64,
    /// They wait on disk for a server.
    pub spooled: u64,
    /// They are lost, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// How records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values under one header (RFC 4180).
    Csv,
    /// Aligned columns for people.
    Table,
    /// Lines of a `#Fields:` log; sockets and processes only.
    Log,
}

impl Format {
    /// Returns the format of a destination: the one its extension names, else the one given.
    ///
    /// The extensions are `.jsonl` and `.csv`, also with `.gz` or `.zst` behind them.
    pub fn of(destination: &str, given: Format) -> Format {
        let (name, _) = output::split_compression(destination);
        if name.ends_with(".jsonl") {
            Format::Jsonl
        } else if name.ends_with(".csv") {
            Format::Csv
        } else {
            given
        }
    }
}

/// What to do where a destination exists already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existing {
    /// Leaves it as it is and fails: right for replay.
    Refuse,
    /// Adds to its end: right for live capture. A compressed file is left alone, and the next free one of
    /// `NAME-2.EXT`, `NAME-3.EXT` … is made beside it.
    Append,
    /// Starts it anew.
    Overwrite,
}

/// Opens a sink for flow records.
///
/// `destination` is a file, or `-` for standard output; its extension beats `format` (see [`Format::of`]), and
/// `.gz` or `.zst` compresses. `columns` are the fields of a flow record, in this order; `None` means
/// `@core`, and for a table a choice made for people.
///
/// A compressed file grows as `NAME.part` and gets its name in [`Sink::finish`].
///
/// # Errors
/// [`Error::Output`] where the destination cannot be opened; its kind is
/// [`AlreadyExists`](std::io::ErrorKind::AlreadyExists) where a file is there that may not be touched.
/// [`Error::Option`] for an address with a scheme (`https://…`), which is no file.
pub fn open(
    destination: &str,
    format: Format,
    columns: Option<&[Column]>,
    existing: Existing,
) -> Result<Box<dyn Sink>, Error> {
    if destination.split_once("://").is_some() {
        return Err(Error::Option(format!("{destination}: records can go to files and to '-' only")));
    }
    let format = Format::of(destination, format);
    if format == Format::Log {
        return Err(Error::Option(format!("{destination}: a log holds sockets and processes, no flows")));
    }
    let output = Output::open(destination, existing)?;
    let core;
    let fields = match columns {
        Some(columns) => columns,
        None => {
            core = Column::parse("@core")?;
            &core
        }
    };
    Ok(match format {
        Format::Csv => Box::new(csv::Csv::new(output, fields)?),
        Format::Table => Box::new(table::Table::new(output, columns)?),
        Format::Jsonl | Format::Log => Box::new(jsonl::Jsonl::new(output, fields)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_beats_the_format() {
        assert_eq!(Format::of("a.jsonl", Format::Csv), Format::Jsonl);
        assert_eq!(Format::of("a.csv.gz", Format::Jsonl), Format::Csv);
        assert_eq!(Format::of("dir.csv/a.jsonl.zst", Format::Table), Format::Jsonl);
        assert_eq!(Format::of("a.gz", Format::Table), Format::Table);
        assert_eq!(Format::of("-", Format::Csv), Format::Csv);
        assert_eq!(Format::of("csv", Format::Jsonl), Format::Jsonl);
    }

    #[test]
    fn an_address_is_no_file() {
        let refused = open("https://collector.example/flows", Format::Jsonl, None, Existing::Append);
        assert!(matches!(refused, Err(Error::Option(_))));
    }
}
