//! Bytes on their way out: whole lines only, to standard output or to a file, compressed or not.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::destination::Destination;
use super::files::Files;
use super::packer::{Compression, Packer};
use super::place::Known;
use super::{FileOptions, Sending, SinkCounts, SyncPolicy};
use crate::error::Error;
use crate::spool::{GapReason, Spool};
use crate::time::Timestamp;

/// A destination with the lines that wait for it.
///
/// Lines leave in one write(2) of 256 KiB or what is there at a flush. A compressed file is a row of whole frames
/// (gzip members, zstd frames) of whole lines: what reached the disk can be read, whatever happens later.
///
/// Where records come live, a file that cannot be written fails for a while: lines wait until the buffer is full, what
/// comes then is dropped and counted, and each [`advance`](Output::advance) tries again.
pub(super) struct Output {
    name: String,
    to: Destination,
    lines: Vec<u8>,
    /// Records in `lines`.
    waiting: u64,
    /// Lines in front of them that are none.
    told: u64,
    /// Bytes of lines that are sent off at once.
    portion: usize,
    packer: Packer,
    /// When the last compressed frame was written.
    last_frame: Option<Instant>,
    /// How long a flush waits after that.
    between_frames: Duration,
    /// What every file begins with.
    header: Vec<u8>,
    /// Failures are waited out.
    patient: bool,
    /// Why nothing is written for now.
    failing: Option<&'static str>,
    /// How many bytes of lines, and records, wait while what comes behind them is dropped.
    kept: Option<(usize, u64)>,
    /// Whether a gap becomes a line of its own.
    tells_gaps: bool,
    /// What was dropped and no line tells of yet.
    gaps: BTreeMap<&'static str, u64>,
    written: u64,
    counts: SinkCounts,
    /// How the sending from a spool goes.
    sending: Sending,
    now: Option<Timestamp>,
}

impl Output {
    /// Opens a destination: `-` or a file; one that is added to must be `known`.
    pub(super) fn open(destination: &str, options: &FileOptions, known: Known) -> Result<Self, Error> {
        let (to, compression) = Destination::open(destination, options, known)?;
        Output::to(destination, to, compression, options)
    }

    /// Puts lines into a spool, from where they go to the destination.
    pub(super) fn spooled(
        destination: &str,
        spool: Spool,
        options: &FileOptions,
        sending: Sending,
    ) -> Result<Self, Error> {
        let to = Destination::Spool(Box::new(spool));
        Ok(Output { sending, ..Output::to(destination, to, Compression::None, options)? })
    }

    fn to(destination: &str, to: Destination, by: Compression, options: &FileOptions) -> Result<Self, Error> {
        let packer = Packer::new(by).map_err(|source| error(destination, source))?;
        Ok(Output {
            name: destination.to_owned(),
            patient: options.live && to.is_file(),
            to,
            lines: Vec::with_capacity(packer.portion() + packer.portion() / 4),
            waiting: 0,
            told: 0,
            portion: packer.portion(),
            packer,
            last_frame: None,
            between_frames: match options.sync {
                SyncPolicy::Always => Duration::ZERO,
                SyncPolicy::Every(_) | SyncPolicy::Off => FRAME_INTERVAL,
            },
            header: Vec::new(),
            failing: None,
            kept: None,
            tells_gaps: false,
            gaps: BTreeMap::new(),
            written: 0,
            counts: SinkCounts::default(),
            sending: Sending::default(),
            now: options.now,
        })
    }

    /// Sets the lines that every file begins with.
    pub(super) fn set_header(&mut self, lines: impl Into<Vec<u8>>) {
        self.header = lines.into();
    }

    /// Tells whether a record that is written now would be the first of its file.
    pub(super) fn is_at_start(&self) -> bool {
        self.lines.is_empty() && self.to.is_empty()
    }

    /// Has records that were dropped told of by a line among the others: right for JSON lines.
    pub(super) fn tell_gaps(&mut self) {
        self.tells_gaps = true;
    }

    /// Makes an [`Error::Output`] of this destination.
    pub(super) fn error(&self, source: io::Error) -> Error {
        error(&self.name, source)
    }

    /// Returns where the next record may be appended, `\n` included; sends off what fills the buffer before that.
    ///
    /// What is appended until the next call is either whole lines or taken back by the caller.
    #[inline]
    pub(super) fn room(&mut self) -> Result<&mut Vec<u8>, Error> {
        self.room_for(1)
    }

    /// The same for several records that are written together.
    #[inline]
    pub(super) fn room_for(&mut self, records: u64) -> Result<&mut Vec<u8>, Error> {
        if self.lines.len() >= self.portion {
            self.send()?;
        }
        self.waiting += records;
        Ok(&mut self.lines)
    }

