//! Where the records of the subcommands go.

use flowcore::Error;
use flowcore::record::Record;
use flowcore::sink::{self, Existing, HostRecords, Sink};

use crate::args::{Format, named_twice};

/// Any number of destinations.
pub(crate) struct Outputs(Vec<Box<dyn Sink>>);

impl Outputs {
    /// Refuses a destination that is named twice, before anything is opened.
    pub(crate) fn check(destinations: &[String]) -> Result<(), Error> {
        match named_twice(destinations.iter().map(String::as_str)) {
            Some(destination) => Err(Error::Option(format!("-o {destination}: named twice"))),
            None => Ok(()),
        }
    }

    /// Opens all of them; `records` tells what one is opened for. Files that exist are added to, unless by `force`.
    pub(crate) fn open(
        destinations: &[String],
        format: Format,
        force: bool,
        records: impl Fn(&str) -> HostRecords,
    ) -> Result<Self, Error> {
        let existing = if force { Existing::Overwrite } else { Existing::Append };
        let open = |to: &String| sink::open_host(records(to), to, format.into(), existing);
        destinations.iter().map(open).collect::<Result<_, _>>().map(Outputs)
    }

    /// Writes a record wherever its type is taken.
    pub(crate) fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        let mut takers = self.0.iter_mut().filter(|output| output.takes(record));
        takers.try_for_each(|output| output.write(record))
    }

    /// Makes visible what was written.
    #[cfg(all(target_os = "linux", feature = "host"))]
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(|output| output.flush())
    }

    /// Ends all of them.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(|output| output.finish())
    }
}
