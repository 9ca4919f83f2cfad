//! A spool that is shared by two processes, and killed. The children are this test again, with a role.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use flowcore::spool::{Backlog, Batch, Spool, SpoolOptions, SyncPolicy};

/// A thousand kills of both sides at any moment: what was flushed comes out, under its number and no other, in whole lines.
///
/// `SPOOL_KILLS` is another number of them.
#[test]
fn kills() {
    if let Ok(role) = env::var("SPOOL_ROLE") {
        return child(&role);
    }
    let kills: u64 = env::var("SPOOL_KILLS").map_or(200, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let mut receiver = Receiver::default();
    let mut flushed = Vec::new();
    for kill in 0..kills {
        let writer =
            start(folder.path(), &format!("write {} {}", spool.display(), kill * 1_000_000), |socket| {
                let mut last = 0;
                while let Some(id) = number(socket) {
                    last = id;
                }
                last
            });
        let reader = start(folder.path(), &format!("read {}", spool.display()), batches);
        // Whichever comes first; both at moments that no pattern has.
        let moments = [kill.wrapping_mul(0x9E37_79B9) % 15_000, kill.wrapping_mul(0x85EB_CA6B) % 15_000];
        thread::sleep(Duration::from_micros(moments[0]));
        let (upto, sent) = if kill % 2 == 0 {
            let upto = writer.kill();
            (upto, reader.kill_after(Duration::from_micros(moments[1])))
        } else {
            let sent = reader.kill();
            (writer.kill_after(Duration::from_micros(moments[1])), sent)
        };
        receiver.take(&sent);
        if upto > 0 {
            flushed.push(kill * 1_000_000..upto);
        }
    }
    let mut backlog = Backlog::open(&spool).unwrap();
    let mut rest = Vec::new();
    while let Some(batch) = backlog.next_batch(1_000, 1 << 20).unwrap() {
        backlog.done(&batch).unwrap();
        rest.push(batch);
    }
    receiver.take(&rest);
    let received = receiver.ids();
    let total: u64 = flushed.iter().map(|ids| ids.end - ids.start).sum();
    let lost = flushed.iter().cloned().flatten().filter(|id| !received.contains_key(id)).count();
    assert_eq!(lost, 0, "of {total} records that were flushed");
    assert!(flushed.len() as u64 > kills / 3, "{} of {kills} writers flushed", flushed.len());
    assert_eq!(receiver.missing(), [0u64; 0], "numbers without a record and without a gap");
    println!(
        "{kills} kills: {total} records flushed, {} received, {} of them again",
        received.len(),
        receiver.again
    );
}

/// A writer that runs away from its reader in another process: records and gaps are all numbers, each once.
#[test]
fn races() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let reader = start(folder.path(), &format!("lag {}", spool.display()), batches);
    let options = SpoolOptions { max_bytes: 256 << 10, sync: SyncPolicy::Off, live: true };
    let mut writer = Spool::open(&spool, options).unwrap();
    let start = Instant::now();
    let mut id = 0;
    while start.elapsed() < Duration::from_secs(2) {
        writer.append(&records(id..id + 100)).unwrap();
        writer.flush().unwrap();
        id += 100;
    }
    writer.finish().unwrap();
    // The reader comes to the end.
    let cursor = spool.join("cursor");
    let mut before = fs::read(&cursor).unwrap();
    loop {
        thread::sleep(Duration::from_millis(500));
        let after = fs::read(&cursor).unwrap();
        if after == before {
            break;
        }
        before = after;
    }
    let mut receiver = Receiver::default();
    receiver.take(&reader.kill());
    assert_eq!(receiver.again, 0);
    assert_eq!(receiver.missing(), [0u64; 0]);
    let gaps: u64 = receiver.gaps.iter().map(|gap| gap.end - gap.start).sum();
    assert_eq!(receiver.records.len() as u64 + gaps, id);
    assert!(gaps > 0, "the reader kept up");
    assert!(gaps <= writer.counts().full_records, "{gaps} of {:?}", writer.counts());
    println!("{id} records, {gaps} deleted unread");
}

