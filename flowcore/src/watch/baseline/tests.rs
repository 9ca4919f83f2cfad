use super::super::sample::{at, listener, owned, tcp, udp, unowned};
use super::*;
use crate::host::{Socket, SocketKind};
use crate::record::Change;

const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

fn rules(before: &[SocketRecord], now: &[SocketRecord]) -> Vec<Rule> {
    let differences = Baseline::from_records(before, EPHEMERAL).compare(now);
    differences.iter().map(|difference| difference.rule).collect()
}

fn later(records: impl IntoIterator<Item = SocketRecord>, second: i64) -> Vec<SocketRecord> {
    records.into_iter().map(|record| SocketRecord { timestamp: at(second), ..record }).collect()
}

fn production_database() -> Vec<SocketRecord> {
    vec![
        owned(listener("0.0.0.0", 22), 1024, "/usr/sbin/sshd"),
        owned(listener("127.0.0.1", 5432), 2301, "postgres"),
        owned(tcp("127.0.0.1:5432 127.0.0.1:54821"), 2301, "postgres"),
        owned(listener("192.168.1.10", 443), 3102, "/usr/sbin/nginx"),
        owned(tcp("192.168.1.10:54821 52.94.1.1:443"), 3405, "python3"),
    ]
}

/// Before and after a maintenance window: an undocumented connection, and a listener that nobody ordered.
#[test]
fn the_story() {
    let before = production_database();
    let mut after = production_database();
    after.pop();
    after.push(owned(tcp("192.168.1.10:54822 52.94.1.1:443"), 3405, "python3"));
    after.push(owned(tcp("192.168.1.10:54900 10.20.30.40:5432"), 7821, "python3"));
    after.push(owned(listener("0.0.0.0", 31337), 7821, "python3"));
    let after = later(after, 5_224);

    let mut alarm = Alarm::new(Baseline::from_records(&before, EPHEMERAL), "before.jsonl");
    let alerts = alarm.check(&after, at(5_224));
    let messages: Vec<&str> = alerts.iter().map(|alert| alert.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "Unexpected listener on TCP port 31337 (address 0.0.0.0): python3 (pid 7821, /usr/bin/python3, \
             user root), seen 2026-03-02 21:12:04 UTC; not in before.jsonl",
            "New outgoing connection to 10.20.30.40:5432 (TCP) by python3 (pid 7821, /usr/bin/python3, user root), \
             seen 2026-03-02 21:12:04 UTC; not in before.jsonl",
        ]
    );
    assert_eq!(alerts[1].rule, Rule::NewRemote);
    assert_eq!(alerts[1].timestamp, at(5_224));
    assert_eq!(alerts[1].socket, after[5]);
    // Each is told once.
    assert_eq!(alarm.check(&after, at(5_229)), []);
    assert_eq!(Baseline::from_records(&before, EPHEMERAL).compare(&later(before, 9)), []);
}

#[test]
fn ephemeral_ports_never_count() {
    let before = [
        owned(listener("::", 22), 1, "sshd"),
        owned(tcp("10.0.0.1:40000 52.94.1.1:443"), 2, "curl"),
        owned(tcp("[::ffff:10.0.0.1]:22 [::ffff:10.0.0.9]:50000"), 3, "sshd"),
        owned(udp("0.0.0.0:40000 -"), 2, "curl"),
        owned(udp("10.0.0.1:40001 9.9.9.9:53"), 2, "curl"),
    ];
    let now = [
        owned(listener("::", 22), 1, "sshd"),
        owned(tcp("10.0.0.1:40077 52.94.1.1:443"), 12, "curl"),
        owned(tcp("10.0.0.1:22 10.0.0.9:50077"), 13, "sshd"),
        owned(udp("0.0.0.0:40077 -"), 12, "curl"),
        owned(udp("10.0.0.7:40078 9.9.9.9:53"), 12, "curl"),
    ];
    assert_eq!(rules(&before, &now), []);
}

