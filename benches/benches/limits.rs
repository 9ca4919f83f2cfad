//! Promises of the flow table that no mean tells: a packet costs about the same however many flows there are, no call
//! takes long however many flows are due at once, and what a flow takes.
//!
//! Prints tables, and says which targets are met. Packets are made a chunk at a time and only the table is timed, so
//! the memory in use is the table's. Times are of the processor: what else runs on the machine counts less.

mod replay;

use std::time::Duration;

use flowcap_benches::{Shape, Traffic};
use flowcore::decode::{DecodeOptions, Decoder};
use flowcore::record::{EndReason, FlowRecord};
use flowcore::table::{FlowTable, TableOptions};
use flowcore::time::{TableTime, Timestamp};

use rustix::time::{ClockId, clock_gettime};

use replay::{Packets, is_measuring, scale};

fn main() {
    linear();
    memory();
    pauses();
}

/// The cost of a packet with ever more flows, all of them alive at once.
fn linear() {
    println!("| live flows | insert ns | find ns | end ns | ns per packet |\n|---:|---:|---:|---:|---:|");
    let costs = [10_000, 100_000, 1_000_000, 4_000_000].map(|full| {
        let flows = (f64::from(full) * scale(1.0)) as u64;
        // Few flows are over too soon to be measured once.
        let runs = (1_000_000 / full).clamp(3, 25) as usize;
        let mut lives: Vec<Life> = (0..runs).map(|_| Life::of(Shape::Handshakes, flows)).collect();
        lives.sort_by_key(Life::all);
        let life = &lives[runs / 2];
        let per = |time: Duration, count: u64| time.as_nanos() as f64 / count as f64;
        let cost = per(life.all(), life.packets);
        let (insert, end) = (per(life.insert, flows), per(life.end, flows));
        println!("| {flows} | {insert:.0} | {:.0} | {end:.0} | {cost:.0} |", per(life.find, flows));
        cost
    });
    judge("ns per packet with 4 M flows, times those with 100 k", costs[3] / costs[1], 2.0);
}

/// What a flow takes by the table's own count.
fn memory() {
    println!("\n| 1 M flows | bytes per flow |\n|---|---:|");
    let found = [Shape::Syns, Shape::Handshakes, Shape::Exchanges, Shape::Lookups].map(|shape| {
        let flows = (1_000_000.0 * scale(1.0)) as u64;
        let bytes = Life::of(shape, flows).memory as f64 / flows as f64;
        println!("| {} | {bytes:.0} |", shape.name());
        bytes
    });
    judge("bytes per flow without payload", found[0].max(found[1]), 400.0);
    judge("bytes per flow with payload", found[2].max(found[3]), 740.0);
}

/// The longest call when all flows are due within a millisecond.
fn pauses() {
    println!("\n| 1 M flows | calls | longest ms | all ms |\n|---|---:|---:|---:|");
    let row = |name: &str, calls: &Calls| {
        println!("| {name} | {} | {:.1} | {:.1} |", calls.count, millis(calls.longest), millis(calls.all));
    };
    let (mut table, mut decoder, filling) = filled();
    row("begin", &filling);
    let by_packets = ended_by_packets(&mut table, &mut decoder);
    row("end while another goes on", &by_packets);
    let (mut table, ..) = filled();
    let by_time = ended_by_time(&mut table);
    row("end in silence", &by_time);
    judge("longest pause in ms", millis(by_packets.longest.max(by_time.longest)), 50.0);
}

/// What a table did with flows that were all alive at once.
#[derive(Default)]
struct Life {
    packets: u64,
    insert: Duration,
    find: Duration,
    end: Duration,
    memory: u64,
}

impl Life {
    fn of(shape: Shape, flows: u64) -> Life {
        let mut life = Life::default();
        let (mut tables, mut records) = (None, 0);
        let decoder = &mut Decoder::new(DecodeOptions::default());
        feed(decoder, shape, flows, None, |packets| {
            let table = tables.get_or_insert_with(|| empty(packets));
            let took = timed(|| packets.ingest(table, |_| records += 1));
            *(if life.packets < flows { &mut life.insert } else { &mut life.find }) += took;
            life.packets += packets.len() as u64;
        });
        let mut table = tables.expect("packets");
        assert_eq!((table.len() as u64, table.counts().opened, records), (flows, flows, 0), "{shape:?}");
        life.memory = table.memory();
        life.end = timed(|| table.drain(EndReason::Eof, |_: FlowRecord| records += 1));
        assert_eq!((records, table.counts().record_packets), (flows, life.packets), "{shape:?}");
        life
    }

