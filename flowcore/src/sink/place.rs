//! The files of a template in their folders: opened without following symbolic links, and listed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::template::{Form, Made, Template};
use crate::record::Column;
use crate::time::Timestamp;

/// What becomes of a file that is there when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// It must not be there.
    New,
    /// It is added to.
    Append,
    /// It is emptied by who opens it, once it is known that nobody else writes it.
    Empty,
    /// It has to be there; one that may not be written is opened for reading.
    Existing,
}

/// Who is to own what root makes: a user and a group.
pub(super) type Owner = Option<(u32, u32)>;

/// Opens the file at a path beneath a folder for reading and writing, and makes the folders between, unless the file has
/// to be there already.
///
/// Neither they nor the file may be symbolic links. Files are made with mode 0640, folders with 0750, and given to
/// their owner.
///
/// # Errors
/// What the system says; [`ErrorKind::AlreadyExists`] for a file that must not be there, and
/// [`ErrorKind::InvalidData`] where something else has its name.
pub(super) fn open_beneath(base: &Path, path: &Path, opening: Opening, owner: Owner) -> io::Result<File> {
    let mut folder = rustix::fs::open(base, FOLDER, Mode::empty())?;
    let mut names: Vec<&std::ffi::OsStr> = path.iter().collect();
    let file = names.pop().ok_or(ErrorKind::InvalidInput)?;
    for name in names {
        let made = match opening {
            Opening::Existing => Err(Errno::EXIST),
            _ => rustix::fs::mkdirat(&folder, name, FOLDER_MODE.into()),
        };
        // A link that is no folder is refused with ENOTDIR, as any other file.
        let inner = rustix::fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
        folder = match made {
            Ok(()) => give(inner?, &folder, owner)?,
            Err(Errno::EXIST) => inner?,
            Err(refused) => return Err(refused.into()),
        };
    }
    let open = |flags| rustix::fs::openat(&folder, file, flags | FILE, FILE_MODE.into());
    let (new, old) = (OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, OFlags::RDWR);
    let opened = match opening {
        Opening::Existing => match open(old) {
            Err(Errno::ACCESS) => open(OFlags::RDONLY),
            outcome => outcome,
        },
        _ => match open(new) {
            Ok(made) => return give(made, &folder, owner).map(File::from),
            Err(Errno::EXIST) if opening != Opening::New => open(old),
            outcome => outcome,
        },
    };
    match opened {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::LOOP) => Err(io::Error::new(ErrorKind::InvalidInput, LINK)),
        Err(Errno::EXIST) => Err(taken(&base.join(path))),
        Err(refused) => Err(refused.into()),
    }
}

/// Gives what was made to who goes on with it later. The group of a folder that hands its own on (setgid) stays.
fn give(made: OwnedFd, within: &OwnedFd, owner: Owner) -> io::Result<OwnedFd> {
    let Some((user, group)) = owner else { return Ok(made) };
    if rustix::fs::fstat(&made)?.st_uid != user {
        let hands_on = Mode::from_raw_mode(rustix::fs::fstat(within)?.st_mode).contains(Mode::SGID);
        std::os::unix::fs::fchown(&made, Some(user), Some(group).filter(|_| !hands_on))?;
    }
    Ok(made)
}

/// Opens the folders from the base down to that of a file: once they are on disk, so is its name.
///
/// # Errors
/// What the system says.
pub(super) fn folders(base: &Path, path: &Path) -> io::Result<Vec<File>> {
    let mut folder = rustix::fs::open(base, FOLDER, Mode::empty())?;
    let mut all = Vec::new();
    for name in path.parent().unwrap_or(Path::new("")) {
        let inner = rustix::fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        all.push(std::mem::replace(&mut folder, inner).into());
    }
    all.push(folder.into());
    Ok(all)
}

/// Waits until a disk has what is in a file, or the names in a folder.
///
/// # Errors
/// What the system says; that it cannot do so with folders is none.
pub(super) fn sync(file: &File) -> io::Result<()> {
    if !file.metadata()?.is_dir() {
        return file.sync_data();
    }
    match file.sync_all() {
        Err(unknown) if unknown.kind() == ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
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

/// Tells whether an open file is the one at a path; where one may not look, as long as it has a name at all.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        (Ok(open), Err(closed)) if closed.kind() == io::ErrorKind::PermissionDenied => open.nlink() > 0,
        _ => false,
    }
}

/// By what a file is known that may be added to.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// By its first line; and what is said of a file with another one.
    Head(String, &'static str),
    /// Any file of lines is added to.
    Lines,
}

/// Looks at a file before it is added to, then cuts off a last line without an end: what a killed run left.
///
/// # Errors
/// [`ErrorKind::InvalidData`] for a file that is another one, or has an end that this is not known to have left there;
/// nothing of it has changed then.
pub(super) fn go_on(mut file: &File, known: &Known) -> io::Result<()> {
    let refuse = |what| Err(io::Error::new(ErrorKind::InvalidData, what));
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    if let Known::Head(first, other) = known
        && first_line(file)? != *first
    {
        return refuse(*other);
    }
    let start = length.saturating_sub(LONGEST_LINE);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(LONGEST_LINE).read_to_end(&mut tail)?;
    let whole = whole_lines(&tail, tail.len());
    let cut_off = tail.get(whole..).unwrap_or_default();
    if cut_off.is_empty() {
        return Ok(());
    }
    let begins_here = whole > 0 || start == 0;
    if !begins_here || (matches!(known, Known::Lines) && !begins_like_a_record(cut_off)) {
        return refuse("ends in half a line that is no record, so nothing is added to it");
    }
    file.set_len(start + whole as u64)
}

/// Tells whether half a line is that of a JSON object whose first member is named like a column.
fn begins_like_a_record(line: &[u8]) -> bool {
    // Where the power failed, zeros may stand for what did not reach the disk.
    let end = line.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    let line = line.get(..end).unwrap_or_default();
    let opened = line.strip_prefix(b"{\"").or(b"{\"".starts_with(line).then_some(&[][..]));
    opened.is_some_and(|text| {
        let name = text.split(|&byte| byte == b'"').next().unwrap_or_default();
        let is_whole = name.len() < text.len();
        Column::all().iter().map(|column| column.field.name.as_bytes()).any(|column| match is_whole {
            true => column == name,
            false => column.starts_with(name),
        })
    })
}

/// Returns the first line of a file, without its end.
fn first_line(mut file: &File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(file).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned())
}

/// Returns the length of the whole lines among the first `written` bytes.
pub(super) fn whole_lines(lines: &[u8], written: usize) -> usize {
    let sent = lines.get(..written).unwrap_or_default();
    sent.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// Says what has a name that has to be free: only a plain file could be overwritten.
pub(super) fn taken(path: &Path) -> io::Error {
    let (kind, what) = match path.symlink_metadata() {
        Ok(there) if there.is_symlink() => (ErrorKind::InvalidData, LINK),
        Ok(there) if there.is_dir() => (ErrorKind::InvalidData, "is a folder"),
        _ => (ErrorKind::AlreadyExists, "exists already"),
    };
    io::Error::new(kind, what)
}

const LINK: &str = "is a symbolic link, which is not followed";

/// How far back the end of the last whole line is looked for.
const LONGEST_LINE: u64 = 1024 * 1024;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::APPEND.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

#[cfg(test)]
mod tests;
