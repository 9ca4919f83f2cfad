//! What looks after a running meter: systemd is told that it is well, and the log of what was lost.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flowcore::meter::Watched;
use flowcore::record::StatsRecord;

use crate::log::Level;
use crate::progress::{counted, grouped};

/// A thread that looks at the meter once a second; it ends when it is dropped.
pub(crate) struct Health {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Starts to look, and tells the supervisor that the service is ready.
    pub(crate) fn watch(watched: Watched, supervisor: Supervisor) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let watch = move || {
            supervisor.tell("READY=1");
            let (mut losses, mut problems) = (Losses::default(), Problems::default());
            let mut interfaces = Interfaces::default();
            let mut standstill = Standstill { looked: Instant::now(), is_there: false };
            while stopped.recv_timeout(BETWEEN_LOOKS) == Err(RecvTimeoutError::Timeout) {
                let Some((at, stats)) = watched.latest() else { continue };
                if standstill.begins(at, Instant::now()) {
                    crate::log::write(Level::Warn, AT_A_STANDSTILL);
                }
                if !standstill.is_there {
                    supervisor.tell(&format!("WATCHDOG=1\nSTATUS={}", status(&stats)));
                }
                if let Some(lost) = losses.news(&stats, Instant::now()) {
                    crate::log::write(Level::Warn, &lost);
                }
                for line in problems.news(&stats).into_iter().chain(interfaces.news(&stats)) {
                    crate::log::write(Level::Warn, &line);
                }
            }
            supervisor.tell("STOPPING=1");
        };
        let thread = std::thread::Builder::new().name("health".into()).spawn(watch)?;
        Ok(Health { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Who has started the service and wants to know how it is (sd_notify(3)).
///
/// The socket is connected once: in the sandbox none can be opened.
pub(crate) struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// Connects to the one that `NOTIFY_SOCKET` names, if it does.
    pub(crate) fn of_environment() -> io::Result<Self> {
        env::var("NOTIFY_SOCKET").ok().map(|path| Supervisor::connect(&path)).transpose().map(Supervisor)
    }

    fn connect(path: &str) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        socket.connect_addr(&address)?;
        // A supervisor that does not listen must not hold up what it supervises.
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(state.as_bytes());
        }
    }
}

/// Whether the meter has ceased to count.
struct Standstill {
    looked: Instant,
    is_there: bool,
}

impl Standstill {
    /// Looks at when the meter last counted; returns whether it has ceased since the last look.
    fn begins(&mut self, counted: Instant, now: Instant) -> bool {
        let (before, was_there) = (std::mem::replace(&mut self.looked, now), self.is_there);
        // Who did not run himself, as a process that was stopped, has nothing to say of that time.
        if now.duration_since(before) <= 2 * BETWEEN_LOOKS {
            self.is_there = now.duration_since(counted) >= STALLED;
        }
        self.is_there && !was_there
    }
}

/// What was lost, as of the latest line of the log about it.
#[derive(Default)]
struct Losses {
    said: Lost,
    at: Option<Instant>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Lost {
    kernel: u64,
    interface: u64,
    queue: u64,
    records: u64,
}

impl Losses {
    /// Returns what is to be said of what was lost since the last time, at most every ten seconds.
    fn news(&mut self, stats: &StatsRecord, now: Instant) -> Option<String> {
        let lost = Lost {
            kernel: stats.kernel_dropped,
            interface: stats.interface_dropped,
            queue: stats.queue_dropped,
            records: stats.sinks.iter().map(|sink| sink.failed + sink.dropped.values().sum::<u64>()).sum(),
        };
        if lost == self.said || self.at.is_some_and(|at| now.duration_since(at) < BETWEEN_LINES) {
            return None;
        }
        let parts = [
            (lost.kernel - self.said.kernel, "packet", "dropped by the kernel"),
            (lost.interface - self.said.interface, "packet", "dropped by the interface"),
            (lost.queue - self.said.queue, "packet", "dropped for want of room in the pipeline"),
            (lost.records - self.said.records, "record", "not written"),
        ];
        (self.said, self.at) = (lost, Some(now));
        let parts = parts.into_iter().filter(|(n, ..)| *n > 0);
        let parts: Vec<_> = parts.map(|(n, what, how)| format!("{} {how}", counted(n, what))).collect();
        Some(parts.join(", "))
    }
}

/// What hinders the work on closed files, as the log has said it of each output.
#[derive(Default)]
struct Problems(BTreeMap<String, String>);

impl Problems {
    /// Returns what is to be said of outputs that are hindered by something else than the last time.
    fn news(&mut self, stats: &StatsRecord) -> Vec<String> {
        let found = stats.sinks.iter().filter_map(|sink| Some((&sink.to, sink.problem.as_ref()?)));
        let news = found.filter(|(to, problem)| {
            self.0.insert((*to).clone(), (*problem).clone()).as_ref() != Some(*problem)
        });
        news.map(|(to, problem)| format!("{to}: {problem}")).collect()
    }
}

/// Interfaces that were gone at the last look.
#[derive(Default)]
struct Interfaces(Vec<String>);

impl Interfaces {
    /// Returns what is to be said of interfaces that are gone since then, or back.
    fn news(&mut self, stats: &StatsRecord) -> Vec<String> {
        let before = std::mem::replace(&mut self.0, stats.interfaces_missing.clone());
        let gone = self.0.iter().filter(|name| !before.contains(name));
        let back = before.iter().filter(|name| !self.0.contains(name));
        gone.map(|name| format!("{name} is gone; capture goes on there when it is back"))
            .chain(back.map(|name| format!("{name} is back")))
            .collect()
    }
}

fn status(stats: &StatsRecord) -> String {
    format!("{}, {} active", counted(stats.packets, "packet"), grouped(stats.flows_active))
}

/// Counters older than this are no sign of life.
pub(crate) const STALLED: Duration = Duration::from_secs(10);
const AT_A_STANDSTILL: &str =
    "nothing was written for 10 s: an output may take no records; packets that find no room are dropped";
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const BETWEEN_LINES: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use flowcore::record::SinkStats;

