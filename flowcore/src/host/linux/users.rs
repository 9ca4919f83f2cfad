//! Names of users, from a file as passwd(5) describes it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The users of a passwd file, read again when the file has changed.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    /// The file as it was when it was read: device, inode, size and time of change in nanoseconds.
    version: Option<[u64; 4]>,
    names: HashMap<u32, String>,
}

impl Users {
    pub(super) fn new(path: PathBuf) -> Self {
        Users { path, version: None, names: HashMap::new() }
    }

    /// Returns the name of a user, as the first line with that number says.
    pub(super) fn name(&mut self, uid: u32) -> Option<&str> {
        let about = fs::metadata(&self.path).ok().filter(|about| about.len() <= LARGEST);
        let version = about.map(|about| {
            let changed = about.mtime().wrapping_mul(1_000_000_000).wrapping_add(about.mtime_nsec());
            [about.dev(), about.ino(), about.size(), changed.cast_unsigned()]
        });
        if version != self.version {
            self.version = version;
            self.names = fs::read(&self.path).map(|text| names(&text)).unwrap_or_default();
        }
        self.names.get(&uid).map(String::as_str)
    }
}

fn names(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        // NAME:PASSWORD:UID:GID:…; a line with + or - is an order to look elsewhere.
        let mut fields = line.split(':');
        let (Some(name), _, Some(Ok(uid))) = (fields.next(), fields.next(), fields.next().map(str::parse))
        else {
            continue;
        };
        if !name.is_empty() && !name.starts_with(['+', '-', '#']) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// A file that is larger is not read.
const LARGEST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_holds() {
        let text = b"root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n\
                     +nis:x:7:7:::\nbroken\nalso:broken\nbad:x:minus:1::/:\n#c:x:9:9::/:\n";
        let names = names(text);
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&65534).map(String::as_str), Some("nobody"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        let mut users = Users::new(path.clone());
        assert_eq!(users.name(1000), None);
        fs::write(&path, "ann:x:1000:1000::/:\n").unwrap();
        assert_eq!(users.name(1000), Some("ann"));
        fs::write(&path, "anna:x:1000:1000::/:\n").unwrap();
        assert_eq!(users.name(1000), Some("anna"));
        fs::remove_file(&path).unwrap();
        assert_eq!(users.name(1000), None);
    }
}
