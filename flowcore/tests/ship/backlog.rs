//! A backlog in memory, and a shipper that runs beside a test.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flowcore::Stop;
use flowcore::ship::{
    self, Backlog, Batch, BatchLimits, Destination, Level, ShipCounters, ShipCounts, ShipOptions, Shipper,
};

use crate::server::{Request, Server};

/// Lines that wait, with their numbers.
pub type Waiting = Arc<Mutex<BTreeMap<u64, Vec<u8>>>>;

/// A backlog of lines in memory.
#[derive(Clone, Default)]
pub struct Memory(pub Waiting, pub u64);

impl Memory {
    /// Puts records into it, numbered from `first`.
    pub fn add(&self, first: u64, count: u64) {
        let mut waiting = self.0.lock().unwrap();
        for seq in first..first + count {
            waiting.insert(seq, line(seq, 120));
        }
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Backlog for Memory {
    fn next_batch(&mut self, records: u64, bytes: usize) -> io::Result<Option<Batch>> {
        let waiting = self.0.lock().unwrap();
        let mut batch = Batch { first_seq: self.1, ..Batch::default() };
        for (&seq, line) in waiting.range(self.1..).take(records as usize) {
            if batch.records > 0 && batch.lines.len() + line.len() > bytes {
                break;
            }
            batch.last_seq = seq;
            batch.records += 1;
            batch.lines.extend_from_slice(line);
            self.1 = seq + 1;
        }
        Ok((batch.records > 0).then_some(batch))
    }

    fn done(&mut self, batch: &Batch) -> io::Result<()> {
        self.0.lock().unwrap().retain(|seq, _| *seq > batch.last_seq);
        Ok(())
    }
}

/// A line as a spool makes them, with so many bytes of ballast, some of them not ASCII.
pub fn line(seq: u64, ballast: usize) -> Vec<u8> {
    let note = "naïve \\\"quoted\\\" ✓ ".repeat(ballast / 22 + 1);
    format!(
        "{{\"type\":\"flow\",\"timestamp\":\"2026-11-21T14:40:36.972847123Z\",\"bytes\":{},\"note\":\"{note}\",\
         \"instance\":\"5eed\",\"seq\":{seq}}}\n",
        seq * 7
    )
    .into_bytes()
}

/// A shipper at work.
pub struct Running {
    pub memory: Memory,
    pub counters: Arc<ShipCounters>,
    pub stop: Stop,
    pub log: Arc<Mutex<Vec<(Level, String)>>>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts one that sends what waits in `memory`.
    pub fn start(destination: &str, options: &ShipOptions, memory: &Memory) -> Running {
        let stop = Stop::new();
        let sender = ship::open(&Destination::parse(destination).unwrap(), options, &stop).unwrap();
        let log: Arc<Mutex<Vec<(Level, String)>>> = Arc::default();
        let said = Arc::clone(&log);
        let shipper = Shipper::new(memory.clone(), sender, options.clone())
            .log(move |level, text| said.lock().unwrap().push((level, text.to_owned())));
        let counters = shipper.counters();
        let asked = stop.clone();
        let thread = thread::spawn(move || shipper.run(&asked).unwrap());
        Running { memory: memory.clone(), counters, stop, log, thread }
    }

    /// Waits until something is true, a minute at most.
    pub fn until(&self, what: &str, is_true: impl Fn(&ShipCounts) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_true(&self.counters.read()) {
            assert!(
                Instant::now() < end,
                "{what}: {:?} {:?}",
                self.counters.read(),
                self.log.lock().unwrap()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until nothing is left to be sent, stops and returns the counts.
    pub fn finish(self) -> ShipCounts {
        let memory = self.memory.clone();
        self.until("all sent", |_| memory.len() == 0);
        self.stop()
    }

    /// Waits until so many records were sent, stops and returns the counts; without acknowledgements they are done only
    /// then, or much later.
    pub fn sent(self, records: u64) -> ShipCounts {
        self.until("all sent", |counts| counts.records == records);
        self.stop()
    }

    /// Stops, which takes less than a second unless there is something to be sent, and returns the counts.
    pub fn stop(self) -> ShipCounts {
        self.stop.request();
        self.thread.join().unwrap();
        self.counters.read()
    }

    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().iter().map(|(level, text)| format!("{level:?} {text}\n")).collect()
    }
}

/// Options with short times.
pub fn quick() -> ShipOptions {
    ShipOptions {
        batch: BatchLimits { records: 10, bytes: 1 << 20, time: Duration::from_millis(50) },
        connect_timeout: Duration::from_secs(2),
        silence_timeout: Duration::from_millis(400),
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(80),
        ..ShipOptions::default()
    }
}

impl Server {
    /// Returns how often each number arrived in a whole request, whatever was said to it.
    pub fn seqs(&self) -> BTreeMap<u64, usize> {
        count(&self.requests())
    }

    /// Returns how often each number arrived in requests that were answered with 200.
    pub fn accepted(&self) -> BTreeMap<u64, usize> {
        let taken: Vec<Request> =
            self.requests().into_iter().filter(|request| request.status == 200).collect();
        count(&taken)
    }
}

/// Counts the numbers of records, and sees to it that each line is whole.
fn count(requests: &[Request]) -> BTreeMap<u64, usize> {
    let mut seqs = BTreeMap::new();
    for line in requests.iter().flat_map(|request| &request.lines) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        if value["type"] == "flow" {
            let seq = value["seq"].as_u64().unwrap();
            assert_eq!(value["bytes"], seq * 7, "{line}");
            assert_eq!(value["instance"], "5eed");
            *seqs.entry(seq).or_default() += 1;
        }
    }
    seqs
}
