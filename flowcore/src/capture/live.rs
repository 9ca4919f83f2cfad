//! Frames from interfaces, through libpcap.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pcap::{Active, Capture, Linktype, Precision};
use rustix::event::{PollFd, PollFlags, poll};

use super::filter::said;
use super::input::timespec;
use super::interfaces::interfaces;
use super::{Next, Source, SourceCounts, link};
use crate::error::Error;
use crate::packet::{Frame, LinkType};
use crate::time::Timestamp;

/// How to capture.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Bytes captured of each packet.
    pub snaplen: u32,
    /// Whether packets for other machines are captured as well.
    pub promiscuous: bool,
    /// Bytes of the kernel's ring, per interface.
    pub buffer_bytes: u32,
    /// A tcpdump filter expression, which the kernel applies.
    pub filter: Option<String>,
}

impl Default for LiveOptions {
    /// Whole packets, promiscuous, 64 MiB, no filter.
    fn default() -> Self {
        LiveOptions { snaplen: 262_144, promiscuous: true, buffer_bytes: 64 * 1024 * 1024, filter: None }
    }
}

/// Captures on one or more interfaces.
///
/// An interface that goes down or away is no error: its packets stop, and go on when it is back.
pub struct LiveSource {
    devices: Vec<Device>,
    options: LiveOptions,
    /// Packets come at once, each by itself.
    immediate: bool,
    /// The device whose turn it is.
    turn: usize,
    batch: Batch,
    counts: SourceCounts,
    counters_due: Instant,
}

impl LiveSource {
    /// Opens interfaces by name; `any` is all of them.
    ///
    /// # Errors
    /// [`Error::Input`] for an interface that does not exist or is not up, [`Error::Permission`] where the
    /// system does not allow to capture, [`Error::Filter`] for a filter that libpcap refuses, and
    /// [`Error::Option`] for no interface at all or a number that libpcap cannot take.
    pub fn open(interfaces: &[String], options: LiveOptions) -> Result<LiveSource, Error> {
        LiveSource::open_as(interfaces, options, false)
    }

