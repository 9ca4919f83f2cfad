//! The answers of a transaction, as bytes: for each a head of ten bytes, its name and its data.
//!
//! Most transactions have one answer or none, and most answers have the name that was asked for. So a list
//! with texts of their own would be mostly overhead.

use std::fmt;

use serde::{Serialize, Serializer};

use super::words::RecordType;

/// A record of an answer section.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Answer<'a> {
    /// The record's owner, in the notation of definitions.md ("DNS").
    pub name: &'a str,
    /// The record's type.
    #[serde(rename = "type")]
    pub rtype: RecordType,
    /// Time to live in seconds, as it was sent.
    pub ttl: u32,
    /// The record's data as a zone file has it (the format of each type: see `rdata.rs`), without
    /// trailing dots of names; `\# length hex` (RFC 3597) where no other form is known.
    pub data: &'a str,
}

/// The answers of a transaction, in the order of the message.
#[derive(Clone)]
pub struct Answers<'a> {
    /// The name of all answers that have none of their own.
    query: &'a [u8],
    rest: &'a [u8],
    left: u16,
}

impl<'a> Answers<'a> {
    pub(super) fn new(query: &'a [u8], answers: &'a [u8], count: u16) -> Answers<'a> {
        Answers { query, rest: answers, left: count }
    }

    /// Tells whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let (&[r0, r1, t0, t1, t2, t3, n0, n1, d0, d1], rest) = self.rest.split_first_chunk::<HEAD_LEN>()?;
        let (name, rest) = rest.split_at_checked(u16::from_be_bytes([n0, n1]).into())?;
        let (data, rest) = rest.split_at_checked(u16::from_be_bytes([d0, d1]).into())?;
        (self.rest, self.left) = (rest, self.left.saturating_sub(1));
        Some(Answer {
            name: text(if name.is_empty() { self.query } else { name }),
            rtype: RecordType(u16::from_be_bytes([r0, r1])),
            ttl: u32::from_be_bytes([t0, t1, t2, t3]),
            data: text(data),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Answers<'_> {}

impl fmt::Debug for Answers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl Serialize for Answers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.clone())
    }
}

/// Makes the head of an answer: its type, its TTL and the lengths of its texts; `None` if one is too long.
pub(super) fn head(rtype: RecordType, ttl: u32, name: usize, data: usize) -> Option<[u8; HEAD_LEN]> {
    let [r0, r1] = rtype.0.to_be_bytes();
    let [t0, t1, t2, t3] = ttl.to_be_bytes();
    let [n0, n1] = u16::try_from(name).ok()?.to_be_bytes();
    let [d0, d1] = u16::try_from(data).ok()?.to_be_bytes();
    Some([r0, r1, t0, t1, t2, t3, n0, n1, d0, d1])
}

/// What was written as text is text.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

pub(super) const HEAD_LEN: usize = 10;
