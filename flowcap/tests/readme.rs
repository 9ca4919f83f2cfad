//! The README shows what is: its record, its table and its program are those of this version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// The text between the fence that opens a block of a language and the one that closes it.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, behind) = text.split_once(&format!("```{language}\n")).expect("a block");
    behind.split_once("```").expect("its end").0
}

fn flowcap(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
    let output = command.args(arguments).arg("--quiet").current_dir(root()).output().expect("flowcap runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_record() {
    let shown: Value = serde_json::from_str(block(&readme(), "json")).expect("JSON");
    let records = flowcap(&["--read", "testdata/captures/dns.pcap"]);
    let second = records.lines().nth(1).expect("a second record");
    assert_eq!(shown, serde_json::from_str::<Value>(second).expect("JSON"));
}

#[test]
fn what_commands_print() {
    let readme = readme();
    let shown: Vec<&str> = readme.split("```\n$ flowcap ").skip(1).collect();
    assert_eq!(shown.len(), 4);
    for text in shown {
        let (command, behind) = text.split_once('\n').expect("a command");
        let output = flowcap(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(behind.split_once("```").expect("its end").0, output, "{command}");
    }
}

#[test]
fn the_program() {
    let example = fs::read_to_string(root().join("flowcore/examples/table.rs")).expect("the example");
    let program = example.split_once("\n\n").expect("a doc comment and the program").1;
    assert_eq!(block(&readme(), "rust"), program);
}
