use std::sync::Arc;

use super::super::sample_host::{process as a_process, snapshot, time, written};
use super::super::{Existing, Format, open_host};
use super::*;
use crate::record::ProcessChange;

#[test]
fn connections_by_hand() {
    let mut sockets = snapshot();
    let closed = SocketRecord { change: Change::Closed, ..sockets[3].clone() };
    sockets.push(closed);
    let records: Vec<_> = sockets.iter().map(Record::Socket).collect();
    assert_eq!(
        written("connections.log", HostRecords::Sockets, Format::Table, &records),
        "#Version: 1.0\n\
         #Date: 2026-03-02 21:12:04\n\
         #Fields: timestamp prot laddr lport raddr rport status upid\n\
         2026-03-02|21:12:04 TCP 192.168.1.10 54900 185.220.101.5 4444 ESTABLISHED python3.12|7821|1772480700.47\n\
         2026-03-02|21:12:04 TCP :: 443 - - LISTEN nginx|3102|1772480700.47\n\
         2026-03-02|21:12:04 TCP 0.0.0.0 31337 - - LISTEN python3.12|7821|1772480700.47\n\
         2026-03-02|21:12:04 TCP 2001:db8::1 443 2001:db8::2 50000 ESTABLISHED nginx|3102|1772480700.47\n\
         2026-03-02|21:12:04 UDP 127.0.0.53 53 - - UNCONN -\n\
         2026-03-02|21:12:04 RAW 0.0.0.0 - - - UNCONN -\n\
         2026-03-02|21:12:04 TCP 2001:db8::1 443 2001:db8::2 50000 CLOSED nginx|3102|1772480700.47\n"
    );
}

#[test]
fn processes_by_hand() {
    let process =
        a_process(39_817, "/usr/bin/Web Content", &["python3", "it's", "say \"it's\"", "a\nb\x1b\u{202e}\\"]);
    let record = ProcessRecord { timestamp: time(), change: ProcessChange::Present, process };
    assert_eq!(
        written("processes.log", HostRecords::Sockets, Format::Table, &[Record::Process(&record)]),
        "#Version: 1.0\n\
         #Date: 2026-03-02 21:12:04\n\
         #Fields: timestamp upid [command_line with parameters]\n\
         2026-03-02|21:12:04 Web\\040Content|39817|1772480700.47 \
         ['python3', \"it's\", 'say \"it\\'s\"', 'a\\nb\\x1b\\u202e\\\\']\n"
    );
}

#[test]
fn words_stay_words() {
    let word_of = |text: &str| {
        let mut out = Vec::new();
        word(&mut out, text);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(word_of("a b\\c\n\u{a0}gr\u{fc}n"), "a\\040b\\134c\\012\\302\\240gr\u{fc}n");
}

#[test]
fn a_log_goes_on_under_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.log");
    let path = path.to_str().unwrap();
    for _ in 0..2 {
        let mut sink =
            open_host(HostRecords::Sockets, path, Format::Jsonl, &Existing::Append.into()).unwrap();
        let record = &snapshot()[1];
        assert!(sink.takes(Record::Socket(record)));
        sink.write(Record::Socket(record)).unwrap();
        sink.finish().unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 5);
    std::fs::write(path, "type,timestamp\n").unwrap();
    let other = open_host(HostRecords::Sockets, path, Format::Jsonl, &Existing::Append.into());
    assert!(matches!(other, Err(Error::Output { .. })));
    let record = ProcessRecord {
        timestamp: time(),
        change: ProcessChange::Present,
        process: Arc::clone(&a_process(1, "/sbin/init", &[])),
    };
    let mut sink =
        open_host(HostRecords::Sockets, "/dev/null", Format::Log, &Existing::Append.into()).unwrap();
    assert!(matches!(sink.write(Record::Process(&record)), Err(Error::Option(_))));
}
