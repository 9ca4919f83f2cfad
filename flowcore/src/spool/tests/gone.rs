//! Folders that are deleted, or moved away, while they are written and read.

use std::io::ErrorKind;

use super::*;

/// A spool of which four of ten records are done and six are lost with its folder, by `take_away`; returns it after
/// ten more.
fn lost(folder: &Path, options: SpoolOptions, take_away: fn(&Path)) -> (Spool, Backlog) {
    let mut spool = Spool::open(folder, options).unwrap();
    spool.append(&records(0..10, 10)).unwrap();
    spool.flush().unwrap();
    let mut backlog = Backlog::open(folder).unwrap();
    let batch = backlog.next_batch(4, 10_000).unwrap().unwrap();
    backlog.done(&batch).unwrap();
    take_away(folder);
    spool.append(&records(10..20, 10)).unwrap();
    (spool, backlog)
}

fn delete(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
}

fn move_away(folder: &Path) {
    fs::rename(folder, folder.with_extension("away")).unwrap();
}

fn expected() -> Vec<Out> {
    let records = (10..20).map(|n| Out::Record { seq: n, id: n });
    [gap("damaged", 4, 9)].into_iter().chain(records).collect()
}

#[test]
fn a_folder_is_made_again_and_what_is_gone_is_a_gap() {
    for take_away in [delete, move_away] {
        for live in [false, true] {
            let above = tempfile::tempdir().unwrap();
            let folder = above.path().join("spool");
            let options = SpoolOptions { live, ..options(1 << 20) };
            let (mut spool, mut backlog) = lost(&folder, options, take_away);
            spool.flush().unwrap();
            // What was read is given still.
            let rest = backlog.next_batch(100, 100_000).unwrap().unwrap();
            assert_eq!((rest.first_seq, rest.last_seq), (4, 9));
            for _ in 0..2 {
                assert_eq!(backlog.next_batch(100, 100_000).unwrap_err().kind(), ErrorKind::NotFound);
            }
            drop(backlog);
            assert_eq!(drain(&mut Backlog::open(&folder).unwrap()), expected());
            // The next run goes on with the numbers, and knows the instance.
            let instance = spool.instance();
            drop(spool);
            let spool = Spool::open(&folder, options).unwrap();
            assert_eq!((spool.instance(), spool.counts().next_seq), (instance, 20));
        }
    }
}

#[test]
fn a_reader_that_comes_first_is_told_the_same() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("spool");
    let (mut spool, backlog) = lost(&folder, options(1 << 20), delete);
    drop(backlog);
    let mut backlog = Backlog::open(&folder).unwrap();
    assert_eq!(drain(&mut backlog), []);
    spool.flush().unwrap();
    assert_eq!(drain(&mut backlog), expected());
}

#[test]
fn another_spool_in_its_place_is_left_alone() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("spool");
    let (mut spool, _) = lost(&folder, options(1 << 20), move_away);
    let other = Spool::open(&folder, options(1 << 20)).unwrap();
    assert_eq!(spool.flush().unwrap_err().kind(), ErrorKind::ResourceBusy);
    drop(other);
    assert_eq!(spool.flush().unwrap_err().kind(), ErrorKind::AlreadyExists);
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(folder.with_extension("away"), &folder).unwrap();
    spool.flush().unwrap();
    assert_eq!(ids(&drain(&mut Backlog::open(&folder).unwrap())), (4..20).collect::<Vec<_>>());
}
