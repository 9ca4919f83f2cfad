use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::super::{Existing, Format, open, sample};
use super::*;
use crate::feature::Values;
use crate::field::{Field, Scalar};
use crate::packet::{Tunnel, TunnelKind};

/// Writes the records to a file with these fields and returns the lines.
fn lines(fields: &str, records: &[Record<'_>]) -> Vec<String> {
    with_columns(&Column::parse(fields).unwrap(), records)
}

fn with_columns(columns: &[Column], records: &[Record<'_>]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows");
    let mut sink =
        open(path.to_str().unwrap(), Format::Jsonl, Some(columns), &Existing::Refuse.into()).unwrap();
    for &record in records {
        sink.write(record).unwrap();
    }
    sink.finish().unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

fn line(fields: &str, flow: &FlowRecord) -> String {
    let mut lines = lines(fields, &[Record::Flow(flow)]);
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

const FIELDS: &str = "type,flow_id,community_id,timestamp,duration,src_ip,src_port,dst_ip,dst_port,protocol,\
                      icmp_type,vlan,app,bytes,end_reason,final";

#[test]
fn a_record_by_hand() {
    assert_eq!(
        line(FIELDS, &sample::tcp()),
        r#"{"type":"flow","flow_id":4503599627370497,"community_id":"1:Y0JXkDt3m72EBPG8/NmZ488dkDg=","#
            .to_owned()
            + r#""timestamp":"2023-11-14T22:13:20.123456789Z","duration":1.25,"#
            + r#""src_ip":"192.168.1.52","src_port":54585,"dst_ip":"8.8.8.8","dst_port":443,"protocol":"TCP","#
            + r#""vlan":[10,20],"app":"tls","bytes":1940,"end_reason":"eof"}"#
    );
}

#[test]
fn the_absent_is_left_out() {
    assert_eq!(
        line("src_ip,src_port,dst_ip,vlan,tunnel,icmp_type,app,dns,final", &sample::icmp6()),
        r#"{"src_ip":"fe80::1","dst_ip":"ff02::2","icmp_type":128}"#
    );
    assert_eq!(line("vlan", &sample::icmp6()), "{}");
}

#[test]
fn the_order_is_that_of_the_columns() {
    assert_eq!(line("dst_port,src_port", &sample::tcp()), r#"{"dst_port":443,"src_port":54585}"#);
}

#[test]
fn nested_lists() {
    let mut flow = sample::udp6();
    sample::labels(&mut flow).mpls = vec![16, 1_048_575];
    sample::labels(&mut flow).tunnels = vec![
        Tunnel {
            kind: TunnelKind::Vxlan,
            src_ip: Some([10, 0, 0, 1].into()),
            dst_ip: Some([10, 0, 0, 2].into()),
            id: Some(42),
        },
        Tunnel { kind: TunnelKind::Teredo, src_ip: None, dst_ip: None, id: None },
    ];
    assert_eq!(
        line("mpls,tunnel", &flow),
        r#"{"mpls":[16,1048575],"tunnel":[{"type":"vxlan","src_ip":"10.0.0.1","dst_ip":"10.0.0.2","id":42},"#
            .to_owned()
            + r#"{"type":"teredo"}]}"#
    );
}

#[test]
fn cut_flows_say_so() {
    let mut flow = sample::udp6();
    (flow.slice, flow.is_final) = (2, true);
    assert_eq!(line("slice,final", &flow), r#"{"slice":2,"final":true}"#);
    (flow.slice, flow.is_final) = (0, false);
    assert_eq!(line("slice,final", &flow), r#"{"slice":0,"final":false}"#);
}

/// A feature that was added from outside.
#[derive(Clone, Debug)]
struct Rates {
    hops: u64,
    rate: Option<f64>,
}

impl Values for Rates {
    const FIELDS: &'static [Field] = &[Field::core("hops"), Field::core("rate")];

    fn value(&self, index: usize) -> Scalar<'_> {
        if index == 0 { Scalar::U64(self.hops) } else { Scalar::float(self.rate) }
    }
}

#[test]
fn names_may_be_longer_than_a_block() {
    #[derive(Clone, Debug)]
    struct Long;

    impl Values for Long {
        const FIELDS: &'static [Field] = &[
            Field::core("nineteen_characters"),
            Field::core("twenty_characters_it"),
            Field::core("a_name_of_one_and_more_than_twenty"),
        ];

        fn value(&self, index: usize) -> Scalar<'_> {
            Scalar::U64(index as u64)
        }
    }

    let mut flow = sample::udp6();
    flow.extra = Some(Arc::new(Long));
    assert_eq!(
        with_columns(&Column::added::<Long>(), &[Record::Flow(&flow)]),
        [r#"{"nineteen_characters":0,"twenty_characters_it":1,"a_name_of_one_and_more_than_twenty":2}"#]
    );
}

#[test]
fn added_features_have_columns() {
    let mut columns = Column::parse("dst_port").unwrap();
    columns.extend(Column::added::<Rates>());
    let mut flow = sample::udp6();
    assert_eq!(with_columns(&columns, &[Record::Flow(&flow)]), [r#"{"dst_port":6000}"#]);
    flow.extra = Some(Arc::new(Rates { hops: 3, rate: Some(0.5) }));
    assert_eq!(with_columns(&columns, &[Record::Flow(&flow)]), [r#"{"dst_port":6000,"hops":3,"rate":0.5}"#]);
}

#[test]
fn stats_records_begin_with_their_type() {
    let stats = StatsRecord { packets: 7, uptime: 1.5, ..Default::default() };
    let lines = lines("src_ip", &[Record::Flow(&sample::tcp()), Record::Stats(&stats)]);
    assert_eq!(lines[0], r#"{"src_ip":"192.168.1.52"}"#);
    assert!(lines[1].starts_with(r#"{"type":"stats","timestamp":"1970-01-01T00:00:00.000000000Z","#));
    let mut read: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(read.as_object_mut().unwrap().remove("type"), Some("stats".into()));
    assert_eq!(read, serde_json::to_value(&stats).unwrap());
}

#[test]
fn core_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows");
    let mut sink = open(path.to_str().unwrap(), Format::Jsonl, None, &Existing::Refuse.into()).unwrap();
    sink.write(Record::Flow(&sample::tcp())).unwrap();
    sink.finish().unwrap();
    assert_eq!(fs::read_to_string(path).unwrap().trim_end(), line("@core", &sample::tcp()));
}

/// The same value, floats up to the six decimals that are written.
fn same(line: &Value, reference: &Value) -> bool {
    match (line, reference) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|b| same(value, b)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Number(a), Value::Number(b)) if b.is_f64() => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
            (a - b).abs() <= 5.1e-7 + b.abs() * 1e-15
        }
        (a, b) => a == b,
    }
}

fn flows() -> impl Strategy<Value = FlowRecord> {
    let base = prop_oneof![
        Just(sample::tcp()),
        Just(sample::icmp6()),
        Just(sample::udp6()),
        any::<String>().prop_map(|query| sample::dns(&query)),
    ];
    let labels = (any::<String>(), prop::collection::vec(1u16..4095, 0..3));
    (base, labels, any::<u32>(), any::<bool>(), 0..1u64 << 53, any::<f64>()).prop_map(
        |(mut flow, (interface, vlans), slice, is_final, flow_id, float)| {
            sample::labels(&mut flow).interface = Some(interface.into());
            sample::labels(&mut flow).vlans = vlans;
            (flow.slice, flow.is_final, flow.flow_id) = (slice, is_final, flow_id);
            // A float beyond 1e9 is no value that any feature makes.
            flow.extra = Some(Arc::new(Rates { hops: flow_id, rate: Some(float % 1e9) }));
            flow
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn lines_say_what_serde_says(flow in flows()) {
        let mut columns = Column::all();
        columns.extend(Column::added::<Rates>());
        let line = with_columns(&columns, &[Record::Flow(&flow)]).remove(0);
        let read: Value = serde_json::from_str(&line).unwrap();
        let mut reference = serde_json::to_value(&flow).unwrap();
        if reference["rate"].is_null() {
            reference.as_object_mut().unwrap().remove("rate");
        }
        prop_assert!(same(&read, &reference), "{read}\n{reference}");
    }
}

#[test]
fn every_place_writes_its_column() {
    let mut flows = [sample::tcp(), sample::dns("www.example.org"), sample::icmp6(), sample::udp6()];
    sample::labels(&mut flows[3]).interface = Some("eth0".into());
    (flows[2].slice, flows[2].is_final) = (2, true);
    for (place, column) in Column::all().iter().enumerate() {
        assert_eq!(column.place(), Some(place));
        let named = Named::new(column);
        assert!(place < BY_PLACE.len() && Prefix::new(&named.name).is_some(), "{}", column.field.name);
        for flow in &flows {
            let (mut line, mut any) = (Line::new(), Vec::new());
            (named.write)(&mut line, &named, flow);
            named.append(&mut any, flow);
            assert_eq!(line.whole(), Some(&any[..]));
        }
    }
}

#[test]
fn a_line_may_be_of_any_length() {
    for length in [16_300, 16_350, 16_384, 40_000] {
        let query = "q".repeat(length);
        let line = line("src_port,dns_query,dst_port", &sample::dns(&query));
        assert_eq!(line, format!(r#"{{"src_port":54585,"dns_query":"{query}","dst_port":53}}"#));
    }
}

#[test]
fn owners_as_objects() {
    let mut flow = sample::tcp();
    flow.owners = Some(Box::new(sample::owners("curl")));
    let line = &with_columns(
        &Column::parse("src_process,dst_process,src_unattributed,dst_unattributed").unwrap(),
        &[Record::Flow(&flow)],
    )[0];
    assert_eq!(
        line,
        concat!(
            r#"{"src_process":{"pid":10,"name":"curl","args":["curl","-a \"b\""],"user":"user","uid":1000,"#,
            r#""start_time":"1970-01-01T00:00:01.500000000Z","ppid":1,"parent_name":"init","#,
            r#""upid":"curl|10|1.50","match":"exact","evidence_age_ms":3,"shared":2},"#,
            r#""dst_unattributed":"eperm"}"#
        )
    );
    let whole: serde_json::Value = serde_json::to_value(&flow).unwrap();
    let written: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(written["src_process"], whole["src_process"]);
    // The lists hold them only where flows are attributed.
    let named = |columns: Vec<Column>| columns.iter().any(|column| column.field.name == "src_process");
    assert!(!named(Column::parse("@core,@stats,@all").unwrap()));
    assert!(named(Column::parse_with_owners("@core").unwrap()));
    assert!(!named(Column::parse_with_owners("@stats").unwrap()));
}
