//! Bytes on their way out: whole lines only, to standard output or to a file, compressed or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;

use super::Existing;
use crate::error::Error;

/// A destination with the lines that wait for it.
///
/// Lines leave in one write(2) of 256 KiB or what is there at a flush. A compressed file is a row of whole frames
/// (gzip members, zstd frames) of whole lines: what reached the disk can be read, whatever happens later.
pub(super) struct Output {
    name: String,
    file: File,
    lines: Vec<u8>,
    packer: Packer,
    /// When the last compressed frame was written.
    last_frame: Option<Instant>,
    /// A name to give up for a better one at the end.
    rename: Option<(PathBuf, PathBuf)>,
    /// The first line of the file that is added to.
    head: Option<String>,
}

impl Output {
    /// Opens a destination: `-` or a file.
    pub(super) fn open(destination: &str, existing: Existing) -> Result<Self, Error> {
        Output::open_raw(destination, existing).map_err(|source| error(destination, source))
    }

    /// Returns the first line that the file had already, without its end; none in a new or empty file.
    pub(super) fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// Makes an [`Error::Output`] of this destination.
    pub(super) fn error(&self, source: io::Error) -> Error {
        error(&self.name, source)
    }

    /// Returns where the next line may be appended, `\n` included; sends off what fills the buffer before that.
    ///
    /// What is appended until the next call is either whole lines or taken back by the caller.
    #[inline]
    pub(super) fn room(&mut self) -> Result<&mut Vec<u8>, Error> {
        if self.lines.len() >= self.packer.portion() {
            self.send()?;
        }
        Ok(&mut self.lines)
    }

    /// Writes the lines that wait; compressed ones at most every 500 ms, since small frames compress badly.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        match self.last_frame {
            Some(last) if last.elapsed() < FRAME_INTERVAL => Ok(()),
            _ => self.send(),
        }
    }

    /// Returns how many lines wait.
    pub(super) fn waiting(&self) -> u64 {
        self.lines.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Writes all lines that wait and gives the file its name.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.send()?;
        match self.rename.take() {
            Some((part, whole)) => fs::rename(part, whole).map_err(|source| error(&self.name, source)),
            None => Ok(()),
        }
    }

    fn open_raw(destination: &str, existing: Existing) -> io::Result<Self> {
        let (_, compression) = split_compression(destination);
        let wanted = Path::new(destination);
        let mut output = Output {
            name: destination.to_owned(),
            file: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            lines: Vec::with_capacity(PLAIN_PORTION + PLAIN_PORTION / 4),
            packer: Packer::new(compression)?,
            last_frame: None,
            rename: None,
            head: None,
        };
        if destination == "-" {
            return Ok(output);
        }
        if fs::metadata(wanted).is_ok_and(|there| !there.is_file()) {
            // A device or a named pipe: nothing to overwrite, nothing to rename. A folder refuses by itself.
            output.file = OpenOptions::new().write(true).open(wanted)?;
        } else if compression == Compression::None {
            output.file = match existing {
                Existing::Refuse => create(wanted)?,
                Existing::Append => OpenOptions::new().read(true).append(true).create(true).open(wanted)?,
                Existing::Overwrite => File::create(wanted)?,
            };
            if existing == Existing::Append {
                cut_to_whole_line(&output.file)?;
                output.head = first_line(&output.file)?;
            }
        } else {
            let whole = match existing {
                Existing::Append => first_free(destination),
                _ => wanted.to_owned(),
            };
            if existing == Existing::Refuse && whole.exists() {
                return Err(taken());
            }
            let part = with_suffix(&whole, ".part");
            output.file = if existing == Existing::Overwrite { File::create(&part)? } else { create(&part)? };
            output.rename = Some((part, whole));
        }
        Ok(output)
    }

    /// Writes all lines that wait; those that could not be written go on waiting.
    fn send(&mut self) -> Result<(), Error> {
        if self.lines.is_empty() {
            return Ok(());
        }
        self.send_raw().map_err(|source| error(&self.name, source))
    }

    fn send_raw(&mut self) -> io::Result<()> {
        let Some(packed) = self.packer.pack(&self.lines)? else {
            let (written, outcome) = write_counted(&mut self.file, &self.lines);
            let whole = if outcome.is_ok() { written } else { whole_lines(&self.lines, written) };
            take_back(&mut self.file, written - whole);
            self.lines.drain(..whole);
            return outcome;
        };
        let (written, outcome) = write_counted(&mut self.file, &packed);
        match outcome {
            Ok(()) => self.lines.clear(),
            Err(_) => take_back(&mut self.file, written),
        }
        self.last_frame = Some(Instant::now());
        outcome
    }
}

