//! Capture files that were damaged: flowcap neither dies nor hangs nor swells, counts every packet before the damage,
//! and says where it is. Another reader (`walk.rs`) says what is right.
//!
//! None may take 10 s: of the processors, or without them.
//!
//! 300 mutants of the captures of testdata and the corpus; FLOWCAP_MUTANTS says how many, or which one: `=123`.

#[path = "../../../flowcore/tests/corpus_files/mod.rs"]
mod corpus_files;
mod mutant;
#[path = "../live/ticks.rs"]
mod ticks;
mod walk;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, ops::Range};

use corpus_files::Corpus;
use mutant::{Capture, Mutant};
use serde_json::Value;
use walk::Walk;

#[test]
fn mutants() {
    let captures = captures();
    let place = Place { folder: tempfile::tempdir().unwrap() };
    let (mut damaged, mut foretold, mut slowest) = (0, 0, Duration::ZERO);
    let wanted = wanted();
    let count = wanted.end - wanted.start;
    for seed in wanted {
        let mutant = Mutant::make(seed, &captures);
        foretold += u32::from(mutant.expected.is_some());
        let ran = place.run(&mutant);
        if let Err(wrong) = ran.judge(&mutant) {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutant-{seed}"));
            fs::write(&kept, &mutant.file).unwrap();
            panic!("{}: {wrong}\n{}\nkept: {}", mutant.story, ran.stderr, kept.display());
        }
        damaged += u32::from(ran.code == Some(DAMAGED));
        slowest = slowest.max(ran.took);
    }
    println!("{count} mutants, {damaged} damaged, {foretold} foretold; the slowest took {slowest:?}");
    assert!(count < 100 || u64::from(damaged) > count / 4 && u64::from(damaged) < count * 3 / 4);
}

#[test]
fn the_captures_are_read_as_they_are() {
    let place = Place { folder: tempfile::tempdir().unwrap() };
    for (seed, capture) in captures().into_iter().enumerate().filter(|(nth, _)| nth % 5 == 0) {
        let expected = Some((capture.walk.packets, capture.walk.damage));
        let story = capture.name;
        let unchanged = Mutant { seed: seed as u64, story, file: capture.file, expected, packed: None };
        let ran = place.run(&unchanged);
        ran.judge(&unchanged).unwrap_or_else(|wrong| panic!("{}: {wrong}\n{}", unchanged.story, ran.stderr));
    }
}

/// Returns the seeds of the mutants.
fn wanted() -> Range<u64> {
    let Ok(wish) = env::var("FLOWCAP_MUTANTS") else { return 0..300 };
    match wish.strip_prefix('=') {
        Some(one) => one.parse().map(|seed| seed..seed + 1),
        None => wish.parse().map(|count| 0..count),
    }
    .expect("FLOWCAP_MUTANTS: a number, or = and a number")
}

/// Returns the captures of testdata and the corpus that have packets.
fn captures() -> Vec<Capture> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(testdata).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.extend(Corpus::find().map(|corpus| corpus.paths()).unwrap_or_default());
    let captures = paths.iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Capture::new(name, fs::read(path).expect("a capture"))
    });
    captures.filter(|capture| capture.walk.packets > 0).collect()
}

