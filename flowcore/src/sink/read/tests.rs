use std::fs;

use proptest::prelude::*;

use super::super::sample_host::{snapshot, written};
use super::super::{Existing, Format, HostRecords, open_host};
use super::*;
use crate::record::Record;
use crate::watch::{Alarm, Baseline};

/// Writes records to a file of this name and reads it back.
fn through(name: &str, records: &[SocketRecord]) -> Vec<SocketRecord> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let path = path.to_str().unwrap();
    let mut sink = open_host(HostRecords::Sockets, path, Format::Jsonl, &Existing::Refuse.into()).unwrap();
    for record in records {
        sink.write(Record::Socket(record)).unwrap();
    }
    sink.finish().unwrap();
    read_sockets(path).unwrap()
}

/// Reads a text; of a failure, what it says.
fn read_text(text: &str) -> Result<Vec<SocketRecord>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    fs::write(&path, text).unwrap();
    read_sockets(path.to_str().unwrap()).map_err(|error| match error {
        Error::Damaged { what, offset, .. } => format!("{offset}: {what}"),
        other => panic!("{other}"),
    })
}

#[test]
fn what_was_written_comes_back() {
    let records = snapshot();
    for name in ["s.jsonl", "s.jsonl.gz", "s.jsonl.zst"] {
        assert_eq!(through(name, &records), records, "{name}");
    }
    // The newline in an argument stays, since lists are JSON.
    for name in ["s.csv", "s.csv.gz", "s.csv.zst"] {
        assert_eq!(through(name, &records), records, "{name}");
    }
}

/// Whoever can name a process must not be able to make a snapshot unreadable, or another's.
#[test]
fn a_process_of_any_name_comes_back() {
    let mut record = snapshot().remove(0);
    for name in ["", "'", "'=1", "''=1", "'a", "=1"] {
        let mut process = Process::clone(record.process.as_ref().unwrap().process().unwrap());
        name.clone_into(&mut process.name);
        record.process = Some(ProcessObject::new(Who::Process(Arc::new(process)), Match::Exact, None, 1));
        for file in ["s.jsonl", "s.csv"] {
            assert_eq!(through(file, std::slice::from_ref(&record)), [record.clone()], "{name} {file}");
        }
    }
}

/// Evidence of a maintenance window, saved before in CSV and after in JSON lines, compared without asking the machine.
#[test]
fn two_files_tell_what_is_new() {
    let mut before = snapshot();
    before.retain(|record| !matches!(record.socket.local.port, Some(54_900 | 31_337)));
    let mut after = snapshot();
    after[0].socket.remote = Some(super::super::sample_host::end("10.20.30.40:5432"));
    let baseline = Baseline::from_records(&through("before.csv", &before), 32_768..=60_999);
    let after = through("after.jsonl", &after);
    let alerts = Alarm::new(baseline, "before.csv").check(&after, after[0].timestamp);
    let messages: Vec<&str> = alerts.iter().map(|alert| alert.message.as_str()).collect();
    let python = "python3.12 (pid 7821, /usr/bin/python3.12, user seb), seen 2026-03-02 21:12:04 UTC";
    assert_eq!(
        messages,
        [
            format!("Unexpected listener on TCP port 31337 (address 0.0.0.0): {python}; not in before.csv"),
            format!("New outgoing connection to 10.20.30.40:5432 (TCP) by {python}; not in before.csv"),
            format!("New program with sockets: {python}; not in before.csv"),
        ]
    );
}

#[test]
fn other_records_are_passed_over() {
    let records = snapshot();
    let sockets: Vec<Record<'_>> = records.iter().map(Record::Socket).collect();
    let mut text = written("s.jsonl", HostRecords::Sockets, Format::Jsonl, &sockets);
    text.insert_str(0, "{\"type\":\"process\",\"pid\":1}\n\n");
    assert_eq!(read_text(&text).unwrap(), records);
    assert_eq!(read_text("").unwrap(), []);
}

#[test]
fn what_is_wrong_is_named() {
    let good = written("s.jsonl", HostRecords::Sockets, Format::Jsonl, &[Record::Socket(&snapshot()[0])]);
    let length = good.len();
    for (bad, what) in [
        ("{\"type\":\"sock".to_owned(), "line 2: EOF while parsing a string"),
        ("{}\n".to_owned(), "line 2: it has no type"),
        (good.replace("54900", "70000"), "line 2: local_port is '70000'"),
        (good.replace("ESTABLISHED", "OPEN"), "line 2: state is 'OPEN'"),
        (good.replace("\"TCP\"", "\"TCPv6\""), "line 2: protocol is 'TCPv6', at the address 192.168.1.10"),
        (good.replace("\"start_time\"", "\"began\""), "line 2: process_start_time is missing"),
        (good.replace("\"local_ip\"", "\"ip\""), "line 2: local_ip is missing"),
        (good.replace("\"present\"", "\"gone\""), "line 2: change is 'gone'"),
        (good.replace("[\"python3\"", "[7"), "line 2: process_args is '[7,"),
    ] {
        let error = read_text(&format!("{good}{bad}")).unwrap_err();
        assert!(error.starts_with(&format!("{length}: {what}")), "{error}");
    }
    assert_eq!(read_text("{\"type\":\"flow\"}\n").unwrap_err(), "16: there is no socket record in it");
    let no_csv = "0: it is neither JSON lines nor CSV of socket records";
    assert_eq!(read_text("src_ip,dst_ip\n1.1.1.1,2.2.2.2\n").unwrap_err(), no_csv);
    let csv = written("s.csv", HostRecords::Sockets, Format::Csv, &[Record::Socket(&snapshot()[0])]);
    assert!(read_text(&csv.replace("54900", "x")).unwrap_err().contains("line 2: local_port is 'x'"));
    let error = read_text(&format!("{csv}socket,2026\n")).unwrap_err();
    assert!(
        error.starts_with(&format!("{}: line 3: it has 2 cells, and the first line ", csv.len())),
        "{error}"
    );
    assert!(matches!(read_sockets("/nonexistent/s.jsonl"), Err(Error::Input { .. })));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.gz");
    fs::write(&path, [0x1f, 0x8b, 8, 0, 0]).unwrap();
    assert!(matches!(read_sockets(path.to_str().unwrap()), Err(Error::Damaged { .. })));
}