/// How a file is compressed, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Splits a destination into what stands before `.gz` or `.zst`, and what that says.
pub(super) fn split_compression(destination: &str) -> (&str, Compression) {
    if let Some(name) = destination.strip_suffix(".gz") {
        (name, Compression::Gzip)
    } else if let Some(name) = destination.strip_suffix(".zst") {
        (name, Compression::Zstd)
    } else {
        (destination, Compression::None)
    }
}

/// Makes whole frames of whole lines.
enum Packer {
    None,
    Gzip,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Packer::None,
            Compression::Gzip => Packer::Gzip,
            Compression::Zstd => Packer::Zstd(zstd::bulk::Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }

    /// Returns how many bytes of lines are sent off at once.
    fn portion(&self) -> usize {
        match self {
            Packer::None => PLAIN_PORTION,
            Packer::Gzip | Packer::Zstd(_) => PACKED_PORTION,
        }
    }

    fn pack(&mut self, lines: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self {
            Packer::None => Ok(None),
            Packer::Gzip => {
                let mut member = GzEncoder::new(Vec::new(), flate2::Compression::default());
                member.write_all(lines)?;
                member.finish().map(Some)
            }
            Packer::Zstd(compressor) => compressor.compress(lines).map(Some),
        }
    }
}

fn error(name: &str, source: io::Error) -> Error {
    Error::Output { name: name.to_owned(), source }
}

fn taken() -> io::Error {
    io::Error::new(ErrorKind::AlreadyExists, "exists already")
}

fn create(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(refused) if refused.kind() == ErrorKind::AlreadyExists => Err(taken()),
        outcome => outcome,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns `flows.jsonl.zst`, else `flows-2.jsonl.zst` and so on: the first that is not there, nor its `.part`.
fn first_free(destination: &str) -> PathBuf {
    let (name, _) = split_compression(destination);
    let stem = [".jsonl", ".csv", ".log"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let ending = destination.strip_prefix(stem).unwrap_or_default();
    let mut path = PathBuf::from(destination);
    let mut number = 2;
    while path.exists() || with_suffix(&path, ".part").exists() {
        path = format!("{stem}-{number}{ending}").into();
        number += 1;
    }
    path
}

/// Returns how many bytes went out, and how it ended.
fn write_counted(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(again) if again.kind() == ErrorKind::Interrupted => {}
            Err(refused) => return (written, Err(refused)),
        }
    }
    (written, Ok(()))
}

/// Returns the length of the whole lines among the first `written` bytes.
fn whole_lines(lines: &[u8], written: usize) -> usize {
    let sent = lines.get(..written).unwrap_or_default();
    sent.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// Takes the last bytes back where that is possible: out of a file, not out of a pipe.
fn take_back(file: &mut File, bytes: usize) {
    if bytes > 0
        && let Ok(there) = file.metadata()
        && there.is_file()
    {
        _ = file.set_len(there.len().saturating_sub(bytes as u64));
        _ = file.seek(SeekFrom::End(0));
    }
}

/// Cuts off a last line without an end: what a killed run left.
fn cut_to_whole_line(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LONGEST_LINE);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(LONGEST_LINE).read_to_end(&mut tail)?;
    let whole = whole_lines(&tail, tail.len());
    if whole == 0 && length > 0 {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "does not end in a whole line, so nothing is added to it",
        ));
    }
    if whole < tail.len() {
        file.set_len(start + whole as u64)?;
    }
    Ok(())
}

fn first_line(mut file: &File) -> io::Result<Option<String>> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(file).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
    Ok(Some(line).filter(|line| !line.is_empty()))
}

/// Bytes of lines that are written at once.
const PLAIN_PORTION: usize = 256 * 1024;

/// Bytes of lines that are compressed at once: larger frames compress better.
const PACKED_PORTION: usize = 1024 * 1024;

/// How long flushes of compressed lines wait for one another.
const FRAME_INTERVAL: Duration = Duration::from_millis(500);

/// How far back the end of the last whole line is looked for.
const LONGEST_LINE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
