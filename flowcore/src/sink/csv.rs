//! Comma-separated values: one header, the same columns in every line (RFC 4180).
//!
//! Lines end in `\n`. Control characters are escaped as in tables, so that every line of the file is a record.

use super::output::Output;
use super::place::Known;
use super::{FileOptions, Sink, by_output, json, spell};
use crate::error::Error;
use crate::field::Scalar;
use crate::record::{Column, ProcessObject, Record, Value};

/// Writes flow records as CSV: what is absent is an empty cell, lists are JSON texts, and each member of an object
/// has a column.
pub(super) struct Csv {
    output: Output,
    columns: Vec<Column>,
    cell: Vec<u8>,
}

impl Csv {
    /// Opens a sink with these columns, whose files have a header.
    ///
    /// # Errors
    /// Those of [`Output::open`]; [`Error::Output`] also if the file has another header.
    pub(super) fn open(to: &str, columns: &[Column], options: &FileOptions) -> Result<Self, Error> {
        let titles: Vec<String> = columns.iter().flat_map(titles).collect();
        let names: Vec<&str> = titles.iter().map(String::as_str).collect();
        Ok(Csv { output: open(to, &names, options)?, columns: columns.to_vec(), cell: Vec::new() })
    }
}

impl Sink for Csv {
    fn takes(&self, record: Record<'_>) -> bool {
        matches!(record, Record::Flow(_))
    }

    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        let Record::Flow(flow) = record else {
            return Err(Error::Option(
                "this CSV has flow records only; stats records go to JSON lines".to_owned(),
            ));
        };
        let out = self.output.room()?;
        let start = out.len();
        for (nth, column) in self.columns.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            match column.value(flow) {
                Value::Process(owner) => {
                    for nth in 0..ProcessObject::MEMBERS.len() {
                        if nth > 0 {
                            out.push(b',');
                        }
                        append(out, &mut self.cell, owner.value(nth));
                    }
                }
                _ if column.is_process() => {
                    out.extend(std::iter::repeat_n(b',', ProcessObject::MEMBERS.len() - 1));
                }
                value => append(out, &mut self.cell, value),
            }
        }
        if out.len() == start {
            // An empty line would be no record.
            out.extend_from_slice(b"\"\"");
        }
        out.push(b'\n');
        Ok(())
    }

    by_output!(all of output);
}

/// Opens an output with a header, which every file gets that has not one already.
///
/// # Errors
/// Those of [`Output::open`]; [`Error::Output`] also if the file has another header.
pub(super) fn open(to: &str, names: &[&str], options: &FileOptions) -> Result<Output, Error> {
    let header = names.join(",");
    let known = Known::Head(header.clone(), "has other columns, so nothing is added to it");
    let mut output = Output::open(to, options, known)?;
    output.set_header(header + "\n");
    Ok(output)
}

/// Returns the titles of a column: one, or one for each member of an object.
fn titles(column: &Column) -> Vec<String> {
    let name = column.field.name;
    if column.is_process() {
        return ProcessObject::MEMBERS.iter().map(|member| format!("{name}_{member}")).collect();
    }
    vec![name.to_owned()]
}

/// Appends the cell of a value.
fn append(out: &mut Vec<u8>, cell: &mut Vec<u8>, value: Value<'_>) {
    match value {
        absent if absent.is_absent() => {}
        Value::Scalar(Scalar::Text(outside)) => {
            cell.clear();
            text(cell, outside);
            quote(out, cell);
        }
        Value::Scalar(plain @ Scalar::Packets(_)) => {
            cell.clear();
            spell::scalar(cell, &plain);
            quote(out, cell);
        }
        Value::Scalar(plain) => spell::scalar(out, &plain),
        list => {
            cell.clear();
            json::value(cell, &json::Prefix::NONE, list);
            quote(out, cell);
        }
    }
}

/// Appends a text from outside; one that a spreadsheet would run as a formula gets an apostrophe in front, and so does one
/// that begins as if it had got it: the first is no part of the text then.
pub(super) fn text(cell: &mut Vec<u8>, outside: &str) {
    if outside.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r']) {
        cell.push(b'\'');
    }
    json::printable(cell, outside);
}

