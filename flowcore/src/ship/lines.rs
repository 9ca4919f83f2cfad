//! Batches over a connection without acknowledgements: JSON lines, and syslog messages after their lengths.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::destination::{Destination, Scheme};
use super::options::ShipOptions;
use super::patience::Patience;
use super::stream::{State, Stream};
use super::syslog::Syslog;
use super::{Batch, SendError, Sender, Sent};

/// Sends batches over one connection, which it opens again when it is lost.
pub(super) struct LineSender {
    destination: Destination,
    options: ShipOptions,
    patience: Patience,
    /// Makes messages of the lines; without it they go as they are.
    syslog: Option<Syslog>,
    stream: Option<Stream>,
    recent: Recent,
}

/// What was sent a short while ago and may not have been read, oldest first.
struct Recent {
    sent: VecDeque<Passed>,
    bytes: usize,
    /// How long an open connection has to have had something.
    time: Duration,
}

/// A batch that the kernel has taken.
struct Passed {
    first_seq: u64,
    bytes: Vec<u8>,
    /// When; none once the connection was lost that it went over.
    when: Option<Instant>,
    /// Over how many connections it went that the server closed in order.
    ended: u32,
}

impl LineSender {
    pub(super) fn new(destination: &Destination, options: &ShipOptions, patience: Patience) -> Self {
        let is_syslog = matches!(destination.scheme, Scheme::SyslogTcp | Scheme::SyslogTls);
        LineSender {
            destination: destination.clone(),
            options: options.clone(),
            patience,
            syslog: is_syslog.then(|| Syslog::new(options)),
            stream: None,
            recent: Recent::new(RECENTLY),
        }
    }

    /// Leaves a connection that was closed. From then on nothing that went over it grows old.
    fn look_after_connection(&mut self) {
        if self.stream.as_mut().is_some_and(|stream| !stream.is_open()) {
            self.lose();
        }
    }

    /// Leaves the connection, and notes what the server has had if it closed it in order.
    fn lose(&mut self) {
        let state = self.stream.as_mut().map(Stream::state);
        let had = match (self.stream.take(), state) {
            (Some(stream), Some(State::Closed)) => {
                // What was on its way when it closed is refused a little later.
                let has_refused = !self.patience.sleep(GOODBYE) || stream.came_too_late();
                Some(if has_refused { ON_ITS_WAY } else { Duration::ZERO })
            }
            _ => None,
        };
        self.recent.lose(had);
    }

    /// Opens a connection, and sends again what was sent lately; returns how many bytes that was.
    fn connect(&mut self) -> io::Result<u64> {
        let limit = Instant::now() + self.options.connect_timeout;
        let mut stream = Stream::open(&self.destination, &self.options, &self.patience, limit)?;
        stream.settle(SETTLE)?;
        let stream = self.stream.insert(stream);
        let mut repeated = 0;
        for passed in &mut self.recent.sent {
            stream.write_all(&passed.bytes, self.options.silence_timeout)?;
            passed.when = Some(Instant::now());
            repeated += passed.bytes.len() as u64;
        }
        Ok(repeated)
    }

    /// Sends bytes over a connection that is still open afterwards; returns how many were sent before them.
    fn pass(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.look_after_connection();
        let repeated = if self.stream.is_some() { 0 } else { self.connect()? };
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        stream.write_all(bytes, self.options.silence_timeout)?;
        match stream.is_open() {
            true => Ok(repeated),
            false => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the server")),
        }
    }
}

impl Sender for LineSender {
    fn send(&mut self, batch: &Batch) -> Result<Sent, SendError> {
        let bytes = match &self.syslog {
            Some(syslog) => syslog.counted(batch),
            None => batch.lines.clone(),
        };
        let repeated = self.pass(&bytes).map_err(|error| {
            self.lose();
            SendError::of_io(&error)
        })?;
        let sent = Sent { bytes: bytes.len() as u64 + repeated, refused: 0 };
        self.recent.remember(batch.first_seq, bytes);
        Ok(sent)
    }

    fn in_doubt(&mut self) -> Option<u64> {
        self.look_after_connection();
        self.recent.forget_done();
        self.recent.sent.front().map(|passed| passed.first_seq)
    }

    fn finish(&mut self) {
        self.look_after_connection();
        if let Some(mut stream) = self.stream.take()
            && stream.close(Instant::now() + GOODBYE)
        {
            self.recent = Recent::new(self.recent.time);
        }
        self.recent.lose(None);
    }
}

impl Recent {
    fn new(time: Duration) -> Self {
        Recent { sent: VecDeque::new(), bytes: 0, time }
    }

    fn remember(&mut self, first_seq: u64, bytes: Vec<u8>) {
        self.forget_done();
        self.bytes += bytes.len();
        self.sent.push_back(Passed { first_seq, bytes, when: Some(Instant::now()), ended: 0 });
        // The batch just sent is kept whatever its size.
        while self.bytes > MOST_RECENT && self.sent.len() > 1 {
            self.forget_first();
        }
    }

    /// Notes that the connection is lost: what went over it has to go over another one, however late that comes. One
    /// that the server closed in order has `had` what was sent so long before.
    fn lose(&mut self, had: Option<Duration>) {
        for passed in &mut self.sent {
            if let (Some(when), Some(had)) = (passed.when.take(), had)
                && when.elapsed() >= had
            {
                passed.ended += 1;
            }
        }
    }

    fn forget_done(&mut self) {
        let time = self.time;
        let is_old = |passed: &Passed| passed.when.is_some_and(|when| when.elapsed() > time);
        while self.sent.front().is_some_and(|passed| passed.ended >= ENOUGH || is_old(passed)) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(passed) = self.sent.pop_front() {
            self.bytes -= passed.bytes.len();
        }
    }
}

