use super::super::connections::Happened::{self, Accepted, Closed, Established, Failed};
use super::super::scene::{ACK, C, FIN, RST, S, SYN, SYN_ACK, Scene, Side, at, end};
use super::*;
use crate::key::Endpoint;

const PACKET: Source = Source::Packet;
const KERNEL: Source = Source::Kernel;
const SNAPSHOT: Source = Source::Snapshot;

struct Told {
    scene: Scene,
    kernel: KernelEvents,
}

impl Told {
    fn new(locals: &[Side]) -> Self {
        Told { scene: Scene::new(locals), kernel: KernelEvents::new() }
    }

    /// The socket of an end is gone.
    fn gone(&mut self, millis: i64, from: Side, counted: Option<Counted>) -> &mut Self {
        let [local, remote] = [self.scene.ends[from as usize], self.scene.ends[1 - from as usize]];
        self.notice(Gone { local, remote: Some(remote), cookie: 7, counted, time: at(millis) })
    }

    fn notice(&mut self, gone: Gone) -> &mut Self {
        let scene = &mut self.scene;
        self.kernel.gone(&gone, &mut scene.connections, &mut |event| scene.events.push(event));
        self
    }

    fn snapshot(&mut self, millis: i64, sockets: &[Socket]) -> &mut Self {
        let scene = &mut self.scene;
        self.kernel
            .snapshot(sockets, at(millis), &mut scene.connections, &mut |event| scene.events.push(event));
        self
    }
}

/// What an end counted: bytes acknowledged and received, segments sent, those with payload, segments received.
fn counted(numbers: [u32; 5]) -> Option<Counted> {
    let [acked, received, segments_out, data_segments_out, segments_in] = numbers;
    let (bytes_acked, bytes_received) = (u64::from(acked), u64::from(received));
    Some(Counted { bytes_acked, bytes_received, segments_out, data_segments_out, segments_in })
}

fn socket(local: &str, remote: &str, state: SocketState, cookie: u64) -> Socket {
    Socket {
        kind: SocketKind::Tcp,
        local: end(local),
        remote: Some(remote).filter(|remote| !remote.is_empty()).map(end),
        state,
        uid: 0,
        inode: 1000 + cookie,
        cookie,
        netns: 1,
        interface: 0,
        cgroup: None,
    }
}

fn client(state: SocketState) -> Socket {
    socket("10.0.0.1:40000", "10.0.0.2:80", state, 7)
}

const ESTABLISHED: SocketState = SocketState::Established;

#[test]
fn one_close_whoever_says_it_first() {
    let mut told = Told::new(&[C]);
    told.scene.open(0).close(10);
    told.gone(13, C, None).gone(14, C, None);
    assert_eq!(told.scene.said(), [(Established, C, 2, PACKET), (Closed, C, 12, PACKET)]);

    let mut told = Told::new(&[C]);
    told.scene.open(0);
    told.gone(9, C, None).scene.close(10).wait_until(100_000);
    assert_eq!(told.scene.said(), [(Established, C, 2, PACKET), (Closed, C, 9, KERNEL)]);
    assert!(told.scene.connections.is_empty());
}

#[test]
fn each_end_here_has_a_socket_of_its_own() {
    let mut told = Told::new(&[C, S]);
    told.scene.open(0);
    told.gone(9, S, None);
    told.scene.close(10);
    told.gone(13, C, None);
    let events = told.scene.said();
    assert_eq!(events[2..], [(Closed, S, 9, KERNEL), (Closed, C, 12, PACKET)]);
}

#[test]
fn the_kernel_overtakes_the_packets() {
    let mut told = Told::new(&[C]);
    told.gone(20, C, counted([10, 10, 5, 1, 4]));
    told.scene.open(0).close(10);
    assert_eq!(told.scene.said(), [(Closed, C, 20, KERNEL), (Established, C, 2, PACKET)]);
    // In the middle of the handshake.
    let mut told = Told::new(&[C]);
    told.scene.send(0, C, SYN);
    told.gone(20, C, counted([10, 10, 5, 1, 4])).scene.send(1, S, SYN_ACK).send(2, C, ACK).send(3, C, RST);
    assert_eq!(told.scene.said(), [(Closed, C, 20, KERNEL), (Established, C, 2, PACKET)]);
    // What comes after it is another connection.
    told.scene.again([70_000, 80_000]).open(30).send(40, S, RST);
    assert_eq!(told.scene.said(), [(Established, C, 32, PACKET), (Closed, C, 40, PACKET)]);
}

