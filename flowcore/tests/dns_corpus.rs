//! Reads every DNS message of the corpus: names as tshark found them, and everything else as two other
//! DNS libraries read it, for the messages as they are and for thousands of damaged ones. And the
//! recognition of the other protocols.

mod corpus_files;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::Duration;

use corpus_files::Corpus;
use flowcore::capture::{FileSource, Next, Source};
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::key::{AddrWords, Dir, End, FlowKey, Proto, TunnelKey, VlanStack};
use flowcore::l7::{App, Conversation, L7Counts, L7Facts, RecordType, Transaction};
use flowcore::packet::{Facts, Fragment, Labels, Message, Packet};
use flowcore::time::{TableTime, Timestamp};
use hickory_proto::op::Message as Hickory;
use hickory_proto::rr::{Name, RData, Record};
use serde_json::Value;

/// Packets that we read in another way than tshark, and by which rule of definitions.md or faults.md.
const INTENDED: &[(&str, u64, &str)] = &[
    ("syn_dns_malformed.pcap", 5, "a name that cannot be read is no question: pointer at itself"),
    ("syn_dns_malformed.pcap", 6, "the same: loop of two pointers"),
    ("syn_dns_malformed.pcap", 7, "the same: label, then pointer to it"),
    ("syn_dns_malformed.pcap", 9, "compression goes strictly backwards"),
    ("syn_dns_malformed.pcap", 16, "at most 255 bytes"),
    ("syn_dns_malformed.pcap", 18, "answers are those that are there, not those announced"),
    ("syn_dns_malformed.pcap", 19, "the same: data beyond the end"),
    ("syn_dns_malformed.pcap", 21, "at most 32 pointers"),
    ("syn_dns_malformed.pcap", 24, "the same: all ones"),
    ("syn_dns_tcp.pcap", 18, "segments out of order are put in order; tshark's first pass is not"),
    ("syn_dns_udp.pcap", 36, "\\DDD for what does not print"),
    ("tcpdump_dns-badlabel.pcap", 1, "label types 01 and 10 are damage"),
    ("tcpdump_dns_fwdptr.pcap", 1, "compression goes strictly backwards"),
    ("tcpdump_LINKTYPE_IPV4_invalid.pcap", 1, "the link type says IPv4, the header IPv6: no flow"),
    ("tcpdump_LINKTYPE_PKTAP.pcap", 1, "a link type that is not decoded"),
    ("tcpdump_LINKTYPE_USER2_PKTAP.pcap", 1, "the same"),
    ("zeek_ipv6-fragmented-dns.pcap", 6, "a datagram is read where its last fragment comes, in packet 8"),
    ("zeek_ipv6-fragmented-dns.pcap", 8, "the same"),
];

/// What one packet said.
struct Read {
    number: u64,
    dns: Vec<Transaction>,
    app: Option<App>,
    /// Messages that were read, whole or in part.
    messages: u64,
    /// It is an ICMP error, which may quote a message; tshark looks into the quotation.
    quotes: bool,
}

#[test]
fn the_names_of_every_message() {
    let Some(corpus) = Corpus::find() else { return };
    let mut differences = Vec::new();
    let mut agreed = 0;
    for path in corpus.paths() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = fs::read_to_string(corpus.folder().join(format!("expected/{name}.json"))).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let messages = expected["dns"].as_array().cloned().unwrap_or_default();
        let mut theirs: BTreeMap<u64, Value> =
            messages.into_iter().map(|message| (message["n"].as_u64().unwrap(), message)).collect();
        for read in read(&path) {
            let message = theirs.remove(&read.number);
            if read.quotes {
                continue;
            }
            let ours = (questions(&read), read.dns.iter().map(|dns| dns.answers().len()).sum());
            let same = match &message {
                Some(message) => ours == wanted(message),
                None => read.messages == 0 || !read.app.is_some_and(is_dns),
            };
            if !same {
                differences.push((name.to_owned(), read.number, format!("{ours:?}, tshark {message:?}")));
            } else if message.is_some() {
                agreed += 1;
            }
        }
        let unread =
            theirs.into_iter().map(|(number, message)| (name.to_owned(), number, message.to_string()));
        differences.extend(unread);
    }
    println!("{agreed} messages agree");
    let intended = |(name, number, _): &&(String, u64, String)| {
        INTENDED.iter().any(|other| other.0 == name && other.1 == *number)
    };
    let surprises: Vec<_> = differences.iter().filter(|difference| !intended(difference)).collect();
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert_eq!(differences.len(), INTENDED.len(), "{differences:#?}");
    assert!(agreed > 390, "{agreed}");
}

