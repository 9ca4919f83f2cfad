//! Capture files: pcap and pcapng, plain or packed, one after the other.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use std::vec;

#[cfg(feature = "live")]
use super::filter::Filter;
use super::input::{Raw, Stream};
use super::pcap_file::PcapFile;
use super::pcapng::{self, PcapNg};
use super::window::Window;
use super::{Next, Source, SourceCounts};
use crate::error::Error;
use crate::packet::{Frame, LinkType};
use crate::time::Timestamp;

/// Reads capture files, one after the other.
///
/// pcap in both byte orders, with microseconds or nanoseconds, versions 2.0 to 2.4; pcapng with any number
/// of sections and interfaces; gzip and zstd of either. What an input is, its first bytes say, not its name.
/// A frame is lent from the one read buffer, whose size does not depend on the files.
pub struct FileSource {
    waiting: vec::IntoIter<(String, Raw)>,
    current: Option<Input>,
    /// The newest packet; it stays here so that it is not moved from hand to hand.
    found: Record,
    total_bytes: Option<u64>,
    counts: SourceCounts,
    /// The window of the last input, for its memory.
    spare: Option<Window>,
    #[cfg(feature = "live")]
    filter: Option<Filter>,
}

impl FileSource {
    /// Opens capture files, all of them before anything is read; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Input`] for the first that cannot be opened.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<FileSource, Error> {
        let mut inputs = Vec::with_capacity(paths.len());
        let mut total_bytes = Some(0u64);
        for path in paths {
            let path = path.as_ref();
            let name = path.display().to_string();
            let (raw, len) = open(path).map_err(|source| Error::Input { name: name.clone(), source })?;
            total_bytes = total_bytes.zip(len).map(|(sum, len)| sum.saturating_add(len));
            inputs.push((name, raw));
        }
        Ok(FileSource::of(inputs, total_bytes))
    }

    /// Reads one capture file from any stream of bytes; `name` stands in errors.
    pub fn from_reader(name: impl Into<String>, reader: impl Read + Send + 'static) -> FileSource {
        FileSource::of(vec![(name.into(), Raw::reader(Box::new(reader)))], None)
    }

    /// Lets only those frames through that match a tcpdump filter expression.
    ///
    /// # Errors
    /// [`Error::Filter`] if libpcap compiles the expression for none of the usual link types. That it
    /// cannot be compiled for a link type of the files shows when its first frame is read.
    #[cfg(feature = "live")]
    pub fn with_filter(mut self, expression: &str) -> Result<FileSource, Error> {
        self.filter = Some(Filter::new(expression)?);
        Ok(self)
    }

    /// Returns the bytes of all inputs on disk; `None` if one of them is no regular file.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    fn of(inputs: Vec<(String, Raw)>, total_bytes: Option<u64>) -> FileSource {
        FileSource {
            waiting: inputs.into_iter(),
            current: None,
            found: Record::default(),
            total_bytes,
            counts: SourceCounts::default(),
            spare: None,
            #[cfg(feature = "live")]
            filter: None,
        }
    }

    /// Makes the next input the current one; false if there is none.
    #[cold]
    fn begin_next(&mut self) -> bool {
        let Some((name, raw)) = self.waiting.next() else { return false };
        let mut window = Window::new(Stream::new(raw));
        if let Some(spare) = self.spare.take() {
            window.reuse(spare);
        }
        self.current = Some(Input { name, window, format: Format::Unknown });
        true
    }

    /// Puts the current input away.
    #[cold]
    fn finish_current(&mut self) -> Option<String> {
        let input = self.current.take()?;
        self.counts.file_bytes += input.window.stream().disk_bytes();
        self.spare = Some(input.window);
        Some(input.name)
    }

    /// Turns what stopped the current input into what the caller is told.
    #[cold]
    fn stopped(&mut self, fault: Fault) -> Result<Next<'_>, Error> {
        let (read, compression) = match &self.current {
            Some(input) => (input.window.bytes_read(), input.window.stream().compression()),
            None => (0, None),
        };
        if let Fault::Io(error) = &fault
            && error.kind() == io::ErrorKind::WouldBlock
        {
            return Ok(Next::Idle);
        }
        let name = self.finish_current().unwrap_or_default();
        Err(match (fault, compression) {
            (Fault::Damage { offset, what }, _) => Error::Damaged { name, offset, what },
            // What the system did not say, the decoder did.
            (Fault::Io(error), Some(format)) if error.raw_os_error().is_none() => {
                Error::Damaged { name, offset: read, what: format!("{format}: {error}") }
            }
            (Fault::Io(source), _) => Error::Input { name, source },
        })
    }

    #[cfg(feature = "live")]
    fn passes(&mut self) -> bool {
        let (Some(filter), Some(input)) = (&mut self.filter, &self.current) else { return true };
        let record = &self.found;
        let data = input.window.taken(record.at, record.len as usize);
        let passes = filter.passes(LinkType(record.link), data, record.wire_len);
        self.counts.filtered += u64::from(!passes);
        passes
    }

    /// Takes the next packet if that needs neither a read nor a filter: most packets of a pcap file.
    #[inline(always)]
    fn at_hand(&mut self) -> Option<Record> {
        #[cfg(feature = "live")]
        if self.filter.is_some() {
            return None;
        }
        match &mut self.current {
            Some(Input { window, format: Format::Pcap(file), .. }) => file.at_hand(window),
            _ => None,
        }
    }

    /// Returns the next packet, after a read if need be.
    #[inline(never)]
    fn find(&mut self, patience: Duration) -> Result<Next<'_>, Error> {
        loop {
            let Some(input) = &mut self.current else {
                if self.begin_next() {
                    continue;
                }
                #[cfg(feature = "live")]
                if let Some(misfit) = self.filter.as_mut().and_then(Filter::misfit) {
                    return Err(misfit);
                }
                return Ok(Next::End);
            };
            input.window.begin(patience);
            match input.next(&mut self.found) {
                Ok(true) => {
                    self.counts.times_clamped += u64::from(self.found.clamped);
                    #[cfg(feature = "live")]
                    if self.filter.is_some() && !self.passes() {
                        // The caller may have reasons to stop although nothing passes.
                        if self.counts.filtered.is_multiple_of(FILTERED_AT_ONCE) {
                            return Ok(Next::Idle);
                        }
                        continue;
                    }
                    break;
                }
                Ok(false) => {
                    self.finish_current();
                }
                Err(fault) => return self.stopped(fault),
            }
        }
        Ok(self.lend(&self.found))
    }

    /// Lends out a packet that was found.
    #[inline(always)]
    fn lend(&self, record: &Record) -> Next<'_> {
        let Some(input) = &self.current else { return Next::End };
        Next::Frame(Frame {
            data: input.window.taken(record.at, record.len as usize),
            time: record.has_time.then_some(record.time),
            wire_len: record.wire_len,
            link: LinkType(record.link),
            interface: record.interface.and_then(|index| input.interface_name(index)),
        })
    }
}

