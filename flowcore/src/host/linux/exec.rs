//! Processes as they begin, run another program and end: the kernel's process events connector.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};

use crate::error::Error;
use crate::time::Timestamp;

/// What happened to a process. Threads are not told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessEvent {
    /// A process began.
    Fork {
        /// When.
        time: Timestamp,
        /// The process that began.
        pid: u32,
        /// The process it descends from.
        parent: u32,
    },
    /// A process runs another program.
    Exec {
        /// When.
        time: Timestamp,
        /// The process.
        pid: u32,
    },
    /// A process ended (its first thread, which seldom ends before the others).
    Exit {
        /// When.
        time: Timestamp,
        /// The process.
        pid: u32,
        /// What wait(2) tells its parent.
        status: u32,
    },
}

/// The kernel's process events, by its connector (`NETLINK_CONNECTOR`, `CN_IDX_PROC`).
///
/// It works in the initial PID, user and network namespaces only: in another network namespace the kernel refuses the
/// request, in another PID or user namespace it does not answer. It needs `CAP_NET_ADMIN`, unless the kernel is a newer
/// one (Linux 6.18 tells anybody).
#[derive(Debug)]
pub struct ProcessEvents {
    socket: OwnedFd,
    overruns: u64,
}

impl ProcessEvents {
    /// Asks the kernel for its process events.
    ///
    /// # Errors
    /// [`Error::Permission`] where `CAP_NET_ADMIN` is needed and missing; [`Error::Input`] where the kernel has no connector, or not in this
    /// namespace.
    pub fn open() -> Result<Self, Error> {
        let (socket, port) = listen().map_err(refused)?;
        let mut events = ProcessEvents { socket, overruns: 0 };
        events.await_answer(port).map_err(refused)?;
        Ok(events)
    }

    /// Returns the next event; none if there was none until `timeout` passed. A timeout of zero takes what is there.
    ///
    /// # Errors
    /// When the socket fails; events that were lost because they came too fast are only counted.
    pub fn recv(&mut self, timeout: Duration) -> io::Result<Option<ProcessEvent>> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut message = [0; 256];
            match self.message(&mut message)? {
                Some(length) => {
                    let monotonic = nanos(ClockId::Monotonic);
                    let offset = nanos(ClockId::Realtime).saturating_sub(monotonic);
                    let event = payload(message.get(..length).unwrap_or_default());
                    if let Some(event) = event.and_then(|event| ProcessEvent::parse(event, offset)) {
                        return Ok(Some(event));
                    }
                    // Events of threads may come without end.
                    if !timeout.is_zero() && Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || !wait(&self.socket, left)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Returns how often events were lost.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// The kernel answers with an event that holds an error number, and sends it to all who listen; its number, the
    /// request's and one more, tells whose it is.
    fn await_answer(&mut self, number: u32) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER;
        while Instant::now() < deadline
            && wait(&self.socket, deadline.saturating_duration_since(Instant::now()))?
        {
            let mut message = [0; 256];
            let Some(length) = self.message(&mut message)? else { continue };
            let message = message.get(..length).unwrap_or_default();
            if let Some(event) = payload(message)
                && word(event, 0) == Some(EVENT_NONE)
                && word(message, ACKNOWLEDGED) == Some(number.wrapping_add(1))
                && let Some(error) = word(event, DATA)
            {
                return if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error as i32)) };
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel does not answer: process events are for the initial PID and user namespaces only",
        ))
    }

    /// Receives one message that the kernel sent, if there is one.
    fn message(&mut self, buffer: &mut [u8; 256]) -> io::Result<Option<usize>> {
        loop {
            match rustix::net::recvfrom(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => {
                    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    if from.is_some_and(|from| from.pid() == 0) {
                        return Ok(Some(length));
                    }
                }
                Err(Errno::NOBUFS) => self.overruns += 1,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for ProcessEvents {
    /// Older kernels count listeners and do not notice when one goes without a word.
    fn drop(&mut self) {
        let order = request(0, MCAST_IGNORE);
        let _ = rustix::net::sendto(&self.socket, &order, SendFlags::empty(), &SocketAddrNetlink::new(0, 0));
    }
}

impl ProcessEvent {
    /// Reads a `struct proc_event` of linux/cn_proc.h; `offset` is what has to be added to the monotonic clock.
    pub(super) fn parse(event: &[u8], offset: i64) -> Option<ProcessEvent> {
        let monotonic = u64::from_ne_bytes(*event.get(8..)?.first_chunk()?);
        let time = Timestamp::from_nanos(offset).saturating_add_nanos(monotonic);
        let data = |index: usize| word(event, DATA + 4 * index);
        match word(event, 0)? {
            // Parent's thread and process, child's thread and process.
            EVENT_FORK if data(2)? == data(3)? => {
                Some(ProcessEvent::Fork { time, pid: data(3)?, parent: data(1)? })
            }
            EVENT_EXEC => Some(ProcessEvent::Exec { time, pid: data(1)? }),
            EVENT_EXIT if data(0)? == data(1)? => {
                Some(ProcessEvent::Exit { time, pid: data(1)?, status: data(2)? })
            }
            _ => None,
        }
    }
}

/// Asks to listen; returns the socket and its port, which is the request's number as well.
fn listen() -> io::Result<(OwnedFd, u32)> {
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::CONNECTOR))?;
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    }
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, CN_IDX_PROC))?;
    let port = SocketAddrNetlink::try_from(rustix::net::getsockname(&socket)?)?.pid();
    rustix::net::sendto(
        &socket,
        &request(port, MCAST_LISTEN),
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    Ok((socket, port))
}

