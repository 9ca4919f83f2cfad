//! The house rules (ARCHITECTURE.md): imports only go down, one outside package per room, no unsafe code,
//! no lock held while a thread waits.

mod locks;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by floor, ground floor first. Rooms of one floor are strangers to each other, except for the
/// words of the ground floor.
const FLOORS: &[&[&str]] = &[
    &["time", "key", "field", "error", "stop"],
    &["packet"],
    &["capture", "decode", "feature", "l7", "host", "spool"],
    &["record"],
    &["table", "watch", "filter", "ship"],
    &["shard", "sink", "enrich"],
    &["meter"],
];

/// Which room may name which outside package. A path may be a room or one file of it.
const PACKAGES: &[(&str, &[&str])] = &[
    ("pcap", &["capture"]),
    ("rustix", &["capture", "host", "ship", "sink", "spool"]),
    ("etherparse", &["decode"]),
    ("dns_parser", &["l7/dns"]),
    ("sha1", &["feature/community_id.rs"]),
    ("base64", &["feature/community_id.rs"]),
    ("hashbrown", &["table/store.rs"]),
    ("foldhash", &["table/hash.rs", "host/linux/numbers.rs"]),
    ("crossbeam_channel", &["shard"]),
    // For tests of every interleaving.
    ("loom", &["shard"]),
    ("serde_json", &["sink", "ship"]),
    ("csv", &["sink"]),
    ("dashmap", &["enrich"]),
    // Sending: HTTP, TLS with the system's roots, and the times between tries.
    ("ureq", &["ship"]),
    ("rustls", &["ship"]),
    ("rustls_native_certs", &["ship"]),
    ("backon", &["ship"]),
    // Compression stands at both ends of the data's way: files are read and written compressed.
    ("flate2", &["capture", "sink", "ship"]),
    ("zstd", &["capture", "sink", "spool"]),
    // Damage on disk is found by the checksum that gzip has, so by a package that is there anyway.
    ("crc32fast", &["spool"]),
    // Derives for the records.
    ("serde", &["time", "key", "field", "error", "packet", "l7", "host", "record", "sink", "ship"]),
];

/// Which file of flowcap names which of the packages that its sandbox is made of.
const SANDBOX: &[(&str, &str)] = &[
    // Users, capabilities, limits: calls of the kernel that act on one thread, which the C library's do not.
    // Besides, what a file's permissions let one do is asked, and who one is; who connects is waited for.
    ("rustix", "sandbox/privileges.rs"),
    ("rustix", "conf/check.rs"),
    ("rustix", "shippers.rs"),
    ("rustix", "metrics/http.rs"),
    // What a pipe holds is looked at, and left in it.
    ("rustix", "beside/order.rs"),
    // Files, ports and signals.
    ("landlock", "sandbox/files.rs"),
    // System calls, and their numbers.
    ("seccompiler", "sandbox/calls.rs"),
    ("libc", "sandbox/calls.rs"),
];

/// A source file of flowcore: its path below src, and its text without comments and tests.
struct Source {
    path: String,
    code: String,
}

