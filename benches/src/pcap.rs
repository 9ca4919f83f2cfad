//! Capture files: the classic pcap format with microseconds, link type Ethernet.

use std::io::{self, Write};

use crate::traffic::Frame;

/// A capture file being written.
#[derive(Debug)]
pub struct Pcap<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Pcap<W> {
    /// Begins a file.
    pub fn new(out: W) -> Self {
        let mut buffer = Vec::with_capacity(FULL + LARGEST);
        for word in [0xA1B2_C3D4_u32, 2 | 4 << 16, 0, 0, LARGEST as u32, 1] {
            buffer.extend_from_slice(&word.to_le_bytes());
        }
        Pcap { out, buffer }
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// What the output answers.
    pub fn write(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let length = frame.bytes.len() as u32;
        let second = (frame.ts_ns / 1_000_000_000) as u32;
        let micros = (frame.ts_ns % 1_000_000_000 / 1000) as u32;
        for word in [second, micros, length, length] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        self.buffer.extend_from_slice(frame.bytes);
        if self.buffer.len() >= FULL {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Writes what is left and returns the output.
    ///
    /// # Errors
    /// What the output answers.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&self.buffer)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Bytes after which the buffer goes out.
const FULL: usize = 1 << 20;
/// The file's snapshot length.
const LARGEST: usize = 262_144;
