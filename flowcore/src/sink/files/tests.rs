use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::Duration;

use std::fs::File;

use super::super::{Existing, Keep, Rotate};
use super::*;

/// Opens files in a folder.
struct Bench {
    folder: tempfile::TempDir,
    options: FileOptions,
}

impl Bench {
    fn new(rotate: &str) -> Self {
        let rotate = Some(rotate).filter(|text| !text.is_empty()).map(|text| text.parse::<Rotate>().unwrap());
        let options =
            FileOptions { existing: Existing::Append, live: true, rotate, ..FileOptions::default() };
        Bench { folder: tempfile::tempdir().unwrap(), options }
    }

    fn open(&self, name: &str, now: &str) -> Result<Files, Error> {
        let options = FileOptions { now: Some(at(now)), ..self.options.clone() };
        Files::open(&format!("{}/{name}", self.folder.path().to_str().unwrap()), &options, Known::Lines)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All files with what is in them.
    fn all(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.folder.path()).unwrap().to_str().unwrap().to_owned();
                    all.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
                }
            }
        }
        all
    }
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse(&format!("2026-02-09T{time}Z")).unwrap()
}

fn write(files: &mut Files, text: &str) {
    files.ready().unwrap();
    let (written, outcome) = files.write(text.as_bytes(), false);
    outcome.unwrap();
    assert_eq!(written, text.len());
}

fn map(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
}

#[test]
fn hours_begin_on_the_hour() {
    let bench = Bench::new("1h");
    let mut files = bench.open("%Y/f-%d-%H%M.jsonl", "15:20:00").unwrap();
    for (time, text) in [("15:59:59.9", "1\n"), ("16:00:00", "2\n"), ("16:30:00", "3\n"), ("19:00:01", "4\n")]
    {
        files.advance(at(time)).unwrap();
        write(&mut files, text);
    }
    files.finish().unwrap();
    let all = [
        ("2026/f-09-1500.jsonl", "1\n"),
        ("2026/f-09-1600.jsonl", "2\n3\n"),
        ("2026/f-09-1900.jsonl", "4\n"),
    ];
    assert_eq!(bench.all(), map(&all));
}

#[test]
fn a_clock_that_is_set_back_a_little_begins_nothing() {
    let bench = Bench::new("1h");
    let mut files = bench.open("f-%H.jsonl", "15:00:00").unwrap();
    for (time, text) in [("14:59:59", "1\n"), ("15:00:00", "2\n"), ("12:00:00", "3\n")] {
        files.advance(at(time)).unwrap();
        write(&mut files, text);
    }
    assert_eq!(bench.all(), map(&[("f-12.jsonl", "3\n"), ("f-15.jsonl", "1\n2\n")]));
}

#[test]
fn without_a_rule_the_name_says_when() {
    let bench = Bench::new("");
    let mut files = bench.open("f-%H%M.csv", "15:20:00").unwrap();
    for (time, text) in [("15:20:59", "1\n"), ("15:21:00", "2\n")] {
        files.advance(at(time)).unwrap();
        write(&mut files, text);
    }
    assert_eq!(bench.all(), map(&[("f-1520.csv", "1\n"), ("f-1521.csv", "2\n")]));
}