    use super::*;

    #[test]
    fn a_standstill_is_told_once_and_a_pause_is_none() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut standstill = Standstill { looked: start, is_there: false };
        let mut begins = |counted, now| (standstill.begins(at(counted), at(now)), standstill.is_there);
        assert_eq!(begins(0, 1), (false, false));
        // Stopped and continued: the meter has not counted yet either.
        assert_eq!(begins(1, 15), (false, false));
        assert_eq!(begins(15, 16), (false, false));
        let ends = |now| if now < 25 { (false, false) } else { (now == 25, true) };
        (17..30).for_each(|now| assert_eq!(begins(15, now), ends(now), "{now}"));
        assert_eq!(begins(15, 40), (false, true));
        assert_eq!(begins(41, 41), (false, false));
    }

    #[test]
    fn losses_are_told_once_and_not_too_often() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        let stats = |kernel_dropped, queue_dropped| StatsRecord {
            kernel_dropped,
            queue_dropped,
            ..StatsRecord::default()
        };
        assert_eq!(losses.news(&stats(0, 0), start), None);
        assert_eq!(losses.news(&stats(1200, 0), start).unwrap(), "1,200 packets dropped by the kernel");
        let soon = start + Duration::from_secs(9);
        assert_eq!(losses.news(&stats(1300, 1), soon), None);
        let later = start + Duration::from_secs(10);
        assert_eq!(
            losses.news(&stats(1300, 1), later).unwrap(),
            "100 packets dropped by the kernel, 1 packet dropped for want of room in the pipeline"
        );
        assert_eq!(losses.news(&stats(1300, 1), later + BETWEEN_LINES), None);
    }

    #[test]
    fn a_problem_is_told_once() {
        let stats = |problem: Option<&str>| {
            let sink =
                SinkStats { to: "f".into(), problem: problem.map(str::to_owned), ..SinkStats::default() };
            StatsRecord { sinks: vec![sink], ..StatsRecord::default() }
        };
        let mut problems = Problems::default();
        for (problem, said) in [
            (None, vec![]),
            (Some("a cannot be deleted"), vec!["f: a cannot be deleted"]),
            (Some("a cannot be deleted"), vec![]),
            (None, vec![]),
            (Some("a cannot be deleted"), vec![]),
            (Some("b cannot be deleted"), vec!["f: b cannot be deleted"]),
        ] {
            assert_eq!(problems.news(&stats(problem)), said, "{problem:?}");
        }
    }

    #[test]
    fn an_interface_is_told_of_when_it_goes_and_when_it_comes() {
        let mut interfaces = Interfaces::default();
        let mut news = |missing: &[&str]| {
            let interfaces_missing = missing.iter().map(|&name| name.to_owned()).collect();
            interfaces.news(&StatsRecord { interfaces_missing, ..StatsRecord::default() })
        };
        assert!(news(&[]).is_empty());
        assert_eq!(news(&["a"]), ["a is gone; capture goes on there when it is back"]);
        assert!(news(&["a"]).is_empty());
        assert_eq!(news(&["b"]), ["b is gone; capture goes on there when it is back", "a is back"]);
        assert_eq!(news(&[]), ["b is back"]);
    }

    #[test]
    fn a_supervisor_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        Supervisor(Some(Supervisor::connect(path.to_str().unwrap()).unwrap())).tell("READY=1");
        let mut heard = [0; 64];
        let length = ear.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
        drop(ear);
        assert!(Supervisor::connect("@no-such-name-here").is_err());
        Supervisor(None).tell("nobody hears it");
    }
}
