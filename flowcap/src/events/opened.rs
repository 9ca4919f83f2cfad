//! The processes at the ends of open connections: when one is closed its socket may be gone.

use std::collections::HashMap;
use std::sync::Arc;

use flowcore::host::Process;
use flowcore::key::Endpoint;
use flowcore::time::Timestamp;
use flowcore::watch::ConnectionEvent;

/// A process, where it is known, and the cookie of its socket.
pub(super) type Who = (Option<Arc<Process>>, Option<u64>);

/// Open connections by their ends, this machine's first, each with the time of its opening.
#[derive(Default)]
pub(super) struct Opened(HashMap<(Endpoint, Endpoint), (Timestamp, Who)>);

impl Opened {
    /// Remembers whose connection was opened, as long as there is room.
    pub(super) fn insert(&mut self, event: &ConnectionEvent, who: Who) {
        let ends = (event.local, event.remote);
        if self.0.len() < MOST || self.0.contains_key(&ends) {
            self.0.insert(ends, (event.time, who));
        }
    }

    /// Takes out whose connection is over; none where another one between the same ends was opened.
    pub(super) fn remove(&mut self, event: &ConnectionEvent) -> Option<Who> {
        let ends = (event.local, event.remote);
        let (opened, (_, cookie)) = self.0.get(&ends)?;
        let is_other = cookie.zip(event.cookie).is_some_and(|(opened, over)| opened != over);
        // Of one that was not there before its opening nothing can be older.
        if is_other || event.since > *opened {
            return None;
        }
        self.0.remove(&ends).map(|(_, who)| who)
    }

    /// Forgets the connections that are followed no more.
    pub(super) fn retain(&mut self, is_followed: impl Fn(Endpoint, Endpoint) -> bool) {
        self.0.retain(|(local, remote), _| is_followed(*local, *remote));
    }
}

/// Connections whose processes are remembered; of others, they are looked for when they end.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use flowcore::watch::{Happened, Source};

    use super::*;

    fn event(port: u16, since: i64, time: i64, cookie: Option<u64>) -> ConnectionEvent {
        let end = |port| Endpoint { addr: [192, 0, 2, 1].into(), port: Some(port) };
        ConnectionEvent {
            happened: Happened::Closed,
            local: end(port),
            remote: end(443),
            time: Timestamp::from_nanos(time),
            since: Timestamp::from_nanos(since),
            source: Source::Kernel,
            cookie,
        }
    }

    #[test]
    fn only_the_same_connection_gets_what_was_known() {
        let mut opened = Opened::default();
        opened.insert(&event(1, 5, 10, None), (None, Some(7)));
        assert_eq!(opened.remove(&event(2, 5, 20, None)), None);
        assert_eq!(opened.remove(&event(1, 5, 20, Some(8))), None, "another socket");
        assert_eq!(opened.remove(&event(1, 11, 20, None)), None, "it began later");
        assert_eq!(opened.remove(&event(1, 5, 20, Some(7))), Some((None, Some(7))));
        assert_eq!(opened.remove(&event(1, 5, 20, Some(7))), None);
    }

    #[test]
    fn it_has_a_limit_and_an_end() {
        let mut opened = Opened::default();
        for port in 0..=u16::MAX {
            opened.insert(&event(port, 0, 0, None), (None, None));
        }
        opened.retain(|local, _| local.port < Some(3));
        assert_eq!(opened.0.len(), 3);
        for number in 0..MOST as u32 + 10 {
            let mut event = event(0, 0, 0, None);
            event.remote.addr = number.to_be_bytes().into();
            opened.insert(&event, (None, None));
        }
        assert_eq!(opened.0.len(), MOST);
    }
}
