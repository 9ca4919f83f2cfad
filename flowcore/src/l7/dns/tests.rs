//! Transactions: pairing, repeats, slices, caps, damage; and the walk along messages.

use proptest::prelude::*;

use super::super::tests::Flow;
use super::message::{Reader, is_certain};
use super::name::Steps;
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
    assert_eq!((dns[1].queries, dns[1].rtt_nanos, dns[1].answers.len()), (0, None, 1));
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
        assert_eq!(dns[0].query.as_deref(), Some("a.Example"));
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
    assert_eq!((dns[0].queries, dns[0].rtt_nanos, dns[0].answers.len()), (3, Some(350), 1));
    assert_eq!((dns[1].queries, dns[1].rtt_nanos, dns[1].answers.len()), (0, None, 1));
}

#[test]
fn the_same_question_after_its_answer_is_a_new_one() {
    let mut flow = resolver();
    for nanos in [0, 1000] {
        flow.send(Dir::Fwd, nanos, &query(1, "a.example"));
        flow.send(Dir::Rev, nanos + 10 + nanos, &answer(1, "a.example"));
    }
    let dns = flow.finish(true).dns;
    let times: Vec<_> = dns.iter().map(|dns| dns.rtt_nanos).collect();
    assert_eq!(times, [Some(10), Some(1010)]);
}

#[test]
fn a_response_that_seems_older_took_no_time() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 100, &query(1, "a.example"));
    flow.send(Dir::Rev, 50, &answer(1, "a.example"));
    assert_eq!(flow.finish(true).dns[0].rtt_nanos, Some(0));
}

#[test]
fn two_questions_are_two_transactions_and_answers_go_to_the_first() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &Made::new(1, QUERY).question("one", 1, 1).question("two", 28, 1).0);
    let response = Made::new(1, 0x8183).question("one", 1, 1).question("two", 28, 1);
    flow.send(Dir::Rev, 5, &response.record(1, "one", 1, 60, &[1, 2, 3, 4]).0);
    let dns = flow.finish(true).dns;
    assert_eq!(dns.len(), 2);
    assert_eq!((dns[0].answers.len(), dns[1].answers.len()), (1, 0));
    assert!(dns.iter().all(|dns| dns.rcode == Some(Rcode(3)) && dns.rtt_nanos == Some(5)));
}

#[test]
fn a_response_without_question_pairs_by_id() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &query(1, "a.example"));
    flow.send(Dir::Rev, 9, &Made::new(2, 0x8181).0);
    flow.send(Dir::Rev, 9, &Made::new(1, 0x8181).0);
    let dns = flow.finish(true).dns;
    assert_eq!((dns[0].rcode, dns[0].rtt_nanos), (Some(Rcode(1)), Some(9)));
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
    assert!(dns.iter().all(|dns| dns.answers.is_empty()));
    assert_eq!(in_json(&dns[0]).contains("BADCOOKIE"), true);
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
    let data: Vec<_> = dns[0].answers.iter().map(|answer| &*answer.data).collect();
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
    assert_eq!((dns[0].qclass, dns[0].answers.len(), dns[0].queries), (Some(DnsClass(1)), 0, 1));
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
    let data: Vec<_> = dns[0].answers.iter().map(|answer| &*answer.data).collect();
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
        last.iter().map(|dns| (dns.id, dns.rtt_nanos)).collect::<Vec<_>>(),
        [(1, Some(300)), (3, None)]
    );
    assert_eq!(flow.finish(true).dns, []);
    assert_eq!(flow.conversation.app(), Some(App::Dns));
}

#[test]
fn at_most_sixteen_transactions_a_slice() {
    let mut flow = resolver();
    for id in 0..17 {
        flow.send(Dir::Fwd, 0, &query(id, "a"));
    }
    let facts = flow.finish(true);
    assert_eq!((facts.dns.len(), facts.dns_truncated), (16, true));
    flow.send(Dir::Fwd, 0, &query(1, "a"));
    let facts = flow.finish(true);
    assert_eq!((facts.dns.len(), facts.dns_truncated), (1, false));
}

