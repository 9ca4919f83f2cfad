//! What is sent: lines with a sequence number each, and where they wait.

use std::io;

use serde::Deserialize;

pub use crate::spool::Batch;

/// Where lines wait until they are sent.
pub trait Backlog {
    /// Returns the lines that come next, none if there are none at the moment. What was returned is not returned again
    /// by this reader; what is not [`done`](Backlog::done) is returned by the next one.
    ///
    /// It has at most so many lines, and so many bytes unless it has only one.
    ///
    /// # Errors
    /// What the system says; it is asked again. Of the kind [`NotFound`](io::ErrorKind::NotFound) where that has no use,
    /// and the backlog has to be opened anew.
    fn next_batch(&mut self, limit_records: u64, limit_bytes: usize) -> io::Result<Option<Batch>>;

    /// Notes that a batch and all before it need not be sent again.
    ///
    /// # Errors
    /// What the system says.
    fn done(&mut self, batch: &Batch) -> io::Result<()>;
}

impl Backlog for crate::spool::Backlog {
    fn next_batch(&mut self, limit_records: u64, limit_bytes: usize) -> io::Result<Option<Batch>> {
        self.next_batch(limit_records, limit_bytes)
    }

    fn done(&mut self, batch: &Batch) -> io::Result<()> {
        self.done(batch)
    }
}

/// What a line says of itself.
#[derive(Deserialize, Default)]
pub(super) struct Head<'a> {
    /// The type of the record.
    #[serde(rename = "type", borrow)]
    pub kind: Option<&'a str>,
    /// The time of the record.
    #[serde(borrow)]
    pub timestamp: Option<&'a str>,
    /// The spool that numbered it.
    #[serde(borrow)]
    pub instance: Option<&'a str>,
    /// Its number there.
    pub seq: Option<u64>,
    /// In a gap, the first number of those missing.
    first_seq: Option<u64>,
    /// In a gap, the last one.
    last_seq: Option<u64>,
}

impl Batch {
    /// Returns the lines, without their newlines.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }

    /// Returns the number of lines.
    pub(super) fn count(&self) -> u64 {
        self.records + self.gaps
    }

    /// Puts another one behind it.
    pub(super) fn append(&mut self, next: Batch) {
        self.last_seq = next.last_seq;
        self.records += next.records;
        self.gaps += next.gaps;
        self.lines.extend_from_slice(&next.lines);
    }

    /// Cuts it in two, or returns nothing if it has only one line.
    pub(super) fn halves(&self) -> Option<(Batch, Batch)> {
        let half = self.each().count() / 2;
        let ends = self.lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let (first, second) = self.lines.split_at_checked(ends.take(half).last()?)?;
        let (first, second) = (Batch::of(first), Batch::of(second));
        Some((Batch { first_seq: self.first_seq, ..first }, Batch { last_seq: self.last_seq, ..second }))
    }

    /// Makes one of lines, by what they say.
    fn of(lines: &[u8]) -> Batch {
        let mut batch = Batch { lines: lines.to_vec(), ..Batch::default() };
        let mut first = None;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let head = Head::of(line);
            match head.kind {
                Some("gap") => batch.gaps += 1,
                _ => batch.records += 1,
            }
            first = first.or(head.seq).or(head.first_seq);
            batch.last_seq = head.seq.or(head.last_seq).unwrap_or(batch.last_seq);
        }
        batch.first_seq = first.unwrap_or_default();
        batch
    }

    /// Returns the name of the spool, as the first line has it.
    pub(super) fn instance(&self) -> Option<&str> {
        self.each().next().and_then(|line| Head::of(line).instance)
    }
}

impl<'a> Head<'a> {
    /// Reads it from a JSON line; what is not there or not plain text stays empty.
    pub(super) fn of(line: &'a [u8]) -> Head<'a> {
        serde_json::from_slice(line).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(seqs: &[u64]) -> Batch {
        let lines =
            seqs.iter().map(|seq| format!("{{\"type\":\"flow\",\"instance\":\"ab\",\"seq\":{seq}}}\n"));
        Batch {
            first_seq: seqs[0],
            last_seq: *seqs.last().unwrap(),
            records: seqs.len() as u64,
            gaps: 0,
            lines: lines.collect::<String>().into_bytes(),
        }
    }

    #[test]
    fn halves_are_the_whole() {
        assert_eq!(batch(&[7]).halves(), None);
        let (first, second) = batch(&[3, 4, 9]).halves().unwrap();
        assert_eq!((first, second), (batch(&[3]), batch(&[4, 9])));
        assert_eq!(batch(&[3]).instance(), Some("ab"));
        let mut joined = batch(&[3]);
        joined.append(batch(&[4, 9]));
        assert_eq!(joined, batch(&[3, 4, 9]));
    }

    #[test]
    fn gaps_are_no_records() {
        let mut lines = batch(&[1, 2]).lines;
        lines.extend_from_slice(
            b"{\"type\":\"gap\",\"instance\":\"ab\",\"records\":6,\"first_seq\":3,\"last_seq\":8}\n",
        );
        let whole = Batch { first_seq: 1, last_seq: 8, records: 2, gaps: 1, lines };
        let (first, second) = whole.halves().unwrap();
        assert_eq!(first, batch(&[1]));
        assert_eq!((second.first_seq, second.last_seq, second.records, second.gaps), (2, 8, 1, 1));
        let (_, gap) = second.halves().unwrap();
        assert_eq!((gap.first_seq, gap.last_seq, gap.records, gap.gaps), (3, 8, 0, 1));
    }

    #[test]
    fn a_head_is_not_taken_from_within() {
        let head = Head::of(br#"{"dns":[{"type":"A","seq":4}],"type":"flow","timestamp":"t","seq":9}"#);
        assert_eq!((head.kind, head.seq, head.instance), (Some("flow"), Some(9), None));
        assert!(Head::of(b"no JSON").kind.is_none());
    }
}
