//! `--metrics`: what a running meter counts, for Prometheus.

mod http;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use flowcore::Error;
use flowcore::field::Printable;
use flowcore::meter::{Aides, Watched};
use flowcore::record::{ServerStats, SinkStats, StatsRecord};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::health::STALLED;
use http::{Answer, PLAIN, Request, Server};

/// A server for `/metrics` and `/health`; it ends when it is dropped.
pub(crate) struct Metrics(#[expect(dead_code, reason = "it answers as long as it lives")] Server);

/// Listens on an address such as `127.0.0.1:9464`, without blocking.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listening = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listening.map_err(|source| Error::Output { name: format!("--metrics {address}"), source })
}

impl Metrics {
    /// Answers who connects with what `watched` shows.
    pub(crate) fn serve(listener: TcpListener, watched: Watched, aides: Aides) -> io::Result<Self> {
        Server::start(listener, move |request| answer(request, &watched, &aides)).map(Metrics)
    }
}

fn answer(request: &Request, watched: &Watched, aides: &Aides) -> Answer {
    let latest = watched.latest();
    let (status, kind, body) = match request.path.as_str() {
        "/metrics" => match text(latest.map(|(_, stats)| stats).unwrap_or_default()) {
            // Prometheus asks for OpenMetrics by name; promtool, browsers and older collectors do not.
            Ok(text) if request.accept.contains("application/openmetrics-text") => (FINE, OPENMETRICS, text),
            Ok(text) => (FINE, PROMETHEUS, older(&text)),
            Err(error) => ("500 Internal Server Error", PLAIN, format!("{error}\n")),
        },
        "/health" => {
            let (status, text) = health(&latest, aides);
            (status, PLAIN, text)
        }
        _ => ("404 Not Found", PLAIN, "there are /metrics and /health\n".to_owned()),
    };
    Answer { status, kind, body }
}

/// Tells how the meter is, by its latest counters and by who and what is missing beside it.
fn health(latest: &Option<(Instant, StatsRecord)>, aides: &Aides) -> (&'static str, String) {
    let Some((at, stats)) = latest else { return (UNWELL, "starting\n".to_owned()) };
    if at.elapsed() >= STALLED {
        return (UNWELL, "stalled\n".to_owned());
    }
    match [aides.missing(), stats.interfaces_missing.clone()].concat().as_slice() {
        [] => (FINE, "well\n".to_owned()),
        missing => (UNWELL, format!("missing: {}\n", Printable(&missing.join(", ")))),
    }
}

/// Returns the counters in the OpenMetrics text format.
fn text(stats: StatsRecord) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("flowcap");
    registry.register_collector(Box::new(Scrape(stats)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Writes OpenMetrics as the text format that Prometheus had before: there a counter's help and type stand under the
/// name of its samples.
fn older(openmetrics: &str) -> String {
    let of_type = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    let counters: BTreeSet<String> = openmetrics.lines().filter_map(of_type).collect();
    let mut text = String::new();
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                text += &format!("# {what} {name}_total {rest}\n");
            }
            _ => text += &format!("{line}\n"),
        }
    }
    text
}

