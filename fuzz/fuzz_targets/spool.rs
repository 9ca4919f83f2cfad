//! Any bytes as the files of a spool: it opens or says why not, numbers go on, and what is written then comes out.
#![no_main]

use std::fs;

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

// The first byte says which file it is, the next two how many of the bytes behind belong to it, and so on.
fuzz_target!(|data: &[u8]| {
    let folder = std::env::temp_dir().join(format!("flowcap-fuzz-spool-{}", std::process::id()));
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let mut rest = data;
    while let [which, low, high, behind @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (bytes, left) = behind.split_at(length);
        fs::write(folder.join(NAMES[usize::from(*which) % NAMES.len()]), bytes).expect("a file");
        rest = left;
    }
    let mut backlog = Backlog::open(&folder).expect("a reader");
    read(&mut backlog);
    let options = SpoolOptions { max_bytes: 1 << 20, sync: SyncPolicy::Off, live: false };
    // Refused where a checksummed file says that the numbers are used up.
    if let Ok(mut spool) = Spool::open(&folder, options) {
        let next = spool.counts().next_seq;
        spool.append(b"{\"new\":1}\n{\"new\":2}\n").expect("room");
        spool.finish().expect("room");
        drop(spool);
        let spool = Spool::open(&folder, options).expect("what was closed opens");
        assert_eq!(spool.counts().next_seq, next + 2);
        let last = read(&mut backlog);
        assert!(last.is_none_or(|last| last <= next + 1));
        let mut fresh = Backlog::open(&folder);
        assert!(fresh.is_err(), "two readers");
        drop(backlog);
        fresh = Backlog::open(&folder);
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
