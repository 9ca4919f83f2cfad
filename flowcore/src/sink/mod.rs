//! Where records leave the house: JSON lines, CSV and tables, to standard output and to files.
//!
//! To add a format: a file with a type that is a [`Sink`], and an arm in [`open`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod csv;
mod destination;
mod digits;
mod dns;
mod files;
mod filtered;
mod grid;
mod host;
mod json;
mod jsonl;
mod line;
mod log;
mod news;
mod options;
mod output;
mod packer;
mod people;
mod place;
mod read;
mod recording;
mod rows;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod sample_host;
mod sighted;
mod spell;
mod sync;
mod table;
mod template;
mod tidy;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::record::{Column, Record, ServerStats};
use crate::spool::Spool;
use crate::time::Timestamp;

use output::Output;
use packer::split_compression;
use place::Known;

pub use filtered::Filtered;
pub use host::{HostRecords, open_host};
pub use news::{NewsWriter, read_news};
pub use options::{Compress, Existing, FileOptions, Keep, Rotate, SyncPolicy};
pub use read::read_sockets;
pub use sighted::{SightedLines, read_sighted};

/// A place where records go.
///
/// The meter owns its sinks and calls them from one thread: [`write`](Sink::write) for each record,
/// [`flush`](Sink::flush) and [`advance`](Sink::advance) now and then, [`finish`](Sink::finish) once at the end.
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
    /// put it off until 500 ms after the last one, unless [`SyncPolicy::Always`] holds.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes.
    fn flush(&mut self) -> Result<(), Error>;

    /// Tells what time it is: a file whose time is over is closed, what failed is tried again.
    ///
    /// The meter calls it in live capture with the time of day, every second; in a replay with table time, before the
    /// first record of a second. By default nothing happens.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes, or a file its name.
    fn advance(&mut self, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    /// Writes to new files of the same names where somebody has moved the old ones away; by default nothing happens.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes, or a file its name.
    fn reopen(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Returns what became of the records that it took, as far as it knows; by default nothing.
    fn counts(&self) -> SinkCounts {
        SinkCounts::default()
    }

    /// Ends the output: writes what is buffered and gives a compressed file its own name.
    ///
    /// The meter calls it once: after the last record, or after a call that failed. What cannot be written then is lost
    /// and counted.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes, or the file its name.
    fn finish(&mut self) -> Result<(), Error>;
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
        let (name, _) = split_compression(destination);
        if name.ends_with(".jsonl") {
            Format::Jsonl
        } else if name.ends_with(".csv") {
            Format::Csv
        } else {
            given
        }
    }
}

/// What became of the records that a sink took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SinkCounts {
    /// Records of all types that are in the destination; none where the sink does not count them.
    pub written: Option<u64>,
    /// Records that its filter did not let through.
    pub filtered: u64,
    /// Records that were put into a spool, from where they go to a server.
    pub spooled: u64,
    /// Records that had to make room in the spool before the server had them, those of earlier runs too.
    pub spool_lost: u64,
    /// How often who sends from that spool had to be started again.
    pub restarts: u64,
    /// How the sending goes.
    pub server: Option<ServerStats>,
    /// Records that were lost when the destination failed for good.
    pub failed: u64,
    /// Records that had no room, by reason: `disk_full`, `unwritable`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What hinders more than single records: a closed file that cannot be compressed, finished or deleted, or a disk that
    /// did not take what was written, and why.
    pub problem: Option<String>,
}

/// What a sink shows of the sending from its spool, which others do; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Sending(Arc<Mutex<(u64, Option<ServerStats>)>>);

impl Sending {
    /// Shows this from now on, and how often who sends had to be started again.
    pub fn show(&self, restarts: u64, server: Option<ServerStats>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (restarts, server);
    }

    fn add_to(&self, counts: &mut SinkCounts) {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.restarts, counts.server) = shown.clone();
    }
}

/// Forwards to an output what a sink does not do itself, `all of` it or what is left beside flush and finish.
macro_rules! by_output {
    (all of $output:ident) => {
        fn flush(&mut self) -> Result<(), Error> {
            self.$output.flush()
        }

        fn finish(&mut self) -> Result<(), Error> {
            self.$output.finish()
        }

        by_output!($output);
    };
    ($output:ident) => {
        fn advance(&mut self, now: $crate::time::Timestamp) -> Result<(), Error> {
            self.$output.advance(now)
        }

        fn reopen(&mut self) -> Result<(), Error> {
            self.$output.reopen()
        }

        fn counts(&self) -> super::SinkCounts {
            self.$output.counts()
        }
    };
}
use by_output;