impl Source for FileSource {
    #[inline]
    fn next(&mut self, patience: Duration) -> Result<Next<'_>, Error> {
        match self.at_hand() {
            Some(record) => Ok(self.lend(&record)),
            None => self.find(patience),
        }
    }

    fn may_wait(&self) -> bool {
        self.total_bytes.is_none()
    }

    fn counts(&mut self) -> SourceCounts {
        let mut counts = self.counts;
        if let Some(input) = &self.current {
            counts.file_bytes += input.window.stream().disk_bytes();
        }
        counts
    }
}

/// How many frames may fail a filter one after the other before the caller is told.
#[cfg(feature = "live")]
const FILTERED_AT_ONCE: u64 = 4096;

/// A packet that was found: where it lies in the window, and what is known of it.
#[derive(Default)]
pub(super) struct Record {
    pub(super) at: usize,
    pub(super) len: u32,
    pub(super) wire_len: u32,
    pub(super) time: Timestamp,
    /// The file says when; else `time` means nothing.
    pub(super) has_time: bool,
    /// The time was outside what can be held.
    pub(super) clamped: bool,
    pub(super) link: u32,
    /// Its interface in the present section; pcap has none.
    pub(super) interface: Option<u32>,
}

/// Why no packet was found.
pub(super) enum Fault {
    Damage { offset: u64, what: String },
    Io(io::Error),
}

impl Fault {
    #[cold]
    pub(super) fn damage(offset: u64, what: impl Into<String>) -> Fault {
        Fault::Damage { offset, what: what.into() }
    }
}

impl From<io::Error> for Fault {
    #[cold]
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

/// Tells the end of a stream from damage: at the end nothing may be left.
#[cold]
pub(super) fn end_or_cut(window: &Window, what: &str) -> Result<bool, Fault> {
    if window.is_empty() { Ok(false) } else { Err(Fault::damage(window.offset(), what)) }
}

/// An input that is being read.
struct Input {
    name: String,
    window: Window,
    format: Format,
}

enum Format {
    Unknown,
    Pcap(PcapFile),
    PcapNg(PcapNg),
}

impl Input {
    #[inline]
    fn next(&mut self, found: &mut Record) -> Result<bool, Fault> {
        loop {
            match &mut self.format {
                Format::Pcap(file) => return file.next(&mut self.window, found),
                Format::PcapNg(file) => return file.next(&mut self.window, found),
                Format::Unknown => self.format = recognise(&mut self.window)?,
            }
        }
    }

    #[inline]
    fn interface_name(&self, index: u32) -> Option<&std::sync::Arc<str>> {
        match &self.format {
            Format::PcapNg(file) => file.interface_name(index),
            Format::Pcap(_) | Format::Unknown => None,
        }
    }
}

#[cold]
fn recognise(window: &mut Window) -> Result<Format, Fault> {
    let Some(magic) = window.peek(pcapng::SECTION.len())? else {
        return Err(Fault::damage(0, "shorter than the magic number of a capture file"));
    };
    if magic == pcapng::SECTION {
        return Ok(Format::PcapNg(PcapNg::new()));
    }
    match PcapFile::recognise(magic) {
        Some(magic) => Ok(Format::Pcap(PcapFile::open(magic, window)?)),
        None => Err(Fault::damage(0, format!("no capture file: begins with {magic:02x?}"))),
    }
}

/// Opens a path; also returns its length, if it is a regular file.
fn open(path: &Path) -> io::Result<(Raw, Option<u64>)> {
    let file = if path.as_os_str() == "-" {
        File::from(io::stdin().as_fd().try_clone_to_owned()?)
    } else {
        File::open(path)?
    };
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let len = about.is_file().then_some(about.len());
    Ok((Raw::file(file, len.is_none()), len))
}
