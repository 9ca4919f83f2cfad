//! HTTP's way over our own connections: resolving, connecting and waiting as everywhere else in this room.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::destination::Destination;
use super::dial;
use super::patience::Patience;
use super::stream::Stream;
use super::tls::TlsFiles;

/// Opens connections to one destination.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    pub destination: Destination,
    pub tls: TlsFiles,
    pub patience: Patience,
    pub allow_plaintext: bool,
    /// The status of an answer with more fields in its head than ureq reads; 0 for others.
    pub long_head: Arc<AtomicU16>,
}

/// A connection with its buffers.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    buffers: LazyBuffers,
    is_tls: bool,
    long_head: Arc<AtomicU16>,
    /// What ended the sending. A server may answer a body that it does not want to the end, and close: its answer is
    /// still there to be read.
    broken: Option<io::Error>,
}

impl Resolver for Dialler {
    fn resolve(&self, _: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let limit = end_of(&timeout);
        let found = dial::resolve(&self.destination, self.allow_plaintext, &self.patience, limit)?;
        let mut addresses = self.empty();
        found.into_iter().take(MOST_ADDRESSES).for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

impl Connector for Dialler {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let limit = end_of(&details.timeout);
        let stream = Stream::to(&details.addrs, &self.destination, &self.tls, &self.patience, limit)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let (is_tls, long_head) = (self.destination.scheme.is_tls(), Arc::clone(&self.long_head));
        Ok(Some(Connection { stream, buffers, is_tls, long_head, broken: None }))
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if self.broken.is_some() {
            return Ok(());
        }
        let left = end_of(&timeout).saturating_duration_since(Instant::now());
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        match self.stream.write_all(output, left) {
            Err(error) if is_closed(&error) => self.broken = Some(error),
            done => done.map_err(|error| in_time(error, &timeout))?,
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let room = self.buffers.input_append_buf();
        let read = self.stream.read(room, end_of(&timeout));
        let mut is_end = false;
        if let Some(error) = self.broken.take() {
            match read {
                Ok(read) if read > 0 => self.buffers.input_appended(read),
                // TLS says why.
                Err(why) if why.kind() == io::ErrorKind::InvalidData => return Err(why.into()),
                _ => return Err(error.into()),
            }
            let answer = final_answer(self.buffers.input());
            match status_of(answer).map(|status| status / 100) {
                // What a server has not read, it cannot have taken.
                Some(2) => return Err(error.into()),
                None if is_whole(answer) => return Err(error.into()),
                None | Some(1) => self.broken = Some(error),
                Some(_) => {}
            }
        } else {
            let read = read.map_err(|error| in_time(error, &timeout))?;
            self.buffers.input_appended(read);
            is_end = read == 0;
        }
        let answer = self.buffers.input();
        if let Some(status) = status_of(answer).filter(|_| fields_of(answer) >= MOST_FIELDS) {
            self.long_head.store(status, Ordering::Relaxed);
        }
        Ok(!is_end)
    }

    fn is_open(&mut self) -> bool {
        self.stream.is_open()
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}

/// Returns when a timeout of ureq is over.
fn end_of(timeout: &NextTimeout) -> Instant {
    Instant::now() + (*timeout.after).min(LONGEST)
}

fn in_time(error: io::Error, timeout: &NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => ureq::Error::Io(error),
    }
}

/// Tells whether the other side has closed the connection.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

/// Returns the status that an answer begins with.
fn status_of(answer: &[u8]) -> Option<u16> {
    let digits = answer.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?.first_chunk::<3>()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns an answer without the heads that only say that one will come.
fn final_answer(mut answer: &[u8]) -> &[u8] {
    loop {
        answer = answer.trim_ascii_start();
        let is_early = status_of(answer).is_some_and(|status| status / 100 == 1);
        match answer.windows(4).position(|four| four == b"\r\n\r\n").filter(|_| is_early) {
            Some(end) => answer = answer.get(end + 4..).unwrap_or_default(),
            None => return answer,
        }
    }
}

/// Tells whether the head of an answer is whole.
fn is_whole(answer: &[u8]) -> bool {
    answer.windows(2).any(|two| two == b"\n\n") || answer.windows(3).any(|three| three == b"\n\r\n")
}

/// Counts the fields in the head of an answer.
fn fields_of(answer: &[u8]) -> usize {
    let lines = answer.split(|&byte| byte == b'\n').skip(1);
    lines.take_while(|line| !line.trim_ascii().is_empty()).count()
}

/// The most fields that ureq has room for.
const MOST_FIELDS: usize = 128;
/// The most addresses that ureq has room for.
const MOST_ADDRESSES: usize = 16;
/// In place of no timeout.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::super::options::ShipOptions;
    use super::*;
    use crate::stop::Stop;

    /// What comes of an answer to half a body, read piece by piece: whether the sender may hear it.
    fn is_heard(pieces: &[&str]) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let destination = Destination::parse(&format!("http://{to}/")).unwrap();
        let patience = Patience::new(Stop::new(), Duration::ZERO);
        let files = TlsFiles::of(&ShipOptions::default());
        let limit = Instant::now() + Duration::from_secs(20);
        let stream = Stream::to(&[to], &destination, &files, &patience, limit).unwrap();
        let mut connection = Connection {
            stream,
            buffers: LazyBuffers::new(4096, 4096),
            is_tls: false,
            long_head: Arc::default(),
            broken: Some(io::ErrorKind::BrokenPipe.into()),
        };
        let (mut server, _) = listener.accept().unwrap();
        for piece in pieces {
            server.write_all(piece.as_bytes()).unwrap();
            let after = Duration::from_secs(20).into();
            let reason = ureq::Timeout::Global;
            let timeout = NextTimeout { after, reason, per_read: None, per_write: None };
            if connection.await_input(timeout).is_err() {
                return false;
            }
        }
        assert!(connection.broken.is_none(), "{pieces:?}: nothing is decided");
        true
    }

    #[test]
    fn success_is_no_answer_to_half_a_body_however_it_comes() {
        for pieces in [
            &["HTTP/1.1 200 OK\r\n\r\n"][..],
            &["HTTP/1.", "1 200 OK\r\n\r\n"],
            &["HTTP/1.1 2", "0", "4 No\r\n"],
            &["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"],
            &["HTTP/1.1 103 Early Hints\r\nLink: x\r\n", "\r\nHTTP/1.1", " 200 OK\r\n\r\n"],
            &["\r\n", "HTTP/1.1 200 OK\r\n\r\n"],
            &["HTTP/1.1  200 OK\r\n", "\r\n"],
        ] {
            assert!(!is_heard(pieces), "{pieces:?}");
        }
        for pieces in [
            &["HTTP/1.1 413 No\r\n"][..],
            &["HTTP", "/1.1 413 No\r\n"],
            &["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ", "413 No\r\n\r\n"],
        ] {
            assert!(is_heard(pieces), "{pieces:?}");
        }
    }
}
