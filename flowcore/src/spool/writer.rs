//! The writer's side.

use std::fmt;
use std::io::{self, BufRead};
use std::path::Path;
use std::time::Duration;

use super::frame::{Header, Packer};
use super::gap::{Gap, GapReason};
use super::numbers::Numbers;
use super::recover::{self, recover};
use super::slots::Slots;
use super::stamp::Stamp;
use super::store::{HEAD, Store};
use super::syncer::Syncer;
use super::waiting::{Waiting, now};
use super::{SpoolOptions, SyncPolicy};

/// The writing end of a spool: lines go in, each with the next number.
///
/// Lines wait in memory until a portion of them is full or [`Spool::flush`] is called, and then become a frame on
/// disk. Whoever writes sees to it that it is called: within 500 ms of a line, say. Dropped without
/// [`Spool::finish`], a spool is left as a kill would leave it. A folder that is deleted meanwhile is made again.
pub struct Spool {
    pub(super) store: Store,
    numbers: Numbers,
    stamp: Stamp,
    /// The number of the next record that is written.
    written: u64,
    waiting: Waiting,
    packer: Packer,
    sync: SyncPolicy,
    /// The first of the numbers below `written` that the last run left, to be said before anything else is written.
    lost_from: u64,
    /// What `written` was in the beginning.
    began: u64,
    longest: usize,
    accepted: u64,
    given_up: u64,
    too_long: u64,
    missing: u64,
}

/// What a [`Spool`] did since it was opened, and how it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SpoolCounts {
    /// Records that [`Spool::append`] took; those too long included.
    pub records: u64,
    /// Records of these that were too long, so that a gap line stands in their place.
    pub too_long: u64,
    /// Records that were lost before they came here, by [`Spool::skip`].
    pub skipped: u64,
    /// Records of these that are in memory still.
    pub waiting: u64,
    /// Records of these that were written, wherever they are by now.
    pub written: u64,
    /// Records, of this run or of one before, that were deleted for room before a reader was done with them.
    pub full_records: u64,
    /// Bytes on disk of the segments that held them.
    pub full_bytes: u64,
    /// Bytes of all segments on disk, those that a reader deleted lately included.
    pub disk_bytes: u64,
    /// The number that the next record gets.
    pub next_seq: u64,
}

impl Spool {
    /// Opens the spool in a folder for writing, or makes both.
    ///
    /// What a run before this one left torn is cut off; the numbers go on above all that it may have used.
    ///
    /// # Errors
    /// Of the kind [`ResourceBusy`](io::ErrorKind::ResourceBusy) where another process writes this spool,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for too small a limit, else those of the files.
    pub fn open(folder: impl AsRef<Path>, options: SpoolOptions) -> io::Result<Self> {
        Spool::open_in(folder.as_ref(), options, recover::boot())
    }