#[test]
fn an_attempt_that_is_given_up_has_failed() {
    let mut told = Told::new(&[C]);
    told.scene.send(0, C, SYN);
    told.gone(5000, C, None).scene.wait_until(100_000);
    assert_eq!(told.scene.said(), [(Failed, C, 5000, KERNEL)]);
    // Without packets its counts tell: a SYN, and nothing or a reset in return.
    for (numbers, happened) in [
        ([0, 0, 1, 0, 0], Failed),
        ([0, 0, 1, 0, 1], Failed),
        ([0, 0, 7, 0, 0], Failed),
        ([2, 1, 4, 0, 2], Closed),
        ([1, 0, 2, 0, 2], Closed),
        // Accepted, and reset by the other end before anything was said.
        ([0, 0, 0, 0, 3], Closed),
        ([0, 0, 3, 3, 1], Closed),
    ] {
        let mut told = Told::new(&[]);
        assert_eq!(told.gone(9, C, counted(numbers)).scene.said(), [(happened, C, 9, KERNEL)], "{numbers:?}");
    }
    // What the packets showed counts more.
    let mut told = Told::new(&[C]);
    told.scene.open(0).send(5, S, FIN);
    assert_eq!(told.gone(9, C, counted([0, 0, 1, 0, 0])).scene.said().last(), Some(&(Closed, C, 9, KERNEL)));
}

#[test]
fn a_socket_that_lost_its_other_end() {
    let dissolved = |remote: Option<&str>| Gone {
        local: end("0.0.0.0:40000"),
        remote: remote.map(end),
        cookie: 7,
        counted: counted([0, 0, 0, 0, 0]),
        time: at(2000),
    };
    for remote in [None, Some("10.0.0.2:0")] {
        let mut told = Told::new(&[]);
        told.notice(dissolved(remote));
        assert_eq!((told.scene.said(), told.kernel.nameless()), (vec![], 1));
        let mut told = Told::new(&[]);
        told.snapshot(0, &[client(ESTABLISHED)]).notice(dissolved(remote));
        assert_eq!((told.scene.said(), told.kernel.nameless()), (vec![(Closed, C, 2000, KERNEL)], 0));
        let mut told = Told::new(&[]);
        told.snapshot(0, &[client(SocketState::SynSent)]).notice(dissolved(remote));
        assert_eq!(told.scene.said(), [(Failed, C, 2000, KERNEL)]);
    }
}

#[test]
fn what_snapshots_show() {
    let listener = socket("0.0.0.0:80", "", SocketState::Listen, 1);
    let server = socket("10.0.0.2:80", "10.0.0.1:40000", ESTABLISHED, 8);
    let mut told = Told::new(&[]);
    told.snapshot(0, &[client(ESTABLISHED)]);
    assert_eq!(told.scene.said(), []);
    told.snapshot(1000, &[client(SocketState::CloseWait)]).snapshot(2000, &[]).snapshot(3000, &[]);
    assert_eq!(told.scene.said(), [(Closed, C, 2000, SNAPSHOT)]);

    let mut told = Told::new(&[]);
    told.snapshot(0, std::slice::from_ref(&listener));
    told.snapshot(1000, &[listener.clone(), server.clone(), client(ESTABLISHED)]).snapshot(2000, &[listener]);
    let expected = [
        (Accepted, S, 1000, SNAPSHOT),
        (Established, C, 1000, SNAPSHOT),
        (Closed, C, 2000, SNAPSHOT),
        (Closed, S, 2000, SNAPSHOT),
    ];
    assert_eq!(told.scene.said(), expected);
    // A listener elsewhere accepts nothing here.
    let mut told = Told::new(&[]);
    let elsewhere = socket("127.0.0.1:80", "", SocketState::Listen, 1);
    told.snapshot(0, &[]).snapshot(1000, &[elsewhere, server]);
    assert_eq!(told.scene.said(), [(Established, S, 1000, SNAPSHOT)]);
}

