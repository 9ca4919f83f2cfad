//! What the kernel tells when a socket is destroyed.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;

use super::diag_message::{BY_FAMILY, INFO, Identity, MESSAGE_LEN, PROTOCOL};
use super::listing::Listing;
use super::namespace;
use super::netlink::{Attributes, Netlink, u32_at, u64_at};
use crate::host::SocketKind;
use crate::key::{Endpoint, Proto};

/// A socket that was destroyed. Neither its user nor its inode are told any more: the cookie says which it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destroyed {
    /// What it spoke.
    pub kind: SocketKind,
    /// Its local end; IPv4-mapped addresses stand as the kernel gave them.
    pub local: Endpoint,
    /// The other end, where it was connected.
    pub remote: Option<Endpoint>,
    /// The interface it was bound to; 0 for none.
    pub interface: u32,
    /// The kernel's number of the socket.
    pub cookie: u64,
    /// The inode of its network namespace.
    pub netns: u64,
    /// What went over a TCP connection.
    pub tcp: Option<TcpCounters>,
}

/// What went over a TCP connection, as its end counted it (`struct tcp_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpCounters {
    /// Bytes sent and acknowledged; a SYN and a FIN that were acknowledged may count as one byte each.
    pub bytes_acked: u64,
    /// Bytes received in order; a FIN may count as one byte.
    pub bytes_received: u64,
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// Segments sent; the SYN-ACK of an accepted connection is not among them.
    pub segments_out: u32,
    /// Segments received.
    pub segments_in: u32,
    /// Segments sent that had payload.
    pub data_segments_out: u32,
    /// Segments received that had payload.
    pub data_segments_in: u32,
}

impl TcpCounters {
    /// Returns the payload bytes that were sent and acknowledged. Where some were not acknowledged, the SYN may be
    /// among them.
    pub fn payload_acked(&self) -> u64 {
        self.bytes_acked.min(self.bytes_sent.saturating_sub(self.bytes_retransmitted))
    }
}

/// The TCP and UDP sockets of a network namespace as they are destroyed; needs no privilege.
///
/// The kernel destroys a connection when its last segment is answered or it enters TIME_WAIT, not when its process
/// closes it; it tells of it by a queue, a moment later. Where a process aborted a connection (`SO_LINGER` of zero), the kernel has forgotten the other end and
/// the counters by then: `remote` and `tcp` are none, and only the cookie says which connection it was.
pub struct DestroyedSockets {
    netlink: Netlink,
    netns: u64,
    overruns: u64,
    damaged: u64,
}

impl DestroyedSockets {
    /// Begins to listen in the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// When there is no netlink or no `/proc`.
    pub fn open() -> io::Result<DestroyedSockets> {
        let netlink = Netlink::subscribe(SOCK_DIAG, GROUPS)?;
        netlink.widen(UNREAD)?;
        Ok(DestroyedSockets { netlink, netns: namespace::current()?, overruns: 0, damaged: 0 })
    }

    /// Takes the next one, and waits for it at most so long; `None` when none came, or a signal did.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn recv(&mut self, timeout: Duration) -> io::Result<Option<Destroyed>> {
        let began = Instant::now();
        loop {
            match self.take() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => self.damaged += 1,
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    self.overruns += 1
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = timeout.saturating_sub(began.elapsed());
                    match poll(&mut [PollFd::new(&self.netlink, PollFlags::IN)], Some(&timespec(left))) {
                        Ok(0) | Err(Errno::INTR) => return Ok(None),
                        Ok(_) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How often messages were lost, since they were not taken in time; of how many the kernel does not tell.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// How many messages could not be read.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes what is there; each datagram is one event.
    fn take(&mut self) -> io::Result<Option<Destroyed>> {
        let netns = self.netns;
        let mut messages = self.netlink.take()?.filter(|message| message.kind == BY_FAMILY);
        Ok(messages.next().and_then(|message| read(netns, message.body)))
    }
}

impl AsFd for DestroyedSockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

pub(super) fn read(netns: u64, body: &[u8]) -> Option<Destroyed> {
    let id = Identity::read(body)?;
    let mut proto = None;
    let mut tcp = None;
    for (kind, value) in Attributes(body.get(MESSAGE_LEN..)?) {
        match (kind, value) {
            (PROTOCOL, [number]) => proto = Some(Proto(*number)),
            (INFO, info) => tcp = read_counters(info),
            _ => {}
        }
    }
    let listing = Listing::of(proto?)?;
    let (local, remote) = listing.ends(id.local, id.remote);
    // The port of a peer is cleared, with all counters, where a connection was aborted.
    let remote = remote.filter(|remote| remote.port != Some(0));
    Some(Destroyed {
        kind: listing.kind(id.local.1),
        local,
        remote,
        interface: id.interface,
        cookie: id.cookie,
        netns,
        tcp: tcp.filter(|_| listing == Listing::Tcp && remote.is_some()),
    })
}

/// Reads `struct tcp_info`, which grew over time; the last field that is read came with Linux 4.19.
fn read_counters(info: &[u8]) -> Option<TcpCounters> {
    Some(TcpCounters {
        bytes_acked: u64_at(info, 120)?,
        bytes_received: u64_at(info, 128)?,
        segments_out: u32_at(info, 136)?,
        segments_in: u32_at(info, 140)?,
        data_segments_in: u32_at(info, 152)?,
        data_segments_out: u32_at(info, 156)?,
        bytes_sent: u64_at(info, 200)?,
        bytes_retransmitted: u64_at(info, 208)?,
    })
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// The groups 1 to 4: TCP and UDP, for IPv4 and IPv6.
const GROUPS: u32 = 0b1111;
/// Room for unread messages, some thousands.
const UNREAD: usize = 4 << 20;

#[cfg(test)]
mod tests;
