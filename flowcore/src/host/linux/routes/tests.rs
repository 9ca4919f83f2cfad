use std::path::Path;

use super::*;

/// `ip route show table all` of a namespace made for this, as rtnetlink tells it.
fn fixture() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/netlink/routes.bin")).unwrap()
}

fn name(index: u32) -> Option<String> {
    [(1, "lo"), (2, "eth1"), (3, "eth0")]
        .into_iter()
        .find(|(n, _)| *n == index)
        .map(|(_, name)| name.to_owned())
}

/// A route as `ip route` would say it.
fn line(route: &Route) -> String {
    let mut line = format!("{:?} {}/{}", route.kind, route.destination, route.prefix_length);
    if let Some(gateway) = route.gateway {
        line += &format!(" via {gateway}");
    }
    if let Some(interface) = &route.interface {
        line += &format!(" dev {interface}");
    }
    if let Some(source) = route.source {
        line += &format!(" src {source}");
    }
    line + &format!(" metric {} table {} proto {}", route.metric, route.table, route.protocol)
}

#[test]
#[cfg(target_endian = "little")]
fn a_recorded_answer() {
    let mut answer = Answer::default();
    answer.read(&fixture(), &mut name).unwrap();
    assert!(answer.is_whole && !answer.is_torn);
    let lines: Vec<_> = answer.routes.iter().filter(|route| route.table != 255).map(line).collect();
    let expected = [
        "Unicast 10.1.0.0/16 via 192.0.2.9 dev eth0 metric 0 table 1000 proto 3",
        "Unicast 0.0.0.0/0 via 192.0.2.1 dev eth0 src 192.0.2.2 metric 100 table 254 proto 16",
        "Unicast 10.2.0.0/16 via 2001:db8::9 dev eth0 metric 0 table 254 proto 3",
        "Unicast 192.0.2.0/24 dev eth0 src 192.0.2.2 metric 0 table 254 proto 2",
        "Unicast 198.51.100.0/24 via 192.0.2.3 dev eth0 metric 0 table 254 proto 3",
        "Unicast 198.51.100.0/24 via 192.0.2.4 dev eth0 metric 0 table 254 proto 3",
        "Blackhole 203.0.113.0/24 metric 0 table 254 proto 3",
        "Unreachable 203.0.113.128/25 metric 7 table 254 proto 3",
        "Unicast 2001:db8::/64 dev eth0 metric 256 table 254 proto 2",
        "Unicast 2001:db8:2::/48 via 2001:db8::3 dev eth0 metric 1024 table 254 proto 3",
        "Unicast 2001:db8:2::/48 via 2001:db8::4 dev eth0 metric 1024 table 254 proto 3",
        "Prohibit 2001:db8:dead::/48 dev lo metric 1024 table 254 proto 3",
        "Unicast fe80::/64 dev eth1 metric 256 table 254 proto 2",
        "Unicast fe80::/64 dev eth0 metric 256 table 254 proto 2",
        "Unicast ::/0 via 2001:db8::1 dev eth0 metric 1024 table 254 proto 3",
    ];
    assert_eq!(lines, expected);
    let kinds: Vec<_> =
        answer.routes.iter().filter(|route| route.table == 255).map(|route| route.kind).collect();
    for kind in [RouteKind::Local, RouteKind::Broadcast, RouteKind::Multicast] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn cut_and_changed_answers_do_no_harm() {
    let whole = fixture();
    for length in 0..whole.len() {
        let mut answer = Answer::default();
        answer.read(&whole[..length], &mut name).unwrap();
        assert!(!answer.is_whole);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0xFF] {
            let mut changed = whole.clone();
            changed[at] = value;
            // An error number may come of it; nothing else.
            let _ = Answer::default().read(&changed, &mut name);
        }
    }
}

#[test]
fn an_error_is_told() {
    let mut message = vec![0; 36];
    message[..4].copy_from_slice(&36u32.to_ne_bytes());
    message[4..6].copy_from_slice(&ERROR.to_ne_bytes());
    message[16..20].copy_from_slice(&(-1i32).to_ne_bytes());
    let error = Answer::default().read(&message, &mut name).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn this_machine() {
    let routes = routes().unwrap();
    // The loopback interface is up on whatever machine this runs.
    let is_loopback = |route: &&Route| route.kind == RouteKind::Local && route.destination.is_loopback();
    let loopback = routes.iter().find(is_loopback).expect("a route to 127.0.0.0/8 or ::1");
    assert_eq!(loopback.interface.as_deref(), Some("lo"));
}
