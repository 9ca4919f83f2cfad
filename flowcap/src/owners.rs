//! Who owned a flow: what asks this machine while flows are captured, and what stands in a recording.

use flowcore::Error;
use flowcore::enrich::{Attribution, SocketIndex};
use flowcore::sink::{self, SightedLines};

#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
pub(crate) use live::{Owners, Recording, SOCKETS, ask, index_writer, own_addresses, start};
#[cfg(not(all(target_os = "linux", feature = "host", feature = "live")))]
pub(crate) use none::{Owners, ask};

/// Attributes a replay by recorded sockets.
pub(crate) fn recorded(file: &str) -> Result<Attribution, Error> {
    Ok(Attribution::recorded(SocketIndex::recorded(sink::read_sighted(file)?)))
}

/// What stands in for lookups where this build has none.
#[cfg(not(all(target_os = "linux", feature = "host", feature = "live")))]
mod none {
    use std::time::Duration;

    use flowcore::enrich::Requests;

    use super::*;

    /// There are none.
    pub(crate) enum Owners {}

    impl Owners {
        pub(crate) fn finish(self) -> Result<(), Error> {
            match self {}
        }
    }

    pub(crate) fn ask(
        _: &[String],
        _: Duration,
        recording: Option<SightedLines>,
    ) -> Result<Option<(Owners, Attribution, Requests)>, Error> {
        match recording {
            Some(_) => Err(Error::Option("this build cannot see this machine's sockets".to_owned())),
            None => Ok(None),
        }
    }
}

/// Lookups on this machine, which need its kernel and packets of their own.
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
mod live {
    use std::collections::HashMap;
    use std::io;
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use flowcore::capture;
    use flowcore::enrich::{
        IndexLimits, IndexWriter, LocalAddresses, LookupOptions, Lookups, Requests, Resolver, Tap,
    };
    use flowcore::host::route::RouteKind;
    use flowcore::host::{
        Destroyed, DestroyedSockets, MachineSockets, NetNamespace, Processes, Socket, SocketState, routes,
    };
    use flowcore::meter::{PacketTap, Stop, wall_clock};
    use flowcore::record::SightedSocket;

    use super::*;
    use crate::progress::counted;
    use crate::run::{say, unreadable};

    /// The threads that ask for owners while flows are captured.
    pub(crate) struct Owners {
        lookups: Lookups,
        notices: JoinHandle<()>,
        stop: Stop,
        recording: Option<Recording>,
    }

    /// Starts to ask for the sockets of flows on these interfaces, or without any to list sockets only; `keep` is how
    /// long a flow may be silent before it is written. What is found is recorded, where that is asked for.
    pub(crate) fn ask(
        interfaces: &[String],
        keep: Duration,
        recording: Option<SightedLines>,
    ) -> Result<Option<(Owners, Attribution, Requests)>, Error> {
        let recording = recording.map(|lines| Recording::new(lines, say));
        let prepare = |writer: &mut IndexWriter| recording.iter().for_each(|recording| recording.of(writer));
        let (owners, requests, addresses) = start(interfaces, keep, prepare, || Ok(()))?;
        let attribution = Attribution::live(requests.index(), addresses);
        Ok(Some((Owners { recording, ..owners }, attribution, requests)))
    }

