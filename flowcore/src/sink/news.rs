//! News of this machine from one process to another: one JSON object a line, through a pipe.

use std::io::{self, BufRead, BufWriter, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Sink;
use crate::error::Error;
use crate::record::{HostNews, Message, Record};

/// Writes news of any kind.
pub struct NewsWriter<W: Write>(BufWriter<W>);

impl<W: Write> NewsWriter<W> {
    /// Makes one that writes to a pipe.
    pub fn new(to: W) -> Self {
        NewsWriter(BufWriter::with_capacity(BUFFER, to))
    }

    /// Writes a piece of news; it may wait for the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn write(&mut self, news: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, news)?;
        self.0.write_all(b"\n")
    }

    /// Sends off what was written.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Tells the records of this machine as messages of [`HostNews`]; each flush says that they are complete.
impl<W: Write + Send> Sink for NewsWriter<W> {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        let news = HostNews::of(record).map(Message::News);
        news.map_or(Ok(()), |news| NewsWriter::write(self, &news)).map_err(failed)
    }

    fn takes(&self, record: Record<'_>) -> bool {
        !matches!(record, Record::Flow(_) | Record::Stats(_))
    }

    fn flush(&mut self) -> Result<(), Error> {
        let complete = Message::News(HostNews::Complete);
        NewsWriter::write(self, &complete).and_then(|()| NewsWriter::flush(self)).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Error> {
        Sink::flush(self)
    }
}

/// Reads the next piece of news; none at the end.
///
/// # Errors
/// When the pipe breaks, and for what is no such news.
pub fn read_news<N: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<N>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
}

