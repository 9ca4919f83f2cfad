//! Netlink: a socket to the kernel, requests, and the messages and attributes of what it answers (RFC 3549).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, connect, recv, send, socket_with};

/// A netlink socket; it stays in the network namespace in which it was opened.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket that is asked, and gives up when the kernel is silent for a second.
    pub(super) fn open(protocol: Protocol) -> io::Result<Netlink> {
        let netlink = Netlink::subscribe(protocol, 0)?;
        set_socket_timeout(&netlink.socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(netlink)
    }

    /// Opens a socket that hears the groups of a mask, a bit each.
    pub(super) fn subscribe(protocol: Protocol, groups: u32) -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(protocol))?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        // Once connected to the kernel (port 0), nobody else can put messages into it.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Netlink::over(socket))
    }

    /// Speaks over a socket that is connected.
    pub(super) fn over(socket: OwnedFd) -> Netlink {
        Netlink { socket, sequence: 0, request: Vec::new(), answer: vec![0; ANSWER_LEN] }
    }

    /// Asks for room for so many bytes of unread messages; without CAP_NET_ADMIN the system's limit holds.
    pub(super) fn widen(&self, bytes: usize) -> io::Result<()> {
        set_socket_recv_buffer_size_force(&self.socket, bytes)
            .or_else(|_| set_socket_recv_buffer_size(&self.socket, bytes))?;
        Ok(())
    }

    /// Sends a request and hands each message of the answer to `each`, as its type and body; returns whether the
    /// kernel said that what it listed changed meanwhile.
    ///
    /// # Errors
    /// The kernel's error code; `ENOBUFS` where a part of the answer was lost, of which `each` may have seen the rest;
    /// `TimedOut` where no answer came.
    pub(super) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        write_message(&mut self.request, kind, flags | REQUEST, self.sequence, body);
        retry_on_intr(|| send(&self.socket, &self.request, SendFlags::empty()))?;
        let mut changed = false;
        loop {
            let answer = match receive(&self.socket, &mut self.answer, RecvFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                answer => answer?,
            };
            for message in Messages(answer) {
                // The rest of an answer that was given up.
                if message.sequence != self.sequence {
                    continue;
                }
                changed |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    NOOP => {}
                    ERROR | DONE => return error_code(message.body).map_or(Ok(changed), Err),
                    OVERRUN => return Err(Errno::NOBUFS.into()),
                    kind => each(kind, message.body),
                }
                if message.flags & MULTIPART == 0 {
                    return Ok(changed);
                }
            }
        }
    }

    /// Takes messages that nobody asked for, without waiting: `WouldBlock` where there are none, `ENOBUFS` where
    /// some were lost.
    pub(super) fn take(&mut self) -> io::Result<Messages<'_>> {
        receive(&self.socket, &mut self.answer, RecvFlags::DONTWAIT).map(Messages)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A netlink message.
pub(super) struct Message<'a> {
    /// `nlmsg_type`.
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    /// What follows the header.
    pub(super) body: &'a [u8],
}

/// The messages of a datagram; ends at the first that is cut.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let message = Message {
            kind: u16_at(self.0, 4)?,
            flags: u16_at(self.0, 6)?,
            sequence: u32_at(self.0, 8)?,
            body: self.0.get(HEADER_LEN..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes of a message or of an attribute that nests others, as their types and values.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & ATTRIBUTE_TYPE;
        let value = self.0.get(ATTRIBUTE_HEADER_LEN..length)?;
        self.0 = self.0.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Appends an attribute to the body of a request.
pub(super) fn write_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE_HEADER_LEN.saturating_add(value.len())).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
}

/// Reads two bytes in the machine's order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// Reads four bytes in the machine's order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// Reads eight bytes in the machine's order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

/// Makes a message, in place of what `out` held.
pub(super) fn write_message(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let length = u32::try_from(HEADER_LEN.saturating_add(body.len())).unwrap_or(u32::MAX);
    out.clear();
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(body);
}

/// Receives a datagram; fails with `ENOBUFS`, too, where it does not fit.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8], flags: RecvFlags) -> io::Result<&'a [u8]> {
    let (_, length) = retry_on_intr(|| recv(socket, &mut *buffer, flags | RecvFlags::TRUNC))?;
    buffer.get(..length).ok_or_else(|| Errno::NOBUFS.into())
}

/// The error that an acknowledgement or the end of a list carries: 0 is none, others stand negated.
fn error_code(body: &[u8]) -> Option<io::Error> {
    let code = u32_at(body, 0)?.cast_signed();
    (code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
}

/// `NLM_F_DUMP`: all there are.
pub(super) const DUMP: u16 = 0x300;
const REQUEST: u16 = 0x1;
/// `NLM_F_MULTI`: one of several messages.
pub(super) const MULTIPART: u16 = 0x2;
/// `NLM_F_DUMP_INTR`: what is listed changed meanwhile.
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;
const NOOP: u16 = 1;
/// `NLMSG_ERROR`.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(super) const DONE: u16 = 3;
/// `NLMSG_OVERRUN`: data were lost.
pub(super) const OVERRUN: u16 = 4;
const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The type of an attribute, without the flags for nesting and byte order.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
const ALIGNMENT: usize = 4;
/// The kernel fills up to 32 KiB at a time.
const ANSWER_LEN: usize = 32 * 1024;
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_each_other_at_multiples_of_four() {
        let mut bytes = Vec::new();
        for (kind, body) in [(20, &b"abcde"[..]), (3, b"")] {
            let mut one = Vec::new();
            write_message(&mut one, kind, MULTIPART, 7, body);
            bytes.extend(one);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let read: Vec<_> = Messages(&bytes).map(|m| (m.kind, m.flags, m.sequence, m.body.to_vec())).collect();
        assert_eq!(read, [(20, 2, 7, b"abcde".to_vec()), (3, 2, 7, Vec::new())]);
        // Cut anywhere, what remains whole is read.
        for end in 0..bytes.len() {
            assert_eq!(Messages(&bytes[..end]).count(), usize::from(end >= 21), "{end}");
        }
    }

    #[test]
    fn lengths_that_lie_end_the_list() {
        for length in [0_u32, 15, 17, u32::MAX] {
            let mut bytes = Vec::new();
            write_message(&mut bytes, 20, 0, 1, b"");
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Messages(&bytes).count(), 0, "{length}");
        }
        for length in [0_u16, 3, 9, u16::MAX] {
            let mut bytes = Vec::new();
            write_attribute(&mut bytes, 1, b"abcd");
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Attributes(&bytes).count(), 0, "{length}");
        }
    }

    #[test]
    fn attributes_lose_their_flags() {
        let mut bytes = Vec::new();
        write_attribute(&mut bytes, 0x8000 | 19, b"abc");
        write_attribute(&mut bytes, 21, &1_u32.to_ne_bytes());
        let read: Vec<_> = Attributes(&bytes).collect();
        assert_eq!(read, [(19, &b"abc"[..]), (21, &1_u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn an_error_of_zero_is_none() {
        assert!(error_code(&0_i32.to_ne_bytes()).is_none());
        assert!(error_code(b"").is_none());
        assert_eq!(error_code(&(-2_i32).to_ne_bytes()).unwrap().kind(), io::ErrorKind::NotFound);
        // No code that exists, and no overflow either.
        assert!(error_code(&i32::MIN.to_ne_bytes()).is_some());
    }
}
