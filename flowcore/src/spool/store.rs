//! The segments as the writer keeps them: frames go into the newest, the oldest goes when room is needed.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::frame::Header;
use super::recover::begin_cursor;
use super::segment::{self, Segment};
use super::slots::{FOR_ITS_USER, Slots};
use super::syncer::Syncer;
use super::{SpoolOptions, SyncPolicy};

/// The segments of a spool, and the mark.
pub(super) struct Store {
    folder: PathBuf,
    /// Oldest first; the last one is being written if there is a `live` file.
    segments: VecDeque<Segment>,
    live: Option<Arc<File>>,
    mark: Slots<4>,
    state: Mark,
    /// What the reader writes, to be read also where its file is deleted.
    cursor: Slots<1>,
    max_bytes: u64,
    sync: SyncPolicy,
    pub syncer: Syncer,
    /// Whether a request of [`Store::sync`] waits for its turn.
    is_syncing: Arc<AtomicBool>,
    /// Since when frames are written that the disk was not asked to have.
    dirty: Option<Instant>,
    lost: Lost,
}

/// What the writer tells the reader, and itself after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark {
    /// Numbers below this were, or were about to be, written.
    pub written: u64,
    /// Numbers below this were in segments that were deleted for room.
    pub deleted: u64,
    /// The run of the machine in which that was so; 0 where it is not known.
    pub boot: u128,
}

/// What was deleted for room before a reader was done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Lost {
    pub records: u64,
    pub bytes: u64,
}

impl Store {
    pub(super) fn new(
        folder: &Path,
        segments: Vec<Segment>,
        (mark, state): (Slots<4>, Mark),
        cursor: Slots<1>,
        options: SpoolOptions,
    ) -> Self {
        let SpoolOptions { max_bytes, sync, live } = options;
        Store {
            folder: folder.to_owned(),
            segments: segments.into(),
            live: None,
            mark,
            state,
            cursor,
            max_bytes,
            sync,
            syncer: Syncer::new(live && sync != SyncPolicy::Always),
            is_syncing: Arc::default(),
            dirty: None,
            lost: Lost::default(),
        }
    }

    /// Writes a frame behind all others; where that fails, everything is as it was.
    pub(super) fn put(&mut self, header: &Header, frame: &[u8]) -> io::Result<()> {
        let length = frame.len() as u64;
        self.look_after_live();
        self.make_room(length, header.first_seq)?;
        let full = self
            .segments
            .back()
            .is_some_and(|last| last.bytes > 0 && last.bytes + length > self.segment_bytes());
        if full || self.live.is_none() {
            self.begin_segment(header.first_seq)?;
        }
        // Numbers count as used before anybody can read them.
        let before = self.state;
        self.note(Mark { written: header.end(), ..before })?;
        let (Some(file), Some(last)) = (&self.live, self.segments.back_mut()) else { return Ok(()) };
        if let Err(refused) = file.write_all_at(frame, last.bytes) {
            if file.set_len(last.bytes).is_err() {
                // The reader passes over what is torn once there is a newer segment.
                self.live = None;
            }
            _ = self.note(before);
            return Err(refused);
        }
        last.bytes += length;
        self.dirty.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Returns where the segments are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Goes on in a new folder of the same name. The reader's cursor goes with it: so it finds out what is gone.
    pub(super) fn move_on(&mut self) -> io::Result<()> {
        let (mut mark, _) = Slots::<4>::open(&self.folder.join(MARK))?;
        mark.write(self.state.to_numbers())?;
        let done = self.cursor.read().map(|[next]| next);
        let cursor = begin_cursor(&self.folder, done)?;
        self.segments = segment::list(&self.folder)?.into();
        (self.mark, self.cursor, self.live, self.dirty) = (mark, cursor, None, None);
        Ok(())
    }

    /// Notes that numbers below `end` are used.
    pub(super) fn use_up(&mut self, end: u64) -> io::Result<()> {
        self.note(Mark { written: end, ..self.state })
    }

    /// Has the disk take all that was written, at once or later: as soon as it has taken what it was asked to before.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let waits = self.syncer.is_aside() && self.is_syncing.load(Ordering::Acquire);
        if waits { Ok(()) } else { self.sync_live() }
    }

