//! The whole pipeline: the same records for any number of shards, and nothing lost on the way.

mod clocks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowcore::capture::{Next, Source, SourceCounts};
use flowcore::enrich::{Attribution, SocketIndex};
use flowcore::filter::Filter;
use flowcore::host::route::{Route, RouteKind};
use flowcore::host::{Credentials, Owner, Process};
use flowcore::key::{Endpoint, Proto};
use flowcore::meter::Beside;
use flowcore::packet::{Frame, LinkType};
use flowcore::record::{Column, HostNews, Record, RouteRecord, SightedAs, SightedSocket};
use flowcore::sink::{self, Existing, Filtered, Format, SightedLines, Sink, read_sighted};
use flowcore::table::{IdleTimeouts, TableOptions};
use flowcore::time::Timestamp;
use flowcore::{Error, Meter, Stop};

/// Frames from memory; as if live, if wanted.
struct Frames {
    frames: Vec<(i64, Vec<u8>)>,
    next: usize,
    live: bool,
}

impl Source for Frames {
    fn next(&mut self, _: Duration) -> Result<Next<'_>, Error> {
        let Some((nanos, data)) = self.frames.get(self.next) else { return Ok(Next::End) };
        self.next += 1;
        Ok(Next::Frame(Frame {
            data,
            time: Some(Timestamp::from_nanos(*nanos)),
            wire_len: data.len() as u32,
            link: LinkType(1),
            interface: None,
        }))
    }

    fn counts(&mut self) -> SourceCounts {
        SourceCounts::default()
    }

    fn is_live(&self) -> bool {
        self.live
    }
}

/// Keeps what it is given as text; each record may take its time.
#[derive(Clone, Default)]
struct Kept {
    lines: Arc<Mutex<Vec<String>>>,
    pause: Duration,
}

impl Sink for Kept {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        std::thread::sleep(self.pause);
        self.lines.lock().unwrap().push(format!("{record:?}"));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// A small generator, so that the traffic is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// An Ethernet frame with a TCP or UDP packet between two of 40 hosts, or an ARP frame.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = vec![0; 12];
    if random.below(50) == 0 {
        frame.extend([0x08, 0x06]);
        frame.resize(60, 0);
        return frame;
    }
    let (src, dst) = (random.below(20) as u8, 20 + random.below(20) as u8);
    let (src, dst) = if random.below(2) == 0 { (src, dst) } else { (dst, src) };
    let port = |host: u8| (if host < 20 { 40_000 } else { 443 } + u16::from(host % 3)).to_be_bytes();
    let payload: Vec<u8> = (0..random.below(300)).map(|_| random.below(7) as u8).collect();
    let is_tcp = random.below(3) > 0;
    let header = if is_tcp { 20 } else { 8 };
    let ip_len = (20 + header + payload.len()) as u16;
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(ip_len.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, if is_tcp { 6 } else { 17 }, 0, 0]);
    frame.extend([10, 0, 0, src, 10, 0, 0, dst]);
    frame.extend(port(src));
    frame.extend(port(dst));
    if is_tcp {
        frame.extend((random.below(5) as u32 * 1000).to_be_bytes());
        frame.extend([0; 4]);
        let flags = [0x10, 0x18, 0x02, 0x12, 0x11, 0x04][random.below(6) as usize];
        frame.extend([0x50, flags, 1, 0, 0, 0, 0, 0]);
    } else {
        frame.extend((8 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0]);
    }
    frame.extend(payload);
    frame
}

fn traffic(seed: u64, packets: usize) -> Vec<(i64, Vec<u8>)> {
    let mut random = Random(seed);
    let mut nanos = 1_700_000_000_000_000_000;
    (0..packets)
        .map(|_| {
            nanos += match random.below(1000) {
                0 => 40_000_000_000,
                1 => -1_000_000_000,
                2 => -500_000_000_000,
                _ => random.below(20_000_000) as i64,
            };
            (nanos, frame(&mut random))
        })
        .collect()
}

fn options() -> TableOptions {
    TableOptions {
        idle: IdleTimeouts::all(Duration::from_secs(30)),
        active: Some(Duration::from_secs(8)),
        ..TableOptions::default()
    }
}