#[test]
fn imports_only_go_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(floor) = floor_of(source.room()) else { continue };
        for named in crate_paths(&source.code) {
            if named == source.room() {
                continue;
            }
            let allowed = match floor_of(&named) {
                Some(other) => other < floor || (other == floor && floor == 0),
                // Macros of the ground floor are named without their room.
                None => false,
            };
            if !allowed {
                wrong.push(format!("{} names crate::{named}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_has_its_floor() {
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        assert!(floor_of(source.room()).is_some(), "{} stands on no floor", source.path);
    }
}

#[test]
fn each_package_has_its_room() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (package, rooms) in PACKAGES {
            let at_home = rooms.iter().any(|room| {
                source.path == *room
                    || source.path == format!("{room}.rs")
                    || source.path.starts_with(&format!("{room}/"))
            });
            if !at_home && names(&source.code, package) {
                wrong.push(format!("{} names {package}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_dependency_is_on_the_list() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    for line in section.lines().filter(|line| line.contains('=') || line.contains(".workspace")) {
        let name = line.split(['.', ' ', '=']).next().unwrap().replace('-', "_");
        assert!(PACKAGES.iter().any(|(package, _)| *package == name), "{name} has no room");
    }
}

#[test]
fn no_room_has_unsafe_code() {
    for source in sources() {
        let is_door = source.path.ends_with("/mod.rs") && source.path.matches('/').count() == 1;
        if is_door {
            assert!(source.code.contains("#![forbid(unsafe_code)]"), "{} does not forbid it", source.path);
        }
        assert!(!names_word(&source.code, "unsafe"), "{} has unsafe code", source.path);
    }
}

#[test]
fn names_say_what_things_are() {
    for source in sources() {
        let parts: BTreeSet<&str> = source.path.split(['/', '.']).collect();
        for empty in ["util", "utils", "common", "helper", "helpers", "misc", "manager"] {
            assert!(!parts.contains(empty), "{} is named {empty}", source.path);
        }
        assert!(!source.code.contains("fn get_"), "{} has a get_ function", source.path);
        for empty in ["Manager", "Handler", "Helper"] {
            assert!(!source.code.contains(&format!("struct {empty}")), "{}", source.path);
            assert!(!source.code.contains(&format!("{empty} {{")), "{} has a {empty}", source.path);
        }
    }
}

#[test]
fn files_are_of_a_size_to_read() {
    let long: Vec<String> = files(&root().join("src"))
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > 600)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_library_never_prints_and_reads_no_environment() {
    for source in sources() {
        for macro_name in ["println!", "eprintln!", "print!", "eprint!", "std::env"] {
            assert!(!source.code.contains(macro_name), "{} has {macro_name}", source.path);
        }
    }
}

#[test]
fn the_command_names_only_its_packages_and_the_library() {
    let command = root().join("../flowcap/src");
    for path in files(&command) {
        let code = without_comments(&fs::read_to_string(&path).unwrap());
        for package in ["pcap", "etherparse", "dns_parser", "crossbeam_channel", "hashbrown", "serde_json"] {
            assert!(!names(&code, package), "{} names {package}", path.display());
        }
    }
}

#[test]
fn what_forbids_something_is_named_in_one_file() {
    let command = root().join("../flowcap/src");
    for path in files(&command) {
        let code = without_comments(&fs::read_to_string(&path).unwrap());
        for (package, _) in SANDBOX {
            let at_home = SANDBOX.iter().any(|(of, file)| of == package && path.ends_with(file));
            assert_eq!(names(&code, package), at_home, "{} and {package}", path.display());
        }
    }
}

#[test]
fn the_scanner_sees_what_it_should() {
    assert_eq!(crate_paths("use crate::key::{A}; crate::time::B").len(), 2);
    assert_eq!(crate_paths("use crate::{key, time::B}").len(), 2);
    assert!(names("pcap::Capture", "pcap") && names("use pcap;", "pcap"));
    assert!(!names("my_pcap::x crate::pcap::y", "pcap"));
    assert!(!without_comments("a // pcap::b\n").contains("pcap"));
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let texts = texts(&root().join("src")).into_iter();
    texts.map(|(path, text)| Source { path, code: without_comments(&text) }).collect()
}

/// All source files in a folder, as they are but for tests: their paths in it, and what they say.
fn texts(src: &Path) -> Vec<(String, String)> {
    let is_test =
        |path: &Path| path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let paths = files(src).into_iter().filter(|path| !is_test(path.strip_prefix(src).unwrap()));
    let texts = paths.map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        // Tests at the end of a file may name what they like.
        let code = text.split("mod tests {").next().unwrap_or_default().to_owned();
        (path.strip_prefix(src).unwrap().to_string_lossy().replace('\\', "/"), code)
    });
    texts.collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// The rooms that a text names by `crate::room` or `crate::{room, …}`.
fn crate_paths(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !is_word(c)).next().unwrap_or_default(),
        };
        for item in list.split(',') {
            let room: String = item.trim().chars().take_while(|c| is_word(*c)).collect();
            if !room.is_empty() {
                rooms.push(room);
            }
        }
    }
    rooms
}

/// Tells whether a text names a package: `package::…` or `use package`.
fn names(code: &str, package: &str) -> bool {
    code.match_indices(package).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + package.len()..];
        let starts = before.is_none_or(|c| !is_word(c) && c != ':');
        let is_use = code[..at].trim_end().ends_with("use") && after.starts_with([';', ' ']);
        starts && (after.starts_with("::") || is_use)
    })
}

fn names_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !is_word(c)).any(|part| part == word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
