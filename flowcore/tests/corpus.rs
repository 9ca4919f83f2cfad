//! Every capture of the corpus, against values that an independent reference computed.
//!
//! The corpus follows other rules than ours in places (no timeouts, no end by FIN or RST, VLAN and tunnel id
//! not in the key, …). Each flow and field that differs for such a reason stands in
//! `testdata/corpus/differences.jsonl` with its rule; nothing else may differ, and nothing on the list may agree.
//! `CORPUS_DIFFERENCES=rewrite` writes the list anew; a difference that no rule explains fails the test also then.

mod corpus_files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corpus_files::Corpus;
use flowcore::capture::{FileSource, Next, Source};
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::meter::Summary;
use flowcore::record::{EndReason, FlowRecord, Record};
use flowcore::sink::Sink;
use flowcore::table::{FlowTable, IdleTimeouts, TableOptions};
use flowcore::time::{TableTime, Timestamp};
use flowcore::{Error, Meter, Stop};
use serde_json::Value;

/// The rules of definitions.md by which a flow may differ from the corpus. The test finds out itself which one
/// holds for a flow; a difference for which none does is unexplained.
const RULES: &[(&str, &str)] = &[
    ("vlan", "Flow key: the stack of VLAN tags is part of the key"),
    ("tunnel", "Flow key: a tunnel id that both directions share is part of the key"),
    ("end", "End of a flow: a SYN after FIN or RST, or after five silent seconds, opens a new flow"),
    ("time back", "Statistics: a gap that ran backwards counts as 0; the corpus gives no statistics then"),
    ("no time", "Time: a packet without a time gets the table time; the corpus leaves it out of all times"),
    (
        "fragment",
        "Fragments: later fragments count in the flow of their first one, also if they come before it",
    ),
];

/// Keeps flow records.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<FlowRecord>>>);

