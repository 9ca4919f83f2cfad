//! Files that are read and files that are written: no file may be both, nor be written twice, whatever it is called.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use flowcore::Error;

/// Refuses names that lead to the same file, before anything is opened: it would be emptied, or its lines mixed.
///
/// Names are those of flags: `-` is standard input among what is read, and standard output among what is written.
///
/// # Errors
/// [`Error::Option`], which names both.
pub(crate) fn check<'a>(
    read: impl IntoIterator<Item = &'a str>,
    written: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let read: Vec<_> = read.into_iter().map(|name| (name, Place::of(name, "/dev/stdin"))).collect();
    let mut before: Vec<(&str, Place)> = Vec::new();
    for name in written {
        let Some(place) = Place::of(name, "/dev/stdout") else { continue };
        if let Some((other, _)) = read.iter().find(|(_, read)| read.as_ref() == Some(&place)) {
            return Err(Error::Option(format!("{name}: is the same file as {other}, which is read")));
        }
        // Records of several kinds may go to standard output.
        let twice = before.iter().find(|(other, known)| *known == place && (*other != "-" || name != "-"));
        if let Some((other, _)) = twice {
            return Err(Error::Option(format!(
                "{name}: is the same file as {other}, named twice as an output"
            )));
        }
        before.push((name, place));
    }
    Ok(())
}

/// Where a name leads to.
#[derive(PartialEq, Eq)]
enum Place {
    /// A file, by device and inode.
    File(u64, u64),
    /// A name in a folder, for a file that is not there, or for many.
    Name(u64, u64, OsString),
}

impl Place {
    /// Returns none for what is no file, as a device, and for what cannot be looked at.
    fn of(name: &str, stream: &str) -> Option<Place> {
        let path = Path::new(if name == "-" { stream } else { name });
        match fs::metadata(path) {
            Ok(there) => there.is_file().then(|| Place::File(there.dev(), there.ino())),
            Err(_) => {
                let (folder, beneath) = split(path);
                let folder = fs::metadata(folder).ok()?;
                Some(Place::Name(folder.dev(), folder.ino(), beneath.into_os_string()))
            }
        }
    }
}

/// Splits a path behind the last folder that has no placeholder in its name.
fn split(path: &Path) -> (PathBuf, PathBuf) {
    let last = path.components().count().saturating_sub(1);
    let is_fixed = |part: &Component<'_>| !part.as_os_str().as_encoded_bytes().contains(&b'%');
    let fixed = path.components().take(last).take_while(is_fixed).count();
    let folder: PathBuf = path.components().take(fixed).collect();
    let beneath = path.components().skip(fixed).collect();
    (if fixed == 0 { PathBuf::from(".") } else { folder }, beneath)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir(path("t")).unwrap();
        std::os::unix::fs::symlink("t", path("linked")).unwrap();
        fs::write(path("t/a"), "").unwrap();
        fs::hard_link(path("t/a"), path("b")).unwrap();
        std::os::unix::fs::symlink("b", path("c")).unwrap();
        for (one, other) in [
            ("t/a", "t/./a"),
            ("t/a", "linked/a"),
            ("t/a", "b"),
            ("b", "c"),
            ("t/new", "t/../t/new"),
            ("t/new", "linked/new"),
            ("t/%Y/f.csv", "linked//%Y/./f.csv"),
        ] {
            let (one, other) = (path(one), path(other));
            let told = |outcome: Result<(), Error>| outcome.unwrap_err().to_string();
            let text = told(check([one.as_str()], [other.as_str()]));
            assert_eq!(text, format!("{other}: is the same file as {one}, which is read"));
            let text = told(check([], [one.as_str(), &other]));
            assert_eq!(text, format!("{other}: is the same file as {one}, named twice as an output"));
            assert!(check([one.as_str(), &other], []).is_ok());
        }
        let apart =
            [path("t/a"), path("t/b"), path("a"), path("t/%Y"), path("t/%m"), path("no/a"), path("no/b")];
        assert!(check([], apart.iter().map(String::as_str)).is_ok());
        // Of devices nothing is lost, and standard output may be shared.
        assert!(check(["/dev/null"], ["/dev/null", "/dev/null", "-", "-"]).is_ok());
    }
}
