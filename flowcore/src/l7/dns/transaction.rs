//! What a record says of a DNS question (record.md, field `dns`).

use std::fmt;

use serde::{Serialize, Serializer};

use super::answers::{Answer, Answers, HEAD_LEN, head};
use super::text::Text;
use super::words::{DnsClass, Rcode, RecordType};
use crate::time::Timestamp;

/// A DNS question with what answered it (record.md, field `dns`); absent in JSON is what is unknown.
///
/// A question that was never answered has no `rcode`, no `rtt_us` and none of the flags of an answer.
/// A response that nobody asked for has no `queries`; where it names no question, as in multicast DNS,
/// it has no `query` either. Takes 64 bytes, and one piece of memory for all its texts.
#[derive(Clone, Default, PartialEq)]
pub struct Transaction {
    /// The message id.
    pub id: u16,
    /// The type asked for.
    pub qtype: Option<RecordType>,
    /// The class asked for; in multicast DNS without its top bit (RFC 6762, section 5.4).
    pub qclass: Option<DnsClass>,
    /// The response code, with the upper bits of an OPT record.
    pub rcode: Option<Rcode>,
    /// The response is authoritative.
    pub aa: Option<bool>,
    /// The response was truncated by its sender.
    pub tc: Option<bool>,
    /// Recursion is desired: by the query, or by the response where no query was seen.
    pub rd: Option<bool>,
    /// The responder offers recursion.
    pub ra: Option<bool>,
    /// The responder says that the data is authentic.
    pub ad: Option<bool>,
    /// What carried it.
    pub transport: Transport,
    /// How often the question was sent.
    pub queries: u32,
    responses: u32,
    /// When the first query came, in nanoseconds; once there is a response, the time between them.
    nanos: i64,
    /// The name asked for, behind it the answers.
    texts: Vec<u8>,
    /// Length of that name, 0 for none: the root is `.`.
    query_len: u16,
    answers: u16,
}

impl Transaction {
    /// Memory that is held ready for an answer: texts that grow are moved.
    pub(super) const SPARE: usize = 32;

    /// Makes a transaction with neither queries nor responses; an empty name is none.
    pub fn new(id: u16, query: &str) -> Transaction {
        let mut transaction = Transaction { id, ..Transaction::default() };
        transaction.write_query(MOST, query.len(), |out| out.bytes(query.as_bytes()));
        transaction
    }

    /// Counts a query that came at a time; all queries come before the response.
    pub fn ask(&mut self, at: Timestamp) {
        if self.queries == 0 {
            self.nanos = at.as_nanos();
        }
        self.queries = self.queries.saturating_add(1);
    }

    /// Counts a response that came at a time.
    pub fn respond(&mut self, at: Timestamp) {
        if self.responses == 0 && self.queries > 0 {
            self.nanos = at.nanos_since(Timestamp::from_nanos(self.nanos)).cast_signed();
        }
        self.responses = self.responses.saturating_add(1);
    }

    /// Adds an answer; one whose name or data is longer than 65,535 bytes is left out.
    pub fn push(&mut self, answer: Answer<'_>) {
        let Answer { name, rtype, ttl, data } = answer;
        let name = if Some(name) == self.query() { "" } else { name };
        let texts = [name, data].map(str::as_bytes);
        self.write_answer(MOST, rtype, ttl, |out| out.bytes(texts[0]), |out| out.bytes(texts[1]));
    }

    /// Returns the name asked for, in the notation of definitions.md ("DNS").
    pub fn query(&self) -> Option<&str> {
        std::str::from_utf8(self.query_text()).ok().filter(|query| !query.is_empty())
    }