#[test]
fn more_than_memory_has_room_for_is_refused() {
    let row = snapshot().remove(0);
    for (name, format, first) in [("s.jsonl", Format::Jsonl, 1), ("s.csv", Format::Csv, 2)] {
        let text = written(name, HostRecords::Sockets, format, &[Record::Socket(&row); 100]);
        // Their process is kept once.
        let enough = 100 * (size_of::<SocketRecord>() + 100) + 3_000;
        assert_eq!(read(text.as_bytes(), enough).ok().map(|records| records.len()), Some(100));
        let Err(Failure::Damaged { what, .. }) = read(text.as_bytes(), 1_000) else { panic!("read {name}") };
        let (line, _) = what.split_once(": up to here it takes more than 1000 bytes").unwrap();
        let line: usize = line.strip_prefix("line ").unwrap().parse().unwrap();
        assert!((first..first + 5).contains(&line), "{what}");
    }
}

#[test]
fn lines_are_counted_as_an_editor_does() {
    let good = written("s.jsonl", HostRecords::Sockets, Format::Jsonl, &[Record::Socket(&snapshot()[0])]);
    let error = read_text(&format!("{good}\n\r\n{{\"type\" \"socket\"}}\n{good}")).unwrap_err();
    assert!(error.ends_with(": line 4: expected `:` at column 9"), "{error}");
    let csv = written("s.csv", HostRecords::Sockets, Format::Csv, &[Record::Socket(&snapshot()[0])]);
    let (head, row) = csv.trim_end().split_once('\n').unwrap();
    let bad = row.replace("54900", "x");
    for (text, line) in [
        (format!("{head}\n{bad}"), 2),
        (format!("{head}\n\n\n{row}\n{bad}"), 5),
        (format!("{head}\r\n\r\n{row}\r\n{bad}"), 4),
        (format!("{head}\n{row}\n\nsocket,2026\n"), 4),
    ] {
        let error = read_text(&text).unwrap_err();
        assert!(error.contains(&format!(": line {line}: ")), "{line} {error}");
    }
}

#[test]
fn every_word_is_read() {
    let mut records = Vec::new();
    for (nth, state) in STATES.into_iter().enumerate() {
        let mut record = snapshot().remove(nth % 6);
        record.socket.state = state;
        record.previous_state = Some(STATES[(nth + 1) % STATES.len()]);
        record.change = Change::ALL[nth % 4];
        if let Some(object) = &mut record.process
            && matches!(object.who, Who::Process(_))
        {
            object.matched = Match::ALL[nth % 6];
            object.evidence_age_ms = Some(nth as u64);
        }
        records.push(record);
    }
    assert_eq!(through("s.jsonl", &records), records);
    assert_eq!(through("s.csv", &records), records);
}

/// Texts as names and paths may be; with `printable`, those that CSV gives back as they were.
fn texts(printable: bool) -> BoxedStrategy<String> {
    if printable { "'{0,2}[=+@'a-z|, \"\\[\u{e9}-]{0,12}".boxed() } else { any::<String>().boxed() }
}

fn any_socket(printable: bool) -> impl Strategy<Value = SocketRecord> {
    let process =
        (any::<u32>(), texts(printable), prop::option::of(texts(printable)), any::<i64>(), 1..9_u32);
    let args = prop::collection::vec(any::<String>(), 0..3);
    let remote = prop::option::of((any::<IpAddr>(), prop::option::of(any::<u16>())));
    (0..6_usize, any::<[u64; 3]>(), prop::option::of(process), args, remote, any::<IpAddr>()).prop_map(
        |(kind, numbers, process, args, remote, local)| {
            let mut record = snapshot().remove(kind);
            [record.socket.inode, record.socket.cookie, record.socket.netns] = numbers;
            record.socket.local.addr = local;
            record.socket.remote = remote.map(|(addr, port)| Endpoint { addr, port });
            record.process = process.map(|(pid, name, exe, started, shared)| {
                let process = Process {
                    pid,
                    name,
                    exe: exe.filter(|exe| !exe.is_empty()),
                    args,
                    started: Timestamp::from_nanos(started),
                    ppid: 7,
                    parent_name: None,
                    credentials: Credentials::default(),
                    user: None,
                    container_id: None,
                };
                let who = Who::Process(Arc::new(process));
                ProcessObject::new(who, Match::Exact, None, shared)
            });
            record
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn json_lines_come_back(record in any_socket(false)) {
        prop_assert_eq!(through("s.jsonl", std::slice::from_ref(&record)), [record]);
    }

    #[test]
    fn csv_comes_back(record in any_socket(true)) {
        prop_assert_eq!(through("s.csv", std::slice::from_ref(&record)), [record]);
    }

    #[test]
    fn whatever_is_read_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(bytes.as_slice(), MOST);
        let _ = read([b"{\"type\":\"socket\",".as_slice(), &bytes].concat().as_slice(), MOST);
    }
}
