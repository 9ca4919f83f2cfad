//! A connection with a server, in the clear or by TLS, whose reads and writes end when patience does.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use super::destination::Destination;
use super::dial;
use super::options::ShipOptions;
use super::patience::Patience;
use super::tls::TlsFiles;

/// A connection with a server.
pub(super) struct Stream {
    wire: Wire,
    tls: Option<Box<ClientConnection>>,
    patience: Patience,
}

/// The socket below, and how many bytes have gone over it.
struct Wire {
    socket: Socket,
    moved: u64,
    /// Whether it failed otherwise than by an end: the system says so only once, to a read or to a write.
    failed: bool,
}

/// How a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Open,
    /// The other side has closed it, and had read all that had come by then: with something unread, it is reset.
    Closed,
    /// It was reset, or nobody knows.
    Lost,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to a destination, and shakes hands if it speaks TLS.
    ///
    /// # Errors
    /// What the resolver, the system or TLS says; the kinds `InvalidInput` and `InvalidData` are for what time does
    /// not mend: files that are wrong, certificates that are not good,
    /// records that would leave this machine in the clear.
    pub(super) fn open(
        destination: &Destination,
        options: &ShipOptions,
        patience: &Patience,
        limit: Instant,
    ) -> io::Result<Stream> {
        if let Some(path) = destination.socket() {
            let socket = Socket::Unix(dial::connect_unix(&path)?);
            return Ok(Stream::over(socket, None, patience));
        }
        let addresses = dial::resolve(destination, options.allow_plaintext, patience, limit)?;
        Stream::to(&addresses, destination, &TlsFiles::of(options), patience, limit)
    }

    /// Does the same with addresses that are known.
    pub(super) fn to(
        addresses: &[std::net::SocketAddr],
        destination: &Destination,
        tls: &TlsFiles,
        patience: &Patience,
        limit: Instant,
    ) -> io::Result<Stream> {
        let socket = Socket::Tcp(dial::connect(addresses, patience, limit)?);
        let tls = destination.scheme.is_tls().then(|| tls.client(&destination.host)).transpose()?;
        let mut stream = Stream::over(socket, tls, patience);
        stream.shake_hands(limit)?;
        Ok(stream)
    }

    fn over(socket: Socket, tls: Option<ClientConnection>, patience: &Patience) -> Stream {
        Stream {
            wire: Wire { socket, moved: 0, failed: false },
            tls: tls.map(Box::new),
            patience: patience.clone(),
        }
    }

    /// Reads what comes, at least one byte; 0 is the end.
    ///
    /// # Errors
    /// `TimedOut` if nothing comes until `limit`.
    pub(super) fn read(&mut self, buffer: &mut [u8], limit: Instant) -> io::Result<usize> {
        self.patiently(limit, None, |tls, wire| match tls {
            Some(tls) => read_tls(tls, wire, buffer),
            None => wire.read(buffer),
        })
    }

    /// Writes all of it; as long as some of it goes on its way, up to `silence` passes between two pieces.
    ///
    /// # Errors
    /// `TimedOut` if the other side takes nothing for so long.
    pub(super) fn write_all(&mut self, mut bytes: &[u8], silence: Duration) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.patiently(Instant::now() + silence, Some(silence), |tls, wire| match tls {
                Some(tls) => rustls::Stream::new(tls, wire).write(bytes),
                None => wire.write(bytes),
            })?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        self.patiently(Instant::now() + silence, Some(silence), |tls, wire| match tls {
            Some(tls) => rustls::Stream::new(tls, wire).flush(),
            None => Ok(()),
        })
    }

    /// Tells whether the other side has neither closed nor reset the connection; what it says is read and dropped.
    pub(super) fn is_open(&mut self) -> bool {
        self.state() == State::Open
    }

    /// Tells how the connection stands; what the other side says is read and dropped.
    pub(super) fn state(&mut self) -> State {
        let mut buffer = [0; 4096];
        if self.wire.socket.set_nonblocking(true).is_err() {
            return State::Lost;
        }
        let mut state = State::Open;
        // One that talks without end is left after a while, so that it gets its records.
        for _ in 0..64 {
            let read = match &mut self.tls {
                Some(tls) => read_tls(tls, &mut self.wire, &mut buffer),
                None => self.wire.read(&mut buffer),
            };
            state = match read {
                Ok(0) => State::Closed,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => State::Open,
                // Many close without a goodbye of TLS.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => State::Closed,
                Err(_) => State::Lost,
            };
            break;
        }
        let is_known = self.wire.socket.set_nonblocking(false).is_ok() && !self.wire.failed;
        if is_known { state } else { State::Lost }
    }

    /// Tells whether something came to the other side after it had closed the connection.
    pub(super) fn came_too_late(&self) -> bool {
        !matches!(self.wire.socket.take_error(), Ok(None))
    }

    /// Waits whether the other side closes or refuses right after the beginning, as one does that wants another
    /// certificate (in TLS 1.3 the client learns it only now).
    ///
    /// # Errors
    /// What it says, `ConnectionAborted` if it just closes.
    pub(super) fn settle(&mut self, time: Duration) -> io::Result<()> {
        let limit = Instant::now() + time;
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer, limit) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "closed by the server at once",
                    ));
                }
                Ok(_) if Instant::now() < limit => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says goodbye and waits for the other side to close too, as a sign that it has read everything; tells whether it did.
    pub(super) fn close(&mut self, limit: Instant) -> bool {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.patiently(limit, None, |tls, wire| match tls {
                Some(tls) => rustls::Stream::new(tls, wire).flush(),
                None => Ok(()),
            });
        }
        if self.wire.socket.shutdown().is_err() {
            return false;
        }
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer, limit) {
                Ok(0) => return true,
                Ok(_) => {}
                // Many close without a goodbye of TLS.
                Err(error) => return error.kind() == io::ErrorKind::UnexpectedEof,
            }
        }
    }

    /// Returns the version of TLS that is spoken.
    pub(super) fn tls_version(&self) -> Option<&'static str> {
        match self.tls.as_ref()?.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
            rustls::ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
            _ => Some("TLS"),
        }
    }

    /// Returns the address of the other side, where it has one.
    pub(super) fn peer(&self) -> Option<std::net::SocketAddr> {
        match &self.wire.socket {
            Socket::Tcp(stream) => stream.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    fn shake_hands(&mut self, limit: Instant) -> io::Result<()> {
        let shaken = self.patiently(limit, None, |tls, wire| match tls {
            Some(tls) if tls.is_handshaking() => tls.complete_io(wire).map(|_| ()),
            _ => Ok(()),
        });
        shaken.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the server closed the connection during the TLS handshake")
            }
            kind => io::Error::new(kind, format!("TLS handshake: {error}")),
        })
    }

    /// Tries something in slices of time until it is done, fails, or patience ends. With `silence`, each byte that
    /// moves gives it that much more time.
    fn patiently<T>(
        &mut self,
        mut limit: Instant,
        silence: Option<Duration>,
        mut what: impl FnMut(Option<&mut ClientConnection>, &mut Wire) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut since = Instant::now();
        let mut moved = self.wire.moved;
        loop {
            self.wire.socket.set_timeout(self.patience.slice(since, limit)?)?;
            match what(self.tls.as_deref_mut(), &mut self.wire) {
                Err(error) if is_slice(&error) => {}
                done => return done,
            }
            if self.wire.moved != moved {
                moved = self.wire.moved;
                since = Instant::now();
                if let Some(silence) = silence {
                    limit = since + silence;
                }
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer()).field("tls", &self.tls.is_some()).finish()
    }
}

