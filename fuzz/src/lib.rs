//! What several targets need: a folder, and an input that stands for several files.

use std::path::PathBuf;

/// Makes an empty folder of this process; `fuzz/smoke` and `fuzz/campaign` see to it that it is in memory and removed.
pub fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("flowcap-fuzz-{}", std::process::id()));
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Takes an input apart: a byte says which file it is, the next two how many of the bytes behind belong to it
/// (little-endian), and so on.
pub fn files(mut input: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    std::iter::from_fn(move || {
        let [which, low, high, behind @ ..] = input else { return None };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (bytes, rest) = behind.split_at(length);
        input = rest;
        Some((usize::from(*which), bytes))
    })
}
