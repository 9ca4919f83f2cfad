//! Sinks for what the machine says: sockets, processes, connection events, alerts.

use super::output::Output;
use super::place::Known;
use super::{FileOptions, Format, Sink, jsonl, log, people, rows, split_compression};
use crate::error::Error;
use crate::record::Column;

/// What a destination is opened for, where its format holds one type of record only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostRecords {
    /// Sockets; a table also shows processes and alerts.
    Sockets,
    /// Processes that own sockets.
    Processes,
    /// Connection events; a table also shows alerts.
    Events,
}

impl HostRecords {
    /// Returns what a file name says: processes where it has `process` in it, else sockets.
    pub fn named(destination: &str) -> Self {
        let name = destination.rsplit('/').next().unwrap_or(destination);
        if name.contains("process") { HostRecords::Processes } else { HostRecords::Sockets }
    }

    /// Returns the format of a destination: `.log` is known besides the extensions of [`Format::of`].
    pub fn format(self, destination: &str, given: Format) -> Format {
        let (name, _) = split_compression(destination);
        if name.ends_with(".log") { Format::Log } else { Format::of(destination, given) }
    }
}

/// Opens a sink for sockets, processes, connection events and alerts, as [`open`](super::open) does for flows.
///
/// JSON lines take every type of record. CSV takes the one type that is named. A table is for people: it shows a
/// snapshot when the next one begins or when it is flushed. A log takes processes where its file name has `process`
/// in it, else sockets, whatever is named. [`Sink::takes`] tells what a sink takes.
///
/// # Errors
/// As [`open`](super::open), and [`Error::Option`] for a log of events.
pub fn open_host(
    records: HostRecords,
    destination: &str,
    format: Format,
    options: &FileOptions,
) -> Result<Box<dyn Sink>, Error> {
    if destination.split_once("://").is_some() {
        return Err(Error::Option(format!("{destination}: records can go to files and to '-' only")));
    }
    let format = records.format(destination, format);
    if format == Format::Log && records == HostRecords::Events {
        return Err(Error::Option(format!("{destination}: a log holds sockets and processes, no events")));
    }
    let output = || Output::open(destination, options, Known::Lines);
    Ok(match format {
        Format::Jsonl => Box::new(jsonl::Jsonl::new(output()?, &Column::parse("@core")?)),
        Format::Csv => Box::new(rows::Rows::open(destination, records, options)?),
        Format::Table => Box::new(people::People::new(output()?, records)),
        Format::Log => Box::new(log::Log::open(destination, HostRecords::named(destination), options)?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample_host::{event, process, snapshot, time, written};
    use super::*;
    use crate::record::{AlertRecord, ProcessChange, ProcessRecord, Record, Rule};

    fn json(record: Record<'_>) -> String {
        written("r.jsonl", HostRecords::Sockets, Format::Table, &[record])
    }

    #[test]
    fn a_socket_as_json() {
        let sockets = snapshot();
        assert_eq!(
            json(Record::Socket(&sockets[0])),
            "{\"type\":\"socket\",\"timestamp\":\"2026-03-02T21:12:04.250000000Z\",\"change\":\"present\",\
             \"protocol\":\"TCP\",\"local_ip\":\"192.168.1.10\",\"local_port\":54900,\
             \"remote_ip\":\"185.220.101.5\",\"remote_port\":4444,\"state\":\"ESTABLISHED\",\
             \"uid\":0,\"user\":\"root\",\"inode\":31000,\"cookie\":4097,\"netns\":4026531840,\
             \"process\":{\"pid\":7821,\"name\":\"python3.12\",\"exe\":\"/usr/bin/python3.12\",\
             \"args\":[\"python3\",\"-c\",\"import os, \\\"x\\\"\\n\"],\"user\":\"seb\",\"uid\":1000,\
             \"start_time\":\"2026-03-02T19:45:00.470000000Z\",\"ppid\":1,\"parent_name\":\"systemd\",\
             \"upid\":\"python3.12|7821|1772480700.47\",\"match\":\"exact\"}}\n"
        );
        assert!(json(Record::Socket(&sockets[1])).ends_with("\"match\":\"exact\",\"shared\":5}}\n"));
        assert_eq!(
            json(Record::Socket(&sockets[5])),
            "{\"type\":\"socket\",\"timestamp\":\"2026-03-02T21:12:04.250000000Z\",\"change\":\"present\",\
             \"protocol\":\"RAW\",\"protocol_number\":1,\"local_ip\":\"0.0.0.0\",\"state\":\"UNCONN\",\
             \"uid\":0,\"inode\":31000,\"cookie\":4097,\"netns\":4026531840}\n"
        );
    }

    #[test]
    fn an_event_as_json() {
        assert_eq!(
            json(Record::Event(&event())),
            "{\"type\":\"NetworkEvent\",\"timestamp\":\"2026-03-02T21:12:04.250000000Z\",\
             \"network_event\":{\"type\":\"TcpConnectionEstablish\",\"cookie\":36894,\
             \"saddr\":\"2a00:1370:81a6:3f56:3fd6:26ed:b655:ec7a\",\"daddr\":\"2a00:1450:4010:c01::64\",\
             \"sport\":33978,\"dport\":80},\
             \"process\":{\"pid\":2274372,\"tid\":2274372,\"ppid\":2273865,\"uid\":0,\"euid\":0,\"gid\":0,\
             \"egid\":0,\"auid\":1000,\"cap_inheritable\":\"\",\"cap_permitted\":\"ALL_CAPS\",\
             \"cap_effective\":\"ALL_CAPS\",\"secureexec\":\"\",\"filename\":\"wget\",\
             \"binary_path\":\"/usr/bin/wget\",\"args\":\"-qO- -6 google.com\",\
             \"start_time\":\"2026-03-02T19:45:00.470000000Z\"},\"source\":\"packet\"}\n"
        );
    }

    #[test]
    fn a_process_and_an_alert_as_json() {
        let change = ProcessChange::Gone;
        let record = ProcessRecord { timestamp: time(), change, process: process(7, "/usr/bin/nc", &["nc"]) };
        assert_eq!(
            json(Record::Process(&record)),
            "{\"type\":\"process\",\"timestamp\":\"2026-03-02T21:12:04.250000000Z\",\
             \"upid\":\"nc|7|1772480700.47\",\"change\":\"gone\",\"name\":\"nc\",\"pid\":7,\"ppid\":1,\
             \"exe\":\"/usr/bin/nc\",\"args\":[\"nc\"],\"user\":\"seb\",\"uid\":1000,\
             \"start_time\":\"2026-03-02T19:45:00.470000000Z\"}\n"
        );
        let socket = snapshot().remove(5);
        let nested = json(Record::Socket(&socket));
        let alert = AlertRecord {
            timestamp: time(),
            rule: Rule::GoneListener,
            compared_with: "before.csv".to_owned(),
            message: "Gone.".to_owned(),
            socket,
        };
        assert_eq!(
            json(Record::Alert(&alert)),
            format!(
                "{{\"type\":\"alert\",\"timestamp\":\"2026-03-02T21:12:04.250000000Z\",\
                 \"rule\":\"gone_listener\",\"compared_with\":\"before.csv\",\"message\":\"Gone.\",\
                 \"socket\":{}}}\n",
                nested.trim_end()
            )
        );
    }

    #[test]
    fn names_say_format_and_records() {
        let sockets = HostRecords::Sockets;
        assert_eq!(sockets.format("connections.log", Format::Table), Format::Log);
        assert_eq!(sockets.format("connections.log.gz", Format::Table), Format::Log);
        assert_eq!(sockets.format("connections.csv", Format::Table), Format::Csv);
        assert_eq!(sockets.format("-", Format::Table), Format::Table);
        assert_eq!(HostRecords::named("/var/log/process/connections.log"), HostRecords::Sockets);
        assert_eq!(HostRecords::named("/var/log/processes.log"), HostRecords::Processes);
        let events = open_host(HostRecords::Events, "events.log", Format::Jsonl, &FileOptions::default());
        assert!(matches!(events, Err(Error::Option(_))));
        assert!(!std::path::Path::new("events.log").exists());
    }
}
