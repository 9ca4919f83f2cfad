//! The part of an input that is in memory: one buffer, filled by large reads and lent out packet by packet.

use std::io::{self, Read};
use std::time::Duration;

use super::input::Stream;

/// A window that moves over a stream.
pub(super) struct Window {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the first byte of `buffer` lies in the stream.
    base: u64,
    /// Bytes to pass over before `start` means anything; then the window is empty.
    skip: u64,
    ended: bool,
    /// How long reads may wait.
    patience: Duration,
    /// How many bytes may be read until the next packet is asked for.
    allowed: usize,
}

impl Window {
    /// Makes an empty window at the beginning of a stream.
    pub(super) fn new(stream: Stream) -> Self {
        Window {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            base: 0,
            skip: 0,
            ended: false,
            patience: Duration::ZERO,
            allowed: 0,
        }
    }

    /// Takes note that a packet is asked for, and how long reads for it may wait. A long way without a packet is gone in
    /// parts: each ends with [`io::ErrorKind::WouldBlock`], so that the caller can look around.
    #[inline]
    pub(super) fn begin(&mut self, patience: Duration) {
        self.patience = patience;
        self.allowed = READ_AT_ONCE;
    }

    /// Returns the next `n` bytes (at least one) without taking them; `None` if the stream ends before.
    #[inline]
    pub(super) fn peek(&mut self, n: usize) -> io::Result<Option<&[u8]>> {
        Ok(if self.holds(n)? { self.buffer.get(self.start..self.start + n) } else { None })
    }

    /// Reads until the next `n` bytes (at least one) are there; false if the stream ends before.
    #[inline]
    pub(super) fn holds(&mut self, n: usize) -> io::Result<bool> {
        if self.end - self.start >= n { Ok(true) } else { self.fill(n) }
    }

    /// Returns the bytes that are there and not taken yet.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes `n` bytes that are there; returns where in the buffer they begin.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> usize {
        let at = self.start;
        debug_assert!(n <= self.end - at);
        self.start = at + n;
        at
    }

    /// Passes over `n` bytes, which need not be in memory at once.
    pub(super) fn skip(&mut self, n: u64) {
        self.skip = self.skip.saturating_add(n);
        self.pass_over();
    }

    /// Returns bytes that were taken; they stay until the next peek.
    #[inline]
    pub(super) fn taken(&self, at: usize, len: usize) -> &[u8] {
        self.buffer.get(at..at + len).unwrap_or_default()
    }

    /// Returns where in the stream the window begins.
    #[inline]
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Returns how many bytes of the stream were read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.base + self.end as u64
    }

    /// Tells whether the window is empty; at the end of the stream, whether all of it was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end && self.skip == 0
    }

    /// Returns the stream.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Takes over the memory of a window that is done.
    pub(super) fn reuse(&mut self, old: Window) {
        if old.buffer.len() <= BUFFER_LEN {
            self.buffer = old.buffer;
        }
    }

    /// Reads until `n` bytes are there; false if the stream ends before.
    #[cold]
    #[inline(never)]
    fn fill(&mut self, n: usize) -> io::Result<bool> {
        self.stream.set_patience(self.patience);
        loop {
            self.pass_over();
            if self.skip == 0 && self.end - self.start >= n {
                return Ok(true);
            }
            if self.ended {
                return Ok(false);
            }
            if self.allowed == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.start = 0;
            // A buffer that grows does it step by step as bytes really come, whatever a length field says.
            if self.buffer.len() == self.end || self.buffer.is_empty() {
                self.buffer.resize((self.end * 2).max(BUFFER_LEN), 0);
            }
            let into = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.stream.read(into)? {
                0 => self.ended = true,
                read => {
                    self.end += read;
                    self.allowed = self.allowed.saturating_sub(read);
                }
            }
        }
    }

    /// Takes what is to be skipped of what is there.
    fn pass_over(&mut self) {
        let here = self.skip.min((self.end - self.start) as u64);
        self.start += here as usize;
        self.skip -= here;
    }
}

/// Length of the buffer: small enough for a processor's cache, large enough that a read costs little per packet.
/// Short where fuzz targets are to meet its end.
pub(super) const BUFFER_LEN: usize = if cfg!(fuzzing) { 512 } else { 256 * 1024 };

/// How much may be read for one packet at once.
const READ_AT_ONCE: usize = 16 * BUFFER_LEN;