fn replay(frames: &[(i64, Vec<u8>)], shards: usize) -> (Vec<String>, flowcore::meter::Summary) {
    let kept = Kept::default();
    let source = Frames { frames: frames.to_vec(), next: 0, live: false };
    let meter = Meter::builder().table(options()).shards(shards).sink("kept", Box::new(kept.clone()));
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    assert!(summary.failure.is_none(), "{:?}", summary.failure);
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
    let lines = std::mem::take(&mut *kept.lines.lock().unwrap());
    (lines, summary)
}

#[test]
fn replay_is_the_same_for_any_number_of_shards() {
    for seed in 0..6 {
        let frames = traffic(seed, 6_000);
        let (expected, summary) = replay(&frames, 1);
        let reasons: Vec<&str> = summary.stats.records.keys().copied().collect();
        for reason in ["active", "eof", "fin", "idle", "reuse", "rst"] {
            assert!(reasons.contains(&reason), "no {reason} in {reasons:?}");
        }
        assert!(summary.stats.time_jumps > 0 && summary.stats.packets_out_of_order > 0);
        assert_eq!(summary.stats.packets, 6_000);
        for shards in [2, 3, 8] {
            let (records, other) = replay(&frames, shards);
            assert!(records == expected, "seed {seed}: {shards} shards differ from one");
            assert_eq!(other.stats.records, summary.stats.records);
        }
    }
}

#[test]
fn many_flows_that_end_at_once_keep_their_order() {
    let mut frames: Vec<(i64, Vec<u8>)> = Vec::new();
    for n in 0..30_000u32 {
        let mut random = Random(u64::from(n));
        let mut data = frame(&mut random);
        if data[13] == 0 {
            data[27..30].copy_from_slice(&n.to_be_bytes()[1..]);
        }
        frames.push((i64::from(n), data));
    }
    frames.push((100_000_000_000, frame(&mut Random(7))));
    let (one, _) = replay(&frames, 1);
    let (three, _) = replay(&frames, 3);
    assert!(one.len() > 20_000 && one == three);
}

/// The id of a flow is a hash that is the same everywhere, so that anybody can choose flows whose ids are alike.
#[test]
fn flows_with_one_id_leave_in_the_order_of_their_keys() {
    const TIME: u64 = 1_700_000_000_000_000_000;
    let word = |x: u64, y: u64| [(x ^ 0x243f_6a88_85a3_08d3 ^ TIME), (y ^ 0x1319_8a2e_0370_7344)];
    let mut frames = Vec::new();
    for n in 1..=40u64 {
        let (one, other) = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1, n << 40);
        for source in [word(one, other), word(other, one)] {
            let mut frame = vec![0; 12];
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
            source.iter().for_each(|word| frame.extend(word.to_be_bytes()));
            frame.extend([0xff; 16]);
            frame.extend([4, 0, 0, 53, 0, 8, 0, 0]);
            frames.push((TIME as i64, frame));
        }
    }
    let (expected, _) = replay(&frames, 1);
    let id = |line: &String| line.split_once("flow_id: ").unwrap().1.split(',').next().unwrap().to_owned();
    let ids: BTreeSet<String> = expected.iter().map(id).collect();
    assert_eq!((expected.len(), ids.len()), (80, 40), "two flows have one id");
    for shards in [1, 2, 3, 2, 3, 8] {
        assert!(replay(&frames, shards).0 == expected, "{shards} shards");
    }
}

/// One connection, reset and opened again without end in a moment: all its records are one shard's, and the other
/// shards, without packets, cannot say how far they are.
#[test]
fn one_shard_may_have_all_the_records() {
    let mut frames: Vec<(i64, Vec<u8>)> = Vec::new();
    for n in 0..20_000u32 {
        for (flags, ports) in [(2, [40_000u16, 80]), (0x14, [80, 40_000])] {
            let mut frame = vec![0; 12];
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            let host = |port| [10, 0, 0, if port == 80 { 2 } else { 1 }];
            ports.iter().for_each(|&port| frame.extend(host(port)));
            ports.iter().for_each(|port| frame.extend(port.to_be_bytes()));
            frame.extend(n.to_be_bytes());
            frame.extend([0, 0, 0, 0, 0x50, flags, 4, 0, 0, 0, 0, 0]);
            frames.push((i64::from(n), frame));
        }
    }
    let (one, summary) = replay(&frames, 1);
    assert_eq!((one.len(), summary.stats.records["rst"]), (20_000, 20_000));
    for shards in [2, 3] {
        assert!(replay(&frames, shards).0 == one, "{shards} shards");
    }
}