impl Sink for Kept {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        if let Record::Flow(record) = record {
            self.0.lock().unwrap().push(record.clone());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn replay(
    path: &Path,
    table: &TableOptions,
    decode: &DecodeOptions,
    shards: usize,
) -> (Vec<FlowRecord>, Summary) {
    let kept = Kept::default();
    let source = FileSource::open(&[path]).unwrap();
    let meter = Meter::builder()
        .table(table.clone())
        .decode(decode.clone())
        .shards(shards)
        .sink("kept", Box::new(kept.clone()))
        .build()
        .unwrap();
    let summary = meter.run(Box::new(source), &Stop::new());
    let name = path.display();
    assert!(summary.failure.is_none(), "{name}: {:?}", summary.failure);
    assert!(summary.false_identities.is_empty(), "{name}: {:?}", summary.false_identities);
    let records = std::mem::take(&mut *kept.0.lock().unwrap());
    (records, summary)
}

/// Timeouts that never end a flow, as the corpus has it.
fn without_timeouts() -> TableOptions {
    TableOptions {
        idle: IdleTimeouts::all(Duration::from_secs(9_000_000_000)),
        active: None,
        ..TableOptions::default()
    }
}

#[test]
fn flows_have_the_expected_values() {
    let Some(corpus) = Corpus::find() else { return };
    let mut found = Vec::new();
    let (mut flows, mut fields) = (0, 0);
    for capture in corpus.captures() {
        for (view, decap) in [("flows", false), ("flows_inner", true)] {
            let expected = capture.expected.get(view).or_else(|| capture.expected.get("flows"));
            let expected = expected.and_then(Value::as_array).unwrap();
            let decode = DecodeOptions { decap, ..DecodeOptions::default() };
            let (records, summary) = replay(&capture.path, &without_timeouts(), &decode, 2);
            assert_eq!(Value::from(summary.stats.packets), capture.expected["packets"], "{}", capture.name);
            assert_eq!(Value::from(summary.stats.bytes), capture.expected["wire_bytes"], "{}", capture.name);
            let damaged = capture.expected.get("read_error").is_some();
            assert_eq!(!summary.damage.is_empty(), damaged, "{}: {:?}", capture.name, summary.damage);

            let mut ours: BTreeMap<String, Vec<FlowRecord>> = BTreeMap::new();
            for record in records {
                ours.entry(name_of(&record)).or_default().push(record);
            }
            for flow in expected {
                let name = name_of_expected(flow);
                let records = ours.remove(&name).unwrap_or_default();
                flows += 1;
                for (field, expected, ours) in compare(flow, &records) {
                    fields += 1;
                    if !agree(&expected, &ours, field) {
                        let rule = rule(&records, &summary, field);
                        found.push(Difference::new(
                            [&capture.name, view, &name, field, rule],
                            expected,
                            ours,
                        ));
                    }
                }
            }
            for (name, records) in ours {
                let place = [&capture.name, view, &name, "records", "?"];
                found.push(Difference::new(place, 0.into(), records.len().into()));
            }
        }
    }
    println!("{flows} flows, {fields} fields compared, {} differences", found.len());
    assert!(flows > 4000 && fields > 50_000);
    check_against_list(found);
}

#[test]
fn large_captures_have_the_expected_totals() {
    let Some(corpus) = Corpus::find() else { return };
    for capture in corpus.with_totals() {
        let totals = &capture.expected["reference_totals"];
        let decode = DecodeOptions { decap: false, ..DecodeOptions::default() };
        let (records, summary) = replay(&capture.path, &without_timeouts(), &decode, 2);
        let sum = |one: fn(&flowcore::feature::Side) -> u64| -> u64 {
            let sides =
                records.iter().flat_map(|record| [record.features.volume.src, record.features.volume.dst]);
            sides.map(|side| one(&side)).sum()
        };
        let entropy_bytes: u64 = records.iter().map(|record| record.features.entropy.bytes).sum();
        let mut packets: BTreeMap<String, u64> = BTreeMap::new();
        let mut flows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for record in &records {
            let proto = record.key.proto().0.to_string();
            let volume = &record.features.volume;
            *packets.entry(proto.clone()).or_default() += volume.packets();
            flows.entry(proto).or_default().insert(name_of(record));
        }
        let mut flows: BTreeMap<String, usize> =
            flows.into_iter().map(|(proto, names)| (proto, names.len())).collect();
        if capture.name == "mix_small.pcap" {
            // The totals were counted with later fragments as flows of their own (`flowfacts.py --frag split`):
            // definitions.md puts these four into the TCP flows of their first fragments.
            *flows.get_mut("6").unwrap() += 4;
        }
        for (what, ours) in [
            ("packets", Value::from(summary.stats.packets)),
            ("ip_bytes", sum(|side| side.ip_bytes).into()),
            ("l4_payload_bytes_by_header", sum(|side| side.payload_bytes).into()),
            ("l4_payload_bytes_captured", entropy_bytes.into()),
            ("packets_by_protocol", serde_json::to_value(packets).unwrap()),
            ("flows_no_timeout", flows.values().sum::<usize>().into()),
            ("flows_by_protocol", serde_json::to_value(flows).unwrap()),
        ] {
            assert_eq!(totals[what], ours, "{}: {what}", capture.name);
        }
    }
}

#[test]
fn records_do_not_depend_on_shards_or_sweeps() {
    let Some(corpus) = Corpus::find() else { return };
    let decode = DecodeOptions::default();
    for capture in corpus.captures() {
        let table = TableOptions::default();
        let text = |records: Vec<FlowRecord>| format!("{records:#?}");
        let (records, summary) = replay(&capture.path, &table, &decode, 1);
        let expected = text(records);
        for shards in [2, 3, 8] {
            let (records, other) = replay(&capture.path, &table, &decode, shards);
            assert!(text(records) == expected, "{}: {shards} shards", capture.name);
            assert_eq!(other.stats.records, summary.stats.records);
        }
        for sweep in [false, true] {
            assert!(text(by_hand(&capture.path, sweep)) == expected, "{}: sweep {sweep}", capture.name);
        }
    }
}

/// Returns the rule for which a flow differs in a field, `?` if none holds.
fn rule(records: &[FlowRecord], summary: &Summary, field: &str) -> &'static str {
    let differ = |part: fn(&FlowRecord) -> u64| records.iter().map(part).collect::<BTreeSet<u64>>().len() > 1;
    let vlans = |record: &FlowRecord| record.key.as_words()[5];
    let tunnel = |record: &FlowRecord| record.key.as_words()[6];
    let ran_back = |record: &FlowRecord| record.features.iat.flow.negative > 0;
    let is_statistic = field.contains("iat");
    if summary.stats.stopped.contains_key("later_fragment") {
        "fragment"
    } else if differ(vlans) {
        "vlan"
    } else if differ(tunnel) {
        "tunnel"
    } else if records.len() > 1 {
        "end"
    } else if is_statistic && records.iter().any(ran_back) {
        "time back"
    } else if summary.stats.packets_without_time > 0 && (is_statistic || ["first", "last"].contains(&field)) {
        "no time"
    } else {
        "?"
    }
}

/// One table without threads; with `sweep`, it is told the time again and again between packets.
fn by_hand(path: &Path, sweep: bool) -> Vec<FlowRecord> {
    let mut records = Vec::new();
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut table: FlowTable = FlowTable::new(TableOptions::default());
    let mut source = FileSource::open(&[path]).unwrap();
    loop {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => {
                if let (true, Some(time)) = (sweep && !decoder.jumps_at(&frame), frame.time) {
                    let now = decoder.now();
                    let gap = time.nanos_since(now.time);
                    for step in 0..100 {
                        let time = now.time.saturating_add_nanos(gap / 100 * step);
                        let time = if now.time == Timestamp::EPOCH { Timestamp::EPOCH } else { time };
                        table.expire(TableTime { time, ..now }, |record| records.push(record));
                    }
                }
                decoder.decode(&frame, |packet| table.ingest(&packet, |record| records.push(record)));
                table.expire(decoder.now(), |record| records.push(record));
            }
            Ok(Next::Idle) => {}
            Ok(Next::End) => break,
            Err(Error::Damaged { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    decoder.finish(|packet| table.ingest(&packet, |record| records.push(record)));
    table.expire(decoder.now(), |record| records.push(record));
    table.drain(EndReason::Eof, |record| records.push(record));
    records
}

/// The two ends in the order of their texts, and the protocol: what the corpus takes as a flow.
fn name_of(record: &FlowRecord) -> String {
    let tuple = record.key.tuple(record.src);
    let end = |end: flowcore::key::Endpoint| end_name(&end.addr.to_string(), end.port.map(u64::from));
    pair_name(end(tuple.src), end(tuple.dst), u64::from(tuple.proto.0))
}

fn name_of_expected(flow: &Value) -> String {
    let end = |addr: &str, port: &str| end_name(flow[addr].as_str().unwrap(), flow[port].as_u64());
    pair_name(end("src", "sport"), end("dst", "dport"), flow["proto"].as_u64().unwrap())
}

fn end_name(addr: &str, port: Option<u64>) -> String {
    port.map_or(addr.to_owned(), |port| format!("{addr} {port}"))
}

fn pair_name(a: String, b: String, proto: u64) -> String {
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    format!("{a} - {b} / {proto}")
}

/// All fields of a flow: name, expected value, our value.
fn compare(flow: &Value, records: &[FlowRecord]) -> Vec<(&'static str, Value, Value)> {
    let mut fields = vec![("records", Value::from(1), Value::from(records.len()))];
    if records.is_empty() {
        return fields;
    }
    let json: Vec<Value> = records.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    // fwd is the direction of the flow's first packet; ours may have turned.
    let turned: Vec<bool> = records
        .iter()
        .map(|record| {
            let src = record.key.endpoint(record.src);
            let same_port = src.port.map(u64::from) == flow["sport"].as_u64();
            !(src.addr.to_string() == flow["src"].as_str().unwrap() && same_port)
        })
        .collect();
    let side = |nth: usize, rev: bool| if rev != turned[nth] { "dst" } else { "src" };
    let sum = |name: &str, rev: bool| -> Value {
        let one = |nth: usize| json[nth][format!("{}_{name}", side(nth, rev))].as_u64().unwrap_or_default();
        (0..json.len()).map(one).sum::<u64>().into()
    };
    let total = |name: &str| -> Value {
        json.iter().map(|record| record[name].as_u64().unwrap_or_default()).sum::<u64>().into()
    };
    let times = records.iter().map(|record| record.first.as_nanos()).min();
    fields.push(("first", first_of(flow, "ts_min", 0), times.into()));
    let times = records.iter().map(|record| record.last.as_nanos()).max();
    fields.push(("last", first_of(flow, "ts_max", 1), times.into()));
    let both = |name: &str| -> Value {
        let one = |dir: &str| flow[dir].get(name).and_then(Value::as_u64).unwrap_or_default();
        (one("fwd") + one("rev")).into()
    };
    for (name, ours) in [("pkts", "packets"), ("wire", "bytes"), ("ip", "ip_bytes"), ("l4", "payload_bytes")]
    {
        for (dir, rev) in [("fwd", false), ("rev", true)] {
            fields.push((field_name(name, dir), flow[dir][name].clone(), sum(ours, rev)));
        }
    }
    fields.push(("l4cap", both("l4cap"), total("entropy_bytes")));
    if flow["proto"] == 6 {
        compare_flags(flow, &json, &side, &total, &mut fields);
    }
    // What follows cannot be put together from several records.
    let record = &json[0];
    let whole = records.len() == 1;
    let ours = |value: &Value| if whole { value.clone() } else { Value::from("several records") };
    if !whole && flow["entropy"].is_null() && flow["iat_ns"][1].is_null() {
        return fields;
    }
    fields.push(("entropy", flow["entropy"].clone(), ours(&record["entropy"])));
    iat("", &flow["iat_ns"], record, &ours, &mut fields);
    for (dir, rev) in [("fwd", false), ("rev", true)] {
        let prefix = side(0, rev);
        let expected = flow[dir].get("entropy").cloned().unwrap_or_default();
        fields.push((field_name("entropy", dir), expected, ours(&record[format!("{prefix}_entropy")])));
        if let Some(expected) = flow[dir].get("iat_ns") {
            iat(&format!("{prefix}_"), expected, record, &ours, &mut fields);
        }
    }
    if let Some(expected) = flow.get("community_id") {
        fields.push(("community_id", expected.clone(), record["community_id"].clone()));
    }
    fields
}

type Fields = Vec<(&'static str, Value, Value)>;

fn compare_flags(
    flow: &Value,
    json: &[Value],
    side: &dyn Fn(usize, bool) -> &'static str,
    total: &dyn Fn(&str) -> Value,
    fields: &mut Fields,
) {
    for (letter, name) in [
        ("S", "syn_count"),
        ("A", "ack_count"),
        ("P", "psh_count"),
        ("R", "rst_count"),
        ("U", "urg_count"),
        ("F", "fin_count"),
        ("E", "ece_count"),
        ("C", "cwr_count"),
    ] {
        let one = |dir: &str| flow[dir]["flags"].get(letter).and_then(Value::as_u64).unwrap_or_default();
        fields.push((name, (one("fwd") + one("rev")).into(), total(name)));
    }
    for (dir, rev) in [("fwd", false), ("rev", true)] {
        let seen = flow[dir].get("flags_or").and_then(Value::as_str).unwrap_or_default();
        let expected: String =
            "SAPRUF".chars().map(|letter| if seen.contains(letter) { letter } else { '-' }).collect();
        let mut ours = vec!['-'; 6];
        for (nth, record) in json.iter().enumerate() {
            let text = record[format!("{}_flags", side(nth, rev))].as_str().unwrap_or_default().to_owned();
            for (place, letter) in ours.iter_mut().zip(text.chars()) {
                *place = if letter == '-' { *place } else { letter };
            }
        }
        let ours: String = ours.into_iter().collect();
        fields.push((field_name("flags", dir), expected.into(), ours.into()));
    }
}

/// Compares `[count, min, max, mean, population deviation]` in nanoseconds with our microseconds.
fn iat(prefix: &str, expected: &Value, record: &Value, ours: &dyn Fn(&Value) -> Value, fields: &mut Fields) {
    let nanos = |name: &str| match ours(&record[format!("{prefix}iat_{name}_us")]) {
        Value::Number(micros) => Value::from((micros.as_f64().unwrap() * 1000.0).round()),
        other => other,
    };
    let names: [&'static str; 4] = match prefix {
        "" => ["iat min", "iat max", "iat mean", "iat std"],
        "src_" => ["src iat min", "src iat max", "src iat mean", "src iat std"],
        _ => ["dst iat min", "dst iat max", "dst iat mean", "dst iat std"],
    };
    let expected = match expected.as_array() {
        Some(list) => {
            let count = list[0].as_f64().unwrap();
            // From the population's deviation to the sample's.
            let std = list[4].as_f64().filter(|_| count > 1.0);
            let std = std.map(|std| (std * (count / (count - 1.0)).sqrt()).round());
            [list[1].clone(), list[2].clone(), list[3].clone(), std.into()]
        }
        None => std::array::from_fn(|_| Value::from("time runs backwards")),
    };
    for (nth, (name, expected)) in names.into_iter().zip(expected).enumerate() {
        fields.push((name, expected, nanos(["min", "max", "mean", "std"][nth])));
    }
}

fn first_of(flow: &Value, name: &str, nth: usize) -> Value {
    flow.get(name).unwrap_or(&flow["ts"][nth]).clone()
}

fn field_name(name: &str, dir: &str) -> &'static str {
    match (name, dir) {
        ("pkts", "fwd") => "fwd packets",
        ("pkts", _) => "rev packets",
        ("wire", "fwd") => "fwd bytes",
        ("wire", _) => "rev bytes",
        ("ip", "fwd") => "fwd ip bytes",
        ("ip", _) => "rev ip bytes",
        ("l4", "fwd") => "fwd payload bytes",
        ("l4", _) => "rev payload bytes",
        ("entropy", "fwd") => "fwd entropy",
        ("entropy", _) => "rev entropy",
        (_, "fwd") => "fwd flags",
        _ => "rev flags",
    }
}

fn agree(expected: &Value, ours: &Value, field: &str) -> bool {
    let tolerance = match field {
        field if field.contains("entropy") => 1e-4,
        // The corpus rounds to 0.001 ns and we to 1 ns.
        field if field.contains("mean") => 0.51,
        field if field.contains("std") => 1.5,
        _ => 0.0,
    };
    match (expected.as_f64(), ours.as_f64()) {
        (Some(_), Some(_)) if tolerance == 0.0 && expected.is_i64() && ours.is_i64() => expected == ours,
        (Some(expected), Some(ours)) => (expected - ours).abs() <= tolerance,
        _ => expected == ours,
    }
}

/// A flow and field in which corpus and flowcap differ: capture, view, flow, field, rule, and both values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    place: [String; 5],
    expected: String,
    ours: String,
}

const PLACE: [&str; 5] = ["capture", "view", "flow", "field", "rule"];

impl Difference {
    fn new(place: [&str; 5], expected: Value, ours: Value) -> Self {
        // Rounded as the corpus is, so that the list does not depend on the order of a sum.
        let text = |value: Value| match value.as_f64() {
            Some(number) if value.is_f64() => ((number * 1e6).round() / 1e6).to_string(),
            _ => value.to_string(),
        };
        let (expected, ours) = (text(expected), text(ours));
        Difference { place: place.map(str::to_owned), expected, ours }
    }

    fn line(&self) -> String {
        let mut line: serde_json::Map<String, Value> = PLACE
            .iter()
            .zip(&self.place)
            .map(|(name, text)| (name.to_string(), text.as_str().into()))
            .collect();
        line.insert("expected".into(), self.expected.as_str().into());
        line.insert("ours".into(), self.ours.as_str().into());
        Value::Object(line).to_string() + "\n"
    }

    fn parse(line: &str) -> Self {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        Difference { place: PLACE.map(text), expected: text("expected"), ours: text("ours") }
    }
}

fn check_against_list(found: Vec<Difference>) {
    let found: BTreeSet<Difference> = found.into_iter().collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/corpus/differences.jsonl");
    if std::env::var_os("CORPUS_DIFFERENCES").is_some_and(|value| value == "rewrite") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found.iter().map(Difference::line).collect::<String>()).unwrap();
    }
    let explained = |one: &Difference| RULES.iter().any(|(name, _)| *name == one.place[4]);
    let unexplained: String = found.iter().filter(|one| !explained(one)).map(Difference::line).collect();
    assert!(unexplained.is_empty(), "unexplained:\n{unexplained}");
    let listed: BTreeSet<Difference> =
        std::fs::read_to_string(&path).unwrap().lines().map(Difference::parse).collect();
    let new: String = found.difference(&listed).map(Difference::line).collect();
    assert!(new.is_empty(), "not on the list:\n{new}");
    let gone: String = listed.difference(&found).map(Difference::line).collect();
    assert!(gone.is_empty(), "on the list, but they agree by now:\n{gone}");
}
