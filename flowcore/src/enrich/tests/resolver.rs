//! The resolver, asking a machine that is made up.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::super::*;
use super::*;
use crate::host::{ProcessTable, Query, Socket, SocketKind, SocketState, SocketTable};
use crate::record::{AttributionStats, Match, Unattributed};

/// A machine: what it answers, which sockets it lists, whose they are, and how often it was asked.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: HashMap<Query, Socket>,
    listed: Vec<Socket>,
    owners: HashMap<u64, Owner>,
    found: usize,
    owned: usize,
    fails: bool,
    panics: bool,
    /// Where each answer asks for the next one.
    asks: Option<Requests>,
    /// How long an answer takes.
    pause: Duration,
    /// What answers once a socket was found, and whether the search was told that it is there still.
    then: Option<Option<Socket>>,
    was_there: Option<bool>,
}

impl SocketTable for Machine {
    fn find(&mut self, query: &Query) -> io::Result<Option<Socket>> {
        let mut state = self.0.lock().unwrap();
        state.found += 1;
        if let Some(requests) = &state.asks {
            requests.ask(*query, real_clock());
        }
        std::thread::sleep(state.pause);
        assert!(!state.panics, "the kernel said nonsense");
        if state.fails { Err(io::Error::other("no answer")) } else { Ok(state.answers.get(query).cloned()) }
    }

    fn snapshot(&mut self, sockets: &mut Vec<Socket>) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        sockets.extend(state.listed.iter().cloned());
        if state.fails { Err(io::Error::other("no answer")) } else { Ok(()) }
    }
}

impl ProcessTable for Machine {
    fn owner(&mut self, socket: &Socket) -> Owner {
        let mut state = self.0.lock().unwrap();
        state.owned += 1;
        state.owners.get(&socket.inode).cloned().unwrap_or(Owner::NoProcess)
    }

    fn owner_while(&mut self, socket: &Socket, is_there: &mut dyn FnMut() -> bool) -> Owner {
        let then = self.0.lock().unwrap().then.take();
        if let Some(then) = then {
            self.change(|state| state.answers = then.map(|then| (query(), then)).into_iter().collect());
            let was_there = is_there();
            self.change(|state| state.was_there = Some(was_there));
        }
        self.owner(socket)
    }
}

impl Machine {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    fn found(&self) -> usize {
        self.0.lock().unwrap().found
    }

    fn owned(&self) -> usize {
        self.0.lock().unwrap().owned
    }

    fn resolver(&self, clock: fn() -> Timestamp) -> Resolver<Machine, Machine> {
        let limits = IndexLimits { netns: 7, ..IndexLimits::default() };
        Resolver::new(self.clone(), self.clone(), IndexWriter::new(limits), clock)
    }
}

const QUERY_PORT: u16 = 40_000;

fn query() -> Query {
    let local = Endpoint { port: Some(QUERY_PORT), ..end("192.0.2.1:0") };
    Query { proto: Proto::TCP, local, remote: end("198.51.100.2:443"), interface: 0 }
}

fn socket(inode: u64, state: SocketState) -> Socket {
    let is_connected = state != SocketState::Listen;
    Socket {
        kind: SocketKind::Tcp,
        local: if is_connected { query().local } else { end("[::]:40000") },
        remote: is_connected.then_some(query().remote),
        state,
        uid: 0,
        inode,
        cookie: inode + 1_000,
        netns: 7,
        interface: 0,
        cgroup: None,
    }
}

fn flow(first: Timestamp, last: Timestamp, opened: bool) -> FlowEnd {
    FlowEnd {
        proto: Proto::TCP,
        local: query().local,
        remote: query().remote,
        opened,
        begun: None,
        first,
        last,
    }
}

fn pid(index: &SocketIndex, flow: FlowEnd) -> Result<(u32, Match), Unattributed> {
    let owner = Attribution::live(index.clone(), LocalAddresses::default()).owner(&flow)?;
    Ok((owner.process().map_or(0, |process| process.pid), owner.matched))
}

/// Each test thread has a clock of its own.
macro_rules! clock {
    ($set:ident, $clock:ident) => {
        static NOW: AtomicI64 = AtomicI64::new(0);
        let $set = |millis: i64| NOW.store(millis, Ordering::Relaxed);
        fn $clock() -> Timestamp {
            at(NOW.load(Ordering::Relaxed))
        }
    };
}