#[test]
fn a_slow_sink_stalls_replay_and_loses_nothing() {
    let kept = Kept { pause: Duration::from_micros(300), ..Kept::default() };
    let source = Frames { frames: traffic(9, 8_000), next: 0, live: false };
    let meter = Meter::builder().table(options()).shards(2).sink("slow", Box::new(kept.clone()));
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
    assert_eq!(summary.stats.queue_dropped, 0);
    assert_eq!(kept.lines.lock().unwrap().len() as u64, summary.stats.records.values().sum::<u64>());
}

#[test]
fn a_slow_sink_never_stalls_live_capture_and_what_is_dropped_is_counted() {
    let kept = Kept { pause: Duration::from_micros(500), ..Kept::default() };
    let source = Frames { frames: traffic(11, 60_000), next: 0, live: true };
    let options = TableOptions { max_flows: 50, ..options() };
    // Far more stats are asked for than the stalled shards can report.
    let stats = Kept::default();
    let meter = Meter::builder().table(options).shards(2).sink("slow", Box::new(kept.clone()));
    let meter = meter.stats("stats", Box::new(stats.clone()), Duration::from_millis(2));
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    assert!(stats.lines.lock().unwrap().len() > 1);
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
    assert!(summary.stats.queue_dropped > 0, "nothing was dropped");
    assert_eq!(summary.stats.packets, 60_000);
}

#[test]
fn a_sink_that_fails_ends_the_run() {
    struct Failing(u32);
    impl Sink for Failing {
        fn write(&mut self, _: Record<'_>) -> Result<(), Error> {
            self.0 = self.0.saturating_sub(1);
            if self.0 == 0 {
                return Err(Error::Output {
                    name: "full".into(),
                    source: std::io::Error::other("disk full"),
                });
            }
            Ok(())
        }
        fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }
        fn finish(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }
    let source = Frames { frames: traffic(5, 200_000), next: 0, live: false };
    let meter = Meter::builder().table(options()).sink("full", Box::new(Failing(10)));
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    assert!(matches!(summary.failure, Some(Error::Output { .. })));
    assert!(summary.stats.packets < 200_000, "reading went on");
    assert!(summary.stats.sinks[0].failed > 0);
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
}

#[test]
fn a_reader_that_goes_away_leaves_the_other_sinks_at_work() {
    struct Closed;
    impl Sink for Closed {
        fn write(&mut self, _: Record<'_>) -> Result<(), Error> {
            Err(Error::Output { name: "-".into(), source: std::io::ErrorKind::BrokenPipe.into() })
        }
        fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }
        fn finish(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }
    let kept = Kept::default();
    let source = Frames { frames: traffic(5, 20_000), next: 0, live: false };
    let meter =
        Meter::builder().table(options()).sink("-", Box::new(Closed)).sink("kept", Box::new(kept.clone()));
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    assert!(summary.failure.is_none(), "{:?}", summary.failure);
    assert_eq!(summary.stats.packets, 20_000);
    assert_eq!(summary.stats.sinks[0].written, 0);
    assert_eq!(kept.lines.lock().unwrap().len() as u64, summary.stats.sinks[1].written);
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
}

#[test]
fn limits_stop_reading_and_write_what_is_open() {
    let source = Frames { frames: traffic(3, 5_000), next: 0, live: false };
    let meter = Meter::builder().packet_limit(Some(1_234)).build().unwrap();
    let summary = meter.run(Box::new(source), &Stop::new());
    assert_eq!(summary.stats.packets, 1_234);

    let stop = Stop::new();
    stop.request();
    let source = Frames { frames: traffic(3, 5_000), next: 0, live: false };
    let summary = Meter::builder().build().unwrap().run(Box::new(source), &stop);
    assert_eq!(summary.stats.packets, 0);
}

#[test]
fn settings_out_of_range_are_refused() {
    assert!(matches!(Meter::builder().shards(0).build(), Err(Error::Option(_))));
    let options = TableOptions { max_flows: 0, ..TableOptions::default() };
    assert!(matches!(Meter::builder().table(options).build(), Err(Error::Option(_))));
}

#[test]
fn stats_by_name() {
    let (_, summary) = replay(&traffic(1, 2_000), 2);
    let dropped: BTreeMap<&str, u64> = summary.stats.dropped.clone();
    assert!(dropped["arp"] > 0);
    assert_eq!(dropped.values().sum::<u64>() + summary.stats.flow_packets, 2_000);
}

