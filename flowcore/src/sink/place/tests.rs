use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn template(folder: &tempfile::TempDir, text: &str) -> Template {
    Template::parse(&format!("{}/{text}", folder.path().to_str().unwrap())).unwrap()
}

fn touch(folder: &tempfile::TempDir, names: &[&str]) {
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x\n").unwrap();
    }
}

#[test]
fn folders_are_made_and_modes_are_narrow() {
    let folder = folder();
    let path = Path::new("2026/02/a.jsonl");
    open_beneath(folder.path(), path, Opening::New, None).unwrap().write_all(b"1\n").unwrap();
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("2026/02/a.jsonl") & !0o640, 0);
    assert_eq!(mode("2026") & !0o750, 0);
    let again = open_beneath(folder.path(), path, Opening::New, None);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    std::os::unix::fs::symlink("a.jsonl", folder.path().join("2026/02/b.jsonl")).unwrap();
    for (path, what) in [("2026", "is a folder"), ("2026/02/b.jsonl", "is a symbolic link")] {
        let refused = open_beneath(folder.path(), Path::new(path), Opening::New, None).unwrap_err();
        assert!(refused.to_string().starts_with(what), "{path}: {refused}");
        assert_eq!(refused.kind(), ErrorKind::InvalidData, "nothing that --force could overwrite");
    }
    open_beneath(folder.path(), path, Opening::Append, None).unwrap().write_all(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(folder.path().join(path)).unwrap(), "1\n2\n");
    // It may be somebody else's: who opens it empties it later.
    open_beneath(folder.path(), path, Opening::Empty, None).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join(path)).unwrap(), "1\n2\n");
}

