//! Numbers that may be given: those of which the disk knows that they are used.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::slots::Slots;
use super::syncer::Syncer;

/// The reservation of numbers, in blocks. What was reserved and not used is passed over after a loss of power.
pub(super) struct Numbers {
    /// The instance, and the number up to which they are reserved.
    head: Slots<2>,
    instance: u64,
    /// What was written into the head last.
    asked: u64,
    /// Numbers below this are reserved on the disk.
    reserved: Arc<AtomicU64>,
    /// Whether the disk is at it.
    is_asking: Arc<AtomicBool>,
}

impl Numbers {
    /// Goes on where a head is, of which numbers below `reserved` need not be asked for.
    pub(super) fn new(head: Slots<2>, instance: u64, reserved: u64) -> Self {
        let (asked, reserved) = (reserved, Arc::new(AtomicU64::new(reserved)));
        Numbers { head, instance, asked, reserved, is_asking: Arc::default() }
    }

    /// Sees to it that numbers below `end` may be given. Where nobody waits for the disk, the next block is asked for
    /// long before this one is used up.
    ///
    /// # Errors
    /// Those of the disk; [`WouldBlock`](io::ErrorKind::WouldBlock) where it is too slow.
    pub(super) fn allow(&mut self, end: u64, syncer: &mut Syncer) -> io::Result<()> {
        let ahead = if syncer.is_aside() { BLOCK / 2 } else { 0 };
        if end + ahead > self.reserved.load(Ordering::Acquire) && !self.is_asking.load(Ordering::Acquire) {
            self.reserve(end + BLOCK, syncer)?;
        }
        match end <= self.reserved.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "the disk is too slow: it has not reserved numbers yet",
            )),
        }
    }

    /// Has the disk know that numbers below `end` may be used, and others not.
    pub(super) fn reserve(&mut self, end: u64, syncer: &mut Syncer) -> io::Result<()> {
        self.head.write([self.instance, end])?;
        self.asked = end;
        let (head, reserved, is_asking) =
            (self.head.file(), Arc::clone(&self.reserved), Arc::clone(&self.is_asking));
        is_asking.store(true, Ordering::Release);
        let asked = syncer.ask(move || {
            let synced = head.sync_data();
            if synced.is_ok() {
                reserved.store(end, Ordering::Release);
            }
            is_asking.store(false, Ordering::Release);
            synced
        });
        if !matches!(asked, Ok(true)) {
            self.is_asking.store(false, Ordering::Release);
        }
        asked.map(|_| ())
    }

    /// Tells whether the head is the file of that name still.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.head.is_at(path)
    }

    /// Goes on with a new head. As long as the disk does not have it, it has none, and who finds none takes another
    /// instance.
    pub(super) fn move_to(&mut self, mut head: Slots<2>, syncer: &mut Syncer) -> io::Result<()> {
        head.write([self.instance, self.asked])?;
        self.head = head;
        self.reserve(self.asked, syncer)
    }

    /// Says that numbers from `end` on were not used. The disk may take it when it likes.
    pub(super) fn give_back(&mut self, end: u64) -> io::Result<()> {
        self.head.write([self.instance, end])
    }
}

/// How many numbers are reserved at once: so many are passed over after a loss of power.
const BLOCK: u64 = 1 << 17;
