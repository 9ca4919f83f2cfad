//! Events from packets, notices and snapshots, in the order of their times, with their processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flowcore::Error;
use flowcore::capture::{LiveOptions, LiveSource, Next, Source as _};
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::enrich::{Attribution, FlowEnd, Requests};
use flowcore::host::{Destroyed, DestroyedSockets, MachineSockets, Query, SocketKind, SocketTable};
use flowcore::key::Proto;
use flowcore::meter::{Stop, wall_clock};
use flowcore::record::{EventKind, EventSource, NetworkEvent, Record};
use flowcore::time::Timestamp;
use flowcore::watch::{
    ConnectionEvent, ConnectionOptions, Connections, Counted, Gone, Happened, KernelEvents, Source as From,
};

use super::opened::{Opened, Who};
use super::{EventsArgs, Source, is_of};
use crate::outputs::Outputs;
use crate::owners::{self, Owners, SOCKETS};
use crate::run::{say, unreadable};

/// All that events come from and go to.
pub(super) struct Feed {
    packets: Option<LiveSource>,
    notices: Option<DestroyedSockets>,
    snapshots: Option<MachineSockets>,
    outputs: Outputs,
    owners: Owners,
    attribution: Attribution,
    requests: Requests,
    connections: Connections,
    told: KernelEvents,
    /// Events that wait for earlier ones, by time and as they came.
    waiting: BTreeMap<(Timestamp, u64), ConnectionEvent>,
    count: u64,
    opened: Opened,
}

impl Feed {
    /// Opens what the source needs, automatically the best that is permitted, and then the outputs; `enter` is called when
    /// all is open.
    pub(super) fn open(
        args: &EventsArgs,
        outputs: impl FnOnce() -> Result<Outputs, Error>,
        enter: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let packets = match args.source {
            Source::Auto => match open_packets(&args.interface) {
                Err(Error::Permission { .. }) => {
                    if !args.quiet {
                        say(
                            "flowcap: no permission to capture: connections that are opened and closed within \
                             a second may be missed",
                        );
                    }
                    None
                }
                opened => Some(opened?),
            },
            Source::Packet => Some(open_packets(&args.interface)?),
            Source::Kernel | Source::Snapshot => None,
        };
        let failed = unreadable(SOCKETS);
        let takes_notices = matches!(args.source, Source::Auto | Source::Kernel);
        let notices = takes_notices.then(DestroyedSockets::open).transpose().map_err(&failed)?;
        let snapshots = packets.is_none().then(MachineSockets::open).transpose().map_err(failed)?;
        let tapped: &[String] = if packets.is_some() { &args.interface } else { &[] };
        let (owners, requests, addresses) = owners::start(tapped, KEEP, |_| (), enter)?;
        let attribution = Attribution::live(requests.index(), addresses);
        Ok(Feed {
            packets,
            notices,
            snapshots,
            outputs: outputs()?,
            owners,
            attribution,
            requests,
            connections: Connections::new(ConnectionOptions::default()),
            told: KernelEvents::new(),
            waiting: BTreeMap::new(),
            count: 0,
            opened: Opened::default(),
        })
    }

    /// Follows connections until it is to stop. Whatever fails, the events that wait are written before that is told.
    pub(super) fn run(mut self, args: &EventsArgs, stop: &Stop) -> Result<(), Error> {
        let followed = self.follow(args, stop);
        let written = self.write(Timestamp::MAX, args);
        let (finished, owners) = (self.outputs.finish(), self.owners.finish());
        followed.and(written).and(finished).and(owners)
    }

