//! Who owns what, from outside: sockets, events and flows of a machine in a network namespace of its own, beside what
//! `ss` and the kernel say. Needs root, `ip`, `ss`, setpriv and python3; without them each test says SKIPPED, and with
//! CI_REQUIRE_LIVE=1 it fails instead.
#![cfg(all(target_os = "linux", feature = "live", feature = "host"))]

// What the live tests need and these do not.
mod beside;
#[allow(dead_code)]
#[path = "../live/cable.rs"]
mod cable;
mod events;
mod flows;
mod sockets;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cable::{Cable, Finished, NEAR, Program, records, text};
use serde_json::Value;

/// The machine's IPv6 address, and that of the other one.
const FAR_V6: &str = "fd77::2";
const NEAR_V6: &str = "fd77::1";

/// A machine, which is the far end of a cable, and another one at the near end.
struct Machine {
    cable: Cable,
}

impl Machine {
    /// Sets it up, or says loudly why it cannot.
    fn start() -> Option<Machine> {
        let cable = Cable::lay()?;
        let has_ipv6 = cable.add_ipv6(&cable.near, NEAR_V6) && cable.add_ipv6(&cable.far, FAR_V6);
        let missing = ["ss", "setpriv"]
            .into_iter()
            .find(|program| !cable.start(&cable.far, program, &["--version"]).finish().status.success());
        match missing {
            _ if !has_ipv6 => cable::skip("no IPv6"),
            Some(program) => cable::skip(&format!("no {program}")),
            None => return Some(Machine { cable }),
        }
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cable.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The records of a file, as far as it was written.
    fn records(&self, name: &str) -> Vec<Value> {
        let lines = self.read(name);
        records(lines.rsplit_once('\n').map_or("", |(whole, _)| whole))
    }

    /// Starts flowcap in the machine; names of files are in the folder, as `{}`.
    fn begin(&self, arguments: &[&str]) -> Program {
        let arguments = self.placed(arguments);
        self.cable.start(&self.cable.far, env!("CARGO_BIN_EXE_flowcap"), &borrowed(&arguments))
    }

    /// Starts a capture in the machine, and waits until it listens.
    fn capture(&self, arguments: &[&str]) -> Program {
        self.cable.listen(&borrowed(&self.placed(arguments)))
    }

    /// Runs flowcap in the machine to its end.
    fn flowcap(&self, arguments: &[&str]) -> Finished {
        self.begin(arguments).finish()
    }

    /// Runs flowcap in the machine as a user without privileges.
    fn as_nobody(&self, arguments: &[&str]) -> Finished {
        // What flowcap writes is for its own user and group.
        for file in fs::read_dir(self.cable.folder.path()).expect("a folder").flatten() {
            let _ = fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755));
        }
        self.cable.as_nobody(&self.cable.far, &borrowed(&self.placed(arguments))).finish()
    }

    /// Starts a program of a few steps in the machine; returns it with the facts that it says first.
    fn program(&self, title: &str, steps: &str) -> (Program, Value) {
        self.program_in(&self.cable.far, title, steps)
    }

    /// Starts a program on the other machine.
    fn far_away(&self, title: &str, steps: &str) -> (Program, Value) {
        self.program_in(&self.cable.near, title, steps)
    }

    fn program_in(&self, namespace: &str, title: &str, steps: &str) -> (Program, Value) {
        let path = self.path(&format!("{title}.py"));
        fs::write(&path, [include_str!("peer.py"), steps].concat()).expect("a file");
        let folder = self.cable.folder.path();
        let mut program = self.cable.start(namespace, "python3", &["-B", text(&path), text(folder)]);
        program.wait_until_it_prints();
        let said = fs::read_to_string(&program.stdout).expect("UTF-8");
        (program, serde_json::from_str(said.lines().next().unwrap_or_default()).expect("facts"))
    }

    /// Lets the programs go on that wait for this word.
    fn go(&self, word: &str) {
        fs::write(self.path(word), "").expect("a file");
    }

    fn placed(&self, arguments: &[&str]) -> Vec<String> {
        let folder = format!("{}/", text(self.cable.folder.path()));
        arguments.iter().map(|argument| argument.replace("{}", &folder)).collect()
    }
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// What a program says last.
fn last_words(finished: &Finished) -> Value {
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    serde_json::from_str(finished.stdout.lines().last().unwrap_or_default()).expect("facts")
}
