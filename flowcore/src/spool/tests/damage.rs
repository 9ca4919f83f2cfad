//! Whatever lies in the folder: a spool opens, its numbers go on, and what is missing is said.

use super::*;

/// Three segments of ten records each, and a reader that has read nothing.
fn three() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let mut spool = Spool::open_in(folder.path(), options(1 << 20), 1).unwrap();
        for id in run * 10..run * 10 + 10 {
            spool.append(&records(id..id + 1, 40)).unwrap();
            spool.flush().unwrap();
        }
    }
    assert_eq!(segments(folder.path()), [0, 10, 20]);
    folder
}

/// Opens the spool again, writes a record with the id 1000, and returns all that comes out.
fn go_on(folder: &Path, boot: u128) -> Vec<Out> {
    let mut spool = Spool::open_in(folder, options(1 << 20), boot).unwrap();
    spool.append(&records(1_000..1_001, 10)).unwrap();
    spool.finish().unwrap();
    drain(&mut Backlog::open(folder).unwrap())
}

fn plain(ids: std::ops::Range<u64>) -> Vec<Out> {
    ids.map(|n| Out::Record { seq: n, id: n }).collect()
}

#[test]
fn a_missing_segment_is_a_gap() {
    let folder = three();
    fs::remove_file(segment::path(folder.path(), 10)).unwrap();
    let outs = go_on(folder.path(), 1);
    let last = vec![Out::Record { seq: 30, id: 1_000 }];
    assert_eq!(outs, [plain(0..10), vec![gap("damaged", 10, 19)], plain(20..30), last].concat());
}

#[test]
fn a_kill_costs_what_was_not_written() {
    let folder = three();
    let mut spool = Spool::open_in(folder.path(), options(1 << 20), 1).unwrap();
    spool.append(&records(30..40, 40)).unwrap();
    drop(spool);
    let outs = go_on(folder.path(), 1);
    assert_eq!(outs, [plain(0..30), vec![Out::Record { seq: 30, id: 1_000 }]].concat());
}

#[test]
fn a_frame_torn_by_a_kill_is_an_exact_gap() {
    let folder = three();
    let path = segment::path(folder.path(), 20);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let outs = go_on(folder.path(), 1);
    let last = vec![Out::Record { seq: 30, id: 1_000 }];
    assert_eq!(outs, [plain(0..29), vec![gap("restart", 29, 29)], last].concat());
}

#[test]
fn a_loss_of_power_skips_what_was_reserved() {
    let folder = three();
    let outs = go_on(folder.path(), 2);
    let Out::Record { seq, id: 1_000 } = outs[31] else { panic!("{:?}", outs[31]) };
    assert!(seq > 100_000);
    assert_eq!(outs[..31], [plain(0..30), vec![gap("restart", 30, seq - 1)]].concat());
    // A spool that was finished has reserved nothing.
    let outs = go_on(folder.path(), 3);
    assert_eq!(outs[32], Out::Record { seq: seq + 1, id: 1_000 });
}

#[test]
fn without_its_head_a_spool_is_another() {
    let folder = three();
    fs::write(folder.path().join("head"), b"garbage").unwrap();
    let mut spool = Spool::open_in(folder.path(), options(1 << 20), 2).unwrap();
    spool.append(&records(30..31, 10)).unwrap();
    spool.flush().unwrap();
    let mut backlog = Backlog::open(folder.path()).unwrap();
    let batch = backlog.next_batch(100, 100_000).unwrap().unwrap();
    let mut instances = BTreeMap::new();
    assert_eq!(lines(&batch, &mut instances), plain(0..31));
    assert_eq!(instances.into_values().collect::<std::collections::BTreeSet<_>>(), [1, 30].into());
}

