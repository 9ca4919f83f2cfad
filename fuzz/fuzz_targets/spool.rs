//! Any bytes as the files of a spool: it opens or says why not, numbers go on, and what is written then comes out.
#![no_main]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use flowcap_fuzz::{files, folder};
use flowcore::spool::{Backlog, Spool, SpoolOptions, SyncPolicy};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = [
    "00000000000000000000.spool",
    "00000000000000000005.spool",
    "18446744073709551615.spool",
    "cursor",
    "mark",
    "head",
];

static FOLDER: LazyLock<PathBuf> = LazyLock::new(folder);

// Input: files, as `files` of this crate takes them apart; the upper bit says that it is what stands there from 4096 on.
fuzz_target!(|data: &[u8]| {
    let folder = &*FOLDER;
    for file in fs::read_dir(folder).expect("a folder") {
        fs::remove_file(file.expect("a file").path()).expect("a file");
    }
    for (which, bytes) in files(data) {
        let name = NAMES[(which & 0x7f) % NAMES.len()];
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(name));
        let at = if which & 0x80 == 0 { 0 } else { 4096 };
        file.expect("a file").write_all_at(bytes, at).expect("room");
    }
    let mut backlog = Backlog::open(folder).expect("a reader");
    read(&mut backlog);
    let options = SpoolOptions { max_bytes: 1 << 20, sync: SyncPolicy::Off, live: false };
    // Refused where a checksummed file says that the numbers are used up.
    if let Ok(mut spool) = Spool::open(folder, options) {
        let next = spool.counts().next_seq;
        spool.append(b"{\"new\":1}\n{\"new\":2}\n").expect("room");
        spool.finish().expect("room");
        drop(spool);
        let last = read(&mut backlog);
        assert!(last.is_none_or(|last| last <= next + 1));
        // Files are opened for most of the time: now and then is enough for what comes last.
        if data.len() % 4 != 0 {
            return;
        }
        let spool = Spool::open(folder, options).expect("what was closed opens");
        assert_eq!(spool.counts().next_seq, next + 2);
        let mut fresh = Backlog::open(folder);
        assert!(fresh.is_err(), "two readers");
        drop(backlog);
        fresh = Backlog::open(folder);
        read(&mut fresh.expect("a reader"));
    }
});

/// Reads all; numbers follow one another. Returns the last one.
fn read(backlog: &mut Backlog) -> Option<u64> {
    let mut last = None;
    while let Some(batch) = backlog.next_batch(3, 1_000).expect("readable files") {
        assert!(last.is_none_or(|last: u64| batch.first_seq == last + 1));
        assert!(batch.lines.ends_with(b"\n"));
        last = Some(batch.last_seq);
    }
    last
}