/// An outage of an hour at 10,000 records a second, all of which comes out afterwards, in memory that does not grow.
///
/// Takes minutes, and many gigabytes of disk: `cargo test --release --test spool -- --ignored --nocapture`.
/// `SPOOL_RECORDS` and `SPOOL_MAX` (bytes) are other sizes.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn outage() {
    let number = |name: &str, default| env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let wanted = number("SPOOL_RECORDS", 36_000_000);
    let options = SpoolOptions { max_bytes: number("SPOOL_MAX", 40_000_000_000), ..SpoolOptions::default() };
    let folder = tempfile::tempdir_in(env::var("SPOOL_FOLDER").unwrap_or_else(|_| ".".into())).unwrap();
    let mut spool = Spool::open(folder.path(), options).unwrap();
    let mut lines = Vec::new();
    let (mut writing, mut bytes, before) = (Duration::ZERO, 0, memory());
    for first in (0..wanted).step_by(500) {
        lines.clear();
        for id in first..first + 500 {
            flow(&mut lines, id);
        }
        bytes += lines.len() as u64;
        let start = processor_time();
        spool.append(&lines).unwrap();
        spool.flush_older(Duration::from_millis(500)).unwrap();
        writing += processor_time() - start;
    }
    spool.finish().unwrap();
    let counts = spool.counts();
    println!(
        "{wanted} records of {} bytes written in {:.1} s of processor time: {:.0} records/s; {} bytes on disk; memory {before} kB before, {} kB after",
        bytes / wanted,
        writing.as_secs_f64(),
        wanted as f64 / writing.as_secs_f64(),
        counts.disk_bytes,
        memory(),
    );
    let start = processor_time();
    let mut backlog = Backlog::open(folder.path()).unwrap();
    let (mut next, mut read, mut missing) = (0, 0, 0);
    while let Some(batch) = backlog.next_batch(1_000, 1 << 20).unwrap() {
        assert_eq!(batch.first_seq, next);
        next = batch.last_seq + 1;
        read += batch.records;
        missing += next - batch.first_seq - batch.records;
        backlog.done(&batch).unwrap();
    }
    println!(
        "{read} read in {:.1} s, {missing} missing; memory {} kB",
        (processor_time() - start).as_secs_f64(),
        memory()
    );
    assert_eq!((next, read + missing, missing), (wanted, wanted, counts.full_records));
    assert!(memory() < before + 50_000);
}

/// Appends a flow record of about 700 bytes.
fn flow(lines: &mut Vec<u8>, id: u64) {
    let noise = (id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let [a, b, c, d, e, f, g, h] = noise.to_le_bytes();
    let (port, bytes, time) = (noise >> 48, noise >> 40 & 0xFFFFF, 1_700_000_000_000 + id / 10);
    writeln!(
        lines,
        "{{\"type\":\"flow\",\"id\":{id},\"flow_id\":\"{noise:016x}\",\"community_id\":\"1:{noise:x}{time:x}=\",\
         \"first\":\"2023-11-14T22:13:20.{noise:09}Z\",\"last\":\"2023-11-14T22:13:21.{time:09}Z\",\"duration\":{port}.{bytes:06},\
         \"proto\":\"tcp\",\"src\":\"10.{a}.{b}.{c}\",\"src_port\":{port},\"dst\":\"192.168.{d}.{e}\",\"dst_port\":443,\
         \"packets\":{a},\"src_packets\":{b},\"dst_packets\":{c},\"bytes\":{bytes},\"src_bytes\":{d},\"dst_bytes\":{bytes},\
         \"flags\":\"SA---F\",\"history\":\"ShADadFf\",\"tcp_state\":\"SF\",\"rtt_us\":{bytes},\"synack_us\":{port},\"ack_us\":{a},\
         \"iat_min_us\":{e}.{f:03},\"iat_mean_us\":{g}{h}.{a:03},\"iat_max_us\":{bytes}.{b:03},\"iat_std_us\":{port}.{c:03},\
         \"len_min\":40,\"len_mean\":{d}.{e:03},\"len_max\":1500,\"len_std\":{f}.{g:03},\"entropy\":7.{h:03},\
         \"app\":\"tls\",\"tls_sni\":\"host-{a}.example.org\",\"end_reason\":\"fin\",\"process\":{{\"pid\":{port},\"name\":\"curl\"}}}}"
    )
    .unwrap();
}

/// How long this thread has run, since other programs may have the processors.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The memory that this process has in use, in kB.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What came to a server.
#[derive(Default)]
struct Receiver {
    /// The id under each number.
    records: HashMap<u64, u64>,
    gaps: Vec<Range<u64>>,
    again: u64,
}

impl Receiver {
    fn take(&mut self, batches: &[Batch]) {
        for batch in batches {
            let text = std::str::from_utf8(&batch.lines).unwrap();
            assert!(text.ends_with('\n'));
            for line in text.lines() {
                assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
                if line.starts_with("{\"type\":\"gap\"") {
                    self.gaps.push(member(line, "first_seq")..member(line, "last_seq") + 1);
                    continue;
                }
                let (seq, id) = (member(line, "seq"), member(line, "id"));
                match self.records.insert(seq, id) {
                    None => {}
                    Some(before) => {
                        assert_eq!(before, id, "number {seq} was given twice");
                        self.again += 1;
                    }
                }
            }
        }
    }

    /// The number under which each id came.
    fn ids(&self) -> HashMap<u64, u64> {
        let ids: HashMap<u64, u64> = self.records.iter().map(|(seq, id)| (*id, *seq)).collect();
        assert_eq!(ids.len(), self.records.len(), "a record has two numbers");
        ids
    }

    /// The numbers up to the last one that nothing came for.
    fn missing(&self) -> Vec<u64> {
        let end = self.records.keys().copied().max().map_or(0, |last| last + 1);
        let is_gap = |seq: &u64| self.gaps.iter().any(|gap| gap.contains(seq));
        (0..end).filter(|seq| !self.records.contains_key(seq) && !is_gap(seq)).collect()
    }
}

/// A child, and what comes from it.
struct Started<T> {
    child: Child,
    heard: JoinHandle<T>,
}

impl<T> Started<T> {
    fn kill(mut self) -> T {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.heard.join().unwrap()
    }

    fn kill_after(self, time: Duration) -> T {
        thread::sleep(time);
        self.kill()
    }
}

/// Starts this test in a role, and waits until it is there.
fn start<T: Send + 'static>(
    folder: &Path,
    role: &str,
    hear: impl FnOnce(&mut BufReader<UnixStream>) -> T + Send + 'static,
) -> Started<T> {
    let socket = folder.join("socket");
    _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "kills", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::inherit());
    let child = command.env("SPOOL_ROLE", role).env("SPOOL_SOCKET", &socket).spawn().unwrap();
    let stream = listener.accept().unwrap().0;
    Started { child, heard: thread::spawn(move || hear(&mut BufReader::new(stream))) }
}

