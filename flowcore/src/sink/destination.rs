//! Where bytes go: a stream that has no name of its own, or files.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::FileOptions;
use super::files::Files;
use super::packer::{Compression, split_compression};
use super::place::{Known, whole_lines};
use crate::error::Error;
use crate::spool::Spool;

/// Where bytes go.
pub(super) enum Destination {
    /// Standard output, a device, a named pipe; and whether anything was written to it.
    Stream(File, bool),
    Files(Box<Files>),
    /// Lines that wait on disk for a server.
    Spool(Box<Spool>),
}

impl Destination {
    /// Opens a destination by its name; tells how it is to be compressed.
    pub(super) fn open(
        name: &str,
        options: &FileOptions,
        known: Known,
    ) -> Result<(Self, Compression), Error> {
        let failed = |source| Error::Output { name: name.to_owned(), source };
        if name == "-" {
            let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
            return Ok((Destination::Stream(File::from(stdout), false), Compression::None));
        }
        if is_stream(name) {
            // A device or a named pipe: nothing to overwrite, nothing to rename.
            let file = OpenOptions::new().write(true).open(name).map_err(failed)?;
            return Ok((Destination::Stream(file, false), split_compression(name).1));
        }
        let files = Files::open(name, options, known)?;
        let compression = files.compression();
        Ok((Destination::Files(Box::new(files)), compression))
    }

    /// Tells whether what fails now may work later.
    pub(super) fn is_file(&self) -> bool {
        match self {
            Destination::Stream(file, _) => file.metadata().is_ok_and(|about| about.is_file()),
            Destination::Files(_) | Destination::Spool(_) => true,
        }
    }

    /// Tells whether nothing was written there yet.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Destination::Stream(_, begun) => !begun,
            Destination::Files(files) => files.is_empty(),
            // Its lines have no beginning.
            Destination::Spool(_) => false,
        }
    }

    /// Writes what stands before the records, all of it or nothing.
    pub(super) fn write_header(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Destination::Stream(..) | Destination::Spool(_) => self.write(bytes, true).1,
            Destination::Files(files) => files.write_header(bytes),
        }
    }

    /// Writes bytes, and returns how many are out: whole lines, or all or nothing of what has to stay together.
    pub(super) fn write(&mut self, bytes: &[u8], together: bool) -> (usize, io::Result<()>) {
        let (file, begun) = match self {
            Destination::Files(files) => return files.write(bytes, together),
            Destination::Spool(spool) => {
                return match spool.append(bytes) {
                    Ok(()) => (bytes.len(), Ok(())),
                    Err(refused) => (0, Err(refused)),
                };
            }
            Destination::Stream(file, begun) => (file, begun),
        };
        let (written, outcome) = write_counted(file, bytes);
        let whole = match &outcome {
            Ok(()) => written,
            Err(_) if together => 0,
            Err(_) => whole_lines(bytes, written),
        };
        take_back(file, written - whole);
        *begun |= whole > 0;
        (whole, outcome)
    }
}

/// Tells whether a destination is standard output, a device or a named pipe, or a symbolic link to one of these, as
/// `/dev/stdout` is.
pub(super) fn is_stream(name: &str) -> bool {
    name == "-" || Path::new(name).metadata().is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Returns how many bytes went out, and how it ended.
pub(super) fn write_counted(file: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_taken_back_out_of_a_file() {
        assert_eq!(whole_lines(b"one\ntwo\n", 6), 4);
        assert_eq!(whole_lines(b"one\ntwo\n", 8), 8);
        assert_eq!(whole_lines(b"one\n", 2), 0);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntw").unwrap();
        take_back(&mut file, 2);
        file.write_all(b"two\n").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "one\ntwo\n");
    }
}
