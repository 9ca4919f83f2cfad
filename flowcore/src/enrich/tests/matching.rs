//! The rules of definitions.md, "Attribution", each with records alone.

use super::super::{Attribution, FlowEnd, LocalAddresses, SocketIndex};
use super::*;
use crate::record::{Unattributed, Who};

/// The end that [`connection`] belongs to, in a flow of ten milliseconds.
fn asked() -> FlowEnd {
    FlowEnd {
        proto: Proto::TCP,
        local: end("192.0.2.1:40000"),
        remote: end("198.51.100.2:443"),
        opened: true,
        begun: None,
        first: at(0),
        last: at(10),
    }
}

fn datagrams() -> FlowEnd {
    FlowEnd { proto: Proto::UDP, remote: end("198.51.100.2:53"), ..asked() }
}

/// A UDP socket that answered for the datagrams at `known` and was not seen before.
fn local(cookie: u64, known: i64, owner: Owner) -> SightedSocket {
    SightedSocket {
        proto: Proto::UDP,
        remote: Some(end("198.51.100.2:53")),
        is: SightedAs::Local,
        asked: Some(at(0)),
        answered: Some(at(known)),
        valid_from: at(known),
        seen: at(known),
        ..connection(cookie, owner)
    }
}

/// The end of a UDP socket that nobody had seen before.
fn closed(cookie: u64, at_millis: i64) -> SightedSocket {
    SightedSocket {
        proto: Proto::UDP,
        local: end("0.0.0.0:40000"),
        remote: None,
        is: SightedAs::Local,
        asked: None,
        answered: None,
        valid_from: Timestamp::MIN,
        seen: at(at_millis),
        valid_to: Some(at(at_millis)),
        owner: None,
        ..connection(cookie, Owner::NoProcess)
    }
}

fn attribution(sockets: &[SightedSocket]) -> Attribution {
    let index = SocketIndex::recorded(sockets.iter().cloned());
    Attribution::live(index, LocalAddresses::new(["192.0.2.1".parse().unwrap()]))
}

/// `name/pid match age`, or the reason.
fn named(sockets: &[SightedSocket], end: FlowEnd) -> String {
    match attribution(sockets).owner(&end) {
        Ok(owner) => {
            let who = match &owner.who {
                Who::Process(process) => format!("{}/{}", process.name, process.pid),
                Who::User { uid, .. } => format!("uid {uid}"),
            };
            format!("{who} {} {}", crate::error::Reason::name(owner.matched), owner.evidence_age_ms.unwrap())
        }
        Err(reason) => crate::error::Reason::name(reason).to_owned(),
    }
}

#[test]
fn a_connection_has_its_own_socket() {
    let curl = connection(1, process(10, "curl"));
    assert_eq!(named(std::slice::from_ref(&curl), asked()), "curl/10 exact 0");
    let other_port = FlowEnd { local: end("192.0.2.1:40001"), ..asked() };
    let other_peer = FlowEnd { remote: end("198.51.100.3:443"), ..asked() };
    let other_proto = FlowEnd { proto: Proto::UDP, ..asked() };
    let icmp = FlowEnd { proto: Proto::ICMP, ..asked() };
    for wrong in [other_port, other_peer, other_proto, icmp] {
        assert_eq!(named(std::slice::from_ref(&curl), wrong), "no_socket");
    }
    let opened = SightedSocket { is: SightedAs::Event, ..curl };
    assert_eq!(named(&[opened], asked()), "curl/10 event 0");
}

#[test]
fn a_mapped_address_is_the_same() {
    let mapped = SightedSocket {
        local: end("[::ffff:192.0.2.1]:40000"),
        remote: Some(end("[::ffff:198.51.100.2]:443")),
        ..connection(1, process(10, "java"))
    };
    assert_eq!(named(std::slice::from_ref(&mapped), asked()), "java/10 exact 0");
    let both = FlowEnd { local: mapped.local, remote: mapped.remote.unwrap(), ..asked() };
    assert_eq!(named(&[mapped], both), "java/10 exact 0");
}

