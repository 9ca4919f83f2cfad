use std::fs;
use std::io::Read;
use std::path::Path;

use super::super::packer::PLAIN_PORTION;
use super::super::{Existing, Rotate};
use super::*;
use crate::spool::{Backlog, SpoolOptions};

fn put(output: &mut Output, text: &str) {
    output.room().unwrap().extend_from_slice(text.as_bytes());
}

fn open(destination: &str, existing: Existing) -> Result<Output, Error> {
    Output::open(destination, &existing.into(), Known::Lines)
}

fn write(destination: &str, existing: Existing, text: &str) {
    let mut output = open(destination, existing).unwrap();
    put(&mut output, text);
    output.finish().unwrap();
}

fn kind<T>(outcome: Result<T, Error>) -> ErrorKind {
    match outcome {
        Err(Error::Output { source, .. }) => source.kind(),
        _ => panic!("no output error"),
    }
}

fn unpacked(path: &str) -> String {
    let bytes = fs::read(path).unwrap();
    let mut text = String::new();
    match path.contains(".gz") {
        true => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text),
        false => zstd::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text),
    }
    .unwrap();
    text
}

/// A folder and the path of a file in it.
fn place(name: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name).to_str().unwrap().to_owned();
    (folder, path)
}

fn live_options() -> FileOptions {
    FileOptions { existing: Existing::Append, live: true, now: Some(at(0)), ..FileOptions::default() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos((1_700_000_000 + seconds) * 1_000_000_000)
}

#[test]
fn a_file_is_not_overwritten_unasked() {
    let (_folder, path) = place("flows.jsonl");
    write(&path, Existing::Refuse, "1\n");
    assert_eq!(kind(open(&path, Existing::Refuse)), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    write(&path, Existing::Append, "2\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
    write(&path, Existing::Overwrite, "3\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
}

#[test]
fn lines_appear_at_a_flush_or_when_the_buffer_is_full() {
    let (_folder, path) = place("flows.jsonl");
    let mut output = open(&path, Existing::Refuse).unwrap();
    put(&mut output, "1\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    output.flush().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    put(&mut output, &("x".repeat(PLAIN_PORTION) + "\n"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    put(&mut output, "2\n");
    assert_eq!(fs::read_to_string(&path).unwrap().len(), 3 + PLAIN_PORTION);
    output.finish().unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with("x\n2\n"));
    assert_eq!(output.counts().written, Some(3));
}

#[test]
fn compressed_files_grow_under_another_name_in_frames_that_can_be_read() {
    for ending in ["gz", "zst"] {
        let (_folder, path) = place(&format!("flows.jsonl.{ending}"));
        let part = format!("{path}.part");
        let mut output = open(&path, Existing::Refuse).unwrap();
        put(&mut output, "1\n");
        output.flush().unwrap();
        assert_eq!(unpacked(&part), "1\n");
        assert!(!Path::new(&path).exists());
        assert_eq!(kind(open(&path, Existing::Refuse)), ErrorKind::AlreadyExists);
        put(&mut output, "2\n");
        output.flush().unwrap();
        assert_eq!(unpacked(&part), "1\n");
        output.last_frame = Some(Instant::now() - FRAME_INTERVAL);
        output.flush().unwrap();
        assert_eq!(unpacked(&part), "1\n2\n");
        put(&mut output, "3\n");
        output.finish().unwrap();
        assert_eq!(unpacked(&path), "1\n2\n3\n");
        assert!(!Path::new(&part).exists());
        assert_eq!(kind(open(&path, Existing::Refuse)), ErrorKind::AlreadyExists);
        write(&path, Existing::Append, "3\n");
        assert_eq!(unpacked(&path.replace(".jsonl", "-2.jsonl")), "3\n");
        write(&path, Existing::Overwrite, "4\n");
        assert_eq!(unpacked(&path), "4\n");
    }
}

#[test]
fn a_compressed_file_without_records_can_be_read() {
    for ending in ["gz", "zst"] {
        let (_folder, path) = place(&format!("flows.jsonl.{ending}"));
        open(&path, Existing::Refuse).unwrap().finish().unwrap();
        assert_eq!(unpacked(&path), "");
        Output::open(&path, &live_options(), Known::Lines).unwrap().finish().unwrap();
        assert!(!Path::new(&path.replace(".jsonl", "-2.jsonl")).exists());
    }
}

#[test]
fn a_cut_line_is_taken_off_before_more_is_added() {
    let (_folder, path) = place("flows.csv");
    let open = |first: &str| {
        let known = Known::Head(first.to_owned(), "is another one");
        Output::open(&path, &Existing::Append.into(), known)
    };
    fs::write(&path, "first\nsecond\nthi").unwrap();
    assert_eq!(kind(open("another")), ErrorKind::InvalidData);
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\nsecond\nthi");
    let mut output = open("first").unwrap();
    output.set_header("first\n");
    put(&mut output, "third\n");
    output.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\nsecond\nthird\n");

    fs::write(&path, "").unwrap();
    let mut output = open("first").unwrap();
    output.set_header("first\n");
    output.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
}

#[test]
fn the_disk_has_all_that_was_flushed_compressed_or_not() {
    for ending in ["gz", "zst"] {
        let (_folder, path) = place(&format!("flows.jsonl.{ending}"));
        let options = FileOptions { sync: SyncPolicy::Always, ..live_options() };
        let mut output = Output::open(&path, &options, Known::Lines).unwrap();
        for text in ["1\n", "2\n", "3\n"] {
            put(&mut output, text);
            output.flush().unwrap();
        }
        assert_eq!(unpacked(&format!("{path}.part")), "1\n2\n3\n");
    }
}

#[test]
fn a_full_device_is_an_error_and_the_lines_wait() {
    let mut output = open("/dev/full", Existing::Refuse).unwrap();
    put(&mut output, "1\n");
    for _ in 0..2 {
        let Err(Error::Output { name, source }) = output.flush() else { panic!("no error") };
        assert_eq!((name.as_str(), source.kind()), ("/dev/full", ErrorKind::StorageFull));
    }
    assert_eq!(output.lines, b"1\n");
    assert_eq!(kind(output.finish()), ErrorKind::StorageFull);
    let counts = output.counts();
    assert_eq!((counts.written, counts.failed), (Some(0), 1));
}

#[test]
fn missing_folders_are_errors_at_the_start() {
    let (_folder, path) = place("no/such/flows.csv");
    assert_eq!(kind(open(&path, Existing::Overwrite)), ErrorKind::NotFound);
    assert_eq!(kind(Output::open(&path, &live_options(), Known::Lines)), ErrorKind::NotFound);
    let (_folder, path) = place("no/such/%Y.csv");
    assert_eq!(kind(open(&path, Existing::Overwrite)), ErrorKind::NotFound);
}

#[test]
fn lines_that_wait_belong_to_the_time_they_came_in() {
    let (folder, path) = place("f-%S.jsonl");
    let rotate = Some("10s".parse().unwrap());
    for live in [true, false] {
        let options =
            FileOptions { rotate, live, now: None, existing: Existing::Overwrite, ..live_options() };
        let mut output = Output::open(&path, &options, Known::Lines).unwrap();
        for (seconds, text) in [(1, "1\n"), (9, "2\n"), (10, "3\n"), (45, "4\n"), (58, "5\n")] {
            output.advance(at(seconds)).unwrap();
            put(&mut output, text);
        }
        output.finish().unwrap();
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(text("f-20.jsonl") + &text("f-30.jsonl"), "1\n2\n3\n");
        assert_eq!(text("f-00.jsonl") + &text("f-10.jsonl"), "4\n5\n");
        assert_eq!(text("f-30.jsonl"), "3\n");
    }
}

#[test]
fn what_finds_no_room_is_dropped_and_told_of() {
    let (folder, path) = place("sub/flows.jsonl");
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let mut output = Output::open(&path, &live_options(), Known::Lines).unwrap();
    output.tell_gaps();
    put(&mut output, "1\n");
    output.flush().unwrap();
    // A file where the folder was: nothing can be made there.
    fs::remove_dir_all(&sub).unwrap();
    fs::write(&sub, "").unwrap();
    output.advance(at(1)).unwrap();
    let line = "x".repeat(99_999) + "\n";
    for _ in 0..5 {
        put(&mut output, &line);
        output.flush().unwrap();
    }
    assert_eq!(output.counts().dropped, BTreeMap::from([("unwritable", 2)]));
    output.advance(at(2)).unwrap();
    put(&mut output, &line);
    assert_eq!(output.counts().dropped, BTreeMap::from([("unwritable", 3)]));
    fs::remove_file(&sub).unwrap();
    output.advance(at(3)).unwrap();
    put(&mut output, "2\n");
    output.finish().unwrap();
    let gap = "{\"type\":\"gap\",\"timestamp\":\"2023-11-14T22:13:23.000000000Z\",\"reason\":\"unwritable\",\"records\":3}\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), line.repeat(3) + gap + "2\n");
    let counts = output.counts();
    assert_eq!((counts.written, counts.dropped.values().sum()), (Some(5), 3u64));
}

#[test]
fn what_cannot_be_written_at_the_end_is_counted() {
    let (folder, path) = place("sub/flows.csv");
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let mut output = Output::open(&path, &live_options(), Known::Lines).unwrap();
    fs::remove_dir_all(&sub).unwrap();
    fs::write(&sub, "").unwrap();
    put(&mut output, "1\n");
    put(&mut output, "2\n");
    assert!(output.finish().is_err());
    assert_eq!(output.counts().dropped, BTreeMap::from([("unwritable", 2)]));
    assert_eq!(output.counts().written, Some(0));
}

#[test]
fn no_line_is_cut_by_a_size_and_each_file_has_the_header() {
    for (size, ending) in [(10, "csv"), (1, "csv"), (10, "csv.gz"), (1000, "csv")] {
        let (folder, path) = place(&format!("a.{ending}"));
        let rotate = Some(Rotate { every: None, size: Some(size) });
        let known = Known::Head("h".to_owned(), "is another one");
        let mut output = Output::open(&path, &FileOptions { rotate, ..live_options() }, known).unwrap();
        output.set_header("h\n");
        let lines: Vec<String> = (0..100).map(|n| format!("{n}\n")).collect();
        for (nth, line) in lines.iter().enumerate() {
            put(&mut output, line);
            if nth % 7 == 0 {
                output.last_frame = None;
                output.flush().unwrap();
            }
        }
        output.finish().unwrap();
        assert_eq!(output.counts().written, Some(100));
        let mut all = Vec::new();
        for number in 1.. {
            let name = if number == 1 { format!("a.{ending}") } else { format!("a-{number}.{ending}") };
            let path = folder.path().join(name);
            if !path.exists() {
                break;
            }
            let text = match ending {
                "csv" => fs::read_to_string(&path).unwrap(),
                _ => unpacked(path.to_str().unwrap()),
            };
            assert!(ending != "csv" || text.len() <= 10 || size != 10, "{text}");
            all.extend(text.strip_prefix("h\n").unwrap().split_inclusive('\n').map(str::to_owned));
        }
        assert_eq!(all, lines, "{size} {ending}");
        let mut names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        assert!(names.all(|name| name.extension().unwrap() != "part"));
    }
}

/// Takes the folder of a spool away, so that nothing can be written there; returns where it is.
fn bar(spool: &Path) -> std::path::PathBuf {
    let away = spool.with_extension("away");
    fs::rename(spool, &away).unwrap();
    fs::write(spool, "").unwrap();
    away
}

fn unbar(spool: &Path, away: &Path) {
    fs::remove_file(spool).unwrap();
    fs::rename(away, spool).unwrap();
}

fn spooled(folder: &Path) -> Output {
    let options = SpoolOptions { live: true, ..SpoolOptions::default() };
    let spool = Spool::open(folder, options).unwrap();
    Output::spooled("tcp://x:1", spool, &live_options(), Sending::default()).unwrap()
}

/// The numbers of records, and the gaps with their reasons, that come out of a spool.
fn out_of(folder: &Path) -> (Vec<u64>, Vec<(String, u64, u64)>) {
    let mut backlog = Backlog::open(folder).unwrap();
    let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
    while let Some(batch) = backlog.next_batch(1_000, 1 << 20).unwrap() {
        for line in batch.lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            let number = |name: &str| value[name].as_u64();
            match number("seq") {
                Some(seq) => seqs.push(seq),
                None => gaps.push((
                    value["reason"].as_str().unwrap().to_owned(),
                    number("first_seq").unwrap(),
                    number("last_seq").unwrap(),
                )),
            }
        }
    }
    (seqs, gaps)
}

#[test]
fn spooled_is_what_was_written_and_the_rest_is_dropped_under_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut output = spooled(&path);
    output.tell_gaps();
    for _ in 0..10 {
        put(&mut output, "{\"a\":1}\n");
    }
    output.flush().unwrap();
    assert_eq!(output.counts().spooled, 10);
    let away = bar(&path);
    // More than the spool and the buffer in front of it hold.
    let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(99_999));
    for second in 1..30 {
        put(&mut output, &line);
        output.flush().unwrap();
        output.advance(at(second)).unwrap();
    }
    let counts = output.counts();
    assert_eq!(counts.spooled, 10);
    assert!(counts.dropped["unwritable"] > 10, "{counts:?}");
    assert!(output.finish().is_err());
    let counts = output.counts();
    assert_eq!((counts.spooled, counts.dropped), (10, BTreeMap::from([("unwritable", 29)])));
    drop(output);
    unbar(&path, &away);
    let mut output = spooled(&path);
    put(&mut output, "{\"a\":1}\n");
    output.finish().unwrap();
    let (seqs, gaps) = out_of(&path);
    assert_eq!(seqs, (0..10).chain([39]).collect::<Vec<_>>());
    assert_eq!(gaps, [("restart".to_owned(), 10, 38)]);
}

#[test]
fn what_a_spool_had_no_room_for_is_a_gap_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut output = spooled(&path);
    output.tell_gaps();
    put(&mut output, "{\"a\":1}\n");
    output.flush().unwrap();
    let away = bar(&path);
    let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(99_999));
    for second in 1..30 {
        put(&mut output, &line);
        output.flush().unwrap();
        output.advance(at(second)).unwrap();
    }
    unbar(&path, &away);
    output.advance(at(30)).unwrap();
    put(&mut output, "{\"a\":1}\n");
    output.finish().unwrap();
    let counts = output.counts();
    let dropped = counts.dropped["unwritable"];
    assert_eq!(counts.spooled + dropped, 31);
    let (seqs, gaps) = out_of(&path);
    assert_eq!(seqs.len() as u64, counts.spooled);
    assert_eq!(gaps, [("unwritable".to_owned(), 30 - dropped, 29)]);
    assert_eq!(seqs.last(), Some(&30));
}
