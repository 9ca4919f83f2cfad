//! Kills at random moments while files are written, and what the next start makes of them.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::killed::{Dice, LOST, Runs, kills_in_all};
use super::stand::{Stand, numbers};

#[test]
fn kills_while_a_plain_file_is_written() {
    kills("out/f.jsonl", 0);
    kills("out/f-%M.jsonl --rotate 100kB", 1);
}

#[test]
fn kills_while_a_compressed_file_is_written() {
    kills("out/f-%M.jsonl.zst --rotate 1s", 2);
    kills("out/f.jsonl.gz", 3);
}

#[test]
fn kills_while_closed_files_are_compressed() {
    kills("out/%H/f-%M.jsonl --rotate 1s,20kB --compress zstd", 4);
}

/// Kills flowcap again and again, a fifth of all times; then everything that is old enough must be there, once, in
/// whole lines.
fn kills(output: &str, seed: u64) {
    let Some(stand) = Stand::live() else { return };
    fs::create_dir(stand.path("out")).unwrap();
    let (mut dice, mut runs, mut next) = (Dice::new(seed), Runs::default(), 0);
    for _ in 0..kills_in_all(50) / 5 {
        let flowcap = stand.listen(&format!("-o {output}"));
        runs.begin(next);
        let deadline = Instant::now() + Duration::from_millis(200 + dice.below(3_000));
        while Instant::now() < deadline {
            next = stand.send_for(next, Duration::from_millis(10), 1_000);
            runs.sent(next);
        }
        flowcap.kill();
        runs.killed(LOST);
    }
    // The last start sees to what the kills have left.
    let mut flowcap = stand.listen(&format!("-o {output}"));
    let is_whole = |name: &String| !name.ends_with(".part");
    flowcap.wait_until("leftovers are finished", || {
        stand.names("out").iter().filter(|name| !is_whole(name)).count() <= 1
    });
    sleep(Duration::from_millis(300));
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);

    let texts = stand.texts("out");
    assert!(texts.keys().all(is_whole), "{:?}", texts.keys());
    // Whatever the file, its lines are whole; no record is there twice.
    runs.check(output, texts.values().flat_map(|text| numbers(text)).collect());
}
