//! Where records wait that no configuration gives a folder to.

use std::fs;
use std::time::Duration;

use flowcore::spool::{Backlog, Spool};

use crate::arrived::Arrived;
use crate::server::Server;
use crate::stand::{Stand, capture};

#[test]
fn each_server_has_a_spool_and_what_waits_in_an_older_one_is_sent() {
    let stand = Stand::new();
    fs::write(stand.path("a.pcap"), capture(10, 1)).unwrap();
    let server = Server::start([]);
    let url = format!("http://127.0.0.1:{}/a", server.port);
    let state = stand.path("state");
    // As it was called once.
    let older = state.join(format!("spool/http___127.0.0.1_{}_a_b", server.port));
    let mut spool = Spool::open(&older, Default::default()).unwrap();
    spool.append(b"{\"type\":\"flow\",\"dst_ip\":\"127.1.0.99\"}\n").unwrap();
    spool.finish().unwrap();
    drop(spool);
    // One that looks alike, and one that is longer than any name.
    let long = format!("{url}/{}?{}", "c/".repeat(200), "d".repeat(300));
    let all = [format!("{url}/b"), format!("{url}_b2"), format!("{url}/b2"), long];
    let outputs: String = all.iter().map(|to| format!("[[output]]\nto = '{to}'\n")).collect();
    fs::write(stand.path("f.toml"), outputs).unwrap();
    let mut arrived = Arrived::default();
    for run in 1..=2 {
        let mut command = stand.command("-C f.toml -r a.pcap -q");
        let ran = command.env("STATE_DIRECTORY", &state).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        arrived.take(&server);
        let from_older = arrived.numbers().iter().filter(|number| **number == 99).count();
        assert_eq!(
            (from_older, arrived.numbers().len()),
            (1, 1 + run * 10 * all.len()),
            "{:?}",
            arrived.numbers()
        );
    }
    assert_eq!(Backlog::waiting_in(&older), 0);
    // It is used no more, once it is empty.
    assert_eq!(fs::read_dir(state.join("spool")).unwrap().count(), 1 + all.len());
}

#[test]
fn a_user_finds_a_spool_of_its_own_made() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let Some(stand) = Stand::live() else { return };
    let server = Server::start([]);
    fs::set_permissions(stand.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let to = format!("http://127.0.0.1:{}/", server.port);
    fs::write(stand.path("f.toml"), format!("[[output]]\nto = '{to}'\nbatch = '100,50ms'\n")).unwrap();
    // A folder of services that is not there yet, in one that is root's; and once more when it is.
    let state = stand.path("state");
    let mut next = 0;
    for _ in 0..2 {
        let before = next;
        let mut check = stand.command("-C f.toml -i lo -q -Z nobody --check");
        let checked = check.env("STATE_DIRECTORY", &state).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        let mut flowcap = stand.listen_with("-C f.toml -q -Z nobody --sandbox require", |command| {
            command.env("STATE_DIRECTORY", &state);
        });
        next = stand.send_for(next, Duration::from_millis(300), 1_000);
        let mut arrived = Arrived::default();
        flowcap.wait_until("they arrive", || {
            arrived.take(&server);
            arrived.lines.len() == (next - before) as usize
        });
        let ran = flowcap.stop();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    for folder in [state.clone(), state.join("spool")] {
        assert_eq!(fs::metadata(&folder).unwrap().uid(), 65_534, "{}", folder.display());
    }
}
