//! The limit in bytes, long lines, and disks without room.

use super::*;

#[test]
fn the_oldest_go_first_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let max_bytes = 64 << 10;
    let mut spool = Spool::open(folder.path(), options(max_bytes)).unwrap();
    let on_disk = || segment::list(folder.path()).unwrap().iter().map(|segment| segment.bytes).sum::<u64>();
    for id in 0..2_000 {
        spool.append(&records(id..id + 1, 300)).unwrap();
        if id % 5 == 0 {
            spool.flush().unwrap();
        }
        assert!(on_disk() <= max_bytes);
    }
    spool.flush().unwrap();
    assert_eq!(on_disk(), spool.counts().disk_bytes);
    assert!(on_disk() > max_bytes * 3 / 4, "{}", on_disk());
    let counts = spool.counts();
    let outs = drain(&mut Backlog::open(folder.path()).unwrap());
    assert_eq!(outs[0], gap("spool_full", 0, counts.full_records - 1));
    assert_eq!(ids(&outs[1..]), (counts.full_records..2_000).collect::<Vec<_>>());
    assert!(counts.full_bytes > max_bytes);
}

#[test]
fn what_is_done_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(64 << 10)).unwrap();
    let mut backlog = Backlog::open(folder.path()).unwrap();
    let mut seen = Vec::new();
    for id in 0..2_000 {
        spool.append(&records(id..id + 1, 300)).unwrap();
        if id % 20 == 19 {
            spool.flush().unwrap();
            while let Some(batch) = backlog.next_batch(6, 100_000).unwrap() {
                seen.extend(lines(&batch, &mut BTreeMap::new()));
                backlog.done(&batch).unwrap();
            }
        }
    }
    assert_eq!(ids(&seen), (0..2_000).collect::<Vec<_>>());
    assert_eq!(spool.counts().full_records, 0);
}

#[test]
fn a_reader_that_is_overtaken_gets_exact_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(64 << 10)).unwrap();
    let mut backlog = Backlog::open(folder.path()).unwrap();
    let mut outs = Vec::new();
    for id in 0..4_000 {
        spool.append(&records(id..id + 1, 300)).unwrap();
        spool.flush().unwrap();
        if id % 1_000 == 10 {
            let batch = backlog.next_batch(6, 100_000).unwrap().unwrap();
            outs.extend(lines(&batch, &mut BTreeMap::new()));
            backlog.done(&batch).unwrap();
        }
    }
    outs.extend(drain(&mut backlog));
    let mut next = 0;
    let mut gaps = 0;
    for out in &outs {
        assert_eq!(out.range().0, next);
        next = out.range().1 + 1;
        match out {
            Out::Record { seq, id } => assert_eq!(seq, id),
            Out::Gap { reason, .. } => {
                assert_eq!(reason, "spool_full");
                gaps += 1;
            }
        }
    }
    assert_eq!(next, 4_000);
    // What a reader has open it reads to its end, deleted or not.
    assert!(gaps >= 2, "{gaps}");
}

#[test]
fn a_long_line_leaves_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(64 << 10)).unwrap();
    let long = records(1..2, 17_000);
    spool.append(&[records(0..1, 10), long.clone(), records(2..3, 16_000)].concat()).unwrap();
    spool.flush().unwrap();
    let outs = drain(&mut Backlog::open(folder.path()).unwrap());
    assert_eq!(outs, [Out::Record { seq: 0, id: 0 }, gap("too_long", 1, 1), Out::Record { seq: 2, id: 2 }]);
    let counts = spool.counts();
    assert_eq!((counts.records, counts.too_long), (3, 1));
    // What is refused takes the count back, too.
    spool.append(&[long, b"no object".to_vec()].concat()).unwrap_err();
    assert_eq!(spool.counts().too_long, 1);
}

#[test]
fn skipped_records_leave_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), options(1 << 20)).unwrap();
    spool.append(&records(0..2, 10)).unwrap();
    spool.skip(GapReason::DiskFull, 1_000_000).unwrap();
    spool.skip(GapReason::DiskFull, 0).unwrap();
    spool.append(&records(2..3, 10)).unwrap();
    spool.finish().unwrap();
    drop(spool);
    let spool = Spool::open_in(folder.path(), options(1 << 20), 77).unwrap();
    assert_eq!(spool.counts().next_seq, 1_000_003);
    let outs = drain(&mut Backlog::open(folder.path()).unwrap());
    let expected = [
        Out::Record { seq: 0, id: 0 },
        Out::Record { seq: 1, id: 1 },
        gap("disk_full", 2, 1_000_001),
        Out::Record { seq: 1_000_002, id: 2 },
    ];
    assert_eq!(outs, expected);
}

#[test]
fn an_error_of_the_disk_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut spool = Spool::open(&path, options(64 << 10)).unwrap();
    spool.append(&records(0..3, 10)).unwrap();
    // With a file in place of its folder no segment can be made, as without room.
    let away = folder.path().join("away");
    fs::rename(&path, &away).unwrap();
    fs::write(&path, "").unwrap();
    for _ in 0..3 {
        spool.flush().unwrap_err();
    }
    let mut id = 3;
    while spool.append(&records(id..id + 1, 500)).is_ok() {
        id += 1;
    }
    let waiting = spool.counts().waiting;
    assert_eq!(waiting, id);
    spool.append(&records(id..id + 1, 500)).unwrap_err();
    assert_eq!(spool.counts().waiting, waiting);
    fs::remove_file(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    spool.append(&records(id..id + 1, 500)).unwrap();
    spool.finish().unwrap();
    assert_eq!(ids(&drain(&mut Backlog::open(&path).unwrap())), (0..=id).collect::<Vec<_>>());
}

#[test]
fn too_small_a_limit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Spool::open(folder.path(), options(65_535)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}
