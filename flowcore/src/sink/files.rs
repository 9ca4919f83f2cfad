//! The file that is written, and when it is another one: rotation, files that are taken away.

mod open;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::packer::Compression;
use super::place::{Known, folders, is_at, sync};
use super::sync::{Syncer, not_synced};
use super::template::Template;
use super::tidy::{Job, Tidy, nanos};
use super::{FileOptions, SyncPolicy};
use crate::error::Error;
use crate::time::Timestamp;

/// The files of a destination, one after the other.
pub(super) struct Files {
    template: Template,
    options: FileOptions,
    known: Known,
    now: Option<Timestamp>,
    current: Option<Current>,
    /// A file that was taken away while it was written, and is to be made again.
    lost: Option<Named>,
    /// The highest number of each name that this run has used, where what others made does not count.
    numbers: HashMap<PathBuf, u32>,
    /// A file was opened already: what exists is not added to any more.
    begun: bool,
    closed: Vec<PathBuf>,
    tidy: Option<Tidy>,
    tidied: Option<Timestamp>,
    syncer: Option<Syncer>,
    /// What the disk said of a file that it did not take before it was closed.
    unsynced: Option<String>,
}

/// The file that is written.
struct Current {
    file: Arc<File>,
    /// Where it grows.
    path: PathBuf,
    named: Named,
    bytes: u64,
    /// There is more in it than a header.
    has_records: bool,
    /// It was not there before.
    is_made: bool,
}

/// What a file is called.
#[derive(Clone)]
struct Named {
    /// The time in its name, or where its period begins.
    time: Timestamp,
    number: u32,
}

impl Files {
    /// Reads the template and, where the first name is known, opens the first file.
    ///
    /// # Errors
    /// [`Error::Option`] for a template that is none, [`Error::Output`] for what the system says.
    pub(super) fn open(destination: &str, options: &FileOptions, known: Known) -> Result<Self, Error> {
        let template = Template::parse(destination)?;
        if template.compression() != Compression::None && options.compress.is_some() {
            let what = "is compressed while it is written, so it is not compressed once more";
            return Err(Error::Option(format!("{destination}: {what}")));
        }
        let every = match options.sync {
            SyncPolicy::Every(every) if options.live => Some(every),
            _ => None,
        };
        let mut files = Files {
            tidy: Tidy::new(&template, options),
            template,
            options: options.clone(),
            known,
            now: options.now,
            current: None,
            lost: None,
            numbers: HashMap::new(),
            begun: false,
            closed: Vec::new(),
            tidied: None,
            syncer: every.map(Syncer::new),
            unsynced: None,
        };
        let outcome = match files.needs_time() && files.now.is_none() {
            true => fs::read_dir(files.template.base()).map(drop),
            false => files.ready(),
        };
        outcome.map_err(|source| Error::Output { name: destination.to_owned(), source })?;
        Ok(files)
    }

    /// Returns how the bytes are to be compressed.
    pub(super) fn compression(&self) -> Compression {
        self.template.compression()
    }

