//! The reader's side.

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::{Header, Unpacker};
use super::gap::{Gap, GapReason};
use super::recover::make_folder;
use super::segment::{self, Frames, Step};
use super::slots::Slots;
use super::store::{CURSOR, MARK, Mark};

/// The reading end of a spool: batches of lines come out, oldest first, while another process may be writing.
///
/// What is deleted or damaged before it was read is put out as gap lines. Segments that are wholly done are deleted.
/// Where the folder itself is deleted, or moved away, what is open is read to its end; then every call is an error of
/// the kind [`NotFound`](io::ErrorKind::NotFound), until the backlog is opened anew.
pub struct Backlog {
    folder: PathBuf,
    cursor: Slots<1>,
    /// The first number that is not done; none where that is not known, until something is read.
    done: Option<u64>,
    /// The first number that is not in a batch or in `frame` or `gaps`.
    next: Option<u64>,
    frames: Option<Frames>,
    /// The number before which a gap was found and looked for once more.
    looked_for: Option<u64>,
    /// Segments that were read to their end, each with the number at which the next one begins.
    passed: BTreeMap<u64, u64>,
    gaps: VecDeque<Gap>,
    frame: Lines,
    unpacker: Unpacker,
}

/// Lines on their way to a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The first number in it, of a record or of a gap.
    pub first_seq: u64,
    /// The last number in it.
    pub last_seq: u64,
    /// Lines that are records.
    pub records: u64,
    /// Lines that are gaps noticed by the reader or told by the writer.
    pub gaps: u64,
    /// The lines, each with its end.
    pub lines: Vec<u8>,
}

/// What is left of a frame.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    /// Where the next line begins.
    at: usize,
    seq: u64,
    end: u64,
}

impl Backlog {
    /// Opens the spool in a folder for reading; it may be made later, or while it is read.
    ///
    /// # Errors
    /// Of the kind [`ResourceBusy`](io::ErrorKind::ResourceBusy) where another process reads this spool, else those of the
    /// files. What is damaged in them is none.
    pub fn open(folder: impl AsRef<Path>) -> io::Result<Self> {
        let folder = folder.as_ref();
        make_folder(folder)?;
        let (cursor, done) = Slots::<1>::lock(&folder.join(CURSOR), "reading")?;
        let segments = segment::list(folder)?;
        let done = done.map(|[next]| next);
        // A reader that was killed may have left some of them.
        let follows = segments.iter().zip(segments.iter().skip(1));
        let passed = follows.map(|(segment, after)| (segment.first_seq, after.first_seq));
        let mut backlog = Backlog {
            folder: folder.to_owned(),
            cursor,
            done,
            next: done,
            frames: None,
            looked_for: None,
            passed: passed.filter(|&(_, end)| done.is_some_and(|done| end <= done)).collect(),
            gaps: VecDeque::new(),
            frame: Lines::default(),
            unpacker: Unpacker::new()?,
        };
        backlog.delete_passed()?;
        Ok(backlog)
    }