/// Opens a sink for flow records.
///
/// `destination` is a file, or `-` for standard output; its extension beats `format` (see [`Format::of`]), and
/// `.gz` or `.zst` compresses. `columns` are the fields of a flow record, in this order; `None` means
/// `@core`, and for a table a choice made for people.
///
/// In the name of a file `%Y %m %d %H %M %S %j %s` stand for parts of the time, in UTC, and `%%` for `%`. A compressed
/// file grows as `NAME.part` and gets its name when it is closed.
///
/// # Errors
/// [`Error::Output`] where the destination cannot be opened; its kind is
/// [`AlreadyExists`](std::io::ErrorKind::AlreadyExists) where a file is there that may not be touched.
/// [`Error::Option`] for an address with a scheme (`https://…`), which is no file, and for another placeholder.
pub fn open(
    destination: &str,
    format: Format,
    columns: Option<&[Column]>,
    options: &FileOptions,
) -> Result<Box<dyn Sink>, Error> {
    if destination.split_once("://").is_some() {
        return Err(Error::Option(format!("{destination}: records can go to files and to '-' only")));
    }
    let format = Format::of(destination, format);
    if format == Format::Log {
        return Err(Error::Option(format!("{destination}: a log holds sockets and processes, no flows")));
    }
    let output = || Output::open(destination, options, Known::Lines);
    let core;
    let fields = match columns {
        Some(columns) => columns,
        None => {
            core = Column::parse("@core")?;
            &core
        }
    };
    Ok(match format {
        Format::Csv => Box::new(csv::Csv::open(destination, fields, options)?),
        Format::Table => Box::new(table::Table::new(output()?, columns)?),
        Format::Jsonl | Format::Log => Box::new(jsonl::Jsonl::new(output()?, fields)),
    })
}

/// Opens a sink of JSON lines for all types of records that puts them into a spool; `destination` is the server that they
/// are for, and the columns are those of flow records. How the sending goes is read from `sending`.
///
/// Where records come live, a full disk is waited out and counted, as with files.
///
/// # Errors
/// None at the moment but those of memory.
pub fn open_spooled(
    destination: &str,
    spool: Spool,
    columns: &[Column],
    options: &FileOptions,
    sending: Sending,
) -> Result<Box<dyn Sink>, Error> {
    let output = Output::spooled(destination, spool, options, sending)?;
    Ok(Box::new(jsonl::Jsonl::new(output, columns)))
}

/// What the files of a destination need of the file system while records are written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// The folder that they lie in or beneath, up to the first placeholder; none for standard output, devices and pipes.
    pub folder: Option<PathBuf>,
    /// Files are made, renamed or deleted there later on, so that it has to be writable.
    pub renames: bool,
}

/// Works out what the files of a destination need; nothing is opened or made.
///
/// # Errors
/// [`Error::Option`] for a name that is refused.
pub fn needs(destination: &str, options: &FileOptions) -> Result<Needs, Error> {
    if destination::is_stream(destination) {
        return Ok(Needs::default());
    }
    let template = template::Template::parse(destination)?;
    let FileOptions { rotate, keep, compress, .. } = options;
    Ok(Needs {
        folder: Some(template.base().to_owned()),
        renames: template.has_time()
            || template.compression() != packer::Compression::None
            || rotate.is_some()
            || !keep.is_all()
            || compress.is_some(),
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
    fn what_destinations_need() {
        let plain = FileOptions::default();
        for (destination, folder, renames) in [
            ("-", None, false),
            ("/dev/null", None, false),
            ("/no/log/f.jsonl", Some("/no/log"), false),
            ("f.csv", Some("."), false),
            ("../f.csv.gz", Some(".."), true),
            ("/no/100%%/f.jsonl", Some("/no/100%"), false),
            ("/no/log/%Y/f-%H.jsonl", Some("/no/log"), true),
            ("f-%s", Some("."), true),
        ] {
            let needs = needs(destination, &plain).unwrap();
            assert_eq!((needs.folder, needs.renames), (folder.map(PathBuf::from), renames), "{destination}");
        }
        let rotate = FileOptions { rotate: Some("1h".parse().unwrap()), ..FileOptions::default() };
        let keep = FileOptions { keep: "3".parse().unwrap(), ..FileOptions::default() };
        let compress = FileOptions { compress: Some(Compress::Zstd), ..FileOptions::default() };
        for options in [rotate, keep, compress] {
            assert!(needs("f.jsonl", &options).unwrap().renames, "{options:?}");
            assert_eq!(needs("-", &options).unwrap(), Needs::default());
        }
        assert!(matches!(needs("f-%N.jsonl", &plain), Err(Error::Option(_))));
    }

    #[test]
    fn an_address_is_no_file() {
        let refused = open("https://collector.example/flows", Format::Jsonl, None, &FileOptions::default());
        assert!(matches!(refused, Err(Error::Option(_))));
    }
}
