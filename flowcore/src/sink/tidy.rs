//! What becomes of closed files: they are compressed, finished where a killed run left them, and deleted when there are
//! too many. A thread of its own does it, so that writing does not wait.
//!
//! What is to be done is read from the folders each time: a run that was killed leaves nothing that the next one does
//! not see. A file that anybody writes is locked, and left alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::packer::{Compression, pack_all, unpack, whole_frames};
use super::place::{Found, Opening, is_at, list, open_beneath, sync};
use super::template::{Form, PART, Template};
use super::{Compress, Existing, FileOptions};
use crate::time::Timestamp;

/// Has closed files seen to.
pub(super) struct Tidy {
    rules: Arc<Rules>,
    thread: Option<(SyncSender<Job>, JoinHandle<io::Result<()>>)>,
    /// A job had no room and is to be sent later.
    missed: bool,
    /// The files of that job.
    unsent: Vec<PathBuf>,
}

/// What the thread is told.
pub(super) struct Job {
    /// What time it is.
    pub(super) now: Option<Timestamp>,
    /// The file that is written.
    pub(super) current: Option<PathBuf>,
    /// The files that were closed since the last job; where a replay works, no others are compressed.
    pub(super) closed: Vec<PathBuf>,
}

struct Rules {
    template: Template,
    options: FileOptions,
    stop: AtomicBool,
    /// The latest time that was told, in nanoseconds: a job may be old when its turn comes.
    now: AtomicI64,
    /// What hindered the latest job.
    problem: Mutex<Option<String>>,
    /// Held by who opens a file until he has its lock, too: otherwise a new file could be taken for one that is closed.
    opening: Mutex<()>,
}

impl Tidy {
    /// Makes one, unless files of this kind need none.
    pub(super) fn new(template: &Template, options: &FileOptions) -> Option<Self> {
        let recovers = template.compression() != Compression::None && options.existing == Existing::Append;
        if options.compress.is_none() && options.keep.is_all() && !recovers {
            return None;
        }
        let rules = Arc::new(Rules::new(template.clone(), options.clone()));
        Some(Tidy { rules, thread: None, missed: false, unsent: Vec::new() })
    }

    /// Has the folders looked through. In live capture that is put off while the thread is at it, until the next call.
    ///
    /// # Errors
    /// What the system says when it has no thread.
    pub(super) fn request(&mut self, mut job: Job) -> io::Result<()> {
        job.closed.append(&mut self.unsent);
        let is_live = self.rules.options.live;
        let (jobs, _) = match &mut self.thread {
            Some(thread) => thread,
            none => {
                let (sender, receiver) = sync_channel(1);
                let rules = self.rules.clone();
                let thread =
                    std::thread::Builder::new().name("files".into()).spawn(move || rules.run(&receiver))?;
                none.insert((sender, thread))
            }
        };
        self.missed = match is_live {
            true => match jobs.try_send(job) {
                Err(TrySendError::Full(job)) => {
                    self.unsent = job.closed;
                    true
                }
                _ => false,
            },
            false => jobs.send(job).is_err(),
        };
        Ok(())
    }

    /// Keeps the thread from opening files as long as it is held: a new one is not locked yet.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.rules.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what time it is.
    pub(super) fn advance(&self, now: Timestamp) {
        self.rules.now.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Returns what hindered the thread at its latest work: the first file that it could not see to, and why.
    pub(super) fn problem(&self) -> Option<String> {
        self.rules.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether a request had to be put off.
    pub(super) fn missed(&self) -> bool {
        self.missed
    }

    /// Waits until everything is done; in live capture only until what is half done is taken back.
    ///
    /// # Errors
    /// What hindered the thread at last.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.rules.stop.store(self.rules.options.live, Ordering::Relaxed);
        let Some((jobs, thread)) = self.thread.take() else { return Ok(()) };
        drop(jobs);
        let outcome =
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread for files panicked")));
        // What could not be done live is done the next time.
        if self.rules.options.live { Ok(()) } else { outcome }
    }
}

impl Rules {
    fn new(template: Template, options: FileOptions) -> Self {
        let (stop, now) = (AtomicBool::new(false), AtomicI64::new(i64::MIN));
        Rules { template, options, stop, now, problem: Mutex::new(None), opening: Mutex::new(()) }
    }

    fn run(&self, jobs: &Receiver<Job>) -> io::Result<()> {
        let (mut own, mut last) = (HashSet::new(), Ok(()));
        for job in jobs {
            last = self.see_to(job, &mut own);
            let problem = last.as_ref().err().map(ToString::to_string);
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        }
        last
    }