    fn all(&self) -> Duration {
        self.insert + self.find + self.end
    }
}

/// Calls of a table, timed one by one.
#[derive(Default)]
struct Calls {
    count: u32,
    longest: Duration,
    all: Duration,
}

impl Calls {
    fn time(&mut self, call: impl FnOnce()) {
        let took = timed(call);
        self.count += 1;
        self.longest = self.longest.max(took);
        self.all += took;
        assert!(self.count < 10_000_000, "the flows never end");
    }
}

/// Fills a table with flows whose packets all came within one millisecond.
fn filled() -> (FlowTable, Decoder, Calls) {
    let (mut table, mut decoder, mut calls) =
        (None, Decoder::new(DecodeOptions::default()), Calls::default());
    let flows = (1_000_000.0 * scale(1.0)) as u64;
    feed(&mut decoder, Shape::Exchanges, flows, Some(BEGIN), |packets| {
        let table = table.get_or_insert_with(|| empty(packets));
        calls.time(|| packets.ingest(table, |_| panic!("a record too early")));
    });
    let table = table.expect("packets");
    assert_eq!(table.len() as u64, flows);
    (table, decoder, calls)
}

/// Ends all flows by the packets of one other, a millisecond apart.
fn ended_by_packets(table: &mut FlowTable, decoder: &mut Decoder) -> Calls {
    let (flows, mut records, mut calls) = (table.len(), 0, Calls::default());
    let mut packets = Packets::default();
    for now in (BEGIN + IDLE - STEP..).step_by(STEP as usize) {
        feed(decoder, Shape::Syns, 1, Some(now), |one| std::mem::swap(&mut packets, one));
        let packet = packets.iter().next().expect("one packet");
        calls.time(|| table.ingest(&packet, |_: FlowRecord| records += 1));
        if table.len() == 1 && records == flows {
            return calls;
        }
    }
    unreachable!("calls are counted")
}

/// Ends all flows by the time of day, which is told each millisecond.
fn ended_by_time(table: &mut FlowTable) -> Calls {
    let (flows, mut records, mut calls) = (table.len(), 0, Calls::default());
    let epoch = table.settled().epoch;
    for now in (BEGIN + IDLE - STEP..).step_by(STEP as usize) {
        let now = TableTime { epoch, time: Timestamp::from_nanos(now) };
        calls.time(|| _ = table.expire_some(now, 4096, |_: FlowRecord| records += 1));
        if table.is_empty() && records == flows {
            return calls;
        }
    }
    unreachable!("calls are counted")
}

/// Decodes the packets of a shape and hands them over in chunks, the first ones of all flows before any others; where a
/// time is given, in nanoseconds, it is that of all packets.
fn feed(
    decoder: &mut Decoder,
    shape: Shape,
    flows: u64,
    at: Option<i64>,
    mut chunk: impl FnMut(&mut Packets),
) {
    let mut traffic = Traffic::new(shape, flows as f64 / 1e6, 1);
    let (mut packets, mut made) = (Packets::default(), 0);
    while let Some(mut frame) = traffic.next() {
        frame.ts_ns = at.unwrap_or(frame.ts_ns);
        packets.read(decoder, frame);
        made += 1;
        if packets.len() == CHUNK || made == flows {
            chunk(&mut packets);
            packets.clear();
        }
    }
    if packets.len() > 0 {
        chunk(&mut packets);
    }
}

/// Makes a table that ends nothing for want of room.
fn empty(packets: &Packets) -> FlowTable {
    packets.table(TableOptions { max_flows: usize::MAX, max_memory: u64::MAX, ..TableOptions::default() })
}

/// Returns the time that this thread spends on a call.
fn timed(call: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a clock");
    let begin = now();
    call();
    now() - begin
}

fn judge(what: &str, found: f64, most: f64) {
    let verdict = match () {
        () if !is_measuring() => "not judged",
        () if found <= most => "met",
        () => "MISSED",
    };
    println!("{what}: {found:.1}, target at most {most}: {verdict}");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// As many as a shard takes at a time.
const CHUNK: usize = 1024;
/// 14 November 2023, 22:13:20 UTC.
const BEGIN: i64 = 1_700_000_000_000_000_000;
/// How long a UDP flow may be silent.
const IDLE: i64 = 60_000_000_000;
const STEP: i64 = 1_000_000;