    /// Opens the file that is due, unless it is open.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        if self.current.is_none() {
            let current = self.open_due()?;
            self.sync_name(&current.path)?;
            self.current = Some(current);
        }
        Ok(())
    }

    /// Tells whether a file is open.
    pub(super) fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Tells whether nothing is in the open file, or none is open.
    pub(super) fn is_empty(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.bytes == 0)
    }

    /// Returns how much of the lines still belongs into the file that is open, where it is not to be compressed.
    pub(super) fn portion<'a>(&self, lines: &'a [u8]) -> &'a [u8] {
        let (Some(most), Some(current)) = (self.size(), &self.current) else { return lines };
        let room = usize::try_from(most.saturating_sub(current.bytes)).unwrap_or(usize::MAX);
        if lines.len() <= room {
            return lines;
        }
        let fitting = super::place::whole_lines(lines, room);
        let first = lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1);
        // A line that is larger than a file may be has one of its own.
        let length = if fitting == 0 && !current.has_records { first } else { fitting };
        lines.get(..length).unwrap_or(lines)
    }

    /// Writes bytes; where that fails, what is no whole line is taken back, or everything that has to stay together.
    ///
    /// Returns how many bytes are in the file.
    pub(super) fn write(&mut self, bytes: &[u8], together: bool) -> (usize, io::Result<()>) {
        let Some(current) = &mut self.current else { return (0, Err(ErrorKind::NotFound.into())) };
        let mut file = &*current.file;
        let (written, outcome) = super::destination::write_counted(&mut file, bytes);
        let always = self.options.sync == SyncPolicy::Always;
        let outcome = outcome.and_then(|()| if always { file.sync_data() } else { Ok(()) });
        let whole = match &outcome {
            Ok(()) => written,
            // What is not known to be on disk is written again.
            Err(_) if together || always => 0,
            Err(_) => super::place::whole_lines(bytes, written),
        };
        if whole < written {
            _ = file.set_len(current.bytes + whole as u64);
            _ = file.seek(SeekFrom::End(0));
        }
        current.bytes += whole as u64;
        current.has_records |= whole > 0;
        if let Some(syncer) = self.syncer.as_mut().filter(|_| whole > 0) {
            syncer.note(&current.file);
        }
        (whole, outcome)
    }

    /// Writes what stands before the records, all of it or nothing.
    pub(super) fn write_header(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes, true).1?;
        if let Some(current) = &mut self.current {
            current.has_records = false;
        }
        Ok(())
    }

    /// Closes a file that has reached its size; with `full`, also one that has no room for a line.
    ///
    /// # Errors
    /// What the system says when it is not given its name.
    pub(super) fn close_if_large(&mut self, full: bool) -> io::Result<()> {
        let is_large = matches!((self.size(), &self.current), (Some(most), Some(now)) if now.bytes >= most);
        if is_large || full { self.close() } else { Ok(()) }
    }

    /// Has the disk sent what was written, if it is time.
    pub(super) fn sync(&mut self) {
        if let Some(syncer) = &mut self.syncer {
            syncer.tick();
        }
    }

    /// Has the disk take the name of a file, and those of the folders that it is in.
    fn sync_name(&mut self, path: &Path) -> io::Result<()> {
        let is_always = self.options.sync == SyncPolicy::Always;
        if !is_always && self.syncer.is_none() {
            return Ok(());
        }
        let beneath = path.strip_prefix(self.template.base()).unwrap_or(path);
        for folder in folders(self.template.base(), beneath)? {
            match &mut self.syncer {
                Some(syncer) => syncer.note(&Arc::new(folder)),
                None => sync(&folder)?,
            }
        }
        Ok(())
    }

    /// Tells whether the period is over to which belongs what waits: that of the open file, or of the time told last.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let open = self.current.as_ref().map(|current| current.named.time);
        open.or_else(|| self.now.map(|last| self.start_of(last))).is_some_and(|time| self.is_over(time, now))
    }

    /// Tells what time it is: closes the file whose period is over, notices one that was taken away.
    ///
    /// # Errors
    /// What the system says when a file is not given its name.
    pub(super) fn advance(&mut self, now: Timestamp) -> io::Result<()> {
        self.now = Some(now);
        if let Some(tidy) = &self.tidy {
            tidy.advance(now);
        }
        self.look_for_current();
        if self.is_due(now) {
            self.close()?;
        }
        let is_due = self.tidied.is_none_or(|last| now.nanos_since(last) >= TIDY_INTERVAL);
        let missed = self.tidy.as_ref().is_some_and(Tidy::missed);
        if self.options.live && (is_due || missed) { self.tidy() } else { Ok(()) }
    }

    /// Writes to a file of the same name from now on, where the present one was moved away.
    ///
    /// # Errors
    /// What the system says when a compressed file is not given its name.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if self.template.compression() != Compression::None {
            return self.close();
        }
        self.let_go_if_moved();
        Ok(())
    }

    /// Makes a file again that is not where it was.
    fn look_for_current(&mut self) {
        if self.options.live {
            self.let_go_if_moved();
        }
    }

    fn let_go_if_moved(&mut self) {
        if let Some(current) = self.current.take_if(|current| !is_at(&current.file, &current.path)) {
            self.lost = Some(current.named);
        }
    }

    /// Makes a file again that was deleted: what is written to it would be gone.
    pub(super) fn look_for_deleted(&mut self) {
        let is_deleted = |current: &Current| current.file.metadata().is_ok_and(|about| about.nlink() == 0);
        if self.options.live && self.current.as_ref().is_some_and(is_deleted) {
            self.let_go_if_moved();
        }
    }

    /// Leaves the file as it is, after a failure.
    pub(super) fn abandon(&mut self) {
        self.current = None;
        // The failure is known already.
        _ = self.tidy.as_mut().map(Tidy::finish);
    }

    /// Gives the file its name and waits for what is done with closed ones.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.look_for_current();
        if let Some(syncer) = &mut self.syncer {
            syncer.finish();
        }
        let closed = match self.options.live && self.template.compression() == Compression::None {
            // A restart goes on with it.
            true => match self.current.take() {
                Some(current) if self.options.sync != SyncPolicy::Off => current.file.sync_data(),
                _ => Ok(()),
            },
            false => self.close(),
        };
        let tidied = if self.options.live { Ok(()) } else { self.tidy() };
        let finished = self.tidy.as_mut().map_or(Ok(()), Tidy::finish);
        closed.and(tidied).and(finished)
    }

    /// Returns what hinders the work on closed files, or what a disk did not take.
    pub(super) fn problem(&self) -> Option<String> {
        let unsynced = || self.unsynced.clone().or_else(|| self.syncer.as_ref()?.problem());
        self.tidy.as_ref().and_then(Tidy::problem).or_else(unsynced)
    }

    fn size(&self) -> Option<u64> {
        self.options.rotate.and_then(|rotate| rotate.size)
    }

    /// Returns the length of a period in nanoseconds.
    fn every(&self) -> Option<i64> {
        let every = nanos(self.options.rotate?.every?);
        Some(i64::try_from(every).unwrap_or(i64::MAX).max(1))
    }

    fn needs_time(&self) -> bool {
        self.template.has_time() || self.every().is_some()
    }

    /// There is one name only, and what has it is added to.
    fn is_fixed(&self) -> bool {
        !self.needs_time()
            && self.options.rotate.is_none()
            && self.template.compression() == Compression::None
    }

    /// Returns where the period of a time begins, or that time.
    fn start_of(&self, now: Timestamp) -> Timestamp {
        match self.every() {
            Some(every) => {
                Timestamp::from_nanos(now.as_nanos().saturating_sub(now.as_nanos().rem_euclid(every)))
            }
            None => now,
        }
    }

    /// Tells whether the file of a time is to be closed now. A live clock that is set back a little ends nothing.
    fn is_over(&self, time: Timestamp, now: Timestamp) -> bool {
        let (start, span) = match self.every() {
            Some(every) => (self.start_of(now), every.unsigned_abs()),
            None if self.options.rotate.is_some() || !self.template.has_time() => return false,
            None if self.template.name(now, 1) == self.template.name(time, 1) => return false,
            None => (now, self.template.span()),
        };
        match self.options.live {
            true => start > time || time.nanos_since(start) > span,
            false => start != time,
        }
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let mut path = current.path.clone();
        if self.template.compression() != Compression::None {
            if self.options.live && self.options.sync != SyncPolicy::Off {
                let failed = current.file.sync_data().err();
                self.unsynced = failed.as_ref().map(not_synced).or(self.unsynced.take());
            }
            if self.options.live && current.bytes == 0 {
                // Without a frame it is no compressed file.
                return fs::remove_file(&current.path);
            }
            path = self.path_of(&current.named);
            fs::rename(&current.path, &path)?;
        }
        drop(current);
        self.closed.push(path);
        self.tidy()
    }

    fn tidy(&mut self) -> io::Result<()> {
        self.tidied = self.now.or(self.tidied);
        let closed = std::mem::take(&mut self.closed);
        let current = self.current.as_ref().map(|current| current.path.clone());
        let now = self.now;
        self.tidy.as_mut().map_or(Ok(()), |tidy| tidy.request(Job { now, current, closed }))
    }
}

/// Where a start is refused nothing comes to its end: what it has made and not filled would hinder the next one.
impl Drop for Files {
    fn drop(&mut self) {
        let Some(current) = self.current.take().filter(|current| current.is_made) else { return };
        let is_empty = current.file.metadata().is_ok_and(|about| about.len() == 0);
        if is_empty && is_at(&current.file, &current.path) {
            _ = fs::remove_file(&current.path);
        }
    }
}

/// How long the name of a file is remembered whose time does not come again, in nanoseconds.
const DAY: u64 = 86_400_000_000_000;

/// How many more names there may be until those are looked for.
const NAMES_BETWEEN: usize = 1_024;

/// How often closed files are looked at while none is closed, in nanoseconds: some may have become too old.
const TIDY_INTERVAL: u64 = 60_000_000_000;

#[cfg(test)]
mod tests;
