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
    open_beneath(folder.path(), path, Opening::New).unwrap().write_all(b"1\n").unwrap();
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("2026/02/a.jsonl") & !0o640, 0);
    assert_eq!(mode("2026") & !0o750, 0);
    let again = open_beneath(folder.path(), path, Opening::New);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    open_beneath(folder.path(), path, Opening::Append).unwrap().write_all(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(folder.path().join(path)).unwrap(), "1\n2\n");
    open_beneath(folder.path(), path, Opening::Empty).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join(path)).unwrap(), "");
}

#[test]
fn symbolic_links_are_not_followed() {
    let (folder, elsewhere) = (folder(), folder());
    touch(&elsewhere, &["secret"]);
    symlink(elsewhere.path().join("secret"), folder.path().join("file")).unwrap();
    symlink(elsewhere.path().join("none"), folder.path().join("dangling")).unwrap();
    symlink(elsewhere.path(), folder.path().join("2026")).unwrap();
    for path in ["file", "dangling", "2026/secret", "2026/new"] {
        for opening in [Opening::New, Opening::Append, Opening::Empty] {
            assert!(open_beneath(folder.path(), Path::new(path), opening).is_err(), "{path}");
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
    let cut = |text: &str| {
        let path = folder.path().join("x");
        fs::write(&path, text).unwrap();
        let file = open_beneath(folder.path(), Path::new("x"), Opening::Append).unwrap();
        let outcome = cut_to_whole_line(&file).map_err(|error| error.kind());
        let text = fs::read_to_string(&path).unwrap();
        let head = text.lines().next().map(|line| &line[..line.len().min(1 << 20)]);
        assert!(first_line(&file).unwrap().as_deref() == head);
        (outcome, text)
    };
    assert_eq!(cut("first\nsecond\nthi"), (Ok(()), "first\nsecond\n".to_owned()));
    assert_eq!(cut(""), (Ok(()), String::new()));
    assert_eq!(cut("no line"), (Err(ErrorKind::InvalidData), "no line".to_owned()));
    assert_eq!(cut("{\"type\":\"flow\",\"flow_"), (Ok(()), String::new()));
    let long = "x".repeat(1_500_000);
    assert_eq!(cut(&long).0, Err(ErrorKind::InvalidData));
    assert_eq!(cut(&format!("{long}\n{long}")).0, Err(ErrorKind::InvalidData));
}
