//! Any text as a configuration file, beside a few flags: it is understood, or refused in one line that can be printed and
//! that names the file.
//!
//! Input: a byte that says which flags are typed, and the text.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use flowcap::configured;
use flowcap_fuzz::folder;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| folder().join("flowcap.toml"));

const FLAGS: [&[&str]; 4] =
    [&[], &["-i", "lo"], &["-r", "x.pcap", "-o", "-", "--format=csv"], &["--splt=3", "-Zme", "-q"]];

fuzz_target!(|data: &[u8]| {
    let Some((&which, text)) = data.split_first() else { return };
    fs::write(&*FILE, text).expect("room");
    let file = FILE.to_str().expect("a path");
    let flags = FLAGS[usize::from(which) % FLAGS.len()];
    match configured(file, flags) {
        // What --check prints has lines.
        Ok((settings, _)) => assert!(settings.lines().flat_map(str::chars).all(is_printed), "{settings:?}"),
        Err(fault) => assert!(fault.starts_with(file) && fault.chars().all(is_printed), "{fault:?}"),
    }
});

fn is_printed(letter: char) -> bool {
    let is_unseen = matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}');
    !letter.is_control() && !is_unseen
}
