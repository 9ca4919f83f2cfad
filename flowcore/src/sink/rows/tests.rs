use std::collections::BTreeMap;
use std::fs;

use super::super::sample_host::{event, process, snapshot, time, written};
use super::super::{Existing, Format, open_host};
use super::*;
use crate::record::ProcessChange;

/// Reads CSV with another implementation: the cells of each row that are not empty, by column.
fn rows(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let row = |row: ::csv::StringRecord| {
        let cells = names.iter().zip(row.iter()).filter(|(_, cell)| !cell.is_empty());
        cells.map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

/// Flattens a record as serde sees it.
fn flat(record: &impl serde::Serialize) -> BTreeMap<String, String> {
    fn put(all: &mut BTreeMap<String, String>, name: String, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                members.iter().for_each(|(key, value)| put(all, format!("{name}_{key}"), value));
            }
            serde_json::Value::String(text) if text.is_empty() => {}
            serde_json::Value::String(text) => _ = all.insert(name, text.clone()),
            other => _ = all.insert(name, other.to_string()),
        }
    }
    let mut all = BTreeMap::new();
    let serde_json::Value::Object(members) = serde_json::to_value(record).unwrap() else { panic!() };
    members.iter().for_each(|(key, value)| put(&mut all, key.clone(), value));
    all
}

#[test]
fn every_member_has_its_column() {
    let sockets = snapshot();
    let records: Vec<_> = sockets.iter().map(Record::Socket).collect();
    let text = written("s.csv", HostRecords::Sockets, Format::Jsonl, &records);
    assert_eq!(rows(&text), sockets.iter().map(flat).collect::<Vec<_>>());

    let mut full = process(9, "/usr/bin/nc", &["nc", "-l"]).as_ref().clone();
    full.container_id = Some("ab".repeat(32));
    let record = ProcessRecord { timestamp: time(), change: ProcessChange::Opened, process: full.into() };
    let text = written("p.csv", HostRecords::Processes, Format::Csv, &[Record::Process(&record)]);
    assert_eq!(rows(&text), [flat(&record)]);
    assert_eq!(rows(&text)[0].len(), ProcessRecord::COLUMNS.len());

    let mut wget = event();
    std::sync::Arc::make_mut(wget.process.as_mut().unwrap()).args = vec!["wget".into(), "google.com".into()];
    let text = written("e.csv", HostRecords::Events, Format::Csv, &[Record::Event(&wget)]);
    assert_eq!(rows(&text), [flat(&wget)]);
}

#[test]
fn a_line_by_hand() {
    let sockets = snapshot();
    let text = written("s.csv", HostRecords::Sockets, Format::Csv, &[Record::Socket(&sockets[4])]);
    assert_eq!(
        text.lines().nth(1).unwrap(),
        "socket,2026-03-02T21:12:04.250000000Z,present,UDP,,127.0.0.53,53,,,UNCONN,,101,,,,4026531840,\
         ,,,,,101,,,,,,uid_only,,"
    );
    assert_eq!(text.lines().next().unwrap().split(',').count(), SocketRecord::COLUMNS.len());
}

#[test]
fn formulas_are_neutralised() {
    let text = written("e.csv", HostRecords::Events, Format::Csv, &[Record::Event(&event())]);
    assert_eq!(rows(&text)[0]["process_args"], "'-qO- -6 google.com");
}

#[test]
fn appends_under_the_same_header_or_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.csv");
    let path = path.to_str().unwrap();
    let append = |records| open_host(records, path, Format::Csv, &Existing::Append.into());
    let sockets = snapshot();
    for _ in 0..2 {
        let mut sink = append(HostRecords::Sockets).unwrap();
        sink.write(Record::Socket(&sockets[0])).unwrap();
        sink.finish().unwrap();
    }
    assert!(matches!(append(HostRecords::Events), Err(Error::Output { .. })));
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches("type,timestamp").count(), 1);
    assert_eq!(rows(&text).len(), 2);
}

#[test]
fn holds_one_type_of_record() {
    let mut sink =
        open_host(HostRecords::Sockets, "/dev/null", Format::Csv, &Existing::Append.into()).unwrap();
    assert!(sink.takes(Record::Socket(&snapshot()[0])) && !sink.takes(Record::Event(&event())));
    assert!(matches!(sink.write(Record::Event(&event())), Err(Error::Option(_))));
}
