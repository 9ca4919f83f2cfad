//! What has to reach the disk, in the order in which it was asked for: at once, or by a thread of its own.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Does what waits for a disk.
pub(super) struct Syncer {
    is_aside: bool,
    thread: Option<(SyncSender<Job>, JoinHandle<()>)>,
    failure: Arc<Mutex<Option<io::Error>>>,
    /// What the last job that failed said.
    problem: Option<String>,
}

type Job = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl Syncer {
    /// Makes one whose caller waits for each job, or that has a thread, from the first job on.
    pub(super) fn new(is_aside: bool) -> Self {
        Syncer { is_aside, thread: None, failure: Arc::default(), problem: None }
    }

    /// Tells whether jobs are done later.
    pub(super) fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// Does a job, or sees to it that it is done after all before it; false where too many wait already.
    ///
    /// # Errors
    /// Those of a job that is done at once; of the others [`Syncer::failure`] tells.
    pub(super) fn ask(&mut self, job: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<bool> {
        if !self.is_aside {
            return job().map(|()| true).inspect_err(|failed| self.problem = Some(failed.to_string()));
        }
        let (jobs, _) = match self.thread.take() {
            Some(running) => self.thread.insert(running),
            None => self.thread.insert(start(Arc::clone(&self.failure))?),
        };
        match jobs.try_send(Box::new(job)) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => {
                self.thread = None;
                Ok(false)
            }
        }
    }

    /// Returns what a job failed with that was done aside, once.
    pub(super) fn failure(&mut self) -> io::Result<()> {
        let failed = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), Err).inspect_err(|failed: &io::Error| self.problem = Some(failed.to_string()))
    }

    /// Returns what the last job failed with of which anybody was told.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Waits until all is done, and has everybody wait from now on.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.is_aside = false;
        if let Some((jobs, thread)) = self.thread.take() {
            drop(jobs);
            thread.join().map_err(|_| io::Error::other("the thread that syncs is gone"))?;
        }
        self.failure()
    }
}

fn start(failure: Arc<Mutex<Option<io::Error>>>) -> io::Result<(SyncSender<Job>, JoinHandle<()>)> {
    let (jobs, asked) = sync_channel::<Job>(WAITING);
    let work = move || {
        for job in asked {
            if let Err(failed) = job() {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
            }
        }
    };
    Ok((jobs, thread::Builder::new().name("spool sync".into()).spawn(work)?))
}

/// So many jobs wait for a slow disk. Most hold a file open, so that they have to be few.
const WAITING: usize = 256;
