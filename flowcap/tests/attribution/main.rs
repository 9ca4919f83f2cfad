//! Who owned flows whose owners are known (testdata/make/owned.py). Needs root, `ip` and python3; without them the test
//! says SKIPPED, and with CI_REQUIRE_LIVE=1 it fails instead. `benches/attribution` does the same at length.
#![cfg(feature = "live")]

// What the live tests need and this one does not.
#[allow(dead_code)]
#[path = "../live/cable.rs"]
mod cable;

use std::collections::HashMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cable::{Cable, FAR, LINK, NEAR, records, testdata, text};
use serde_json::Value;

/// An end of a flow: protocol, address and port of that end, address and port of the other one.
type Ends = (String, Value, Value);

#[test]
fn owners_are_named_and_never_wrongly() {
    let Some(cable) = Cable::lay() else { return };
    let machine = addresses(&cable, &cable.far, FAR, "fd77::2");
    let peer = addresses(&cable, &cable.near, NEAR, "fd77::1");
    let flowcap = cable.listen(&["-q", "-i", LINK, "-i", "lo"]);
    // Long enough for the makers to get ready.
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64() + 4.0;

    let script = testdata().join("make/owned.py");
    let truth = cable.folder.path().join("truth.jsonl");
    let make = |namespace: &str, side: &str, here: &str, there: &str| {
        let begin = begin.to_string();
        let mut arguments =
            vec!["-B", text(&script), side, "--here", here, "--there", there, "--begin", &begin];
        arguments.extend(["--flows", "60", "--seconds", "4", "--lives", "1,100", "--truth", text(&truth)]);
        cable.start(namespace, "python3", &arguments)
    };
    let sides = [make(&cable.far, "machine", &machine, &peer), make(&cable.near, "peer", &peer, &machine)];
    for side in sides {
        let finished = side.finish();
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    }
    sleep(Duration::from_millis(500));

    let found = flowcap.stop("INT").records();
    let truths = records(&fs::read_to_string(&truth).expect("UTF-8"));
    assert!(truths.len() >= 60, "{} ends", truths.len());
    let mut flows = by_ends(&found);
    let (mut named, mut all, mut missed) = (0, 0, Vec::new());
    for (ends, mut truths) in owners(&truths) {
        // The same addresses and ports have several owners, one after the other.
        let mut some = flows.remove(&ends).unwrap_or_default();
        assert_eq!(some.len(), truths.len(), "records of {ends:?}");
        some.sort_by(|(_, a), (_, b)| a["timestamp"].as_str().cmp(&b["timestamp"].as_str()));
        truths.sort_by(|a, b| {
            a["start"].as_f64().unwrap_or_default().total_cmp(&b["start"].as_f64().unwrap_or_default())
        });
        for ((end, record), truth) in some.iter().zip(truths) {
            let process = &record[format!("{end}_process")];
            let is_named = process["pid"].is_u64();
            if is_named {
                assert_eq!(process["pid"], truth["pid"], "a wrong owner: {truth} {record}");
                assert_eq!(process["name"], truth["name"], "a wrong owner: {truth} {record}");
            } else {
                let reason = &record[format!("{end}_unattributed")];
                assert!(
                    reason.is_string() || process["match"] == "uid_only",
                    "no owner and no reason: {record}"
                );
                missed.push(format!("{} {} ms: {reason}", truth["kind"], truth["life_ms"]));
            }
            if truth["life_ms"] == 100.0 {
                all += 1;
                named += u32::from(is_named);
            }
        }
    }
    assert!(named * 10 >= all * 8, "{named} of {all} ends of 100 ms are named; not: {missed:#?}");
}

/// Gives an end of the cable an IPv6 address too, where the system has IPv6; returns all its addresses.
fn addresses(cable: &Cable, namespace: &str, address: &str, second: &str) -> String {
    if cable.add_ipv6(namespace, second) { format!("{address},{second}") } else { address.to_owned() }
}

/// What is true of each end, by its addresses.
fn owners(truths: &[Value]) -> HashMap<Ends, Vec<&Value>> {
    let mut owners: HashMap<Ends, Vec<&Value>> = HashMap::new();
    for truth in truths {
        let protocol = truth["protocol"].as_str().unwrap_or_default().to_owned();
        owners.entry((protocol, truth["local"].clone(), truth["remote"].clone())).or_default().push(truth);
    }
    owners
}

/// The records of flows by each of their two ends, and which end that is.
fn by_ends(records: &[Value]) -> HashMap<Ends, Vec<(&'static str, &Value)>> {
    let mut flows: HashMap<Ends, Vec<(&'static str, &Value)>> = HashMap::new();
    for record in records.iter().filter(|record| record["type"] == "flow") {
        let protocol = record["protocol"].as_str().unwrap_or_default();
        let at = |end: &str| {
            Value::from(vec![record[format!("{end}_ip")].clone(), record[format!("{end}_port")].clone()])
        };
        for (end, other) in [("src", "dst"), ("dst", "src")] {
            flows.entry((protocol.to_owned(), at(end), at(other))).or_default().push((end, record));
        }
    }
    flows
}
