//! Any text wherever a record has text from outside: JSON gives it back, CSV gives it back escaped, and nothing that acts
//! on a terminal or hides what it says stands in any output.
//!
//! Input: a byte that says which output, and the text; before a long one 255 stands for all of them.
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
    AlertRecord, Column, EndReason, EventKind, EventSource, FlowRecord, Match, NetworkEvent, Owners,
    ProcessChange, ProcessObject, ProcessRecord, Record, Rule, SightedAs, SightedSocket, SocketRecord,
};
use flowcore::sink::{
    Existing, Format, HostRecords, SightedLines, Sink, open, open_host, read_sighted, read_sockets,
};
use flowcore::table::{FlowTable, TableOptions};
use flowcore::time::Timestamp;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(folder);
static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    Column::parse("src_ip,interface,dns,dns_query,src_process,dst_unattributed").expect("columns")
});

/// What is written and read back of a text.
const OUTPUTS: [fn(&str); 11] = [
    flow_as_json,
    flow_as_csv,
    |text| flow_as_table(text, None),
    |text| flow_as_table(text, Some(&*COLUMNS)),
    socket_as_json,
    socket_as_csv,
    sighted_socket,
    others_as_json,
    |text| {
        same_in_csv(
            "event.csv",
            HostRecords::Events,
            Record::Event(&event(text)),
            "process_binary_path",
            text,
        )
    },
    |text| same_in_csv("process.csv", HostRecords::Processes, Record::Process(&gone(text)), "exe", text),
    tables_and_logs,
];

