//! News of sockets from one process to another: one JSON object a line, through a pipe.

use std::io::{self, BufRead, BufWriter, Write};

use crate::record::SocketNews;

/// Writes news; they go off at once, but those of a snapshot, which go off together.
pub struct NewsWriter<W: Write>(BufWriter<W>);

impl<W: Write> NewsWriter<W> {
    /// Makes one that writes to a pipe.
    pub fn new(to: W) -> Self {
        NewsWriter(BufWriter::with_capacity(BUFFER, to))
    }

    /// Writes a piece of news.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn write(&mut self, news: &SocketNews) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, news)?;
        self.0.write_all(b"\n")?;
        if matches!(news, SocketNews::Seen { .. }) { Ok(()) } else { self.0.flush() }
    }
}

/// Reads the next piece of news; none at the end.
///
/// # Errors
/// When the pipe breaks, and for what is no news.
pub fn read_news(from: &mut impl BufRead) -> io::Result<Option<SocketNews>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
}

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Owner, Query, Socket, SocketKind, SocketState};
    use crate::key::{Endpoint, Proto};
    use crate::record::SightedAs;
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
        let owner = Some(Owner::UidOnly { uid: 5, container_id: Some("\u{1}é\n".into()) });
        vec![
            SocketNews::Ready,
            SocketNews::Failed { what: "x".into(), hint: None },
            SocketNews::Addresses(vec![local.addr, remote.addr]),
            SocketNews::Counted { lookups: 1, dropped: 2, lost: 3, failed: 4 },
            SocketNews::Seen { socket: socket.clone(), now, owner: owner.clone() },
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

    #[test]
    fn news_come_back() {
        let mut writer = NewsWriter::new(Vec::new());
        all().iter().for_each(|news| writer.write(news).unwrap());
        let bytes = writer.0.into_inner().unwrap();
        let mut from = bytes.as_slice();
        let mut read = Vec::new();
        while let Some(news) = read_news(&mut from).unwrap() {
            read.push(news);
        }
        assert_eq!(read, all());
    }

    #[test]
    fn a_line_that_is_cut_is_an_error() {
        for text in ["{", "{}\n", "\n", "\"Read\"\n"] {
            assert!(read_news(&mut text.as_bytes()).is_err(), "{text}");
        }
    }
}
