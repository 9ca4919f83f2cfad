//! The descriptors of a process: which of them stand for sockets, and whether they seem to have changed.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, RawDir, StatxFlags};
use rustix::io::Errno;
use rustix::path::{Arg, DecInt};

use super::processes::FOLDER;

/// The open folder of a process's descriptors.
#[derive(Debug)]
pub(super) struct Descriptors {
    folder: OwnedFd,
    /// What it looked like when it was opened.
    pub glance: Glance,
    /// Whether `glance` knows how many there are.
    is_counted: bool,
    /// Whether the process is this one: the open folder is one of its descriptors.
    is_own: bool,
}

impl Descriptors {
    /// Opens a process's folder; `is_counted` tells whether the kernel counts what is in it, `is_own` whether the process
    /// is this one.
    pub(super) fn open(proc: &OwnedFd, pid: u32, is_counted: bool, is_own: bool) -> io::Result<Descriptors> {
        let folder = rustix::fs::openat(proc, format!("{pid}/fd"), FOLDER, Mode::empty())?;
        let glance = glance(&folder, "", AtFlags::EMPTY_PATH)?;
        Ok(Descriptors { folder, glance, is_counted, is_own })
    }

    /// Returns what the process looks like once the folder is closed.
    pub(super) fn closed(&self) -> Glance {
        Glance { open: self.glance.open.saturating_sub(self.is_own.into()), ..self.glance }
    }

    /// Returns the inode of the socket that a descriptor stands for.
    pub(super) fn socket(&self, descriptor: u32) -> Option<u64> {
        target(&self.folder, descriptor).ok().flatten()
    }

    /// Hands over the sockets among them, by number; `goes_on` is asked now and then, and ends it by saying no. Returns
    /// whether it was not ended.
    ///
    /// Where they are counted, the numbers from 0 on are tried, since most processes have no gaps: to list a folder of
    /// descriptors costs the kernel a third of what it costs to read them.
    ///
    /// # Errors
    /// Those of the system; one of permission, too, where descriptors are listed, but none may be looked at.
    pub(super) fn sockets(
        &self,
        goes_on: impl Fn() -> bool,
        mut each: impl FnMut(u32, u64),
    ) -> io::Result<bool> {
        let (mut next, mut found) = (0, 0);
        if self.is_counted {
            let open = self.glance.open;
            while found < open && u64::from(next) - found <= open / GAPS + 1 {
                if next % PACE == PACE - 1 && !goes_on() {
                    return Ok(false);
                }
                let target = self.looked_at(next)?;
                found += u64::from(target != Err(Errno::NOENT));
                if let Ok(Some(inode)) = target {
                    each(next, inode);
                }
                next += 1;
            }
            // One that was opened meanwhile may have been counted in place of a later one.
            if found == open && glance(&self.folder, "", AtFlags::EMPTY_PATH)? == self.glance {
                return Ok(true);
            }
        }
        for (count, number) in (0..).zip(self.numbers()?.into_iter().filter(|number| *number >= next)) {
            if count % PACE == PACE - 1 && !goes_on() {
                return Ok(false);
            }
            if let Ok(Some(inode)) = self.looked_at(number)? {
                each(number, inode);
            }
        }
        Ok(true)
    }

    /// Looks at one; the kernel asks for each whether the process may be looked into, so that one says it of all.
    fn looked_at(&self, descriptor: u32) -> io::Result<Result<Option<u64>, Errno>> {
        match target(&self.folder, descriptor) {
            Err(Errno::ACCESS) => Err(Errno::ACCESS.into()),
            target => Ok(target),
        }
    }