    /// Writes the lines that wait; compressed ones at most every 500 ms, since small frames compress badly, unless the disk
    /// has to have all of them now.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        match self.last_frame {
            Some(last) if last.elapsed() < self.between_frames => {}
            _ => self.send()?,
        }
        match &mut self.to {
            Destination::Stream(..) => {}
            Destination::Files(files) => files.sync(),
            Destination::Spool(spool) => match spool.flush() {
                // It goes on waiting there; what a disk has not taken is told as its problem.
                Err(_) if self.patient => {}
                flushed => flushed.map_err(|source| error(&self.name, source))?,
            },
        }
        Ok(())
    }

    /// Tells the time: files change, and what failed is tried again.
    pub(super) fn advance(&mut self, now: Timestamp) -> Result<(), Error> {
        self.now = Some(now);
        let Destination::Files(files) = &mut self.to else { return self.try_again() };
        if files.is_due(now) && !self.lines.is_empty() {
            // They belong to the period before.
            self.send()?;
        }
        self.with_files(|files| files.advance(now))?;
        self.try_again()
    }

    /// Writes what waits, and the rest to a file of the same name.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        self.send()?;
        self.with_files(Files::reopen)
    }

    /// Returns what became of the records.
    pub(super) fn counts(&self) -> SinkCounts {
        let mut counts = self.counts.clone();
        counts.written = Some(self.written);
        if let Destination::Files(files) = &self.to {
            counts.problem = files.problem();
        }
        if let Destination::Spool(spool) = &self.to {
            let spooled = spool.counts();
            (counts.spooled, counts.written) = (spooled.written, Some(0));
            counts.spool_lost = spooled.full_records;
            counts.problem = spool.problem();
            self.sending.add_to(&mut counts);
        }
        if let (Some(reason), Some((_, kept))) = (self.failing, self.kept) {
            *counts.dropped.entry(reason).or_default() += self.waiting - kept;
        }
        counts.dropped.retain(|_, records| *records > 0);
        counts
    }

    /// Returns how many lines wait.
    pub(super) fn waiting(&self) -> u64 {
        self.lines.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Writes all lines that wait and gives the file its name.
    ///
    /// What cannot be written now is given up, and counted.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.settle();
        self.failing = None;
        if let Err(source) = self.end() {
            let mut lost = std::mem::take(&mut self.waiting);
            self.lines.clear();
            self.kept = None;
            if let Destination::Spool(spool) = &mut self.to {
                lost += spool.give_up(lost + self.gaps.values().sum::<u64>());
            }
            match self.patient {
                true => *self.counts.dropped.entry(reason(&source)).or_default() += lost,
                false => self.counts.failed += lost,
            }
            if let Destination::Files(files) = &mut self.to {
                files.abandon();
            }
            return Err(self.error(source));
        }
        match &mut self.to {
            Destination::Stream(..) | Destination::Spool(_) => Ok(()),
            Destination::Files(files) => files.finish().map_err(|source| error(&self.name, source)),
        }
    }

    /// Writes what waits for the last time.
    fn end(&mut self) -> io::Result<()> {
        if let Destination::Spool(spool) = &mut self.to {
            // There is time now. What this finds wrong, the end of the spool finds, too.
            let settled = spool.settle();
            self.send_raw()?;
            let Destination::Spool(spool) = &mut self.to else { return settled };
            return spool.finish().and(settled);
        }
        self.send_raw()?;
        self.end_empty_file()
    }

    fn with_files(&mut self, act: impl FnOnce(&mut Files) -> io::Result<()>) -> Result<(), Error> {
        let Destination::Files(files) = &mut self.to else { return Ok(()) };
        match act(files) {
            // The next start finds what was left undone.
            Err(_) if self.patient => Ok(()),
            outcome => outcome.map_err(|source| error(&self.name, source)),
        }
    }

    fn try_again(&mut self) -> Result<(), Error> {
        if self.failing.is_none() {
            return Ok(());
        }
        self.settle();
        self.failing = None;
        self.send()
    }

    /// Writes all lines that wait; those that could not be written go on waiting.
    fn send(&mut self) -> Result<(), Error> {
        self.settle();
        if self.failing.is_none() {
            match self.send_raw() {
                Ok(()) => return Ok(()),
                Err(refused) if self.patient && refused.kind() != ErrorKind::BrokenPipe => {
                    self.failing = Some(reason(&refused));
                }
                Err(source) => return Err(self.error(source)),
            }
        }
        // Once records were dropped, the line that tells of them comes before any others.
        if self.lines.len() >= self.portion || !self.gaps.is_empty() {
            self.kept = Some((self.lines.len(), self.waiting));
        }
        Ok(())
    }

    /// Drops what came while there was no room for it.
    fn settle(&mut self) {
        let (Some((bytes, records)), Some(reason)) = (self.kept.take(), self.failing) else { return };
        let dropped = self.waiting - records;
        self.lines.truncate(bytes);
        self.waiting = records;
        if dropped > 0 {
            *self.counts.dropped.entry(reason).or_default() += dropped;
            if self.tells_gaps {
                *self.gaps.entry(reason).or_default() += dropped;
            }
        }
    }

    fn send_raw(&mut self) -> io::Result<()> {
        if let Destination::Files(files) = &mut self.to {
            files.look_for_deleted();
        }
        while self.has_news()? {
            self.begin_file()?;
            let portion = match (&self.to, &self.packer) {
                (Destination::Files(files), Packer::None) => files.portion(&self.lines).len(),
                _ => self.lines.len(),
            };
            let (sent, outcome) = if portion > 0 { self.put(portion) } else { (0, Ok(())) };
            self.note_sent(sent);
            outcome?;
            if let Destination::Files(files) = &mut self.to {
                files.close_if_large(portion == 0 && !self.lines.is_empty())?;
            }
        }
        Ok(())
    }

    /// Puts an empty frame into a compressed file of a replay that has no records: without one it would be none.
    fn end_empty_file(&mut self) -> io::Result<()> {
        match &self.to {
            Destination::Files(files) if !self.patient && files.is_open() && files.is_empty() => {}
            _ => return Ok(()),
        }
        match self.packer.pack(&[])? {
            Some(frame) => self.to.write_header(&frame),
            None => Ok(()),
        }
    }

    /// Takes the first bytes out of the buffer, and counts the records in them.
    fn note_sent(&mut self, bytes: usize) {
        let records = match bytes == self.lines.len() {
            true => {
                self.told = 0;
                self.waiting
            }
            false => {
                let lines = newlines(self.lines.get(..bytes).unwrap_or_default());
                let told = lines.min(self.told);
                self.told -= told;
                (lines - told).min(self.waiting)
            }
        };
        self.lines.drain(..bytes);
        self.waiting -= records;
        self.written += records;
    }

    /// Tells whether there is anything to write.
    fn has_news(&mut self) -> io::Result<bool> {
        if self.lines.is_empty() && !self.gaps.is_empty() {
            self.tell_of_gaps()?;
        }
        let is_open = match &self.to {
            Destination::Stream(..) | Destination::Spool(_) => true,
            Destination::Files(files) => files.is_open(),
        };
        Ok(!self.lines.is_empty() || (is_open && self.to.is_empty() && !self.header.is_empty()))
    }

    /// Tells of what was dropped: by lines of its own, or by numbers that a spool passes over.
    fn tell_of_gaps(&mut self) -> io::Result<()> {
        if let Destination::Spool(spool) = &mut self.to {
            while let Some((reason, records)) = self.gaps.first_key_value() {
                spool.skip(GapReason::of_name(reason), *records)?;
                self.gaps.pop_first();
            }
            return Ok(());
        }
        self.lines.extend_from_slice(&gap_lines(&self.gaps, self.now));
        self.told = self.gaps.len() as u64;
        self.gaps.clear();
        Ok(())
    }

    /// Opens the file that is due and writes its header.
    fn begin_file(&mut self) -> io::Result<()> {
        if let Destination::Files(files) = &mut self.to {
            files.ready()?;
        }
        if self.to.is_empty() && !self.header.is_empty() {
            match self.packer.pack(&self.header)? {
                Some(frame) => self.to.write_header(&frame)?,
                None => self.to.write_header(&self.header)?,
            }
        }
        Ok(())
    }

    /// Writes the first lines; returns how many bytes of them are out.
    fn put(&mut self, portion: usize) -> (usize, io::Result<()>) {
        let lines = self.lines.get(..portion).unwrap_or_default();
        match self.packer.pack(lines) {
            Ok(None) => self.to.write(lines, false),
            Ok(Some(frame)) => {
                self.last_frame = Some(Instant::now());
                match self.to.write(&frame, true) {
                    (_, Ok(())) => (portion, Ok(())),
                    (_, refused) => (0, refused),
                }
            }
            Err(error) => (0, Err(error)),
        }
    }
}

fn error(name: &str, source: io::Error) -> Error {
    Error::Output { name: name.to_owned(), source }
}

/// Returns what records are counted under that find no room because of this.
fn reason(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "disk_full",
        _ => "unwritable",
    }
}

/// One JSON line for each reason.
fn gap_lines(gaps: &BTreeMap<&'static str, u64>, now: Option<Timestamp>) -> Vec<u8> {
    let mut lines = String::new();
    for (reason, records) in gaps {
        let timestamp = now.unwrap_or_default();
        lines.push_str(&format!(
            "{{\"type\":\"gap\",\"timestamp\":\"{timestamp}\",\"reason\":\"{reason}\",\"records\":{records}}}\n"
        ));
    }
    lines.into_bytes()
}

fn newlines(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// How long flushes of compressed lines wait for one another.
const FRAME_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