/// Sockets of some of the hosts, and who owned them: the first twenty are this machine.
fn recorded_sockets(frames: &[(i64, Vec<u8>)]) -> Vec<SightedSocket> {
    let mut tuples = BTreeMap::new();
    for (time, frame) in frames.iter().filter(|(_, frame)| frame[13] == 0) {
        let endpoint = |at: usize, port: usize| Endpoint {
            addr: <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into(),
            port: Some(u16::from_be_bytes([frame[port], frame[port + 1]])),
        };
        let (src, dst) = (endpoint(26, 34), endpoint(30, 36));
        let (local, remote) = if frame[29] < 20 { (src, dst) } else { (dst, src) };
        tuples.entry((frame[23], local, remote)).or_insert(*time);
    }
    let sockets = tuples.into_iter().zip(1u32..).map(|(((proto, local, remote), time), number)| {
        let time = Timestamp::from_nanos(time);
        let process = Process {
            pid: number,
            name: format!("process {}", number % 7),
            exe: None,
            args: vec!["=1+1".into(), "two words".into()],
            started: Timestamp::EPOCH,
            ppid: 1,
            parent_name: Some("init".into()),
            credentials: Credentials::default(),
            user: Some("root".into()),
            container_id: None,
        };
        SightedSocket {
            netns: 0,
            proto: Proto(proto),
            local,
            remote: Some(remote),
            is: SightedAs::Exact,
            cookie: number.into(),
            asked: Some(time),
            answered: Some(time),
            valid_from: time,
            seen: time,
            valid_to: (number % 3 == 0).then(|| time.saturating_add_nanos(5_000_000_000)),
            owner: match number % 5 {
                0 => Some(Owner::NotPermitted),
                1 => Some(Owner::UidOnly { uid: 1000, container_id: None }),
                _ => Some(Owner::Process { process: Arc::new(process), shared: number % 4 + 1 }),
            },
        }
    });
    sockets.collect()
}

