//! What is counted of the sending is seen from outside, and adds up.

use std::fs;
use std::time::Duration;

use flowcore::spool::Backlog;
use serde_json::Value;

use crate::processes::{kill, sender};
use crate::server::{Habit, Server, status};
use crate::stand::{Stand, records};

/// The output's counters in the last stats record that is whole.
fn sink(stand: &Stand) -> Value {
    let stats = fs::read_to_string(stand.path("s.jsonl")).unwrap_or_default();
    let whole = stats.rfind('\n').map_or("", |end| &stats[..=end]);
    records(whole).last().map_or(Value::Null, |stats| stats["sinks"][0].clone())
}

#[test]
fn what_was_put_in_is_sent_refused_or_waits() {
    let Some(stand) = Stand::live() else { return };
    let server = Server::start([]).always(Habit::Say(status(500, "")));
    let config = format!(
        "[[output]]\nto = 'http://127.0.0.1:{}/'\nspool = 'spool'\nbatch = '100,50ms'\n",
        server.port
    );
    fs::write(stand.path("f.toml"), config).unwrap();
    let line = "-C f.toml --stats s.jsonl --stats-interval 1s -q";
    let mut flowcap = stand.listen(line);
    let first = stand.send_for(0, Duration::from_millis(300), 1_000);
    flowcap.wait_until("it is told that the server fails", || {
        let server = &sink(&stand)["server"];
        server["retries"].as_u64() > Some(1) && server["waiting"] == first
    });
    let told = sink(&stand)["server"].clone();
    assert!(told["error"].as_str().is_some_and(|error| error.contains("500")), "{told}");
    assert!(told["failing_since"].as_str() <= told["error_at"].as_str(), "{told}");
    assert!(told["failing_since"].is_string() && told["sent"] == 0 && told["refused"] == 0, "{told}");
    assert_eq!(flowcap.stop().code, Some(0));
    assert_eq!(sink(&stand)["spooled"], first);

    let before = Backlog::waiting_in(stand.path("spool"));
    assert_eq!(before, u64::from(first));
    // A few that it never takes, among those that wait and those to come.
    let bad = [5, 17, u64::from(first) + 3];
    server.change(Some(Habit::Dislike(bad.to_vec())));
    fs::remove_file(stand.path("s.jsonl")).unwrap();
    let mut flowcap = stand.listen(line);
    let process = flowcap.child.id();
    let mut end = stand.send_for(first, Duration::from_millis(300), 1_000);
    let all = |end: u32| u64::from(end) - bad.len() as u64;
    flowcap.wait_until("all but these are taken", || {
        let server = &sink(&stand)["server"];
        server["refused"] == bad.len() && server["sent"] == all(end) && server["waiting"] == 0
    });
    assert!(sink(&stand)["server"]["failing_since"].is_null());
    // It counts on where another one goes on with the sending.
    kill("KILL", &[sender(process).expect("a process that sends")]);
    end = stand.send_for(end, Duration::from_millis(100), 1_000);
    flowcap.wait_until("another one sends", || {
        let sink = sink(&stand);
        sink["restarts"] == 1 && sink["server"]["sent"] == all(end) && sink["server"]["waiting"] == 0
    });
    assert_eq!(flowcap.stop().code, Some(0));
    let sink = sink(&stand);
    let number = |sink: &Value, name: &str| sink[name].as_u64().unwrap_or(0);
    let of_server = |name: &str| number(&sink["server"], name);
    assert_eq!(
        number(&sink, "spooled") + before,
        of_server("sent") + of_server("refused") + of_server("waiting") + number(&sink, "spool_lost"),
        "{sink}"
    );
    assert_eq!((number(&sink, "spooled"), of_server("refused")), (u64::from(end - first), 3), "{sink}");
}
