//! The transactions of a flow: pairing, and what is kept within 4 KiB.
//!
//! How messages become transactions, where definitions.md leaves it open:
//! - A query pairs with an unanswered one only: the same question after its answer is a new transaction.
//! - A response completes the oldest unanswered one. Where the question was sent `queries` times, as many
//!   responses belong to it and the first one counts; one more is a transaction of its own, unasked.
//! - A response that repeats no question pairs by its id alone, but not in multicast DNS, where all ids
//!   are 0: there it is a transaction without `query`. Records in a query's answer section are no answers.
//! - A response to a multicast group says nothing of the direction, a query always does.
//! - A message is whole if all that it announces was read and the data of its answers was sound; bytes
//!   behind it are ignored on DNS's own ports. It is refused if not even its first question could be read.

use dns_parser::Header;

use crate::l7::{App, State};
use crate::time::Timestamp;

use super::message::{DnsRefusal, MAX_QUESTIONS, MAX_RECORDS, MIN_RESOURCE, Question, Reader, Resource};
use super::rdata::Data;
use super::text::Text;
use super::transaction::{Answer, Transaction, Transport};
use super::words::{DnsClass, Rcode, RecordType};

/// The transactions of a flow and slice.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// Bytes that the texts and answers of `entries` hold.
    texts: usize,
    /// Something did not fit.
    truncated: bool,
    /// Which of the three kinds of DNS it is.
    app: App,
}

impl Ledger {
    pub(super) fn new(app: App) -> Ledger {
        Ledger { entries: Vec::new(), texts: 0, truncated: false, app }
    }

    pub(super) fn app(&self) -> App {
        self.app
    }

    /// Takes out what is complete, or everything; tells whether something did not fit.
    pub(super) fn take(&mut self, all: bool) -> (Vec<Transaction>, bool) {
        let done = self.entries.extract_if(.., |entry| all || !entry.is_open());
        let done = done.map(|entry| entry.transaction).collect();
        self.entries.shrink_to_fit();
        self.texts = self.entries.iter().map(Entry::texts).sum();
        (done, std::mem::take(&mut self.truncated))
    }

    /// Reads a message into the transactions; what comes before damage is kept.
    pub(super) fn walk(
        &mut self,
        bytes: &[u8],
        time: Timestamp,
        transport: Transport,
    ) -> Result<Walked, DnsRefusal> {
        let mut reader = Reader::open(bytes)?;
        let header = reader.header;
        let (questions, records) = (usize::from(header.questions), reader.announced());
        match (questions, records) {
            // Nothing is announced: then nothing else may be there.
            (0, 0) if !reader.is_at_end() => return Err(DnsRefusal::Cut),
            (0, 1..) => drop(reader.clone().resource()?),
            _ => {}
        }
        let arrival = Arrival { header, time, transport };
        let mut scratch = Text::new(0);
        let fits = questions <= MAX_QUESTIONS && records <= MAX_RECORDS;
        self.truncated |= !fits;
        // The records come behind the last question.
        let mut at_records = questions <= MAX_QUESTIONS;
        // The entries that this message answers, as bits, and the one that takes its records.
        let mut answered = 0u16;
        let mut taker = None;
        for nth in 0..questions.min(MAX_QUESTIONS) {
            match reader.question() {
                Ok(question) => {
                    let entry = self.question(&question, &arrival, &mut scratch);
                    answered |= entry.map_or(0, bit);
                    taker = if nth == 0 { entry } else { taker };
                }
                Err(refusal) if nth == 0 => return Err(refusal),
                Err(_) => {
                    at_records = false;
                    break;
                }
            }
        }
        if questions == 0 && !header.query {
            taker = self.unnamed(&arrival);
            answered = taker.map_or(0, bit);
        }
        let mut upper_rcode = 0;
        let sound = at_records && self.records(&mut reader, taker, &mut scratch, &mut upper_rcode);
        let lower_rcode: u8 = header.response_code.into();
        let rcode = Rcode(upper_rcode << 4 | u16::from(lower_rcode));
        let bits = self.entries.iter_mut().enumerate().filter(|(nth, _)| answered & bit(*nth) != 0);
        bits.for_each(|(_, entry)| entry.transaction.rcode = Some(rcode));
        Ok(Walked { response: !header.query, whole: fits && sound })
    }