impl Wire {
    /// Notes what became of a read or a write.
    fn note(&mut self, outcome: io::Result<usize>) -> io::Result<usize> {
        match &outcome {
            Ok(bytes) => self.moved += *bytes as u64,
            // A broken pipe is one that the other side had closed before.
            Err(error) => self.failed |= !is_slice(error) && error.kind() != io::ErrorKind::BrokenPipe,
        }
        outcome
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.socket {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        };
        self.note(read)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.socket {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        };
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    fn set_timeout(&self, time: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => {
                stream.set_read_timeout(Some(time)).and(stream.set_write_timeout(Some(time)))
            }
            Socket::Unix(stream) => {
                stream.set_read_timeout(Some(time)).and(stream.set_write_timeout(Some(time)))
            }
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Socket::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Socket::Tcp(stream) => stream.take_error(),
            Socket::Unix(stream) => stream.take_error(),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

/// Reads what comes by TLS, also if nothing can be written any more: it may say why.
fn read_tls(tls: &mut ClientConnection, wire: &mut Wire, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        // Answers to what was read; if they do not leave, reading will tell.
        if tls.wants_write() {
            let _ = tls.write_tls(wire);
        }
        tls.read_tls(wire)?;
        if let Err(error) = tls.process_new_packets() {
            // The alert that says so to the other side.
            let _ = tls.write_tls(wire);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

/// Tells whether an error says no more than that a slice of time is over.
fn is_slice(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
