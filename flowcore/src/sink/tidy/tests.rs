use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::packer::Packer;
use super::super::{Keep, Rotate};
use super::*;

/// A folder with files in it, and the rules for them.
struct Bench {
    folder: tempfile::TempDir,
    rules: Rules,
}

impl Bench {
    fn new(name: &str, options: FileOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let template = Template::parse(&format!("{}/{name}", folder.path().to_str().unwrap())).unwrap();
        let options = FileOptions { existing: Existing::Append, live: true, ..options };
        Bench { folder, rules: Rules::new(template, options) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn put_at(&self, name: &str, time: &str) {
        self.put(name, "0123456789");
        let since = Duration::from_nanos(at(time).as_nanos().unsigned_abs());
        File::options().append(true).open(self.path(name)).unwrap().set_modified(UNIX_EPOCH + since).unwrap();
    }

    fn see_to(&self, current: &str, now: &str) {
        self.try_to_see_to(current, now).unwrap();
    }

    fn try_to_see_to(&self, current: &str, now: &str) -> io::Result<()> {
        let current = Some(self.path(current)).filter(|_| !current.is_empty());
        let job = Job { now: Some(at(now)), current, closed: Vec::new() };
        self.rules.see_to(job, &mut HashSet::new())
    }

    fn found(&self, name: &str) -> Found {
        let path = self.path(name);
        self.rules.sorted().unwrap().into_iter().find(|found| found.path == path).unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                names.insert(path.strip_prefix(self.folder.path()).unwrap().to_str().unwrap().to_owned());
            }
        }
        names
    }
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse(&format!("2026-02-{time}:00:00Z")).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn keep(text: &str) -> FileOptions {
    FileOptions { keep: text.parse::<Keep>().unwrap(), ..FileOptions::default() }
}

fn compress() -> FileOptions {
    FileOptions { compress: Some(Compress::Zstd), ..FileOptions::default() }
}

#[test]
fn the_oldest_go_first_and_only_own_files() {
    let strangers =
        ["f-020906.jsonl.bak", "g-020901.jsonl", "f-023001.jsonl", "x/f-020901.jsonl", "f-020901.csv"];
    for (text, left) in [
        ("2", &["f-020904-2.jsonl", "f-020905.jsonl"][..]),
        ("1", &["f-020905.jsonl"]),
        ("35B", &["f-020904-2.jsonl", "f-020904.jsonl.zst", "f-020905.jsonl"]),
        ("1B", &["f-020905.jsonl"]),
        ("9", &["f-020901.jsonl", "f-020904-2.jsonl", "f-020904.jsonl.zst", "f-020905.jsonl"]),
    ] {
        let bench = Bench::new("f-%m%d%H.jsonl", keep(text));
        for (name, time) in [
            ("f-020905.jsonl", "09T05"),
            ("f-020904-2.jsonl", "09T04"),
            ("f-020904.jsonl.zst", "09T03"),
            ("f-020901.jsonl", "09T01"),
        ] {
            bench.put_at(name, time);
        }
        strangers.iter().for_each(|name| bench.put_at(name, "01T00"));
        std::os::unix::fs::symlink(bench.path("g-020901.jsonl"), bench.path("f-020101.jsonl")).unwrap();
        bench.see_to("f-020905.jsonl", "09T05");
        let mut all = set(left);
        all.extend(set(&strangers));
        all.extend(set(&["x", "f-020101.jsonl"]));
        assert_eq!(bench.names(), all, "{text}");
    }
}

#[test]
fn the_order_is_that_of_the_names_and_empty_folders_go() {
    let bench = Bench::new("%Y/%m/%d-%H.csv", keep("2"));
    for name in ["2025/12/31-23.csv", "2026/01/01-00.csv", "2026/01/01-00-10.csv", "2026/01/01-00-9.csv"] {
        // The later in the name, the earlier on disk.
        bench.put_at(name, "01T00");
    }
    bench.put("2025/notes", "x");
    bench.see_to("", "09T05");
    let left = ["2025", "2025/notes", "2026", "2026/01", "2026/01/01-00-10.csv", "2026/01/01-00-9.csv"];
    assert_eq!(bench.names(), set(&left));
}

#[test]
fn an_age_counts_from_the_newest_record_there_may_be() {
    let rotate = Some("1h".parse::<Rotate>().unwrap());
    let bench = Bench::new("%Y%m%d-%H.jsonl", FileOptions { rotate, ..keep("2h") });
    for name in ["20260209-01.jsonl", "20260209-02.jsonl", "20260209-03.jsonl"] {
        bench.put_at(name, "01T00");
    }
    bench.put_at("20260101-01.jsonl", "09T05");
    bench.see_to("", "09T05");
    assert_eq!(bench.names(), set(&["20260101-01.jsonl", "20260209-02.jsonl", "20260209-03.jsonl"]));
    bench.see_to("20260209-02.jsonl", "20T05");
    assert_eq!(bench.names(), set(&["20260209-02.jsonl", "20260209-03.jsonl"]));
}

#[test]
fn closed_files_are_compressed_and_no_others() {
    let bench = Bench::new("f-%d%H.jsonl", compress());
    for name in ["f-0901.jsonl", "f-0902.jsonl", "f-0903.jsonl", "other.jsonl"] {
        bench.put(name, "a line\n");
    }
    let before = fs::metadata(bench.path("f-0901.jsonl")).unwrap().modified().unwrap();
    let held = File::open(bench.path("f-0902.jsonl")).unwrap();
    assert!(is_lockable(&held));
    bench.see_to("f-0903.jsonl", "09T03");
    let left = ["f-0901.jsonl.zst", "f-0902.jsonl", "f-0903.jsonl", "other.jsonl"];
    assert_eq!(bench.names(), set(&left));
    let text =
        io::read_to_string(zstd::Decoder::new(File::open(bench.path(left[0])).unwrap()).unwrap()).unwrap();
    assert_eq!(text, "a line\n");
    assert_eq!(fs::metadata(bench.path(left[0])).unwrap().modified().unwrap(), before);
    drop(held);
    bench.see_to("", "09T03");
    assert_eq!(
        bench.names(),
        set(&["f-0901.jsonl.zst", "f-0902.jsonl.zst", "f-0903.jsonl.zst", "other.jsonl"])
    );
}

#[test]
fn a_replay_compresses_its_own_files_only() {
    let mut bench = Bench::new("f-%d%H.jsonl", compress());
    bench.rules.options.existing = Existing::Overwrite;
    bench.rules.options.live = false;
    bench.put("f-0901.jsonl", "1\n");
    bench.put("f-0902.jsonl", "2\n");
    let mut own = HashSet::new();
    let closed = vec![bench.path("f-0902.jsonl")];
    bench.rules.see_to(Job { now: None, current: None, closed }, &mut own).unwrap();
    assert_eq!(bench.names(), set(&["f-0901.jsonl", "f-0902.jsonl.zst"]));
    // What is done is not remembered for ever.
    assert!(own.is_empty());
}

#[test]
fn whatever_step_was_the_last_before_a_kill_nothing_is_lost_or_doubled() {
    let packed = |text: &str| Packer::new(Compression::Zstd).unwrap().pack(text.as_bytes()).unwrap().unwrap();
    let read = |bench: &Bench| {
        let file = File::open(bench.path("f-01.jsonl.zst")).unwrap();
        io::read_to_string(zstd::Decoder::new(file).unwrap()).unwrap()
    };
    let bench = || {
        let bench = Bench::new("f-%H.jsonl", compress());
        bench.put("f-01.jsonl", "1\n2\n");
        bench
    };
    // While it was compressed.
    let cut = bench();
    cut.put("f-01.jsonl.zst.part", &packed("1\n")[..5]);
    cut.see_to("", "09T03");
    assert_eq!((cut.names(), read(&cut)), (set(&["f-01.jsonl.zst"]), "1\n2\n".to_owned()));
    // Before the file itself was removed.
    let both = bench();
    both.put("f-01.jsonl.zst", packed("1\n2\n"));
    both.see_to("", "09T03");
    assert_eq!((both.names(), read(&both)), (set(&["f-01.jsonl.zst"]), "1\n2\n".to_owned()));
    // The two are not the same: somebody else made one of them.
    for other in ["1\n", "1\n2\n3\n"] {
        let strange = bench();
        strange.put("f-01.jsonl.zst", packed(other));
        strange.see_to("", "09T03");
        assert_eq!(strange.names(), set(&["f-01.jsonl", "f-01.jsonl.zst"]));
    }
    // Stopped in the middle.
    let stopped = bench();
    stopped.rules.stop.store(true, Ordering::Relaxed);
    stopped.see_to("", "09T03");
    assert_eq!(stopped.names(), set(&["f-01.jsonl"]));
}

#[test]
fn a_leftover_is_cut_to_its_whole_frames_and_gets_its_name() {
    for ending in [".zst", ".gz"] {
        let bench = Bench::new(&format!("f-%H.jsonl{ending}"), FileOptions::default());
        let compression = bench.rules.template.compression();
        let mut packer = Packer::new(compression).unwrap();
        let first = packer.pack(b"1\n").unwrap().unwrap();
        let second = packer.pack(b"2\n").unwrap().unwrap();
        let part = |number: &str| format!("f-01{number}.jsonl{ending}.part");
        bench.put(&part(""), [&first[..], &second[..second.len() - 1]].concat());
        bench.put(&part("-2"), &first[..3]);
        bench.put(&part("-3"), [&first[..], &second[..]].concat());
        bench.put(&format!("f-01-3.jsonl{ending}"), &first);
        bench.put(&part("-5"), &first);
        bench.put("other.zst.part", "x");
        bench.see_to(&part("-5"), "09T03");
        let whole = |number: &str| format!("f-01{number}.jsonl{ending}");
        let names = [whole(""), whole("-3"), whole("-4"), part("-5"), "other.zst.part".to_owned()];
        assert_eq!(bench.names(), BTreeSet::from(names));
        assert_eq!(fs::read(bench.path(&whole(""))).unwrap(), first);
        assert_eq!(fs::read(bench.path(&whole("-4"))).unwrap(), [first, second].concat());
    }
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    let bench = Bench::new("f-%H.jsonl", compress());
    bench.put("f-01.jsonl", "1\n");
    // What stands where the compressed file is to grow is a folder: it cannot be made.
    fs::create_dir(bench.path("f-01.jsonl.zst.part")).unwrap();
    let error = bench.try_to_see_to("", "09T03").unwrap_err().to_string();
    assert!(error.contains("f-01.jsonl cannot be compressed: "), "{error}");
    assert_eq!(fs::read_to_string(bench.path("f-01.jsonl")).unwrap(), "1\n");
}

#[test]
fn a_file_that_cannot_be_deleted_hinders_no_other_and_does_not_count() {
    let bench = Bench::new("%Y%m%d-%H.jsonl", keep("2"));
    for hour in 2..6 {
        bench.put_at(&format!("20260209-0{hour}.jsonl"), "09T00");
    }
    // A program that runs cannot be opened as a file is, not even by root.
    let program = bench.path("20260209-01.jsonl");
    fs::copy("/bin/sleep", &program).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let mut running = loop {
        match std::process::Command::new(&program).arg0("sleep").arg("600").spawn() {
            Ok(running) => break running,
            // Another test began a process while the copy was open.
            Err(busy) => assert!(std::time::Instant::now() < deadline, "{busy}"),
        }
    };
    let error = bench.try_to_see_to("20260209-05.jsonl", "09T05").unwrap_err().to_string();
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(error.contains("20260209-01.jsonl cannot be deleted: "), "{error}");
    assert_eq!(bench.names(), set(&["20260209-01.jsonl", "20260209-04.jsonl", "20260209-05.jsonl"]));
    bench.see_to("20260209-05.jsonl", "09T05");
    assert_eq!(bench.names(), set(&["20260209-04.jsonl", "20260209-05.jsonl"]));
}

#[test]
fn files_of_a_clock_that_was_ahead_go_first() {
    let bench = Bench::new("%Y%m%d-%H.jsonl", keep("4"));
    let names = ["20260209-03", "20260209-04", "20260209-05", "20310101-00", "20310101-01", "20310101-02"];
    names.iter().for_each(|name| bench.put_at(&format!("{name}.jsonl"), "09T05"));
    let left = |names: &[&str]| names.iter().map(|name| format!("{name}.jsonl")).collect::<BTreeSet<_>>();
    bench.see_to("20260209-05.jsonl", "09T05");
    assert_eq!(bench.names(), left(&[names[0], names[1], names[2], names[5]]));
    bench.put_at("20260209-06.jsonl", "09T06");
    bench.see_to("20260209-06.jsonl", "09T06");
    assert_eq!(bench.names(), left(&[names[0], names[1], names[2], "20260209-06"]));
    // A job that had to wait is not the present.
    bench.put_at("20260209-07.jsonl", "09T07");
    bench.rules.now.store(at("09T07").as_nanos(), Ordering::Relaxed);
    bench.see_to("20260209-06.jsonl", "09T06");
    assert_eq!(bench.names(), left(&[names[1], names[2], "20260209-06", "20260209-07"]));
}

#[test]
fn a_replay_knows_no_clock_that_was_ahead() {
    let mut bench = Bench::new("%Y%m%d-%H.jsonl", keep("1"));
    bench.rules.options.live = false;
    bench.put_at("20260209-05.jsonl", "09T05");
    bench.put_at("20260210-05.jsonl", "09T05");
    bench.see_to("", "09T05");
    assert_eq!(bench.names(), set(&["20260210-05.jsonl"]));
}

#[test]
fn whatever_takes_long_ends_at_once_and_is_taken_back() {
    let packed = Packer::new(Compression::Zstd).unwrap().pack(b"1\n").unwrap().unwrap();
    let bench = Bench::new("f-%H.jsonl.zst", FileOptions::default());
    bench.put("f-01.jsonl.zst.part", [&packed[..], b"half"].concat());
    bench.rules.stop.store(true, Ordering::Relaxed);
    let found = bench.found("f-01.jsonl.zst.part");
    let stopped = bench.rules.recover(&found, Compression::Zstd);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(fs::read(found.path).unwrap(), [&packed[..], b"half"].concat());

    let bench = Bench::new("f-%H.jsonl", compress());
    bench.put("f-01.jsonl", "1\n");
    bench.put("f-01.jsonl.zst", packed);
    bench.rules.stop.store(true, Ordering::Relaxed);
    let stopped = bench.rules.compress(&bench.found("f-01.jsonl"), Compress::Zstd);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(bench.names(), set(&["f-01.jsonl", "f-01.jsonl.zst"]));
}

#[test]
fn what_hinders_the_thread_is_told_until_it_has_gone() {
    let bench = Bench::new("f-%H.jsonl", compress());
    bench.put("f-01.jsonl", "1\n");
    fs::create_dir(bench.path("f-01.jsonl.zst.part")).unwrap();
    let mut tidy = Tidy::new(&bench.rules.template, &bench.rules.options).unwrap();
    assert_eq!(tidy.problem(), None);
    for hinders in [true, false] {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while tidy.problem().is_some() != hinders {
            assert!(std::time::Instant::now() < deadline, "{:?}", tidy.problem());
            tidy.request(Job { now: None, current: None, closed: Vec::new() }).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        _ = fs::remove_dir(bench.path("f-01.jsonl.zst.part"));
    }
    tidy.finish().unwrap();
    assert_eq!(bench.names(), set(&["f-01.jsonl.zst"]));
}

#[test]
fn the_thread_does_what_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.jsonl");
    let template = Template::parse(path.to_str().unwrap()).unwrap();
    let options = FileOptions { existing: Existing::Refuse, ..compress() };
    assert!(Tidy::new(&template, &FileOptions::default()).is_none());
    let mut tidy = Tidy::new(&template, &options).unwrap();
    File::create(&path).unwrap().write_all(b"1\n").unwrap();
    tidy.request(Job { now: None, current: None, closed: vec![path.clone()] }).unwrap();
    tidy.finish().unwrap();
    assert!(!path.exists() && with(&path, ".zst").exists());
    assert!(SystemTime::now() > UNIX_EPOCH);
}