/// How long a new connection is watched before it is used.
const SETTLE: Duration = Duration::from_millis(200);
/// How long the end waits for the server to close too, or to refuse what came after it had closed.
const GOODBYE: Duration = Duration::from_millis(300);
/// What was sent within this time before a connection is lost is sent again over the next: more than the kernel needs
/// to notice a peer that is gone.
const RECENTLY: Duration = Duration::from_secs(60);
/// So many connections closed in order are enough: a server with nothing to read may close every one of them before
/// that time. One is not, since what it had read may have been lost with it.
const ENOUGH: u32 = 2;
/// What was sent so shortly before a connection was closed may not have arrived.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// Up to so many bytes of it: about what kernels hold for a connection.
const MOST_RECENT: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use super::*;
    use crate::stop::Stop;

    fn batch(seq: u64) -> Batch {
        let lines = format!("{{\"seq\":{seq}}}\n").into_bytes();
        Batch { first_seq: seq, last_seq: seq, records: 1, gaps: 0, lines }
    }

    /// A sender to a port, for which a connection has to have had something for so long.
    fn sender(to: SocketAddr, time: Duration) -> LineSender {
        let options = ShipOptions::default();
        let destination = Destination::parse(&format!("tcp://{to}")).unwrap();
        let mut sender = LineSender::new(&destination, &options, Patience::new(Stop::new(), Duration::ZERO));
        sender.recent = Recent::new(time);
        sender
    }

    /// Waits until the sender knows that its connection is lost.
    fn until_lost(sender: &mut LineSender) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while sender.in_doubt().is_some() && sender.stream.is_some() {
            assert!(Instant::now() < deadline, "it is not noticed");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn an_outage_of_any_length_takes_nothing_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut sender = sender(to, Duration::from_secs(1));
        for seq in 0..3 {
            sender.send(&batch(seq)).unwrap();
        }
        // A server that has read nothing dies, and comes back after longer than anything is recent; twice.
        let mut listener = Some(listener);
        for seq in 3..5 {
            drop(listener.take().map(|listener| listener.accept()));
            until_lost(&mut sender);
            thread::sleep(Duration::from_millis(1_100));
            assert_eq!(sender.in_doubt(), Some(0));
            assert!(sender.send(&batch(seq)).is_err());
            listener = Some(TcpListener::bind(to).unwrap());
            sender.send(&batch(seq)).unwrap();
        }
        let (stream, _) = listener.as_ref().unwrap().accept().unwrap();
        sender.finish();
        let lines = io::read_to_string(stream).unwrap();
        assert_eq!(lines, (0..5).map(|seq| format!("{{\"seq\":{seq}}}\n")).collect::<String>());
    }

    #[test]
    fn a_server_that_closes_every_connection_in_order_gets_each_record_twice() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = sender(listener.local_addr().unwrap(), RECENTLY);
        for seq in 0..5 {
            sender.send(&batch(seq)).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let sent: String =
                (seq.saturating_sub(1)..=seq).map(|seq| format!("{{\"seq\":{seq}}}\n")).collect();
            let mut lines = vec![0; sent.len()];
            io::Read::read_exact(&mut stream, &mut lines).unwrap();
            assert_eq!(String::from_utf8(lines).unwrap(), sent);
            drop(stream);
            until_lost(&mut sender);
            // The one before has gone over two connections.
            assert_eq!(sender.in_doubt(), Some(seq));
        }
    }

    #[test]
    fn what_was_on_its_way_when_a_connection_was_closed_does_not_count_as_had() {
        let mut recent = Recent::new(RECENTLY);
        recent.remember(0, vec![0]);
        for (had, ended) in [(Some(ON_ITS_WAY), 0), (None, 0), (Some(Duration::ZERO), 1)] {
            recent.sent[0].when = Some(Instant::now());
            recent.lose(had);
            assert_eq!((recent.sent[0].ended, recent.sent[0].when), (ended, None));
        }
        // It has not gone over another one since.
        recent.lose(Some(Duration::ZERO));
        assert_eq!(recent.sent[0].ended, 1);
    }

    #[test]
    fn what_a_connection_has_had_for_long_is_no_longer_in_doubt() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = sender(listener.local_addr().unwrap(), Duration::from_millis(300));
        assert_eq!(sender.in_doubt(), None);
        sender.send(&batch(7)).unwrap();
        assert_eq!(sender.in_doubt(), Some(7));
        thread::sleep(Duration::from_millis(310));
        assert_eq!(sender.in_doubt(), None);
        // A server that closes when it is asked to has read everything; one that does not may have read nothing.
        sender.send(&batch(8)).unwrap();
        let reads = thread::spawn(move || io::read_to_string(listener.accept().unwrap().0).unwrap());
        sender.finish();
        assert_eq!(sender.in_doubt(), None);
        assert_eq!(reads.join().unwrap(), "{\"seq\":7}\n{\"seq\":8}\n");
    }

    #[test]
    fn a_server_that_does_not_close_at_the_end_may_have_read_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = sender(listener.local_addr().unwrap(), Duration::from_millis(50));
        sender.send(&batch(1)).unwrap();
        sender.finish();
        thread::sleep(Duration::from_millis(60));
        assert_eq!(sender.in_doubt(), Some(1));
    }

    #[test]
    fn what_is_recent_is_bounded() {
        let mut recent = Recent::new(RECENTLY);
        for seq in 0..10 {
            recent.remember(seq, vec![0; 1 << 20]);
        }
        assert_eq!((recent.sent.len(), recent.bytes), (4, 4 << 20));
        recent.remember(10, vec![0; 9 << 20]);
        assert_eq!((recent.sent.len(), recent.bytes), (1, 9 << 20));
    }
}