    /// Opens all that it takes to ask, then lets the caller give up what is not needed for it, and starts the threads.
    pub(crate) fn start(
        interfaces: &[String],
        keep: Duration,
        prepare: impl FnOnce(&mut IndexWriter),
        enter: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(Owners, Requests, LocalAddresses), Error> {
        let failed = unreadable(SOCKETS);
        let mut writer = index_writer(keep)?;
        prepare(&mut writer);
        let sockets = MachineSockets::open().map_err(&failed)?;
        let processes = Processes::open().map_err(&failed)?;
        let addresses = LocalAddresses::new(own_addresses().map_err(&failed)?);
        let tap = match interfaces {
            [] => None,
            _ => {
                let source = Box::new(capture::tap(interfaces)?);
                let tap = PacketTap::new(source, addresses.clone(), interface_numbers());
                Some(Box::new(tap) as Box<dyn Tap>)
            }
        };
        enter()?;
        let resolver = Resolver::new(sockets, processes, writer, wall_clock);
        let lookups = Lookups::start(resolver, tap, LookupOptions::default()).map_err(&failed)?;
        let requests = lookups.requests();
        let stop = Stop::new();
        let notices = Notices::start(requests.clone(), addresses.clone(), stop.clone()).map_err(&failed)?;
        Ok((Owners { lookups, notices, stop, recording: None }, requests, addresses))
    }

    /// Makes an index for flows that may be silent so long before they are written.
    pub(crate) fn index_writer(keep: Duration) -> Result<IndexWriter, Error> {
        let netns = NetNamespace::current().map_err(unreadable(SOCKETS))?.inode();
        Ok(IndexWriter::new(IndexLimits { keep: keep + OUTLIVES, netns, ..IndexLimits::default() }))
    }

    impl Owners {
        /// Stops asking, and ends the recording. It stays unfinished where what writes it has broken.
        pub(crate) fn finish(self) -> Result<(), Error> {
            self.stop.request();
            let noticed = self.notices.join();
            self.lookups.finish()?;
            noticed
                .map_err(|_| Error::Internal("the thread that hears of closed sockets broke".to_owned()))?;
            self.recording.map_or(Ok(()), |recording| recording.finish())
        }
    }

    /// Passes on which sockets are gone, and keeps the machine's addresses up to date.
    struct Notices {
        requests: Requests,
        addresses: LocalAddresses,
        stop: Stop,
    }

    impl Notices {
        fn start(requests: Requests, addresses: LocalAddresses, stop: Stop) -> io::Result<JoinHandle<()>> {
            let notices = Notices { requests, addresses, stop };
            // Without the kernel's notices snapshots tell what is gone.
            let destroyed = DestroyedSockets::open().ok();
            std::thread::Builder::new().name("notices".into()).spawn(move || notices.run(destroyed))
        }

        fn run(self, mut destroyed: Option<DestroyedSockets>) {
            let mut renewed = Instant::now();
            while !self.stop.is_requested() {
                match destroyed.as_mut().map(|destroyed| destroyed.recv(PATIENCE)) {
                    Some(Ok(Some(gone))) => self.requests.closed(socket(gone), wall_clock()),
                    Some(Ok(None)) => {}
                    Some(Err(_)) => destroyed = None,
                    None => std::thread::sleep(PATIENCE),
                }
                if renewed.elapsed() > RENEWAL {
                    renewed = Instant::now();
                    if let Ok(addresses) = own_addresses() {
                        self.addresses.replace(addresses);
                    }
                }
            }
        }
    }

    /// Where sockets are recorded.
    #[derive(Clone)]
    pub(crate) struct Recording(Arc<Mutex<Recorded>>);

    struct Recorded {
        lines: SightedLines,
        /// How to say at once that it ends early.
        say: fn(&str),
        /// Why it has ended early, and the number of sockets that came since.
        ended: Option<(Error, u64)>,
    }

    impl Recording {
        pub(crate) fn new(lines: SightedLines, say: fn(&str)) -> Self {
            Recording(Arc::new(Mutex::new(Recorded { lines, say, ended: None })))
        }

        /// Records what leaves an index.
        pub(crate) fn of(&self, writer: &mut IndexWriter) {
            let recording = self.clone();
            writer.on_leaving(move |socket| recording.write(socket));
        }

        /// Writes a socket, until that fails.
        fn write(&self, socket: &SightedSocket) {
            let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, missing)) = &mut recorded.ended {
                *missing += 1;
            } else if let Err(error) = recorded.lines.write(socket) {
                (recorded.say)(&format!("flowcap: {error}; the recording of sockets ends here"));
                recorded.ended = Some((error, 1));
            }
        }

