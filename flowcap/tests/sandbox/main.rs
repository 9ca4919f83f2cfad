//! The sandbox from inside and from outside: escapes are refused, and what flowcap has to do still works.
//!
//! Some of it needs root, `ip` and python3, or a kernel with Landlock; without them a test says SKIPPED, and with
//! CI_REQUIRE_LIVE=1 it fails instead.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
#[path = "../live/cable.rs"]
mod cable;
mod escapes;
#[cfg(feature = "live")]
mod live;
#[allow(dead_code)]
#[path = "../ship/processes.rs"]
mod processes;
mod replay;
#[cfg(feature = "live")]
mod roles;
#[allow(dead_code)]
#[path = "../../src/sandbox/mod.rs"]
mod sandbox;

use std::process::{Command, Output};

/// Runs flowcap.
fn flowcap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowcap")).args(arguments).output().expect("flowcap runs")
}

/// Tells whether this kernel can do all of it; if not, that is said loudly.
fn can_be_had() -> bool {
    let tried = flowcap(&["--sandbox", "require", "-r", "/dev/null", "-o", "/dev/null"]);
    let had = tried.status.code() != Some(77);
    if !had {
        cable::skip(String::from_utf8_lossy(&tried.stderr).trim());
    }
    had
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        cable::skip("not root");
    }
    root
}
