//! DNS over UDP and TCP, multicast DNS and LLMNR (definitions.md, "DNS").
//!
//! The header, and the data of the types it knows, are read by dns-parser; the walk and the names are
//! ours. Never on traffic: its `Packet::parse`, which refuses whole messages, and printing its names,
//! which recurses (faults.md).

mod answers;
mod ledger;
mod message;
mod name;
mod rdata;
mod svcb;
mod text;
mod transaction;
mod words;

#[cfg(test)]
mod tests;

use super::stream::Stream;
use super::{App, Claim, L7Counts, L7Facts, Look, Protocol, Sight};
use crate::key::Dir;
use crate::packet::TcpFlags;

use ledger::{Ledger, Walked};
use message::{is_certain, is_plausible};

pub use answers::{Answer, Answers};
pub use message::DnsRefusal;
pub use transaction::{Transaction, Transport};
pub use words::{DnsClass, Rcode, RecordType};

/// The DNS transactions of a flow.
#[derive(Debug)]
pub(super) struct Dns {
    ledger: Ledger,
    /// Nothing but the messages themselves says that this is DNS.
    by_content: bool,
    /// Both directions, where TCP carries it.
    streams: Option<Box<[Stream; 2]>>,
}

impl Protocol for Dns {
    fn probe(look: &Look<'_>, counts: &mut L7Counts) -> Option<Claim<Dns>> {
        if look.has_port(NETBIOS_PORT) {
            return None;
        }
        let (app, by_content) = match app_of_port(look) {
            Some(app) => (app, false),
            None if look.is_udp() && look.complete && is_certain(look.bytes) => (App::Dns, true),
            None => return None,
        };
        let mut dns = Dns { ledger: Ledger::new(app), by_content, streams: None };
        let sight = dns.read(look, counts);
        Some(Claim { sight, state: Some(dns) })
    }

    fn read(&mut self, look: &Look<'_>, counts: &mut L7Counts) -> Sight {
        if look.is_tcp() {
            return self.read_stream(look, counts);
        }
        if self.by_content && !(look.complete && is_certain(look.bytes)) {
            return Sight::default();
        }
        self.read_message(look.bytes, look, Transport::Udp, counts)
    }

    fn turn(&mut self) {
        if let Some(streams) = &mut self.streams {
            streams.swap(0, 1);
        }
    }

    fn finish(&mut self, last: bool, facts: &mut L7Facts) {
        (facts.dns, facts.dns_truncated) = self.ledger.take(last);
    }

    fn heap_bytes(&self) -> usize {
        let streams = self.streams.as_ref().map_or(0, |streams| {
            size_of::<[Stream; 2]>() + streams.iter().map(Stream::heap_bytes).sum::<usize>()
        });
        self.ledger.held() + streams
    }
}

/// Tells which DNS is at home on the message's ports.
fn app_of_port(look: &Look<'_>) -> Option<App> {
    match (look.is_udp(), look.is_tcp()) {
        (true, _) if look.has_port(53) => Some(App::Dns),
        (true, _) if look.has_port(5353) => Some(App::Mdns),
        (true, _) if look.has_port(5355) => Some(App::Llmnr),
        (_, true) if look.has_port(53) => Some(App::Dns),
        _ => None,
    }
}

impl Dns {
    fn read_stream(&mut self, look: &Look<'_>, counts: &mut L7Counts) -> Sight {
        let mut streams = self.streams.take().unwrap_or_default();
        let [ahead, back] = match look.dir {
            Dir::Fwd => streams.each_mut(),
            Dir::Rev => {
                let [a, b] = streams.each_mut();
                [b, a]
            }
        };
        if let Some(tcp) = look.packet.tcp.filter(|tcp| tcp.flags.contains(TcpFlags::ACK)) {
            back.expect(tcp.ack);
        }
        let mut seen = Sight::default();
        let mut one = |message: &[u8], counts: &mut L7Counts| {
            let sight = self.read_message(message, look, Transport::Tcp, counts);
            seen =
                Sight { app: seen.app.or(sight.app), client: seen.client.or(sight.client), finished: false };
        };
        let lost = ahead.feed(look.seq, look.bytes, &mut |available| {
            let mut used = 0;
            while let Some((&head, body)) = available.get(used..)?.split_first_chunk() {
                let len = usize::from(u16::from_be_bytes(head));
                if !is_plausible(body, len) {
                    return None;
                }
                let Some(message) = body.get(..len) else {
                    if !look.complete {
                        one(body, counts);
                    }
                    break;
                };
                one(message, counts);
                used += head.len() + len;
            }
            Some(used)
        });
        if !look.complete {
            ahead.forget();
        }
        counts.dns_refused.add(DnsRefusal::Stream, lost.into());
        self.streams = Some(streams);
        seen
    }

    /// Reads a message and counts how it ended.
    fn read_message(
        &mut self,
        bytes: &[u8],
        look: &Look<'_>,
        transport: Transport,
        counts: &mut L7Counts,
    ) -> Sight {
        let response = match self.ledger.walk(bytes, look.packet.time, transport) {
            Ok(Walked { response, whole }) => {
                let count = if whole { &mut counts.dns_whole } else { &mut counts.dns_partial };
                *count += 1;
                response
            }
            Err(refusal) => {
                counts.dns_refused.count(refusal);
                return Sight::default();
            }
        };
        // Who answers a group says nothing of who asked, and the group is nobody's client.
        let client = match response {
            false => Some(look.dir),
            true if look.is_to_group() => None,
            true => Some(look.dir.flip()),
        };
        Sight::of(self.ledger.app(), client)
    }
}

const NETBIOS_PORT: u16 = 137;
