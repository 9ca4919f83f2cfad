//! Socket records read back, from JSON lines and from CSV, compressed or not.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::sighted::within_line;
use crate::error::{Error, Reason};
use crate::host::{Credentials, Process, Socket, SocketKind, SocketState};
use crate::key::{Endpoint, Proto};
use crate::record::{Change, Match, ProcessObject, SocketRecord, Who};
use crate::time::Timestamp;

/// Reads all socket records of a file that `flowcap sockets` wrote, JSON lines or CSV; `-` is standard input.
///
/// JSON lines give back what was written, and lines of other records are passed over. In CSV, control characters of
/// texts stay escaped. What a record never holds is not known: interface, control group, most credentials.
///
/// # Errors
/// [`Error::Input`] where the file cannot be opened or read. [`Error::Damaged`] for a line that is no record, and
/// for a file that has lines but no socket record: half a baseline is none.
pub fn read_sockets(name: &str) -> Result<Vec<SocketRecord>, Error> {
    let opened: io::Result<Box<dyn Read>> = match name {
        "-" => Ok(Box::new(io::stdin())),
        path => File::open(path).map(|file| Box::new(file) as _),
    };
    let failed = |source| Error::Input { name: name.to_owned(), source };
    let lines = unpacked(BufReader::new(opened.map_err(failed)?)).map_err(failed)?;
    read(lines).map_err(|failure| match failure {
        Failure::Read(source) => failed(source),
        Failure::Damaged { offset, what } => Error::Damaged { name: name.to_owned(), offset, what },
    })
}

enum Failure {
    Read(io::Error),
    Damaged { offset: u64, what: String },
}

/// Looks at the first bytes and unpacks what is compressed.
fn unpacked(mut file: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(file)?))
        }
        _ => Box::new(file),
    })
}

fn read(mut lines: impl BufRead) -> Result<Vec<SocketRecord>, Failure> {
    let first = lines.fill_buf().map_err(|error| broken(error, 0))?.first().copied();
    let records = match first {
        None => return Ok(Vec::new()),
        Some(b'{') => json_lines(lines)?,
        Some(_) => csv(lines)?,
    };
    Ok(records)
}

fn json_lines(mut lines: impl BufRead) -> Result<Vec<SocketRecord>, Failure> {
    let mut records = Vec::new();
    let mut line = Vec::new();
    let (mut offset, mut number) = (0, 0);
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line).map_err(|error| broken(error, offset))?;
        if length == 0 {
            break;
        }
        number += 1;
        let damaged = |what: String| Failure::Damaged { offset, what: format!("line {number}: {what}") };
        if !line.trim_ascii().is_empty() {
            let object: serde_json::Value = serde_json::from_slice(line.trim_ascii_end())
                .map_err(|error| damaged(within_line(&error)))?;
            match object.get("type").and_then(serde_json::Value::as_str) {
                Some("socket") => records.push(socket(&object).map_err(damaged)?),
                Some(_) => {}
                None => return Err(damaged("it has no type".to_owned())),
            }
        }
        offset += length as u64;
    }
    if records.is_empty() {
        return Err(Failure::Damaged { offset, what: "there is no socket record in it".to_owned() });
    }
    Ok(records)
}

fn csv(mut lines: impl BufRead) -> Result<Vec<SocketRecord>, Failure> {
    let mut text = Vec::new();
    lines.read_to_end(&mut text).map_err(|error| broken(error, 0))?;
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let damaged = |position: Option<&csv::Position>, what: String| {
        let (offset, line) = place(&text, position);
        Failure::Damaged { offset, what: format!("line {line}: {what}") }
    };
    let failed = |error: csv::Error| {
        let what = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("it has {len} cells, and the first line {expected_len}")
            }
            csv::ErrorKind::Utf8 { err, .. } => format!("it is no CSV: {err}"),
            kind => format!("it is no CSV: {kind:?}"),
        };
        damaged(error.position(), what)
    };
    let names = reader.headers().map_err(failed)?.clone();
    if !["timestamp", "protocol", "local_ip", "state"].iter().all(|name| names.iter().any(|it| it == *name)) {
        let what = "it is neither JSON lines nor CSV of socket records".to_owned();
        return Err(Failure::Damaged { offset: 0, what });
    }
    let mut records = Vec::new();
    for row in reader.records() {
        let row = row.map_err(failed)?;
        let read = socket(&CsvRow { names: &names, row: &row });
        records.push(read.map_err(|what| damaged(row.position(), what))?);
    }
    Ok(records)
}

/// Returns where a row begins, in bytes and as the number of its line. The reader's own position is behind the row
/// before: blank lines lie between, which it does not count.
fn place(text: &[u8], position: Option<&csv::Position>) -> (u64, usize) {
    let behind = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
    let rest = text.get(behind..).unwrap_or_default();
    let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let before = text.get(..behind + blank).unwrap_or_default();
    (before.len() as u64, 1 + before.iter().filter(|byte| **byte == b'\n').count())
}

fn broken(error: io::Error, offset: u64) -> Failure {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other => {
            Failure::Damaged { offset, what: error.to_string() }
        }
        _ => Failure::Read(error),
    }
}

/// A record by the names of its CSV columns; what is not there is none.
trait Cells {
    fn cell(&self, column: &str) -> Option<Cow<'_, str>>;

    /// Reads a value that may be absent.
    fn value<T: FromStr>(&self, column: &str) -> Result<Option<T>, String> {
        let Some(cell) = self.cell(column) else { return Ok(None) };
        cell.parse().map(Some).map_err(|_| format!("{column} is '{cell}'"))
    }

