//! Has the disk take what was written, by a thread of its own: writing does not wait for it.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Sends files to disk, each so long after it was written to.
pub(super) struct Syncer {
    every: Duration,
    last: Instant,
    /// Written to, and not sent since.
    file: Option<Arc<File>>,
    /// The thread ends when this does.
    files: Option<SyncSender<Arc<File>>>,
}

impl Syncer {
    /// Makes one; its thread starts when there is something to do.
    pub(super) fn new(every: Duration) -> Self {
        Syncer { every, last: Instant::now(), file: None, files: None }
    }

    /// Notes that a file was written to; one before it is sent off.
    pub(super) fn note(&mut self, file: &Arc<File>) {
        match &self.file {
            Some(known) if Arc::ptr_eq(known, file) => return,
            Some(_) => self.send(),
            None => {}
        }
        self.file = Some(file.clone());
    }

    /// Sends off what was written, if it is time.
    pub(super) fn tick(&mut self) {
        if self.file.is_some() && self.last.elapsed() >= self.every {
            self.send();
        }
    }

    fn send(&mut self) {
        if self.files.is_none() {
            let (sender, files) = sync_channel::<Arc<File>>(WAITING);
            let thread = std::thread::Builder::new().name("sync".into());
            // Without a thread the system writes when it likes; the next call tries again.
            self.files =
                thread.spawn(move || files.iter().for_each(|file| _ = file.sync_data())).ok().map(|_| sender);
        }
        if let (Some(files), Some(file)) = (&self.files, &self.file)
            && files.try_send(file.clone()).is_ok()
        {
            self.file = None;
            self.last = Instant::now();
        }
    }
}

/// Files that wait for a slow disk; where it has no room for more, they are sent later.
const WAITING: usize = 4;

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
        assert!(syncer.file.is_none());
    }
}
