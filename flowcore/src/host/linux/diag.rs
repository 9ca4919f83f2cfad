//! Sockets as the kernel lists them by netlink (sock_diag).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

use std::io;

use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;

use super::diag_message::{self, BY_FAMILY, Request, TCP};
use super::listing::{LISTED_STATES, LISTEN, Listing, TIME_WAIT, ends_of};
use super::namespace;
use super::netlink::{DUMP, Netlink};
use super::numbers::Numbers;
use super::text::TextSockets;
use crate::host::{Query, Socket, SocketState, SocketTable};
use crate::key::Proto;

/// The sockets of a network namespace, asked of the kernel by sock_diag; needs no privilege.
///
/// A lookup is one request for one socket, and the kernel chooses it as it would for a packet: listeners,
/// unconnected UDP, IPv4-mapped and `SO_REUSEPORT` included. What the kernel does not list this way (ping sockets; raw
/// and others where it was built without) is read from its text files.
///
/// A socket without inode has no process: a connection that has not been accepted yet, or that was closed already.
/// One whose handshake is under way has no user either, 0 stands there.
pub struct KernelSockets {
    netlink: Netlink,
    text: TextSockets,
    netns: u64,
    /// What sock_diag lists.
    listed: Vec<Listing>,
    /// Whether it lists TCP of both IP versions at once.
    lists_both: bool,
    states: u32,
    /// The cookies of a snapshot.
    seen: Numbers,
    repeated: u64,
    damaged: u64,
}

impl KernelSockets {
    /// Opens the sockets of the network namespace that the calling thread is in; they stay those of that namespace.
    ///
    /// # Errors
    /// `Unsupported` where the kernel does not list TCP by sock_diag; others where there is no netlink or no `/proc`.
    pub fn open() -> io::Result<KernelSockets> {
        let mut netlink = Netlink::open(SOCK_DIAG)?;
        let mut listed = Vec::new();
        for listing in Listing::ALL {
            let Some(number) = listing.number() else { continue };
            // An exact request cannot tell a missing list from a missing socket: a dump in no state can.
            match netlink.ask(BY_FAMILY, DUMP, &diag_message::dump(false, number, 0, 0), |_, _| ()) {
                Ok(_) => listed.push(listing),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if !listed.contains(&Listing::Tcp) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel has no sock_diag for TCP"));
        }
        let lists_both = netlink.ask(TCP, DUMP, &diag_message::dump_tcp(0, 0), |_, _| ()).is_ok();
        Ok(KernelSockets {
            netlink,
            text: TextSockets::here()?,
            netns: namespace::current()?,
            listed,
            lists_both,
            states: LISTED_STATES & !(1 << TIME_WAIT),
            seen: Numbers::default(),
            repeated: 0,
            damaged: 0,
        })
    }

    /// Lists connections in TIME_WAIT, too.
    pub fn with_time_wait(mut self) -> KernelSockets {
        self.states = LISTED_STATES;
        self.text = self.text.with_time_wait();
        self
    }

    /// How many requests were made again, since the kernel's list changed meanwhile or a part of the answer was lost.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// How many answers, or lines of text files, could not be read.
    pub fn damaged(&self) -> u64 {
        self.damaged + self.text.damaged()
    }

    /// Asks for one socket.
    fn ask(&mut self, listing: Listing, request: &Request) -> io::Result<Option<Socket>> {
        let mut found = None;
        for attempt in 1.. {
            let answer = self.netlink.ask(BY_FAMILY, 0, request, |_, body| {
                found = diag_message::read(listing, self.netns, body);
                self.damaged += u64::from(found.is_none());
            });
            match answer {
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) if is_overrun(&error) && attempt < ATTEMPTS => self.repeated += 1,
                answer => return answer.map(|_| found),
            }
        }
        Ok(found)
    }

    /// Asks for all sockets of a list, in the states of a mask; of one local port, unless that is 0.
    fn list(
        &mut self,
        listing: Listing,
        number: u8,
        states: u32,
        port: u16,
        sockets: &mut Vec<Socket>,
    ) -> io::Result<()> {
        if listing == Listing::Tcp && self.lists_both {
            return self.dump(listing, TCP, &diag_message::dump_tcp(states, port), sockets);
        }
        for is_ipv6 in [false, true] {
            let request = diag_message::dump(is_ipv6, number, states, port);
            self.dump(listing, BY_FAMILY, &request, sockets)?;
        }
        Ok(())
    }

    /// Makes a request that many sockets answer.
    fn dump(
        &mut self,
        listing: Listing,
        kind: u16,
        request: &[u8],
        sockets: &mut Vec<Socket>,
    ) -> io::Result<()> {
        let start = sockets.len();
        for attempt in 1.. {
            sockets.truncate(start);
            let mut damaged = 0;
            let answer = self.netlink.ask(kind, DUMP, request, |_, body| {
                match diag_message::read(listing, self.netns, body) {
                    Some(socket) => sockets.push(socket),
                    None => damaged += 1,
                }
            });
            match answer {
                Ok(true) if attempt < ATTEMPTS => self.repeated += 1,
                Err(error) if is_overrun(&error) && attempt < ATTEMPTS => self.repeated += 1,
                answer => {
                    self.damaged += damaged;
                    return answer.map(|_| ());
                }
            }
        }
        Ok(())
    }
}

impl SocketTable for KernelSockets {
    fn find(&mut self, query: &Query) -> io::Result<Option<Socket>> {
        let Some((listing, _)) = Listing::of(query.proto).zip(ends_of(query)) else { return Ok(None) };
        if !self.listed.contains(&listing) {
            return self.text.find(query);
        }
        // Sockets bound to a device are found by its index; a packet's device is not always the socket's.
        let tries = [query.interface, 0];
        let tries = if query.interface == 0 { tries.get(1..) } else { tries.get(..) };
        for &interface in tries.unwrap_or_default() {
            let Some(request) = diag_message::exact(query, interface) else { continue };
            if let Some(socket) = self.ask(listing, &request)? {
                return Ok(Some(socket));
            }
        }
        Ok(None)
    }

    fn snapshot(&mut self, sockets: &mut Vec<Socket>) -> io::Result<()> {
        let start = sockets.len();
        for listing in Listing::ALL {
            match listing.number().filter(|_| self.listed.contains(&listing)) {
                Some(number) => self.list(listing, number, self.states, 0, sockets)?,
                None => self.text.list(listing, sockets)?,
            }
        }
        // Where sockets come and go between the parts of a long answer, the kernel may tell of one twice. And it reads
        // a state once to choose by it, once more to tell it: connections that entered TIME_WAIT between are told.
        let is_wanted = |state| state != SocketState::TimeWait || self.states == LISTED_STATES;
        self.seen.clear();
        self.seen.reserve(sockets.len() - start);
        let mut at = 0;
        sockets.retain(|socket| {
            at += 1;
            at <= start
                || (is_wanted(socket.state) && (socket.cookie == 0 || self.seen.insert(socket.cookie)))
        });
        Ok(())
    }

    fn listeners(&mut self, port: u16, sockets: &mut Vec<Socket>) -> io::Result<()> {
        if !self.listed.contains(&Listing::Tcp) {
            return self.text.listeners(port, sockets);
        }
        self.list(Listing::Tcp, Proto::TCP.0, 1 << LISTEN, port, sockets)
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}

/// How often a request is made at most.
const ATTEMPTS: u32 = 4;

#[cfg(test)]
mod tests;