#[test]
fn time_tells_apart_who_had_the_port() {
    let first = SightedSocket { valid_to: Some(at(1_000)), ..connection(1, process(10, "first")) };
    let second = SightedSocket {
        asked: Some(at(2_000)),
        answered: Some(at(2_000)),
        valid_from: at(2_000),
        seen: at(2_500),
        ..connection(2, process(20, "second"))
    };
    let both = [second, first];
    let during = |first, last| FlowEnd { first: at(first), last: at(last), ..asked() };
    assert_eq!(named(&both, during(0, 900)), "first/10 exact 0");
    assert_eq!(named(&both, during(500, 1_005)), "first/10 exact 500");
    assert_eq!(named(&both, during(2_000, 2_010)), "second/20 exact 0");
    // After the first one's end and before the second was there.
    assert_eq!(named(&both, during(1_200, 1_300)), "no_socket");
    // A flow before both.
    assert_eq!(named(&both, during(-500, -400)), "no_socket");
}

#[test]
fn a_number_of_a_process_that_is_used_again_is_another_process() {
    let old = SightedSocket { valid_to: Some(at(100)), ..connection(1, process(10, "old")) };
    let Owner::Process { process: new, .. } = process(10, "new") else { unreachable!() };
    let new = Process { started: at(500), ..(*new).clone() };
    let new = SightedSocket {
        asked: Some(at(600)),
        answered: Some(at(600)),
        valid_from: at(600),
        seen: at(600),
        ..connection(2, Owner::Process { process: Arc::new(new), shared: 1 })
    };
    let both = [old, new];
    assert_eq!(named(&both, asked()), "old/10 exact 0");
    assert_eq!(named(&both, FlowEnd { first: at(600), last: at(610), ..asked() }), "new/10 exact 0");
    // The flow saw both: the one that was there at its first packet.
    assert_eq!(named(&both, FlowEnd { last: at(700), ..asked() }), "old/10 exact 0");
    // It saw both come.
    assert_eq!(named(&both, FlowEnd { first: at(-10), last: at(700), ..asked() }), "ambiguous");
}

#[test]
fn a_late_answer_counts_if_the_socket_was_there_before() {
    let late = |from| SightedSocket {
        answered: Some(at(12)),
        valid_from: at(from),
        seen: at(12),
        ..connection(1, process(10, "curl"))
    };
    assert_eq!(named(&[late(12)], asked()), "no_socket");
    assert_eq!(named(&[late(9)], asked()), "curl/10 exact 9");
    assert_eq!(named(&[late(-5)], asked()), "curl/10 exact 0");
    assert_eq!(named(&[late(12)], FlowEnd { last: at(12), ..asked() }), "curl/10 exact 12");
}

#[test]
fn late_answers_for_datagrams() {
    let dns = |known| local(1, known, process(10, "dns"));
    assert_eq!(named(&[dns(5)], datagrams()), "dns/10 local 5");
    assert_eq!(named(&[dns(1_010)], datagrams()), "dns/10 local 1010");
    assert_eq!(named(&[dns(1_011)], datagrams()), "no_socket");
    // It was there all the time, but whether it had the flow is known too late.
    let there = SightedSocket { valid_from: at(-100), ..dns(1_011) };
    assert_eq!(named(&[there], datagrams()), "no_socket");
    let connected = SightedSocket { is: SightedAs::Exact, valid_from: at(-100), ..dns(1_011) };
    assert_eq!(named(&[connected], datagrams()), "dns/10 exact 0");
}

#[test]
fn the_next_socket_with_the_port_is_not_taken_for_the_one_before() {
    let next = local(2, 11, process(20, "next"));
    assert_eq!(named(std::slice::from_ref(&next), datagrams()), "next/20 local 11");
    for (ended, expected) in
        [(-1, "next/20 local 11"), (1, "ambiguous"), (60, "ambiguous"), (500, "next/20 local 11")]
    {
        assert_eq!(named(&[next.clone(), closed(1, ended)], datagrams()), expected, "{ended}");
    }
    // Its own end is not another's.
    let own = SightedSocket { valid_to: Some(at(15)), ..next.clone() };
    assert_eq!(named(&[own, SightedSocket { cookie: 2, ..closed(2, 15) }], datagrams()), "next/20 local 11");
    // A socket that was known before the flow cannot be the next one.
    let known = SightedSocket { valid_from: at(-100), ..next };
    assert_eq!(named(&[known, closed(1, 1)], datagrams()), "next/20 local 0");
}

