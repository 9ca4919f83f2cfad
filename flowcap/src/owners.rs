//! Who owned a flow: what asks this machine while flows are captured, and what stands in a recording.

use flowcore::Error;
use flowcore::enrich::{Attribution, SocketIndex};
use flowcore::sink::{self, SightedLines};

#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
pub(crate) use live::{Owners, SOCKETS, ask};
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
    use std::time::Duration;

    use flowcore::capture;
    use flowcore::enrich::{
        IndexLimits, IndexWriter, LocalAddresses, LookupOptions, Lookups, Requests, Resolver, Tap,
    };
    use flowcore::host::route::RouteKind;
    use flowcore::host::{
        Destroyed, DestroyedSockets, MachineSockets, NetNamespace, Processes, Socket, SocketState, routes,
    };
    use flowcore::meter::{PacketTap, Stop, wall_clock};

    use super::*;
    use crate::run::unreadable;

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
        let failed = unreadable(SOCKETS);
        let netns = NetNamespace::current().map_err(&failed)?.inode();
        let mut writer =
            IndexWriter::new(IndexLimits { keep: keep + OUTLIVES, netns, ..IndexLimits::default() });
        let recording = recording.map(Recording::new);
        if let Some(recording) = recording.clone() {
            writer.on_leaving(move |socket| recording.then(|lines| lines.write(socket)));
        }
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
        let resolver = Resolver::new(sockets, processes, writer, wall_clock);
        let lookups = Lookups::start(resolver, tap, LookupOptions::default()).map_err(&failed)?;
        let requests = lookups.requests();
        let stop = Stop::new();
        let notices = Notices::start(requests.clone(), addresses.clone(), stop.clone()).map_err(&failed)?;
        let attribution = Attribution::live(requests.index(), addresses);
        Ok(Some((Owners { lookups, notices, stop, recording }, attribution, requests)))
    }

    impl Owners {
        /// Stops asking, and ends the recording.
        pub(crate) fn finish(self) -> Result<(), Error> {
            self.stop.request();
            let _ = self.notices.join();
            self.lookups.finish();
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
            let mut renewed = wall_clock();
            while !self.stop.is_requested() {
                match destroyed.as_mut().map(|destroyed| destroyed.recv(PATIENCE)) {
                    Some(Ok(Some(gone))) => self.requests.closed(socket(gone), wall_clock()),
                    Some(Ok(None)) => {}
                    Some(Err(_)) => destroyed = None,
                    None => std::thread::sleep(PATIENCE),
                }
                if wall_clock().nanos_since(renewed) > RENEWAL.as_nanos() as u64 {
                    renewed = wall_clock();
                    if let Ok(addresses) = own_addresses() {
                        self.addresses.replace(addresses);
                    }
                }
            }
        }
    }

    /// Where sockets are recorded, and what went wrong with that.
    #[derive(Clone)]
    struct Recording(Arc<Mutex<(SightedLines, Option<Error>)>>);

    impl Recording {
        fn new(lines: SightedLines) -> Self {
            Recording(Arc::new(Mutex::new((lines, None))))
        }

        /// Calls `work`, and keeps the first error.
        fn then(&self, work: impl FnOnce(&mut SightedLines) -> Result<(), Error>) {
            let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (lines, failure) = &mut *inside;
            if failure.is_none() {
                *failure = work(lines).err();
            }
        }

        /// Ends the file.
        fn finish(&self) -> Result<(), Error> {
            self.then(SightedLines::finish);
            match self.0.lock().unwrap_or_else(PoisonError::into_inner).1.take() {
                Some(error) => Err(error),
                None => Ok(()),
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
    fn own_addresses() -> io::Result<Vec<IpAddr>> {
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
}
