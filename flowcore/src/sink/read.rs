//! Socket records read back, from JSON lines and from CSV, compressed or not.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::recording::{Failure, Kept, Lines, MOST, Rows, Spot, bytes_of, unpacked};
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
/// [`Error::Input`] where the file cannot be opened or read. [`Error::Damaged`] for a line that is no record or is longer
/// than 1 MiB, for records that take more than 1 GiB of memory, and for a file that has lines but no socket record: half
/// a baseline is none.
pub fn read_sockets(name: &str) -> Result<Vec<SocketRecord>, Error> {
    let opened: io::Result<Box<dyn Read>> = match name {
        "-" => Ok(Box::new(io::stdin())),
        path => File::open(path).map(|file| Box::new(file) as _),
    };
    let lines = opened.and_then(|file| unpacked(BufReader::new(file))).map_err(Failure::Read);
    lines.and_then(|lines| read(lines, MOST)).map_err(|failure| failure.of(name))
}

fn read(mut lines: impl BufRead, most: usize) -> Result<Vec<SocketRecord>, Failure> {
    let mut kept = Kept::within(most);
    let first = lines.fill_buf().map_err(|error| Spot::START.broken(error))?.first().copied();
    match first {
        None => {}
        Some(b'{') => json_lines(lines, &mut kept)?,
        Some(_) => csv(lines, &mut kept)?,
    }
    Ok(kept.records())
}

fn json_lines(lines: impl BufRead, kept: &mut Kept<SocketRecord>) -> Result<(), Failure> {
    let mut lines = Lines::new(lines);
    let mut has_sockets = false;
    while let Some(line) = lines.next()? {
        let object = serde_json::from_slice::<serde_json::Value>(line).map_err(|error| within_line(&error));
        let spot = lines.spot();
        let object = object.map_err(|what| spot.damaged(&what))?;
        match object.get("type").and_then(serde_json::Value::as_str) {
            Some("socket") => keep(kept, &object, spot)?,
            Some(_) => continue,
            None => return Err(spot.damaged("it has no type")),
        }
        has_sockets = true;
    }
    if !has_sockets {
        let what = "there is no socket record in it".to_owned();
        return Err(Failure::Damaged { offset: lines.end().offset, what });
    }
    Ok(())
}

fn csv(lines: impl BufRead, kept: &mut Kept<SocketRecord>) -> Result<(), Failure> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(Rows::new(lines)?);
    let mut next = |row: &mut csv::StringRecord| {
        reader.get_mut().ask();
        let read = reader.read_record(row);
        let spot = reader.get_ref().spot();
        read.map(|is_there| is_there.then_some(spot)).map_err(|error| no_row(error, spot))
    };
    let (mut names, mut row) = (csv::StringRecord::new(), csv::StringRecord::new());
    next(&mut names)?;
    if !["timestamp", "protocol", "local_ip", "state"].iter().all(|name| names.iter().any(|it| it == *name)) {
        let what = "it is neither JSON lines nor CSV of socket records".to_owned();
        return Err(Failure::Damaged { offset: 0, what });
    }
    while let Some(spot) = next(&mut row)? {
        keep(kept, &CsvRow { names: &names, row: &row }, spot)?;
    }
    Ok(())
}

/// Says why a row could not be read.
fn no_row(error: csv::Error, spot: Spot) -> Failure {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => spot.broken(error),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            spot.damaged(&format!("it has {len} cells, and the first line {expected_len}"))
        }
        csv::ErrorKind::Utf8 { err, .. } => spot.damaged(&format!("it is no CSV: {err}")),
        kind => spot.damaged(&format!("it is no CSV: {kind:?}")),
    }
}

fn keep(kept: &mut Kept<SocketRecord>, cells: &impl Cells, spot: Spot) -> Result<(), Failure> {
    let mut record = socket(cells).map_err(|what| spot.damaged(&what))?;
    let mut texts = record.user.as_deref().map_or(0, bytes_of);
    match record.process.as_mut().map(|object| &mut object.who) {
        Some(Who::Process(process)) => kept.share(process),
        Some(Who::User { container_id, .. }) => texts += container_id.as_deref().map_or(0, bytes_of),
        None => {}
    }
    kept.push(record, texts, spot)
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