#[test]
fn at_most_sixteen_questions_a_message() {
    let mut message = Made::new(1, QUERY);
    for nth in 0..17 {
        message = message.question(&format!("q{nth}"), 1, 1);
    }
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &message.0);
    assert_eq!(flow.counted(), (0, 1, 0));
    let facts = flow.finish(true);
    assert_eq!((facts.dns.len(), facts.dns_truncated), (16, true));
}

#[test]
fn at_most_256_records_a_message() {
    for (records, counted, truncated) in [(256, (1, 0, 0), false), (257, (0, 1, 0), true)] {
        let mut message = Made::new(1, RESPONSE).question("a", 1, 1);
        for _ in 0..records {
            message = message.record(3, "a", 1, 0, &[1, 2, 3, 4]);
        }
        let mut flow = resolver();
        flow.send(Dir::Rev, 0, &message.0);
        assert_eq!((flow.counted(), flow.finish(true).dns_truncated), (counted, truncated));
    }
}

#[test]
fn at_most_four_kilobytes_a_flow() {
    let mut message = Made::new(1, RESPONSE).question("a.example", 1, 1);
    for _ in 0..200 {
        message = message.record(1, "a.example", 1, 60, &[192, 0, 2, 1]);
    }
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &query(1, "a.example"));
    flow.send(Dir::Rev, 0, &message.0);
    assert!(flow.conversation.heap_bytes() <= 4096);
    // The message was read whole; not all of it could be kept.
    assert_eq!(flow.counted(), (2, 0, 0));
    let facts = flow.finish(true);
    assert!(facts.dns_truncated);
    assert!((55..70).contains(&facts.dns[0].answers.len()), "{}", facts.dns[0].answers.len());
    assert_eq!(facts.dns[0].rcode, Some(Rcode(0)));
}

#[test]
fn a_usual_answer_takes_little_memory() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &query(1, "www.example.com"));
    flow.send(Dir::Rev, 0, &answer(1, "www.example.com"));
    assert!(flow.conversation.heap_bytes() < 330, "{}", flow.conversation.heap_bytes());
    flow.finish(false);
    assert!(flow.conversation.heap_bytes() <= 72);
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

#[test]
fn over_tcp_whole_split_and_two_at_once() {
    let both = [framed(&query(1, "one")), framed(&query(2, "two"))].concat();
    for size in 1..=both.len() {
        let mut flow = Flow::new(Proto::TCP, 40000, 53);
        let mut seq = u32::MAX - 5;
        for piece in both.chunks(size) {
            flow.segment(Dir::Fwd, seq, 77, piece);
            seq = seq.wrapping_add(piece.len() as u32);
        }
        // The answers' first half comes last.
        let answers = framed(&answer(1, "one"));
        flow.segment(Dir::Rev, 77 + 9, seq, &answers[9..]);
        assert_eq!(flow.segment(Dir::Rev, 77, seq, &answers[..9]), Some(Dir::Fwd));
        assert_eq!((flow.counted(), flow.conversation.app()), ((3, 0, 0), Some(App::Dns)), "{size}");
        let dns = flow.finish(true).dns;
        assert_eq!((dns[0].answers.len(), dns[1].rcode, dns[0].transport), (1, None, Transport::Tcp));
    }
}

#[test]
fn over_tcp_turned_in_between() {
    let mut flow = Flow::new(Proto::TCP, 53, 40000);
    let question = framed(&query(1, "one"));
    flow.segment(Dir::Rev, 0, 0, &question[..10]);
    flow.conversation.turn();
    assert_eq!(flow.segment(Dir::Fwd, 10, 0, &question[10..]), Some(Dir::Fwd));
    assert_eq!(flow.counted(), (1, 0, 0));
}

#[test]
fn over_tcp_from_the_middle() {
    let mut flow = Flow::new(Proto::TCP, 40000, 53);
    // The tail of a message, then a whole one.
    assert_eq!(flow.segment(Dir::Rev, 100, 0, b"\xc0\x0c\x00\x01\x00\x01tail of it"), None);
    flow.segment(Dir::Rev, 116, 0, &framed(&answer(1, "one")));
    assert_eq!(flow.counted(), (1, 0, 0));
}