    pub(super) fn open_as(
        interfaces: &[String],
        options: LiveOptions,
        immediate: bool,
    ) -> Result<LiveSource, Error> {
        if interfaces.is_empty() {
            return Err(Error::Option("no interface to capture on".to_owned()));
        }
        let devices = interfaces
            .iter()
            .map(|name| {
                let handle = Handle::open(name, &options, immediate)?;
                Ok(Device { name: name.as_str().into(), state: State::Open(handle) })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(LiveSource {
            devices,
            options,
            immediate,
            turn: 0,
            batch: Batch::default(),
            counts: SourceCounts::default(),
            counters_due: Instant::now() + COUNTER_INTERVAL,
        })
    }

    /// Fills the batch from the next device that has something; false if nothing came within `patience`.
    fn fill(&mut self, patience: Duration) -> Result<bool, Error> {
        let mut now = Instant::now();
        let deadline = now.checked_add(patience);
        loop {
            if now >= self.counters_due {
                self.read_counters();
                self.counters_due = now + COUNTER_INTERVAL;
            }
            // libpcap asks the kernel for each device that has nothing; one call asks for all.
            let due = self.devices.iter().filter(|device| device.is_due(now)).count();
            if due < self.devices.len() {
                let until = if due > 0 { Some(now) } else { deadline };
                if !self.wait(until, now)? {
                    return Ok(false);
                }
                now = Instant::now();
            }
            for _ in 0..self.devices.len() {
                self.turn = (self.turn + 1) % self.devices.len().max(1);
                let Some(device) = self.devices.get_mut(self.turn) else { continue };
                if device.is_due(now) {
                    device.fill(&mut self.batch, &self.options, self.immediate, &mut self.counts, now);
                }
                if !self.batch.is_done() {
                    return Ok(true);
                }
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(false);
            }
        }
    }

    /// Waits for a packet, the deadline, or the moment when something else is due; false if a signal came.
    fn wait(&mut self, deadline: Option<Instant>, now: Instant) -> Result<bool, Error> {
        let mut until = self.counters_due;
        until = until.min(deadline.unwrap_or(until));
        let mut descriptors = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            match &device.state {
                State::Open(handle) => {
                    descriptors.push(PollFd::new(&handle.capture, PollFlags::IN));
                    until = until.min(handle.leaves.unwrap_or(until));
                }
                State::Gone { retry, .. } => until = until.min(*retry),
            }
        }
        let answered = match poll(&mut descriptors, Some(&timespec(until.saturating_duration_since(now)))) {
            Ok(answered) => answered,
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(Error::Input { name: "poll".to_owned(), source: error.into() }),
        };
        // Once time is up each is looked at: not every system wakes its waiters for all that libpcap can hand over.
        let is_time_up = answered == 0 && until > now;
        let is_ready = |descriptor: &PollFd<'_>| is_time_up || !descriptor.revents().is_empty();
        let ready: Vec<bool> = descriptors.iter().map(is_ready).collect();
        let handles = self.devices.iter_mut().filter_map(|device| match &mut device.state {
            State::Open(handle) => Some(handle),
            State::Gone { .. } => None,
        });
        for (handle, is_ready) in handles.zip(ready) {
            handle.is_ready |= is_ready;
        }
        Ok(true)
    }

    fn read_counters(&mut self) {
        for device in &mut self.devices {
            if let State::Open(handle) = &mut device.state {
                handle.read_counters(&mut self.counts);
            }
        }
    }
}

impl Source for LiveSource {
    #[inline]
    fn next(&mut self, patience: Duration) -> Result<Next<'_>, Error> {
        if self.batch.is_done() && !self.fill(patience)? {
            return Ok(Next::Idle);
        }
        let Some((data, captured)) = self.batch.next() else { return Ok(Next::Idle) };
        let device = self.devices.get(self.turn);
        Ok(Next::Frame(Frame {
            data,
            time: Some(captured.time),
            wire_len: captured.wire_len,
            link: captured.link,
            interface: device.map(|device| &device.name),
        }))
    }

    fn counts(&mut self) -> SourceCounts {
        self.read_counters();
        self.counts
    }

