//! Has the disk take what was written, by a thread of its own: writing does not wait for it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::place::sync;

/// Sends files and folders to disk, each so long after it was written to.
pub(super) struct Syncer {
    every: Duration,
    last: Instant,
    /// Written to, and not sent since.
    written: VecDeque<Arc<File>>,
    /// The thread ends when this does.
    files: Option<SyncSender<Arc<File>>>,
    failure: Failure,
}

/// What the disk said when it last did not take something.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<String>>>);

impl Syncer {
    /// Makes one; its thread starts when there is something to do.
    pub(super) fn new(every: Duration) -> Self {
        Syncer {
            every,
            last: Instant::now(),
            written: VecDeque::new(),
            files: None,
            failure: Failure::default(),
        }
    }

    /// Notes that a file was written to.
    pub(super) fn note(&mut self, file: &Arc<File>) {
        if self.written.iter().any(|known| Arc::ptr_eq(known, file)) {
            return;
        }
        if self.written.len() == MOST {
            // The system writes it when it likes.
            self.written.pop_front();
        }
        self.written.push_back(file.clone());
    }

    /// Sends off what was written, if it is time.
    pub(super) fn tick(&mut self) {
        if !self.written.is_empty() && self.last.elapsed() >= self.every {
            self.send();
        }
    }

    /// Waits until the disk has what was not sent yet.
    pub(super) fn finish(&mut self) {
        let failure = &self.failure;
        self.written.drain(..).for_each(|file| failure.note(sync(&file)));
    }

    /// Returns what the disk said when it last did not take something: it may be gone, whatever is taken later.
    pub(super) fn problem(&self) -> Option<String> {
        self.failure.get()
    }

    /// Returns what was written to and not sent since.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> &VecDeque<Arc<File>> {
        &self.written
    }

    fn send(&mut self) {
        if self.files.is_none() {
            let (sender, files) = sync_channel::<Arc<File>>(WAITING);
            let thread = std::thread::Builder::new().name("sync".into());
            // Without a thread the system writes when it likes; the next call tries again.
            let failure = self.failure.clone();
            let work = move || files.iter().for_each(|file| failure.note(sync(&file)));
            self.files = thread.spawn(work).ok().map(|_| sender);
        }
        while let (Some(files), Some(file)) = (&self.files, self.written.front())
            && files.try_send(file.clone()).is_ok()
        {
            self.written.pop_front();
            self.last = Instant::now();
        }
    }
}

impl Failure {
    fn note(&self, outcome: io::Result<()>) {
        if let Err(failed) = outcome {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(not_synced(&failed));
        }
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells of what a disk did not take.
pub(super) fn not_synced(why: &io::Error) -> String {
    format!("the disk may not have all that was written: {why}")
}

/// Files that wait for a slow disk; where it has no room for more, they are sent later.
const WAITING: usize = 4;

/// Files that are held open until they are sent.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_let_go_of_once_it_is_on_disk() {
        let mut syncer = Syncer::new(Duration::from_millis(1));
        let file = Arc::new(tempfile::tempfile().unwrap());
        (&*file).write_all(b"x").unwrap();
        syncer.note(&file);
        assert_eq!(Arc::strong_count(&file), 2);
        std::thread::sleep(Duration::from_millis(2));
        syncer.tick();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(&file) > 1 {
            assert!(Instant::now() < deadline, "it is still held");
            std::thread::sleep(Duration::from_millis(1));
        }
        syncer.tick();
        assert!(syncer.written.is_empty());
    }

    #[test]
    fn what_a_disk_does_not_take_is_told() {
        // No disk stands behind it.
        let null = Arc::new(File::options().write(true).open("/dev/null").unwrap());
        assert!(sync(&null).is_err());
        let mut syncer = Syncer::new(Duration::ZERO);
        let good = Arc::new(tempfile::tempfile().unwrap());
        syncer.note(&good);
        syncer.finish();
        assert_eq!(syncer.problem(), None);
        syncer.note(&null);
        syncer.tick();
        let deadline = Instant::now() + Duration::from_secs(20);
        while syncer.problem().is_none() {
            assert!(Instant::now() < deadline, "it is not told");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Another success does not bring back what is gone.
        syncer.note(&good);
        syncer.finish();
        assert!(syncer.problem().unwrap().starts_with("the disk may not have"));
        let mut at_the_end = Syncer::new(Duration::from_secs(3_600));
        at_the_end.note(&null);
        at_the_end.finish();
        assert!(at_the_end.problem().is_some());
    }

    #[test]
    fn a_slow_disk_does_not_hold_all_files_open() {
        let mut syncer = Syncer::new(Duration::from_secs(3_600));
        let file = Arc::new(tempfile::tempfile().unwrap());
        for _ in 0..MOST + 10 {
            let next = Arc::new(file.try_clone().unwrap());
            syncer.note(&next);
            syncer.note(&next);
        }
        assert_eq!(syncer.written.len(), MOST);
    }
}