#[test]
fn over_tcp_cut_by_the_snapshot_length() {
    let mut flow = Flow::new(Proto::TCP, 40000, 53);
    flow.cut = true;
    let message = framed(&answer(1, "one"));
    flow.segment(Dir::Rev, 0, 0, &message[..30]);
    flow.cut = false;
    flow.segment(Dir::Rev, 500, 0, &message);
    assert_eq!(flow.counted(), (1, 1, 0));
}

#[test]
fn over_tcp_lost_streams_are_refused() {
    let mut flow = Flow::new(Proto::TCP, 40000, 53);
    for nth in 0..100 {
        flow.segment(
            Dir::Fwd,
            1000 * nth,
            0,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        );
    }
    assert_eq!(flow.counts.dns_refused[DnsRefusal::Stream], 3);
    assert_eq!(flow.conversation.app(), None);
    assert!(flow.conversation.heap_bytes() < 300);
}

/// Messages that are made to take as much work as they can.
pub(super) fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let head = |flags: u16, counts: [u16; 4]| {
        let words = [[1, flags].as_slice(), &counts].concat();
        words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>()
    };
    let fill = |mut bytes: Vec<u8>, unit: &[u8]| {
        while bytes.len() + unit.len() <= 65535 {
            bytes.extend(unit);
        }
        bytes
    };
    let labels = [b"\x01a".repeat(127), vec![0]].concat();
    let long = [&labels[..], b"\x00\x01\x00\x01"].concat();
    let record = |name: &[u8], rtype: u16, data: &[u8]| {
        let fixed =
            [&rtype.to_be_bytes()[..], b"\x00\x01\x00\x00\x00\x01", &(data.len() as u16).to_be_bytes()];
        [name, &fixed.concat(), data].concat()
    };
    let many = [1, 256, 0, 0];
    let root = b"\x00\x00\x01\x00\x01";
    let with_root = |flags, counts| [head(flags, counts), root.to_vec()].concat();
    let names = [head(0x8180, many), long.clone()].concat();
    // 127 labels behind one pointer, for each record and its data.
    let pointed = record(b"\xc0\x0c", 5, b"\xc0\x0c");
    let soa = [&b"\xc0\x0c\xc0\x0c"[..], &[0; 20]].concat();
    // A chain of 32 pointers behind the header.
    let mut chain = with_root(0x8180, [1, 256, 0, 0]);
    chain.extend([0]);
    let base = chain.len() as u16 - 1;
    for nth in 0..31 {
        let target = if nth == 0 { base } else { base + 1 + 2 * (nth - 1) };
        chain.extend((0xC000 | target).to_be_bytes());
    }
    let last = (0xC000 | (base + 61)).to_be_bytes();
    let text = |rtype: u16, unit: &[u8]| {
        let data = unit.repeat(60_000 / unit.len());
        [with_root(0x8180, [1, 1, 0, 0]), record(b"\x00", rtype, &data)].concat()
    };
    vec![
        ("questions of 127 labels", fill(head(0x0100, [65535, 0, 0, 0]), &long)),
        ("sixteen of them", fill(head(0x0100, [16, 0, 0, 0]), &long)),
        ("root questions", fill(head(0x0100, [65535, 0, 0, 0]), root)),
        ("records of 127 labels", fill(with_root(0x8180, many), &record(&labels, 1, &[1, 2, 3, 4]))),
        ("unread records of 127 labels", fill(with_root(0x8180, [1, 0, 0, 256]), &record(&labels, 1, &[]))),
        ("pointers to 127 labels", fill(names.clone(), &pointed)),
        ("SOA with pointers to 127 labels", fill(names.clone(), &record(b"\xc0\x0c", 6, &soa))),
        ("empty records", fill(with_root(0x8180, [1, 65535, 65535, 65535]), &record(b"\x00", 10, b""))),
        ("chains of pointers", fill(chain, &record(&last, 5, &last))),
        ("TXT of empty strings", text(16, b"\x00")),
        ("TXT of backslashes", text(16, b"\x01\\")),
        (
            "TXT of odd bytes, 4 KiB in all",
            fill(with_root(0x8180, many), &record(b"\x00", 16, &[b"\xff".as_slice(), &[1; 255]].concat())),
        ),
        ("NSEC with all types", text(47, b"\x00\x00\x20\xff\xff")),
        ("SVCB with empty parameters", text(65, b"\xff\xff\x00\x00")),
        ("unknown type", text(65280, b"\xff")),
        ("header and nothing", fill(head(0xFFFF, [65535; 4]), b"\xff")),
        ("header and zeros", fill(head(0x8000, [65535; 4]), b"\x00")),
    ]
}

