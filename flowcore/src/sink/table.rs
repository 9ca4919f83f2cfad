//! A table for people: aligned columns, one line for each flow, as the records come.

use std::io::Write;

use super::output::Output;
use super::{Sink, by_output, digits, json, spell};
use crate::error::Error;
use crate::field::Scalar;
use crate::key::{End, Endpoint};
use crate::record::{Column, FlowRecord, ProcessObject, Record, Value, Who};

/// Writes flow records as a table.
///
/// Columns begin where the header says. A cell that is too wide moves what follows, until a gap takes it in again.
pub(super) struct Table {
    output: Output,
    columns: Vec<TableColumn>,
    cell: Vec<u8>,
}

struct TableColumn {
    title: &'static str,
    align: Align,
    width: usize,
    cell: Cell,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// What stands in a column.
enum Cell {
    Start,
    Duration,
    Src,
    Dst,
    Packets(Column),
    Bytes(Column),
    Field(Column),
    Info(Info),
}

/// The columns that the last cell is made of.
struct Info {
    history: Option<Column>,
    dns_query: Option<Column>,
    owners: [Option<Column>; 2],
}

impl Table {
    /// Makes a table with these columns, or with those chosen for people, and writes its header.
    pub(super) fn new(output: Output, columns: Option<&[Column]>) -> Result<Self, Error> {
        let columns =
            columns.map_or_else(for_people, |columns| columns.iter().map(TableColumn::of).collect());
        let mut table = Table { output, columns, cell: Vec::new() };
        let mut header = Vec::new();
        let mut line = Line::new(&mut header);
        for column in &table.columns {
            line.put(column, column.title.as_bytes());
        }
        line.end();
        table.output.set_header(header);
        Ok(table)
    }
}

impl Sink for Table {
    fn takes(&self, record: Record<'_>) -> bool {
        matches!(record, Record::Flow(_))
    }

    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        let Record::Flow(flow) = record else {
            return Err(Error::Option(
                "a table has flow records only; stats records go to JSON lines".to_owned(),
            ));
        };
        let mut line = Line::new(self.output.room()?);
        for column in &self.columns {
            self.cell.clear();
            column.cell.append(&mut self.cell, flow);
            line.put(column, &self.cell);
        }
        line.end();
        Ok(())
    }

    by_output!(all of output);
}

/// A line that grows.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    /// Characters so far.
    at: usize,
    /// Where the next column begins.
    column: usize,
}

impl<'a> Line<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Line { out, at: 0, column: 0 }
    }

    fn put(&mut self, column: &TableColumn, cell: &[u8]) {
        let width = cell.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        let indent = if column.align == Align::Right { column.width.saturating_sub(width) } else { 0 };
        let earliest = if self.at > 0 { self.at + 1 } else { 0 };
        let start = (self.column + indent).max(earliest);
        if width > 0 {
            self.out.resize(self.out.len() + start - self.at, b' ');
            self.out.extend_from_slice(cell);
            self.at = start + width;
        }
        self.column += column.width + 1;
    }

    fn end(self) {
        self.out.push(b'\n');
    }
}

/// The table for people, 104 characters without the last column.
fn for_people() -> Vec<TableColumn> {
    use Align::{Left, Right};
    let all = Column::all();
    let named = |name: &str| all.iter().find(|column| column.field.name == name).copied();
    let info = Info {
        history: named("history"),
        dns_query: named("dns_query"),
        owners: [named("src_process"), named("dst_process")],
    };
    [
        ("START (UTC)", Left, 19, Some(Cell::Start)),
        ("LASTED", Right, 6, Some(Cell::Duration)),
        ("PROTO", Left, 6, named("protocol").map(Cell::Field)),
        ("SOURCE", Left, 21, Some(Cell::Src)),
        ("DESTINATION", Left, 21, Some(Cell::Dst)),
        ("APP", Left, 5, named("app").map(Cell::Field)),
        ("PKTS", Right, 5, named("packets").map(Cell::Packets)),
        ("BYTES", Right, 6, named("bytes").map(Cell::Bytes)),
        ("STATE", Left, 6, named("tcp_state").map(Cell::Field)),
        ("INFO", Left, 0, Some(Cell::Info(info))),
    ]
    .into_iter()
    .filter_map(|(title, align, width, cell)| Some(TableColumn { title, align, width, cell: cell? }))
    .collect()
}