/// Returns names as tshark prints them, and types.
fn questions(read: &Read) -> Vec<(String, u64)> {
    let questions = read.dns.iter().filter_map(|dns| Some((dns.query()?, dns.qtype?)));
    questions.map(|(name, qtype)| (unescaped(name), qtype.0.into())).collect()
}

/// Returns what tshark found: questions, and the answers that a response announces.
fn wanted(message: &Value) -> (Vec<(String, u64)>, usize) {
    let questions = message["questions"].as_array().unwrap().iter();
    let questions = questions.map(|question| {
        let name = question[0].as_str().unwrap();
        (if name == "<Root>" { "." } else { name }.to_owned(), question[1].as_u64().unwrap())
    });
    let answers = if message["response"] == true { message["answers"].as_u64().unwrap() as usize } else { 0 };
    (questions.collect(), answers)
}

/// Undoes \DDD, as UTF-8.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        match behind.get(..3).filter(|digits| first == b'\\' && digits.iter().all(u8::is_ascii_digit)) {
            Some(digits) => {
                bytes.push(digits.iter().fold(0, |value, digit| value * 10 + (digit - b'0')));
                rest = &behind[3..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_dns(app: App) -> bool {
    matches!(app, App::Dns | App::Mdns | App::Llmnr)
}

#[test]
fn tls_quic_and_http_are_recognised_with_their_client() {
    let Some(corpus) = Corpus::find() else { return };
    let (mut wrong, mut right) = (Vec::new(), 0);
    for path in corpus.paths() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = fs::read_to_string(corpus.folder().join(format!("expected/{name}.json"))).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        // Packets in which a client names the host that it wants.
        let mut requests: BTreeMap<u64, App> = BTreeMap::new();
        for hello in expected["tls_server_names"].as_array().into_iter().flatten() {
            let app = if hello["quic"] == true { App::Quic } else { App::Tls };
            requests.insert(hello["n"].as_u64().unwrap(), app);
        }
        for request in expected["http_hosts"].as_array().into_iter().flatten() {
            requests.insert(request["n"].as_u64().unwrap(), App::Http);
        }
        let mut flows: HashMap<FlowKey, (Conversation, Option<End>)> = HashMap::new();
        each_packet(&path, |number, packet| {
            let (conversation, client) = flows.entry(packet.key).or_default();
            let dir = if packet.sender == End::Low { Dir::Fwd } else { Dir::Rev };
            if let Some(found) = conversation.read(packet, dir, &mut L7Counts::default()) {
                client.get_or_insert(if found == dir { packet.sender } else { packet.sender.other() });
            }
            // Nothing is looked for in SCTP.
            let Some(app) = requests.get(&number).filter(|_| packet.key.proto() != Proto::SCTP) else {
                return;
            };
            if conversation.app() == Some(*app) && *client == Some(packet.sender) {
                right += 1;
            } else {
                wrong.push(format!("{name} {number}: {:?}, client {client:?}", conversation.app()));
            }
        });
    }
    println!("{right} requests recognised");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(right > 50, "{right}");
}

#[test]
fn other_libraries_read_the_same() {
    let Some(corpus) = Corpus::find() else { return };
    let mut tally = Tally::default();
    for message in messages(&corpus) {
        compare(&message, &mut tally);
    }
    println!("as captured: {tally:?}");
    assert!(tally.hickory > 300 && tally.parser > 250, "{tally:?}");
}

#[test]
fn other_libraries_read_damaged_messages_the_same() {
    let Some(corpus) = Corpus::find() else { return };
    let mut tally = Tally::default();
    let mut random = Random(0x5EED);
    for message in messages(&corpus) {
        for _ in 0..100 {
            let mut damaged = message.clone();
            for _ in 0..=random.below(4) {
                match random.below(4) {
                    0 => damaged.truncate(random.below(damaged.len()).max(12)),
                    1 => damaged.push(random.below(256) as u8),
                    _ => {
                        let at = random.below(damaged.len());
                        damaged[at] = random.below(256) as u8;
                    }
                }
            }
            compare(&damaged, &mut tally);
        }
    }
    println!("damaged: {tally:?}");
    assert!(tally.hickory > 10_000 && tally.parser > 5_000, "{tally:?}");
}

#[test]
fn up_to_the_bounds_messages_are_read_whole() {
    let long = [vec![63; 64], vec![63; 64], vec![63; 64], vec![61; 62], vec![0]].concat();
    assert_eq!(long.len(), 255);
    let short: &[u8] = &[1, b'a', 0];
    let mut tally = Tally::default();
    let within = [message(&[short; 16], 0), message(&[short], 256), message(&[&long], 1), chain(32)];
    for message in &within {
        compare(message, &mut tally);
    }
    assert_eq!((tally.hickory, tally.refused), (within.len() as u64, 0), "{tally:?}");
    for message in [message(&[short; 17], 0), message(&[short], 257), chain(33)] {
        let (counts, facts) = ours(&message);
        assert!(counts.dns_partial == 1 || facts.dns_truncated, "{counts:?}");
    }
}

/// Makes a response with these names asked for, and records of the root without a meaning.
fn message(names: &[&[u8]], records: u16) -> Vec<u8> {
    let mut message =
        [&[0, 7, 0x80, 0, 0, names.len() as u8, 0, 0][..], &records.to_be_bytes(), &[0, 0]].concat();
    for name in names {
        message.extend([name, &[0, 1, 0, 1][..]].concat());
    }
    for _ in 0..records {
        message.extend([0, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 9]);
    }
    message
}

/// Makes a response whose last record has a name of so many pointers, each to the name before.
fn chain(hops: u16) -> Vec<u8> {
    let mut message = message(&[&[1, b'a', 0]], 0);
    message[8..10].copy_from_slice(&hops.to_be_bytes());
    let mut before = 12u16;
    for _ in 0..hops {
        let at = message.len() as u16;
        message.extend([1, b'b']);
        message.extend((0xc000 | before).to_be_bytes());
        message.extend([0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 9]);
        before = at;
    }
    message
}

/// How many messages were compared, and how many of them both sides accept.
#[derive(Default, Debug)]
struct Tally {
    messages: u64,
    whole: u64,
    hickory: u64,
    hickory_data: u64,
    /// What hickory accepts, and we do not.
    refused: u64,
    parser: u64,
}

/// Compares what we read of a message with what the two other libraries read, where they accept it.
fn compare(bytes: &[u8], tally: &mut Tally) {
    let (counts, facts) = ours(bytes);
    assert_eq!(counts.dns_whole + counts.dns_partial + counts.dns_refused.total(), 1);
    tally.messages += 1;
    let hickory = Hickory::from_vec(bytes);
    if counts.dns_whole == 0 || facts.dns_truncated {
        if let Ok(theirs) = hickory {
            tally.refused += 1;
            assert!(is_refused(&theirs, bytes), "{counts:?} {facts:?} of {theirs:?} {bytes:02x?}");
        }
        return;
    }
    tally.whole += 1;
    if let Ok(theirs) = hickory {
        tally.hickory += 1;
        compare_with_hickory(&facts, &theirs, bytes, tally);
    }
    // On damaged messages printing its names may recurse; what was read whole has sound names only in
    // questions and records, and those in data are not printed.
    if let Ok(theirs) = dns_parser::Packet::parse(bytes) {
        tally.parser += 1;
        compare_with_parser(&facts, &theirs, bytes);
    }
}

/// Tells whether a message that hickory accepts has a reason not to be read whole by us.
fn is_refused(theirs: &Hickory, bytes: &[u8]) -> bool {
    let counts = bytes[4..12].chunks(2).map(|pair| usize::from(pair[0]) << 8 | usize::from(pair[1]));
    let counts: Vec<usize> = counts.collect();
    let (questions, records) = (counts[0], counts[1..].iter().sum::<usize>());
    let beyond_bounds = questions > 16 || records > 256;
    let nothing_but_a_rest = questions + records == 0 && bytes.len() > 12;
    // Data of a type that has a form here, while hickory takes any bytes for it.
    let mut all = theirs.answers.iter().chain(&theirs.authorities).chain(&theirs.additionals);
    let opaque = all.any(|record| {
        let is_known = !RecordType(record.record_type().into()).to_string().starts_with("TYPE");
        is_known && matches!(record.data, RData::Unknown { .. })
    });
    beyond_bounds || nothing_but_a_rest || opaque
}

fn compare_with_hickory(facts: &L7Facts, theirs: &Hickory, bytes: &[u8], tally: &mut Tally) {
    let is_response = bytes[2] & 0x80 != 0;
    let questions: Vec<_> =
        theirs.queries.iter().map(|query| (text(&query.name), u16::from(query.query_type))).collect();
    assert_questions(facts, &questions, is_response, bytes);
    let Some(first) = facts.dns.first().filter(|_| is_response) else { return };
    assert_eq!(first.id, theirs.metadata.id, "{bytes:02x?}");
    assert_eq!(first.rcode.unwrap().0 & 15, u16::from(theirs.metadata.response_code) & 15, "{bytes:02x?}");
    let records: Vec<&Record> = theirs.answers.iter().collect();
    let answers: Vec<_> = first.answers().collect();
    assert_eq!(answers.len(), records.len(), "{bytes:02x?}");
    for (answer, record) in answers.iter().zip(records) {
        assert_eq!(answer.name, text(&record.name), "{bytes:02x?}");
        assert_eq!(answer.rtype.0, u16::from(record.record_type()), "{bytes:02x?}");
        assert_eq!(answer.ttl, record.ttl, "{bytes:02x?}");
        if let Some(data) = data(&record.data) {
            assert_eq!(answer.data, data, "{bytes:02x?}");
            tally.hickory_data += 1;
        }
    }
}

fn compare_with_parser(facts: &L7Facts, theirs: &dns_parser::Packet<'_>, bytes: &[u8]) {
    let is_response = !theirs.header.query;
    let questions: Vec<_> = theirs
        .questions
        .iter()
        .map(|question| (plain(&question.qname.to_string()), question.qtype as u16))
        .collect();
    let printable = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !questions.iter().all(|(name, _)| printable(name)) {
        return;
    }
    let ours = |name: &str| name.replace("\\.", ".");
    let found: Vec<_> = asked(facts).map(|(name, qtype)| (ours(name), qtype)).collect();
    for question in &questions {
        assert!(found.iter().any(|found| same_question(found, question)), "{question:?} {bytes:02x?}");
    }
    let Some(first) = facts.dns.first().filter(|_| is_response) else { return };
    let header = &theirs.header;
    let bits =
        (header.authoritative, header.truncated, header.recursion_available, header.authenticated_data);
    let our_bits = (first.aa.unwrap(), first.tc.unwrap(), first.ra.unwrap(), first.ad.unwrap());
    assert_eq!(our_bits, bits, "{bytes:02x?}");
    assert_eq!(first.answers().len(), theirs.answers.len(), "{bytes:02x?}");
    for (answer, record) in first.answers().zip(&theirs.answers) {
        // It takes a TTL with the top bit for 0 (RFC 2181, section 8); we report what was sent.
        assert_eq!(if answer.ttl >> 31 == 1 { 0 } else { answer.ttl }, record.ttl, "{bytes:02x?}");
        match &record.data {
            dns_parser::RData::A(a) => assert_eq!(answer.data, a.0.to_string()),
            dns_parser::RData::AAAA(aaaa) => assert_eq!(answer.data, aaaa.0.to_string()),
            dns_parser::RData::MX(mx) => assert!(answer.data.starts_with(&format!("{} ", mx.preference))),
            dns_parser::RData::SRV(srv) => {
                let numbers = format!("{} {} {} ", srv.priority, srv.weight, srv.port);
                assert!(answer.data.starts_with(&numbers), "{bytes:02x?}");
            }
            dns_parser::RData::SOA(soa) => assert!(answer.data.ends_with(&format!(
                " {} {} {} {} {}",
                soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum_ttl
            ))),
            _ => {}
        }
    }
}

/// dns-parser prints the root as nothing.
fn plain(name: &str) -> String {
    if name.is_empty() { ".".to_owned() } else { name.to_owned() }
}

fn asked(facts: &L7Facts) -> impl Iterator<Item = (&str, u16)> {
    facts.dns.iter().filter_map(|dns| Some((dns.query()?, dns.qtype?.0)))
}

fn same_question(one: &(String, u16), other: &(String, u16)) -> bool {
    one.1 == other.1 && one.0.eq_ignore_ascii_case(&other.0)
}

/// Each question of a response makes a transaction; in a query the same question twice is a repeat.
fn assert_questions(facts: &L7Facts, questions: &[(String, u16)], is_response: bool, bytes: &[u8]) {
    let found: Vec<_> = asked(facts).map(|(name, qtype)| (name.to_owned(), qtype)).collect();
    if is_response {
        assert_eq!(found, questions, "{bytes:02x?}");
        return;
    }
    for question in questions {
        assert!(found.iter().any(|found| same_question(found, question)), "{question:?} {bytes:02x?}");
    }
    let queries: u32 = facts.dns.iter().map(|dns| dns.queries).sum();
    assert_eq!(queries as usize, questions.len(), "{bytes:02x?}");
}

/// Writes a name by the rules of definitions.md.
fn text(name: &Name) -> String {
    let labels = name.iter().map(|label| {
        let letters = label.iter().map(|&byte| match byte {
            b'.' | b'\\' => format!("\\{}", char::from(byte)),
            0x21..=0x7E => char::from(byte).to_string(),
            _ => format!("\\{byte:03}"),
        });
        letters.collect::<String>()
    });
    plain(&labels.collect::<Vec<_>>().join("."))
}

/// Writes data of the types that have one obvious form.
fn data(data: &RData) -> Option<String> {
    Some(match data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(aaaa) => aaaa.0.to_string(),
        RData::CNAME(name) => text(&name.0),
        RData::NS(name) => text(&name.0),
        RData::PTR(name) => text(&name.0),
        RData::MX(mx) => format!("{} {}", mx.preference, text(&mx.exchange)),
        RData::SRV(srv) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, text(&srv.target))
        }
        RData::SOA(soa) => {
            let numbers = [soa.serial, soa.refresh as u32, soa.retry as u32, soa.expire as u32, soa.minimum];
            let numbers = numbers.map(|number| number.to_string()).join(" ");
            format!("{} {} {numbers}", text(&soa.mname), text(&soa.rname))
        }
        RData::TXT(txt) => {
            let strings = txt.txt_data.iter().map(|string| {
                let letters = string.iter().map(|&byte| match byte {
                    b'"' | b'\\' => format!("\\{}", char::from(byte)),
                    0x20..=0x7E => char::from(byte).to_string(),
                    _ => format!("\\{byte:03}"),
                });
                format!("\"{}\"", letters.collect::<String>())
            });
            strings.collect::<Vec<_>>().join(" ")
        }
        _ => return None,
    })
}