#[test]
fn each_kind_of_difference() {
    let before = [
        owned(listener("0.0.0.0", 22), 1, "sshd"),
        owned(tcp("10.0.0.1:22 10.0.0.9:50000"), 1, "sshd"),
        owned(tcp("10.0.0.1:40000 52.94.1.1:443"), 2, "curl"),
        owned(udp("0.0.0.0:53 -"), 3, "dnsmasq"),
    ];
    let with = |more: SocketRecord| {
        let mut now = before.to_vec();
        now.push(more);
        rules(&before, &now)
    };
    assert_eq!(with(owned(listener("::", 22), 1, "sshd")), [Rule::UnexpectedListener]);
    assert_eq!(with(owned(listener("127.0.0.1", 22), 1, "sshd")), [Rule::UnexpectedListener]);
    assert_eq!(with(owned(udp("0.0.0.0:5353 -"), 3, "dnsmasq")), [Rule::UnexpectedListener]);
    assert_eq!(with(owned(tcp("10.0.0.1:22 10.0.0.8:50000"), 1, "sshd")), [Rule::NewClient]);
    assert_eq!(with(owned(tcp("10.0.0.1:40001 52.94.1.1:80"), 2, "curl")), [Rule::NewRemote]);
    assert_eq!(with(owned(tcp("10.0.0.1:40001 52.94.1.2:443"), 2, "curl")), [Rule::NewRemote]);
    assert_eq!(with(owned(tcp("10.0.0.1:40001 52.94.1.1:443"), 3, "dnsmasq")), [Rule::NewRemote]);
    assert_eq!(with(owned(udp("0.0.0.0:40000 -"), 9, "evil")), [Rule::NewProcess]);
    assert_eq!(with(owned(udp("0.0.0.0:40000 -"), 9, "curl")), [Rule::NewProcess; 0]);
    let twice = [Rule::NewRemote, Rule::NewProcess];
    assert_eq!(with(owned(tcp("10.0.0.1:40001 52.94.1.1:443"), 9, "evil")), twice);
    assert_eq!(rules(&before, &before[1..]), [Rule::GoneListener]);
    assert_eq!(rules(&before, &before[..3]), [Rule::GoneListener]);
}

#[test]
fn another_program_at_a_port_is_one_gone_and_one_unexpected() {
    let before = [owned(listener("0.0.0.0", 80), 1, "nginx"), owned(listener("::1", 81), 2, "python3")];
    let now = [owned(listener("0.0.0.0", 80), 2, "python3"), owned(listener("::1", 81), 2, "python3")];
    let differences = Baseline::from_records(&before, EPHEMERAL).compare(&now);
    let rules: Vec<Rule> = differences.iter().map(|difference| difference.rule).collect();
    assert_eq!(rules, [Rule::UnexpectedListener, Rule::GoneListener]);
    assert!(differences[0].alert(at(9), "b").message.ends_with("; not in b, where it was /usr/bin/nginx"));
    assert_eq!(
        differences[1].alert(at(9), "b").message,
        "Listener is gone from TCP port 80 (address 0.0.0.0): was nginx (pid 1, /usr/bin/nginx, user root), \
         last seen 2026-03-02 19:45:00 UTC in b"
    );
}

#[test]
fn an_unknown_executable_matches_any() {
    let known =
        || [owned(listener("0.0.0.0", 80), 1, "nginx"), owned(tcp("1.1.1.1:40000 2.2.2.2:80"), 1, "nginx")];
    let unknown = || [unowned(listener("0.0.0.0", 80)), unowned(tcp("1.1.1.1:40000 2.2.2.2:80"))];
    assert_eq!(rules(&known(), &unknown()), []);
    assert_eq!(rules(&unknown(), &known()), []);
    assert_eq!(rules(&unknown(), &unknown()), []);
    // An unknown one is no new program, and told only where no known one is.
    assert_eq!(rules(&[], &unknown()), [Rule::UnexpectedListener, Rule::NewRemote]);
    let both = [unowned(listener("0.0.0.0", 80)), owned(listener("0.0.0.0", 80), 1, "nginx")];
    assert_eq!(rules(&[], &both), [Rule::UnexpectedListener, Rule::NewProcess]);
    let replaced = [owned(listener("0.0.0.0", 80), 9, "/usr/bin/nginx (deleted)")];
    assert_eq!(rules(&known()[..1], &replaced), []);
}