#[test]
fn a_replay_rotates_by_the_time_it_is_told() {
    let mut bench = Bench::new("1h");
    bench.options = FileOptions { existing: Existing::Refuse, live: false, ..bench.options };
    let path = format!("{}/f-%H.jsonl", bench.folder.path().to_str().unwrap());
    let mut files = Files::open(&path, &bench.options, Known::Lines).unwrap();
    assert_eq!(files.ready().unwrap_err().kind(), ErrorKind::InvalidInput);
    for (time, text) in [("03:00:00", "1\n"), ("04:00:00", "2\n"), ("03:30:00", "3\n")] {
        files.advance(at(time)).unwrap();
        write(&mut files, text);
    }
    files.finish().unwrap();
    let all = map(&[("f-03-2.jsonl", "3\n"), ("f-03.jsonl", "1\n"), ("f-04.jsonl", "2\n")]);
    assert_eq!(bench.all(), all);
    let mut again = Files::open(&path, &bench.options, Known::Lines).unwrap();
    again.advance(at("04:10:00")).unwrap();
    assert_eq!(again.ready().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(bench.all(), all);
}

#[test]
fn a_restart_goes_on_with_the_newest_file_of_the_period() {
    let bench = Bench::new("1h,10B");
    fs::write(bench.path("f-15.jsonl"), "1\n").unwrap();
    fs::write(bench.path("f-15-2.jsonl"), "2\n{").unwrap();
    fs::write(bench.path("f-14-7.jsonl"), "0\n").unwrap();
    let mut files = bench.open("f-%H.jsonl", "15:20:00").unwrap();
    write(&mut files, "4\n");
    drop(files);
    assert_eq!(bench.all()["f-15-2.jsonl"], "2\n4\n");
    // One that is full, and one that is compressed already.
    fs::write(bench.path("f-15-2.jsonl"), "0123456789\n").unwrap();
    write(&mut bench.open("f-%H.jsonl", "15:20:00").unwrap(), "5\n");
    assert_eq!(bench.all()["f-15-3.jsonl"], "5\n");
    fs::rename(bench.path("f-15-3.jsonl"), bench.path("f-15-3.jsonl.zst")).unwrap();
    write(&mut bench.open("f-%H.jsonl", "15:20:00").unwrap(), "6\n");
    assert_eq!(bench.all()["f-15-4.jsonl"], "6\n");
    // One that was written in the same hour, long ago.
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().append(true).open(bench.path("f-15-4.jsonl")).unwrap().set_modified(old).unwrap();
    write(&mut bench.open("f-%H.jsonl", "15:20:00").unwrap(), "7\n");
    assert_eq!(bench.all()["f-15-5.jsonl"], "7\n");
}

#[test]
fn a_new_file_takes_a_name_that_is_free() {
    let bench = Bench::new("1h");
    let mut files = bench.open("f-%H.jsonl", "15:20:00").unwrap();
    write(&mut files, "1\n");
    fs::write(bench.path("f-16.jsonl"), "mine\n").unwrap();
    symlink(bench.path("elsewhere"), bench.path("f-16-2.jsonl")).unwrap();
    files.advance(at("16:00:00")).unwrap();
    write(&mut files, "2\n");
    assert_eq!(
        bench.all_but_links(),
        map(&[("f-15.jsonl", "1\n"), ("f-16.jsonl", "mine\n"), ("f-16-3.jsonl", "2\n")])
    );
}

impl Bench {
    fn all_but_links(&self) -> BTreeMap<String, String> {
        let links: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        links.iter().filter(|path| path.is_symlink()).for_each(|path| fs::remove_file(path).unwrap());
        self.all()
    }
}

#[test]
fn a_symbolic_link_is_refused_at_the_start() {
    let bench = Bench::new("1h");
    fs::write(bench.path("target"), "x\n").unwrap();
    symlink(bench.path("target"), bench.path("f-15.jsonl")).unwrap();
    symlink(bench.path("target"), bench.path("plain.jsonl")).unwrap();
    for name in ["f-%H.jsonl", "plain.jsonl"] {
        assert!(matches!(bench.open(name, "15:20:00"), Err(Error::Output { .. })), "{name}");
    }
    assert_eq!(fs::read_to_string(bench.path("target")).unwrap(), "x\n");
}

#[test]
fn a_file_that_goes_away_is_made_again() {
    for name in ["x/f.jsonl", "x/f-%H.jsonl"] {
        let bench = Bench::new("");
        fs::create_dir(bench.path("x")).unwrap();
        let mut files = bench.open(name, "15:20:00").unwrap();
        let path = files.current.as_ref().unwrap().path.clone();
        write(&mut files, "1\n");
        fs::remove_dir_all(bench.path("x")).unwrap();
        files.advance(at("15:20:01")).unwrap();
        write(&mut files, "2\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        fs::remove_file(&path).unwrap();
        files.look_for_deleted();
        write(&mut files, "3\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
        fs::rename(&path, bench.path("moved")).unwrap();
        write(&mut files, "4\n");
        files.reopen().unwrap();
        write(&mut files, "5\n");
        files.reopen().unwrap();
        write(&mut files, "6\n");
        assert_eq!(fs::read_to_string(bench.path("moved")).unwrap(), "3\n4\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "5\n6\n");
    }
}

#[test]
fn a_compressed_file_begins_anew_when_it_is_opened_again() {
    let bench = Bench::new("1h");
    let mut files = bench.open("f-%H.jsonl.gz", "15:20:00").unwrap();
    write(&mut files, "a\n");
    files.reopen().unwrap();
    write(&mut files, "b\n");
    fs::remove_file(bench.path("f-15-2.jsonl.gz.part")).unwrap();
    files.advance(at("15:20:01")).unwrap();
    write(&mut files, "c\n");
    files.finish().unwrap();
    assert_eq!(bench.all(), map(&[("f-15.jsonl.gz", "a\n"), ("f-15-2.jsonl.gz", "c\n")]));
}

#[test]
fn a_file_that_another_process_writes_is_left_alone() {
    let mut bench = Bench::new("1h");
    bench.options.keep = Keep { files: Some(10), ..Keep::default() };
    let mut first = bench.open("f-%H.jsonl", "15:20:00").unwrap();
    let mut second = bench.open("f-%H.jsonl", "15:20:00").unwrap();
    write(&mut first, "1\n");
    write(&mut second, "2\n");
    assert_eq!(bench.all(), map(&[("f-15.jsonl", "1\n"), ("f-15-2.jsonl", "2\n")]));
}

#[test]
fn a_file_that_another_process_writes_is_not_emptied_by_force() {
    let mut bench = Bench::new("");
    bench.options.keep = Keep { files: Some(10), ..Keep::default() };
    let mut first = bench.open("f.jsonl", "15:20:00").unwrap();
    write(&mut first, "1\n");
    bench.options.existing = Existing::Overwrite;
    let Err(Error::Output { source, .. }) = bench.open("f.jsonl", "15:20:00") else { panic!("it is opened") };
    assert_eq!(source.kind(), ErrorKind::ResourceBusy);
    assert_eq!(bench.all(), map(&[("f.jsonl", "1\n")]));
    drop(first);
    write(&mut bench.open("f.jsonl", "15:20:00").unwrap(), "2\n");
    assert_eq!(bench.all(), map(&[("f.jsonl", "2\n")]));
}

#[test]
fn a_new_file_is_never_taken_for_a_leftover() {
    let bench = Bench::new("1B");
    let mut files = bench.open("f.jsonl.gz", "15:20:00").unwrap();
    for _ in 0..500 {
        write(&mut files, "1\n");
        files.close_if_large(true).unwrap();
    }
    files.finish().unwrap();
    // No number was passed over.
    assert_eq!(bench.all().len(), 500);
    assert!(bench.path("f-500.jsonl.gz").exists());
}

#[test]
fn behind_the_last_number_there_is_they_begin_anew() {
    let bench = Bench::new("1h,1B");
    fs::write(bench.path("f-15-4294967295.jsonl"), "x\n").unwrap();
    fs::write(bench.path("f-15.jsonl"), "x\n").unwrap();
    write(&mut bench.open("f-%H.jsonl", "15:20:00").unwrap(), "1\n");
    assert_eq!(bench.all()["f-15-2.jsonl"], "1\n");
}

#[test]
fn lines_that_are_not_ours_are_left_alone_at_a_restart() {
    let bench = Bench::new("1h");
    fs::write(bench.path("f-15.jsonl"), "notes\nmore").unwrap();
    write(&mut bench.open("f-%H.jsonl", "15:20:00").unwrap(), "1\n");
    assert_eq!(bench.all(), map(&[("f-15.jsonl", "notes\nmore"), ("f-15-2.jsonl", "1\n")]));
    let bench = Bench::new("");
    fs::write(bench.path("notes.txt"), "notes\nmore").unwrap();
    let Err(Error::Output { source, .. }) = bench.open("notes.txt", "15:20:00") else {
        panic!("it is opened")
    };
    assert_eq!(source.kind(), ErrorKind::InvalidData);
    assert_eq!(bench.all(), map(&[("notes.txt", "notes\nmore")]));
}

#[test]
fn names_that_cannot_come_again_are_not_remembered_for_ever() {
    let mut bench = Bench::new("1h");
    bench.options.existing = Existing::Overwrite;
    for (name, most) in [("f-%Y%m%d-%H.jsonl", NAMES_BETWEEN + 24), ("f-%H.jsonl", 24)] {
        let mut files = bench.open(name, "15:20:00").unwrap();
        for hour in 0..3_000 {
            files.advance(at("15:20:00").saturating_add_nanos(hour * 3_600_000_000_000)).unwrap();
            files.ready().unwrap();
        }
        assert!(files.numbers.len() <= most, "{name}: {}", files.numbers.len());
    }
    // A name that comes again has the next number.
    assert!(bench.path("f-15-125.jsonl").exists() && !bench.path("f-15-126.jsonl").exists());
}

#[test]
fn a_new_file_has_its_folders_sent_to_disk() {
    let bench = Bench::new("1h");
    let mut files = bench.open("%Y/f-%H.jsonl", "15:20:00").unwrap();
    write(&mut files, "1\n");
    let waiting = files.syncer.as_ref().unwrap().waiting();
    let paths = [bench.path(""), bench.path("2026"), bench.path("2026/f-15.jsonl")];
    assert_eq!(waiting.len(), paths.len());
    assert!(waiting.iter().zip(&paths).all(|(file, path)| is_at(file, path)));
}

#[test]
fn always_means_that_it_is_on_disk() {
    let mut bench = Bench::new("");
    bench.options.sync = SyncPolicy::Always;
    let mut files = bench.open("f.jsonl", "15:20:00").unwrap();
    write(&mut files, "1\n");
    assert!(files.syncer.is_none());
    assert_eq!(bench.all(), map(&[("f.jsonl", "1\n")]));
}

#[test]
fn what_is_compressed_already_is_not_compressed() {
    let mut bench = Bench::new("");
    bench.options.compress = Some(super::super::Compress::Zstd);
    assert!(matches!(bench.open("f.jsonl.zst", "15:20:00"), Err(Error::Option(_))));
}