/// A netlink header, a connector header (`struct cn_msg`) and an order.
fn request(number: u32, order: u32) -> [u8; 40] {
    const LENGTH: u32 = 40;
    let mut request = [0; LENGTH as usize];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = request.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &LENGTH.to_ne_bytes());
    put(4, &NLMSG_DONE.to_ne_bytes());
    put(16, &CN_IDX_PROC.to_ne_bytes());
    put(20, &CN_VAL_PROC.to_ne_bytes());
    put(ACKNOWLEDGED, &number.to_ne_bytes());
    put(32, &4u16.to_ne_bytes());
    put(36, &order.to_ne_bytes());
    request
}

/// Returns the `struct proc_event` in a message.
pub(super) fn payload(message: &[u8]) -> Option<&[u8]> {
    let is_ours = word(message, 16)? == CN_IDX_PROC && word(message, 20)? == CN_VAL_PROC;
    let length = u16::from_ne_bytes(*message.get(32..)?.first_chunk()?);
    message.get(36..36 + usize::from(length)).filter(|_| is_ours)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn wait(socket: &OwnedFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

fn refused(source: io::Error) -> Error {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => Error::Permission {
            what: "process events".to_owned(),
            hint: "they need CAP_NET_ADMIN in the initial user namespace".to_owned(),
        },
        Some(Errno::CONNREFUSED) => Error::Input {
            name: "process events".to_owned(),
            source: io::Error::new(
                io::ErrorKind::Unsupported,
                "they are for the initial network namespace only",
            ),
        },
        _ => Error::Input { name: "process events".to_owned(), source },
    }
}

/// How long the kernel's answer is waited for; it comes at once or never.
const ANSWER: Duration = Duration::from_millis(500);
/// The size of the receive buffer, in bytes.
const BUFFER: usize = 4 << 20;
// linux/netlink.h, linux/connector.h, linux/cn_proc.h
const NLMSG_DONE: u16 = 3;
const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const MCAST_LISTEN: u32 = 1;
const MCAST_IGNORE: u32 = 2;
const EVENT_NONE: u32 = 0;
const EVENT_FORK: u32 = 1;
const EVENT_EXEC: u32 = 2;
const EVENT_EXIT: u32 = 0x8000_0000;
/// Where a connector's message has the number that its answer counts up by one. The number before it, of the message
/// itself, does not come back: the kernel puts its own in its place.
const ACKNOWLEDGED: usize = 28;
/// Where an event's own data begins: after its type, the processor and the time.
const DATA: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: u32, data: &[u32]) -> Vec<u8> {
        let mut event = Vec::new();
        event.extend(what.to_ne_bytes());
        event.extend(1u32.to_ne_bytes());
        event.extend(5_000_000_000u64.to_ne_bytes());
        event.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
        event
    }

    fn parsed(what: u32, data: &[u32]) -> Option<ProcessEvent> {
        ProcessEvent::parse(&event(what, data), 1_000_000_000)
    }

    #[test]
    fn events_of_processes() {
        let time = Timestamp::from_nanos(6_000_000_000);
        let fork = Some(ProcessEvent::Fork { time, pid: 40, parent: 30 });
        assert_eq!(parsed(EVENT_FORK, &[31, 30, 40, 40]), fork);
        assert_eq!(parsed(EVENT_EXEC, &[40, 40]), Some(ProcessEvent::Exec { time, pid: 40 }));
        let exit = Some(ProcessEvent::Exit { time, pid: 40, status: 256 });
        assert_eq!(parsed(EVENT_EXIT, &[40, 40, 256, 17, 30, 30]), exit);
    }

    #[test]
    fn threads_and_other_events_are_left_out() {
        assert_eq!(parsed(EVENT_FORK, &[30, 30, 41, 30]), None);
        assert_eq!(parsed(EVENT_EXIT, &[41, 30, 0, 0, 1, 1]), None);
        assert_eq!(parsed(EVENT_NONE, &[0]), None);
        assert_eq!(parsed(0x200, &[40, 40, 0, 0]), None);
    }

    #[test]
    fn cut_messages_hold_nothing() {
        let whole = event(EVENT_EXIT, &[40, 40, 256]);
        for length in 0..whole.len() {
            assert_eq!(ProcessEvent::parse(&whole[..length], 0), None, "{length}");
        }
        let mut message = request(7, MCAST_LISTEN).to_vec();
        assert_eq!(payload(&message), Some(&MCAST_LISTEN.to_ne_bytes()[..]));
        message.truncate(39);
        assert_eq!(payload(&message), None);
        assert_eq!(payload(&[]), None);
    }
}
