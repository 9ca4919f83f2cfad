//! What a process costs.

use std::fs;

/// Returns the time that a process has taken of processors, in hundredths of a second.
pub fn ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, in which anything may stand, from the third field on; utime and stime are the 14th and 15th.
    let fields = stat.rsplit(')').next()?.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok()).sum()
}
