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

use super::answers::HEAD_LEN;
use super::message::{DnsRefusal, MAX_QUESTIONS, MAX_RECORDS, Question, Reader, Resource};
use super::rdata::Data;
use super::transaction::{Transaction, Transport};
use super::words::{DnsClass, Rcode, RecordType};

/// The transactions of a flow and slice.
#[derive(Debug)]
pub(super) struct Ledger {
    transactions: Vec<Transaction>,
    /// Bytes that the texts of `transactions` hold.
    texts: u16,
    /// What their texts and answers cost.
    cost: u16,
    /// Something did not fit.
    truncated: bool,
    /// Which of the three kinds of DNS it is.
    app: App,
}

impl Ledger {
    pub(super) fn new(app: App) -> Ledger {
        Ledger { transactions: Vec::new(), texts: 0, cost: 0, truncated: false, app }
    }

    pub(super) fn app(&self) -> App {
        self.app
    }

    /// Takes out what is complete, or everything; tells whether something did not fit.
    pub(super) fn take(&mut self, all: bool) -> (Vec<Transaction>, bool) {
        let done = if all || !self.transactions.iter().any(Transaction::is_open) {
            std::mem::take(&mut self.transactions)
        } else {
            let done = self.transactions.extract_if(.., |transaction| !transaction.is_open()).collect();
            self.transactions.shrink_to_fit();
            done
        };
        let left = self.transactions.iter();
        (self.texts, self.cost) =
            left.fold((0, 0), |(texts, cost), open| (texts + open.held() as u16, cost + open.len() as u16));
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
        let fits = questions <= MAX_QUESTIONS && records <= MAX_RECORDS;
        self.truncated |= !fits;
        // The records come behind the last question.
        let mut at_records = questions <= MAX_QUESTIONS;
        // The transactions that this message answers, as bits, and the one that takes its records.
        let mut answered = 0u16;
        let mut taker = None;
        for nth in 0..questions.min(MAX_QUESTIONS) {
            match reader.question() {
                Ok(question) => {
                    let here = self.question(&question, &arrival);
                    answered |= here.map_or(0, bit);
                    taker = if nth == 0 { here } else { taker };
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
        let sound = at_records && self.records(&mut reader, taker, &mut upper_rcode);
        let lower_rcode: u8 = header.response_code.into();
        let rcode = Rcode(upper_rcode << 4 | u16::from(lower_rcode));
        let bits = self.transactions.iter_mut().enumerate().filter(|(nth, _)| answered & bit(*nth) != 0);
        bits.for_each(|(_, transaction)| transaction.rcode = Some(rcode));
        Ok(Walked { response: !header.query, whole: fits && sound })
    }

    /// Enters a question, or pairs it; returns the transaction that is answered by it.
    fn question(&mut self, question: &Question<'_>, arrival: &Arrival) -> Option<usize> {
        let (id, qtype) = (arrival.header.id, Some(RecordType(question.qtype)));
        let mut same = self.transactions.iter_mut().enumerate().filter(|(_, known)| {
            known.id == id && known.qtype == qtype && question.name.is_like(known.query_text())
        });
        // A question that was sent again may be answered again.
        let mut again = None;
        let open = same.find_map(|(nth, known)| {
            if known.is_open() {
                return Some((nth, known));
            }
            if again.is_none() && known.may_repeat() {
                again = Some(known);
            }
            None
        });
        let nth = match (open, again) {
            (Some((_, known)), _) if arrival.header.query => {
                known.ask(arrival.time);
                return None;
            }
            (Some((nth, _)), _) => nth,
            (None, Some(known)) if !arrival.header.query => {
                known.respond(arrival.time);
                return None;
            }
            (None, _) => self.enter(arrival, Some(question))?,
        };
        self.answer(nth, arrival)
    }

    /// Finds or makes the transaction of a response that repeats no question.
    ///
    /// It belongs to the oldest open question with its id; in multicast DNS, where all ids are 0, to none.
    fn unnamed(&mut self, arrival: &Arrival) -> Option<usize> {
        let open = self
            .transactions
            .iter()
            .position(|known| self.app != App::Mdns && known.is_open() && known.id == arrival.header.id);
        let nth = match open {
            Some(nth) => nth,
            None => self.enter(arrival, None)?,
        };
        self.answer(nth, arrival)
    }

    /// Makes a transaction, if there is room for it.
    fn enter(&mut self, arrival: &Arrival, question: Option<&Question<'_>>) -> Option<usize> {
        let nth = self.transactions.len();
        let grown = if nth == self.transactions.capacity() { nth.max(1) } else { 0 };
        let room = self.room().checked_sub(grown * COST_OF_TRANSACTION);
        let Some(room) = room.filter(|_| nth < MAX_TRANSACTIONS) else {
            self.truncated = true;
            return None;
        };
        let Arrival { header, time, transport } = *arrival;
        let mut new = Transaction::default();
        (new.id, new.transport) = (header.id, transport);
        new.rd = (self.app != App::Llmnr).then_some(header.recursion_desired);
        if let Some(Question { name, qtype, qclass }) = question {
            let class = if self.app == App::Mdns { qclass & !MDNS_BIT } else { *qclass };
            (new.qtype, new.qclass) = (Some(RecordType(*qtype)), Some(DnsClass(class)));
            if new.write_query(room, name.plain_len(), |out| name.write(out)).is_none() {
                self.truncated = true;
                return None;
            }
        }
        if header.query {
            new.ask(time);
        }
        self.texts += new.held() as u16;
        self.cost += new.len() as u16;
        self.transactions.reserve_exact(grown);
        self.transactions.push(new);
        Some(nth)
    }

    /// Notes a response; returns the transaction again, or none for a query.
    fn answer(&mut self, nth: usize, arrival: &Arrival) -> Option<usize> {
        let Arrival { header, time, .. } = *arrival;
        let transaction = self.transactions.get_mut(nth).filter(|_| !header.query)?;
        transaction.respond(time);
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
    fn records(&mut self, reader: &mut Reader<'_>, taker: Option<usize>, upper_rcode: &mut u16) -> bool {
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
                && let Some(place) = storing
            {
                match self.store(reader, &resource, place) {
                    Some(is_sound) => sound &= is_sound,
                    None => {
                        self.truncated = true;
                        storing = None;
                    }
                }
            }
        }
        if let Some(transaction) = taker.and_then(|nth| self.transactions.get_mut(nth)) {
            self.texts -= transaction.held() as u16;
            transaction.trim();
            self.texts += transaction.held() as u16;
        }
        sound
    }

    /// Stores an answer; tells whether its data was sound, `None` where there is no room for it.
    fn store(&mut self, reader: &mut Reader<'_>, resource: &Resource<'_>, nth: usize) -> Option<bool> {
        let room = self.room();
        let transaction = self.transactions.get_mut(nth)?;
        let (held, len) = (transaction.held(), transaction.len());
        let asked = transaction.query_text();
        let is_asked = resource.name.is(asked);
        let cost = COST_OF_ANSWER + if is_asked { asked.len() } else { 0 };
        let rtype = RecordType(resource.rtype);
        let data = Data::new(reader.bytes, resource.data_at, resource.data_len);
        let stored = transaction.write_answer(
            room.checked_sub(cost)?,
            rtype,
            resource.ttl,
            |out| {
                if !is_asked {
                    resource.name.write(out);
                }
            },
            |out| data.write(rtype, &mut reader.steps, out),
        );
        self.texts += (transaction.held() - held) as u16;
        if stored.is_some() {
            self.cost += (cost + transaction.len() - len - HEAD_LEN) as u16;
        }
        stored
    }

    /// Returns the bytes held for transactions, outside of `self`.
    pub(super) fn held(&self) -> usize {
        self.transactions.capacity() * size_of::<Transaction>() + usize::from(self.texts)
    }

    fn room(&self) -> usize {
        MAX_COST.saturating_sub(self.transactions.capacity() * COST_OF_TRANSACTION + usize::from(self.cost))
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
/// What the transactions of a flow may cost: their texts with what stands beside each of them.
///
/// That is within 4 KiB of memory with the state of the flow. The costs are fixed, so that what is kept does not
/// depend on how it lies in memory.
const MAX_COST: usize = 4096 - 56;
/// More than its own size with memory held ready for an answer.
const COST_OF_TRANSACTION: usize = 96;
const COST_OF_ANSWER: usize = 40;
const _: () = assert!(size_of::<Transaction>() + Transaction::SPARE <= COST_OF_TRANSACTION);
const _: () = assert!(size_of::<State>() + MAX_COST <= 4096);
/// In multicast DNS the top bit of a class is no part of it (RFC 6762, sections 5.4 and 10.2).
const MDNS_BIT: u16 = 0x8000;
const OPT: u16 = 41;