impl TableColumn {
    fn of(column: &Column) -> TableColumn {
        let title = column.field.name;
        let (align, width) = shape(title);
        TableColumn { title, align, width: width.max(title.len()), cell: Cell::Field(*column) }
    }
}

/// Texts stand at the left with room for what is usual, numbers at the right.
fn shape(field: &str) -> (Align, usize) {
    let text = match field {
        "timestamp" | "end" | "community_id" | "dns_query" => 30,
        "type" | "protocol" | "app" => 6,
        "src_ip" | "dst_ip" => 15,
        "history" | "tunnel" | "dns" | "splt" | "src_process" | "dst_process" => 20,
        "src_unattributed" | "dst_unattributed" => 11,
        "end_reason" | "orientation" | "interface" | "vlan" | "mpls" => 9,
        "flags" | "src_flags" | "dst_flags" | "tcp_state" => 6,
        _ => return (Align::Right, 8),
    };
    (Align::Left, text)
}

impl Cell {
    fn append(&self, out: &mut Vec<u8>, flow: &FlowRecord) {
        match self {
            Cell::Start => {
                let time = flow.first.rfc3339();
                out.extend(time.iter().take(19).map(|&byte| if byte == b'T' { b' ' } else { byte }));
            }
            Cell::Duration => duration(out, flow.last.nanos_since(flow.first)),
            Cell::Src => endpoint(out, flow, flow.src),
            Cell::Dst => endpoint(out, flow, flow.src.other()),
            Cell::Packets(column) => scaled(out, number(column, flow), ["", "k", "M", "G", "T", "P"]),
            Cell::Bytes(column) => scaled(out, number(column, flow), ["B", "kB", "MB", "GB", "TB", "PB"]),
            Cell::Field(column) => field(out, column, flow),
            Cell::Info(info) => info.append(out, flow),
        }
    }
}

impl Info {
    /// Appends what there is of: history, the first DNS query, the processes at both ends, ICMP type and code, tunnels,
    /// VLANs, slice.
    fn append(&self, out: &mut Vec<u8>, flow: &FlowRecord) {
        for column in [&self.history, &self.dns_query].into_iter().flatten() {
            gap(out);
            field(out, column, flow);
        }
        let more = flow.l7.dns.len().saturating_sub(1);
        // Writing to a Vec cannot fail.
        if more > 0 {
            _ = write!(out, " (+{more})");
        }
        for (column, side) in self.owners.iter().zip(["from", "to"]) {
            if let Some(Value::Process(owner)) = column.map(|column| column.value(flow)) {
                gap(out);
                _ = write!(out, "{side} ");
                process(out, owner);
            }
        }
        if let Some((kind, code)) = flow.icmp {
            gap(out);
            _ = write!(out, "type {kind} code {code}");
        }
        if let Some(labels) = flow.labels.as_deref() {
            for tunnel in &labels.tunnels {
                gap(out);
                out.extend_from_slice(tunnel.kind.name().as_bytes());
                if let Some(id) = tunnel.id {
                    _ = write!(out, " {id}");
                }
            }
            for vlan in &labels.vlans {
                gap(out);
                _ = write!(out, "vlan {vlan}");
            }
        }
        if flow.slice > 0 || !flow.is_final {
            gap(out);
            _ = write!(out, "slice {}{}", flow.slice, if flow.is_final { " (last)" } else { "" });
        }
        trim_gap(out);
    }
}