fn failed(source: io::Error) -> Error {
    Error::Output { name: "a pipe".to_owned(), source }
}

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::super::sample_host;
    use super::*;
    use crate::host::counters::{InterfaceCounters, NetworkStats, ProtocolCounters};
    use crate::host::route::{Route, RouteKind};
    use crate::host::{Owner, Query, Socket, SocketKind, SocketState};
    use crate::key::{Endpoint, Proto};
    use crate::record::{
        AlertRecord, NetworkStatsRecord, OwnerNews, ProcessChange, ProcessRecord, RouteRecord, Rule,
        SightedAs, SocketNews,
    };
    use crate::time::Timestamp;

    fn all() -> Vec<SocketNews> {
        let local = Endpoint { addr: [192, 0, 2, 1].into(), port: Some(40_000) };
        let remote = Endpoint { addr: "2001:db8::2".parse().unwrap(), port: None };
        let query = Query { proto: Proto::UDP_LITE, local, remote, interface: 7 };
        let socket = Socket {
            kind: SocketKind::Raw(Proto(253)),
            local,
            remote: Some(remote),
            state: SocketState::CloseWait,
            uid: 1000,
            inode: u64::MAX,
            cookie: 1,
            netns: 2,
            interface: 3,
            cgroup: Some(4),
        };
        let at = Timestamp::from_nanos(1_700_000_000_000_000_001);
        let now = Timestamp::from_nanos(1_700_000_000_000_000_002);
        let owner = Owner::UidOnly { uid: 5, container_id: Some("\u{1}é\n".into()) };
        let owner = Some(OwnerNews::Other(owner));
        vec![
            SocketNews::Addresses(vec![local.addr, remote.addr]),
            SocketNews::Counted { lookups: 1, dropped: 2, lost: 3, failed: 4 },
            SocketNews::Process {
                number: 3,
                process: sample_host::process(7, "/usr/bin/nc", &["nc", "\u{7f}"]),
            },
            SocketNews::Seen {
                socket: socket.clone(),
                now,
                owner: Some(OwnerNews::Process { number: 3, shared: 2 }),
            },
            SocketNews::Answered {
                query,
                socket: socket.clone(),
                is: SightedAs::Local,
                asked: at,
                now,
                owner: owner.clone(),
            },
            SocketNews::StandsBy { query, listener: socket.clone(), asked: at, now, owner },
            SocketNews::NobodyAnswers { query, now },
            SocketNews::Closed { socket, at, now },
            SocketNews::EndUnseen { since: at, now },
            SocketNews::Expire { now },
        ]
    }

    /// Writes and reads them.
    fn there_and_back<N: Serialize + DeserializeOwned>(all: &[N]) -> Vec<N> {
        let mut writer = NewsWriter::new(Vec::new());
        all.iter().for_each(|news| writer.write(news).unwrap());
        writer.flush().unwrap();
        let bytes = writer.0.into_inner().unwrap();
        let mut from = bytes.as_slice();
        std::iter::from_fn(|| read_news(&mut from).unwrap()).collect()
    }

    #[test]
    fn news_come_back() {
        assert_eq!(there_and_back(&all()), all());
        let messages = [
            Message::Ready,
            Message::Failed { what: "x\n".into(), hint: None },
            Message::News(all().remove(0)),
            Message::Died,
        ];
        assert_eq!(there_and_back(&messages), messages);
        // Who says only one of them need not say of which news.
        assert_eq!(there_and_back(&[Message::<()>::Died]), [Message::<()>::Died]);
    }

    #[test]
    fn records_of_this_machine_come_back() {
        let sockets = sample_host::snapshot();
        let change = ProcessChange::Gone;
        let process = ProcessRecord {
            timestamp: sample_host::time(),
            change,
            process: sample_host::process(7, "/usr/bin/nc", &["nc", "\u{7f}"]),
        };
        let alert = AlertRecord {
            timestamp: sample_host::time(),
            rule: Rule::GoneListener,
            compared_with: "before.csv".to_owned(),
            message: "Gone.".to_owned(),
            socket: sockets[1].clone(),
        };
        let (event, tables) = (sample_host::event(), tables());
        let mut records: Vec<Record<'_>> = sockets.iter().map(Record::Socket).collect();
        records.extend([Record::Process(&process), Record::Alert(&alert), Record::Event(&event)]);
        records.extend(tables.iter().filter_map(HostNews::record));
        let all: Vec<HostNews> = records.iter().copied().filter_map(HostNews::of).collect();
        assert_eq!(all.len(), records.len());
        let read = there_and_back(&all);
        assert_eq!(read, all);

        let mut writer = NewsWriter::new(Vec::new());
        records.into_iter().for_each(|record| Sink::write(&mut writer, record).unwrap());
        writer.finish().unwrap();
        let bytes = writer.0.into_inner().unwrap();
        let mut from = bytes.as_slice();
        let told = std::iter::from_fn(|| read_news(&mut from).unwrap());
        let told: Vec<HostNews> = told
            .map(|message| match message {
                Message::News(news) => news,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told.split_last(), Some((&HostNews::Complete, all.as_slice())));
    }

    fn tables() -> [HostNews; 3] {
        let timestamp = sample_host::time();
        let counters = ProtocolCounters {
            protocol: "Tcp".into(),
            counters: vec![("OutSegs".into(), u64::MAX), ("InSegs".into(), 0)],
        };
        let interface = InterfaceCounters { interface: "lo".into(), sent_bytes: 7, ..Default::default() };
        let stats = |stats| HostNews::NetworkStats(NetworkStatsRecord { timestamp, stats });
        let route = Route {
            destination: "2001:db8::".parse().unwrap(),
            prefix_length: 32,
            gateway: None,
            interface: Some("eth0".into()),
            source: Some([192, 0, 2, 1].into()),
            metric: 1024,
            table: 254,
            kind: RouteKind::Blackhole,
            protocol: 3,
        };
        [
            stats(NetworkStats::Protocol(counters)),
            stats(NetworkStats::Interface(interface)),
            HostNews::Route(RouteRecord { timestamp, route }),
        ]
    }

    #[test]
    fn a_line_that_is_cut_is_an_error() {
        for text in ["{", "{}\n", "\n", "\"Read\"\n"] {
            assert!(read_news::<SocketNews>(&mut text.as_bytes()).is_err(), "{text}");
        }
    }
}