    /// Sees to all files; one that hinders it does not hinder it at the others. `own` are those that a replay has made and
    /// that are still to be compressed.
    ///
    /// # Errors
    /// The first that there was.
    fn see_to(&self, mut job: Job, own: &mut HashSet<PathBuf>) -> io::Result<()> {
        let sees_to_all = self.options.existing == Existing::Append;
        if self.options.compress.is_some() && !sees_to_all {
            own.extend(job.closed.drain(..));
        }
        let is_current = |found: &Found| job.current.as_ref() == Some(&found.path);
        let is_ours = |found: &Found| sees_to_all || own.contains(&found.path);
        let mut outcome = Ok(());
        for found in self.sorted()?.iter().filter(|found| !is_current(found)) {
            if self.stops() {
                return Ok(());
            }
            let (done, what) = match (found.made.form, self.options.compress) {
                (Form::Part(compression), _) if sees_to_all => {
                    (self.recover(found, compression), "cannot be finished")
                }
                (Form::Plain, Some(compress)) if is_ours(found) => {
                    (self.compress(found, compress), "cannot be compressed")
                }
                _ => continue,
            };
            if self.stops() {
                // What it was at is as it was before.
                return Ok(());
            }
            outcome = outcome.and(done.map_err(|error| told(&found.path, what, &error)));
        }
        own.retain(|path| path.exists());
        outcome.and(self.delete(&job))
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Returns all files, oldest first.
    fn sorted(&self) -> io::Result<Vec<Found>> {
        let mut files = list(&self.template)?;
        files.sort_by_key(|found| found.order(&self.template));
        Ok(files)
    }

    /// Opens a file that nobody writes; none where somebody does, or where it has gone.
    fn closed(&self, path: &Path) -> io::Result<Option<File>> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match open_beneath(self.template.base(), self.beneath(path), Opening::Existing, None) {
            Err(gone) if gone.kind() == ErrorKind::NotFound => return Ok(None),
            outcome => outcome?,
        };
        // Its writer may have renamed it since it was opened.
        Ok((is_lockable(&file) && is_at(&file, path)).then_some(file))
    }

    fn beneath<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(self.template.base()).unwrap_or(path)
    }

    /// Cuts a compressed file that was not finished to its whole frames and gives it its name. Where what it was
    /// made from is still there, or no frame is whole, it is removed.
    fn recover(&self, found: &Found, compression: Compression) -> io::Result<()> {
        let Some(file) = self.closed(&found.path)? else { return Ok(()) };
        let whole = without(&found.path, PART);
        let source = without(&whole, compression.ending());
        let has_source = self.template.compression() == Compression::None && source.exists();
        let bytes = if has_source { 0 } else { whole_frames(&file, compression, || !self.stops())? };
        if bytes == 0 {
            return fs::remove_file(&found.path);
        }
        file.set_len(bytes)?;
        file.sync_all()?;
        let (mut free, mut number) = (whole.clone(), found.made.number);
        while free.exists() || (free != whole && with(&free, PART).exists()) {
            number = number.checked_add(1).ok_or(ErrorKind::AlreadyExists)?;
            free = self.template.numbered(&whole, found.made.number, number);
        }
        fs::rename(&found.path, free)
    }

    /// Compresses a file; it is removed when the compressed one is whole and on disk.
    fn compress(&self, found: &Found, compress: Compress) -> io::Result<()> {
        let Some(mut source) = self.closed(&found.path)? else { return Ok(()) };
        let ending = Compression::from(compress).ending();
        let whole = with(&found.path, ending);
        if whole.exists() {
            // A run was killed between its last two steps; or somebody else made that file.
            let packed = File::open(&whole)?;
            return match holds_the_same(&packed, compress, &source, || !self.stops())? {
                true => self.replace(found, &packed),
                false => Ok(()),
            };
        }
        let part = with(&whole, PART);
        let opened =
            open_beneath(self.template.base(), self.beneath(&part), Opening::Empty, self.options.owner);
        let packed = opened.and_then(|mut packed| {
            if !is_lockable(&packed) {
                return Err(ErrorKind::ResourceBusy.into());
            }
            packed.set_len(0)?;
            let done = pack_all(&mut source, &mut packed, compress, || !self.stops())
                .and_then(|()| packed.set_modified(source.metadata()?.modified()?))
                .and_then(|()| packed.sync_all())
                .and_then(|()| fs::rename(&part, &whole));
            if done.is_err() {
                _ = fs::remove_file(&part);
            }
            done.map(|()| packed)
        });
        self.replace(found, &packed?)
    }

    /// Removes a file once the compressed one and its name are on disk.
    fn replace(&self, found: &Found, packed: &File) -> io::Result<()> {
        packed.sync_all()?;
        sync(&File::open(found.path.parent().unwrap_or(self.template.base()))?)?;
        fs::remove_file(&found.path)
    }

