//! Transactions: pairing, repeats, slices, damage, and what is DNS at all.

mod bounds;
mod over_tcp;

use super::super::tests::Flow;
use super::message::is_certain;
use super::*;
use crate::key::{Dir, Proto};

/// A message under construction.
#[derive(Clone)]
struct Made(Vec<u8>);

const QUERY: u16 = 0x0100;
const RESPONSE: u16 = 0x8180;

impl Made {
    fn new(id: u16, flags: u16) -> Made {
        Made([id, flags, 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect())
    }

    fn count(&mut self, section: usize) {
        let at = 4 + 2 * section;
        let count = u16::from_be_bytes([self.0[at], self.0[at + 1]]) + 1;
        self.0[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    fn name(&mut self, name: &str) {
        for label in name.split('.').filter(|label| !label.is_empty()) {
            self.0.push(label.len() as u8);
            self.0.extend(label.as_bytes());
        }
        self.0.push(0);
    }

    fn question(mut self, name: &str, qtype: u16, qclass: u16) -> Made {
        self.count(0);
        self.name(name);
        self.0.extend(qtype.to_be_bytes());
        self.0.extend(qclass.to_be_bytes());
        self
    }

    /// Adds a record to the answers (1), authority (2) or additional (3).
    fn record(mut self, section: usize, name: &str, rtype: u16, ttl: u32, data: &[u8]) -> Made {
        self.count(section);
        self.name(name);
        self.0.extend(rtype.to_be_bytes());
        self.0.extend(1u16.to_be_bytes());
        self.0.extend(ttl.to_be_bytes());
        self.0.extend((data.len() as u16).to_be_bytes());
        self.0.extend(data);
        self
    }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    Made::new(id, QUERY).question(name, 1, 1).0
}

fn answer(id: u16, name: &str) -> Vec<u8> {
    Made::new(id, RESPONSE).question(name, 1, 1).record(1, name, 1, 60, &[192, 0, 2, 1]).0
}

fn resolver() -> Flow {
    Flow::new(Proto::UDP, 40000, 53)
}

fn in_json(transaction: &Transaction) -> String {
    serde_json::to_string(transaction).unwrap()
}

#[test]
fn a_question_and_its_answer() {
    let mut flow = resolver();
    assert_eq!(flow.send(Dir::Fwd, 1_000_000, &query(7, "www.Example")), Some(Dir::Fwd));
    assert_eq!(flow.send(Dir::Rev, 2_500_250, &answer(7, "www.Example")), Some(Dir::Fwd));
    assert_eq!(flow.conversation.app(), Some(App::Dns));
    assert_eq!(flow.counted(), (2, 0, 0));
    let facts = flow.finish(true);
    assert!(!facts.dns_truncated);
    assert_eq!(facts.dns.len(), 1);
    assert_eq!(
        in_json(&facts.dns[0]),
        concat!(
            r#"{"id":7,"query":"www.Example","qtype":"A","qclass":"IN","rcode":"NOERROR","aa":false,"tc":false,"#,
            r#""rd":true,"ra":true,"ad":false,"answers":[{"name":"www.Example","type":"A","ttl":60,"#,
            r#""data":"192.0.2.1"}],"rtt_us":1500.25,"queries":1,"transport":"udp"}"#
        )
    );
}

#[test]
fn unanswered_and_unasked_stay() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &query(1, "a.example"));
    flow.send(Dir::Rev, 0, &answer(2, "a.example"));
    let dns = flow.finish(true).dns;
    assert_eq!(
        in_json(&dns[0]),
        r#"{"id":1,"query":"a.example","qtype":"A","qclass":"IN","rd":true,"queries":1,"transport":"udp"}"#
    );
    assert_eq!((dns[1].queries, dns[1].rtt_nanos(), dns[1].answers().len()), (0, None, 1));
}

#[test]
fn pairs_by_id_name_without_case_and_type() {
    for (id, name, qtype, pairs) in [
        (1, "A.eXample", 1, true),
        (2, "a.example", 1, false),
        (1, "b.example", 1, false),
        (1, "a.example", 28, false),
    ] {
        let mut flow = resolver();
        flow.send(Dir::Fwd, 0, &query(1, "a.Example"));
        flow.send(Dir::Rev, 0, &Made::new(id, RESPONSE).question(name, qtype, 1).0);
        let dns = flow.finish(true).dns;
        assert_eq!(dns.len(), if pairs { 1 } else { 2 }, "{dns:?}");
        // The name is that of the query.
        assert_eq!(dns[0].query(), Some("a.Example"));
        assert_eq!(dns[0].rcode.is_some(), pairs);
    }
}

#[test]
fn repeats_are_counted_and_timed_from_the_first() {
    let mut flow = resolver();
    for nanos in [100, 200, 300] {
        flow.send(Dir::Fwd, nanos, &query(1, "a.example"));
    }
    flow.send(Dir::Rev, 450, &answer(1, "a.example"));
    // Answers to the repeats are no news; one more than was asked for is.
    flow.send(Dir::Rev, 460, &answer(1, "a.example"));
    flow.send(Dir::Rev, 470, &answer(1, "a.example"));
    flow.send(Dir::Rev, 480, &answer(1, "a.example"));
    let dns = flow.finish(true).dns;
    assert_eq!(dns.len(), 2);
    assert_eq!((dns[0].queries, dns[0].rtt_nanos(), dns[0].answers().len()), (3, Some(350), 1));
    assert_eq!((dns[1].queries, dns[1].rtt_nanos(), dns[1].answers().len()), (0, None, 1));
}

#[test]
fn the_same_question_after_its_answer_is_a_new_one() {
    let mut flow = resolver();
    for nanos in [0, 1000] {
        flow.send(Dir::Fwd, nanos, &query(1, "a.example"));
        flow.send(Dir::Rev, nanos + 10 + nanos, &answer(1, "a.example"));
    }
    let dns = flow.finish(true).dns;
    let times: Vec<_> = dns.iter().map(|dns| dns.rtt_nanos()).collect();
    assert_eq!(times, [Some(10), Some(1010)]);
}

#[test]
fn a_response_that_seems_older_took_no_time() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 100, &query(1, "a.example"));
    flow.send(Dir::Rev, 50, &answer(1, "a.example"));
    assert_eq!(flow.finish(true).dns[0].rtt_nanos(), Some(0));
}