#[test]
fn an_unconnected_socket_serves_the_address_and_port_it_is_bound_to() {
    let bound = |address: &str| SightedSocket {
        local: end(address),
        remote: None,
        asked: None,
        answered: None,
        valid_from: at(-1_000),
        seen: at(5_000),
        ..local(1, 0, process(10, "named"))
    };
    assert_eq!(named(&[bound("192.0.2.1:40000")], datagrams()), "named/10 local 0");
    // Never by port alone: to whom a datagram goes the kernel knows.
    assert_eq!(named(&[bound("192.0.2.9:40000")], datagrams()), "no_socket");
    assert_eq!(named(&[bound("0.0.0.0:40000")], datagrams()), "no_socket");
    // A connected one goes before it.
    let connected = SightedSocket { is: SightedAs::Exact, ..local(2, 1, process(20, "dig")) };
    assert_eq!(named(&[bound("192.0.2.1:40000"), connected], datagrams()), "dig/20 exact 1");
    // Several with the same port, and nobody asked which.
    let other = SightedSocket { cookie: 3, owner: Some(process(30, "other")), ..bound("192.0.2.1:40000") };
    assert_eq!(named(&[bound("192.0.2.1:40000"), other.clone()], datagrams()), "ambiguous");
    let same = SightedSocket { owner: Some(process(10, "named")), ..other };
    assert_eq!(named(&[bound("192.0.2.1:40000"), same], datagrams()), "named/10 local 0");
}

#[test]
fn a_listener_until_the_accepted_socket_is_known() {
    let accepted = FlowEnd { opened: false, ..asked() };
    let listener = SightedSocket {
        is: SightedAs::Listener,
        valid_from: at(-9_000),
        seen: at(0),
        ..connection(1, process(10, "master"))
    };
    let worker = SightedSocket {
        answered: Some(at(6)),
        valid_from: at(6),
        seen: at(6),
        ..connection(2, process(20, "worker"))
    };
    assert_eq!(named(std::slice::from_ref(&listener), accepted), "master/10 listener 0");
    assert_eq!(named(&[listener.clone(), worker.clone()], accepted), "worker/20 exact 6");
    // The worker was gone before its owner was found.
    let gone = SightedSocket { owner: Some(Owner::NoProcess), ..worker.clone() };
    assert_eq!(named(&[listener.clone(), gone], accepted), "master/10 listener 0");
    // Which of several took the connection a listener that they share does not say.
    let Owner::Process { process: master, .. } = process(10, "master") else { panic!("no process") };
    let forked =
        SightedSocket { owner: Some(Owner::Process { process: master, shared: 2 }), ..listener.clone() };
    assert_eq!(named(&[forked], accepted), "ambiguous");
    let shared = SightedSocket { owner: Some(Owner::Ambiguous), ..worker };
    assert_eq!(named(&[listener.clone(), shared], accepted), "ambiguous");
    // Who opened the connection did not get it from a listener.
    assert_eq!(named(std::slice::from_ref(&listener), asked()), "no_socket");
    let seen = SightedSocket { remote: None, asked: None, answered: None, ..listener };
    assert_eq!(named(std::slice::from_ref(&seen), accepted), "master/10 listener 0");
    assert_eq!(named(&[seen], asked()), "no_socket");
}

#[test]
fn a_closed_socket_that_was_only_seen_is_history() {
    let seen = SightedSocket {
        asked: None,
        answered: None,
        valid_from: at(-4_000),
        seen: at(1_000),
        valid_to: Some(at(1_000)),
        ..connection(1, process(10, "ssh"))
    };
    assert_eq!(named(std::slice::from_ref(&seen), asked()), "ssh/10 history 0");
    let open = SightedSocket { valid_to: None, ..seen.clone() };
    assert_eq!(named(std::slice::from_ref(&open), asked()), "ssh/10 exact 0");
    // Last seen two seconds before.
    assert_eq!(named(&[open], FlowEnd { first: at(3_000), last: at(3_001), ..asked() }), "ssh/10 exact 2000");
    assert_eq!(named(&[seen], FlowEnd { first: at(3_000), last: at(3_001), ..asked() }), "no_socket");
}

