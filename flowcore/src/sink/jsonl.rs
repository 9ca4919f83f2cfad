//! JSON lines: one object a line, in the order of the columns.

use serde::Serialize;

use super::output::Output;
use super::{Sink, digits, json};
use crate::error::Error;
use crate::record::{Column, FlowRecord, Record, StatsRecord};

/// Writes records as JSON lines; what is absent is left out.
pub(super) struct Jsonl {
    output: Output,
    columns: Vec<Named>,
}

/// A column, and how its name begins a member of an object.
struct Named {
    prefix: Prefix,
    column: Column,
}

/// `,"name":`, in a block of fixed size: copying a whole block and cutting it is faster than copying the text.
struct Prefix {
    block: [u8; PREFIX_BLOCK],
    length: usize,
    /// The whole text, where the block is too short for it.
    long: Option<Box<[u8]>>,
}

const PREFIX_BLOCK: usize = 24;

impl Prefix {
    fn new(name: &str) -> Self {
        let mut text = vec![b','];
        json::text(&mut text, name);
        text.push(b':');
        let mut block = [0; PREFIX_BLOCK];
        match block.get_mut(..text.len()) {
            Some(front) => {
                front.copy_from_slice(&text);
                Prefix { block, length: text.len(), long: None }
            }
            None => Prefix { block, length: 0, long: Some(text.into()) },
        }
    }

    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        if let Some(long) = &self.long {
            return out.extend_from_slice(long);
        }
        digits::front(out, &self.block, self.length);
    }
}

impl Jsonl {
    /// Makes a sink for flow records with these columns, and for all other records as they are.
    pub(super) fn new(output: Output, columns: &[Column]) -> Self {
        let named = |&column: &Column| Named { prefix: Prefix::new(column.field.name), column };
        Jsonl { output, columns: columns.iter().map(named).collect() }
    }
}

impl Sink for Jsonl {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        let out = self.output.room()?;
        match record {
            Record::Flow(flow) => flow_object(out, &self.columns, flow),
            Record::Stats(stats) => json::nested(out, &Typed { kind: "stats", stats }),
        }
        out.push(b'\n');
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.output.flush()
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.output.finish()
    }
}

fn flow_object(out: &mut Vec<u8>, columns: &[Named], flow: &FlowRecord) {
    let start = out.len();
    for named in columns {
        json::value(out, named.column.value(flow), |out| named.prefix.append(out));
    }
    match out.get_mut(start) {
        Some(first_comma) => *first_comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

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