#[test]
fn files_that_are_no_segments_do_no_harm() {
    let folder = three();
    let at = |seq: u64| segment::path(folder.path(), seq);
    fs::write(at(5), b"").unwrap();
    fs::write(at(15), vec![7; 100_000]).unwrap();
    fs::write(at(30), b"").unwrap();
    fs::write(at(31), frame::MAGIC).unwrap();
    fs::write(at(u64::MAX), vec![0; 5_000]).unwrap();
    fs::write(folder.path().join("99999999999999999999.spool"), b"x").unwrap();
    fs::create_dir(at(40)).unwrap();
    let mut early = Backlog::open(folder.path()).unwrap();
    assert_eq!(drain(&mut early), plain(0..30));
    let last = vec![Out::Record { seq: 30, id: 1_000 }];
    let mut spool = Spool::open_in(folder.path(), options(1 << 20), 1).unwrap();
    assert_eq!(segments(folder.path()), [0, 10, 20]);
    spool.append(&records(1_000..1_001, 10)).unwrap();
    spool.finish().unwrap();
    // The reader had gone on to what is no segment, and comes back.
    early.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(drain(&mut early), last);
}

#[test]
fn wrong_names_are_put_right() {
    let folder = three();
    fs::rename(segment::path(folder.path(), 10), segment::path(folder.path(), 777)).unwrap();
    let outs = go_on(folder.path(), 1);
    assert_eq!(outs, [plain(0..30), vec![Out::Record { seq: 30, id: 1_000 }]].concat());
}

#[test]
fn a_damaged_cursor_repeats_and_claims_nothing() {
    let folder = three();
    let mut backlog = Backlog::open(folder.path()).unwrap();
    let batch = backlog.next_batch(15, 100_000).unwrap().unwrap();
    backlog.done(&batch).unwrap();
    drop(backlog);
    assert_eq!(segments(folder.path()), [10, 20]);
    fs::write(folder.path().join("cursor"), [9; 9_000]).unwrap();
    let outs = go_on(folder.path(), 1);
    assert_eq!(outs, [plain(10..30), vec![Out::Record { seq: 30, id: 1_000 }]].concat());
}

#[test]
fn each_cut_of_the_last_segment_leaves_a_spool() {
    let folder = three();
    let whole = fs::read(segment::path(folder.path(), 20)).unwrap();
    for cut in (0..whole.len()).step_by(7) {
        let folder = three();
        fs::write(segment::path(folder.path(), 20), &whole[..cut]).unwrap();
        let outs = go_on(folder.path(), 1);
        let kept = outs.iter().position(|out| matches!(out, Out::Gap { .. })).unwrap() as u64;
        assert_eq!(outs[..kept as usize], plain(0..kept));
        assert_eq!(outs[kept as usize..], [gap("restart", kept, 29), Out::Record { seq: 30, id: 1_000 }]);
    }
}

/// Copies the files of a spool as they are: what a kill leaves.
fn killed(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

#[test]
fn a_kill_before_the_first_record_leaves_no_gap() {
    let live = SpoolOptions { live: true, sync: SyncPolicy::Every(Duration::ZERO), ..options(1 << 20) };
    let folder = tempfile::tempdir().unwrap();
    // A new spool, then one from the run of the machine before.
    let mut folders = vec![folder];
    for (run, boot) in [(0, 1), (1, 2)] {
        for _ in 0..3 {
            let mut spool = Spool::open_in(folders[folders.len() - 1].path(), live, boot).unwrap();
            // The numbers are reserved.
            spool.settle().unwrap();
            folders.push(killed(folders[folders.len() - 1].path()));
        }
        let mut spool = Spool::open_in(folders[folders.len() - 1].path(), live, boot).unwrap();
        spool.append(&records(run * 10..run * 10 + 10, 10)).unwrap();
        spool.finish().unwrap();
    }
    let mut backlog = Backlog::open(folders[folders.len() - 1].path()).unwrap();
    let expected: Vec<_> = (0..20).map(|n| Out::Record { seq: n, id: n }).collect();
    assert_eq!(drain(&mut backlog), expected);
}
