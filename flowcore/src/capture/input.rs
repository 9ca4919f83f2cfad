//! The bytes of one input: a file, standard input or any reader, unpacked if it is gzip or zstd.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::mem;
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zstd::stream::read::Decoder;

/// The bytes of an input as a capture file has them; compression is recognised at the first read.
pub(super) enum Stream {
    /// Nothing was read yet.
    Fresh(Raw),
    Plain(Raw),
    Gzip(Box<MultiGzDecoder<Raw>>),
    Zstd(Box<Decoder<'static, Raw>>),
    /// The decoder could not be made.
    Broken,
}

impl Stream {
    /// Returns how many bytes were read of the input as it lies on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        match self {
            Stream::Fresh(raw) | Stream::Plain(raw) => raw.total,
            Stream::Gzip(decoder) => decoder.get_ref().total,
            Stream::Zstd(decoder) => decoder.get_ref().total,
            Stream::Broken => 0,
        }
    }

    /// Says how long the next reads may wait altogether.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        match self {
            Stream::Fresh(raw) | Stream::Plain(raw) => raw.patience = patience,
            Stream::Gzip(decoder) => decoder.get_mut().patience = patience,
            Stream::Zstd(decoder) => decoder.get_mut().patience = patience,
            Stream::Broken => {}
        }
    }

    /// Returns the name of the compression, if there is one.
    pub(super) fn compression(&self) -> Option<&'static str> {
        match self {
            Stream::Gzip(_) => Some("gzip"),
            Stream::Zstd(_) => Some("zstd"),
            Stream::Fresh(_) | Stream::Plain(_) | Stream::Broken => None,
        }
    }

    /// Looks at the first bytes and chooses the decoder.
    fn recognise(&mut self) -> io::Result<()> {
        let Stream::Fresh(raw) = self else { return Ok(()) };
        let packed = match raw.magic()? {
            [0x1F, 0x8B, ..] => Packed::Gzip,
            // A zstd stream may begin with a skippable frame (RFC 8878, 3.1.2).
            [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => Packed::Zstd,
            _ => Packed::No,
        };
        let Stream::Fresh(raw) = mem::replace(self, Stream::Broken) else { return Ok(()) };
        *self = match packed {
            Packed::No => Stream::Plain(raw),
            Packed::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(raw))),
            Packed::Zstd => Stream::Zstd(Box::new(Decoder::with_buffer(raw)?)),
        };
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.recognise()?;
        match self {
            Stream::Fresh(raw) | Stream::Plain(raw) => raw.read(into),
            Stream::Gzip(decoder) => decoder.read(into),
            Stream::Zstd(decoder) => decoder.read(into),
            Stream::Broken => Ok(0),
        }
    }
}

enum Packed {
    No,
    Gzip,
    Zstd,
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
    /// Hands out a small piece at a time: a decoder that meets damage gives up what it unpacked in that
    /// call, and so loses little of what lies before the damage.
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
        let waiting = self.buffer.get(self.taken..).unwrap_or_default();
        Ok(waiting.get(..PIECE).unwrap_or(waiting))
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
/// Compressed bytes given to a decoder at a time.
const PIECE: usize = 512;
