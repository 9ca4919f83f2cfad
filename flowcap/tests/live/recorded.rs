//! What is written live is what a replay writes of the same packets, to the nanosecond.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::cable::{Cable, LINK, testdata, text};
use crate::{SETTLE, TIMELESS};

#[test]
fn live_records_are_those_of_a_replay_of_the_same_packets() {
    let Some(cable) = Cable::lay() else { return };
    let captures = cable.folder.path().join("captures.pcap");
    fs::write(&captures, all_in_one()).unwrap();
    // The short ones end flows by time, some of them when no packet comes that would say what time it is. Those that
    // are open at the end must not be ended by the clock: a replay has none.
    let short = ["--idle-timeout", "2s", "--active-timeout", "10ms"];
    for timeouts in [&[][..], &short] {
        let recording = cable.folder.path().join("wire.pcap");
        let script = testdata().join("make/listen.py");
        let listener = ["-B", text(&script), LINK, text(&recording)];
        let mut listener = cable.start(&cable.far, "python3", &listener);
        listener.wait_until_it_prints();
        let shared = [&["--fields", "@all", "--checksums", "--splt", "4"], timeouts].concat();
        let flowcap = cable.listen(&[&["--no-process", "-i", LINK], &shared[..]].concat());
        let mut sent = cable.send(text(&captures));
        if !timeouts.is_empty() {
            sleep(Duration::from_millis(2500));
            sent += cable.send("udp_direction.pcap");
        }
        sleep(SETTLE);
        let live = flowcap.stop("INT").records();
        listener.stop("TERM");
        let replay = cable.start(
            &cable.far,
            env!("CARGO_BIN_EXE_flowcap"),
            &[&["-q", "-r", text(&recording)], &shared[..]].concat(),
        );
        let replay = replay.finish().records();
        let packets = |records: &[Value]| -> u64 {
            records.iter().filter_map(|record| record["packets"].as_u64()).sum()
        };
        assert_eq!(packets(&live), sent);
        let reasons = |records: &[Value], reason: &str| {
            records.iter().filter(|record| record["end_reason"] == reason).count()
        };
        let by_time = [reasons(&replay, "idle") > 20, reasons(&replay, "active") > 5];
        assert_eq!(by_time, [!timeouts.is_empty(); 2], "{timeouts:?}");
        let (live, replay) = (comparable(live), comparable(replay));
        assert_eq!(live.len(), replay.len(), "{timeouts:?}");
        for (live, replay) in live.iter().zip(&replay) {
            assert_eq!(live, replay, "{timeouts:?}");
        }
    }
}

/// Returns the captures as one.
fn all_in_one() -> Vec<u8> {
    let mut all = Vec::new();
    for name in TIMELESS {
        let capture = fs::read(testdata().join("captures").join(name)).unwrap();
        let (header, records) = capture.split_at(24);
        if all.is_empty() {
            all.extend(header);
        }
        assert_eq!((&header[..4], &header[20..]), (&all[..4], &all[20..24]), "{name}");
        all.extend(records);
    }
    all
}

/// The records without the interface, which a replay does not know, and with one word for the end, in an order that
/// does not depend on when they were written.
fn comparable(records: Vec<Value>) -> Vec<String> {
    let mut lines: Vec<String> = records
        .into_iter()
        .map(|mut record| {
            let fields = record.as_object_mut().expect("an object");
            fields.remove("interface");
            for reason in ["shutdown", "forced end"] {
                if fields["end_reason"] == reason || fields["flow_end_reason"] == reason {
                    fields.insert("end_reason".into(), "eof".into());
                }
            }
            record.to_string()
        })
        .collect();
    lines.sort();
    lines
}