    fn missing(&self) -> Vec<String> {
        let gone = self.devices.iter().filter(|device| matches!(device.state, State::Gone { .. }));
        gone.map(|device| device.name.to_string()).collect()
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// An interface to capture on, there or not.
struct Device {
    name: Arc<str>,
    state: State,
}

enum State {
    Open(Handle),
    /// The interface went away; it is looked for again at `retry`, then after `pause`.
    Gone {
        retry: Instant,
        pause: Duration,
    },
}

impl Device {
    /// Tells whether there may be something to move, or it is time to look at the interface.
    fn is_due(&self, now: Instant) -> bool {
        match &self.state {
            State::Open(handle) => handle.is_ready || handle.leaves.is_some_and(|leaves| now >= leaves),
            State::Gone { retry, .. } => now >= *retry,
        }
    }

    /// Moves what the kernel has into the batch; looks for an interface that went away when that is due.
    fn fill(
        &mut self,
        batch: &mut Batch,
        options: &LiveOptions,
        immediate: bool,
        counts: &mut SourceCounts,
        now: Instant,
    ) {
        match &mut self.state {
            State::Open(handle) => {
                if handle.fill(batch).is_err() {
                    handle.leaves.get_or_insert(now + LAST_BLOCK);
                }
                if batch.is_done() && handle.leaves.is_some_and(|leaves| now >= leaves) {
                    handle.read_counters(counts);
                    self.state = State::Gone { retry: now + FIRST_PAUSE, pause: FIRST_PAUSE };
                }
            }
            State::Gone { retry, .. } if now < *retry => {}
            State::Gone { retry, pause } => match Handle::open(&self.name, options, immediate) {
                Ok(handle) => self.state = State::Open(handle),
                Err(_) => {
                    *pause = (*pause * 2).min(LONGEST_PAUSE);
                    *retry = now + *pause;
                }
            },
        }
    }
}

/// An open libpcap handle and the counters it had when they were last read.
struct Handle {
    capture: Capture<Active>,
    link: LinkType,
    received: u32,
    dropped: u32,
    interface_dropped: u32,
    /// The interface is gone; until then the kernel may hand over what came before.
    leaves: Option<Instant>,
    /// The kernel has something.
    is_ready: bool,
}

impl Handle {
    fn open(name: &str, options: &LiveOptions, immediate: bool) -> Result<Handle, Error> {
        let number = |value: u32, what: &str| {
            i32::try_from(value).map_err(|_| Error::Option(format!("{what} {value} is too large")))
        };
        let mut capture = Capture::from_device(name)
            .map_err(|error| refusal(name, &error))?
            .snaplen(number(options.snaplen, "snapshot length")?)
            .buffer_size(number(options.buffer_bytes, "buffer size")?)
            // The device `any` has no promiscuous mode; the warning about it would count as an error.
            .promisc(options.promiscuous && name != ANY)
            .timeout(BLOCK_TIMEOUT_MS)
            .immediate_mode(immediate)
            .precision(Precision::Nano)
            .open()
            .map_err(|error| refusal(name, &error))?;
        // Programs that are started later have no business with it; libpcap leaves it open for them.
        #[cfg(unix)]
        if let Ok(flags) = rustix::io::fcntl_getfd(&capture) {
            let _ = rustix::io::fcntl_setfd(&capture, flags | rustix::io::FdFlags::CLOEXEC);
        }
        // Cooked frames of version 2 tell the interface; where libpcap has only version 1, that one serves.
        let cooked = Linktype::LINUX_SLL2;
        if name == ANY && capture.list_datalinks().is_ok_and(|links| links.contains(&cooked)) {
            let _ = capture.set_datalink(cooked);
        }
        if let Some(expression) = &options.filter {
            capture
                .filter(expression, true)
                .map_err(|error| Error::Filter { expression: expression.clone(), what: said(&error) })?;
        }
        let link = link::from_dlt(capture.get_datalink().0);
        let capture = capture.setnonblock().map_err(|error| refusal(name, &error))?;
        Ok(Handle {
            capture,
            link,
            received: 0,
            dropped: 0,
            interface_dropped: 0,
            leaves: None,
            is_ready: true,
        })
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<(), pcap::Error> {
        let link = self.link;
        batch.clear();
        self.is_ready = false;
        let count = self.capture.dispatch(Some(BATCH_LEN), |packet| {
            let header = packet.header;
            // The precision is nanoseconds, whatever the field is called.
            let nanos = i128::from(header.ts.tv_sec) * 1_000_000_000 + i128::from(header.ts.tv_usec);
            let (time, _) = Timestamp::from_wide_nanos(nanos);
            batch.push(packet.data, Captured { end: 0, wire_len: header.len, time, link });
        })?;
        self.is_ready = count >= BATCH_LEN;
        Ok(())
    }

    /// Adds what libpcap counted since the last time; its counters have 32 bit and wrap.
    fn read_counters(&mut self, counts: &mut SourceCounts) {
        let Ok(stat) = self.capture.stats() else { return };
        counts.kernel_received += u64::from(advance(&mut self.received, stat.received));
        counts.kernel_dropped += u64::from(advance(&mut self.dropped, stat.dropped));
        // libpcap counts this one backwards where it cannot read sysfs any more; a step back is no drop.
        let step = advance(&mut self.interface_dropped, stat.if_dropped);
        if i32::try_from(step).is_ok() {
            counts.interface_dropped += u64::from(step);
        }
    }
}

/// Moves a counter that wraps to its new value; returns by how much it went up.
fn advance(counter: &mut u32, now: u32) -> u32 {
    let step = now.wrapping_sub(*counter);
    *counter = now;
    step
}

/// Frames that were taken out of the kernel's ring together: the ring gives a block back as soon as it was
/// gone through, so that they are copied once, here.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Captured>,
    next: usize,
    /// Where in `bytes` the next frame begins.
    at: usize,
}

#[derive(Clone, Copy)]
struct Captured {
    end: usize,
    wire_len: u32,
    time: Timestamp,
    link: LinkType,
}

impl Batch {
    #[inline]
    fn is_done(&self) -> bool {
        self.next >= self.frames.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.next = 0;
        self.at = 0;
    }

    #[inline]
    fn push(&mut self, data: &[u8], captured: Captured) {
        self.bytes.extend_from_slice(data);
        self.frames.push(Captured { end: self.bytes.len(), ..captured });
    }

    #[inline]
    fn next(&mut self) -> Option<(&[u8], Captured)> {
        let captured = *self.frames.get(self.next)?;
        let data = self.bytes.get(self.at..captured.end)?;
        self.next += 1;
        self.at = captured.end;
        Some((data, captured))
    }
}

/// Says why an interface cannot be opened: libpcap only has words for it.
fn refusal(name: &str, error: &pcap::Error) -> Error {
    let text = said(error);
    let exists = name == ANY || interfaces().map_or(true, |all| all.iter().any(|one| one.name == name));
    if !exists {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such interface");
        return Error::Input { name: name.to_owned(), source };
    }
    let lower = text.to_ascii_lowercase();
    if ["permission", "not permitted", "cap_net_raw"].iter().any(|word| lower.contains(word)) {
        return Error::Permission {
            what: format!("capture on {name}"),
            hint: "it takes CAP_NET_RAW (and CAP_NET_ADMIN for promiscuous mode): \
                   sudo setcap cap_net_raw=eip PROGRAM (the processes of other users are named with \
                   cap_sys_ptrace,cap_dac_read_search besides)"
                .to_owned(),
        };
    }
    let kind = if lower.contains("not up") || lower.contains("is down") {
        io::ErrorKind::NetworkDown
    } else {
        io::ErrorKind::Other
    };
    Error::Input { name: name.to_owned(), source: io::Error::new(kind, text) }
}

const ANY: &str = "any";
/// After this time the kernel hands over a block of the ring that is not full.
const BLOCK_TIMEOUT_MS: i32 = 3;
/// Longer than the kernel keeps a block that is not full.
const LAST_BLOCK: Duration = Duration::from_millis(50);
const COUNTER_INTERVAL: Duration = Duration::from_secs(1);
/// Frames taken out of a ring at a time.
const BATCH_LEN: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_wrap_go_on() {
        let mut last = u32::MAX - 9;
        assert_eq!(advance(&mut last, 10), 20);
        assert_eq!(last, 10);
        assert_eq!(advance(&mut last, 10), 0);
    }

    #[test]
    fn a_missing_interface_is_an_input_error() {
        let opened = LiveSource::open(&["no-such-if0".to_owned()], LiveOptions::default());
        let Err(Error::Input { name, source }) = opened else { panic!("opened, or another error") };
        assert_eq!((name.as_str(), source.kind()), ("no-such-if0", io::ErrorKind::NotFound));
    }

    #[test]
    fn no_interface_is_an_option_error() {
        assert!(matches!(LiveSource::open(&[], LiveOptions::default()), Err(Error::Option(_))));
    }

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let mut batch = Batch::default();
        let captured = Captured { end: 0, wire_len: 9, time: Timestamp::EPOCH, link: LinkType(1) };
        batch.push(b"one", captured);
        batch.push(b"", captured);
        batch.push(b"three", captured);
        for expected in [&b"one"[..], b"", b"three"] {
            assert!(!batch.is_done());
            assert_eq!(batch.next().unwrap().0, expected);
        }
        assert!(batch.is_done() && batch.next().is_none());
        batch.clear();
        assert!(batch.is_done());
    }
}