#[test]
fn a_lookup_names_the_owner() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.answers.insert(query(), socket(1, SocketState::SynSent));
        state.owners.insert(1, process(10, "curl"));
    });
    let mut resolver = machine.resolver(clock);
    set(1);
    assert_eq!(resolver.resolve(&query(), at(0)).unwrap(), Answer::Settled);
    assert_eq!(pid(&resolver.index(), flow(at(0), at(5), true)), Ok((10, Match::Exact)));
    // A moment later the owner is not looked for again.
    set(100);
    resolver.resolve(&query(), at(100)).unwrap();
    assert_eq!((machine.found(), machine.owned()), (2, 1));
    // The port is used again, by another process.
    machine.change(|state| {
        state.answers.insert(query(), socket(2, SocketState::SynSent));
        state.owners.insert(2, process(20, "wget"));
    });
    set(2_001);
    resolver.resolve(&query(), at(2_000)).unwrap();
    assert_eq!(pid(&resolver.index(), flow(at(0), at(5), true)), Ok((10, Match::Exact)));
    assert_eq!(pid(&resolver.index(), flow(at(2_000), at(2_005), true)), Ok((20, Match::Exact)));
    assert_eq!(pid(&resolver.index(), flow(at(1_000), at(1_005), true)), Err(Unattributed::NoSocket));
    // And then by none.
    machine.change(|state| state.answers.clear());
    set(3_000);
    assert_eq!(resolver.resolve(&query(), at(2_999)).unwrap(), Answer::Nobody);
    assert_eq!(pid(&resolver.index(), flow(at(2_999), at(3_005), true)), Err(Unattributed::NoSocket));
}

#[test]
fn a_listener_is_provisional() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.answers.insert(query(), socket(1, SocketState::Listen));
        state.owners.insert(1, process(10, "master"));
        state.owners.insert(2, process(20, "worker"));
    });
    let mut resolver = machine.resolver(clock);
    assert_eq!(resolver.resolve(&query(), at(0)).unwrap(), Answer::Provisional);
    assert_eq!(pid(&resolver.index(), flow(at(0), at(500), false)), Ok((10, Match::Listener)));
    // The handshake is under way: that socket has no inode yet.
    let half = Socket { inode: 0, ..socket(2, SocketState::SynReceived) };
    machine.change(|state| _ = state.answers.insert(query(), half));
    set(50);
    assert_eq!(resolver.resolve(&query(), at(0)).unwrap(), Answer::Provisional);
    assert_eq!(pid(&resolver.index(), flow(at(0), at(500), false)), Ok((10, Match::Listener)));
    machine.change(|state| _ = state.answers.insert(query(), socket(2, SocketState::Established)));
    set(250);
    assert_eq!(resolver.resolve(&query(), at(0)).unwrap(), Answer::Settled);
    assert_eq!(pid(&resolver.index(), flow(at(0), at(500), false)), Ok((20, Match::Exact)));
    assert_eq!(pid(&resolver.index(), flow(at(0), at(100), false)), Ok((10, Match::Listener)));
}

#[test]
fn answers_that_are_none() {
    clock!(_set, clock);
    let machine = Machine::default();
    let mut resolver = machine.resolver(clock);
    // In TIME_WAIT nobody holds it; and a socket of another connection is not this one's.
    let other = Socket { remote: Some(end("198.51.100.3:443")), ..socket(1, SocketState::Established) };
    for answer in [Socket { inode: 0, ..socket(1, SocketState::TimeWait) }, other] {
        machine.change(|state| _ = state.answers.insert(query(), answer));
        assert_eq!(resolver.resolve(&query(), at(0)).unwrap(), Answer::Nobody);
    }
    assert!(resolver.index().is_empty());
    let orphan = Socket { inode: 0, ..socket(1, SocketState::FinWait1) };
    machine.change(|state| _ = state.answers.insert(query(), orphan));
    resolver.resolve(&query(), at(0)).unwrap();
    assert_eq!(pid(&resolver.index(), flow(at(0), at(5), true)), Err(Unattributed::NoPid));
    assert_eq!(machine.owned(), 0);
    machine.change(|state| state.fails = true);
    assert!(resolver.resolve(&query(), at(0)).is_err());
}

