use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

mod damage;
mod gone;
mod limits;
mod model;
mod stalls;

/// A line that came out: a record with its number, or a run of missing ones.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Out {
    Record { seq: u64, id: u64 },
    Gap { reason: String, first_seq: u64, last_seq: u64 },
}

impl Out {
    /// The numbers of it.
    fn range(&self) -> (u64, u64) {
        match self {
            Out::Record { seq, .. } => (*seq, *seq),
            Out::Gap { first_seq, last_seq, .. } => (*first_seq, *last_seq),
        }
    }
}

fn options(max_bytes: u64) -> SpoolOptions {
    SpoolOptions { max_bytes, sync: SyncPolicy::Off, live: false }
}

/// Records with these ids, each padded differently, so that they do not compress to nothing.
fn records(ids: std::ops::Range<u64>, padding: usize) -> Vec<u8> {
    let mut lines = String::new();
    for id in ids {
        let noise: String = (0..padding as u64)
            .map(|at| {
                char::from(
                    b'a' + ((id + 1).wrapping_mul(at * at + 7919).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59)
                        as u8
                        % 26,
                )
            })
            .collect();
        lines += &format!("{{\"id\":{id},\"noise\":\"{noise}\"}}\n");
    }
    lines.into_bytes()
}

/// Reads the lines of a batch, and checks that they are whole and that their numbers are those of the batch.
fn lines(batch: &Batch, instances: &mut BTreeMap<String, u64>) -> Vec<Out> {
    assert!(batch.lines.ends_with(b"\n"));
    let mut outs = Vec::new();
    for line in batch.lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let value: Value = serde_json::from_slice(line).unwrap();
        let number = |name: &str| value[name].as_u64().unwrap();
        *instances.entry(value["instance"].as_str().unwrap().to_owned()).or_default() += 1;
        if value["type"] == "gap" {
            let (first_seq, last_seq) = (number("first_seq"), number("last_seq"));
            assert_eq!(number("records"), last_seq - first_seq + 1);
            outs.push(Out::Gap { reason: value["reason"].as_str().unwrap().to_owned(), first_seq, last_seq });
        } else {
            outs.push(Out::Record { seq: number("seq"), id: number("id") });
        }
    }
    assert_eq!(outs.len() as u64, batch.records + batch.gaps);
    assert_eq!(outs.first().unwrap().range().0, batch.first_seq);
    assert_eq!(outs.last().unwrap().range().1, batch.last_seq);
    for pair in outs.windows(2) {
        assert_eq!(pair[0].range().1 + 1, pair[1].range().0, "{pair:?}");
    }
    outs
}

/// Reads all that is there, by small batches, without being done with it.
fn drain(backlog: &mut Backlog) -> Vec<Out> {
    let mut outs = Vec::new();
    while let Some(batch) = backlog.next_batch(7, 5_000).unwrap() {
        outs.extend(lines(&batch, &mut BTreeMap::new()));
    }
    outs
}

/// The ids of records, where nothing else came.
fn ids(outs: &[Out]) -> Vec<u64> {
    let id = |out: &Out| match out {
        Out::Record { id, .. } => *id,
        Out::Gap { .. } => panic!("{out:?}"),
    };
    outs.iter().map(id).collect()
}

fn gap(reason: &str, first_seq: u64, last_seq: u64) -> Out {
    Out::Gap { reason: reason.to_owned(), first_seq, last_seq }
}

fn segments(folder: &Path) -> Vec<u64> {
    segment::list(folder).unwrap().iter().map(|segment| segment.first_seq).collect()
}

#[test]
fn what_goes_in_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
    let mut backlog = Backlog::open(folder.path()).unwrap();
    assert_eq!(backlog.next_batch(10, 1000).unwrap(), None);
    spool.append(b"{\"id\":1}\n\n{}\n{\"id\":2}").unwrap();
    assert_eq!(backlog.next_batch(10, 1000).unwrap(), None);
    spool.flush().unwrap();
    let instance = format!("{:016x}", spool.instance());
    let batch = backlog.next_batch(10, 1000).unwrap().unwrap();
    let expected = format!(
        "{{\"id\":1,\"instance\":\"{instance}\",\"seq\":0}}\n{{\"instance\":\"{instance}\",\"seq\":1}}\n\
         {{\"id\":2,\"instance\":\"{instance}\",\"seq\":2}}\n"
    );
    assert_eq!(String::from_utf8(batch.lines).unwrap(), expected);
    assert_eq!((batch.first_seq, batch.last_seq, batch.records, batch.gaps), (0, 2, 3, 0));
    assert_eq!(backlog.next_batch(10, 1000).unwrap(), None);
    let counts = spool.counts();
    assert_eq!((counts.records, counts.next_seq, counts.waiting), (3, 3, 0));
}