    /// Returns the records of the answer section, without OPT.
    pub fn answers(&self) -> Answers<'_> {
        let (query, answers) = self.texts.split_at_checked(self.query_len.into()).unwrap_or_default();
        Answers::new(query, answers, self.answers)
    }

    /// Returns the nanoseconds from the first query to the response; written as `rtt_us`, in microseconds.
    pub fn rtt_nanos(&self) -> Option<u64> {
        (self.responses > 0 && self.queries > 0).then_some(self.nanos.cast_unsigned())
    }

    /// Tells whether no response has come.
    pub(super) fn is_open(&self) -> bool {
        self.responses == 0
    }

    /// Tells whether another response is due, for the question was sent more than once.
    pub(super) fn may_repeat(&self) -> bool {
        self.responses < self.queries
    }

    /// Returns the name asked for as bytes, none where there is none.
    pub(super) fn query_text(&self) -> &[u8] {
        self.texts.get(..self.query_len.into()).unwrap_or_default()
    }

    /// Writes the name, of about `len` bytes; `None` if it has more than `limit`.
    pub(super) fn write_query(
        &mut self,
        limit: usize,
        len: usize,
        write: impl FnOnce(&mut Text),
    ) -> Option<()> {
        let mut out =
            Text::behind(Vec::with_capacity(len.saturating_add(Transaction::SPARE).min(limit)), limit);
        write(&mut out);
        self.query_len = u16::try_from(out.len()).ok().filter(|_| !out.is_too_long())?;
        self.texts = out.into_bytes();
        Some(())
    }

    /// Adds an answer whose texts `name` and `data` write; a name that is not written is that of the query.
    ///
    /// Returns what `data` returns; `None`, and nothing is added, if the two have more than `limit` bytes.
    pub(super) fn write_answer<T>(
        &mut self,
        limit: usize,
        rtype: RecordType,
        ttl: u32,
        name: impl FnOnce(&mut Text),
        data: impl FnOnce(&mut Text) -> T,
    ) -> Option<T> {
        let start = self.texts.len();
        let limit = (start + HEAD_LEN).saturating_add(limit);
        let mut out = Text::behind(std::mem::take(&mut self.texts), limit);
        out.bytes(&[0; HEAD_LEN]);
        let name_at = out.len();
        name(&mut out);
        let data_at = out.len();
        out.begin();
        let done = data(&mut out);
        let end = out.len();
        let head = head(rtype, ttl, data_at - name_at, end - data_at).filter(|_| !out.is_too_long());
        self.texts = out.into_bytes();
        let place = self.texts.get_mut(start..).and_then(<[u8]>::first_chunk_mut);
        let (Some(place), Some(head), Some(answers)) = (place, head, self.answers.checked_add(1)) else {
            self.texts.truncate(start);
            return None;
        };
        *place = head;
        self.answers = answers;
        Some(done)
    }

    /// Gives back memory that no further answer will need.
    pub(super) fn trim(&mut self) {
        if self.texts.capacity() - self.texts.len() > Transaction::SPARE {
            self.texts.shrink_to_fit();
        }
    }

    /// Returns how many bytes its texts and answers have.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns how many bytes of memory they hold.
    pub(super) fn held(&self) -> usize {
        self.texts.capacity()
    }
}

impl Serialize for Transaction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written::from(self).serialize(serializer)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Written::from(self).fmt(f)
    }
}

/// What carried a DNS message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
}

/// A transaction with the names and in the order of record.md.
#[derive(Debug, Serialize)]
struct Written<'a> {
    id: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qtype: Option<RecordType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qclass: Option<DnsClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<Rcode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aa: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rd: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ra: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ad: Option<bool>,
    #[serde(skip_serializing_if = "Answers::is_empty")]
    answers: Answers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<f64>,
    #[serde(skip_serializing_if = "is_zero")]
    queries: u32,
    transport: Transport,
}

impl<'a> From<&'a Transaction> for Written<'a> {
    fn from(transaction: &'a Transaction) -> Self {
        let Transaction { id, qtype, qclass, rcode, aa, tc, rd, ra, ad, transport, queries, .. } =
            *transaction;
        let rtt_us = transaction.rtt_nanos().map(|nanos| nanos as f64 / 1e3);
        let (query, answers) = (transaction.query(), transaction.answers());
        Written { id, query, qtype, qclass, rcode, aa, tc, rd, ra, ad, answers, rtt_us, queries, transport }
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The most that a transaction's texts may take.
const MOST: usize = u32::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_instead_of_null() {
        let mut transaction = Transaction::new(7, "");
        assert_eq!(serde_json::to_string(&transaction).unwrap(), r#"{"id":7,"transport":"udp"}"#);

        transaction = Transaction::new(7, "a.example");
        transaction.qtype = Some(RecordType(1));
        transaction.qclass = Some(DnsClass(1));
        transaction.rcode = Some(Rcode(0));
        transaction.aa = Some(false);
        transaction.ask(Timestamp::from_nanos(1000));
        transaction.respond(Timestamp::from_nanos(1_501_250));
        for (name, rtype, data) in [("a.example", 5, "b.example"), ("b.example", 1, "192.0.2.1")] {
            transaction.push(Answer { name, rtype: RecordType(rtype), ttl: 60, data });
        }
        assert_eq!(
            serde_json::to_string(&transaction).unwrap(),
            concat!(
                r#"{"id":7,"query":"a.example","qtype":"A","qclass":"IN","rcode":"NOERROR","aa":false,"#,
                r#""answers":[{"name":"a.example","type":"CNAME","ttl":60,"data":"b.example"},"#,
                r#"{"name":"b.example","type":"A","ttl":60,"data":"192.0.2.1"}],"#,
                r#""rtt_us":1500.25,"queries":1,"transport":"udp"}"#
            )
        );
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let long = "x".repeat(65_536);
        let mut transaction = Transaction::new(7, &long);
        assert_eq!(transaction.query(), None);
        for data in [&long, &long[1..]] {
            transaction.push(Answer { name: "", rtype: RecordType(16), ttl: 0, data });
        }
        let lens: Vec<_> = transaction.answers().map(|answer| answer.data.len()).collect();
        assert_eq!((lens, transaction.answers().len()), (vec![65_535], 1));
        let mut written = |limit| {
            transaction.write_answer(limit, RecordType(1), 0, |out| out.byte(b'a'), |out| out.bytes(b"bc"))
        };
        assert_eq!((written(2), written(3)), (None, Some(())));
        assert_eq!(transaction.answers().len(), 2);
    }

    #[test]
    fn small() {
        assert_eq!(size_of::<Transaction>(), 64);
    }
}
