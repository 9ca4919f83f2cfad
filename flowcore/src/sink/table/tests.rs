use std::fs;

use super::super::{Existing, Format, open, sample};
use super::*;

fn table(fields: Option<&str>, flows: &[FlowRecord]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.txt");
    let columns = fields.map(|fields| Column::parse(fields).unwrap());
    let mut sink =
        open(path.to_str().unwrap(), Format::Table, columns.as_deref(), &Existing::Refuse.into()).unwrap();
    for flow in flows {
        sink.write(Record::Flow(flow)).unwrap();
    }
    sink.finish().unwrap();
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn numbers_for_people() {
    let bytes = |number| {
        let mut out = Vec::new();
        scaled(&mut out, number, ["B", "kB", "MB", "GB", "TB", "PB"]);
        String::from_utf8(out).unwrap()
    };
    for (number, text) in [
        (0, "0B"),
        (999, "999B"),
        (1_000, "1.00kB"),
        (1_259, "1.25kB"),
        (12_345, "12.3kB"),
        (999_999, "999kB"),
        (1_000_000, "1.00MB"),
        (1_500_000_000_000_000, "1.50PB"),
        (u64::MAX, "18446PB"),
    ] {
        assert_eq!(bytes(number), text);
    }
    for (nanos, text) in [
        (0, "0s"),
        (7, "7ns"),
        (850_999, "850us"),
        (1_000_000, "1.00ms"),
        (12_345_678, "12.3ms"),
        (999_999_999, "999ms"),
        (1_250_000_000, "1.25s"),
        (59_999_999_999, "59.9s"),
        (312_000_000_000, "5m12s"),
        (7_380_000_000_000, "2h03m"),
        (273_600_000_000_000, "3d04h"),
    ] {
        let mut out = Vec::new();
        duration(&mut out, nanos);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn chosen_fields_become_columns() {
    let lines = table(Some("src_ip,src_port,protocol,vlan,bytes"), &[sample::tcp(), sample::udp6()]);
    assert_eq!(
        lines,
        [
            "src_ip          src_port protocol vlan         bytes",
            "192.168.1.52       54585 TCP      [10,20]       1940",
            "2001:db8::1         5000 UDP                    1250",
        ]
    );
}

#[test]
fn wide_cells_move_the_next_until_a_gap_takes_them_in() {
    let mut flow = sample::udp6();
    sample::labels(&mut flow).interface = Some("a-long-interface".into());
    let lines = table(Some("interface,src_port,dst_port"), &[flow]);
    assert_eq!(lines[0], "interface src_port dst_port");
    assert_eq!(lines[1], "a-long-interface 5000  6000");
}

#[test]
fn nothing_from_outside_acts_on_the_terminal() {
    let lines = table(Some("dns_query,src_port"), &[sample::dns("\x1b]0;x\x07\u{202e}\n=1")]);
    assert_eq!(lines.len(), 2);
    assert!(lines[1].starts_with(r"\u001b]0;x\u0007\u202e\n=1"), "{}", lines[1]);
}

#[test]
fn stats_records_are_refused() {
    let mut sink = open("/dev/null", Format::Table, None, &Existing::Refuse.into()).unwrap();
    assert!(matches!(sink.write(Record::Stats(&Default::default())), Err(Error::Option(_))));
}

#[test]
fn every_column_for_people_has_its_field() {
    let titles: Vec<_> = for_people().iter().map(|column| column.title).collect();
    assert_eq!(
        titles,
        ["START (UTC)", "LASTED", "PROTO", "SOURCE", "DESTINATION", "APP", "PKTS", "BYTES", "STATE", "INFO"]
    );
    assert!(for_people().iter().all(|column| match &column.cell {
        Cell::Info(info) => info.history.is_some() && info.dns_query.is_some(),
        _ => true,
    }));
}

#[test]
fn for_people_by_default() {
    let flows = [sample::tcp(), sample::dns("www.example.org"), sample::icmp6(), sample::udp6()];
    let lines = table(None, &flows);
    let heads = [
        "START (UTC)         LASTED PROTO  SOURCE                DESTINATION           APP    PKTS  BYTES STATE ",
        "2023-11-14 22:13:20  1.25s TCP    192.168.1.52:54585    8.8.8.8:443           tls       4 1.94kB",
        "1970-01-01 00:00:01 12.3ms UDP    192.168.1.52:54585    8.8.8.8:53            dns       2   166B",
        "1970-01-01 00:00:01     0s ICMPv6 fe80::1               ff02::2                         1    86B",
        "1970-01-01 00:00:00     0s UDP    [2001:db8::1]:5000    [2001:db8::2]:6000              1 1.25kB",
    ];
    let tails = ["INFO", "vlan 10  vlan 20", "www.example.org", "type 128 code 0", ""];
    assert_eq!(lines.len(), heads.len());
    for (line, (head, tail)) in lines.iter().zip(heads.into_iter().zip(tails)) {
        assert!(line.starts_with(head) && line.ends_with(tail), "{line}");
    }
}
