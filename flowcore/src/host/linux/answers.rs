//! The way of the fuzz targets to what reads the kernel's answers, which no other way leads to without a kernel.
#![allow(missing_docs, reason = "it is there for fuzz/fuzz_targets/netlink.rs alone")]

use super::exec::{self, ProcessEvent};
use super::listing::Listing;
use super::netlink::Messages;
use super::rdma::{self, QueuePair};
use super::{Destroyed, destroyed, diag_message, routes};
use crate::host::Socket;
use crate::host::route::Route;

#[derive(PartialEq, Debug)]
pub enum Answer {
    Socket(Socket),
    Destroyed(Destroyed),
    QueuePair(QueuePair),
    Route(Route),
    Process(ProcessEvent),
}

/// Reads a datagram in one of nine ways.
pub fn read(way: u8, datagram: &[u8]) -> Vec<Answer> {
    let bodies = || Messages(datagram).map(|message| message.body);
    match way % 9 {
        5 => bodies().filter_map(|body| destroyed::read(1, body)).map(Answer::Destroyed).collect(),
        6 => {
            let mut pairs = Vec::new();
            for body in bodies() {
                let device = rdma::read_device(body).map(|(_, name)| name);
                rdma::read_pairs(&device.unwrap_or_default(), body, &mut pairs);
                rdma::add_addresses(body, &mut pairs);
            }
            pairs.into_iter().map(Answer::QueuePair).collect()
        }
        7 => {
            let mut answer = routes::Answer::default();
            // What was read before an error is there.
            _ = answer.read(datagram, &mut |index| (index % 2 == 1).then(|| index.to_string()));
            answer.routes.into_iter().map(Answer::Route).collect()
        }
        8 => {
            let event = exec::payload(datagram).and_then(|event| ProcessEvent::parse(event, 1));
            event.map(Answer::Process).into_iter().collect()
        }
        listing => {
            let listing = Listing::ALL.into_iter().nth(listing.into()).unwrap_or(Listing::Tcp);
            bodies().filter_map(|body| diag_message::read(listing, 1, body)).map(Answer::Socket).collect()
        }
    }
}