#[test]
fn attempts_in_snapshots() {
    let attempt = client(SocketState::SynSent);
    let mut told = Told::new(&[]);
    told.snapshot(0, &[]).snapshot(1000, std::slice::from_ref(&attempt));
    assert_eq!(told.scene.said(), []);
    told.snapshot(2000, &[client(ESTABLISHED)]).snapshot(3000, &[]);
    assert_eq!(told.scene.said(), [(Established, C, 2000, SNAPSHOT), (Closed, C, 3000, SNAPSHOT)]);
    let mut told = Told::new(&[]);
    told.snapshot(0, &[attempt]).snapshot(1000, &[]);
    assert_eq!(told.scene.said(), [(Failed, C, 1000, SNAPSHOT)]);
}

#[test]
fn snapshots_repeat_nothing() {
    let mut told = Told::new(&[C]);
    told.snapshot(0, &[]);
    told.scene.open(0);
    told.snapshot(1000, &[client(ESTABLISHED)]);
    told.scene.close(1500);
    told.snapshot(2000, &[]);
    assert_eq!(told.scene.said(), [(Established, C, 2, PACKET), (Closed, C, 1502, PACKET)]);
    // The notice comes between two snapshots; the second one finds it gone too.
    let mut told = Told::new(&[]);
    told.snapshot(0, &[client(ESTABLISHED)]).gone(500, C, None).snapshot(1000, &[]);
    assert_eq!(told.scene.said(), [(Closed, C, 500, KERNEL)]);
    // A snapshot that was taken before the end is told after it.
    let mut told = Told::new(&[C]);
    told.snapshot(0, &[]);
    told.scene.open(0).close(10);
    told.snapshot(11, &[client(ESTABLISHED)]);
    assert_eq!(told.scene.said(), [(Established, C, 2, PACKET), (Closed, C, 12, PACKET)]);
}

#[test]
fn who_began_is_known_from_the_packets() {
    let listener = socket("[::]:40000", "", SocketState::Listen, 1);
    let mut told = Told::new(&[C]);
    told.snapshot(0, std::slice::from_ref(&listener));
    told.scene.send(0, C, SYN);
    told.snapshot(1, &[listener, client(ESTABLISHED)]);
    assert_eq!(told.scene.said(), [(Established, C, 1, SNAPSHOT)]);
    assert_eq!(told.scene.send(1, S, SYN_ACK).send(2, C, ACK).said(), []);
}

#[test]
fn mapped_addresses_are_those_of_the_wire() {
    let mapped = socket("[::ffff:10.0.0.2]:80", "[::ffff:10.0.0.1]:40000", ESTABLISHED, 8);
    let listener = socket("[::]:80", "", SocketState::Listen, 1);
    let mut told = Told::new(&[S]);
    told.snapshot(0, std::slice::from_ref(&listener)).snapshot(1000, &[listener, mapped]);
    assert_eq!(told.scene.said(), [(Accepted, S, 1000, SNAPSHOT)]);
    let [local, remote] = ["[::ffff:10.0.0.2]:80", "[::ffff:10.0.0.1]:40000"].map(end);
    told.notice(Gone { local, remote: Some(remote), cookie: 8, counted: None, time: at(1500) });
    assert_eq!(told.scene.said(), [(Closed, S, 1500, KERNEL)]);
}

#[test]
fn without_cookies_ends_and_inode_tell_sockets_apart() {
    let bare = |inode| Socket { cookie: 0, inode, ..client(ESTABLISHED) };
    let mut told = Told::new(&[]);
    told.snapshot(0, &[bare(5)]).snapshot(1000, &[bare(5)]);
    assert_eq!(told.scene.said(), []);
    told.snapshot(2000, &[]);
    assert_eq!(told.scene.said(), [(Closed, C, 2000, SNAPSHOT)]);
}

#[test]
fn only_tcp_connections_count() {
    let udp = Socket { kind: SocketKind::Udp, ..client(ESTABLISHED) };
    let waiting = client(SocketState::TimeWait);
    let asked = client(SocketState::SynReceived);
    let bound = Socket { remote: None, ..client(SocketState::Unconnected) };
    let mut told = Told::new(&[]);
    told.snapshot(0, &[]).snapshot(1000, &[udp, waiting, asked, bound]).snapshot(2000, &[]);
    assert_eq!(told.scene.said(), []);
}

