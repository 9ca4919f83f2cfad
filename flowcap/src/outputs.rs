//! Where the records of the subcommands go.

use flowcore::Error;
use flowcore::meter::{Stop, wall_clock};
use flowcore::record::Record;
use flowcore::sink::{self, Existing, FileOptions, HostRecords, Sink};

use crate::apart;
use crate::args::{Format, named_twice};
use crate::run::stop_on_signals;

/// Any number of destinations. One that fails is told of once, and left out from then on.
pub(crate) struct Outputs(Vec<Box<dyn Sink>>);

impl Outputs {
    /// Makes them of the one that there is.
    #[cfg(all(target_os = "linux", feature = "host"))]
    pub(crate) fn of(sink: Box<dyn Sink>) -> Self {
        Outputs(vec![sink])
    }

    /// Refuses a destination that is named twice or read as well, before anything is opened.
    pub(crate) fn check<'a>(
        read: impl IntoIterator<Item = &'a str>,
        destinations: &'a [String],
    ) -> Result<(), Error> {
        match named_twice(destinations.iter().map(String::as_str)) {
            Some(destination) => Err(Error::Option(format!("-o {destination}: named twice"))),
            None => apart::check(read, destinations.iter().map(String::as_str)),
        }
    }

    /// Opens all of them; `records` tells what one is opened for. Files that exist are added to, unless by `force`.
    ///
    /// From then on signals request the `stop`. Until then, when a pipe may be waited for, the first one ends the program.
    pub(crate) fn open(
        destinations: &[String],
        format: Format,
        force: bool,
        records: impl Fn(&str) -> HostRecords,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let existing = if force { Existing::Overwrite } else { Existing::Append };
        let files = FileOptions { now: Some(wall_clock()), ..existing.into() };
        let open = |to: &String| sink::open_host(records(to), to, format.into(), &files);
        let outputs = destinations.iter().map(open).collect::<Result<_, _>>()?;
        stop_on_signals(stop.clone())?;
        Ok(Outputs(outputs))
    }

    /// Writes a record wherever its type is taken.
    pub(crate) fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        self.each(|output| if output.takes(record) { output.write(record) } else { Ok(()) })
    }

    /// Makes visible what was written; files whose time is over are closed.
    #[cfg(all(target_os = "linux", feature = "host"))]
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let now = wall_clock();
        self.each(|output| output.flush().and_then(|()| output.advance(now)))
    }

    /// Ends all of them.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.each(|output| output.finish())
    }

    /// Does the same with all of them, and returns the first error.
    fn each(&mut self, work: impl Fn(&mut dyn Sink) -> Result<(), Error>) -> Result<(), Error> {
        let mut outcome = Ok(());
        self.0.retain_mut(|output| {
            let done = work(output.as_mut());
            let goes_on = done.is_ok();
            if outcome.is_ok() {
                outcome = done;
            }
            goes_on
        });
        outcome
    }
}
