//! Any text wherever a record has text from outside: JSON gives it back, CSV gives it back escaped, and nothing that acts
//! on a terminal or hides what it says stands in any output.
#![no_main]

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use flowcap_fuzz::folder;
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::host::{Credentials, Owner, Process, Socket, SocketKind, SocketState};
use flowcore::key::{Endpoint, Proto};
use flowcore::l7::Transaction;
use flowcore::packet::{Frame, Labels, LinkType};
use flowcore::record::{
    AlertRecord, Column, EventKind, EventSource, FlowRecord, Match, NetworkEvent, Owners, ProcessChange,
    ProcessObject, ProcessRecord, Record, Rule, SightedAs, SightedSocket, SocketRecord,
};
use flowcore::sink::{
    Existing, Format, HostRecords, SightedLines, Sink, open, open_host, read_sighted, read_sockets,
};
use flowcore::table::{EndedFlow, FlowTable, TableOptions};
use flowcore::time::Timestamp;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(folder);
static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    Column::parse("src_ip,interface,dns,dns_query,src_process,dst_unattributed").expect("columns")
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let process = Arc::new(process(&text));
    flows(&text, &process);
    sockets(&text, &process);
    others(&text, &process);
});

/// Flows as JSON lines, CSV and tables.
fn flows(text: &str, process: &Arc<Process>) {
    let mut flow = flow();
    flow.labels = Some(Arc::new(Labels { interface: Some(text.into()), ..Labels::default() }));
    flow.l7.dns = vec![Transaction::new(1, text)];
    let owner = Owner::Process { process: Arc::clone(process), shared: 2 };
    let src = ProcessObject::of(&owner, Match::Exact, Some(3)).map(Ok);
    flow.owners = Some(Box::new(Owners { src, dst: None }));
    let through = |name: &str, format, columns| {
        let open = |path: &str| open(path, format, columns, &Existing::Overwrite.into());
        written(name, open, &[Record::Flow(&flow)])
    };
    // What is kept of a name has a limit.
    let query = flow.l7.dns[0].query().unwrap_or_default();

    let json = objects(&through("f.jsonl", Format::Jsonl, Some(&*COLUMNS)));
    assert_eq!(json[0]["interface"], *text);
    assert_eq!(json[0]["dns_query"].as_str().unwrap_or_default(), query);
    assert_eq!(json[0]["dns"][0]["query"].as_str().unwrap_or_default(), query);
    same_process(&json[0]["src_process"], process);

    let csv = rows(&through("f.csv", Format::Csv, Some(&*COLUMNS)));
    assert_eq!(csv[0]["interface"], cell(text));
    assert_eq!(csv[0]["dns_query"], cell(query));
    assert_eq!(csv[0]["src_process_name"], cell(&process.name));
    assert_eq!(csv[0]["src_process_exe"], cell(text));
    let args: Vec<String> = serde_json::from_str(&csv[0]["src_process_args"]).expect("a list");
    assert_eq!(args, process.args);

    for columns in [None, Some(&**COLUMNS)] {
        let table = through("f", Format::Table, columns);
        assert_eq!(table.lines().count(), 2, "{table:?}");
        assert!(table.contains(&escaped(&process.name)));
    }
}

/// Sockets, written and read back.
fn sockets(text: &str, process: &Arc<Process>) {
    let owner = Owner::Process { process: Arc::clone(process), shared: 1 };
    let socket = SocketRecord::new(time(), socket(), Some(text.into()), &owner);
    let records = [Record::Socket(&socket)];
    let path = |name: &str| FOLDER.join(name).to_str().expect("a path").to_owned();

    let json = host("s.jsonl", HostRecords::Sockets, &records);
    assert_eq!(objects(&json)[0]["user"], *text);
    assert_eq!(read_sockets(&path("s.jsonl")).expect("what was written"), [socket.clone()]);

    let csv = host("s.csv", HostRecords::Sockets, &records);
    assert_eq!(rows(&csv)[0]["process_exe"], cell(text));
    let read = read_sockets(&path("s.csv")).expect("what was written");
    if escaped(text) == text && !text.is_empty() {
        assert_eq!(read, [socket]);
    }

    let sighted = SightedSocket {
        netns: 0,
        proto: Proto::TCP,
        local: end(1),
        remote: Some(end(2)),
        is: SightedAs::Exact,
        cookie: 1,
        asked: Some(time()),
        answered: Some(time()),
        valid_from: time(),
        seen: time(),
        valid_to: None,
        owner: Some(owner),
    };
    let mut lines = SightedLines::open(&path("w.jsonl"), Existing::Overwrite).expect("a file");
    lines.write(&sighted).expect("room");
    lines.finish().expect("room");
    let [read] = read_sighted(&path("w.jsonl")).expect("what was written").try_into().expect("one");
    assert_eq!(read, sighted);
}