#[test]
fn snapshots_catch_what_lookups_missed() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.listed = vec![socket(1, SocketState::Established), socket(2, SocketState::Listen)];
        state.owners.insert(1, process(10, "ssh"));
        state.owners.insert(2, process(20, "sshd"));
    });
    let mut resolver = machine.resolver(clock);
    resolver.snapshot().unwrap();
    assert_eq!(pid(&resolver.index(), flow(at(-100), at(100), true)), Ok((10, Match::Exact)));
    // Known owners are not looked for again.
    set(5_000);
    resolver.snapshot().unwrap();
    assert_eq!(machine.owned(), 2);
    // One that fails says nothing of any socket.
    set(10_000);
    machine.change(|state| (state.listed, state.fails) = (Vec::new(), true));
    assert!(resolver.snapshot().is_err());
    assert_eq!(pid(&resolver.index(), flow(at(9_000), at(9_001), true)), Ok((10, Match::Exact)));
    machine.change(|state| state.fails = false);
    resolver.snapshot().unwrap();
    assert_eq!(pid(&resolver.index(), flow(at(9_000), at(9_001), true)), Err(Unattributed::NoSocket));
    assert_eq!(pid(&resolver.index(), flow(at(4_000), at(4_001), true)), Ok((10, Match::History)));
    // The notice of its end tells the time better than the snapshots.
    resolver.closed(&socket(1, SocketState::LastAck), at(9_500));
    assert_eq!(pid(&resolver.index(), flow(at(9_000), at(9_001), true)), Ok((10, Match::History)));
}

fn real_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(since.as_nanos() as i64)
}

#[test]
fn until_a_connection_is_accepted_its_listener_is_named() {
    clock!(set, clock);
    let machine = Machine::default();
    let waiting = Socket { inode: 0, ..socket(2, SocketState::Established) };
    machine.change(|state| {
        state.listed = vec![socket(1, SocketState::Listen)];
        state.answers.insert(query(), Socket { state: SocketState::SynReceived, ..waiting.clone() });
        state.owners.insert(1, process(10, "master"));
        state.owners.insert(2, process(20, "worker"));
    });
    let mut resolver = machine.resolver(clock);
    let mut owner_at = |millis| {
        set(millis);
        let answer = resolver.resolve(&query(), at(0)).unwrap();
        resolver.stand_by(&query(), at(0)).unwrap();
        (answer, pid(&resolver.index(), flow(at(0), at(9), false)))
    };
    assert_eq!(owner_at(1), (Answer::Provisional, Ok((10, Match::Listener))));
    machine.change(|state| _ = state.answers.insert(query(), waiting.clone()));
    assert_eq!(owner_at(2).0, Answer::Provisional);
    machine.change(|state| _ = state.answers.insert(query(), socket(2, SocketState::Established)));
    assert_eq!(owner_at(3), (Answer::Settled, Ok((20, Match::Exact))));
}

#[test]
fn where_an_accepted_socket_is_gone_before_its_process_is_found_its_listener_is_named() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.listed = vec![socket(1, SocketState::Listen)];
        state.answers.insert(query(), socket(2, SocketState::Established));
        state.owners.insert(1, process(10, "master"));
    });
    let mut resolver = machine.resolver(clock);
    set(1);
    assert_eq!(resolver.resolve(&query(), at(0)).unwrap(), Answer::Unowned);
    resolver.stand_by(&query(), at(0)).unwrap();
    assert_eq!(pid(&resolver.index(), flow(at(0), at(9), false)), Ok((10, Match::Listener)));
    // It has no part in what this end opened.
    assert_eq!(pid(&resolver.index(), flow(at(0), at(9), true)), Err(Unattributed::NoPid));
}

#[test]
fn a_search_is_told_whether_the_socket_is_there_still() {
    clock!(set, clock);
    set(1);
    let there = |before: Socket, then: Option<Socket>| {
        let machine = Machine::default();
        machine.change(|state| {
            state.answers.insert(query(), before);
            state.then = Some(then);
        });
        machine.resolver(clock).resolve(&query(), at(0)).unwrap();
        let state = machine.0.lock().unwrap();
        state.was_there
    };
    let connected = socket(2, SocketState::Established);
    assert_eq!(there(connected.clone(), Some(connected.clone())), Some(true));
    assert_eq!(there(connected.clone(), Some(Socket { inode: 0, ..connected.clone() })), Some(false));
    assert_eq!(there(connected.clone(), Some(socket(3, SocketState::Established))), Some(false));
    assert_eq!(there(connected.clone(), None), Some(false));
    // A connection that was accepted meanwhile says nothing of the listener.
    assert_eq!(there(socket(1, SocketState::Listen), Some(connected)), Some(true));
    assert_eq!(there(socket(1, SocketState::Listen), None), Some(false));
}

