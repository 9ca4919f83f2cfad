//! Kills at random moments while records are written to files and sent to a server at the same time.

use std::fs;
use std::time::{Duration, Instant};

use crate::arrived::Arrived;
use crate::killed::{Dice, LOST, NOT_DUE, Runs, kills_in_all};
use crate::processes::{family, kill, sender};
use crate::server::Server;
use crate::stand::{Stand, numbers};

/// Kills flowcap with all its processes, flowcap alone, or who sends and then flowcap, again and again.
///
/// What is older than the time to flush must be in the files and at the server. No number of the spool stands for two
/// records, none is missing that no gap record tells of, and no start fails.
#[test]
fn kills_while_records_are_sent() {
    kills_while_sending(15, "500ms", LOST);
}

/// What was written is there, however young it is.
#[test]
fn kills_while_the_disk_has_records_at_once() {
    kills_while_sending(5, "always", NOT_DUE);
}

fn kills_while_sending(times: usize, sync: &str, lost: Duration) {
    let Some(stand) = Stand::live() else { return };
    let (server, mut arrived) = (Server::start([]), Arrived::default());
    let config = format!(
        "sync = '{sync}'\n[[output]]\nto = 'http://127.0.0.1:{}/'\nspool = 'spool'\nbatch = '200,50ms'\n\
         [[output]]\nto = 'out/f-%M.jsonl'\nrotate = '1MB'\n",
        server.port
    );
    fs::write(stand.path("f.toml"), config).unwrap();
    fs::create_dir(stand.path("out")).unwrap();
    let (mut dice, mut runs, mut next) = (Dice::new(5), Runs::default(), 0);
    let mut kills = [0; 3];
    while kills.iter().sum::<usize>() < kills_in_all(times) {
        let flowcap = stand.listen("-C f.toml -q");
        let process = flowcap.child.id();
        runs.begin(next);
        let length = 200 + dice.below(2_500);
        let deadline = Instant::now() + Duration::from_millis(length);
        let who = dice.below(3) as usize;
        let mut sender_dies = (who == 2).then(|| Instant::now() + Duration::from_millis(dice.below(length)));
        while Instant::now() < deadline {
            next = stand.send_for(next, Duration::from_millis(10), 1_000);
            runs.sent(next);
            if sender_dies.is_some_and(|due| Instant::now() > due)
                && let Some(sends) = sender(process)
            {
                kill("KILL", &[sends]);
                kills[2] += 1;
                sender_dies = None;
            }
        }
        if who == 0 {
            let all = family(process);
            kill("KILL", &all);
            kills[0] += 1;
        } else {
            kills[1] += 1;
        }
        flowcap.kill();
        runs.killed(lost);
        arrived.take(&server);
    }
    // The last one sends what the others have left.
    let mut flowcap = stand.listen("-C f.toml -q");
    flowcap.wait_until("all that waits has arrived", || {
        arrived.take(&server);
        runs.missing(&arrived.numbers()).0.is_empty()
    });
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    arrived.take(&server);
    let texts = stand.texts("out");
    let (repeats, told) = (arrived.repeats, arrived.told());
    println!("{} kills of all processes, {} of the first, {} of who sends", kills[0], kills[1], kills[2]);
    println!("{repeats} repeats, gaps: {told:?}");
    runs.check("files", texts.values().flat_map(|text| numbers(text)).collect());
    runs.check("server", arrived.numbers());
    assert_eq!(arrived.untold(), Vec::<u64>::new(), "numbers without a record and without a gap record");
}
