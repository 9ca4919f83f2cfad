//! What a record says of a DNS question (record.md, field `dns`).

use serde::{Serialize, Serializer};

use super::words::{DnsClass, Rcode, RecordType};

/// A DNS question with what answered it (record.md, field `dns`); absent in JSON is what is unknown.
///
/// A question that was never answered has no `rcode`, no `rtt_us` and none of the flags of an answer.
/// A response that nobody asked for has no `queries`; where it names no question, as in multicast DNS,
/// it has no `query` either.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Transaction {
    /// The message id.
    pub id: u16,
    /// The name asked for, in the notation of definitions.md ("DNS").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Box<str>>,
    /// The type asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qtype: Option<RecordType>,
    /// The class asked for; in multicast DNS without its top bit (RFC 6762, section 5.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qclass: Option<DnsClass>,
    /// The response code, with the upper bits of an OPT record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcode: Option<Rcode>,
    /// The response is authoritative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aa: Option<bool>,
    /// The response was truncated by its sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tc: Option<bool>,
    /// Recursion is desired: by the query, or by the response where no query was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rd: Option<bool>,
    /// The responder offers recursion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ra: Option<bool>,
    /// The responder says that the data is authentic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ad: Option<bool>,
    /// The records of the answer section, without OPT.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// Nanoseconds from the first query to the response; written as `rtt_us`, in microseconds.
    #[serde(rename = "rtt_us", skip_serializing_if = "Option::is_none", serialize_with = "as_micros")]
    pub rtt_nanos: Option<u64>,
    /// How often the question was sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub queries: u32,
    /// What carried it.
    pub transport: Transport,
}

/// A record of an answer section.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The record's owner, in the notation of definitions.md ("DNS").
    pub name: Box<str>,
    /// The record's type.
    #[serde(rename = "type")]
    pub rtype: RecordType,
    /// Time to live in seconds, as it was sent.
    pub ttl: u32,
    /// The record's data as a zone file has it (the format of each type: see `rdata.rs`), without
    /// trailing dots of names; `\# length hex` (RFC 3597) where no other form is known.
    pub data: Box<str>,
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

fn as_micros<S: Serializer>(nanos: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    nanos.map(|nanos| nanos as f64 / 1e3).serialize(serializer)
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_instead_of_null() {
        let mut transaction = Transaction { id: 7, ..Transaction::default() };
        assert_eq!(serde_json::to_string(&transaction).unwrap(), r#"{"id":7,"transport":"udp"}"#);

        transaction.query = Some("a.example".into());
        transaction.qtype = Some(RecordType(1));
        transaction.qclass = Some(DnsClass(1));
        transaction.rcode = Some(Rcode(0));
        transaction.aa = Some(false);
        transaction.rtt_nanos = Some(1_500_250);
        transaction.queries = 1;
        transaction.answers = vec![Answer {
            name: "a.example".into(),
            rtype: RecordType(1),
            ttl: 60,
            data: "192.0.2.1".into(),
        }];
        assert_eq!(
            serde_json::to_string(&transaction).unwrap(),
            concat!(
                r#"{"id":7,"query":"a.example","qtype":"A","qclass":"IN","rcode":"NOERROR","aa":false,"#,
                r#""answers":[{"name":"a.example","type":"A","ttl":60,"data":"192.0.2.1"}],"#,
                r#""rtt_us":1500.25,"queries":1,"transport":"udp"}"#
            )
        );
    }
}