/// Whatever else has text in it.
fn others(text: &str, process: &Arc<Process>) {
    let gone = ProcessRecord { timestamp: time(), change: ProcessChange::Gone, process: Arc::clone(process) };
    let event = NetworkEvent {
        timestamp: time(),
        kind: EventKind::Close,
        cookie: None,
        local: end(1),
        remote: end(2),
        process: Some(Arc::clone(process)),
        tid: None,
        source: EventSource::Kernel,
    };
    let owner = Owner::Process { process: Arc::clone(process), shared: 1 };
    let alert = AlertRecord {
        timestamp: time(),
        rule: Rule::NewRemote,
        compared_with: text.into(),
        message: text.into(),
        socket: SocketRecord::new(time(), socket(), None, &owner),
    };
    let all =
        [Record::Process(&gone), Record::Event(&event), Record::Alert(&alert), Record::Socket(&alert.socket)];
    let json = objects(&host("o.jsonl", HostRecords::Sockets, &all));
    assert_eq!(json[0]["name"], process.name);
    assert_eq!(json[1]["process"]["binary_path"], *text);
    assert_eq!(json[2]["message"], *text);
    let csv = rows(&host("e.csv", HostRecords::Events, &all[1..2]));
    assert_eq!(csv[0]["process_binary_path"], cell(text));
    let csv = rows(&host("process.csv", HostRecords::Processes, &all[..1]));
    assert_eq!(csv[0]["exe"], cell(text));
    for records in [HostRecords::Sockets, HostRecords::Events] {
        host("o", records, &all);
    }
    host("process.log", HostRecords::Processes, &all[..1]);
    host("s.log", HostRecords::Sockets, &all[3..]);
}

/// Writes records that the sink takes, and returns the text.
fn host(name: &str, records: HostRecords, all: &[Record<'_>]) -> String {
    written(name, |path| open_host(records, path, Format::Table, &Existing::Overwrite.into()), all)
}

fn written(
    name: &str,
    open: impl Fn(&str) -> Result<Box<dyn Sink>, flowcore::Error>,
    records: &[Record<'_>],
) -> String {
    let path = FOLDER.join(name);
    let mut sink = open(path.to_str().expect("a path")).expect("a sink");
    for record in records {
        if sink.takes(*record) {
            sink.write(*record).expect("room");
        }
    }
    sink.finish().expect("room");
    let text = fs::read_to_string(path).expect("UTF-8");
    let hidden = text.chars().find(|letter| *letter != '\n' && is_unsafe(*letter));
    assert_eq!(hidden.filter(|letter| *letter != '\t' || !name.ends_with(".log")), None, "{name}");
    text
}

fn objects(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn rows(text: &str) -> Vec<HashMap<String, String>> {
    assert_eq!(text.lines().count(), 2, "a row is a line");
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(|row| row.expect("CSV")).collect()
}

fn same_process(object: &serde_json::Value, process: &Process) {
    assert_eq!(object["name"], process.name);
    assert_eq!(object["exe"].as_str(), process.exe.as_deref());
    assert_eq!(object["user"].as_str(), process.user.as_deref());
    let args: Vec<&str> =
        object["args"].as_array().into_iter().flatten().flat_map(|arg| arg.as_str()).collect();
    assert_eq!(args, process.args);
}

/// docs/record.md: escaped, and nothing that a spreadsheet would run.
fn cell(text: &str) -> String {
    let runs = text.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r']);
    format!("{}{}", if runs { "'" } else { "" }, escaped(text))
}

fn escaped(text: &str) -> String {
    let escape = |letter: char| match letter {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        letter if is_unsafe(letter) => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Controls, what changes the direction of writing, and line separators (docs/faults.md).
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A process that is called so.
fn process(text: &str) -> Process {
    Process {
        pid: 7,
        name: text.into(),
        exe: Some(text.into()),
        args: vec![text.into(), String::new()],
        started: time(),
        ppid: 1,
        parent_name: Some("init".into()),
        credentials: Credentials { uid: 1000, ..Credentials::default() },
        user: Some(text.into()),
        container_id: None,
    }
}

fn flow() -> FlowRecord {
    let packet = [&[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 200, 0, 0], &[10, 0, 0, 1, 10, 0, 0, 2][..]].concat();
    let frame =
        Frame { data: &packet, time: Some(time()), wire_len: 20, link: LinkType(101), interface: None };
    let mut table: FlowTable = FlowTable::new(TableOptions::default());
    let mut flows: Vec<EndedFlow> = Vec::new();
    Decoder::new(DecodeOptions::default())
        .decode(&frame, |packet| table.ingest(&packet, |flow| flows.push(flow)));
    table.drain(flowcore::record::EndReason::Eof, |flow| flows.push(flow));
    flows.remove(0).into()
}

fn socket() -> Socket {
    Socket {
        kind: SocketKind::Tcp,
        local: end(1),
        remote: Some(end(2)),
        state: SocketState::Established,
        uid: 0,
        inode: 5,
        cookie: 6,
        netns: 7,
        interface: 0,
        cgroup: None,
    }
}

fn end(host: u8) -> Endpoint {
    Endpoint { addr: Ipv4Addr::new(192, 0, 2, host).into(), port: Some(443) }
}

fn time() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_250_000_000)
}
