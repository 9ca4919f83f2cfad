//! CSV of one type of record: what JSON nests stands side by side, `process_pid` and so on.

use super::host::HostRecords;
use super::output::Output;
use super::{FileOptions, Sink, by_output, csv, json, spell};
use crate::error::Error;
use crate::field::Scalar;
use crate::record::{
    Described, Members, NetworkEvent, ProcessObject, ProcessRecord, Record, Row, SocketRecord,
};

/// Writes the records of one type as CSV.
pub(super) struct Rows {
    output: Output,
    records: HostRecords,
    cell: Vec<u8>,
    owners: Vec<Option<Owner>>,
}

/// The cells of a process, as they were written last: it owns many sockets, and its command line may be long.
struct Owner {
    object: ProcessObject,
    /// The column after which they began.
    after: usize,
    cells: Vec<u8>,
    /// The column after which they ended.
    end: usize,
}

impl Rows {
    /// Opens a sink for one type of record, whose files have a header.
    ///
    /// # Errors
    /// Those of [`csv::open`].
    pub(super) fn open(to: &str, records: HostRecords, options: &FileOptions) -> Result<Self, Error> {
        let output = csv::open(to, columns(records), options)?;
        Ok(Rows { output, records, cell: Vec::new(), owners: Vec::new() })
    }
}

impl Sink for Rows {
    fn takes(&self, record: Record<'_>) -> bool {
        described(self.records, record).is_some()
    }

    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        let owner = match record {
            Record::Socket(socket) => socket.process.as_ref(),
            _ => None,
        };
        let Some(record) = described(self.records, record) else {
            return Err(Error::Option("a CSV file has one type of record; JSON lines have all".to_owned()));
        };
        let columns = columns(self.records);
        let mut cells = Cells {
            out: self.output.room()?,
            cell: &mut self.cell,
            columns,
            at: 0,
            object: None,
            owner,
            owners: &mut self.owners,
        };
        record.describe(&mut cells);
        cells.end();
        Ok(())
    }

    by_output!(all of output);
}

fn columns(records: HostRecords) -> &'static [&'static str] {
    match records {
        HostRecords::Sockets => SocketRecord::COLUMNS,
        HostRecords::Processes => ProcessRecord::COLUMNS,
        HostRecords::Events => NetworkEvent::COLUMNS,
    }
}

fn described(records: HostRecords, record: Record<'_>) -> Option<&dyn Described> {
    match (records, record) {
        (HostRecords::Sockets, Record::Socket(socket)) => Some(socket),
        (HostRecords::Processes, Record::Process(process)) => Some(process),
        (HostRecords::Events, Record::Event(event)) => Some(event),
        _ => None,
    }
}

/// A line that grows, cell by cell.
struct Cells<'a> {
    out: &'a mut Vec<u8>,
    cell: &'a mut Vec<u8>,
    columns: &'static [&'static str],
    /// The column whose cell comes next.
    at: usize,
    /// The object whose members come.
    object: Option<&'static str>,
    /// The process of a socket.
    owner: Option<&'a ProcessObject>,
    /// The cells of processes, by the last digits of their number.
    owners: &'a mut Vec<Option<Owner>>,
}

impl Cells<'_> {
    /// Puts the cell of a column in its place; the columns before it have empty cells.
    fn put(&mut self, name: &str, append: impl FnOnce(&mut Vec<u8>)) {
        let ahead = self.columns.get(self.at..).unwrap_or_default();
        let place = ahead.iter().position(|column| match self.object {
            None => *column == name,
            Some(object) => column.strip_prefix(object).and_then(|rest| rest.strip_prefix('_')) == Some(name),
        });
        debug_assert!(place.is_some(), "{name} has no column, or comes too late");
        let Some(place) = place else { return };
        self.commas(place);
        self.cell.clear();
        append(self.cell);
        csv::quote(self.out, self.cell);
        self.at += 1;
    }

    /// Goes `count` columns on, with empty cells, to the beginning of a cell.
    fn commas(&mut self, count: usize) {
        let leading = if self.at == 0 { 0 } else { 1 };
        self.out.resize(self.out.len() + count + leading, b',');
        self.at += count;
    }

    fn end(mut self) {
        match self.columns.len().saturating_sub(self.at) {
            0 => {}
            rest => self.commas(rest - 1),
        }
        self.out.push(b'\n');
    }
}

impl Members for Cells<'_> {
    fn scalar(&mut self, name: &'static str, value: Scalar<'_>) {
        match value {
            Scalar::Absent => {}
            Scalar::Text(outside) => self.put(name, |cell| csv::text(cell, outside)),
            plain => self.put(name, |cell| spell::scalar(cell, &plain)),
        }
    }

    fn texts(&mut self, name: &'static str, list: &[String]) {
        if !list.is_empty() {
            self.put(name, |cell| spell::list(cell, list, |cell, text| json::text(cell, text)));
        }
    }

    fn object(&mut self, name: &'static str, object: &dyn Described) {
        let owner = self.owner.take();
        let place = owner.and_then(ProcessObject::process).map_or(0, |process| process.pid as usize % OWNERS);
        if let Some(Some(known)) = self.owners.get(place)
            && owner == Some(&known.object)
            && known.after == self.at
        {
            self.out.extend_from_slice(&known.cells);
            self.at = known.end;
            return;
        }
        let (start, after) = (self.out.len(), self.at);
        self.object = Some(name);
        object.describe(self);
        self.object = None;
        if let (Some(object), Some(cells)) = (owner.cloned(), self.out.get(start..)) {
            self.owners.resize_with(OWNERS, || None);
            let owner = Owner { object, after, cells: cells.to_vec(), end: self.at };
            self.owners.get_mut(place).map(|place| place.replace(owner));
        }
    }
}

/// How many processes' cells are remembered.
const OWNERS: usize = 64;

#[cfg(test)]
mod tests;