#[test]
fn batches_keep_their_limits() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
    for id in 0..30 {
        spool.append(&records(id..id + 1, 50)).unwrap();
        if id % 4 == 0 {
            spool.flush().unwrap();
        }
    }
    spool.flush().unwrap();
    let read = |records: u64, bytes: usize| {
        fs::remove_file(folder.path().join("cursor")).unwrap();
        let mut backlog = Backlog::open(folder.path()).unwrap();
        std::iter::from_fn(move || backlog.next_batch(records, bytes).unwrap()).collect::<Vec<_>>()
    };
    let all = read(u64::MAX, usize::MAX);
    assert_eq!(all.iter().map(|batch| batch.records).collect::<Vec<_>>(), [30]);
    let line = all[0].lines.len() / 30;
    for (limit_records, limit_bytes) in
        [(1, usize::MAX), (7, usize::MAX), (100, 5 * line), (100, 1), (0, 0), (3, 4 * line)]
    {
        let batches = read(limit_records, limit_bytes);
        for batch in &batches {
            assert!(batch.records <= limit_records.max(1));
            assert!(batch.lines.len() <= limit_bytes || batch.records == 1);
        }
        assert_eq!(batches.iter().map(|batch| batch.records).sum::<u64>(), 30);
        let joined: Vec<u8> = batches.iter().flat_map(|batch| batch.lines.clone()).collect();
        assert_eq!(joined, all[0].lines, "{limit_records} {limit_bytes}");
    }
    assert_eq!(read(7, usize::MAX)[0].records, 7);
}

#[test]
fn what_is_not_done_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
    spool.append(&records(0..10, 10)).unwrap();
    spool.flush().unwrap();
    let mut backlog = Backlog::open(folder.path()).unwrap();
    let first = backlog.next_batch(4, 10_000).unwrap().unwrap();
    backlog.next_batch(4, 10_000).unwrap().unwrap();
    backlog.done(&first).unwrap();
    assert_eq!(backlog.waiting(), 6);
    drop(backlog);
    let mut backlog = Backlog::open(folder.path()).unwrap();
    assert_eq!(ids(&drain(&mut backlog)), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn numbers_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut instances = BTreeMap::new();
    for run in 0..5 {
        let mut spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
        spool.append(&records(run * 3..run * 3 + 3, 10)).unwrap();
        if run % 2 == 0 { spool.finish() } else { spool.flush() }.unwrap();
    }
    let mut backlog = Backlog::open(folder.path()).unwrap();
    let batch = backlog.next_batch(100, 100_000).unwrap().unwrap();
    let outs = lines(&batch, &mut instances);
    assert_eq!(outs, (0..15).map(|n| Out::Record { seq: n, id: n }).collect::<Vec<_>>());
    assert_eq!(instances.len(), 1);
    // Segments that are done go, but for the newest.
    assert_eq!(segments(folder.path()), [0, 3, 6, 9, 12]);
    backlog.done(&batch).unwrap();
    assert_eq!(segments(folder.path()), [12]);
    // Without any segment, the cursor and the mark still know.
    fs::remove_file(segment::path(folder.path(), 12)).unwrap();
    let mut spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
    spool.append(&records(15..16, 10)).unwrap();
    spool.flush().unwrap();
    assert_eq!(drain(&mut backlog), [Out::Record { seq: 15, id: 15 }]);
}

#[test]
fn one_writes_and_one_reads() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
    let second = Spool::open(folder.path(), options(1 << 20)).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::ResourceBusy);
    let backlog = Backlog::open(folder.path()).unwrap();
    let second = Backlog::open(folder.path()).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::ResourceBusy);
    drop((spool, backlog));
    Spool::open(folder.path(), options(1 << 20)).unwrap();
    Backlog::open(folder.path()).unwrap();
}

#[test]
fn a_line_that_is_no_object_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
    spool.append(b"{\"id\":0}\n").unwrap();
    let refused = spool.append(b"{\"id\":1}\n{\"id\":2}\nhalf a li").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    spool.append(b"{\"id\":3}\n").unwrap();
    spool.flush().unwrap();
    let outs = drain(&mut Backlog::open(folder.path()).unwrap());
    assert_eq!(outs, [Out::Record { seq: 0, id: 0 }, Out::Record { seq: 1, id: 3 }]);
    assert_eq!(spool.counts().records, 2);
}

#[test]
fn a_reader_may_come_first_and_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/by/the/reader");
    let mut backlog = Backlog::open(&path).unwrap();
    assert!(!backlog.wait(Duration::from_millis(1)).unwrap());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            std::thread::sleep(Duration::from_millis(150));
            let mut spool = Spool::open(path, options(1 << 20)).unwrap();
            spool.append(&records(0..3, 10)).unwrap();
            spool.flush_older(Duration::from_secs(60)).unwrap();
            assert_eq!(spool.counts().waiting, 3);
            spool.flush_older(Duration::ZERO).unwrap();
        }
    });
    assert!(backlog.wait(Duration::from_secs(20)).unwrap());
    writer.join().unwrap();
    assert_eq!(ids(&drain(&mut backlog)), [0, 1, 2]);
}

#[test]
fn a_spool_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("spool");
    let mut spool = Spool::open(&folder, options(1 << 20)).unwrap();
    spool.append(&records(0..3, 10)).unwrap();
    spool.finish().unwrap();
    drain(&mut Backlog::open(&folder).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 4);
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
}