#[test]
fn two_questions_are_two_transactions_and_answers_go_to_the_first() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &Made::new(1, QUERY).question("one", 1, 1).question("two", 28, 1).0);
    let response = Made::new(1, 0x8183).question("one", 1, 1).question("two", 28, 1);
    flow.send(Dir::Rev, 5, &response.record(1, "one", 1, 60, &[1, 2, 3, 4]).0);
    let dns = flow.finish(true).dns;
    assert_eq!(dns.len(), 2);
    assert_eq!((dns[0].answers().len(), dns[1].answers().len()), (1, 0));
    assert!(dns.iter().all(|dns| dns.rcode == Some(Rcode(3)) && dns.rtt_nanos() == Some(5)));
}

#[test]
fn a_response_without_question_pairs_by_id() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &query(1, "a.example"));
    flow.send(Dir::Rev, 9, &Made::new(2, 0x8181).0);
    flow.send(Dir::Rev, 9, &Made::new(1, 0x8181).0);
    let dns = flow.finish(true).dns;
    assert_eq!((dns[0].rcode, dns[0].rtt_nanos()), (Some(Rcode(1)), Some(9)));
    assert_eq!(
        in_json(&dns[1]),
        concat!(
            r#"{"id":2,"rcode":"FORMERR","aa":false,"tc":false,"rd":true,"ra":true,"ad":false,"#,
            r#""transport":"udp"}"#
        )
    );
}

#[test]
fn extended_rcode_and_no_opt_among_the_answers() {
    let mut flow = resolver();
    let opt = |section| {
        Made::new(1, RESPONSE | 7)
            .question("a", 1, 1)
            .record(section, "", 41, 0x0100_0000, b"\x00\x0a\x00\x01x")
            .0
    };
    flow.send(Dir::Rev, 0, &opt(3));
    flow.send(Dir::Rev, 0, &opt(1));
    let dns = flow.finish(true).dns;
    assert_eq!(dns[0].rcode, Some(Rcode(23)));
    assert!(dns.iter().all(|dns| dns.answers().is_empty()));
    assert!(in_json(&dns[0]).contains("BADCOOKIE"));
}

#[test]
fn header_bits() {
    let mut flow = resolver();
    // QR, AA, TC, RA, reserved, AD; not RD.
    flow.send(Dir::Rev, 0, &Made::new(1, 0x86E0).question("a", 1, 1).0);
    let dns = flow.finish(true).dns;
    let bits = [dns[0].aa, dns[0].tc, dns[0].rd, dns[0].ra, dns[0].ad];
    assert_eq!(bits, [Some(true), Some(true), Some(false), Some(true), Some(true)]);
    assert_eq!(flow.counted(), (1, 0, 0));
}