    /// Returns the numbers of all descriptors, upwards.
    pub(super) fn numbers(&self) -> io::Result<Vec<u32>> {
        let expected = if self.is_counted { self.glance.open } else { u64::MAX };
        let mut numbers = numbers(&self.folder, expected)?;
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// What one look at `/proc/PID/fd` tells: two equal ones are most likely of one unchanged process, as long as
/// descriptors are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Glance {
    /// Inode and time of the directory, made anew for another process with this number; now and then for the same.
    pub instance: (u64, i64, u32),
    /// The open descriptors, where the kernel counts them.
    pub open: u64,
    /// The effective user; 0 where the process may not be looked into.
    pub uid: u32,
}

/// Returns the inode of the socket that a descriptor stands for; none for what is no socket.
fn target(folder: &OwnedFd, descriptor: u32) -> Result<Option<u64>, Errno> {
    socket(folder, DecInt::new(descriptor))
}

/// Returns the inode of the socket that a link in a folder of descriptors stands for.
pub(super) fn socket(folder: &OwnedFd, path: impl Arg) -> Result<Option<u64>, Errno> {
    let mut target = [0; 40];
    let length = rustix::fs::readlinkat_raw(folder, path, &mut target)?;
    // socket:[INODE]
    let inode = target.get(..length).and_then(|text| text.strip_prefix(b"socket:[")?.strip_suffix(b"]"));
    Ok(inode.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()))
}

/// Reads the entries of a folder whose names are numbers; after the expected number of them the kernel is not asked for
/// more.
pub(super) fn numbers(folder: &OwnedFd, expected: u64) -> io::Result<Vec<u32>> {
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut numbers = Vec::new();
    while !(entries.is_buffer_empty() && numbers.len() as u64 >= expected)
        && let Some(entry) = entries.next()
    {
        let entry = entry?;
        numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// Looks at a folder of descriptors, or at another file of a process.
pub(super) fn glance(folder: &OwnedFd, path: &str, flags: AtFlags) -> io::Result<Glance> {
    let wanted = StatxFlags::INO | StatxFlags::SIZE | StatxFlags::UID | StatxFlags::CTIME;
    let about = rustix::fs::statx(folder, path, flags, wanted)?;
    let instance = (about.stx_ino, about.stx_ctime.tv_sec, about.stx_ctime.tv_nsec);
    Ok(Glance { instance, open: about.stx_size, uid: about.stx_uid })
}

/// One in so many numbers may be missing before the descriptors are listed.
const GAPS: u64 = 8;
/// After so many descriptors the time is looked at.
const PACE: u32 = 64;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::processes::Proc;

    #[test]
    fn descriptors_are_found_by_number_and_by_list() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("stat"), "btime 5\n").unwrap();
        fs::create_dir_all(root.join("7/fd")).unwrap();
        let numbers = (0..40).chain([41, 43]).chain(1000..1003);
        let expected: Vec<(u32, u64)> = numbers.map(|number| (number, u64::from(number) + 5)).collect();
        for (number, inode) in &expected {
            symlink(format!("socket:[{inode}]"), root.join(format!("7/fd/{number}"))).unwrap();
        }
        symlink("/dev/null", root.join("7/fd/40")).unwrap();
        let proc = Proc::open(root).unwrap();
        // Counted right, too low and too high; not counted at all.
        for open in [46, 3, 5000, 0] {
            let mut descriptors = proc.descriptors(7).unwrap();
            descriptors.is_counted = open > 0;
            descriptors.glance.open = open;
            let mut found = Vec::new();
            assert!(descriptors.sockets(|| true, |number, inode| found.push((number, inode))).unwrap());
            assert_eq!(found, expected, "{open}");
        }
    }

    #[test]
    fn of_this_process_the_open_folder_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stat"), "btime 5\n").unwrap();
        let own = std::process::id();
        for (pid, open) in [(own, 4), (own + 1, 5)] {
            fs::create_dir_all(folder.path().join(format!("{pid}/fd"))).unwrap();
            let mut descriptors = Proc::open(folder.path()).unwrap().descriptors(pid).unwrap();
            descriptors.glance.open = 5;
            assert_eq!(descriptors.closed().open, open);
            assert_eq!(descriptors.closed().instance, descriptors.glance.instance);
        }
    }
}
