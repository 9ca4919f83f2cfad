//! JSON lines: one object a line, in the order of the columns.

use serde::Serialize;

use super::json::Prefix;
use super::line::{Append, Line};
use super::output::Output;
use super::{Sink, by_output, json};
use crate::error::Error;
use crate::record::{Column, FlowRecord, Record, StatsRecord};

/// Writes records as JSON lines; what is absent is left out.
pub(super) struct Jsonl {
    output: Output,
    columns: Vec<Named>,
    line: Line,
}

/// A column, how its name begins a member of an object, and who writes it.
struct Named {
    /// `,"name":`
    name: Vec<u8>,
    /// The same, ready to be copied; nothing where the name is too long for that.
    prefix: Prefix,
    column: Column,
    write: Write,
}

/// Writes the member of a column, if the record has its value.
type Write = fn(&mut Line, &Named, &FlowRecord);

impl Named {
    fn new(column: &Column) -> Self {
        let mut name = vec![b','];
        json::text(&mut name, column.field.name);
        name.push(b':');
        let by_place = column.place().and_then(|place| BY_PLACE.get(place).copied());
        let (prefix, write) = match (Prefix::new(&name), by_place) {
            (Some(prefix), Some(write)) => (prefix, write),
            _ => (Prefix::NONE, write_any as Write),
        };
        Named { name, prefix, column: *column, write }
    }

    /// Appends the member of any column.
    fn append(&self, out: &mut impl Append, flow: &FlowRecord) {
        let value = self.column.value(flow);
        if !value.is_absent() {
            out.bytes(&self.name);
            json::value(out, &Prefix::NONE, value);
        }
    }
}

impl Jsonl {
    /// Makes a sink for flow records with these columns, and for all other records as they are.
    pub(super) fn new(mut output: Output, columns: &[Column]) -> Self {
        output.tell_gaps();
        Jsonl { output, columns: columns.iter().map(Named::new).collect(), line: Line::new() }
    }
}

impl Sink for Jsonl {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        let out = self.output.room()?;
        match record {
            Record::Flow(flow) => {
                self.line.clear();
                for named in &self.columns {
                    (named.write)(&mut self.line, named, flow);
                }
                object(out, |out| match self.line.whole() {
                    Some(line) => out.extend_from_slice(line),
                    None => self.columns.iter().for_each(|named| named.append(out, flow)),
                });
            }
            Record::Stats(stats) => json::nested(out, &Typed { kind: "stats", stats }),
            Record::Socket(socket) => json::nested(out, socket),
            Record::Process(process) => json::nested(out, process),
            Record::Alert(alert) => json::nested(out, alert),
            Record::Event(event) => json::nested(out, event),
            Record::NetworkStats(stats) => json::nested(out, stats),
            Record::Route(route) => json::nested(out, route),
        }
        out.push(b'\n');
        Ok(())
    }

    by_output!(all of output);
}

/// Appends an object; each of its members begins with a comma.
#[inline]
fn object(out: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    append(out);
    match out.get_mut(start) {
        Some(first_comma) => *first_comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

fn write_any(line: &mut Line, named: &Named, flow: &FlowRecord) {
    named.append(line, flow);
}

/// Writes the column at a place. Where its value is and what it is are known when this is compiled, so that some
/// instructions are left, while to find them out for each value takes longer than to write most of them.
fn write<const PLACE: usize>(line: &mut Line, named: &Named, flow: &FlowRecord) {
    json::value(line, &named.prefix, Column::value_at::<PLACE>(flow));
}

macro_rules! by_place {
    ($($tens:literal)+) => {
        &[$(
            write::<{ $tens }>,
            write::<{ $tens + 1 }>,
            write::<{ $tens + 2 }>,
            write::<{ $tens + 3 }>,
            write::<{ $tens + 4 }>,
            write::<{ $tens + 5 }>,
            write::<{ $tens + 6 }>,
            write::<{ $tens + 7 }>,
            write::<{ $tens + 8 }>,
            write::<{ $tens + 9 }>,
        )+]
    };
}

/// By the place among all columns; those beyond, if any, are written more slowly.
const BY_PLACE: &[Write] = by_place!(0 10 20 30 40 50 60 70 80 90 100);

/// A record with its type in front.
#[derive(Serialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    stats: &'a StatsRecord,
}

#[cfg(test)]
mod tests;