    fn follow(&mut self, args: &EventsArgs, stop: &Stop) -> Result<(), Error> {
        let end = args.duration.and_then(|limit| limit.0).map(|duration| Instant::now() + duration);
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut next_snapshot = Instant::now();
        let mut next_write = Instant::now();
        let mut next_sweep = Instant::now() + SWEEP;
        while !stop.is_requested() && end.is_none_or(|end| Instant::now() < end) {
            self.take_packets(&mut decoder)?;
            self.take_notices(wall_clock())?;
            let now = Instant::now();
            if now >= next_snapshot {
                next_snapshot = now + args.interval;
                self.take_snapshot(wall_clock())?;
            }
            if now >= next_write {
                next_write = now + PATIENCE;
                let until = Timestamp::from_nanos(wall_clock().as_nanos() - SORTED_OVER.as_nanos() as i64);
                self.take(|connections, _, mut out| connections.expire(until, &mut out));
                self.write(until, args)?;
            }
            if now >= next_sweep {
                next_sweep = now + SWEEP;
                let connections = &self.connections;
                self.opened.retain(|local, remote| connections.holds(local, remote));
            }
        }
        // What came until now, and the owners of the last events.
        let last = Instant::now() + SORTED_OVER;
        self.take_snapshot(wall_clock())?;
        while Instant::now() < last {
            self.take_packets(&mut decoder)?;
            self.take_notices(wall_clock())?;
        }
        Ok(())
    }

    fn take_packets(&mut self, decoder: &mut Decoder) -> Result<(), Error> {
        let Some(mut packets) = self.packets.take() else { return Ok(()) };
        for nth in 0..PACKETS_AT_ONCE {
            match packets.next(if nth == 0 { PATIENCE } else { Duration::ZERO })? {
                Next::Frame(frame) => {
                    _ = decoder.decode(&frame, |packet| {
                        self.take(|connections, is_local, mut out| {
                            connections.packet(&packet, is_local, &mut out);
                        });
                    })
                }
                Next::Idle | Next::End => break,
            }
        }
        self.packets = Some(packets);
        Ok(())
    }

    fn take_notices(&mut self, now: Timestamp) -> Result<(), Error> {
        let Some(mut notices) = self.notices.take() else {
            if self.packets.is_none() {
                std::thread::sleep(PATIENCE);
            }
            return Ok(());
        };
        let mut patience = if self.packets.is_some() { Duration::ZERO } else { PATIENCE };
        let failed = unreadable("the kernel's notices");
        for _ in 0..PACKETS_AT_ONCE {
            let Some(gone) = notices.recv(patience).map_err(&failed)? else { break };
            patience = Duration::ZERO;
            if gone.kind == SocketKind::Tcp {
                let mut told = std::mem::take(&mut self.told);
                self.take(|connections, _, mut out| told.gone(&notice(&gone, now), connections, &mut out));
                self.told = told;
            }
        }
        self.notices = Some(notices);
        Ok(())
    }

    fn take_snapshot(&mut self, now: Timestamp) -> Result<(), Error> {
        let Some(table) = &mut self.snapshots else { return Ok(()) };
        let mut sockets = Vec::new();
        table.snapshot(&mut sockets).map_err(unreadable(SOCKETS))?;
        let mut told = std::mem::take(&mut self.told);
        self.take(|connections, _, mut out| told.snapshot(&sockets, now, connections, &mut out));
        self.told = told;
        Ok(())
    }

    /// Lets `happen` tell what happened, and keeps it until its turn.
    fn take(
        &mut self,
        happen: impl FnOnce(&mut Connections, &dyn Fn(std::net::IpAddr) -> bool, &mut dyn FnMut(ConnectionEvent)),
    ) {
        let (waiting, count, requests) = (&mut self.waiting, &mut self.count, &self.requests);
        let attribution = &self.attribution;
        let is_local = |address| attribution.is_local(address);
        happen(&mut self.connections, &is_local, &mut |event| {
            if event.source == From::Snapshot && event.happened != Happened::Closed {
                let (local, remote) = (event.local, event.remote);
                requests.ask(Query { proto: Proto::TCP, local, remote, interface: 0 }, event.time);
            }
            *count += 1;
            waiting.insert((event.time, *count), event);
        });
    }