/// Appends a cell, in quotes if it needs them.
pub(super) fn quote(out: &mut Vec<u8>, cell: &[u8]) {
    if !cell.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        return out.extend_from_slice(cell);
    }
    out.push(b'"');
    for &byte in cell {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::{Existing, Format, open, sample};
    use super::*;
    use crate::field::is_unsafe;

    /// Writes the records to a file and reads it back with another implementation.
    fn through(fields: &str, records: &[crate::record::FlowRecord]) -> (String, Vec<Vec<String>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        let columns = Column::parse(fields).unwrap();
        let mut sink =
            open(path.to_str().unwrap(), Format::Jsonl, Some(&columns), &Existing::Refuse.into()).unwrap();
        for record in records {
            sink.write(Record::Flow(record)).unwrap();
        }
        sink.finish().unwrap();
        let text = fs::read_to_string(path).unwrap();
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
        (text, rows)
    }

    #[test]
    fn a_record_by_hand() {
        let fields =
            "timestamp,duration,src_ip,src_port,dst_ip,dst_port,protocol,icmp_type,vlan,bytes,interface";
        let mut flow = sample::tcp();
        sample::labels(&mut flow).interface = Some("eth0".into());
        let (text, _) = through(fields, &[flow, sample::icmp6()]);
        assert_eq!(
            text,
            "timestamp,duration,src_ip,src_port,dst_ip,dst_port,protocol,icmp_type,vlan,bytes,interface\n\
             2023-11-14T22:13:20.123456789Z,1.25,192.168.1.52,54585,8.8.8.8,443,TCP,,\"[10,20]\",1940,eth0\n\
             1970-01-01T00:00:01.000000000Z,0.0,fe80::1,,ff02::2,,ICMPv6,128,,86,\n"
        );
    }

    #[test]
    fn no_column_is_left_out() {
        let (_, rows) = through("@all", &[sample::icmp6()]);
        let columns = Column::parse("@all").unwrap();
        let names: Vec<_> = columns.iter().map(|column| column.field.name.to_owned()).collect();
        assert_eq!(rows[0], names);
        assert_eq!(rows[1].len(), names.len());
    }

    #[test]
    fn a_record_without_values_is_still_a_record() {
        assert_eq!(through("src_port", &[sample::icmp6(), sample::tcp()]).0, "src_port\n\"\"\n54585\n");
        assert_eq!(through("src_port,dst_port", &[sample::icmp6()]).0, "src_port,dst_port\n,\n");
    }

    #[test]
    fn lists_are_json_texts() {
        let flow = sample::dns("www.example.org");
        let (_, rows) = through("dns,dns_query", std::slice::from_ref(&flow));
        let list: serde_json::Value = serde_json::from_str(&rows[1][0]).unwrap();
        assert_eq!(list[0]["query"], "www.example.org");
        assert_eq!(rows[1][1], "www.example.org");
    }

    #[test]
    fn formulas_are_neutralised_and_controls_escaped() {
        for (outside, cell) in [
            ("=1+1", "'=1+1"),
            ("+a", "'+a"),
            ("-a", "'-a"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\\tx"),
            ("\rx", "'\\rx"),
            ("a=b", "a=b"),
            ("a,b \"c\"", "a,b \"c\""),
            ("two\nlines", "two\\nlines"),
            ("'quoted", "'quoted"),
            ("'=1+1", "''=1+1"),
        ] {
            let (text, rows) = through("dns_query", &[sample::dns(outside)]);
            assert_eq!(rows[1], [cell]);
            assert_eq!(text.lines().count(), 2);
        }
        assert!(through("dns_query", &[sample::dns("a,\"b")]).0.ends_with("\n\"a,\"\"b\"\n"));
    }

    #[test]
    fn each_member_of_a_process_has_a_column() {
        let mut flow = sample::tcp();
        flow.owners = Some(Box::new(sample::owners("=cmd|'x'!A1")));
        let (text, rows) = through("src_process,dst_process,src_unattributed,dst_unattributed", &[flow]);
        let column = |name: &str| rows[0].iter().position(|title| title == name).unwrap();
        assert_eq!(rows[0].len(), 2 * crate::record::ProcessObject::MEMBERS.len() + 2);
        assert_eq!(rows[1].len(), rows[0].len());
        assert_eq!(rows[1][column("src_process_name")], "'=cmd|'x'!A1");
        assert_eq!(rows[1][column("src_process_args")], r#"["=cmd|'x'!A1","-a \"b\""]"#);
        assert_eq!(rows[1][column("src_process_upid")], "'=cmd|'x'!A1|10|1.50");
        assert_eq!(rows[1][column("src_process_start_time")], "1970-01-01T00:00:01.500000000Z");
        assert_eq!(rows[1][column("src_process_match")], "exact");
        assert_eq!(rows[1][column("dst_process_pid")], "");
        assert_eq!(rows[1][column("dst_unattributed")], "eperm");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_file_with_other_columns_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        let path = path.to_str().unwrap();
        let write = |fields: &str| {
            let columns = Column::parse(fields).unwrap();
            let mut sink = open(path, Format::Csv, Some(&columns), &Existing::Append.into())?;
            sink.write(Record::Flow(&sample::tcp()))?;
            sink.finish()
        };
        write("src_port,dst_port").unwrap();
        write("src_port,dst_port").unwrap();
        assert!(matches!(write("dst_port"), Err(Error::Output { .. })));
        assert_eq!(fs::read_to_string(path).unwrap(), "src_port,dst_port\n54585,443\n54585,443\n");
    }

    #[test]
    fn stats_records_are_refused() {
        let mut sink = open("/dev/null", Format::Csv, None, &Existing::Refuse.into()).unwrap();
        assert!(matches!(sink.write(Record::Stats(&Default::default())), Err(Error::Option(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn cells_come_back(outside in "[^\\p{C}]{1,20}") {
            let outside = outside.replace(is_unsafe, "x");
            let (_, rows) = through("dns_query,src_port", &[sample::dns(&outside)]);
            let cell = &rows[1][0];
            let risky = outside.starts_with(['=', '+', '-', '@']);
            prop_assert_eq!(if risky { &cell[1..] } else { cell }, &outside);
            prop_assert!(!cell.starts_with(['=', '+', '-', '@']));
        }
    }
}
