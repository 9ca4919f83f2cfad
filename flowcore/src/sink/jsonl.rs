//! JSON lines: one object a line, in the order of the columns.

use serde::Serialize;

use super::output::Output;
use super::{Sink, json};
use crate::error::Error;
use crate::record::{Column, FlowRecord, Record, StatsRecord};

/// Writes records as JSON lines; what is absent is left out.
pub(super) struct Jsonl {
    output: Output,
    columns: Vec<Named>,
}

/// A column, and how its name begins a member of an object: `"name":`.
struct Named {
    prefix: Box<[u8]>,
    column: Column,
}

impl Jsonl {
    /// Makes a sink for flow records with these columns, and for all other records as they are.
    pub(super) fn new(output: Output, columns: &[Column]) -> Self {
        let named = |&column: &Column| Named { prefix: prefix(column.field.name).into(), column };
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
    out.push(b'{');
    for named in columns {
        let value = named.column.value(flow);
        if !value.is_absent() {
            out.extend_from_slice(&named.prefix);
            json::value(out, &value);
            out.push(b',');
        }
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b'}');
}

fn prefix(name: &str) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(name.len() + 3);
    json::text(&mut prefix, name);
    prefix.push(b':');
    prefix
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
