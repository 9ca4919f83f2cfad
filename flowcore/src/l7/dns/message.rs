//! The walk along a message: header, questions, records.
//!
//! The header is dns-parser's; the sections are walked here, because dns-parser refuses a message for
//! one type, class or bit that it does not know.

use dns_parser::Header;

use crate::error::reasons;

use super::name::{Name, NameFault, Steps};

reasons! {
    /// Why a message is no DNS message: nothing of it could be read.
    DnsRefusal {
        /// Shorter than a header.
        Short = "short",
        /// The first question or record is cut.
        Cut = "cut",
        /// The first name breaks the rules: a label type, a pointer, a length.
        Name = "name",
        /// A TCP stream in which no message begins.
        Stream = "stream",
    }
}

impl From<NameFault> for DnsRefusal {
    fn from(fault: NameFault) -> DnsRefusal {
        match fault {
            NameFault::Cut => DnsRefusal::Cut,
            _ => DnsRefusal::Name,
        }
    }
}

/// A message, read from front to back.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) header: Header,
    pub(super) steps: Steps,
    at: usize,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) name: Name<'a>,
    pub(super) qtype: u16,
    pub(super) qclass: u16,
}

/// A resource record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resource<'a> {
    pub(super) name: Name<'a>,
    pub(super) rtype: u16,
    pub(super) ttl: u32,
    /// Where its data begins in the message, and how many bytes it has.
    pub(super) data_at: usize,
    pub(super) data_len: usize,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`DnsRefusal::Short`] if it is cut.
    #[inline]
    pub(super) fn open(bytes: &'a [u8]) -> Result<Reader<'a>, DnsRefusal> {
        let mut head: [u8; HEADER] = *bytes.first_chunk().ok_or(DnsRefusal::Short)?;
        // dns-parser refuses a header with the reserved bit, which some resolvers set.
        if let Some(flags) = head.get_mut(3) {
            *flags &= !RESERVED_BIT;
        }
        let header = Header::parse(&head).map_err(|_| DnsRefusal::Short)?;
        Ok(Reader { bytes, header, steps: Steps::new(), at: HEADER })
    }

    /// Reads the next question.
    #[inline]
    pub(super) fn question(&mut self) -> Result<Question<'a>, DnsRefusal> {
        self.steps.take()?;
        let name = Name::read(self.bytes, self.at, &mut self.steps)?;
        let fixed: &[u8; 4] = self.after(name.end())?;
        let &[t0, t1, c0, c1] = fixed;
        self.at = name.end() + fixed.len();
        Ok(Question { name, qtype: u16::from_be_bytes([t0, t1]), qclass: u16::from_be_bytes([c0, c1]) })
    }

    /// Reads the next record; its data is all there.
    #[inline]
    pub(super) fn resource(&mut self) -> Result<Resource<'a>, DnsRefusal> {
        self.steps.take()?;
        let name = Name::read(self.bytes, self.at, &mut self.steps)?;
        let fixed: &[u8; 10] = self.after(name.end())?;
        let &[t0, t1, _, _, l0, l1, l2, l3, n0, n1] = fixed;
        let data_at = name.end() + fixed.len();
        let data_len = usize::from(u16::from_be_bytes([n0, n1]));
        if data_len > self.bytes.len() - data_at {
            return Err(DnsRefusal::Cut);
        }
        self.at = data_at + data_len;
        Ok(Resource {
            name,
            rtype: u16::from_be_bytes([t0, t1]),
            ttl: u32::from_be_bytes([l0, l1, l2, l3]),
            data_at,
            data_len,
        })
    }

    /// Tells whether no byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.left() == 0
    }

    /// Returns how many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Returns how many records the header announces, over all three sections.
    pub(super) fn announced(&self) -> usize {
        let header = &self.header;
        [header.answers, header.nameservers, header.additional].into_iter().map(usize::from).sum()
    }

    fn after<const N: usize>(&self, at: usize) -> Result<&'a [u8; N], DnsRefusal> {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(DnsRefusal::Cut)
    }
}

/// Tells whether bytes from any port are a DNS message beyond doubt (definitions.md, "DNS").
///
/// At least one question, opcode 0, 4 or 5, classes IN, CH or ANY, every announced record there, and no
/// byte left over.
pub(super) fn is_certain(bytes: &[u8]) -> bool {
    let Ok(mut reader) = Reader::open(bytes) else { return false };
    let (questions, records) = (usize::from(reader.header.questions), reader.announced());
    if !(1..=MAX_QUESTIONS).contains(&questions) || records > MAX_RECORDS {
        return false;
    }
    let opcode: u16 = reader.header.opcode.into();
    if !matches!(opcode, 0 | 4 | 5) {
        return false;
    }
    (0..questions).all(|_| reader.question().is_ok_and(|question| matches!(question.qclass, 1 | 3 | 255)))
        && (0..records).all(|_| reader.resource().is_ok())
        && reader.is_at_end()
}

/// Tells whether the bytes could be the start of a message, as far as they go.
///
/// For streams, where a message must be found again: an assigned opcode, few questions, and the
/// announced counts within `len`, the length that the stream gives the message.
pub(super) fn is_plausible(bytes: &[u8], len: usize) -> bool {
    let Some(head) = bytes.first_chunk::<HEADER>() else { return len >= HEADER };
    let mut counts =
        head.chunks_exact(2).skip(2).map(|pair| pair.iter().fold(0, |n, &b| n << 8 | usize::from(b)));
    let questions = counts.next().unwrap_or_default();
    let opcode = head.get(2).map_or(0, |flags| flags >> 3 & 15);
    matches!(opcode, 0..=2 | 4..=6)
        && questions <= MAX_QUESTIONS
        && len >= HEADER + questions * MIN_QUESTION + counts.sum::<usize>() * MIN_RESOURCE
}

/// Questions that are read of a message.
pub(super) const MAX_QUESTIONS: usize = 16;
/// Records that are read of a message.
pub(super) const MAX_RECORDS: usize = 256;
/// The least that a record takes: root, type, class, TTL, length.
pub(super) const MIN_RESOURCE: usize = 11;
const MIN_QUESTION: usize = 5;
const HEADER: usize = 12;
const RESERVED_BIT: u8 = 0x40;