/// Reads one message by itself, sent by a server.
fn ours(bytes: &[u8]) -> (L7Counts, L7Facts) {
    let server = AddrWords::v4([192, 0, 2, 53]);
    let client = AddrWords::v4([192, 0, 2, 1]);
    let (vlans, tunnel) = (VlanStack::default(), TunnelKey::default());
    let (key, sender) = FlowKey::new(4, server, client, Proto::UDP, Some((53, 40000)), vlans, tunnel);
    let facts = Facts {
        key,
        sender,
        time: Timestamp::EPOCH,
        table_time: TableTime::default(),
        wire_len: 0,
        ip_len: 0,
        payload_len: bytes.len() as u64,
        ttl: 64,
        dscp: 0,
        fragment: Fragment::No,
        icmp: None,
        tcp: None,
        bad_checksum: false,
    };
    let message = Some(Message { bytes, seq: 0, complete: true });
    let packet = Packet { facts: &facts, payload: bytes, message, labels: &Labels::default() };
    let (mut conversation, mut counts) = (Conversation::default(), L7Counts::default());
    conversation.read(&packet, Dir::Fwd, &mut counts);
    assert!(conversation.heap_bytes() <= 4096);
    (counts, conversation.finish(true))
}

/// Returns the UDP messages of the corpus on DNS ports.
fn messages(corpus: &Corpus) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for path in corpus.paths() {
        each_packet(&path, |_, packet| {
            let ports = [packet.key.port_or_zero(End::Low), packet.key.port_or_zero(End::High)];
            let is_dns =
                packet.key.proto() == Proto::UDP && ports.iter().any(|port| [53, 5353, 5355].contains(port));
            if let Some(message) = packet.message.filter(|message| is_dns && message.bytes.len() >= 12) {
                messages.push(message.bytes.to_vec());
            }
        });
    }
    assert!(messages.len() > 350, "{}", messages.len());
    messages
}

/// Xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// Reads a capture with one conversation per flow, and takes the facts after each packet.
fn read(path: &Path) -> Vec<Read> {
    let mut found = Vec::new();
    let mut flows: HashMap<FlowKey, Conversation> = HashMap::new();
    each_packet(path, |number, packet| {
        let conversation = flows.entry(packet.key).or_default();
        let mut counts = L7Counts::default();
        let dir = if packet.sender == End::Low { Dir::Fwd } else { Dir::Rev };
        conversation.read(packet, dir, &mut counts);
        let facts = conversation.finish(true);
        found.push(Read {
            number,
            dns: facts.dns,
            app: conversation.app(),
            messages: counts.dns_whole + counts.dns_partial,
            quotes: packet.key.proto().is_icmp(),
        });
    });
    found
}

fn each_packet(path: &Path, mut each: impl FnMut(u64, &Packet<'_>)) {
    let mut source = FileSource::open(&[path]).unwrap();
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut number = 0;
    while let Ok(Next::Frame(frame)) = source.next(Duration::ZERO) {
        number += 1;
        decoder.decode(&frame, |packet| each(number, &packet));
    }
    decoder.finish(|packet| each(number, &packet));
}