#[test]
fn hostile_messages_are_bounded_in_work_and_memory() {
    for (name, bytes) in hostile() {
        let mut flow = resolver();
        for dir in [Dir::Fwd, Dir::Rev, Dir::Rev] {
            flow.send(dir, 0, &bytes);
            assert!(flow.conversation.heap_bytes() <= 4096, "{name}: {}", flow.conversation.heap_bytes());
        }
        let (whole, partial, refused) = flow.counted();
        assert_eq!(whole + partial + refused, 3, "{name}");
        assert!(steps(&bytes) <= Steps::MAX, "{name}");
        flow.finish(true);
    }
}

/// Returns how many labels, pointers and records a walk along the whole message takes.
fn steps(bytes: &[u8]) -> u32 {
    let Ok(mut reader) = Reader::open(bytes) else { return 0 };
    while reader.question().is_ok() {}
    while reader.resource().is_ok() {}
    reader.steps.taken()
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_stay_within_memory(
        messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..400), any::<bool>()), 1..30),
        port in prop::sample::select(vec![53u16, 5353, 5355, 137, 8053]),
    ) {
        let mut flow = Flow::new(Proto::UDP, 40000, port);
        let mut stream = Flow::new(Proto::TCP, 40000, port);
        for (nth, (bytes, forward)) in messages.iter().enumerate() {
            let dir = if *forward { Dir::Fwd } else { Dir::Rev };
            flow.send(dir, nth as i64, bytes);
            stream.segment(dir, nth as u32 * 100, 0, bytes);
            prop_assert!(flow.conversation.heap_bytes() <= 4096);
            prop_assert!(stream.conversation.heap_bytes() <= 4096 + 2 * (128 + 66) * 1024);
        }
        flow.finish(false);
        flow.finish(true);
    }

    #[test]
    fn mutated_messages_never_panic_and_stay_within_memory(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        which in 0..4usize,
    ) {
        let https = [0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2', 0, 4, 0, 4, 1, 2, 3, 4];
        let nsec = [&b"\x04host\xc0\x0c\x00\x06"[..], &[0xFF; 6]].concat();
        let seeds = [
            answer(1, "www.example.com"),
            Made::new(1, RESPONSE).question("a.example", 65, 1).record(1, "a.example", 65, 9, &https).0,
            Made::new(1, RESPONSE).question("a.example", 47, 1).record(1, "a.example", 47, 9, &nsec).0,
            Made::new(1, RESPONSE)
                .question("b.example", 6, 1)
                .record(1, "b.example", 16, 9, b"\x03abc\x02de")
                .record(2, "b.example", 6, 9, &[b"\xc0\x0c\xc0\x0c".as_slice(), &[7; 20]].concat())
                .record(3, "", 41, 0, b"")
                .0,
        ];
        let mut bytes = seeds[which].clone();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let mut flow = resolver();
        flow.send(Dir::Rev, 0, &bytes);
        flow.send(Dir::Rev, 0, &bytes[..cut.index(bytes.len())]);
        prop_assert!(flow.conversation.heap_bytes() <= 4096);
        let held: usize = flow.finish(true).dns.iter().map(|dns| dns.answers.len()).sum();
        prop_assert!(held <= 4);
    }
}