/// Puts two blanks between the parts of a cell.
fn gap(out: &mut Vec<u8>) {
    trim_gap(out);
    if !out.is_empty() {
        out.extend_from_slice(b"  ");
    }
}

fn trim_gap(out: &mut Vec<u8>) {
    while out.last() == Some(&b' ') {
        out.pop();
    }
}

fn field(out: &mut Vec<u8>, column: &Column, flow: &FlowRecord) {
    match column.value(flow) {
        absent if absent.is_absent() => {}
        Value::Scalar(Scalar::Text(outside)) => json::printable(out, outside),
        Value::Scalar(plain) => spell::scalar(out, &plain),
        Value::Process(owner) => process(out, owner),
        list => json::value(out, &json::Prefix::NONE, list),
    }
}

/// Appends `name/pid`, or `uid N`.
fn process(out: &mut Vec<u8>, owner: &ProcessObject) {
    // Writing to a Vec cannot fail.
    _ = match &owner.who {
        Who::Process(process) => {
            json::printable(out, &process.name);
            write!(out, "/{}", process.pid)
        }
        Who::User { uid, .. } => write!(out, "uid {uid}"),
    };
}

fn number(column: &Column, flow: &FlowRecord) -> u64 {
    match column.value(flow) {
        Value::Scalar(Scalar::U64(number)) => number,
        _ => 0,
    }
}

fn endpoint(out: &mut Vec<u8>, flow: &FlowRecord, end: End) {
    let Endpoint { addr, port } = flow.key.endpoint(end);
    let Some(port) = port else { return spell::ip(out, addr) };
    if addr.is_ipv6() {
        out.push(b'[');
        spell::ip(out, addr);
        out.push(b']');
    } else {
        spell::ip(out, addr);
    }
    out.push(b':');
    digits::integer(out, port);
}

/// Appends at most six characters: `0s`, `850us`, `12.3ms`, `1.25s`, `5m12s`, `2h03m`, `3d04h`.
fn duration(out: &mut Vec<u8>, nanos: u64) {
    let seconds = nanos / 1_000_000_000;
    // Writing to a Vec cannot fail.
    _ = match nanos {
        0 => write!(out, "0s"),
        1..1_000 => write!(out, "{nanos}ns"),
        1_000..1_000_000 => write!(out, "{}us", nanos / 1_000),
        1_000_000..1_000_000_000 => three_digits(out, nanos, 1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => three_digits(out, nanos, 1_000_000_000, "s"),
        60_000_000_000..3_600_000_000_000 => write!(out, "{}m{:02}s", seconds / 60, seconds % 60),
        3_600_000_000_000..86_400_000_000_000 => {
            write!(out, "{}h{:02}m", seconds / 3_600, seconds / 60 % 60)
        }
        _ => write!(out, "{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    };
}

/// Appends a number in steps of 1000 with at most three digits, cut and not rounded: `999B`, `1.25kB`, `12.3MB`.
fn scaled(out: &mut Vec<u8>, number: u64, units: [&str; 6]) {
    let mut scale = 1u64;
    let mut unit = "";
    for name in units {
        unit = name;
        if number / scale < 1_000 {
            break;
        }
        if name != units[5] {
            scale *= 1_000;
        }
    }
    _ = three_digits(out, number, scale, unit);
}

fn three_digits(out: &mut Vec<u8>, number: u64, scale: u64, unit: &str) -> std::io::Result<()> {
    let (whole, rest) = (number / scale, number % scale);
    match whole {
        _ if scale == 1 => write!(out, "{whole}{unit}"),
        0..10 => write!(out, "{whole}.{:02}{unit}", rest / (scale / 100)),
        10..100 => write!(out, "{whole}.{}{unit}", rest / (scale / 10)),
        _ => write!(out, "{whole}{unit}"),
    }
}

#[cfg(test)]
mod tests;
