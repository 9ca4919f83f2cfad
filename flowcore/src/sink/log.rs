//! Logs of connections and processes: lines of words under a `#Fields:` header, joined by the upid.
//!
//! A word never has blanks: they, the backslash and what acts on a terminal stand as octal numbers, `\040`.

use std::io::Write;

use super::host::HostRecords;
use super::output::Output;
use super::place::Known;
use super::{FileOptions, Sink, by_output, spell};
use crate::error::Error;
use crate::field::is_unsafe;
use crate::host::SocketKind;
use crate::key::Endpoint;
use crate::record::{Change, ProcessRecord, Record, SocketRecord};
use crate::time::Timestamp;

/// Writes sockets or processes as a log.
pub(super) struct Log {
    output: Output,
    records: HostRecords,
}

impl Log {
    /// Opens a log of sockets or of processes; its header is written with the first record, whose time it has.
    ///
    /// # Errors
    /// Those of [`Output::open`]; [`Error::Output`] also if the file begins otherwise.
    pub(super) fn open(to: &str, records: HostRecords, options: &FileOptions) -> Result<Self, Error> {
        let known = Known::Head(VERSION.to_owned(), "is no log of this kind, so nothing is added to it");
        Ok(Log { output: Output::open(to, options, known)?, records })
    }

    /// Dates the header of a file by its first record.
    fn begin(&mut self, time: Timestamp) {
        if !self.output.is_at_start() {
            return;
        }
        let fields = match self.records {
            HostRecords::Processes => "timestamp upid [command_line with parameters]",
            _ => "timestamp prot laddr lport raddr rport status upid",
        };
        let mut header = VERSION.as_bytes().to_vec();
        header.extend_from_slice(b"\n#Date: ");
        second(&mut header, time, b' ');
        // Writing to a Vec cannot fail.
        _ = writeln!(header, "\n#Fields: {fields}");
        self.output.set_header(header);
    }
}

impl Sink for Log {
    fn takes(&self, record: Record<'_>) -> bool {
        matches!(
            (self.records, record),
            (HostRecords::Sockets, Record::Socket(_)) | (HostRecords::Processes, Record::Process(_))
        )
    }

    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        match (self.records, record) {
            (HostRecords::Sockets, Record::Socket(record)) => {
                self.begin(record.timestamp);
                connection(self.output.room()?, record);
            }
            (HostRecords::Processes, Record::Process(record)) => {
                self.begin(record.timestamp);
                process(self.output.room()?, record);
            }
            _ => {
                let other = "a log has sockets, or processes if its name says so; JSON lines have all";
                return Err(Error::Option(other.to_owned()));
            }
        }
        Ok(())
    }

    by_output!(all of output);
}

fn connection(out: &mut Vec<u8>, record: &SocketRecord) {
    let socket = &record.socket;
    second(out, record.timestamp, b'|');
    out.push(b' ');
    // The addresses show the IP version.
    let name = record.protocol();
    let protocol = if socket.kind == SocketKind::Ping { name } else { name.trim_end_matches("v6") };
    out.extend_from_slice(protocol.as_bytes());
    end(out, Some(socket.local));
    end(out, socket.remote);
    out.push(b' ');
    let status = if record.change == Change::Closed { "CLOSED" } else { socket.state.name() };
    out.extend_from_slice(status.as_bytes());
    out.push(b' ');
    match record.process.as_ref().and_then(|object| object.process()) {
        Some(process) => word(out, &process.upid()),
        None => out.push(b'-'),
    }
    out.push(b'\n');
}

fn process(out: &mut Vec<u8>, record: &ProcessRecord) {
    second(out, record.timestamp, b'|');
    out.push(b' ');
    word(out, &record.process.upid());
    out.extend_from_slice(b" [");
    for (nth, argument) in record.process.args.iter().enumerate() {
        if nth > 0 {
            out.extend_from_slice(b", ");
        }
        quoted(out, argument);
    }
    out.extend_from_slice(b"]\n");
}

/// Appends address and port, each with a blank before it, `-` for what is not there.
fn end(out: &mut Vec<u8>, end: Option<Endpoint>) {
    out.push(b' ');
    match end {
        Some(end) => spell::ip(out, end.addr),
        None => out.push(b'-'),
    }
    // Writing to a Vec cannot fail.
    _ = match end.and_then(|end| end.port) {
        Some(port) => write!(out, " {port}"),
        None => write!(out, " -"),
    };
}

/// Appends `2022-07-27 22:23:15` with another mark between date and time, in UTC.
fn second(out: &mut Vec<u8>, time: Timestamp, mark: u8) {
    let text = time.rfc3339();
    out.extend(text.iter().take(19).map(|&byte| if byte == b'T' { mark } else { byte }));
}

fn word(out: &mut Vec<u8>, outside: &str) {
    let mut utf8 = [0; 4];
    for letter in outside.chars() {
        let bytes = letter.encode_utf8(&mut utf8).as_bytes();
        if letter.is_whitespace() || letter == '\\' || is_unsafe(letter) {
            // Writing to a Vec cannot fail.
            bytes.iter().for_each(|byte| _ = write!(out, "\\{byte:03o}"));
        } else {
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a text as Python writes it.
fn quoted(out: &mut Vec<u8>, outside: &str) {
    let quote = if outside.contains('\'') && !outside.contains('"') { '"' } else { '\'' };
    let mut text = String::from(quote);
    for letter in outside.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            _ if letter == quote => text.extend(['\\', quote]),
            _ if is_unsafe(letter) => text.push_str(&match u32::from(letter) {
                code @ ..0x100 => format!("\\x{code:02x}"),
                code @ ..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
            _ => text.push(letter),
        }
    }
    text.push(quote);
    out.extend_from_slice(text.as_bytes());
}

/// The first line of every log.
const VERSION: &str = "#Version: 1.0";

#[cfg(test)]
mod tests;