    /// Writes the events up to a time.
    fn write(&mut self, until: Timestamp, args: &EventsArgs) -> Result<(), Error> {
        let mut wrote = false;
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= until) {
            let event = first.remove();
            let (process, cookie) = self.who(&event);
            let record = NetworkEvent {
                timestamp: event.time,
                kind: kind(event.happened),
                cookie,
                local: event.local,
                remote: event.remote,
                process,
                tid: None,
                source: source(event.source),
            };
            if is_of(&record, args.process.as_deref()) {
                self.outputs.write(Record::Event(&record))?;
                wrote = true;
            }
        }
        if wrote { self.outputs.flush() } else { Ok(()) }
    }

    /// Returns whose connection it is: as it was when it was opened, or as far as that is known now.
    fn who(&mut self, event: &ConnectionEvent) -> Who {
        let is_over = matches!(event.happened, Happened::Closed | Happened::Failed);
        let known = if is_over { self.opened.remove(event) } else { None };
        let (process, cookie) = known.unwrap_or_else(|| {
            // An attempt may have taken long, and its socket may not have been met since its first SYN.
            let since = if is_over { event.since } else { event.time };
            let unseen = if is_over && since == event.time { LOOKS_BACK } else { Duration::ZERO };
            let found = self.attribution.owner_and_cookie(&FlowEnd {
                proto: Proto::TCP,
                local: event.local,
                remote: event.remote,
                opened: event.happened != Happened::Accepted,
                // Its packets show an opening only if they show its SYN.
                begun: (event.source == From::Packet && event.happened != Happened::Closed)
                    .then_some(event.since),
                first: Timestamp::from_nanos(since.as_nanos() - unseen.as_nanos() as i64),
                last: event.time.saturating_add_nanos(SORTED_OVER.as_nanos() as u64),
            });
            match found {
                Ok((owner, cookie)) => (owner.process().cloned(), cookie),
                Err(_) => (None, None),
            }
        });
        let who = (process, event.cookie.or(cookie));
        if !is_over {
            self.opened.insert(event, who.clone());
        }
        who
    }
}

fn open_packets(interfaces: &[String]) -> Result<LiveSource, Error> {
    let options = LiveOptions {
        snaplen: SNAPLEN,
        promiscuous: false,
        filter: Some("tcp or icmp or icmp6".to_owned()),
        ..LiveOptions::default()
    };
    LiveSource::open(interfaces, options)
}

fn notice(gone: &Destroyed, time: Timestamp) -> Gone {
    Gone {
        local: gone.local,
        remote: gone.remote,
        cookie: gone.cookie,
        counted: gone.tcp.map(|tcp| Counted {
            bytes_acked: tcp.bytes_acked,
            bytes_received: tcp.bytes_received,
            segments_out: tcp.segments_out,
            data_segments_out: tcp.data_segments_out,
            segments_in: tcp.segments_in,
        }),
        time,
    }
}

fn kind(happened: Happened) -> EventKind {
    match happened {
        Happened::Established => EventKind::Establish,
        Happened::Accepted => EventKind::Accept,
        Happened::Closed => EventKind::Close,
        Happened::Failed => EventKind::Failed,
    }
}

fn source(source: From) -> EventSource {
    match source {
        From::Packet => EventSource::Packet,
        From::Kernel => EventSource::Kernel,
        From::Snapshot => EventSource::Snapshot,
    }
}

/// Headers, and what an ICMP message quotes.
const SNAPLEN: u32 = 256;
const PACKETS_AT_ONCE: usize = 1024;
/// How long to wait for one packet or notice.
const PATIENCE: Duration = Duration::from_millis(20);
/// Packets and notices of one moment come within this time, and owners are found in it.
const SORTED_OVER: Duration = Duration::from_millis(200);
/// How far before the end of a connection its socket is looked for, where nothing was seen of it before.
const LOOKS_BACK: Duration = Duration::from_secs(1);
/// How long sockets are remembered.
const KEEP: Duration = Duration::from_secs(60);
/// How often the connections that are followed no more are forgotten here too.
const SWEEP: Duration = Duration::from_secs(60);