#[test]
fn unknown_types_and_classes_cost_nothing() {
    let mut flow = resolver();
    let https = [0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2'];
    let response = Made::new(1, RESPONSE).question("a", 65280, 77).record(1, "a", 65, 1, &https);
    flow.send(Dir::Rev, 0, &response.record(1, "a", 65281, 1, &[9]).0);
    let dns = flow.finish(true).dns;
    assert_eq!(dns[0].qtype.unwrap().to_string(), "TYPE65280");
    assert_eq!(dns[0].qclass.unwrap().to_string(), "CLASS77");
    let data: Vec<_> = dns[0].answers().map(|answer| answer.data).collect();
    assert_eq!(data, [r#"1 . alpn="h2""#, r"\# 1 09"]);
}

#[test]
fn multicast_dns() {
    let mut flow = Flow::to_peer([224, 0, 0, 251], Proto::UDP, 5353, 5353);
    let asks = Made::new(0, 0).question("_http._tcp.local", 12, 0x8001);
    // What it knows already stands among its answers, and is none.
    assert_eq!(
        flow.send(Dir::Fwd, 0, &asks.record(1, "_http._tcp.local", 12, 9, b"\x01p\x00").0),
        Some(Dir::Fwd)
    );
    let tells = Made::new(0, 0x8400).record(1, "_http._tcp.local", 12, 9, b"\x03\xc3\xa9x\x00");
    // Who tells a group says nothing of a client.
    assert_eq!(flow.send(Dir::Fwd, 0, &tells.0), None);
    assert_eq!(flow.conversation.app(), Some(App::Mdns));
    let dns = flow.finish(true).dns;
    assert_eq!(dns.len(), 2);
    assert_eq!((dns[0].qclass, dns[0].answers().len(), dns[0].queries), (Some(DnsClass(1)), 0, 1));
    assert_eq!(
        in_json(&dns[1]),
        concat!(
            r#"{"id":0,"rcode":"NOERROR","aa":true,"tc":false,"rd":false,"ra":false,"ad":false,"#,
            r#""answers":[{"name":"_http._tcp.local","type":"PTR","ttl":9,"data":"\\195\\169x"}],"transport":"udp"}"#
        )
    );
}

#[test]
fn llmnr() {
    let mut flow = Flow::to_peer([224, 0, 0, 252], Proto::UDP, 40000, 5355);
    flow.send(Dir::Fwd, 0, &Made::new(1, 0).question("host", 1, 1).0);
    assert_eq!(flow.conversation.app(), Some(App::Llmnr));
    let mut flow = Flow::new(Proto::UDP, 5355, 40000);
    assert_eq!(flow.send(Dir::Fwd, 0, &Made::new(1, 0x8000).question("host", 1, 1).0), Some(Dir::Rev));
    let dns = flow.finish(true).dns;
    // Its header has other bits.
    assert_eq!((dns[0].aa, dns[0].tc, dns[0].rd, dns[0].ra), (None, Some(false), None, None));
}

#[test]
fn elsewhere_only_what_is_certain() {
    let good = query(1, "a.example");
    let mut flow = Flow::new(Proto::UDP, 40000, 8053);
    assert_eq!(flow.send(Dir::Fwd, 0, &good), Some(Dir::Fwd));
    // Then too; what is not is not even refused.
    flow.send(Dir::Fwd, 0, b"something else on this port");
    assert_eq!(flow.conversation.app(), Some(App::Dns));
    assert_eq!((flow.counted(), flow.finish(true).dns.len()), ((1, 0, 0), 1));

    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let class = good.len() - 1;
    assert!(is_certain(&with(2, 4 << 3)) && is_certain(&with(2, 5 << 3)));
    assert!(is_certain(&with(class, 3)) && is_certain(&with(class, 255)));
    for bytes in [
        with(2, 1 << 3),
        with(2, 6 << 3),
        with(class, 4),
        with(5, 0),
        with(5, 2),
        with(7, 1),
        good[..class].to_vec(),
        [&good[..], b"x"].concat(),
        b"".to_vec(),
    ] {
        assert!(!is_certain(&bytes), "{bytes:?}");
        let mut flow = Flow::new(Proto::UDP, 40000, 8053);
        assert_eq!(flow.send(Dir::Fwd, 0, &bytes), None);
        assert_eq!((flow.conversation.app(), flow.counted()), (None, (0, 0, 0)));
    }
    for (proto, port) in [(Proto::UDP, 137), (Proto::TCP, 8053), (Proto::SCTP, 53)] {
        let mut flow = Flow::new(proto, 53, port);
        assert_eq!((flow.send(Dir::Fwd, 0, &good), flow.conversation.app()), (None, None), "{port}");
    }
}

#[test]
fn cut_captures_are_read_as_far_as_they_go() {
    let whole = answer(1, "a.example");
    for len in 0..whole.len() {
        let mut flow = resolver();
        flow.cut = true;
        flow.send(Dir::Rev, 0, &whole[..len]);
        let question_end = 12 + 11 + 4;
        let expected = match len {
            0 => (0, 0, 0),
            _ if len < question_end => (0, 0, 1),
            _ => (0, 1, 0),
        };
        assert_eq!(flow.counted(), expected, "{len}");
        assert_eq!(flow.finish(true).dns.len(), expected.1 as usize);
    }
}

#[test]
fn refused_by_reason() {
    let pointer = [&Made::new(1, QUERY).question("", 1, 1).0[..12], b"\xc0\x0c\x00\x01\x00\x01"].concat();
    for (bytes, reason) in [
        (b"x".to_vec(), DnsRefusal::Short),
        (query(1, "a")[..14].to_vec(), DnsRefusal::Cut),
        (Made::new(1, QUERY).0.into_iter().chain([0]).collect(), DnsRefusal::Cut),
        (pointer, DnsRefusal::Name),
    ] {
        let mut flow = resolver();
        assert_eq!(flow.send(Dir::Fwd, 0, &bytes), None);
        assert_eq!((flow.counts.dns_refused[reason], flow.counted()), (1, (0, 0, 1)));
        assert_eq!((flow.conversation.app(), flow.finish(true).dns.len()), (None, 0));
    }
}

#[test]
fn on_its_ports_dns_is_found_behind_anything() {
    let mut flow = resolver();
    for _ in 0..20 {
        assert_eq!(flow.send(Dir::Fwd, 0, b"what is this?"), None);
    }
    assert_eq!(flow.send(Dir::Fwd, 0, &query(1, "a")), Some(Dir::Fwd));
    assert_eq!((flow.conversation.app(), flow.counted()), (Some(App::Dns), (1, 0, 20)));
}

#[test]
fn other_protocols_on_its_ports_are_known_too() {
    let mut flow = Flow::new(Proto::TCP, 40000, 53);
    assert_eq!(flow.segment(Dir::Fwd, 0, 0, b"GET / HTTP/1.1\r\n\r\n"), Some(Dir::Fwd));
    assert_eq!((flow.conversation.app(), flow.conversation.heap_bytes()), (Some(App::Http), 0));
}

#[test]
fn records_with_unsound_data_are_kept() {
    let mut flow = resolver();
    let response = Made::new(1, RESPONSE).question("a", 1, 1).record(1, "a", 1, 5, &[1, 2, 3]);
    flow.send(Dir::Rev, 0, &response.record(1, "a", 1, 5, &[1, 2, 3, 4]).0);
    assert_eq!(flow.counted(), (0, 1, 0));
    let dns = flow.finish(true).dns;
    let data: Vec<_> = dns[0].answers().map(|answer| answer.data).collect();
    assert_eq!(data, [r"\# 3 010203", "1.2.3.4"]);
}

#[test]
fn slices() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 100, &query(1, "open"));
    flow.send(Dir::Fwd, 100, &query(2, "done"));
    flow.send(Dir::Rev, 200, &answer(2, "done"));
    let first = flow.finish(false).dns;
    assert_eq!(first.iter().map(|dns| dns.id).collect::<Vec<_>>(), [2]);
    assert_eq!(flow.finish(false).dns, []);
    flow.conversation.turn();
    flow.send(Dir::Fwd, 300, &query(3, "last"));
    flow.send(Dir::Rev, 400, &answer(1, "open"));
    let last = flow.finish(true).dns;
    assert_eq!(
        last.iter().map(|dns| (dns.id, dns.rtt_nanos())).collect::<Vec<_>>(),
        [(1, Some(300)), (3, None)]
    );
    assert_eq!(flow.finish(true).dns, []);
    assert_eq!(flow.conversation.app(), Some(App::Dns));
}