#[test]
fn a_user_where_the_process_is_not_known() {
    let user = |cookie| connection(cookie, Owner::UidOnly { uid: 1000, container_id: Some("ab".repeat(32)) });
    assert_eq!(named(&[user(1)], asked()), "uid 1000 uid_only 0");
    let listener = SightedSocket { is: SightedAs::Listener, ..connection(2, process(10, "sshd")) };
    let accepted = FlowEnd { opened: false, ..asked() };
    assert_eq!(named(&[user(1), listener], accepted), "sshd/10 listener 0");
    // The socket that answered is known, so that another one with its address and port owns nothing here.
    let answered = SightedSocket {
        owner: Some(Owner::UidOnly { uid: 1000, container_id: None }),
        ..local(1, 0, process(1, "x"))
    };
    let bound = SightedSocket { remote: None, ..local(2, 0, process(20, "other")) };
    assert_eq!(named(&[answered.clone(), bound.clone()], datagrams()), "uid 1000 uid_only 0");
    let closed = SightedSocket { owner: Some(Owner::NotPermitted), ..answered };
    assert_eq!(named(&[closed, bound], datagrams()), "eperm");
}

#[test]
fn each_reason() {
    let with = |owner| named(&[connection(1, owner)], asked());
    assert_eq!(with(Owner::NoProcess), "no_pid");
    assert_eq!(with(Owner::NotPermitted), "eperm");
    assert_eq!(with(Owner::Ambiguous), "ambiguous");
    assert_eq!(named(&[], asked()), "no_socket");
    let elsewhere = SightedSocket { netns: 4711, ..connection(1, process(10, "curl")) };
    assert_eq!(named(&[elsewhere], asked()), "other_netns");
    let replayed = Attribution::recorded(SocketIndex::recorded([]));
    assert_eq!(replayed.owner(&asked()), Err(Unattributed::Offline));
}

#[test]
fn which_addresses_are_local() {
    let local = LocalAddresses::new(["192.0.2.1".parse().unwrap(), "::ffff:192.0.2.2".parse().unwrap()]);
    for address in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "127.0.0.1", "127.8.8.8", "::1"] {
        assert!(local.contains(address.parse().unwrap()), "{address}");
    }
    for address in ["192.0.2.3", "::2", "0.0.0.0", "224.0.0.1"] {
        assert!(!local.contains(address.parse().unwrap()), "{address}");
    }
    local.replace(["192.0.2.3".parse().unwrap()]);
    assert!(local.contains("192.0.2.3".parse().unwrap()) && !local.contains("192.0.2.1".parse().unwrap()));
    let recorded = SocketIndex::recorded([connection(1, Owner::NoProcess), closed(2, 0)]);
    assert_eq!(recorded.addresses(), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn a_socket_without_an_owner_that_fits_better_leaves_the_flow_without_a_name() {
    let told = |cookie, seen, to| SightedSocket {
        seen: at(seen),
        valid_to: Some(at(to)),
        asked: None,
        answered: None,
        ..connection(cookie, process(10, "before"))
    };
    let unseen = |to| SightedSocket {
        valid_from: Timestamp::MIN,
        seen: at(to),
        valid_to: Some(at(to)),
        owner: None,
        ..told(2, to, to)
    };
    let during = |first, last| FlowEnd { first: at(first), last: at(last), ..asked() };
    // Nobody had looked up the one that was there until the end.
    assert_eq!(named(&[told(1, 0, 150), unseen(300)], during(120, 250)), "no_pid");
    // Either of them.
    assert_eq!(named(&[told(1, 0, 150), unseen(300)], during(120, 130)), "ambiguous");
    assert_eq!(named(&[told(1, 0, 400), unseen(300)], during(120, 350)), "before/10 history 120");
    // It was there before the flow, and after its first packet.
    assert_eq!(named(&[told(1, 121, 150), unseen(300)], during(120, 250)), "before/10 history 0");
}
