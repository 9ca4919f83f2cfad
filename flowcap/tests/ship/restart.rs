//! A process that sends and dies is started again.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::arrived::Arrived;
use crate::processes::{family, kill, sender, status, words};
use crate::server::Server;
use crate::stand::{Stand, records};

#[test]
fn a_sender_that_is_killed_is_started_again() {
    let Some(stand) = Stand::live() else { return };
    let server = Server::start([]);
    let config = format!(
        "[[output]]\nto = 'http://127.0.0.1:{}/'\nspool = 'spool'\nbatch = '100,50ms'\n",
        server.port
    );
    fs::write(stand.path("f.toml"), config).unwrap();
    let mut flowcap = stand.listen("-C f.toml --stats s.jsonl --stats-interval 1s -q");
    let process = flowcap.child.id();
    let mut next = 0;
    for nth in 1..=2 {
        next = stand.send_for(next, Duration::from_millis(700), 2_000);
        let sends = sender(process).expect("a process that sends");
        kill("KILL", &[sends]);
        let restarts = || {
            let stats = fs::read_to_string(stand.path("s.jsonl")).unwrap_or_default();
            let whole = stats.rfind('\n').map_or("", |end| &stats[..=end]);
            records(whole).last().map_or(0, |stats| stats["sinks"][0]["restarts"].as_u64().unwrap_or(0))
        };
        flowcap.wait_until("it is started again", || {
            next = stand.send_for(next, Duration::from_millis(20), 2_000);
            restarts() == nth && sender(process).is_some_and(|now| now != sends)
        });
    }
    next = stand.send_for(next, Duration::from_millis(300), 2_000);
    sleep(Duration::from_millis(300));
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.err.matches("the process that sends has ended: signal: 9").count(), 2, "{}", ran.err);
    let arrived = Arrived::at(&server);
    assert_eq!(arrived.numbers(), (0..next).collect::<Vec<_>>(), "{} repeats", arrived.repeats);
    assert!(arrived.gaps.is_empty(), "{:?}", arrived.gaps);
    let stats = records(&fs::read_to_string(stand.path("s.jsonl")).unwrap());
    let sink = &stats.last().unwrap()["sinks"][0];
    assert_eq!((sink["restarts"].as_u64(), sink["spooled"].as_u64()), (Some(2), Some(u64::from(next))));
}

#[test]
fn who_starts_it_again_has_given_up_its_privileges() {
    let Some(stand) = Stand::live() else { return };
    let server = Server::start([]);
    let config = format!("[[output]]\nto = 'http://127.0.0.1:{}/'\nspool = 'open/spool'\n", server.port);
    fs::write(stand.path("f.toml"), config).unwrap();
    fs::create_dir(stand.path("open")).unwrap();
    for path in ["", "open"] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(stand.path(path), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut flowcap = stand.listen("-C f.toml -q -Z nobody --sandbox require");
    let process = flowcap.child.id();
    flowcap.wait_until("it sends", || {
        sender(process).is_some_and(|sends| status(sends, "Seccomp").as_deref() == Some("2"))
    });
    let end = stand.send_for(0, Duration::from_millis(300), 1_000);
    let sends = sender(process).unwrap();
    let keeps = family(process).into_iter().find(|&one| one != sends && words(one).contains(&"ship".into()));
    let keeps = keeps.expect("who starts it");
    for (who, seccomp) in [(process, "2"), (keeps, "0"), (sends, "2")] {
        let is = |name: &str| status(who, name).unwrap();
        let held = is("CapPrm");
        let expected = if who == process { "0000000000002000" } else { "0000000000000000" };
        assert_eq!((held.as_str(), is("NoNewPrivs").as_str()), (expected, "1"), "{:?}", words(who));
        assert_eq!(is("Uid").split_whitespace().collect::<Vec<_>>(), ["65534"; 4], "{:?}", words(who));
        assert_eq!(is("Seccomp"), seccomp, "{:?}", words(who));
        assert_eq!(is("Name"), "flowcap", "{:?}", words(who));
    }
    // As this user it can be started again, and read what the first one has left.
    kill("KILL", &[sends]);
    flowcap.wait_until("it is started again", || sender(process).is_some_and(|now| now != sends));
    let end = stand.send_for(end, Duration::from_millis(300), 1_000);
    sleep(Duration::from_millis(300));
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(Arrived::at(&server).numbers(), (0..end).collect::<Vec<_>>());
}