    /// Opens a spool in a run of the machine.
    pub(super) fn open_in(folder: &Path, options: SpoolOptions, boot: u128) -> io::Result<Self> {
        let max_bytes = options.max_bytes;
        if max_bytes < MIN_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a spool needs at least 64 KiB"));
        }
        let found = recover(folder, boot)?;
        let portion_bytes = usize::try_from(max_bytes / 16).map_or(PORTION, |bytes| bytes.min(PORTION));
        let longest = usize::try_from(max_bytes / 4).map_or(LONGEST, |bytes| bytes.min(LONGEST));
        let mut numbers = Numbers::new(found.head, found.instance, found.next_seq);
        let store = Store::new(folder, found.segments, (found.mark, found.state), found.cursor, options);
        if store.syncer.is_aside() {
            // Here one may wait for the disk, with the first record no longer.
            numbers.allow(found.next_seq + 1, &mut Syncer::new(false))?;
        }
        Ok(Spool {
            store,
            numbers,
            stamp: Stamp::new(found.instance, found.next_seq),
            written: found.next_seq,
            waiting: Waiting::new(portion_bytes),
            packer: Packer::new()?,
            sync: options.sync,
            lost_from: found.lost_from,
            began: found.next_seq,
            longest,
            accepted: 0,
            given_up: 0,
            too_long: 0,
            missing: 0,
        })
    }

    /// Takes whole lines, each a JSON object, and gives each of them `instance` and `seq` as its last members.
    ///
    /// A line too long for the spool (4 MiB, or a quarter of its limit) is counted and leaves a gap line in its place.
    ///
    /// # Errors
    /// None of the lines is taken, and all that was before stays as it was: those of the disk, since a portion has to be
    /// written before more is taken; [`InvalidInput`](io::ErrorKind::InvalidInput) where a line is no object.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        while self.waiting.is_full() {
            self.write_portion()?;
        }
        let (before, first, too_long) = (self.waiting.before(), self.stamp.seq(), self.too_long);
        let mut rest = lines;
        while !rest.is_empty() {
            let mut behind = rest;
            let length = behind.skip_until(b'\n')?;
            let line = rest.get(..length).unwrap_or_default();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            rest = behind;
            if line.len() > self.longest {
                self.leave_out();
            } else if !line.is_empty() && !self.waiting.add(line, &mut self.stamp) {
                self.waiting.return_to(&before);
                self.stamp = Stamp::new(self.stamp.instance(), first);
                self.too_long = too_long;
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a line is no JSON object"));
            }
        }
        self.accepted += self.stamp.seq() - first;
        Ok(())
    }

    /// Says that records were lost before they came here: they get numbers, and a gap line of this reason.
    ///
    /// # Errors
    /// Those of the disk, and then nothing is done but that lines which waited may be written.
    pub fn skip(&mut self, reason: GapReason, records: u64) -> io::Result<()> {
        self.write_all()?;
        if records > 0 {
            self.look_after_folder()?;
            self.write_lost()?;
            self.write_gap(reason, self.written, records)?;
            self.stamp = Stamp::new(self.stamp.instance(), self.written);
            self.missing += records;
        }
        Ok(())
    }

    /// Writes all lines that wait, and makes the disk write as [`SpoolOptions::sync`] says.
    ///
    /// # Errors
    /// Those of the disk; what could not be written goes on waiting. What a disk did not take of which nobody has waited
    /// for it is an error of the next flush.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_all()?;
        self.store.syncer.failure()?;
        match (self.sync, self.store.dirty()) {
            (SyncPolicy::Always, Some(_)) => self.store.sync(),
            (SyncPolicy::Every(time), Some(since)) if since.elapsed() >= time => self.store.sync(),
            _ => Ok(()),
        }
    }

    /// Flushes if a line has waited for so long: larger frames are smaller on disk.
    ///
    /// # Errors
    /// Those of [`Spool::flush`].
    pub fn flush_older(&mut self, than: Duration) -> io::Result<()> {
        let is_due =
            self.waiting.oldest().or(self.store.dirty()).is_some_and(|since| since.elapsed() >= than);
        if is_due { self.flush() } else { Ok(()) }
    }

    /// Waits until the disk has what it was asked to have. From then on everything that follows waits for it, also in a
    /// spool that is [`live`](SpoolOptions::live): right where the end is near.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn settle(&mut self) -> io::Result<()> {
        self.store.syncer.settle()
    }

    /// Writes all that waits, has it on the disk, and gives back the numbers that were reserved.
    ///
    /// # Errors
    /// Those of the disk; what could not be written goes on waiting, until it is [given up](Spool::give_up).
    pub fn finish(&mut self) -> io::Result<()> {
        let settled = self.settle();
        self.write_all()?;
        self.store.sync()?;
        self.numbers.reserve(self.written, &mut self.store.syncer)?;
        settled
    }

    /// Gives up what waits, where [`Spool::finish`] failed, and `more` records that could not even come here: their
    /// numbers are used up, so that a gap stands in their place. Returns how many had waited.
    pub fn give_up(&mut self, more: u64) -> u64 {
        let waited = self.waiting.records();
        self.waiting.clear();
        self.given_up += waited;
        let end = self.stamp.seq() + more;
        self.stamp = Stamp::new(self.stamp.instance(), end);
        self.written = end;
        // Both are written over what is there: also a full disk has room for that.
        _ = self.store.use_up(end);
        _ = self.numbers.reserve(end, &mut self.store.syncer);
        waited
    }

    /// Returns who gives the numbers: random, made with the spool.
    ///
    /// In lines it stands as 16 hex digits.
    pub fn instance(&self) -> u64 {
        self.stamp.instance()
    }

    /// Returns what was done so far.
    pub fn counts(&self) -> SpoolCounts {
        let lost = self.store.lost();
        SpoolCounts {
            records: self.accepted,
            too_long: self.too_long,
            skipped: self.missing,
            waiting: self.waiting.records(),
            written: self.accepted - self.waiting.records() - self.given_up,
            full_records: lost.records,
            full_bytes: lost.bytes,
            disk_bytes: self.store.bytes(),
            next_seq: self.stamp.seq(),
        }
    }

    /// Returns what the disk said when it last did not take what was written: it may be gone after a loss of power, whatever
    /// is taken later.
    pub fn problem(&self) -> Option<String> {
        let said = self.store.syncer.problem()?;
        Some(format!("the disk may not have all that was written: {said}"))
    }

    fn write_all(&mut self) -> io::Result<()> {
        while self.waiting.first().is_some() {
            self.write_portion()?;
        }
        Ok(())
    }

    /// Writes the oldest portion that waits.
    fn write_portion(&mut self) -> io::Result<()> {
        self.look_after_folder()?;
        self.write_lost()?;
        let Some((portion, lines)) = self.waiting.first() else { return Ok(()) };
        let end = self.written + portion.records;
        let header = Header {
            gap: None,
            raw_len: 0,
            packed_len: 0,
            checksum: 0,
            instance: self.stamp.instance(),
            first_seq: self.written,
            records: portion.records,
            time: portion.time,
        };
        let (header, frame) = self.packer.pack(header, lines)?;
        self.numbers.allow(end, &mut self.store.syncer)?;
        self.store.put(&header, frame)?;
        self.waiting.remove_first();
        self.written = end;
        self.lost_from = end;
        Ok(())
    }

    /// Makes the folder again where it was deleted or moved away. What was in it is gone, and the numbers go on.
    fn look_after_folder(&mut self) -> io::Result<()> {
        let (folder, head) = (self.store.folder(), self.store.folder().join(HEAD));
        if self.numbers.is_at(&head)? {
            return Ok(());
        }
        recover::make_folder(folder)?;
        let (head, other) = Slots::<2>::lock(&head, "writing")?;
        if other.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("another spool has taken the place of this one in {}", folder.display()),
            ));
        }
        self.store.move_on()?;
        self.numbers.move_to(head, &mut self.store.syncer)
    }

    /// Says what the last run left without a record, before anything else is said.
    fn write_lost(&mut self) -> io::Result<()> {
        match self.written - self.lost_from {
            0 => Ok(()),
            records => self.write_gap(GapReason::Restart, self.lost_from, records),
        }
    }

    fn write_gap(&mut self, reason: GapReason, first_seq: u64, records: u64) -> io::Result<()> {
        let header = Header::of_gap(reason, self.stamp.instance(), first_seq, records, now());
        let end = header.end();
        self.numbers.allow(end, &mut self.store.syncer)?;
        self.store.put(&header, &header.to_bytes())?;
        self.written = end;
        self.lost_from = end;
        Ok(())
    }

    /// Puts a gap line in the place of a record.
    fn leave_out(&mut self) {
        let (instance, first_seq) = (self.stamp.instance(), self.stamp.seq());
        let gap = Gap { time: now(), instance, reason: GapReason::TooLong, first_seq, end: first_seq + 1 };
        self.waiting.add_as_it_is(gap.line().as_bytes());
        self.stamp.advance();
        self.too_long += 1;
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.written == self.began {
            // Else numbers would be passed over after a run without records.
            _ = self.numbers.give_back(self.began);
        }
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("instance", &self.instance()).field("counts", &self.counts()).finish()
    }
}

/// The least that a spool can be limited to.
pub const MIN_BYTES: u64 = 64 << 10;

/// Bytes of lines that become a frame without being flushed.
const PORTION: usize = 512 << 10;

/// The most bytes that a line can have.
const LONGEST: usize = 4 << 20;
