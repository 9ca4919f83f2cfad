//! Which file is opened when one is due, and how: restarts, names that are taken.

use std::fs;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::super::Existing;
use super::super::packer::Compression;
use super::super::place::{Opening, go_on, highest, is_at, open_beneath, taken};
use super::super::template::PART;
use super::super::tidy::{Tidy, is_lockable, with};
use super::{Current, DAY, Files, NAMES_BETWEEN, Named};
use crate::time::Timestamp;

impl Files {
    /// Opens the file that is due.
    pub(super) fn open_due(&mut self) -> io::Result<Current> {
        let now = match self.now {
            Some(now) => now,
            None if self.needs_time() => {
                return Err(io::Error::new(ErrorKind::InvalidInput, "the time in its name is not known yet"));
            }
            None => Timestamp::EPOCH,
        };
        let time = self.start_of(now);
        if let Some(lost) = self.lost.take()
            && !self.is_over(lost.time, now)
        {
            // Everything above it may have gone as well.
            fs::create_dir_all(self.template.base())?;
            match self.open_named(&lost, Opening::Append) {
                // Somebody else has that name.
                Err(error) if is_taken(&error) => {}
                Err(error) => {
                    self.lost = Some(lost);
                    return Err(error);
                }
                opened => return opened,
            }
        }
        if self.begun && self.options.live {
            fs::create_dir_all(self.template.base())?;
        }
        let current = match self.options.existing {
            existing if self.is_fixed() => {
                let opening = match existing {
                    _ if self.begun => Opening::Append,
                    Existing::Refuse => Opening::New,
                    Existing::Append => Opening::Append,
                    Existing::Overwrite => Opening::Empty,
                };
                self.open_named(&Named { time, number: 1 }, opening)?
            }
            Existing::Append => self.open_next(time)?,
            existing => {
                self.forget_names(time);
                let last = self.numbers.entry(self.template.name(time, 1)).or_default();
                *last += 1;
                let named = Named { time, number: *last };
                let opening = if existing == Existing::Refuse { Opening::New } else { Opening::Empty };
                self.open_named(&named, opening)?
            }
        };
        self.begun = true;
        Ok(current)
    }

    /// Goes on with the newest file of a name after a restart, else takes the first number that is free.
    fn open_next(&mut self, time: Timestamp) -> io::Result<Current> {
        let highest = highest(&self.template, time)?;
        // Behind the last number there is they begin anew.
        let mut number = highest.and_then(|(number, _)| number.checked_add(1)).unwrap_or(1);
        if let Some((number, true)) = highest.filter(|_| !self.begun) {
            match self.open_named(&Named { time, number }, Opening::Append) {
                Ok(current) if self.goes_on(&current) => return Ok(current),
                Ok(_) => {}
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.open_named(&Named { time, number }, Opening::New) {
                Err(error) if is_taken(&error) => number = number.checked_add(1).ok_or(error)?,
                outcome => return outcome,
            }
        }
    }

    /// Forgets names that cannot come again, unless a live clock is set back by more than a day.
    fn forget_names(&mut self, now: Timestamp) {
        if !self.options.live || !self.numbers.len().is_multiple_of(NAMES_BETWEEN) {
            return;
        }
        let time_of = |name: &Path| self.template.read(name).and_then(|made| made.time);
        self.numbers.retain(|name, _| time_of(name).is_none_or(|time| now.nanos_since(time) < DAY));
    }

    /// Tells whether a file that a run before has left belongs to the present period and has room.
    fn goes_on(&self, current: &Current) -> bool {
        let has_room = self.size().is_none_or(|most| current.bytes < most);
        let modified = current.file.metadata().and_then(|about| about.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let is_of_it = self.every().is_none()
            || since
                .is_some_and(|since| since.as_nanos() as i128 >= i128::from(current.named.time.as_nanos()));
        has_room && is_of_it
    }

    /// Returns where a whole file lies.
    pub(super) fn path_of(&self, named: &Named) -> PathBuf {
        self.template.base().join(self.template.name(named.time, named.number))
    }

    fn open_named(&self, named: &Named, opening: Opening) -> io::Result<Current> {
        let is_packed = self.template.compression() != Compression::None;
        let mut path = self.path_of(named);
        if is_packed {
            if self.options.existing != Existing::Overwrite && path.symlink_metadata().is_ok() {
                return Err(taken(&path));
            }
            path = with(&path, PART);
        }
        let opening = match (is_packed, opening) {
            (true, Opening::Append) => Opening::New,
            _ => opening,
        };
        let beneath = path.strip_prefix(self.template.base()).unwrap_or(Path::new(""));
        let opening_alone = self.tidy.as_ref().map(Tidy::hold);
        let is_made = path.symlink_metadata().is_err();
        let opened = open_beneath(self.template.base(), beneath, opening, self.options.owner);
        let mut file = opened.map_err(|error| match error.kind() {
            // It is not the name that was asked for.
            ErrorKind::AlreadyExists | ErrorKind::InvalidData if is_packed => {
                io::Error::new(error.kind(), format!("{} {error}", path.display()))
            }
            _ => error,
        })?;
        if self.tidy.is_some() && !(is_lockable(&file) && is_at(&file, &path)) {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "is in use by another process"));
        }
        drop(opening_alone);
        match opening {
            Opening::New | Opening::Existing => {}
            Opening::Append => go_on(&file, &self.known)?,
            Opening::Empty => file.set_len(0)?,
        }
        let bytes = file.seek(SeekFrom::End(0))?;
        let (file, named, has_records) = (Arc::new(file), named.clone(), bytes > 0);
        Ok(Current { file, path, named, bytes, has_records, is_made })
    }
}

/// Another name will do.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::ResourceBusy | ErrorKind::InvalidData)
}
