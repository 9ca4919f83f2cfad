//! The rows of a CSV file, one after the other: how long each is shows before a reader of CSV takes it.

use std::io::{self, BufRead, ErrorKind, Read};

use super::{Failure, LONGEST_LINE, Spot, too_long};

/// What a reader of CSV is given: no row before it is asked for, and no blank lines between them.
pub(in super::super) struct Rows<R> {
    from: R,
    row: Vec<u8>,
    /// How much of the row was taken.
    given: usize,
    /// Whether another row may be begun.
    is_asked: bool,
    start: Spot,
    end: Spot,
}

impl<R: BufRead> Rows<R> {
    /// Passes over a byte order mark, behind which the first row begins.
    pub(in super::super) fn new(mut from: R) -> Result<Self, Failure> {
        let mut end = Spot::START;
        if from.fill_buf().map_err(|error| end.broken(error))?.starts_with(MARK) {
            from.consume(MARK.len());
            end.pass(MARK);
        }
        Ok(Rows { from, row: Vec::new(), given: 0, is_asked: false, start: end, end })
    }

    /// Lets the next row be read.
    pub(in super::super) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// Returns where the last row begins.
    pub(in super::super) fn spot(&self) -> Spot {
        self.start
    }

    fn next(&mut self) -> io::Result<()> {
        self.row.clear();
        self.given = 0;
        let mut at = At::Start;
        while at != At::End {
            let next = self.from.fill_buf()?;
            if next.is_empty() {
                break;
            }
            let is_blank = |byte: &&u8| self.row.is_empty() && matches!(byte, b'\r' | b'\n');
            let blank = next.iter().take_while(is_blank).count();
            let (skipped, rest) = next.split_at(blank);
            let last = rest.iter().position(|byte| {
                at = at.behind(*byte);
                at == At::End
            });
            let part = last.and_then(|last| rest.get(..=last)).unwrap_or(rest);
            self.end.pass(skipped);
            if self.row.is_empty() {
                self.start = self.end;
            }
            self.end.pass(part);
            self.row.extend_from_slice(part);
            let taken = blank + part.len();
            self.from.consume(taken);
            if self.row.len() > LONGEST_LINE {
                return Err(too_long());
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Rows<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.row.len() {
            match self.from.fill_buf()? {
                [] => return Ok(0),
                _ if !self.is_asked => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "it goes on behind its end"));
                }
                _ => {}
            }
            self.is_asked = false;
            self.next()?;
        }
        let taken = self.row.get(self.given..).unwrap_or_default().read(into)?;
        self.given += taken;
        Ok(taken)
    }
}

/// Where in a row one is, as RFC 4180 has it; any of CR and LF ends one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of a row, or of a cell.
    Start,
    Cell,
    Quoted,
    /// Behind a quote in a quoted cell.
    Quote,
    End,
}

impl At {
    fn behind(self, byte: u8) -> At {
        match (self, byte) {
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) | (At::Start | At::Quote, b'"') => At::Quoted,
            (_, b'\r' | b'\n') => At::End,
            (_, b',') => At::Start,
            _ => At::Cell,
        }
    }
}

const MARK: &[u8] = b"\xef\xbb\xbf";