fuzz_target!(|data: &[u8]| {
    let Some((&which, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    match which {
        // In seeds that are run once; of mutants each takes one, which is ten times as fast.
        255 if text.len() > 512 => OUTPUTS.iter().for_each(|output| output(&text)),
        _ => OUTPUTS[usize::from(which) % OUTPUTS.len()](&text),
    }
});

fn flow_as_json(text: &str) {
    let flow = flow(text);
    let json = objects(&flow_as(&flow, "f.jsonl", Format::Jsonl, Some(&*COLUMNS)));
    let query = query(&flow);
    assert_eq!(json[0]["interface"], *text);
    assert_eq!(json[0]["dns_query"].as_str().unwrap_or_default(), query);
    assert_eq!(json[0]["dns"][0]["query"].as_str().unwrap_or_default(), query);
    let owner = &json[0]["src_process"];
    let args: Vec<&str> =
        owner["args"].as_array().into_iter().flatten().flat_map(|arg| arg.as_str()).collect();
    assert_eq!((&owner["name"], &owner["exe"], &owner["user"]), (&text.into(), &text.into(), &text.into()));
    assert_eq!(args, process(text).args);
}

fn flow_as_csv(text: &str) {
    let flow = flow(text);
    let csv = rows(&flow_as(&flow, "f.csv", Format::Csv, Some(&*COLUMNS)));
    assert_eq!(csv[0]["interface"], cell(text));
    assert_eq!(csv[0]["dns_query"], cell(query(&flow)));
    assert_eq!(csv[0]["src_process_name"], cell(text));
    assert_eq!(csv[0]["src_process_exe"], cell(text));
    let args: Vec<String> = serde_json::from_str(&csv[0]["src_process_args"]).expect("a list");
    assert_eq!(args, process(text).args);
}

fn flow_as_table(text: &str, columns: Option<&[Column]>) {
    let table = flow_as(&flow(text), "f", Format::Table, columns);
    assert_eq!(table.lines().count(), 2, "{table:?}");
    assert!(table.contains(&escaped(text)));
}

fn flow_as(flow: &FlowRecord, name: &str, format: Format, columns: Option<&[Column]>) -> String {
    let open = |path: &str| open(path, format, columns, &Existing::Overwrite.into());
    written(name, open, &[Record::Flow(flow)])
}

fn socket_as_json(text: &str) {
    let socket = socket(text);
    let json = host("s.jsonl", HostRecords::Sockets, &[Record::Socket(&socket)]);
    assert_eq!(objects(&json)[0]["user"], *text);
    assert_eq!(read_sockets(&path("s.jsonl")).expect("what was written"), [socket]);
}

fn socket_as_csv(text: &str) {
    let socket = socket(text);
    same_in_csv("s.csv", HostRecords::Sockets, Record::Socket(&socket), "process_exe", text);
    let read = read_sockets(&path("s.csv")).expect("what was written");
    // Escapes stay, and an empty cell is none. A backslash behind apostrophes may be an escape that got one in front.
    let behind = text.trim_start_matches('\'');
    if escaped(text) == text && !text.is_empty() && (behind == text || !behind.starts_with('\\')) {
        assert_eq!(read, [socket]);
    }
}

fn sighted_socket(text: &str) {
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
        owner: Some(owner(text)),
    };
    let mut lines = SightedLines::open(&path("w.jsonl"), Existing::Overwrite).expect("a file");
    lines.write(&sighted).expect("room");
    lines.finish().expect("room");
    assert_eq!(read_sighted(&path("w.jsonl")).expect("what was written"), [sighted]);
}

fn others_as_json(text: &str) {
    let (gone, event, alert) = (gone(text), event(text), alert(text));
    let all = [Record::Process(&gone), Record::Event(&event), Record::Alert(&alert)];
    let json = objects(&host("o.jsonl", HostRecords::Sockets, &all));
    assert_eq!(json[0]["name"], *text);
    assert_eq!(json[1]["process"]["binary_path"], *text);
    assert_eq!(json[2]["message"], *text);
}

fn same_in_csv(name: &str, records: HostRecords, record: Record<'_>, column: &str, text: &str) {
    assert_eq!(rows(&host(name, records, &[record]))[0][column], cell(text));
}

fn tables_and_logs(text: &str) {
    let (gone, event, alert) = (gone(text), event(text), alert(text));
    let all =
        [Record::Socket(&alert.socket), Record::Process(&gone), Record::Event(&event), Record::Alert(&alert)];
    host("o", HostRecords::Sockets, &all);
    host("o", HostRecords::Events, &all);
    host("process.log", HostRecords::Processes, &all);
    host("s.log", HostRecords::Sockets, &all);
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
        letter if is_unsafe(letter) => {
            letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }
        letter => letter.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Controls, line separators, and what is not seen (docs/faults.md).
fn is_unsafe(letter: char) -> bool {
    let code = u32::from(letter);
    letter.is_control() || UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// What Unicode counts as `Cf` or lets renderers ignore, and the line separators, by blocks.
const UNSEEN: &[(u32, u32)] = &[
    // Latin-1, combining marks, Arabic, Syriac.
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    // Fillers of Hangul, of Khmer, selectors of Mongolian.
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    // General punctuation.
    (0x200b, 0x200f),
    (0x2028, 0x202f),
    (0x2060, 0x206f),
    // Fillers, variation selectors, the byte order mark, specials.
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    // Kaithi, hieroglyphs, shorthand, music, tags and more variation selectors.
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
];

fn path(name: &str) -> String {
    FOLDER.join(name).to_str().expect("a path").to_owned()
}

/// A flow with the text in all that comes from outside.
fn flow(text: &str) -> FlowRecord {
    let mut flow = FLOW.clone();
    flow.labels = Some(Arc::new(Labels { interface: Some(text.into()), ..Labels::default() }));
    flow.l7.dns = vec![Transaction::new(1, text)];
    let src = ProcessObject::of(&owner(text), Match::Exact, Some(3)).map(Ok);
    flow.owners = Some(Box::new(Owners { src, dst: None }));
    flow
}

/// The name in it: what is kept of one has a limit.
fn query(flow: &FlowRecord) -> &str {
    flow.l7.dns[0].query().unwrap_or_default()
}

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

fn owner(text: &str) -> Owner {
    Owner::Process { process: Arc::new(process(text)), shared: 2 }
}

fn gone(text: &str) -> ProcessRecord {
    ProcessRecord { timestamp: time(), change: ProcessChange::Gone, process: Arc::new(process(text)) }
}

fn event(text: &str) -> NetworkEvent {
    NetworkEvent {
        timestamp: time(),
        kind: EventKind::Close,
        cookie: None,
        local: end(1),
        remote: end(2),
        process: Some(Arc::new(process(text))),
        tid: None,
        source: EventSource::Kernel,
    }
}

fn alert(text: &str) -> AlertRecord {
    AlertRecord {
        timestamp: time(),
        rule: Rule::NewRemote,
        compared_with: text.into(),
        message: text.into(),
        socket: socket(text),
    }
}

fn socket(text: &str) -> SocketRecord {
    let socket = Socket {
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
    };
    SocketRecord::new(time(), socket, Some(text.into()), &owner(text))
}

/// A flow of one packet.
static FLOW: LazyLock<FlowRecord> = LazyLock::new(|| {
    let packet = [&[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 200, 0, 0], &[10, 0, 0, 1, 10, 0, 0, 2][..]].concat();
    let frame =
        Frame { data: &packet, time: Some(time()), wire_len: 20, link: LinkType(101), interface: None };
    let mut table: FlowTable = FlowTable::new(TableOptions::default());
    let mut flows: Vec<FlowRecord> = Vec::new();
    Decoder::new(DecodeOptions::default())
        .decode(&frame, |packet| table.ingest(&packet, |flow| flows.push(flow)));
    table.drain(EndReason::Eof, |flow| flows.push(flow));
    flows.remove(0)
});

fn end(host: u8) -> Endpoint {
    Endpoint { addr: Ipv4Addr::new(192, 0, 2, host).into(), port: Some(443) }
}

fn time() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_250_000_000)
}
