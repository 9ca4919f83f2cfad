//! Batches over a connection without acknowledgements: JSON lines, and syslog messages after their lengths.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::destination::{Destination, Scheme};
use super::options::ShipOptions;
use super::patience::Patience;
use super::stream::Stream;
use super::syslog::Syslog;
use super::tls::TlsFiles;
use super::{Batch, SendError, Sender, Sent};

/// Sends batches over one connection, which it opens again when it is lost.
pub(super) struct LineSender {
    destination: Destination,
    tls: TlsFiles,
    connect_timeout: Duration,
    silence_timeout: Duration,
    patience: Patience,
    /// Makes messages of the lines; without it they go as they are.
    syslog: Option<Syslog>,
    stream: Option<Stream>,
    recent: Recent,
}

/// What was sent a short while ago and may not have been read.
#[derive(Default)]
struct Recent {
    sent: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl LineSender {
    pub(super) fn new(destination: &Destination, options: &ShipOptions, patience: Patience) -> Self {
        let is_syslog = matches!(destination.scheme, Scheme::SyslogTcp | Scheme::SyslogTls);
        LineSender {
            destination: destination.clone(),
            tls: TlsFiles::of(options),
            connect_timeout: options.connect_timeout,
            silence_timeout: options.silence_timeout,
            patience,
            syslog: is_syslog.then(|| Syslog::new(options)),
            stream: None,
            recent: Recent::default(),
        }
    }

    /// Returns a connection that was open a moment ago; on a new one, what was sent lately is sent again.
    fn connection(&mut self) -> Result<(Stream, u64), SendError> {
        if let Some(mut stream) = self.stream.take()
            && stream.is_open()
        {
            return Ok((stream, 0));
        }
        let limit = Instant::now() + self.connect_timeout;
        let opened = Stream::open(&self.destination, &self.tls, &self.patience, limit);
        let mut stream = opened.map_err(|error| SendError::of_io(&error))?;
        stream.settle(SETTLE).map_err(|error| SendError::of_io(&error))?;
        self.recent.forget_old();
        let mut repeated = 0;
        for (_, bytes) in &self.recent.sent {
            stream.write_all(bytes, self.silence_timeout).map_err(|error| SendError::of_io(&error))?;
            repeated += bytes.len() as u64;
        }
        Ok((stream, repeated))
    }
}

impl Sender for LineSender {
    fn send(&mut self, batch: &Batch) -> Result<Sent, SendError> {
        let bytes = match &self.syslog {
            Some(syslog) => syslog.counted(batch),
            None => batch.lines.clone(),
        };
        let (mut stream, repeated) = self.connection()?;
        stream.write_all(&bytes, self.silence_timeout).map_err(|error| SendError::of_io(&error))?;
        if !stream.is_open() {
            return Err(SendError::retry("closed by the server"));
        }
        let sent = Sent { bytes: bytes.len() as u64 + repeated, refused: 0 };
        self.recent.remember(bytes);
        self.stream = Some(stream);
        Ok(sent)
    }

    fn finish(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.close(Instant::now() + GOODBYE);
        }
    }
}

impl Recent {
    fn remember(&mut self, bytes: Vec<u8>) {
        self.forget_old();
        self.bytes += bytes.len();
        self.sent.push_back((Instant::now(), bytes));
        // The batch just sent is kept whatever its size.
        while self.bytes > MOST_RECENT && self.sent.len() > 1 {
            self.forget_first();
        }
    }

    fn forget_old(&mut self) {
        while self.sent.front().is_some_and(|(when, _)| when.elapsed() > RECENTLY) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, bytes)) = self.sent.pop_front() {
            self.bytes -= bytes.len();
        }
    }
}

/// How long a new connection is watched before it is used.
const SETTLE: Duration = Duration::from_millis(200);
/// How long the end waits for the server to close too.
const GOODBYE: Duration = Duration::from_millis(300);
/// What was sent within this time is sent again after a reconnection: twice what the kernel waits for an
/// acknowledgement.
const RECENTLY: Duration = Duration::from_secs(60);
/// Up to so many bytes of it: about what kernels hold for a connection.
const MOST_RECENT: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recent_is_bounded() {
        let mut recent = Recent::default();
        for _ in 0..10 {
            recent.remember(vec![0; 1 << 20]);
        }
        assert_eq!((recent.sent.len(), recent.bytes), (4, 4 << 20));
        recent.remember(vec![0; 9 << 20]);
        assert_eq!((recent.sent.len(), recent.bytes), (1, 9 << 20));
    }
}