    /// Deletes the oldest files until what is left may stay.
    ///
    /// Where the clock of a live capture was ahead, files may have been made later than now: they go before all others,
    /// since otherwise none of them went, and each new file at once. One that cannot be deleted does not count, either.
    fn delete(&self, job: &Job) -> io::Result<()> {
        let keep = self.options.keep;
        if keep.is_all() {
            return Ok(());
        }
        let files = self.sorted()?;
        let (mut count, mut bytes) = (files.len() as u64, files.iter().map(|found| found.bytes).sum::<u64>());
        let is_current = |found: &&Found| Some(&found.path) == job.current.as_ref();
        // Whatever is made after the one that is written is newer than what may go.
        let current = files.iter().position(|found| is_current(&found)).unwrap_or(files.len());
        let (later, past): (Vec<&Found>, Vec<&Found>) = files
            .iter()
            .enumerate()
            .filter(|(nth, found)| *nth < current || (self.is_later(found, job) && !is_current(found)))
            .map(|(_, found)| found)
            .partition(|found| self.is_later(found, job));
        let mut outcome = Ok(());
        for found in later.into_iter().chain(past) {
            let is_too_much = keep.files.is_some_and(|most| count > most)
                || keep.size.is_some_and(|most| bytes > most)
                || self.is_older(found, job.now, keep.age);
            if self.stops() || !is_too_much {
                continue;
            }
            match self
                .closed(&found.path)
                .and_then(|file| file.map(|_| fs::remove_file(&found.path)).transpose())
            {
                Ok(None) => continue,
                Ok(Some(())) => self.remove_empty_folders(&found.path),
                Err(error) => outcome = outcome.and(Err(told(&found.path, "cannot be deleted", &error))),
            }
            (count, bytes) = (count - 1, bytes - found.bytes);
        }
        outcome
    }

    /// Removes the folder of a file that has gone, if that was the last one in it, and so on.
    fn remove_empty_folders(&self, path: &Path) {
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|folder| *folder != self.template.base())
            && fs::remove_dir(empty).is_ok()
        {
            folder = empty.parent();
        }
    }

    /// Tells whether a file was made by a clock that was ahead.
    fn is_later(&self, found: &Found, job: &Job) -> bool {
        let told = Timestamp::from_nanos(self.now.load(Ordering::Relaxed));
        let Some(now) = job.now.filter(|_| self.options.live) else { return false };
        found.order(&self.template).0.nanos_since(now.max(told)) > AHEAD
    }

    /// Tells whether the newest record in a file can be no younger than this.
    fn is_older(&self, found: &Found, now: Option<Timestamp>, age: Option<Duration>) -> bool {
        let (Some(now), Some(age)) = (now, age) else { return false };
        let every = self.options.rotate.and_then(|rotate| rotate.every).unwrap_or_default();
        let span = self.template.span().max(nanos(every));
        let end = found.made.time.map(|time| time.saturating_add_nanos(span));
        let newest = match end {
            // A replay's files are written long after what is in them.
            Some(end) if !self.options.live => end,
            end => end.unwrap_or(found.modified).max(found.modified),
        };
        now.nanos_since(newest) > nanos(age)
    }
}

/// Says what could not be done with a file.
fn told(path: &Path, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} {what}: {error}", path.display()))
}

/// Takes the lock of a file, which is held until it is closed; true also where the system has no locks.
pub(super) fn is_lockable(file: &File) -> bool {
    !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
}

/// Returns a path with something behind its name.
pub(super) fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn without(path: &Path, ending: &str) -> PathBuf {
    path.to_str().and_then(|path| path.strip_suffix(ending)).map_or_else(|| path.to_owned(), PathBuf::from)
}

/// Compares a compressed file with what it may have been made from.
///
/// # Errors
/// What the system says of the source, and [`ErrorKind::Interrupted`] when `goes_on` says no.
fn holds_the_same(
    packed: &File,
    compress: Compress,
    mut source: &File,
    goes_on: impl Fn() -> bool,
) -> io::Result<bool> {
    let mut unpacked = unpack(packed, compress.into())?;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        if !goes_on() {
            return Err(ErrorKind::Interrupted.into());
        }
        left.clear();
        right.clear();
        if unpacked.by_ref().take(COMPARED).read_to_end(&mut left).is_err() {
            return Ok(false);
        }
        source.by_ref().take(COMPARED).read_to_end(&mut right)?;
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How much later than now a file may have been made, in nanoseconds, by another process that is told the time before.
const AHEAD: u64 = 60_000_000_000;

/// Bytes that are compared at once.
const COMPARED: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
