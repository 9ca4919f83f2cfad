//! The processes of a running flowcap, from outside.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// Lists a process and all that it, and what it started, has started.
pub fn family(process: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> =
        numbers.filter_map(|number| Some((number, status(number, "PPid")?.parse().ok()?))).collect();
    let mut family = vec![process];
    let mut next = 0;
    while let Some(&above) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(number, _)| number));
        next += 1;
    }
    family
}

/// Finds the process that sends for a running flowcap, if it has one at the moment.
pub fn sender(flowcap: u32) -> Option<u32> {
    family(flowcap).into_iter().find(|&process| does(process).as_deref() == Some("sends"))
}

/// Says what a process beside the first one does.
pub fn does(process: u32) -> Option<String> {
    let words = words(process);
    let works = words.get(2)?.starts_with("--attempt=");
    match words.get(1)?.as_str() {
        "ship" if works => Some("sends".to_owned()),
        other if works => Some(other.to_owned()),
        other => Some(format!("starts {other}")),
    }
}

/// Returns the arguments of a process.
pub fn words(process: u32) -> Vec<String> {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Returns a line of a process's status, if the process is there.
pub fn status(process: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Sends a signal to processes, all at once; those that have ended meanwhile are no error.
pub fn kill(signal: &str, processes: &[u32]) {
    let numbers: Vec<String> = processes.iter().map(u32::to_string).collect();
    let line = format!("kill -{signal} {} 2>/dev/null || true", numbers.join(" "));
    assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success(), "{line}");
}

/// Memory in kB and open files of each process, by what it does.
#[derive(Debug)]
pub struct Sizes(BTreeMap<String, (u64, usize)>);

impl Sizes {
    pub fn of(process: u32) -> Sizes {
        let sizes = family(process).into_iter().filter_map(|one| {
            let does = if one == process { "captures".to_owned() } else { does(one)? };
            let memory = status(one, "VmRSS")?.split(' ').next()?.parse().ok()?;
            Some((does, (memory, fs::read_dir(format!("/proc/{one}/fd")).ok()?.count())))
        });
        Sizes(sizes.collect())
    }

    /// Returns the most of each.
    fn most(all: &[Sizes]) -> Sizes {
        let mut most: BTreeMap<String, (u64, usize)> = BTreeMap::new();
        for (who, (memory, files)) in all.iter().flat_map(|sizes| &sizes.0) {
            let (most_memory, most_files) = most.entry(who.clone()).or_default();
            (*most_memory, *most_files) = ((*most_memory).max(*memory), (*most_files).max(*files));
        }
        Sizes(most)
    }

    /// Sees to it that, after the first third, everything has the size that it keeps.
    pub fn stay(all: &[Sizes]) {
        let third = all.len() / 3;
        let (early, late) = (Sizes::most(&all[third..2 * third]), Sizes::most(&all[2 * third..]));
        println!("early: {early:?}\nlate: {late:?}");
        for (who, (kilobytes, files)) in &late.0 {
            let (kilobytes_early, files_early) = early.0[who];
            assert!(*kilobytes < kilobytes_early * 5 / 4 + 8_192, "{who}: memory grows");
            assert!(*files <= files_early + 3, "{who}: open files grow");
        }
    }
}