#[test]
fn a_socket_that_went_to_another_process_is_named_after_it() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.answers.insert(query(), socket(1, SocketState::Established));
        state.listed = vec![socket(1, SocketState::Established)];
        state.owners.insert(1, process(10, "parent"));
    });
    let mut resolver = machine.resolver(clock);
    set(1);
    resolver.resolve(&query(), at(0)).unwrap();
    machine.change(|state| _ = state.owners.insert(1, process(20, "child")));
    let named = |resolver: &Resolver<Machine, Machine>| pid(&resolver.index(), flow(at(0), at(9_000), true));
    set(1_000);
    resolver.snapshot().unwrap();
    assert_eq!(named(&resolver), Ok((10, Match::Exact)), "taken for granted for a while");
    set(5_900);
    resolver.snapshot().unwrap();
    assert_eq!(named(&resolver), Ok((20, Match::Exact)), "however often it was seen meanwhile");
    machine.change(|state| _ = state.owners.remove(&1));
    set(11_900);
    resolver.snapshot().unwrap();
    assert_eq!(named(&resolver), Ok((20, Match::Exact)), "nobody knows better");
}

#[test]
fn a_notice_that_has_lost_its_ends_closes_what_is_known_and_adds_nothing() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.answers.insert(query(), socket(1, SocketState::Established));
        state.owners.insert(1, process(10, "curl"));
    });
    let mut resolver = machine.resolver(clock);
    set(1);
    resolver.resolve(&query(), at(0)).unwrap();
    let before = resolver.index().len();
    let nowhere =
        |inode| Socket { local: end("0.0.0.0:0"), remote: None, ..socket(inode, SocketState::Unconnected) };
    (1..9).for_each(|inode| resolver.closed(&nowhere(inode), at(5)));
    assert_eq!(resolver.index().len(), before);
    assert_eq!(pid(&resolver.index(), flow(at(0), at(4), true)), Ok((10, Match::Exact)));
    assert_eq!(pid(&resolver.index(), flow(at(6), at(9), true)), Err(Unattributed::NoSocket));
}

#[test]
fn several_listeners_name_nobody() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.listed = vec![socket(1, SocketState::Listen), socket(2, SocketState::Listen)];
        state.answers.insert(query(), Socket { inode: 0, ..socket(3, SocketState::Established) });
        state.owners.insert(1, process(10, "worker"));
        state.owners.insert(2, process(20, "worker"));
    });
    let mut resolver = machine.resolver(clock);
    set(1);
    assert_eq!(resolver.resolve(&query(), at(0)).unwrap(), Answer::Provisional);
    resolver.stand_by(&query(), at(0)).unwrap();
    assert_eq!(pid(&resolver.index(), flow(at(0), at(9), false)), Err(Unattributed::Ambiguous));
    // Nor does it help that the kernel has named one of them before.
    machine.change(|state| _ = state.answers.insert(query(), socket(1, SocketState::Listen)));
    let mut second = machine.resolver(clock);
    second.resolve(&query(), at(0)).unwrap();
    second.stand_by(&query(), at(0)).unwrap();
    assert_eq!(pid(&second.index(), flow(at(0), at(9), false)), Err(Unattributed::Ambiguous));
    // The list of them does not change that: who has joined since is not in it.
    resolver.snapshot().unwrap();
    assert_eq!(pid(&resolver.index(), flow(at(0), at(9), false)), Err(Unattributed::Ambiguous));
}