    /// Reads one of several words.
    fn word<T: Copy>(
        &self,
        column: &str,
        words: &[T],
        name: fn(T) -> &'static str,
    ) -> Result<Option<T>, String> {
        let Some(cell) = self.cell(column) else { return Ok(None) };
        let found = words.iter().copied().find(|&word| name(word) == cell);
        found.map(Some).ok_or_else(|| format!("{column} is '{cell}'"))
    }

    fn time(&self, column: &str) -> Result<Timestamp, String> {
        let cell = self.cell(column).ok_or_else(|| missing(column))?;
        Timestamp::parse(&cell).ok_or_else(|| format!("{column} is '{cell}'"))
    }

    fn text(&self, column: &str) -> Option<String> {
        self.cell(column).map(Cow::into_owned)
    }
}

impl Cells for serde_json::Value {
    fn cell(&self, column: &str) -> Option<Cow<'_, str>> {
        let value = match column.strip_prefix("process_") {
            Some(member) => self.get("process")?.get(member)?,
            None => self.get(column)?,
        };
        match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }
}

struct CsvRow<'a> {
    names: &'a csv::StringRecord,
    row: &'a csv::StringRecord,
}

impl Cells for CsvRow<'_> {
    fn cell(&self, column: &str) -> Option<Cow<'_, str>> {
        let nth = self.names.iter().position(|name| name == column)?;
        let cell = self.row.get(nth).filter(|cell| !cell.is_empty())?;
        // The apostrophe that keeps spreadsheets from running a text; TAB and CR stand escaped behind it.
        let whole = cell.strip_prefix('\'').filter(|text| {
            let text = text.trim_start_matches('\'');
            text.starts_with(['=', '+', '-', '@']) || text.starts_with("\\t") || text.starts_with("\\r")
        });
        Some(Cow::Borrowed(whole.unwrap_or(cell)))
    }
}

fn missing(column: &str) -> String {
    format!("{column} is missing")
}

fn socket(cells: &impl Cells) -> Result<SocketRecord, String> {
    let local_addr: IpAddr = cells.value("local_ip")?.ok_or_else(|| missing("local_ip"))?;
    let local = Endpoint { addr: local_addr, port: cells.value("local_port")? };
    let remote_port = cells.value("remote_port")?;
    let remote = cells.value("remote_ip")?.map(|addr| Endpoint { addr, port: remote_port });
    let raw = Proto(cells.value("protocol_number")?.unwrap_or_default());
    let kinds = [
        SocketKind::Tcp,
        SocketKind::Udp,
        SocketKind::UdpLite,
        SocketKind::Raw(raw),
        SocketKind::Ping,
        SocketKind::Rdma,
    ];
    let protocol = cells.cell("protocol").ok_or_else(|| missing("protocol"))?;
    let kind = kinds.into_iter().find(|kind| kind.name(local_addr) == protocol);
    let socket = Socket {
        kind: kind.ok_or_else(|| format!("protocol is '{protocol}', at the address {local_addr}"))?,
        local,
        remote,
        state: cells.word("state", &STATES, SocketState::name)?.ok_or_else(|| missing("state"))?,
        uid: cells.value("uid")?.ok_or_else(|| missing("uid"))?,
        inode: cells.value("inode")?.unwrap_or_default(),
        cookie: cells.value("cookie")?.unwrap_or_default(),
        netns: cells.value("netns")?.unwrap_or_default(),
        interface: 0,
        cgroup: None,
    };
    Ok(SocketRecord {
        timestamp: cells.time("timestamp")?,
        change: cells.word("change", &Change::ALL, Change::name)?.unwrap_or(Change::Present),
        socket,
        previous_state: cells.word("previous_state", &STATES, SocketState::name)?,
        user: cells.text("user").map(Arc::from),
        process: process_object(cells)?,
    })
}

/// Reads the process object; none where neither a process nor a user is named.
fn process_object(cells: &impl Cells) -> Result<Option<ProcessObject>, String> {
    let container_id = cells.text("process_container_id");
    let who = match (cells.value("process_pid")?, cells.value("process_uid")?) {
        (Some(pid), uid) => Who::Process(Arc::new(Process {
            pid,
            // A process may have no name at all.
            name: cells.text("process_name").unwrap_or_default(),
            exe: cells.text("process_exe"),
            args: match cells.cell("process_args") {
                Some(list) => serde_json::from_str(&list).map_err(|_| format!("process_args is '{list}'"))?,
                None => Vec::new(),
            },
            started: cells.time("process_start_time")?,
            ppid: cells.value("process_ppid")?.unwrap_or_default(),
            parent_name: cells.text("process_parent_name"),
            credentials: Credentials { uid: uid.unwrap_or_default(), ..Credentials::default() },
            user: cells.text("process_user"),
            container_id,
        })),
        (None, Some(uid)) => Who::User { uid, container_id },
        (None, None) => return Ok(None),
    };
    let matched = cells.word("process_match", Match::ALL, Match::name)?.unwrap_or(Match::Exact);
    let shared = cells.value("process_shared")?.unwrap_or(1).max(1);
    Ok(Some(ProcessObject::new(who, matched, cells.value("process_evidence_age_ms")?, shared)))
}

const STATES: [SocketState; 11] = [
    SocketState::Established,
    SocketState::SynSent,
    SocketState::SynReceived,
    SocketState::FinWait1,
    SocketState::FinWait2,
    SocketState::TimeWait,
    SocketState::Unconnected,
    SocketState::CloseWait,
    SocketState::LastAck,
    SocketState::Listen,
    SocketState::Closing,
];

#[cfg(test)]
mod tests;