    /// Enters a question, or pairs it; returns the entry that is answered by it.
    fn question(&mut self, question: &Question<'_>, arrival: &Arrival, scratch: &mut Text) -> Option<usize> {
        scratch.restart(NAME_TEXT_MAX);
        question.name.write(scratch);
        let query = scratch.as_str()?;
        let (id, qtype) = (arrival.header.id, RecordType(question.qtype));
        let mut same = self.entries.iter().enumerate().filter(|(_, entry)| {
            let transaction = &entry.transaction;
            let name = transaction.query.as_deref();
            transaction.id == id
                && transaction.qtype == Some(qtype)
                && name.is_some_and(|name| name.eq_ignore_ascii_case(query))
        });
        let open = same.clone().find(|(_, entry)| entry.is_open()).map(|(nth, _)| nth);
        // A question that was sent again may be answered again.
        let again = same.find(|(_, entry)| entry.may_repeat()).map(|(nth, _)| nth);
        if arrival.header.query {
            if let Some(entry) = open.and_then(|nth| self.entries.get_mut(nth)) {
                entry.transaction.queries = entry.transaction.queries.saturating_add(1);
                return None;
            }
        } else if open.is_none()
            && let Some(entry) = again.and_then(|nth| self.entries.get_mut(nth))
        {
            entry.responses += 1;
            return None;
        }
        let nth = match open {
            Some(nth) => nth,
            None => {
                let class = if self.app == App::Mdns { question.qclass & !MDNS_BIT } else { question.qclass };
                let named = Some((query, qtype, DnsClass(class)));
                self.enter(arrival, named)?
            }
        };
        self.answer(nth, arrival)
    }

    /// Finds or makes the entry of a response that repeats no question.
    ///
    /// It belongs to the oldest open question with its id; in multicast DNS, where all ids are 0, to none.
    fn unnamed(&mut self, arrival: &Arrival) -> Option<usize> {
        let open = self.entries.iter().position(|entry| {
            self.app != App::Mdns && entry.is_open() && entry.transaction.id == arrival.header.id
        });
        let nth = match open {
            Some(nth) => nth,
            None => self.enter(arrival, None)?,
        };
        self.answer(nth, arrival)
    }

    /// Makes an entry, if there is room for it.
    fn enter(&mut self, arrival: &Arrival, named: Option<(&str, RecordType, DnsClass)>) -> Option<usize> {
        let nth = self.entries.len();
        let grown = if nth == self.entries.capacity() { nth.max(1) } else { 0 };
        let text = named.map_or(0, |(query, ..)| query.len());
        if nth == MAX_TRANSACTIONS || grown * size_of::<Entry>() + text > self.room() {
            self.truncated = true;
            return None;
        }
        self.entries.reserve_exact(grown);
        self.texts += text;
        let Arrival { header, time, transport } = *arrival;
        let transaction = Transaction {
            id: header.id,
            query: named.map(|(query, ..)| query.into()),
            qtype: named.map(|(_, qtype, _)| qtype),
            qclass: named.map(|(.., class)| class),
            rcode: None,
            aa: None,
            tc: None,
            rd: (self.app != App::Llmnr).then_some(header.recursion_desired),
            ra: None,
            ad: None,
            answers: Vec::new(),
            rtt_nanos: None,
            queries: header.query.into(),
            transport,
        };
        self.entries.push(Entry { transaction, asked: time, responses: 0 });
        Some(nth)
    }

    /// Notes a response; returns the entry again, or none for a query.
    fn answer(&mut self, nth: usize, arrival: &Arrival) -> Option<usize> {
        let Arrival { header, time, .. } = *arrival;
        let entry = self.entries.get_mut(nth).filter(|_| !header.query)?;
        entry.responses = 1;
        let transaction = &mut entry.transaction;
        transaction.rtt_nanos = (transaction.queries > 0).then(|| time.nanos_since(entry.asked));
        transaction.tc = Some(header.truncated);
        // LLMNR uses these bits in another way (RFC 4795, section 2.1.1).
        if self.app != App::Llmnr {
            transaction.aa = Some(header.authoritative);
            transaction.ra = Some(header.recursion_available);
            transaction.ad = Some(header.authenticated_data);
        }
        Some(nth)
    }