    fn sync_live(&mut self) -> io::Result<()> {
        if let (Some(file), Some(_)) = (&self.live, self.dirty) {
            let (file, is_syncing) = (Arc::clone(file), Arc::clone(&self.is_syncing));
            is_syncing.store(true, Ordering::Release);
            let asked = self.syncer.ask(move || {
                // What is written from now on is for the next one.
                is_syncing.store(false, Ordering::Release);
                file.sync_data()
            });
            if matches!(asked, Ok(true)) {
                self.dirty = None;
            } else {
                self.is_syncing.store(false, Ordering::Release);
            }
            asked?;
        }
        Ok(())
    }

    /// Returns since when there is something to [`Store::sync`].
    pub(super) fn dirty(&self) -> Option<Instant> {
        self.dirty
    }

    /// Returns the bytes of all segments, those that a reader was done with meanwhile included.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn lost(&self) -> Lost {
        self.lost
    }

    /// A segment is small against all of them, since a whole one goes at a time.
    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 16).min(SEGMENT_BYTES)
    }

    /// Gives the newest segment up if somebody has taken it away: what follows goes into a new one.
    fn look_after_live(&mut self) {
        let is_there = |file: &File| file.metadata().is_ok_and(|there| there.nlink() > 0);
        if self.live.as_ref().is_some_and(|file| !is_there(file)) {
            self.live = None;
            self.segments.pop_back();
        }
    }

    fn begin_segment(&mut self, first_seq: u64) -> io::Result<()> {
        let keeps = self.sync != SyncPolicy::Off;
        if keeps {
            self.sync_live()?;
        }
        self.forget_deleted()?;
        // One of this name has no whole frame: its first number would be used. A reader that has it open sees that it
        // is deleted, and would not see it begin anew.
        segment::delete(&self.folder, first_seq)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FOR_ITS_USER);
        let file = options.open(segment::path(&self.folder, first_seq))?;
        if keeps {
            // After what stands before it, and before what will stand in it. The folder is opened now: it may be moved
            // until its turn comes.
            let folder = File::open(&self.folder)?;
            self.syncer.ask(move || folder.sync_all())?;
        }
        if self.segments.back().is_some_and(|last| last.first_seq == first_seq) {
            self.segments.pop_back();
        }
        self.segments.push_back(Segment { first_seq, bytes: 0 });
        self.live = Some(Arc::new(file));
        Ok(())
    }

    /// Deletes the oldest segments until so many bytes have room; `next_seq` is the number after the last one written.
    fn make_room(&mut self, length: u64, next_seq: u64) -> io::Result<()> {
        if self.bytes() + length <= self.max_bytes {
            return Ok(());
        }
        self.forget_deleted()?;
        while self.bytes() + length > self.max_bytes
            && let Some(&oldest) = self.segments.front()
            && (self.segments.len() > 1 || self.live.is_none())
        {
            let end = self.segments.get(1).map_or(next_seq, |second| second.first_seq);
            self.delete_oldest(oldest, end)?;
        }
        Ok(())
    }

    /// Forgets the segments that a reader was done with and deleted.
    fn forget_deleted(&mut self) -> io::Result<()> {
        let there = segment::list(&self.folder)?;
        self.segments.retain(|segment| {
            there.binary_search_by_key(&segment.first_seq, |other| other.first_seq).is_ok()
        });
        Ok(())
    }

    fn delete_oldest(&mut self, oldest: Segment, end: u64) -> io::Result<()> {
        let done = Slots::peek(&self.folder.join(CURSOR)).map_or(0, |[next]| next);
        // The reader has to find the reason when it finds the gap.
        self.note(Mark { deleted: self.state.deleted.max(end), ..self.state })?;
        if segment::delete(&self.folder, oldest.first_seq)? && end > done {
            self.lost.records += end - oldest.first_seq.max(done);
            self.lost.bytes += oldest.bytes;
        }
        self.segments.pop_front();
        Ok(())
    }

    fn note(&mut self, state: Mark) -> io::Result<()> {
        self.mark.write(state.to_numbers())?;
        self.state = state;
        Ok(())
    }
}

impl Mark {
    pub(super) fn to_numbers(self) -> [u64; 4] {
        [self.written, self.deleted, (self.boot >> 64) as u64, self.boot as u64]
    }

    pub(super) fn of_numbers([written, deleted, high, low]: [u64; 4]) -> Self {
        Mark { written, deleted, boot: u128::from(high) << 64 | u128::from(low) }
    }
}

/// Where the writer keeps instance and reservation.
pub(super) const HEAD: &str = "head";

/// Where the writer keeps its mark.
pub(super) const MARK: &str = "mark";

/// Where the reader keeps what is done.
pub(super) const CURSOR: &str = "cursor";

/// The most that a segment has, but for the last frame.
const SEGMENT_BYTES: u64 = 64 << 20;