#[derive(Debug)]
struct Scrape(StatsRecord);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &self.0;
        for (name, help, value) in COUNTERS {
            one(&mut encoder, name, help, &ConstCounter::new(value(stats)))?;
        }
        for (name, help, value) in GAUGES {
            one(&mut encoder, name, help, &ConstGauge::new(value(stats)))?;
        }
        one(&mut encoder, "uptime_seconds", "Time since the start", &ConstGauge::new(stats.uptime))?;
        for (name, help, label, values) in BY_REASON {
            by(&mut encoder, name, help, values(stats).iter().map(|(reason, n)| ([(*label, *reason)], *n)))?;
        }
        if let Some(attribution) = &stats.attribution {
            let found = attribution.found.iter().map(|(reason, n)| ([("match", *reason)], *n));
            by(&mut encoder, "flow_ends_attributed", "Ends of flows with an owner, by match", found)?;
            let without = attribution.unattributed.iter().map(|(reason, n)| ([("reason", *reason)], *n));
            by(&mut encoder, "flow_ends_unattributed", "Ends of flows without one, by reason", without)?;
        }
        let outcomes = stats.sinks.iter().flat_map(|sink| {
            let by_outcome = [
                ("written", sink.written),
                ("filtered", sink.filtered),
                ("spooled", sink.spooled),
                ("failed", sink.failed),
            ];
            let dropped = sink.dropped.iter().map(|(reason, n)| (*reason, *n));
            let all = by_outcome.into_iter().chain(dropped);
            all.map(|(outcome, n)| ([("to", sink.to.as_str()), ("outcome", outcome)], n))
        });
        by(&mut encoder, "output_records", "Records by output and by what became of them", outcomes)?;
        for (name, help, value) in OF_SPOOLS {
            let of_each = stats.sinks.iter().filter(|sink| sink.spooled > 0 || value(sink) > 0);
            by(&mut encoder, name, help, of_each.map(|sink| ([("to", sink.to.as_str())], value(sink))))?;
        }
        let servers =
            || stats.sinks.iter().filter_map(|sink| Some((sink.to.as_str(), sink.server.as_ref()?)));
        for (name, help, value) in OF_SERVERS {
            by(&mut encoder, name, help, servers().map(|(to, server)| ([("to", to)], value(server))))?;
        }
        for (name, help, value) in GAUGES_OF_SERVERS {
            let kind = ConstGauge::new(0u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (to, server) in servers() {
                ConstGauge::new(value(server)).encode(family.encode_family(&[("to", to)])?)?;
            }
        }
        let restarts = stats.restarts.iter().map(|(does, n)| ([("does", *does)], *n));
        by(&mut encoder, "process_restarts", "Times that a process beside was started again", restarts)?;
        Ok(())
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn by<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = ([(&'a str, &'a str); N], u64)>,
) -> fmt::Result {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

type Of<T> = fn(&StatsRecord) -> T;

const COUNTERS: &[(&str, &str, Of<u64>)] = &[
    ("packets", "Packets read", |stats| stats.packets),
    ("packet_bytes", "Wire bytes of the packets read", |stats| stats.bytes),
    ("kernel_received", "Packets that the kernel's filter accepted", |stats| stats.kernel_received),
    ("kernel_dropped", "Packets that the kernel had no room for", |stats| stats.kernel_dropped),
    ("interface_dropped", "Packets that the interface dropped", |stats| stats.interface_dropped),
    ("queue_dropped", "Packets that the pipeline had no room for", |stats| stats.queue_dropped),
    ("queue_dropped_bytes", "Wire bytes of those", |stats| stats.queue_dropped_bytes),
    ("packets_out_of_order", "Packets older than one before them", |stats| stats.packets_out_of_order),
    ("time_jumps", "Steps back in time", |stats| stats.time_jumps),
    ("fragments_evicted", "Fragments that had to make room", |stats| stats.fragments_evicted),
    ("fragments_expired", "Fragments whose first one never came", |stats| stats.fragments_expired),
    ("flow_packets", "Packets that flows have counted", |stats| stats.flow_packets),
    ("flow_bytes", "Wire bytes that flows have counted", |stats| stats.flow_bytes),
    ("flows_opened", "Flows opened", |stats| stats.flows_opened),
    ("dns_messages", "DNS messages read, whole or in part", |stats| stats.dns_whole + stats.dns_partial),
];

const GAUGES: &[(&str, &str, Of<u64>)] = &[
    ("flows_active", "Flows in the table", |stats| stats.flows_active),
    ("fragments_held", "Fragments that wait for their first one", |stats| stats.fragments_held),
    ("memory_bytes", "Bytes held for flows", |stats| stats.memory_bytes),
    ("interfaces_missing", "Interfaces that are gone", |stats| stats.interfaces_missing.len() as u64),
    ("sockets_indexed", "Sockets of flows in the index", |stats| {
        stats.attribution.as_ref().map_or(0, |attribution| attribution.sockets)
    }),
];

type Reasons = fn(&StatsRecord) -> &BTreeMap<&'static str, u64>;

const BY_REASON: &[(&str, &str, &str, Reasons)] = &[
    ("dropped_packets", "Packets without a flow, by reason", "reason", |stats| &stats.dropped),
    ("stopped_packets", "Packets whose decoding stopped early, by reason", "reason", |stats| &stats.stopped),
    ("flow_records", "Flow records, by why the flow ended", "end_reason", |stats| &stats.records),
    ("dns_refused", "What was no DNS message on a DNS port, by reason", "reason", |stats| &stats.dns_refused),
];

type OfSink = fn(&SinkStats) -> u64;

const OF_SPOOLS: &[(&str, &str, OfSink)] = &[
    ("spool_lost_records", "Records that had to make room in a spool", |sink| sink.spool_lost),
    ("sender_restarts", "Times that a process that sends was started again", |sink| sink.restarts),
];

type OfServer = fn(&ServerStats) -> u64;

const OF_SERVERS: &[(&str, &str, OfServer)] = &[
    ("server_sent_records", "Records that the server has taken", |server| server.sent),
    ("server_refused_records", "Records that the server does not take, set aside", |server| server.refused),
    ("server_retries", "Tries to send that failed and are made again", |server| server.retries),
];

const GAUGES_OF_SERVERS: &[(&str, &str, OfServer)] = &[
    ("server_waiting_records", "Records in the spool that are not done", |server| server.waiting),
    ("server_up", "Whether the latest try to send went well", |server| {
        u64::from(server.failing_since.is_none())
    }),
];

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const FINE: &str = "200 OK";
const UNWELL: &str = "503 Service Unavailable";

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use flowcore::time::Timestamp;

    use super::*;

    fn ask(port: u16, request: &str) -> String {
        ask_for(port, request, "*/*")
    }

    fn ask_for(port: u16, request: &str, accept: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn counters_by_name_reason_and_output() {
        let stats = StatsRecord {
            packets: 7,
            flows_active: 3,
            uptime: 1.5,
            dropped: [("truncated", 2)].into(),
            restarts: [("lookups", 3)].into(),
            sinks: vec![
                SinkStats { to: "a \"b\"".into(), written: 5, ..SinkStats::default() },
                SinkStats {
                    to: "tcp://c:1".into(),
                    spooled: 4,
                    restarts: 2,
                    server: Some(ServerStats {
                        sent: 9,
                        waiting: 8,
                        failing_since: Some(Timestamp::from_nanos(1)),
                        ..ServerStats::default()
                    }),
                    ..SinkStats::default()
                },
                SinkStats { to: "tls://c:1".into(), spooled: 9, spool_lost: 4, ..SinkStats::default() },
            ],
            ..StatsRecord::default()
        };
        let text = text(stats).unwrap();
        for line in [
            "# HELP flowcap_packets Packets read",
            "# TYPE flowcap_packets counter",
            "flowcap_packets_total 7",
            "flowcap_flows_active 3",
            "flowcap_uptime_seconds 1.5",
            "flowcap_dropped_packets_total{reason=\"truncated\"} 2",
            "flowcap_output_records_total{to=\"a \\\"b\\\"\",outcome=\"written\"} 5",
            "flowcap_sender_restarts_total{to=\"tcp://c:1\"} 2",
            "flowcap_spool_lost_records_total{to=\"tcp://c:1\"} 0",
            "flowcap_spool_lost_records_total{to=\"tls://c:1\"} 4",
            "flowcap_server_sent_records_total{to=\"tcp://c:1\"} 9",
            "flowcap_server_refused_records_total{to=\"tcp://c:1\"} 0",
            "# TYPE flowcap_server_waiting_records gauge",
            "flowcap_server_waiting_records{to=\"tcp://c:1\"} 8",
            "flowcap_server_up{to=\"tcp://c:1\"} 0",
            "flowcap_process_restarts_total{does=\"lookups\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let older = older(&text);
        for line in ["# HELP flowcap_packets_total Packets read", "# TYPE flowcap_packets_total counter"] {
            assert!(older.lines().any(|found| found == line), "{line} is not in\n{older}");
        }
        let values = |text: &str| {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(values(&older), values(&text));
        assert!(older.contains("# TYPE flowcap_flows_active gauge\n") && !older.contains("EOF"));
    }

    #[test]
    fn who_is_missing_is_told() {
        let aides = Aides::new();
        let stats = || Some((std::time::Instant::now(), StatsRecord::default()));
        assert_eq!(health(&None, &aides), (UNWELL, "starting\n".to_owned()));
        assert_eq!(health(&stats(), &aides), (FINE, "well\n".to_owned()));
        aides.is_missing("the process that waits");
        assert_eq!(health(&stats(), &aides), (UNWELL, "missing: the process that waits\n".to_owned()));
        let mut gone = stats();
        gone.as_mut().unwrap().1.interfaces_missing = vec!["v\x1b[2J\u{202e}".to_owned()];
        let said = "missing: the process that waits, v\\u001b[2J\\u202e\n".to_owned();
        assert_eq!(health(&gone, &aides), (UNWELL, said));
        gone.as_mut().unwrap().1.interfaces_missing = vec!["eth0".to_owned()];
        assert_eq!(health(&gone, &aides), (UNWELL, "missing: the process that waits, eth0\n".to_owned()));
        aides.is_back("the process that waits");
        assert_eq!(health(&gone, &aides), (UNWELL, "missing: eth0\n".to_owned()));
        assert_eq!(health(&stats(), &aides), (FINE, "well\n".to_owned()));
    }

    #[test]
    fn what_is_asked_for_is_answered() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let metrics = Metrics::serve(listener, Watched::new(), Aides::new()).unwrap();
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        let openmetrics = ask_for(port, "GET /metrics", accept);
        assert!(openmetrics.contains(OPENMETRICS) && openmetrics.ends_with("# EOF\n"), "{openmetrics}");
        let plain = ask(port, "GET /metrics");
        assert!(plain.contains(PROMETHEUS) && plain.contains("flowcap_packets_total 0\n"), "{plain}");
        let starting = ask(port, "GET /health");
        assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"), "{starting}");
        assert!(ask(port, "GET /").starts_with("HTTP/1.1 404"));
        assert!(ask(port, "POST /metrics").starts_with("HTTP/1.1 405"));
        assert!(matches!(listen(([127, 0, 0, 1], port).into()), Err(Error::Output { .. })));
        drop(metrics);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it has ended");
    }
}