#[test]
fn the_cookie_goes_with_what_the_kernel_told() {
    let mut told = Told::new(&[C]);
    told.scene.open(0);
    told.gone(9, C, None);
    let cookies: Vec<_> = told.scene.events.iter().map(|event| event.cookie).collect();
    assert_eq!(cookies, [None, Some(7)]);
    let portless = Endpoint { port: None, ..end("10.0.0.2:80") };
    told.notice(Gone {
        local: end("10.0.0.1:1"),
        remote: Some(portless),
        cookie: 0,
        counted: None,
        time: at(10),
    });
    assert_eq!(told.kernel.nameless(), 1);
}

/// What happened, at which end, when, and to which socket.
fn with_cookies(told: &mut Told) -> Vec<(Happened, Side, i64, u64)> {
    let cookies: Vec<_> = told.scene.events.iter().map(|event| event.cookie.unwrap_or(0)).collect();
    let said = told.scene.said().into_iter().zip(cookies);
    said.map(|((happened, side, millis, _), cookie)| (happened, side, millis, cookie)).collect()
}

#[test]
fn the_next_connection_of_the_same_ends_is_known_by_its_cookie() {
    let with = |cookie| Socket { cookie, ..client(ESTABLISHED) };
    let gone = |cookie, millis, counts| Gone {
        local: end("10.0.0.1:40000"),
        remote: Some(end("10.0.0.2:80")),
        cookie,
        counted: counted(counts),
        time: at(millis),
    };
    let used = [10, 10, 5, 1, 4];
    // One after the other, within the minute for which the first is remembered.
    let mut told = Told::new(&[]);
    told.snapshot(0, &[]).snapshot(1000, &[with(7)]).snapshot(2000, &[]).snapshot(3000, &[with(8)]);
    told.notice(gone(8, 3500, used)).snapshot(4000, &[]);
    // Two between two snapshots: a connection, and an attempt.
    told.notice(gone(9, 4100, used)).notice(gone(10, 4200, [0, 0, 1, 0, 1])).snapshot(5000, &[]);
    assert_eq!(
        with_cookies(&mut told),
        [
            (Established, C, 1000, 7),
            (Closed, C, 2000, 7),
            (Established, C, 3000, 8),
            (Closed, C, 3500, 8),
            (Closed, C, 4100, 9),
            (Failed, C, 4200, 10),
        ]
    );
    // The next one is there when the end of the first is seen; both ends are here.
    let server = |cookie| socket("10.0.0.2:80", "10.0.0.1:40000", ESTABLISHED, cookie);
    let listener = socket("0.0.0.0:80", "", SocketState::Listen, 1);
    let mut told = Told::new(&[]);
    told.snapshot(0, std::slice::from_ref(&listener));
    told.snapshot(1000, &[listener.clone(), with(7), server(17)]);
    told.snapshot(2000, &[listener, with(8), server(18)]);
    let mut events = with_cookies(&mut told);
    events.sort_by_key(|event| event.3);
    assert_eq!(
        events,
        [
            (Established, C, 1000, 7),
            (Closed, C, 2000, 7),
            (Established, C, 2000, 8),
            (Accepted, S, 1000, 17),
            (Closed, S, 2000, 17),
            (Accepted, S, 2000, 18),
        ]
    );
    // Of one that came before the notice is late: the other one stays open.
    let mut told = Told::new(&[]);
    told.snapshot(0, &[]).snapshot(1000, &[with(8)]).notice(gone(7, 1200, used)).snapshot(2000, &[with(8)]);
    told.notice(gone(8, 2500, used));
    assert_eq!(
        with_cookies(&mut told),
        [(Established, C, 1000, 8), (Closed, C, 1200, 7), (Closed, C, 2500, 8)]
    );
}

#[test]
fn packets_and_cookies_say_the_same() {
    // The packets show the next connection first; what is said of the one before is old.
    let mut told = Told::new(&[C]);
    told.snapshot(0, &[client(ESTABLISHED)]);
    told.scene.open(1000);
    told.snapshot(1100, &[client(ESTABLISHED)]);
    told.scene.close(1200);
    told.gone(1300, C, None).scene.again([70_000, 80_000]).open(1400);
    told.gone(1500, C, None);
    assert_eq!(
        told.scene.said(),
        [(Established, C, 1002, PACKET), (Closed, C, 1202, PACKET), (Established, C, 1402, PACKET)]
    );
}
