//! The program, reading from a file and from a pipe.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use flowcap_benches::rng::Rng;

use crate::Captures;

#[test]
fn a_pipe_gives_what_the_file_gives() {
    let captures = Captures::all();
    let mut rng = Rng::new(1);
    for (nth, path) in captures.paths.iter().enumerate() {
        let from_file = flowcap(path, "1").arg(path).output().expect("flowcap runs");
        let name = path.to_str().expect("UTF-8");
        let wanted = seen(&from_file, name);
        let shards = ["1", "2", "3", "4", "8"][nth / 5 % 5];
        if nth % 5 == 0 {
            let mut redirected = flowcap(path, shards);
            redirected.arg("-").stdin(File::open(path).unwrap());
            assert!(seen(&redirected.output().unwrap(), "-") == wanted, "{name}, as standard input");
        }
        assert!(seen(&dripping(path, shards, &mut rng), "-") == wanted, "{name}, through a pipe");
    }
}

fn flowcap(path: &Path, shards: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowcap"));
    command.args(["-q", "--fields", "@all", "--shards", shards, "-r"]);
    command.current_dir(path.parent().expect("a folder")).env_remove("FLOWCAP_CONFIG");
    command
}

/// What was written and said, and the exit code; the name of the input, which damage is told with, taken out.
fn seen(output: &Output, name: &str) -> (Vec<u8>, Option<i32>, String) {
    let said = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    (output.stdout.clone(), output.status.code(), said.replacen(name, "NAME", 1))
}

/// Gives a capture in pieces, with rests between some that are longer than flowcap waits for more.
fn dripping(path: &Path, shards: &str, rng: &mut Rng) -> Output {
    let bytes = fs::read(path).unwrap();
    let most = (bytes.len() as u32 / 3).max(40);
    let mut pieces = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let piece;
        (piece, rest) = rest.split_at((rng.between(1, most) as usize).min(rest.len()));
        pieces.push(piece);
    }
    let mut child = flowcap(path, shards)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("flowcap runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        scope.spawn(move || {
            for piece in pieces {
                // Behind the damage nobody reads.
                if stdin.write_all(piece).is_err() {
                    return;
                }
                sleep(Duration::from_millis(3));
            }
        });
        child.wait_with_output().expect("flowcap ends")
    })
}
