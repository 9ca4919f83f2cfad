//! Recordings and snapshots of sockets as they are read back: a line at a time, and no more than memory has room for.
//! Whoever can write such a file could otherwise have all memory taken, by a small one that is compressed.

mod rows;

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;

use crate::error::Error;
use crate::field::shortened;
use crate::host::Process;

pub(super) use rows::Rows;

/// Why a file cannot be read on.
pub(super) enum Failure {
    Read(io::Error),
    Damaged { offset: u64, what: String },
}

impl Failure {
    pub(super) fn of(self, name: &str) -> Error {
        let name = name.to_owned();
        match self {
            Failure::Read(source) => Error::Input { name, source },
            Failure::Damaged { offset, what } => Error::Damaged { name, offset, what },
        }
    }
}

/// Looks at the first bytes and unpacks what is compressed.
pub(super) fn unpacked(mut file: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(file)?))
        }
        _ => Box::new(file),
    })
}

/// A place in a file: bytes from its beginning, and the line, counted from 1 as editors do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) offset: u64,
    pub(super) line: u64,
}

impl Spot {
    pub(super) const START: Spot = Spot { offset: 0, line: 1 };

    pub(super) fn damaged(self, what: &str) -> Failure {
        let what = format!("line {}: {}", self.line, shortened(what, LONGEST_WHAT));
        Failure::Damaged { offset: self.offset, what }
    }

    pub(super) fn broken(self, error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::UnexpectedEof
            | ErrorKind::Other => self.damaged(&error.to_string()),
            _ => Failure::Read(error),
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        self.line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

/// The lines of a file that are not empty.
pub(super) struct Lines<R> {
    from: R,
    line: Vec<u8>,
    /// Where the line begins.
    start: Spot,
    /// Behind its end.
    end: Spot,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Lines { from, line: Vec::new(), start: Spot::START, end: Spot::START }
    }

    /// Reads the next line and returns it without its end; none at the end of the file.
    ///
    /// # Errors
    /// [`Failure`] for what cannot be read, and for a line that is too long.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        while self.read()? && self.line.trim_ascii().is_empty() {}
        Ok(Some(self.line.trim_ascii_end()).filter(|line| !line.is_empty()))
    }

    /// Returns where the last line begins.
    pub(super) fn spot(&self) -> Spot {
        self.start
    }

    /// Returns the place behind the last line.
    pub(super) fn end(&self) -> Spot {
        self.end
    }

    /// Reads a line, if there is one, and passes over those before it that have nothing in them.
    fn read(&mut self) -> Result<bool, Failure> {
        self.line.clear();
        loop {
            let next = self.from.fill_buf().map_err(|error| self.end.broken(error))?;
            let blank = next.iter().take_while(|byte| **byte == b'\n').count();
            if blank == 0 {
                break;
            }
            self.end.pass(next.split_at(blank).0);
            self.from.consume(blank);
        }
        self.start = self.end;
        let mut bounded = self.from.by_ref().take(LONGEST_LINE as u64 + 1);
        bounded.read_until(b'\n', &mut self.line).map_err(|error| self.start.broken(error))?;
        if self.line.len() > LONGEST_LINE && !self.line.ends_with(b"\n") {
            return Err(self.start.broken(too_long()));
        }
        self.end.pass(&self.line);
        Ok(!self.line.is_empty())
    }
}

/// What is kept of a file: its records, and each process once however many sockets it has.
pub(super) struct Kept<T> {
    records: Vec<T>,
    processes: HashSet<Arc<Process>>,
    bytes: usize,
    most: usize,
}

impl<T> Kept<T> {
    pub(super) fn within(most: usize) -> Self {
        Kept { records: Vec::new(), processes: HashSet::new(), bytes: 0, most }
    }

    /// Puts the one that is known already in place of a process that is the same.
    pub(super) fn share(&mut self, process: &mut Arc<Process>) {
        if let Some(known) = self.processes.get(process) {
            process.clone_from(known);
            return;
        }
        let Process { name, exe, args, parent_name, user, container_id, .. } = process.as_ref();
        let named = [exe, parent_name, user, container_id].into_iter().flatten();
        let texts = named.chain([name]).chain(args).map(|text| bytes_of(text));
        self.bytes += size_of::<Process>() + FOR_AN_ALLOCATION + texts.sum::<usize>();
        self.processes.insert(process.clone());
    }

    /// Keeps a record; its own texts take so many bytes.
    ///
    /// # Errors
    /// [`Failure`] where memory has no room for it.
    pub(super) fn push(&mut self, record: T, texts: usize, spot: Spot) -> Result<(), Failure> {
        self.bytes += size_of::<T>() + texts;
        if self.bytes > self.most {
            return Err(spot.damaged(&format!("up to here it takes more than {} bytes of memory", self.most)));
        }
        self.records.push(record);
        Ok(())
    }

    pub(super) fn records(self) -> Vec<T> {
        self.records
    }
}

/// The most memory that the records of a file may take.
pub(super) const MOST: usize = 1 << 30;

/// The longest line that is read, and the longest row of CSV.
const LONGEST_LINE: usize = 1 << 20;

/// The most characters of what is wrong with a line, since the line may be quoted.
const LONGEST_WHAT: usize = 200;

/// What a text takes besides its bytes, and a process besides its size, as allocations go.
const FOR_AN_ALLOCATION: usize = 40;

/// Returns what a text takes.
pub(super) fn bytes_of(text: &str) -> usize {
    text.len() + FOR_AN_ALLOCATION
}

fn too_long() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it is longer than {LONGEST_LINE} bytes"))
}

#[cfg(test)]
mod tests;
