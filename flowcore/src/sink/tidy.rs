//! What becomes of closed files: they are compressed, finished where a killed run left them, and deleted when there are
//! too many. A thread of its own does it, so that writing does not wait.
//!
//! What is to be done is read from the folders each time: a run that was killed leaves nothing that the next one does
//! not see. A file that anybody writes is locked, and left alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::packer::{Compression, pack_all, unpack, whole_frames};
use super::place::{Found, Opening, is_at, list, open_beneath};
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
}

impl Tidy {
    /// Makes one, unless files of this kind need none.
    pub(super) fn new(template: &Template, options: &FileOptions) -> Option<Self> {
        let recovers = template.compression() != Compression::None && options.existing == Existing::Append;
        if options.compress.is_none() && options.keep.is_all() && !recovers {
            return None;
        }
        let stop = AtomicBool::new(false);
        let rules = Arc::new(Rules { template: template.clone(), options: options.clone(), stop });
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
    fn run(&self, jobs: &Receiver<Job>) -> io::Result<()> {
        let (mut own, mut last) = (HashSet::new(), Ok(()));
        for job in jobs {
            own.extend(job.closed.iter().cloned());
            last = self.see_to(&job, &own);
            if self.options.existing == Existing::Append {
                // All files are seen to, whoever made them.
                own.clear();
            }
        }
        last
    }

    fn see_to(&self, job: &Job, own: &HashSet<PathBuf>) -> io::Result<()> {
        let is_current = |found: &Found| job.current.as_ref() == Some(&found.path);
        let is_ours = |found: &Found| self.options.existing == Existing::Append || own.contains(&found.path);
        let mut outcome = Ok(());
        for found in self.sorted()?.iter().filter(|found| !is_current(found)) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let done = match (found.made.form, self.options.compress) {
                (Form::Part(compression), _) if self.options.existing == Existing::Append => {
                    self.recover(found, compression)
                }
                (Form::Plain, Some(compress)) if is_ours(found) => self.compress(found, compress),
                _ => Ok(()),
            };
            outcome = outcome.and(done);
        }
        outcome.and(self.delete(job))
    }

    /// Returns all files, oldest first.
    fn sorted(&self) -> io::Result<Vec<Found>> {
        let mut files = list(&self.template)?;
        files.sort_by_key(|found| found.order(&self.template));
        Ok(files)
    }

    /// Opens a file that nobody writes; none where somebody does, or where it has gone.
    fn closed(&self, path: &Path) -> io::Result<Option<File>> {
        let beneath = path.strip_prefix(self.template.base()).unwrap_or(path);
        let file = match path.is_file() {
            true => open_beneath(self.template.base(), beneath, Opening::Append)?,
            false => return Ok(None),
        };
        // Its writer may have renamed it since it was opened.
        Ok((is_lockable(&file) && is_at(&file, path)).then_some(file))
    }

    /// Cuts a compressed file that was not finished to its whole frames and gives it its name. Where what it was
    /// made from is still there, or no frame is whole, it is removed.
    fn recover(&self, found: &Found, compression: Compression) -> io::Result<()> {
        let Some(file) = self.closed(&found.path)? else { return Ok(()) };
        let whole = without(&found.path, PART);
        let source = without(&whole, compression.ending());
        let has_source = self.template.compression() == Compression::None && source.exists();
        let bytes = if has_source { 0 } else { whole_frames(&file, compression)? };
        if bytes == 0 {
            return fs::remove_file(&found.path);
        }
        file.set_len(bytes)?;
        file.sync_all()?;
        let (mut free, mut number) = (whole.clone(), found.made.number);
        while free.exists() || (free != whole && with(&free, PART).exists()) {
            number += 1;
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
            return match holds_the_same(&whole, compress, &source)? {
                true => fs::remove_file(&found.path),
                false => Ok(()),
            };
        }
        let part = with(&whole, PART);
        let beneath = part.strip_prefix(self.template.base()).unwrap_or(&part);
        let packed = open_beneath(self.template.base(), beneath, Opening::Empty).and_then(|mut packed| {
            pack_all(&mut source, &mut packed, compress, || !self.stop.load(Ordering::Relaxed))?;
            packed.set_modified(source.metadata()?.modified()?)?;
            packed.sync_all()?;
            fs::rename(&part, &whole)
        });
        match packed {
            Ok(()) => fs::remove_file(&found.path),
            Err(error) => {
                _ = fs::remove_file(&part);
                Err(error)
            }
        }
    }

    /// Deletes the oldest files until what is left may stay.
    fn delete(&self, job: &Job) -> io::Result<()> {
        let keep = self.options.keep;
        if keep.is_all() {
            return Ok(());
        }
        let files = self.sorted()?;
        let (mut count, mut bytes) = (files.len() as u64, files.iter().map(|found| found.bytes).sum::<u64>());
        // Whatever is made after the one that is written is newer than what may go.
        let current = files.iter().position(|found| Some(&found.path) == job.current.as_ref());
        for found in files.iter().take(current.unwrap_or(files.len())) {
            let is_too_much = keep.files.is_some_and(|most| count > most)
                || keep.size.is_some_and(|most| bytes > most)
                || self.is_older(found, job.now, keep.age);
            if !is_too_much || self.closed(&found.path)?.is_none() {
                continue;
            }
            fs::remove_file(&found.path)?;
            (count, bytes) = (count - 1, bytes - found.bytes);
            // Its folder goes with the last file in it, and so on.
            let mut folder = found.path.parent();
            while let Some(empty) = folder.filter(|folder| *folder != self.template.base())
                && fs::remove_dir(empty).is_ok()
            {
                folder = empty.parent();
            }
        }
        Ok(())
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
fn holds_the_same(whole: &Path, compress: Compress, mut source: &File) -> io::Result<bool> {
    let mut unpacked = unpack(File::open(whole)?, compress.into())?;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
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

/// Bytes that are compared at once.
const COMPARED: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
