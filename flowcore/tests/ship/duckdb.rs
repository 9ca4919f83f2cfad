//! DuckDB loads what an HTTP server received, and removes repeats by instance and seq.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::backlog::{Memory, Running, quick};
use crate::server::{Habit, OK, Server, status};

#[test]
fn duckdb_loads_what_arrived_and_removes_repeats() {
    // A Python with the package duckdb; one of a virtual environment may be named.
    let python = std::env::var("FLOWCAP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !Command::new(&python).args(["-c", "import duckdb"]).output().is_ok_and(|done| done.status.success()) {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {python} has no duckdb (pip install duckdb; FLOWCAP_PYTHON names another Python)"
        );
        return;
    }
    let server = Server::start([
        Habit::Say(status(500, "")),
        Habit::Cut(OK.get(..20).unwrap_or_default().to_owned()),
        Habit::Say(status(503, "")),
    ]);
    let memory = Memory::default();
    memory.add(0, 200);
    Running::start(&server.url(), &quick(), &memory).finish();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flows.jsonl");
    let lines: Vec<String> = server.requests().into_iter().flat_map(|request| request.lines).collect();
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let done = Command::new(&python).args(["-c", QUERIES]).arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).unwrap();
    // The first batch of 10 came four times; each record has 7 times its number as bytes.
    assert_eq!(said, format!("230 200 True\n200 {} 0 199\n", 7 * (0..200).sum::<u64>()));
}

const QUERIES: &str = r#"
import duckdb, sys
flows = duckdb.read_json(sys.argv[1], format='newline_delimited')
counts = "SELECT count(*), count(DISTINCT (instance, seq)), starts_with(typeof(any_value(timestamp)), 'TIMESTAMP')"
print(*duckdb.sql(f'{counts} FROM flows').fetchall()[0])
once = 'SELECT DISTINCT ON (instance, seq) * FROM flows'
print(*duckdb.sql(f'SELECT count(*), sum(bytes), min(seq), max(seq) FROM ({once})').fetchall()[0])
"#;
