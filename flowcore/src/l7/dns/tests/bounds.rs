//! Caps on memory and work, and messages that try them.

use proptest::prelude::*;

use super::*;
use crate::l7::dns::message::Reader;
use crate::l7::dns::name::Steps;

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
    assert_eq!(facts.dns[0].answers().len(), 67);
    assert_eq!(facts.dns[0].rcode, Some(Rcode(0)));
}

#[test]
fn a_usual_answer_takes_little_memory() {
    let mut flow = resolver();
    flow.send(Dir::Fwd, 0, &query(1, "www.example.com"));
    flow.send(Dir::Rev, 0, &answer(1, "www.example.com"));
    assert!(flow.conversation.heap_bytes() <= 160, "{}", flow.conversation.heap_bytes());
    flow.finish(false);
    assert!(flow.conversation.heap_bytes() <= 48);
}

/// Messages that are made to take as much work as they can.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
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
        let held: usize = flow.finish(true).dns.iter().map(|dns| dns.answers().len()).sum();
        prop_assert!(held <= 4);
    }
}
