//! The files of a template in their folders: opened without following symbolic links, and listed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::template::{Form, Made, Template};
use crate::time::Timestamp;

/// What becomes of a file that is there when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// It must not be there.
    New,
    /// It is added to.
    Append,
    /// It is emptied.
    Empty,
}

/// Opens the file at a path beneath a folder for reading and writing, and makes the folders between.
///
/// Neither they nor the file may be symbolic links. Files are made with mode 0640, folders with 0750.
///
/// # Errors
/// What the system says; [`ErrorKind::AlreadyExists`] for a file that must not be there.
pub(super) fn open_beneath(base: &Path, path: &Path, opening: Opening) -> io::Result<File> {
    let folder_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(base, folder_flags, Mode::empty())?;
    let mut names: Vec<&std::ffi::OsStr> = path.iter().collect();
    let file = names.pop().ok_or(ErrorKind::InvalidInput)?;
    for name in names {
        match rustix::fs::mkdirat(&folder, name, FOLDER_MODE.into()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(refused) => return Err(refused.into()),
        }
        // A link that is no folder is refused with ENOTDIR, as any other file.
        folder = rustix::fs::openat(&folder, name, folder_flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    let mut flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match opening {
        Opening::New => flags |= OFlags::EXCL,
        Opening::Append => {}
        Opening::Empty => flags |= OFlags::TRUNC,
    }
    match rustix::fs::openat(&folder, file, flags, FILE_MODE.into()) {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::LOOP) => {
            Err(io::Error::new(ErrorKind::InvalidInput, "is a symbolic link, which is not followed"))
        }
        Err(Errno::EXIST) => Err(taken()),
        Err(refused) => Err(refused.into()),
    }
}

/// A file that a template can have made.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) made: Made,
    pub(super) bytes: u64,
    pub(super) modified: Timestamp,
}

impl Found {
    /// Returns a key by which files are in the order in which they were made.
    pub(super) fn order(&self, template: &Template) -> (Timestamp, u32) {
        let time = match self.made.time {
            Some(time) => time,
            None if template.has_time() => self.modified,
            None => Timestamp::EPOCH,
        };
        (time, self.made.number)
    }
}

/// Lists all files that a template can have made, in any order; symbolic links are not followed and no such files.
///
/// # Errors
/// What the system says of the base. What lies beneath and cannot be read is left out.
pub(super) fn list(template: &Template) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    walk(template, Path::new(""), 0, &mut found)?;
    Ok(found)
}

fn walk(template: &Template, beneath: &Path, depth: usize, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(template.base().join(beneath))?.flatten() {
        let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
        let path = beneath.join(&name);
        if depth < template.depth() {
            let is_ours = name.to_str().is_some_and(|name| template.makes_folder(depth, name));
            if kind.is_dir() && is_ours {
                // It may have gone, or may not be read: then nothing in it is known.
                _ = walk(template, &path, depth + 1, found);
            }
        } else if let (true, Some(made), Ok(about)) = (kind.is_file(), template.read(&path), entry.metadata())
        {
            let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |since| since.as_nanos() as i128);
            found.push(Found {
                path: template.base().join(path),
                made,
                bytes: about.len(),
                modified: Timestamp::from_wide_nanos(modified).0,
            });
        }
    }
    Ok(())
}

/// Returns the highest number that is taken for a time, whatever has it, and whether that is a plain file.
///
/// # Errors
/// What the system says of the folder; one that is not there has nothing in it.
pub(super) fn highest(template: &Template, time: Timestamp) -> io::Result<Option<(u32, bool)>> {
    let first = template.name(time, 1);
    let beneath = first.parent().unwrap_or(Path::new(""));
    let entries = match fs::read_dir(template.base().join(beneath)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        outcome => outcome?,
    };
    let taken = entries.flatten().filter_map(|entry| {
        let path = beneath.join(entry.file_name());
        let made = template.read(&path)?;
        let name = template.name(time, made.number);
        let behind = path.to_str()?.strip_prefix(name.to_str()?)?;
        (behind.is_empty() || behind.starts_with('.')).then_some((made.number, made.form == Form::Plain))
    });
    // A number that is taken twice is that of a file being compressed: not one to add to.
    Ok(taken.max_by_key(|&(number, is_plain)| (number, !is_plain)))
}

/// Tells whether an open file is the one at a path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Cuts off a last line without an end: what a killed run left.
pub(super) fn cut_to_whole_line(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LONGEST_LINE);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(LONGEST_LINE).read_to_end(&mut tail)?;
    let whole = whole_lines(&tail, tail.len());
    if whole == 0 && length > 0 && !(start == 0 && tail.starts_with(RECORD)) {
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

/// Returns the first line of a file, without its end; none where it is empty.
pub(super) fn first_line(mut file: &File) -> io::Result<Option<String>> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(file).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
    Ok(Some(line).filter(|line| !line.is_empty()))
}

/// Returns the length of the whole lines among the first `written` bytes.
pub(super) fn whole_lines(lines: &[u8], written: usize) -> usize {
    let sent = lines.get(..written).unwrap_or_default();
    sent.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

pub(super) fn taken() -> io::Error {
    io::Error::new(ErrorKind::AlreadyExists, "exists already")
}

/// How far back the end of the last whole line is looked for.
const LONGEST_LINE: u64 = 1024 * 1024;

/// How a record begins that may have been cut off before its end.
const RECORD: &[u8] = b"{\"type\":\"";

const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

#[cfg(test)]
mod tests;
