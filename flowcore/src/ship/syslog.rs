//! Records as syslog messages: RFC 5424, over UDP (RFC 5426) and after their length over TCP and TLS.
//!
//! The message itself is the JSON line, without a byte order mark: RFC 5424 would let it begin with one to say that it
//! is UTF-8, but RFC 8259 forbids one before JSON, and receivers hand it on as part of the text.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::batch::Head;
use super::destination::Destination;
use super::dial;
use super::options::ShipOptions;
use super::patience::Patience;
use super::{Batch, SendError, Sender, Sent};
use crate::time::Timestamp;

/// Makes messages of lines: `<134>1 TIME HOST flowcap PID TYPE [flowcap@32473 instance="…" seq="…"] {…}`.
///
/// TIME is that of the record, with the six decimals that RFC 5424 allows, else the time of day; TYPE its type.
pub(super) struct Syslog {
    before_time: String,
    after_time: String,
}

/// Sends each record as a datagram, whole or not at all.
pub(super) struct DatagramSender {
    destination: Destination,
    syslog: Syslog,
    timeout: Duration,
    allow_plaintext: bool,
    patience: Patience,
    socket: Option<UdpSocket>,
}

impl Syslog {
    pub(super) fn new(options: &ShipOptions) -> Self {
        let host = options.hostname.clone().or_else(|| fs::read_to_string("/proc/sys/kernel/hostname").ok());
        let host = printable(host.unwrap_or_default().trim(), 255);
        Syslog {
            before_time: format!("<{}>1 ", options.priority),
            after_time: format!(" {host} flowcap {} ", process::id()),
        }
    }

    /// Returns all messages of a batch, each after its length in bytes and a blank (RFC 6587, RFC 5425).
    pub(super) fn counted(&self, batch: &Batch) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(batch.lines.len() + 160 * usize::try_from(batch.count()).unwrap_or(0));
        for line in batch.each() {
            let message = self.message(line);
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(&message);
        }
        bytes
    }

    fn message(&self, line: &[u8]) -> Vec<u8> {
        let head = Head::of(line);
        let time = head.timestamp.and_then(Timestamp::parse).unwrap_or_else(time_of_day).rfc3339();
        let micros = time.get(..26).unwrap_or_default();
        let mut text = self.before_time.clone();
        text.push_str(&String::from_utf8_lossy(micros));
        text.push('Z');
        text.push_str(&self.after_time);
        text.push_str(&printable(head.kind.unwrap_or_default(), 32));
        text.push_str(" [flowcap@32473");
        if let Some(instance) = head.instance {
            let _ = write!(
                text,
                " instance=\"{}\"",
                instance.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
            );
        }
        if let Some(seq) = head.seq {
            let _ = write!(text, " seq=\"{seq}\"");
        }
        text.push_str("] ");
        let mut message = text.into_bytes();
        message.extend_from_slice(line);
        message
    }
}

impl DatagramSender {
    pub(super) fn new(destination: &Destination, options: &ShipOptions, patience: Patience) -> Self {
        DatagramSender {
            destination: destination.clone(),
            syslog: Syslog::new(options),
            timeout: options.connect_timeout,
            allow_plaintext: options.allow_plaintext,
            patience,
            socket: None,
        }
    }

    fn connected(&self) -> io::Result<UdpSocket> {
        let limit = Instant::now() + self.timeout;
        let addresses = dial::resolve(&self.destination, self.allow_plaintext, &self.patience, limit)?;
        connect_udp(&addresses)
    }

    fn send_each(&self, socket: &UdpSocket, batch: &Batch) -> io::Result<Sent> {
        let mut sent = Sent::default();
        for (at, line) in batch.each().enumerate() {
            if at > 0 && at % BURST == 0 {
                thread::sleep(BREATH);
            }
            let message = self.syslog.message(line);
            match send_patiently(socket, &message, &self.patience) {
                Ok(_) => sent.bytes += message.len() as u64,
                Err(error) if is_too_long(&error) => sent.refused += 1,
                Err(error) => return Err(error),
            }
        }
        // That nobody listens is heard after sending.
        match socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(sent),
        }
    }
}

impl Sender for DatagramSender {
    fn send(&mut self, batch: &Batch) -> Result<Sent, SendError> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connected().map_err(|error| SendError::of_io(&error))?,
        };
        // After a failure the name is resolved anew.
        let sent = self.send_each(&socket, batch).map_err(|error| SendError::retry(error.to_string()))?;
        self.socket = Some(socket);
        Ok(sent)
    }
}

/// Makes a socket that sends to the first of the addresses that there is a route to.
///
/// # Errors
/// What the system says of the last one.
pub(super) fn connect_udp(addresses: &[SocketAddr]) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in addresses {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let tried = UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket));
        match tried.and_then(|socket| socket.set_write_timeout(Some(DATAGRAM_SLICE)).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends one datagram, waiting while the device is full.
fn send_patiently(socket: &UdpSocket, message: &[u8], patience: &Patience) -> io::Result<usize> {
    let since = Instant::now();
    loop {
        match socket.send(message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                patience.slice(since, since + DATAGRAM_WAIT)?;
            }
            done => return done,
        }
    }
}

/// Tells whether a datagram is longer than datagrams can be (EMSGSIZE).
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

/// Returns a field of the header: at most so many visible ASCII characters, `-` for none.
fn printable(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

pub(super) fn time_of_day() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_wide_nanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)).0
}

/// Receivers lose datagrams that come faster than they read: after so many there is a pause.
const BURST: usize = 32;
/// That pause.
const BREATH: Duration = Duration::from_millis(1);
const DATAGRAM_SLICE: Duration = Duration::from_millis(100);
const DATAGRAM_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_the_rfc_says() {
        let syslog =
            Syslog::new(&ShipOptions { hostname: Some("sensor 1".to_owned()), ..ShipOptions::default() });
        let line = br#"{"type":"flow","timestamp":"2026-11-21T14:40:36.972847123Z","bytes":5,"instance":"ab12","seq":7}"#;
        let message = String::from_utf8(syslog.message(line)).unwrap();
        let expected = format!(
            "<134>1 2026-11-21T14:40:36.972847Z sensor1 flowcap {} flow [flowcap@32473 instance=\"ab12\" seq=\"7\"] {}",
            process::id(),
            std::str::from_utf8(line).unwrap()
        );
        assert_eq!(message, expected);
        let batch = Batch {
            first_seq: 7,
            last_seq: 7,
            records: 1,
            gaps: 0,
            lines: [line.as_slice(), b"\n"].concat(),
        };
        assert_eq!(syslog.counted(&batch), format!("{} {expected}", expected.len()).into_bytes());
    }

    #[test]
    fn what_a_line_does_not_say_is_left_out() {
        let syslog = Syslog::new(&ShipOptions::default());
        let message = String::from_utf8(syslog.message(b"{}")).unwrap();
        assert!(message.ends_with(" - [flowcap@32473] {}"), "{message}");
    }
}
