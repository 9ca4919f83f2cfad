//! A server that is away for long: what was made meanwhile waits on disk and arrives when it is back.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::processes::Sizes;
use crate::server::Server;
use crate::stand::{Running, Stand, records};

/// FLOWCAP_OUTAGE records (200,000 by default) while no server answers: nothing is lost.
#[test]
fn an_outage_costs_nothing() {
    let seen = outage("40GB", of_environment("FLOWCAP_OUTAGE", 200_000));
    assert_eq!((seen.lost, seen.told.len(), seen.missing()), (0, 0, 0));
}

/// FLOWCAP_OUTAGE_LIMITED records (200,000 by default), which take more than the spool has (FLOWCAP_OUTAGE_LIMIT, 2 MB): the
/// oldest are lost, counted, and gap records say exactly which.
#[test]
fn an_outage_beyond_the_limit_costs_the_oldest() {
    let limit = std::env::var("FLOWCAP_OUTAGE_LIMIT").unwrap_or_else(|_| "2MB".to_owned());
    let seen = outage(&limit, of_environment("FLOWCAP_OUTAGE_LIMITED", 200_000));
    assert!(seen.lost > 0, "all of it fits");
    assert!(seen.told.iter().all(|(_, _, reason)| reason == "spool_full"), "{:?}", seen.told);
    let told = runs(seen.told.iter().flat_map(|(first, last, _)| *first..=*last));
    let numbers = (0..).zip(&seen.times);
    let absent = runs(numbers.filter(|(_, times)| **times == 0).map(|(seq, _)| seq));
    assert_eq!(told, absent, "gap records say what did not arrive");
    // The oldest went: what came when there was room again is there, and so is what who sends had in hand when its place was
    // needed, a few segments of sixteen at most. It counts as lost all the same.
    let (missing, all) = (seen.missing(), seen.times.len() as u64);
    assert!(told.iter().all(|(_, last)| *last < seen.lost), "{told:?} {}", seen.lost);
    assert!((missing..missing + (all - missing) / 4).contains(&seen.lost), "{missing} {}", seen.lost);
}

/// What a server has after an outage.
struct Seen {
    /// How often each number arrived.
    times: Vec<u8>,
    /// The flow that came under each number.
    flows: Vec<u64>,
    /// First and last numbers of gap records, and their reasons.
    told: Vec<(u64, u64, String)>,
    /// What flowcap counted as lost.
    lost: u64,
}

impl Seen {
    fn missing(&self) -> u64 {
        self.times.iter().filter(|times| **times == 0).count() as u64
    }

    fn take(&mut self, server: &Server) {
        let taken = server.take_requests().into_iter().filter(|request| request.status == 200);
        for line in taken.flat_map(|request| request.lines) {
            let record: Value = serde_json::from_str(&line).expect("a whole line");
            let number = |name: &str| record[name].as_u64().expect("a number");
            if record["type"] == "gap" {
                let reason = record["reason"].as_str().expect("a reason").to_owned();
                self.told.push((number("first_seq"), number("last_seq"), reason));
                continue;
            }
            // The flow says which one it is.
            let [.., high, middle, low] = octets(record["dst_ip"].as_str().expect("an address"));
            let flow = (number("src_port") << 24) | (high << 16) | (middle << 8) | low;
            let seq = number("seq") as usize;
            assert!(
                self.times[seq] == 0 || self.flows[seq] == flow,
                "a number stands for one record: {line}"
            );
            (self.times[seq], self.flows[seq]) = (self.times[seq].saturating_add(1), flow);
        }
    }
}

