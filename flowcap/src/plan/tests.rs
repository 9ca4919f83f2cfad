use clap::Parser;
use flowcore::sink::{Compress, Existing, Format, SyncPolicy};

use super::*;

fn plan(line: &str) -> Result<Plan, Refusal> {
    let args = Args::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
    Plan::new(args)
}

fn meter(line: &str) -> MeterPlan {
    match plan(line) {
        Ok(Plan::Meter(plan)) => *plan,
        other => panic!("{other:?}"),
    }
}

fn refused(line: &str) -> String {
    match plan(line) {
        Err(Refusal::Usage(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_and_interfaces() {
    assert_eq!(meter("flowcap -r a -r -").input, Input::Files(vec!["a".into(), "-".into()]));
    let live = Live { interfaces: vec!["any".into()], snaplen: None, promiscuous: true, buffer_bytes: None };
    assert_eq!(meter("flowcap -i any -s 0 -n").input, Input::Live(live));
    let live = Live {
        interfaces: vec!["a".into(), "b".into()],
        snaplen: Some(96),
        promiscuous: false,
        buffer_bytes: Some(1_000_000),
    };
    assert_eq!(meter("flowcap -i a -i b -s 96 -p --buffer 1MB").input, Input::Live(live));
    assert!(matches!(plan("flowcap -D"), Ok(Plan::ListInterfaces)));
    assert!(matches!(plan("flowcap -T csv"), Err(Refusal::NothingToRead)));
    assert!(refused("flowcap -r - -r -").contains("once only"));
}

#[test]
fn replay_keeps_what_is_there_and_live_capture_adds_to_it() {
    assert_eq!(meter("flowcap -r a").files.existing, Existing::Refuse);
    assert_eq!(meter("flowcap -i a").files.existing, Existing::Append);
    assert_eq!(meter("flowcap -r a --force").files.existing, Existing::Overwrite);
}

#[test]
fn files_are_rotated_and_kept() {
    let files =
        meter("flowcap -i a -o x --rotate 1h,256MB --keep 7d,10GB --compress zstd --sync always").files;
    assert_eq!(files.rotate, Some("1h,256MB".parse().unwrap()));
    assert_eq!((files.keep, files.live), ("7d,10GB".parse().unwrap(), true));
    assert_eq!((files.compress, files.sync), (Some(Compress::Zstd), SyncPolicy::Always));
    assert!(!meter("flowcap -r a").files.live);
    assert_eq!(meter("flowcap -r a").files.sync, SyncPolicy::default());
    assert!(refused("flowcap -i a --keep 3").starts_with("--keep"));
    assert!(refused("flowcap -i a -o - --rotate 1h").starts_with("--rotate"));
}

#[test]
fn the_extension_picks_the_format() {
    let plan = meter("flowcap -r a -T table -o - -o x.csv.gz -o y.jsonl -o z");
    let formats: Vec<_> = plan.outputs.iter().map(|output| output.format).collect();
    assert_eq!(formats, [Format::Table, Format::Csv, Format::Jsonl, Format::Table]);
    assert_eq!(meter("flowcap -r a").outputs[0].destination, "-");
    assert!(refused("flowcap -r a -o x -o x").contains("twice"));
}

#[test]
fn stats_are_json_lines_of_their_own_or_among_flows() {
    let stats = meter("flowcap -i a --stats - --stats-interval 10s").stats;
    assert_eq!(stats, Some(Stats { destination: "-".into(), interval: Duration::from_secs(10) }));
    assert_eq!(meter("flowcap -i a -o x.csv --stats -").stats.unwrap().destination, "-");
    assert_eq!(meter("flowcap -i a --stats s --stats-interval off").stats.unwrap().interval, NEVER);
    for line in ["-T csv --stats -", "--stats s.csv", "-o x.jsonl --stats x.jsonl"] {
        assert!(refused(&format!("flowcap -r a {line}")).starts_with("--stats"));
    }
}

#[test]
fn settings_arrive_where_they_belong() {
    let plan = meter(
        "flowcap -r a -f tcp -c 7 --duration 9 --idle-timeout 5s --active-timeout off --max-flows 10 \
         --max-memory 1MB --shards 3 --entropy-bytes 64 --splt 8 --no-decap --checksums -q",
    );
    assert_eq!(plan.filter.as_deref(), Some("tcp"));
    assert_eq!((plan.packet_limit, plan.duration), (Some(7), Some(Duration::from_secs(9))));
    assert_eq!(plan.table.idle.tcp, Duration::from_secs(5));
    assert_eq!(plan.table.active, None);
    assert_eq!((plan.table.max_flows, plan.table.max_memory), (10, 1_000_000));
    assert_eq!(plan.shards, Some(3));
    assert_eq!((plan.features.entropy_bytes, plan.features.splt), (64, 8));
    assert!(!plan.decode.decap && plan.decode.checksums && plan.quiet);
}

#[test]
fn fields_are_known_ones() {
    let columns = meter("flowcap -r a --fields src_ip,bytes").outputs.remove(0).columns.unwrap();
    let names: Vec<_> = columns.iter().map(|column| column.field.name).collect();
    assert_eq!(names, ["src_ip", "bytes"]);
}

#[test]
fn words_get_advice() {
    assert_eq!(
        refused("flowcap -i eth0 port 53"),
        "unexpected 'port 53': to filter packets use -f 'port 53'"
    );
    assert_eq!(
        refused("flowcap file.pcap"),
        "unexpected 'file.pcap': to read a capture file use -r 'file.pcap'"
    );
}