        /// Ends the file.
        pub(crate) fn finish(&self) -> Result<(), Error> {
            let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match recorded.ended.take() {
                None => recorded.lines.finish(),
                Some((Error::Output { name, source }, missing)) => {
                    let missing = counted(missing + recorded.lines.waiting(), "socket");
                    let text = format!("{source}; the recording ended early, without {missing}");
                    Err(Error::Output { name, source: io::Error::new(source.kind(), text) })
                }
                Some((error, _)) => Err(error),
            }
        }
    }

    fn socket(gone: Destroyed) -> Socket {
        Socket {
            kind: gone.kind,
            local: gone.local,
            remote: gone.remote,
            state: SocketState::Unconnected,
            uid: 0,
            inode: 0,
            cookie: gone.cookie,
            netns: gone.netns,
            interface: gone.interface,
            cgroup: None,
        }
    }

    /// Returns the addresses that the kernel takes packets for, loopback networks left out.
    pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
        let is_whole = |addr: IpAddr, length: u8| length == if addr.is_ipv6() { 128 } else { 32 };
        let own = routes()?.into_iter().filter(|route| {
            route.kind == RouteKind::Local && is_whole(route.destination, route.prefix_length)
        });
        Ok(own.map(|route| route.destination).collect())
    }

    /// Returns the kernel's numbers of all interfaces; without them sockets that are bound to one are found later.
    fn interface_numbers() -> HashMap<Arc<str>, u32> {
        let folders = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let numbered = folders.filter_map(|folder| {
            let number = std::fs::read_to_string(folder.path().join("ifindex")).ok()?;
            Some((Arc::from(folder.file_name().to_str()?), number.trim().parse().ok()?))
        });
        numbered.collect()
    }

    /// What cannot be asked for where the machine gives no answer.
    pub(crate) const SOCKETS: &str = "the machine's sockets";
    /// A socket is remembered so much longer than the flow may be silent.
    const OUTLIVES: Duration = Duration::from_secs(60);
    /// How long the threads may take to stop.
    const PATIENCE: Duration = Duration::from_millis(100);
    /// How often the machine's addresses are read.
    const RENEWAL: Duration = Duration::from_secs(5);

    #[cfg(test)]
    mod tests {
        use flowcore::host::{Owner, ProcessTable, Query, SocketTable};
        use flowcore::key::{Endpoint, Proto};
        use flowcore::record::SightedAs;
        use flowcore::sink::Existing;
        use flowcore::time::Timestamp;

        use super::*;

        fn sighted() -> SightedSocket {
            SightedSocket {
                netns: 0,
                proto: Proto::TCP,
                local: Endpoint { addr: [192, 0, 2, 1].into(), port: Some(1) },
                remote: None,
                is: SightedAs::Listener,
                cookie: 1,
                asked: None,
                answered: None,
                valid_from: Timestamp::from_nanos(0),
                seen: Timestamp::from_nanos(0),
                valid_to: None,
                owner: None,
            }
        }

        static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

        #[test]
        fn a_recording_that_fails_is_told_of_at_once_and_counted() {
            let lines = SightedLines::open("/dev/full", Existing::Append).unwrap();
            let recording = Recording::new(lines, |text| SAID.lock().unwrap().push(text.to_owned()));
            let mut until_told = 0u64;
            while SAID.lock().unwrap().is_empty() {
                until_told += 1;
                assert!(until_told < 1_000_000, "it is never told");
                recording.write(&sighted());
            }
            (0..9).for_each(|_| recording.write(&sighted()));
            let said = SAID.lock().unwrap().clone();
            assert_eq!(said.len(), 1);
            assert!(
                said[0].starts_with("flowcap: /dev/full: ") && said[0].ends_with("ends here"),
                "{said:?}"
            );
            let error = recording.finish().unwrap_err();
            let expected = format!("ended early, without {}", counted(until_told + 9, "socket"));
            assert!(error.to_string().ends_with(&expected), "{error}");
            assert!(matches!(error, Error::Output { .. }));
        }

        /// A kernel that cannot be asked without breaking.
        struct Broken;

        impl SocketTable for Broken {
            fn find(&mut self, _: &Query) -> io::Result<Option<Socket>> {
                panic!("what was that?")
            }

            fn snapshot(&mut self, _: &mut Vec<Socket>) -> io::Result<()> {
                Ok(())
            }
        }

        impl ProcessTable for Broken {
            fn owner(&mut self, _: &Socket) -> Owner {
                Owner::NoProcess
            }
        }

        #[test]
        fn a_thread_that_broke_leaves_no_recording_that_looks_whole() {
            let folder = std::env::temp_dir().join(format!("flowcap-owners-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("s.jsonl.gz");
            let lines = SightedLines::open(path.to_str().unwrap(), Existing::Overwrite).unwrap();
            let recording = Recording::new(lines, |_| ());
            let mut writer = IndexWriter::new(IndexLimits::default());
            let to = recording.clone();
            writer.on_leaving(move |socket| to.write(socket));
            let resolver = Resolver::new(Broken, Broken, writer, wall_clock);
            let lookups = Lookups::start(resolver, None, LookupOptions::default()).unwrap();
            let (local, remote) = (sighted().local, sighted().local);
            lookups.requests().ask(Query { proto: Proto::TCP, local, remote, interface: 0 }, wall_clock());
            let notices = std::thread::spawn(|| ());
            let owners = Owners { lookups, notices, stop: Stop::new(), recording: Some(recording) };
            let error = owners.finish().unwrap_err();
            assert!(matches!(error, Error::Internal(_)) && error.to_string().contains("what was that?"));
            assert!(!path.exists(), "it looks whole");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
