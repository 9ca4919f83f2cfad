//! The bytes of one input: a file, standard input or any reader, unpacked if it is gzip or zstd.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::mem;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::unpack::Unpack;

/// The bytes of an input as a capture file has them; compression is recognised at the first read.
pub(super) struct Stream {
    raw: Raw,
    is_recognised: bool,
    unpack: Option<Unpack>,
}

impl Stream {
    pub(super) fn new(raw: Raw) -> Self {
        Stream { raw, is_recognised: false, unpack: None }
    }

    /// Returns how many bytes were read of the input as it lies on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.raw.total
    }

    /// Says how long the next reads may wait altogether.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.raw.patience = patience;
    }

    /// Returns the name of the compression, if there is one.
    pub(super) fn compression(&self) -> Option<&'static str> {
        self.unpack.as_ref().map(Unpack::name)
    }

    /// Looks at the first bytes and chooses the decoder.
    fn recognise(&mut self) -> io::Result<()> {
        self.unpack = match self.raw.magic()? {
            [0x1F, 0x8B, ..] => Some(Unpack::gzip()),
            // A zstd stream may begin with a skippable frame (RFC 8878, 3.1.2).
            [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => Some(Unpack::zstd()?),
            _ => None,
        };
        self.is_recognised = true;
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.is_recognised {
            self.recognise()?;
        }
        match &mut self.unpack {
            Some(unpack) => unpack.read(&mut self.raw, into),
            None => self.raw.read(into),
        }
    }
}

/// An input as it lies on disk, or comes through a pipe.
///
/// Plain data goes straight to where it is wanted; the buffer serves the first look and the decoders.
pub(super) struct Raw {
    origin: Origin,
    buffer: Vec<u8>,
    taken: usize,
    total: u64,
    patience: Duration,
}

enum Origin {
    /// A regular file, which never waits.
    File(File),
    /// A pipe, a terminal, a socket.
    Pipe(File),
    Reader(Box<dyn Read + Send>),
}

impl Raw {
    /// Wraps an open file; `waits` says that it is no regular file.
    pub(super) fn file(file: File, waits: bool) -> Self {
        Raw::new(if waits { Origin::Pipe(file) } else { Origin::File(file) })
    }

    /// Wraps any reader.
    pub(super) fn reader(reader: Box<dyn Read + Send>) -> Self {
        Raw::new(Origin::Reader(reader))
    }

    fn new(origin: Origin) -> Self {
        Raw { origin, buffer: Vec::new(), taken: 0, total: 0, patience: Duration::ZERO }
    }

    /// Returns the first four bytes, fewer if there are no more, and leaves them to be read.
    fn magic(&mut self) -> io::Result<&[u8]> {
        while self.buffer.len() < MAGIC_LEN {
            let mut bytes = [0; MAGIC_LEN];
            let missing = MAGIC_LEN - self.buffer.len();
            let Some(into) = bytes.get_mut(..missing) else { break };
            let n = self.read_origin(into)?;
            if n == 0 {
                break;
            }
            self.buffer.extend(bytes.iter().take(n));
        }
        Ok(&self.buffer)
    }

    fn read_origin(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.origin {
                Origin::File(file) => file.read(into),
                Origin::Pipe(file) => {
                    wait(file, &mut self.patience)?;
                    file.read(into)
                }
                Origin::Reader(reader) => reader.read(into),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(n) => {
                    self.total = self.total.saturating_add(n as u64);
                    return Ok(n);
                }
            }
        }
    }
}

impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = self.buffer.get(self.taken..).unwrap_or_default();
        if waiting.is_empty() {
            return self.read_origin(into);
        }
        let n = waiting.len().min(into.len());
        for (to, from) in into.iter_mut().zip(waiting) {
            *to = *from;
        }
        self.taken += n;
        Ok(n)
    }
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken >= self.buffer.len() {
            let mut buffer = mem::take(&mut self.buffer);
            buffer.resize(PACKED_READ, 0);
            let read = self.read_origin(&mut buffer);
            buffer.truncate(*read.as_ref().unwrap_or(&0));
            self.buffer = buffer;
            self.taken = 0;
            read?;
        }
        Ok(self.buffer.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.taken = self.taken.saturating_add(n).min(self.buffer.len());
    }
}

/// Waits until `file` can be read; what it waited is taken off `patience`.
///
/// Fails with `WouldBlock` when nothing came, and when a signal did, so that the caller can look around.
fn wait(file: &File, patience: &mut Duration) -> io::Result<()> {
    let began = Instant::now();
    let ready = poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timespec(*patience)));
    *patience = patience.saturating_sub(began.elapsed());
    match ready {
        Ok(1..) => Ok(()),
        Ok(0) | Err(rustix::io::Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// Turns a duration into what poll(2) takes.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

const MAGIC_LEN: usize = 4;
/// Compressed bytes read at a time.
const PACKED_READ: usize = 64 * 1024;
