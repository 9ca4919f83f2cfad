//! Kills at random moments while files are written, and what the next start makes of them.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::stand::{Stand, numbers};

/// What may be missing at a kill: records not due yet, those of the last 500 ms, and some time for a busy machine.
const LOST: Duration = Duration::from_millis(50 + 500 + 750);

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

/// Kills flowcap again and again, FLOWCAP_KILLS times in all (50 by default); then everything that is old enough must
/// be there, once, in whole lines.
fn kills(output: &str, seed: u64) {
    let Some(stand) = Stand::live() else { return };
    fs::create_dir(stand.path("out")).unwrap();
    let all = std::env::var("FLOWCAP_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(50);
    let mut random = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(seed + 1) ^ u64::from(std::process::id());
    let (mut next, mut sent) = (0, Vec::new());
    for _ in 0..all / 5 {
        let flowcap = stand.listen(&format!("-o {output}"));
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let first = next;
        let deadline = Instant::now() + Duration::from_millis(200 + random % 3_000);
        let mut times = Vec::new();
        while Instant::now() < deadline {
            let end = stand.send_for(next, Duration::from_millis(10), 1_000);
            times.push((end, Instant::now()));
            next = end;
        }
        flowcap.kill();
        let killed = Instant::now();
        let kept = times
            .iter()
            .rev()
            .find(|(_, at)| killed.duration_since(*at) > LOST)
            .map_or(first, |(end, _)| *end);
        sent.push(first..kept);
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
    let found: Vec<u32> = texts.values().flat_map(|text| numbers(text)).collect();
    let mut once = found.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), found.len(), "records are there twice");
    let (mut missing, mut unheard) = (Vec::new(), 0);
    for (nth, run) in sent.iter().enumerate() {
        // On a busy machine flowcap may listen a little later than it seems.
        let heard = once.get(once.partition_point(|number| *number < run.start)).copied();
        let heard = heard.unwrap_or(run.end).clamp(run.start, run.end.max(run.start));
        unheard += heard - run.start;
        let lost = (heard..run.end).filter(|number| once.binary_search(number).is_err());
        missing.extend(lost.map(|number| (nth, run.clone(), number)));
    }
    let old: usize = sent.iter().map(|range| range.len()).sum();
    println!(
        "{output}: {} kills, {next} records sent, {old} of them old enough, {} found, {unheard} not heard",
        all / 5,
        once.len()
    );
    assert!(unheard < 1_000 + old as u32 / 20, "{unheard} of the first packets were not heard");
    assert!(missing.is_empty(), "{} are missing: {missing:?}", missing.len());
}