/// Where flowcap runs.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Has flowcap replay a mutant, with bounds on its memory and its time.
    fn run(&self, mutant: &Mutant) -> Ran {
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("mutant"), &mutant.file).unwrap();
        // All that it may write to of its own memory, in KiB; seconds of processor time.
        let bounds = "ulimit -c 0; ulimit -d 524288; ulimit -t 10; exec \"$0\" \"$@\"";
        let shards = ["1", "2", "3"][mutant.seed as usize % 3];
        let mut command = Command::new("sh");
        command.args(["-c", bounds, env!("CARGO_BIN_EXE_flowcap"), "-q", "-r", "mutant", "--fields", "@all"]);
        command.args(["--splt", "4", "--force", "--stats", "stats.jsonl", "--shards", shards]);
        if mutant.seed.is_multiple_of(2) {
            command.arg("--checksums");
        }
        command.current_dir(&self.folder).env_remove("FLOWCAP_CONFIG").stdin(Stdio::null());
        command.stdout(File::create(path("out")).unwrap()).stderr(File::create(path("err")).unwrap());
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        let (mut worked, mut at) = (None, start);
        let status = loop {
            let now = ticks::ticks(child.id());
            if now != worked {
                (worked, at) = (now, Instant::now());
            }
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if start.elapsed() > PATIENCE || at.elapsed() > STANDSTILL => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break None;
                }
                None => sleep(Duration::from_millis(1)),
            }
        };
        let text = |name| String::from_utf8(fs::read(path(name)).unwrap()).unwrap();
        Ran {
            took: start.elapsed(),
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stdout: text("out"),
            stderr: text("err"),
            stats: text("stats.jsonl").lines().last().map(json).unwrap_or_default(),
        }
    }
}

/// What came of a mutant.
struct Ran {
    took: Duration,
    code: Option<i32>,
    signal: Option<i32>,
    stdout: String,
    stderr: String,
    stats: Value,
}

impl Ran {
    /// Compares what flowcap did with what it should; returns what is wrong.
    fn judge(&self, mutant: &Mutant) -> Result<(), String> {
        let Some(code) = self.code else {
            return Err(format!("it hung, or died of signal {:?}", self.signal));
        };
        let told = self.offset();
        right(
            "exit code and message",
            (code, self.stderr.lines().count()),
            match told {
                Some(_) => (DAMAGED, 1),
                None => (0, 0),
            },
        )?;
        let packets = number(&self.stats["packets"]);
        if let Some(walk) = Walk::through(&mutant.file) {
            if let Some(expected) = mutant.expected {
                right("the judge", (walk.packets, walk.damage), expected)?;
            }
            right("packets and damage", (packets, told), (walk.packets, walk.damage))?;
            right("bytes", number(&self.stats["bytes"]), walk.bytes)?;
        }
        if let Some(packed) = &mutant.packed {
            match told {
                Some(offset) if packed.is_cut => {
                    right("packets before the cut", packets, packed.content.packets_before(offset))?;
                }
                Some(_) => {}
                None if packed.is_cut => return Err("a cut was not seen".into()),
                None => right("packets", packets, packed.content.packets)?,
            }
        }
        self.judge_records(packets)
    }

    /// Every packet is in a record or counted under a reason, and no record is mad.
    fn judge_records(&self, packets: u64) -> Result<(), String> {
        let mut in_records = 0;
        for line in self.stdout.lines() {
            let record = json(line);
            in_records += number(&record["packets"]);
            let is_sane = record["duration"].as_f64().is_some_and(|duration| duration >= 0.0)
                && record["timestamp"].as_str() <= record["end"].as_str();
            right("a record's times are sane", (is_sane, line), (true, line))?;
        }
        let reasons = self.stats["dropped"].as_object().into_iter().flatten();
        let dropped: u64 = reasons.map(|(_, count)| number(count)).sum();
        right("packets in records and dropped", in_records + dropped, packets)
    }

    /// Returns where the damage is, as flowcap says.
    fn offset(&self) -> Option<usize> {
        let (_, behind) = self.stderr.split_once("mutant: damaged at byte ")?;
        behind.split_once(':')?.0.parse().ok()
    }
}

fn right<T: PartialEq + std::fmt::Debug>(what: &str, is: T, should_be: T) -> Result<(), String> {
    if is == should_be { Ok(()) } else { Err(format!("{what}: {is:?}, not {should_be:?}")) }
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

/// Returns a count; one that is absent is none.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// The exit code of a damaged input.
const DAMAGED: i32 = 65;
/// A machine that is busy may be slow; what computes is ended before.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who takes nothing of the processors for so long waits for something that does not come.
const STANDSTILL: Duration = Duration::from_secs(10);