#[test]
fn a_connection_outlives_its_listener() {
    let accepted = owned(tcp("10.0.0.1:22 10.0.0.9:50000"), 1, "sshd");
    let before = [owned(listener("0.0.0.0", 22), 1, "sshd"), accepted.clone()];
    assert_eq!(rules(&before, &[accepted]), [Rule::GoneListener]);
}

#[test]
fn files_of_many_snapshots() {
    let ssh = owned(listener("0.0.0.0", 22), 1, "sshd");
    let web = owned(listener("0.0.0.0", 80), 2, "nginx");
    let closed = SocketRecord { timestamp: at(5), change: Change::Closed, ..web.clone() };
    // What was closed before the end is known, and not missed.
    let before = [ssh.clone(), web.clone(), closed.clone()];
    assert_eq!(rules(&before, std::slice::from_ref(&ssh)), []);
    assert_eq!(rules(&before, &[ssh.clone(), web.clone()]), []);
    // What was there for a while is told, also where it is gone again.
    assert_eq!(rules(std::slice::from_ref(&ssh), &before), [Rule::UnexpectedListener, Rule::NewProcess]);
    assert_eq!(rules(&[ssh.clone(), web.clone()], &before), [Rule::GoneListener]);
}

#[test]
fn allow_rules_concern_listeners() {
    let rule = |text: &str| text.parse::<Allow>().unwrap();
    let now = [
        owned(listener("0.0.0.0", 22), 1, "sshd"),
        owned(listener("0.0.0.0", 31337), 2, "evil"),
        owned(tcp("1.1.1.1:40000 2.2.2.2:80"), 2, "evil"),
    ];
    let alone = Baseline::of_rules(vec![rule("tcp/22 sshd")], EPHEMERAL).compare(&now);
    assert_eq!(alone.len(), 1);
    assert_eq!((alone[0].rule, &alone[0].socket), (Rule::UnexpectedListener, &now[1]));
    let both = Baseline::from_records(&now[..1], EPHEMERAL).allow([rule("tcp/31337")]);
    let differences: Vec<Rule> = both.compare(&now).iter().map(|difference| difference.rule).collect();
    assert_eq!(differences, [Rule::NewRemote, Rule::NewProcess]);
    assert_eq!(both.compare(&now[..2]), []);
    // A listener of the baseline is missed all the same.
    let missed = Baseline::from_records(&now[..1], EPHEMERAL).allow([rule("tcp/22")]).compare(&[]);
    assert_eq!(missed[0].rule, Rule::GoneListener);
}

#[test]
fn sentences_hide_nothing() {
    let evil = owned(listener("0.0.0.0", 1), 2, "ev\x1b[2Jil\n\u{202e}");
    let alert = Baseline::from_records(&[], EPHEMERAL).compare(&[evil])[0].alert(at(0), "b\x07");
    assert!(alert.message.contains("ev\\u001b[2Jil\\n\\u202e (pid 2"), "{}", alert.message);
    assert!(alert.message.ends_with("not in b\\u0007"));
    assert_eq!(alert.to_string(), alert.message);
}

#[test]
fn raw_sockets_are_listeners_of_their_protocol() {
    let raw = |proto| {
        let kind = SocketKind::Raw(crate::key::Proto(proto));
        let mut socket = Socket { kind, ..udp("0.0.0.0:0 -") };
        socket.local.port = None;
        socket
    };
    let before = [owned(raw(1), 1, "ping")];
    assert_eq!(rules(&before, &[owned(raw(1), 7, "ping")]), []);
    assert_eq!(
        rules(&before, &[owned(raw(1), 7, "ping"), owned(raw(255), 7, "ping")]),
        [Rule::UnexpectedListener]
    );
}
