//! DNS transactions in JSON, member by member: the way through serde takes three times as long.

use std::fmt::Display;

use super::line::Append;
use super::{digits, json, spell};
use crate::l7::{Answer, Transaction, Transport};

/// Appends a transaction as an object: what serde says, with its time as times are everywhere.
pub(super) fn transaction(out: &mut impl Append, dns: &Transaction) {
    out.block(b"{\"id\":");
    digits::integer(out, dns.id);
    if let Some(query) = dns.query() {
        out.block(b",\"query\":\"");
        json::between_quotes(out, query);
        out.byte(b'"');
    }
    if let Some(qtype) = dns.qtype {
        out.block(b",\"qtype\":\"");
        word(out, qtype.mnemonic(), qtype);
        out.byte(b'"');
    }
    if let Some(qclass) = dns.qclass {
        out.block(b",\"qclass\":\"");
        word(out, qclass.mnemonic(), qclass);
        out.byte(b'"');
    }
    if let Some(rcode) = dns.rcode {
        out.block(b",\"rcode\":\"");
        word(out, rcode.mnemonic(), rcode);
        out.byte(b'"');
    }
    flag(out, b"aa", dns.aa);
    flag(out, b"tc", dns.tc);
    flag(out, b"rd", dns.rd);
    flag(out, b"ra", dns.ra);
    flag(out, b"ad", dns.ad);
    if !dns.answers().is_empty() {
        out.block(b",\"answers\":");
        spell::list(out, dns.answers(), answer);
    }
    if let Some(nanos) = dns.rtt_nanos() {
        out.block(b",\"rtt_us\":");
        spell::micros(out, nanos);
    }
    if dns.queries > 0 {
        out.block(b",\"queries\":");
        digits::integer(out, dns.queries);
    }
    out.block(match dns.transport {
        Transport::Udp => b",\"transport\":\"udp\"}",
        Transport::Tcp => b",\"transport\":\"tcp\"}",
    });
}

/// Appends an answer as an object, in as few pieces as can be.
fn answer(out: &mut impl Append, answer: Answer<'_>) {
    out.block(b"{\"name\":\"");
    json::between_quotes(out, answer.name);
    out.block(b"\",\"type\":\"");
    word(out, answer.rtype.mnemonic(), answer.rtype);
    out.block(b"\",\"ttl\":");
    digits::integer(out, answer.ttl);
    out.block(b",\"data\":\"");
    json::between_quotes(out, answer.data);
    out.block(b"\"}");
}

/// Appends a mnemonic; where none is assigned, what `unknown` is displayed as.
#[inline]
fn word(out: &mut impl Append, mnemonic: Option<&str>, unknown: impl Display) {
    match mnemonic {
        Some(mnemonic) => out.bytes(mnemonic.as_bytes()),
        None => out.bytes(unknown.to_string().as_bytes()),
    }
}

/// Appends a flag as a member, in one piece.
#[inline(always)]
fn flag(out: &mut impl Append, &[first, second]: &[u8; 2], flag: Option<bool>) {
    if let Some(flag) = flag {
        let mut member = if flag { *b",\"  \":true\0" } else { *b",\"  \":false" };
        (member[2], member[3]) = (first, second);
        out.front(&member, if flag { 10 } else { 11 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;
    use crate::l7::{DnsClass, Rcode, RecordType};
    use crate::time::Timestamp;

    fn spelled(list: &[Transaction]) -> String {
        let mut out = Vec::new();
        spell::list(&mut out, list, transaction);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_known_and_everything_known() {
        assert_eq!(spelled(&[]), "[]");
        let mut bare = Transaction::new(7, "");
        bare.transport = Transport::Tcp;
        let mut whole = Transaction::new(65535, "a.example");
        (whole.qtype, whole.qclass) = (Some(RecordType(28)), Some(DnsClass(32)));
        whole.rcode = Some(Rcode(3));
        (whole.aa, whole.tc, whole.rd) = (Some(false), Some(true), Some(true));
        (whole.ra, whole.ad) = (Some(false), Some(true));
        [0, 10].into_iter().for_each(|nanos| whole.ask(Timestamp::from_nanos(nanos)));
        whole.respond(Timestamp::from_nanos(366_000));
        for _ in 0..2 {
            let (name, data) = ("a.example", "say \"no\"");
            whole.push(Answer { name, rtype: RecordType(65280), ttl: 60, data });
        }
        assert_eq!(
            spelled(&[bare, whole]),
            concat!(
                r#"[{"id":7,"transport":"tcp"},"#,
                r#"{"id":65535,"query":"a.example","qtype":"AAAA","qclass":"CLASS32","rcode":"NXDOMAIN","#,
                r#""aa":false,"tc":true,"rd":true,"ra":false,"ad":true,"#,
                r#""answers":[{"name":"a.example","type":"TYPE65280","ttl":60,"data":"say \"no\""},"#,
                r#"{"name":"a.example","type":"TYPE65280","ttl":60,"data":"say \"no\""}],"#,
                r#""rtt_us":366.000,"queries":2,"transport":"udp"}]"#
            )
        );
    }

    fn some() -> impl Strategy<Value = Vec<Transaction>> {
        let answer = (any::<String>(), any::<u16>(), any::<u32>(), any::<String>());
        let question = (any::<u16>(), any::<String>(), of(0..300u16), of(0..5u16), of(0..30u16));
        let flags = prop::array::uniform5(of(any::<bool>()));
        let rest = (prop::collection::vec(answer, 0..3), of(0..1i64 << 50), 0..3u32, any::<bool>());
        let one = (question, flags, rest).prop_map(|(question, [aa, tc, rd, ra, ad], rest)| {
            let (id, query, qtype, qclass, rcode) = question;
            let (answers, response, queries, is_tcp) = rest;
            let mut transaction = Transaction::new(id, &query);
            transaction.qtype = qtype.map(RecordType);
            transaction.qclass = qclass.map(DnsClass);
            transaction.rcode = rcode.map(Rcode);
            (transaction.aa, transaction.tc, transaction.rd) = (aa, tc, rd);
            (transaction.ra, transaction.ad) = (ra, ad);
            transaction.transport = if is_tcp { Transport::Tcp } else { Transport::Udp };
            (0..queries).for_each(|_| transaction.ask(Timestamp::EPOCH));
            response.into_iter().for_each(|nanos| transaction.respond(Timestamp::from_nanos(nanos)));
            for (name, rtype, ttl, data) in &answers {
                transaction.push(Answer { name, rtype: RecordType(*rtype), ttl: *ttl, data });
            }
            transaction
        });
        prop::collection::vec(one, 0..3)
    }

    proptest! {
        #[test]
        fn says_what_serde_says(list in some()) {
            let read: serde_json::Value = serde_json::from_str(&spelled(&list)).unwrap();
            prop_assert_eq!(read, serde_json::to_value(&list).unwrap());
        }
    }
}