/// Waits until something holds, for at most five seconds.
fn until(holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn the_thread_answers_and_asks_again_while_only_a_listener_does() {
    let machine = Machine::default();
    machine.change(|state| {
        state.answers.insert(query(), socket(1, SocketState::Listen));
        state.owners.insert(1, process(10, "master"));
        state.owners.insert(2, process(20, "worker"));
    });
    let lookups = Lookups::start(machine.resolver(real_clock), None, LookupOptions::default()).unwrap();
    let requests = lookups.requests();
    let now = real_clock();
    let ended = now.saturating_add_nanos(10_000_000_000);
    let index = requests.index();
    requests.ask(query(), now);
    assert!(until(|| pid(&index, flow(now, ended, false)) == Ok((10, Match::Listener))));
    machine.change(|state| _ = state.answers.insert(query(), socket(2, SocketState::Established)));
    assert!(until(|| pid(&index, flow(now, ended, false)) == Ok((20, Match::Exact))));
    requests.closed(socket(2, SocketState::LastAck), real_clock());
    lookups.finish().unwrap();
    let after = real_clock().saturating_add_nanos(1_000_000);
    assert_eq!(pid(&index, flow(now, ended, false)), Ok((20, Match::Exact)));
    assert_ne!(pid(&index, flow(after, after, false)), Ok((20, Match::Exact)));
    let mut stats = AttributionStats::default();
    requests.count(&mut stats);
    assert_eq!((stats.lookups_dropped, stats.lookups_failed), (0, 0));
    assert!((2..=8).contains(&stats.lookups), "{stats:?}");
}

#[test]
fn a_full_queue_drops_and_says_so() {
    let machine = Machine::default();
    machine.change(|state| state.pause = Duration::from_millis(20));
    let options = LookupOptions { queue: 2, snapshots: None };
    let lookups = Lookups::start(machine.resolver(real_clock), None, options).unwrap();
    let requests = lookups.requests();
    let now = real_clock();
    (0..50).for_each(|_| requests.ask(query(), now));
    let mut stats = AttributionStats::default();
    requests.count(&mut stats);
    assert!(stats.lookups_dropped >= 40, "{stats:?}");
    lookups.finish().unwrap();
    requests.count(&mut stats);
    assert_eq!(pid(&requests.index(), flow(now, now, true)), Err(Unattributed::QueueFull));
    let later = now.saturating_add_nanos(1);
    assert_eq!(pid(&requests.index(), flow(later, later, true)), Err(Unattributed::NoSocket));
}

#[test]
fn what_was_recorded_names_the_same_owners() {
    clock!(set, clock);
    let machine = Machine::default();
    machine.change(|state| {
        state.answers.insert(query(), socket(1, SocketState::Established));
        state.owners.insert(1, process(10, "curl"));
        state.listed = vec![socket(2, SocketState::Listen)];
    });
    let left = Arc::new(Mutex::new(Vec::new()));
    let kept = left.clone();
    let mut writer = IndexWriter::new(IndexLimits { netns: 7, ..IndexLimits::default() });
    writer.on_leaving(move |socket| kept.lock().unwrap().push(socket.clone()));
    let mut resolver = Resolver::new(machine.clone(), machine.clone(), writer, clock);
    set(1);
    resolver.resolve(&query(), at(0)).unwrap();
    resolver.snapshot().unwrap();
    resolver.finish();
    let recorded = SocketIndex::recorded(left.lock().unwrap().clone());
    assert_eq!(recorded.len(), 2);
    let asked = flow(at(0), at(5), true);
    assert_eq!(pid(&recorded, asked), Ok((10, Match::Exact)));
    assert_eq!(pid(&recorded, asked), pid(&resolver.index(), asked));
}

#[test]
fn a_thread_that_breaks_is_told_of() {
    let machine = Machine::default();
    machine.change(|state| state.panics = true);
    let options = LookupOptions { snapshots: None, ..LookupOptions::default() };
    let lookups = Lookups::start(machine.resolver(real_clock), None, options).unwrap();
    lookups.requests().ask(query(), real_clock());
    let error = lookups.finish().unwrap_err();
    assert!(matches!(error, crate::error::Error::Internal(_)));
    assert!(error.to_string().ends_with("the kernel said nonsense"), "{error}");
}

/// A tap that always has a packet, which asks for nothing, and counts how often it was read.
struct Flood(Arc<std::sync::atomic::AtomicUsize>);

impl Tap for Flood {
    fn wait(&mut self, _: Duration, _: &mut dyn FnMut(Query, Timestamp)) -> Tapped {
        self.0.fetch_add(1, Ordering::Relaxed);
        Tapped::Packet
    }

    fn lost(&mut self) -> u64 {
        0
    }
}

#[test]
fn the_tap_and_the_queue_do_not_starve_each_other() {
    let machine = Machine::default();
    let read = Arc::default();
    let tap = Some(Box::new(Flood(Arc::clone(&read))) as Box<dyn Tap>);
    let lookups = Lookups::start(machine.resolver(real_clock), tap, LookupOptions::default()).unwrap();
    let requests = lookups.requests();
    machine.change(|state| state.asks = Some(requests.clone()));
    requests.ask(query(), real_clock());
    assert!(until(|| machine.found() > 1_000), "the tap leaves the queue no time");
    let before = read.load(Ordering::Relaxed);
    assert!(until(|| read.load(Ordering::Relaxed) > before), "the queue leaves the tap no time");
    machine.change(|state| state.asks = None);
    lookups.finish().unwrap();
}