    /// Walks the records; tells whether all of them were read and sound.
    fn records(
        &mut self,
        reader: &mut Reader<'_>,
        taker: Option<usize>,
        scratch: &mut Text,
        upper_rcode: &mut u16,
    ) -> bool {
        let answers = usize::from(reader.header.answers);
        let mut sound = true;
        let mut storing = taker;
        for nth in 0..reader.announced().min(MAX_RECORDS) {
            let Ok(resource) = reader.resource() else {
                sound = false;
                break;
            };
            if resource.rtype == OPT {
                *upper_rcode = (resource.ttl >> 24) as u16;
            } else if nth < answers
                && let Some(entry) = storing
            {
                let left = (answers - nth).min(reader.left() / MIN_RESOURCE + 1);
                match self.store(reader, &resource, entry, left, scratch) {
                    Some(is_sound) => sound &= is_sound,
                    None => {
                        self.truncated = true;
                        storing = None;
                    }
                }
            }
        }
        if let Some(entry) = taker.and_then(|nth| self.entries.get_mut(nth)) {
            let before = entry.texts();
            entry.transaction.answers.shrink_to_fit();
            self.texts -= before - entry.texts();
        }
        sound
    }

    /// Stores an answer; tells whether its data was sound, `None` where there is no room for it.
    ///
    /// `left` is how many answers there may be from this one on.
    fn store(
        &mut self,
        reader: &mut Reader<'_>,
        resource: &Resource<'_>,
        nth: usize,
        left: usize,
        scratch: &mut Text,
    ) -> Option<bool> {
        let room = self.room();
        let answers = &mut self.entries.get_mut(nth)?.transaction.answers;
        let grown = if answers.len() < answers.capacity() {
            0
        } else {
            // All at once, as long as that leaves half of the room; what is left over is given back.
            left.min(room / size_of::<Answer>() / 2).max(1)
        };
        // No data is shorter as text than on the wire, but for compressed names.
        let room = room.checked_sub(grown * size_of::<Answer>()).filter(|&room| resource.data_len <= room)?;
        scratch.restart(room);
        resource.name.write(scratch);
        let name: Box<str> = scratch.as_str()?.into();
        scratch.restart(room - name.len());
        let data = Data::new(reader.bytes, resource.data_at, resource.data_len);
        let rtype = RecordType(resource.rtype);
        let sound = data.write(rtype, &mut reader.steps, scratch);
        let data: Box<str> = scratch.as_str()?.into();
        answers.reserve_exact(grown);
        self.texts += grown * size_of::<Answer>() + name.len() + data.len();
        answers.push(Answer { name, rtype, ttl: resource.ttl, data });
        Some(sound)
    }

    /// Returns the bytes held for transactions, outside of `self`.
    pub(super) fn held(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.texts
    }

    fn room(&self) -> usize {
        MAX_BYTES.saturating_sub(size_of::<State>() + self.held())
    }
}

/// A transaction, and what pairing needs to know of it.
#[derive(Debug)]
struct Entry {
    transaction: Transaction,
    /// When the first query came.
    asked: Timestamp,
    responses: u32,
}

impl Entry {
    fn is_open(&self) -> bool {
        self.responses == 0
    }

    fn may_repeat(&self) -> bool {
        self.responses < self.transaction.queries
    }

    /// Returns how many bytes its texts and answers hold.
    fn texts(&self) -> usize {
        let answers = &self.transaction.answers;
        self.transaction.query.as_deref().map_or(0, str::len)
            + answers.capacity() * size_of::<Answer>()
            + answers.iter().map(|answer| answer.name.len() + answer.data.len()).sum::<usize>()
    }
}

/// A message's header, and how and when it came.
#[derive(Clone, Copy)]
struct Arrival {
    header: Header,
    time: Timestamp,
    transport: Transport,
}

/// How reading a message ended.
pub(super) struct Walked {
    pub(super) response: bool,
    /// Everything was read, and sound.
    pub(super) whole: bool,
}

fn bit(nth: usize) -> u16 {
    1u16.checked_shl(nth as u32).unwrap_or(0)
}

/// Transactions of a flow and slice.
const MAX_TRANSACTIONS: usize = 16;
/// Memory of a flow for its transactions, with the state's own.
const MAX_BYTES: usize = 4096;
/// More than any name has, with every byte as `\DDD`.
const NAME_TEXT_MAX: usize = 1024;
/// In multicast DNS the top bit of a class is no part of it (RFC 6762, sections 5.4 and 10.2).
const MDNS_BIT: u16 = 0x8000;
const OPT: u16 = 41;