    /// Returns the next lines that are written; none where all were returned.
    ///
    /// A batch ends at so many lines, or before the line with which it would have more bytes; it has one line at least.
    /// What was returned is not returned again by this reader, done or not.
    ///
    /// # Errors
    /// Those of the files; the next call goes on where this one was.
    pub fn next_batch(&mut self, limit_records: u64, limit_bytes: usize) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        while batch.records + batch.gaps < limit_records.max(1) {
            match self.fill() {
                Ok(true) if self.give(&mut batch, limit_records, limit_bytes) => {}
                Ok(_) => break,
                Err(refused) if batch.lines.is_empty() => return Err(refused),
                // Comes again with the next call.
                Err(_) => break,
            }
        }
        Ok((!batch.lines.is_empty()).then_some(batch))
    }

    /// Notes that a batch and all before it need not be sent again, and deletes the segments that are no longer needed.
    ///
    /// # Errors
    /// Those of the files; what could not be noted is sent once more by the next reader.
    pub fn done(&mut self, batch: &Batch) -> io::Result<()> {
        let next = batch.last_seq.saturating_add(1);
        if self.done.is_none_or(|done| done < next) {
            self.cursor.write([next])?;
            self.done = Some(next);
        }
        self.delete_passed()
    }

    /// Waits until there is something to be returned, for no longer than `time`; tells whether there is.
    ///
    /// Looks every 100 ms.
    ///
    /// # Errors
    /// Those of the files.
    pub fn wait(&mut self, time: Duration) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            if self.fill()? {
                return Ok(true);
            }
            let left = time.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            thread::sleep(left.min(POLL));
        }
    }

    /// Returns about how many records are written and not done.
    pub fn waiting(&self) -> u64 {
        waiting(&self.folder, self.done)
    }

    /// Returns the same of the spool in a folder, whoever reads it meanwhile.
    pub fn waiting_in(folder: impl AsRef<Path>) -> u64 {
        let folder = folder.as_ref();
        waiting(folder, Slots::peek(&folder.join(CURSOR)).map(|[next]| next))
    }

    /// Moves lines into a batch until one of both is at its end; false where the batch is.
    fn give(&mut self, batch: &mut Batch, limit_records: u64, limit_bytes: usize) -> bool {
        let has_room = |batch: &Batch, length: usize| {
            batch.lines.is_empty()
                || batch.records + batch.gaps < limit_records && batch.lines.len() + length <= limit_bytes
        };
        while let Some(gap) = self.gaps.front() {
            let line = gap.line();
            if !has_room(batch, line.len()) {
                return false;
            }
            batch.add(line.as_bytes(), gap.first_seq, gap.end);
            batch.gaps += 1;
            self.gaps.pop_front();
        }
        while let Some(line) = self.frame.first() {
            if !has_room(batch, line.len()) {
                return false;
            }
            batch.add(line, self.frame.seq, self.frame.seq + 1);
            batch.records += 1;
            self.frame.at += line.len();
            self.frame.seq += 1;
        }
        true
    }

    /// Sees to it that there is a gap or a line to be given; false where all was.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            if !self.gaps.is_empty() || self.frame.first().is_some() {
                return Ok(true);
            }
            let Some(header) = self.next_frame()? else { return Ok(false) };
            let next = self.next.unwrap_or_else(|| self.begin(header.first_seq));
            self.next = Some(next);
            if header.end() <= next {
                continue;
            }
            if header.first_seq > next {
                if self.looked_for != Some(next) {
                    // A listing of a folder that is written meanwhile can lack a name: only what is not found at a
                    // second look is missing.
                    self.looked_for = Some(next);
                    self.frames = None;
                    continue;
                }
                self.miss(next, &header);
            }
            self.take(next.max(header.first_seq), &header);
            self.next = Some(header.end());
        }
    }

    /// Returns the number that comes first: the writer may have said so meanwhile.
    fn begin(&mut self, first_seq: u64) -> u64 {
        self.done = self.cursor.read().map(|[next]| next);
        self.done.unwrap_or(first_seq)
    }

    /// Puts out what is missing before a frame.
    fn miss(&mut self, next: u64, header: &Header) {
        let mark = Slots::peek(&self.folder.join(MARK)).map(Mark::of_numbers).unwrap_or_default();
        let deleted = mark.deleted.clamp(next, header.first_seq);
        for (reason, from, to) in
            [(GapReason::SpoolFull, next, deleted), (GapReason::Damaged, deleted, header.first_seq)]
        {
            self.gap(reason, from, to, header);
        }
    }

    /// Puts out what is in a frame, from a number on.
    fn take(&mut self, from: u64, header: &Header) {
        if let Some(reason) = header.gap {
            self.gap(reason, from, header.end(), header);
            return;
        }
        let packed = self.frames.as_ref().map_or(&[][..], |frames| frames.packed());
        if !self.unpacker.unpack(header, packed, &mut self.frame.text) {
            self.frame = Lines::default();
            self.gap(GapReason::Damaged, from, header.end(), header);
            return;
        }
        self.frame.begin(header);
        self.frame.go_to(from);
    }

    fn gap(&mut self, reason: GapReason, first_seq: u64, end: u64, header: &Header) {
        if first_seq < end {
            self.gaps.push_back(Gap { time: header.time, instance: header.instance, reason, first_seq, end });
        }
    }

    /// Goes on to the next whole frame, from segment to segment; none where there is none yet.
    fn next_frame(&mut self) -> io::Result<Option<Header>> {
        let below = self.next.unwrap_or(0);
        // Whether there was a newer segment before the last look at this one: then nothing more comes to it.
        let mut is_closed = false;
        loop {
            let Some(frames) = &mut self.frames else {
                if !self.go_home()? {
                    return Ok(None);
                }
                is_closed = false;
                continue;
            };
            match frames.step(below)? {
                Step::Whole(header) => return Ok(Some(header)),
                Step::Damaged(_) => continue,
                Step::Torn if is_closed && frames.resync()? => continue,
                Step::Torn | Step::End => {}
            }
            let here = frames.first_seq();
            let segments = list(&self.folder, &self.cursor)?;
            let newer = segments.iter().map(|segment| segment.first_seq).find(|&first| first > here);
            match newer {
                Some(_) if !is_closed => is_closed = true,
                Some(newer) => {
                    self.frames = Frames::open(&self.folder, newer)?;
                    self.passed.insert(here, newer);
                    is_closed = false;
                }
                // Its name may be that of another by now.
                None if frames.is_deleted()? => self.frames = None,
                None => {
                    // Segments are put in order when a writer opens the spool: this one may have been in the way.
                    if home(&segments, below) != Some(here) {
                        self.frames = None;
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Opens the segment in which the next number has to be; false where there is none.
    fn go_home(&mut self) -> io::Result<bool> {
        loop {
            let segments = list(&self.folder, &self.cursor)?;
            let Some(first_seq) = home(&segments, self.next.unwrap_or(0)) else { return Ok(false) };
            self.frames = Frames::open(&self.folder, first_seq)?;
            if self.frames.is_some() {
                // Those in front of it that are done go, too: else they would outlive it, and without a cursor what
                // stood between them would seem to be lost.
                let done = self.done.unwrap_or(0);
                let before = segments
                    .iter()
                    .zip(segments.iter().skip(1))
                    .filter(|(_, end)| end.first_seq <= first_seq.min(done));
                self.passed.extend(before.map(|(segment, end)| (segment.first_seq, end.first_seq)));
                return Ok(true);
            }
            // Deleted meanwhile.
        }
    }

    fn delete_passed(&mut self) -> io::Result<()> {
        let done = self.done.unwrap_or(0);
        let is_done = |segment: &OccupiedEntry<'_, u64, u64>| *segment.get() <= done;
        if self.passed.first_entry().is_some_and(|first| is_done(&first)) {
            // Else a loss of power could bring an older cursor back, to which these would be missing.
            self.cursor.sync()?;
        }
        while let Some(first) = self.passed.first_entry().filter(is_done) {
            segment::delete(&self.folder, *first.key())?;
            first.remove();
        }
        Ok(())
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("done", &self.done).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Batch {
    fn add(&mut self, line: &[u8], first_seq: u64, end: u64) {
        if self.lines.is_empty() {
            self.first_seq = first_seq;
        }
        self.lines.extend_from_slice(line);
        self.last_seq = end.saturating_sub(1);
    }
}

impl Lines {
    fn begin(&mut self, header: &Header) {
        (self.at, self.seq, self.end) = (0, header.first_seq, header.end());
    }

    /// Passes over the lines below a number.
    fn go_to(&mut self, seq: u64) {
        while self.seq < seq
            && let Some(length) = self.first().map(<[u8]>::len)
        {
            self.at += length;
            self.seq += 1;
        }
    }

    /// Returns the next line, with its end.
    fn first(&self) -> Option<&[u8]> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty() && self.seq < self.end)?;
        let length = rest.iter().position(|&byte| byte == b'\n')? + 1;
        rest.get(..length)
    }
}

/// Lists the segments of a folder in which this cursor is.
fn list(folder: &Path, cursor: &Slots<1>) -> io::Result<Vec<segment::Segment>> {
    if cursor.is_at(&folder.join(CURSOR))? {
        return segment::list(folder);
    }
    let what = format!("{} was deleted, or moved away", folder.display());
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}

/// Returns about how many records are written to the spool in a folder and not `done`; what was deleted for room waits no
/// more.
fn waiting(folder: &Path, done: Option<u64>) -> u64 {
    let mark = Slots::peek(&folder.join(MARK)).map(Mark::of_numbers).unwrap_or_default();
    mark.written.saturating_sub(done.unwrap_or(0).max(mark.deleted))
}

/// Returns the segment in which a number has to be: the last one that begins at or before it, else the first.
fn home(segments: &[segment::Segment], seq: u64) -> Option<u64> {
    let before = segments.iter().rfind(|segment| segment.first_seq <= seq);
    before.or(segments.first()).map(|segment| segment.first_seq)
}

/// How often a reader that waits looks.
const POLL: Duration = Duration::from_millis(100);