fn outage(spool_max: &str, flows: u64) -> Seen {
    let stand = Stand::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = format!(
        "[[output]]\nto = 'http://{address}/'\nspool = 'spool'\nspool_max = '{spool_max}'\nbatch = '1000,100ms'\n"
    );
    fs::write(stand.path("f.toml"), config).unwrap();
    let line = "-C f.toml -r - --idle-timeout 1s --stats s.jsonl -q --no-process";
    let mut child = stand.command(line).stdin(Stdio::piped()).spawn().expect("flowcap runs");
    let mut pipe = BufWriter::with_capacity(1 << 20, child.stdin.take().expect("a pipe"));
    let mut flowcap = Running { child };
    let (start, mut sizes, process) = (Instant::now(), Vec::new(), flowcap.child.id());
    write_head(&mut pipe);
    for nth in 0..flows {
        write_packet(&mut pipe, nth);
        if nth % (flows / 60).max(1) == 0 {
            sizes.push(Sizes::of(process));
        }
    }
    // What is still in the table is made at the end.
    pipe.flush().expect("it is read");
    let disk: u64 =
        fs::read_dir(stand.path("spool")).unwrap().flatten().map(|file| file.metadata().unwrap().len()).sum();
    println!("{flows} flows in {:.1?}, {} MB on disk", start.elapsed(), disk / 1_000_000);
    Sizes::stay(&sizes);

    let start = Instant::now();
    let server = Server::on(TcpListener::bind(address).unwrap(), None, []);
    let mut seen =
        Seen { times: vec![0; flows as usize], flows: vec![0; flows as usize], told: Vec::new(), lost: 0 };
    let (mut sizes, mut looked) = (Vec::new(), start);
    let mut pipe = Some(pipe);
    let mut ended = false;
    while !ended {
        std::thread::sleep(Duration::from_millis(5));
        seen.take(&server);
        if looked.elapsed() > Duration::from_millis(500) {
            looked = Instant::now();
            sizes.push(Sizes::of(process));
            // Once it takes records, the replay may end.
            if !seen.times.iter().all(|times| *times == 0) {
                pipe = None;
            }
        }
        ended = flowcap.child.try_wait().expect("it can be asked").is_some();
    }
    drop(pipe);
    let ran = flowcap.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    seen.take(&server);
    let arrived = seen.times.iter().filter(|times| **times > 0).count();
    let repeats: u64 = seen.times.iter().map(|times| u64::from(times.saturating_sub(1))).sum();
    println!("{arrived} arrived in {:.1?}, {repeats} repeats, gaps: {:?}", start.elapsed(), seen.told);
    if sizes.len() > 30 {
        Sizes::stay(&sizes);
    }
    let stats = records(&fs::read_to_string(stand.path("s.jsonl")).unwrap());
    let sink = &stats.last().unwrap()["sinks"][0];
    assert_eq!((sink["records"].as_u64(), sink["spooled"].as_u64()), (Some(flows), Some(flows)), "{sink}");
    let came = |(times, flow): (&u8, &u64)| (*times > 0).then_some(*flow);
    let mut which: Vec<u64> = seen.times.iter().zip(&seen.flows).filter_map(came).collect();
    which.sort_unstable();
    which.dedup();
    assert_eq!(which.len(), arrived, "no flow has two numbers");
    seen.lost = sink["spool_lost"].as_u64().unwrap_or(0);
    seen
}

/// Returns the first and the last of each run of numbers that follow each other.
fn runs(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

fn of_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|count| count.parse().ok()).unwrap_or(otherwise)
}

fn octets(address: &str) -> [u64; 4] {
    let octets: Vec<u64> = address.split('.').map(|octet| octet.parse().expect("a number")).collect();
    octets.try_into().expect("four of them")
}

/// The head of a capture file with nanoseconds, of Ethernet.
fn write_head(to: &mut impl Write) {
    for word in [0xa1b2_3c4du32, 0x0004_0002, 0, 0, 262_144, 1] {
        to.write_all(&word.to_le_bytes()).expect("it is read");
    }
}

/// A packet of a flow of its own: the number is in the port of the source and the address of the destination; 10,000 come
/// in a second.
fn write_packet(to: &mut impl Write, nth: u64) {
    let mut packet = [0; 62];
    let words = [1_700_000_000 + nth / 10_000, nth % 10_000 * 100_000, 46, 46];
    for (place, word) in packet.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&(word as u32).to_le_bytes());
    }
    packet[16..30].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    packet[30..46].copy_from_slice(&[0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1]);
    packet[46..50].copy_from_slice(&(0x7F00_0000 | (nth & 0xFF_FFFF) as u32).to_be_bytes());
    packet[50..52].copy_from_slice(&((nth >> 24) as u16).to_be_bytes());
    packet[52..58].copy_from_slice(&[0, 9, 0, 12, 0, 0]);
    packet[58..].copy_from_slice(b"abcd");
    to.write_all(&packet).expect("it is read");
}
