//! Small files of a few numbers that are replaced again and again, and of which one state is always whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A file with the last two states of `N` numbers, each with a count and a checksum.
///
/// A new state is written over the older of the two: what is cut short, by a kill or a loss of power, is the new one,
/// and the one before it is there still.
pub(super) struct Slots<const N: usize> {
    file: Arc<File>,
    /// How many states were written; the newest is in the slot of this parity.
    count: u64,
}

impl<const N: usize> Slots<N> {
    /// Opens a file, or makes it; returns the newest state in it, if there is one.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<[u64; N]>)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FOR_ITS_USER);
        let file = options.open(path)?;
        let newest = newest(&file);
        let count = newest.map_or(0, |(count, _)| count);
        Ok((Slots { file: Arc::new(file), count }, newest.map(|(_, values)| values)))
    }

    /// Opens as [`Slots::open`] does, and locks the file for this process; `what` is who holds such a lock.
    pub(super) fn lock(path: &Path, what: &str) -> io::Result<(Self, Option<[u64; N]>)> {
        let (slots, values) = Slots::open(path)?;
        match slots.file.try_lock() {
            Ok(()) => Ok((slots, values)),
            Err(std::fs::TryLockError::Error(refused)) => Err(refused),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("{} is held: another process is {what} this spool", path.display()),
            )),
        }
    }

    /// Reads the newest state of a file that somebody else may be writing.
    pub(super) fn peek(path: &Path) -> Option<[u64; N]> {
        let file = File::open(path).ok()?;
        // A state that was half written at the first look is whole at the second.
        newest(&file).max(newest(&file)).map(|(_, values)| values)
    }

    /// Reads the newest state again, which somebody else may have written.
    pub(super) fn read(&mut self) -> Option<[u64; N]> {
        // A state that was half written at the first look is whole at the second.
        let (count, values) = newest(&self.file).max(newest(&self.file))?;
        self.count = count;
        Some(values)
    }

    /// Tells whether this is the file of that name still: not one that was deleted or moved away.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        match path.metadata() {
            Ok(there) => {
                let here = self.file.metadata()?;
                Ok((there.dev(), there.ino()) == (here.dev(), here.ino()))
            }
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// Writes a new state.
    pub(super) fn write(&mut self, values: [u64; N]) -> io::Result<()> {
        let count = self.count.wrapping_add(1);
        let mut slot = Vec::with_capacity(SLOT);
        slot.extend(MAGIC);
        slot.extend((N as u64).to_le_bytes());
        slot.extend(count.to_le_bytes());
        values.iter().for_each(|value| slot.extend(value.to_le_bytes()));
        slot.extend(crc32fast::hash(&slot).to_le_bytes());
        self.file.write_all_at(&slot, place(count))?;
        self.count = count;
        Ok(())
    }

    /// Waits until the last state is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Returns the file, for others to sync.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

impl<const N: usize> Drop for Slots<N> {
    fn drop(&mut self) {
        // Who syncs the file may hold it for longer.
        _ = self.file.unlock();
    }
}

fn newest<const N: usize>(file: &File) -> Option<(u64, [u64; N])> {
    read(file, 0).max(read(file, 1))
}

fn read<const N: usize>(file: &File, parity: u64) -> Option<(u64, [u64; N])> {
    let mut slot = [0; SLOT];
    let length = MAGIC.len() + 16 + 8 * N + 4;
    let slot = slot.get_mut(..length)?;
    file.read_exact_at(slot, place(parity)).ok()?;
    let (before, sum) = slot.split_last_chunk::<4>()?;
    if crc32fast::hash(before) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut numbers = before.strip_prefix(&MAGIC)?.chunks_exact(8);
    let mut number = || numbers.next()?.try_into().ok().map(u64::from_le_bytes);
    if number()? != N as u64 {
        return None;
    }
    let count = number().filter(|count| count % 2 == parity && *count < u64::MAX / 2)?;
    let mut values = [0; N];
    for value in &mut values {
        *value = number()?;
    }
    Some((count, values))
}

/// Both slots in blocks of their own, so that a disk that fails while it writes one leaves the other.
fn place(count: u64) -> u64 {
    count % 2 * 4096
}

/// The mode of all files of a spool: what waits there is nobody else's business.
pub(super) const FOR_ITS_USER: u32 = 0o600;

/// More than a slot ever has.
const SLOT: usize = 128;

const MAGIC: [u8; 8] = *b"\xF1fcnote\n";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_newest_whole_state_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        assert_eq!(Slots::<2>::peek(&path), None);
        let (mut slots, before) = Slots::<2>::open(&path).unwrap();
        assert_eq!(before, None);
        for n in 1..=5 {
            slots.write([n, n * 10]).unwrap();
            assert_eq!(Slots::peek(&path), Some([n, n * 10]));
        }
        let whole = fs::read(&path).unwrap();
        for at in 4096..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(Slots::peek(&path), Some([4, 40]), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(Slots::peek(&path), Some([4, 40]), "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        let (mut slots, before) = Slots::<2>::open(&path).unwrap();
        assert_eq!(before, Some([5, 50]));
        slots.write([6, 60]).unwrap();
        assert_eq!(Slots::peek(&path), Some([6, 60]));
        assert_eq!(Slots::<3>::peek(&path), None);
    }

    #[test]
    fn two_cannot_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        let first = Slots::<1>::lock(&path, "writing").unwrap();
        let second = Slots::<1>::lock(&path, "writing").err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        assert!(second.to_string().ends_with("another process is writing this spool"), "{second}");
        drop(first);
        Slots::<1>::lock(&path, "writing").unwrap();
    }
}