#[test]
fn recorded_sockets_name_the_same_owners_for_any_number_of_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let frames = traffic(4, 6_000);
    let mut lines = SightedLines::open(&path("s.jsonl"), Existing::Refuse).unwrap();
    recorded_sockets(&frames).iter().for_each(|socket| lines.write(socket).unwrap());
    lines.finish().unwrap();
    let replay = |shards: usize| {
        let index = SocketIndex::recorded(read_sighted(&path("s.jsonl")).unwrap());
        let columns = Column::parse_with_owners("@all").unwrap();
        let mut meter =
            Meter::builder().table(options()).shards(shards).attribution(Attribution::recorded(index));
        let outputs = ["jsonl", "csv"].map(|format| path(&format!("{shards}.{format}")));
        for output in &outputs {
            let sink = sink::open(output, Format::Jsonl, Some(&columns), &Existing::Refuse.into()).unwrap();
            meter = meter.sink(output, sink);
        }
        let source = Frames { frames: frames.clone(), next: 0, live: false };
        let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
        assert!(summary.failure.is_none() && summary.false_identities.is_empty());
        (outputs.map(|output| std::fs::read_to_string(output).unwrap()), summary.stats)
    };
    let ([jsonl, csv], stats) = replay(1);
    let attribution = stats.attribution.unwrap();
    for found in ["exact", "uid_only"] {
        assert!(attribution.found[found] > 100, "{attribution:?}");
    }
    for reason in ["eperm", "offline"] {
        assert!(attribution.unattributed[reason] > 10, "{attribution:?}");
    }
    let records = stats.records.values().sum::<u64>();
    let ends = attribution.found.values().chain(attribution.unattributed.values()).sum::<u64>();
    assert_eq!(ends, records, "each flow of this traffic has one end on this machine");
    assert!(jsonl.contains(r#""src_process":{"pid":"#) && jsonl.contains(r#""dst_process":{"pid":"#));
    assert!(jsonl.contains(r#""src_unattributed":"eperm""#));
    assert!(jsonl.contains(r#""args":["=1+1","two words"],"user":"root","uid":0,"start_time":"1970-01-01T"#));
    let header = csv.lines().next().unwrap();
    assert!(header.contains(",src_process_pid,src_process_name,") && header.contains(",dst_unattributed,"));
    let columns = header.split(',').count();
    let mut rows = csv::ReaderBuilder::new().from_reader(csv.as_bytes());
    assert!(rows.records().all(|row| row.unwrap().len() == columns));
    for shards in [2, 3, 8] {
        assert!(replay(shards).0 == [jsonl.clone(), csv.clone()], "{shards} shards differ from one");
    }
}

#[test]
fn slices_keep_the_owner_that_the_flow_had() {
    let frames: Vec<(i64, Vec<u8>)> = (0..60)
        .map(|second| {
            let mut frame = vec![0; 12];
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 30, 0x9C, 0x40, 1, 0xBB, 0, 0, 0, second, 0, 0, 0, 0]);
            frame.extend([0x50, if second == 0 { 0x02 } else { 0x10 }, 1, 0, 0, 0, 0, 0]);
            (1_700_000_000_000_000_000 + i64::from(second) * 1_000_000_000, frame)
        })
        .collect();
    let mut sockets = recorded_sockets(&frames);
    assert_eq!(sockets.len(), 1);
    // Known at the first packet only.
    sockets[0].owner = Some(Owner::UidOnly { uid: 7, container_id: None });
    sockets[0].valid_to = Some(sockets[0].valid_from);
    let kept = Kept::default();
    let meter = Meter::builder()
        .table(options())
        .attribution(Attribution::recorded(SocketIndex::recorded(sockets)))
        .sink("kept", Box::new(kept.clone()));
    let source = Frames { frames, next: 0, live: false };
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    let attribution = summary.stats.attribution.unwrap();
    let records = kept.lines.lock().unwrap().len() as u64;
    assert!(records > 3);
    assert_eq!((attribution.found["uid_only"], attribution.unattributed.len()), (records, 0));
}

/// Says that no more is wanted when it goes.
struct Wanted(std::sync::mpsc::Sender<()>);

impl Drop for Wanted {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn records_of_the_machine_are_written_beside_flows() {
    let route = |metric| {
        let route = Route {
            destination: [0, 0, 0, 0].into(),
            prefix_length: 0,
            gateway: None,
            interface: None,
            source: None,
            metric,
            table: 254,
            kind: RouteKind::Unicast,
            protocol: 2,
        };
        HostNews::Route(RouteRecord { timestamp: Timestamp::from_nanos(0), route })
    };
    // Two places where such records come from, each of which goes on until it is told to end, and then once more.
    let watch = |metric: u32| {
        let ((to_meter, news), (end, ended)) = (sync_channel(7), channel());
        std::thread::spawn(move || {
            for nth in 0..100 {
                to_meter.send(route(metric + nth)).unwrap();
            }
            to_meter.send(HostNews::Complete).unwrap();
            ended.recv().unwrap();
            to_meter.send(route(metric + 100)).unwrap();
        });
        Beside::new(news, Box::new(Wanted(end)))
    };
    let [of_flows, of_routes, own] = [(); 3].map(|()| Kept::default());
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("f.csv").to_str().unwrap().to_owned();
    let no_host_records = sink::open(&table, Format::Csv, None, &Existing::Overwrite.into()).unwrap();
    let only = |types: &str| Filter { types: types.parse().unwrap(), ..Filter::default() };
    let meter = Meter::builder()
        .table(options())
        .sink("flows", Filtered::wrap(Box::new(of_flows.clone()), only("flow")))
        .sink("routes", Filtered::wrap(Box::new(of_routes.clone()), only("route")))
        .sink("table", no_host_records)
        .beside(watch(1_000))
        .beside(watch(2_000).sink("own", Box::new(own.clone())));
    let source = Frames { frames: traffic(1, 2_000), next: 0, live: false };
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    assert!(summary.failure.is_none(), "{:?}", summary.failure);
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);

    let metrics = |kept: &Kept| -> Vec<u32> {
        let lines = kept.lines.lock().unwrap();
        let metric =
            |line: &String| line.split_once("metric: ").unwrap().1.split(',').next().unwrap().parse();
        lines.iter().map(|line| metric(line).unwrap()).collect()
    };
    assert_eq!(metrics(&of_routes), (1_000..=1_100).collect::<Vec<_>>());
    assert_eq!(metrics(&own), (2_000..=2_100).collect::<Vec<_>>());
    let flows = of_flows.lines.lock().unwrap().len() as u64;
    assert!(flows > 0 && of_flows.lines.lock().unwrap().iter().all(|line| line.starts_with("Flow(")));
    let counts: Vec<_> = summary.stats.sinks.iter().map(|sink| (sink.records, sink.host_records)).collect();
    assert_eq!(counts, [(flows + 101, 101), (flows + 101, 101), (flows, 0), (101, 101)]);
}