fn child(role: &str) {
    let mut socket = UnixStream::connect(env::var("SPOOL_SOCKET").unwrap()).unwrap();
    let words: Vec<&str> = role.split(' ').collect();
    match words[..] {
        ["write", folder, first] => write(Path::new(folder), first.parse().unwrap(), &mut socket),
        ["read", folder] => read(Path::new(folder), Duration::ZERO, &mut socket),
        ["lag", folder] => read(Path::new(folder), Duration::from_millis(3), &mut socket),
        _ => panic!("{role}"),
    }
    .unwrap();
}

/// Writes until it is killed; tells the id up to which all is flushed.
fn write(folder: &Path, first: u64, socket: &mut UnixStream) -> io::Result<()> {
    let sync = if first.is_multiple_of(3_000_000) {
        SyncPolicy::Always
    } else {
        SyncPolicy::Every(Duration::from_millis(1))
    };
    let mut spool = Spool::open(
        folder,
        SpoolOptions { sync, live: first.is_multiple_of(2_000_000), ..SpoolOptions::default() },
    )?;
    let mut id = first;
    loop {
        for _ in 0..id % 4 {
            spool.append(&records(id..id + 13))?;
            id += 13;
        }
        spool.append(&records(id..id + 1))?;
        id += 1;
        spool.flush()?;
        socket.write_all(&id.to_le_bytes())?;
        thread::sleep(Duration::from_micros(200));
    }
}

/// Sends batches until it is killed, each as late as is said.
fn read(folder: &Path, lag: Duration, socket: &mut UnixStream) -> io::Result<()> {
    let mut backlog = Backlog::open(folder)?;
    loop {
        while let Some(batch) = backlog.next_batch(100, 1 << 16)? {
            for number in
                [batch.first_seq, batch.last_seq, batch.records, batch.gaps, batch.lines.len() as u64]
            {
                socket.write_all(&number.to_le_bytes())?;
            }
            socket.write_all(&batch.lines)?;
            backlog.done(&batch)?;
            thread::sleep(lag);
        }
        thread::sleep(Duration::from_micros(300));
    }
}

/// Hears what [`read`] says, up to the last whole batch.
fn batches(socket: &mut BufReader<UnixStream>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut next = || {
        let mut batch = Batch::default();
        for place in [&mut batch.first_seq, &mut batch.last_seq, &mut batch.records, &mut batch.gaps] {
            *place = number(socket)?;
        }
        batch.lines = vec![0; number(socket)? as usize];
        socket.read_exact(&mut batch.lines).ok()?;
        Some(batch)
    };
    while let Some(batch) = next() {
        batches.push(batch);
    }
    batches
}

fn number(socket: &mut impl Read) -> Option<u64> {
    let mut bytes = [0; 8];
    socket.read_exact(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

fn records(ids: Range<u64>) -> Vec<u8> {
    ids.flat_map(|id| {
        format!(
            "{{\"type\":\"flow\",\"id\":{id},\"noise\":\"{:x}\"}}\n",
            (id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        )
        .into_bytes()
    })
    .collect()
}

/// The number of a member, by its name.
fn member(line: &str, name: &str) -> u64 {
    let behind = line.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    behind.split([',', '}']).next().unwrap().parse().unwrap()
}