#[test]
fn what_has_to_be_there_is_not_made() {
    let folder = folder();
    for path in ["none", "no/such"] {
        let opened = open_beneath(folder.path(), Path::new(path), Opening::Existing, None);
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_made_is_given_to_its_owner_and_nothing_else() {
    let folder = folder();
    let ids = |path: &str| {
        let about = fs::metadata(folder.path().join(path)).unwrap();
        (about.uid(), about.gid())
    };
    touch(&folder, &["old/old.jsonl"]);
    let own = ids("old");
    // Only root can give files away.
    let owner = if own.0 == 0 { (65_534, 65_534) } else { own };
    let shared = fs::Permissions::from_mode(0o2_750);
    for path in ["new/new.jsonl", "old/old.jsonl", "old/new/new.jsonl"] {
        for opening in [Opening::Append, Opening::Existing, Opening::Empty] {
            open_beneath(folder.path(), Path::new(path), opening, Some(owner)).unwrap();
        }
    }
    for path in ["new", "new/new.jsonl", "old/new", "old/new/new.jsonl"] {
        assert_eq!(ids(path), owner, "{path}");
    }
    assert_eq!((ids("old"), ids("old/old.jsonl")), (own, own));
    fs::set_permissions(folder.path().join("old"), shared).unwrap();
    open_beneath(folder.path(), Path::new("old/x"), Opening::New, Some(owner)).unwrap();
    assert_eq!(ids("old/x"), (owner.0, own.1));
}

#[test]
fn the_folders_of_a_file_can_be_sent_to_disk() {
    let folder = folder();
    let path = Path::new("a/b/c.jsonl");
    let file = open_beneath(folder.path(), path, Opening::New, None).unwrap();
    let all = folders(folder.path(), path).unwrap();
    let expected = [folder.path().to_owned(), folder.path().join("a"), folder.path().join("a/b")];
    assert_eq!(all.len(), expected.len());
    assert!(all.iter().zip(&expected).all(|(folder, path)| is_at(folder, path)));
    all.iter().chain([&file]).for_each(|file| sync(file).unwrap());
}

#[test]
fn symbolic_links_are_not_followed() {
    let (folder, elsewhere) = (folder(), folder());
    touch(&elsewhere, &["secret"]);
    symlink(elsewhere.path().join("secret"), folder.path().join("file")).unwrap();
    symlink(elsewhere.path().join("none"), folder.path().join("dangling")).unwrap();
    symlink(elsewhere.path(), folder.path().join("2026")).unwrap();
    for path in ["file", "dangling", "2026/secret", "2026/new"] {
        for opening in [Opening::New, Opening::Append, Opening::Empty, Opening::Existing] {
            assert!(open_beneath(folder.path(), Path::new(path), opening, None).is_err(), "{path}");
        }
    }
    assert_eq!(fs::read_to_string(elsewhere.path().join("secret")).unwrap(), "x\n");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    assert!(list(&template(&folder, "%Y/secret")).unwrap().is_empty());
}

#[test]
fn only_own_names_are_listed() {
    let folder = folder();
    touch(&folder, &["2026/a-05.csv", "2026/a-05-2.csv.zst", "2026/b-05.csv", "x/a-05.csv", "a-05.csv"]);
    touch(&folder, &["2026/a-05.csv.d/x", "2025/a-13.csv.gz", "2025/a-12.csv.gz.part"]);
    symlink(folder.path().join("a-05.csv"), folder.path().join("2026/a-06.csv")).unwrap();
    fs::create_dir(folder.path().join("2026/a-07.csv")).unwrap();
    let template = template(&folder, "%Y/a-%m.csv");
    let mut found = list(&template).unwrap();
    found.sort_by_key(|found| found.order(&template));
    let names: Vec<_> = found.iter().map(|found| found.path.strip_prefix(folder.path()).unwrap()).collect();
    assert_eq!(names, ["2025/a-12.csv.gz.part", "2026/a-05.csv", "2026/a-05-2.csv.zst"].map(Path::new));
    assert_eq!(found[1].bytes, 2);
}

#[test]
fn the_highest_number_of_a_name() {
    let folder = folder();
    let hours = template(&folder, "%Y/f-%m%d-%H.jsonl");
    let time = Timestamp::parse("2026-02-09T04:05:06Z").unwrap();
    assert_eq!(highest(&hours, time).unwrap(), None);
    touch(&folder, &["2026/f-0209-05-7.jsonl", "2026/f-0209-04.jsonl"]);
    assert_eq!(highest(&hours, time).unwrap(), Some((1, true)));
    touch(&folder, &["2026/f-0209-04-3.jsonl.zst.part"]);
    assert_eq!(highest(&hours, time).unwrap(), Some((3, false)));
    touch(&folder, &["2026/f-0209-04-3.jsonl"]);
    assert_eq!(highest(&hours, time).unwrap(), Some((3, false)));
    touch(&folder, &["2026/f-0209-04-12.jsonl"]);
    assert_eq!(highest(&hours, time).unwrap(), Some((12, true)));
    let fixed = template(&folder, "2026/f-0209-05.jsonl");
    assert_eq!(highest(&fixed, time).unwrap(), Some((7, true)));
}

#[test]
fn what_was_cut_off_is_cut_away_and_nothing_else() {
    let folder = folder();
    let go_on = |text: &str, known: &Known| {
        let path = folder.path().join("x");
        fs::write(&path, text).unwrap();
        let file = open_beneath(folder.path(), Path::new("x"), Opening::Append, None).unwrap();
        let outcome = go_on(&file, known).map_err(|error| error.kind());
        (outcome, fs::read_to_string(&path).unwrap())
    };
    let cut = |text: &str, left: &str, known: &Known| {
        assert_eq!(go_on(text, known), (Ok(()), left.to_owned()), "{text}");
    };
    let refused = |text: &str, known: &Known| {
        assert_eq!(go_on(text, known), (Err(ErrorKind::InvalidData), text.to_owned()));
    };
    let head = Known::Head("first".to_owned(), "is another one");
    cut("first\nsecond\nthi", "first\nsecond\n", &head);
    cut("first", "", &head);
    cut("", "", &head);
    refused("other\nsecond\nthi", &head);
    refused("\nsecond\n", &head);
    refused("fir", &head);
    cut("any\nlines\n", "any\nlines\n", &Known::Lines);
    cut("", "", &Known::Lines);
    for record in
        ["{\"type\":\"flow\",\"flow_", "{\"src_ip\":\"1", "{\"src_i", "{\"", "{", "{\"ty\0\0", "\0\0"]
    {
        cut(record, "", &Known::Lines);
        cut(&format!("{{}}\n{record}"), "{}\n", &Known::Lines);
    }
    for other in ["no line", "{\"name\":\"x\"}", "{\"typed", "{ ", " ", "type"] {
        refused(other, &Known::Lines);
        refused(&format!("{{\"type\":\"flow\"}}\n{other}"), &Known::Lines);
    }
    let long = "x".repeat(1_500_000);
    refused(&format!("first\n{long}"), &head);
    refused(&format!("{{\"type\":\"{long}\n{{\"type\":\"{long}"), &Known::Lines);
}
