//! A spool against a list: whatever happens in whichever order, what comes out is what went in, or a gap.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        lines: u64,
        padding: usize,
    },
    Flush,
    Skip(u64),
    Read {
        records: u64,
        bytes: usize,
    },
    Done,
    ReopenReader,
    Finish,
    Kill,
    /// The machine stops, and of the newest segment this share is there afterwards.
    PowerLoss(f64),
    /// A bit of a segment is turned: which segment, and where in it.
    Flip(f64, f64),
    LoseCursor,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..40_u64, 0..400_usize).prop_map(|(lines, padding)| Step::Append { lines, padding }),
        8 => Just(Step::Flush),
        1 => (1..1_000_u64).prop_map(Step::Skip),
        8 => (1..200_u64, 1..50_000_usize).prop_map(|(records, bytes)| Step::Read { records, bytes }),
        6 => Just(Step::Done),
        2 => Just(Step::ReopenReader),
        1 => Just(Step::Finish),
        3 => Just(Step::Kill),
        1 => (0.0..1.0).prop_map(Step::PowerLoss),
        1 => (0.0..1.0, 0.0..1.0).prop_map(|(which, at)| Step::Flip(which, at)),
        1 => Just(Step::LoseCursor),
    ]
}

struct World {
    folder: tempfile::TempDir,
    options: SpoolOptions,
    boot: u128,
    spool: Option<Spool>,
    backlog: Option<Backlog>,
    /// The batches that were returned and are not done.
    sent: Vec<Batch>,
    next_id: u64,
    /// The id of each number, as it was given last.
    given: BTreeMap<u64, u64>,
    /// Numbers of records that must come out, unless they are deleted for room.
    safe: BTreeSet<u64>,
    /// What came out under each number.
    seen: BTreeMap<u64, u64>,
    /// The number that has to come next, where that is known.
    expected: Option<u64>,
    /// The first number that is not done; none since the cursor was lost.
    done: Option<u64>,
}

impl World {
    fn new(options: SpoolOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open_in(folder.path(), options, 1).unwrap();
        let backlog = Backlog::open(folder.path()).unwrap();
        World {
            folder,
            options,
            boot: 1,
            spool: Some(spool),
            backlog: Some(backlog),
            sent: Vec::new(),
            next_id: 0,
            given: BTreeMap::new(),
            safe: BTreeSet::new(),
            seen: BTreeMap::new(),
            expected: Some(0),
            done: Some(0),
        }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn backlog(&mut self) -> &mut Backlog {
        self.backlog.as_mut().unwrap()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { lines, padding } => {
                let first = self.spool().counts().next_seq;
                let ids = self.next_id..self.next_id + lines;
                self.spool().append(&records(ids.clone(), padding)).unwrap();
                self.given.extend((first..).zip(ids));
                self.next_id += lines;
            }
            Step::Flush => self.flush(),
            Step::Skip(records) => {
                self.flush();
                self.spool().skip(GapReason::DiskFull, records).unwrap();
            }
            Step::Read { records, bytes } => self.read(records, bytes),
            Step::Done => {
                if !self.sent.is_empty() {
                    let batch = self.sent.remove(0);
                    self.backlog().done(&batch).unwrap();
                    self.done = Some(batch.last_seq + 1);
                }
            }
            Step::ReopenReader => {
                self.backlog = None;
                self.backlog = Some(Backlog::open(self.folder.path()).unwrap());
                self.sent.clear();
                self.expected = self.done;
            }
            Step::Finish => {
                self.flush();
                self.spool().finish().unwrap();
                self.boot += 1;
                self.reopen();
            }
            Step::Kill => self.reopen(),
            Step::PowerLoss(share) => {
                // No reader outlives it either.
                (self.spool, self.backlog) = (None, None);
                if let Some(last) = segment::list(self.folder.path()).unwrap().last() {
                    let path = segment::path(self.folder.path(), last.first_seq);
                    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                    file.set_len((last.bytes as f64 * share) as u64).unwrap();
                    self.safe.retain(|&seq| seq < last.first_seq);
                }
                self.boot += 1;
                self.reopen();
                self.take(Step::ReopenReader);
            }
            Step::Flip(which, at) => {
                let segments = segment::list(self.folder.path()).unwrap();
                let index = (segments.len() as f64 * which) as usize;
                let Some(hit) = segments.get(index).filter(|segment| segment.bytes > 0) else { return };
                let path = segment::path(self.folder.path(), hit.first_seq);
                let mut bytes = fs::read(&path).unwrap();
                let bit = (bytes.len() as f64 * 8.0 * at) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                // In place, since the writer may have the file open.
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
                let end = segments.get(index + 1).map_or(u64::MAX, |next| next.first_seq);
                self.safe.retain(|&seq| seq < hit.first_seq || seq >= end);
            }
            Step::LoseCursor => {
                self.backlog = None;
                fs::write(self.folder.path().join("cursor"), b"lost").unwrap();
                self.backlog = Some(Backlog::open(self.folder.path()).unwrap());
                self.sent.clear();
                (self.expected, self.done) = (None, None);
            }
        }
    }

    fn flush(&mut self) {
        let waiting = self.spool().counts().waiting;
        self.spool().flush().unwrap();
        let next = self.spool().counts().next_seq;
        self.safe.extend(self.given.range(next - waiting..next).map(|(seq, _)| *seq));
    }

    fn reopen(&mut self) {
        self.spool = None;
        self.spool = Some(Spool::open_in(self.folder.path(), self.options, self.boot).unwrap());
    }

    fn read(&mut self, limit_records: u64, limit_bytes: usize) {
        let Some(batch) = self.backlog().next_batch(limit_records, limit_bytes).unwrap() else { return };
        if let Some(expected) = self.expected {
            assert_eq!(batch.first_seq, expected);
        }
        let mut instances = BTreeMap::new();
        for out in lines(&batch, &mut instances) {
            match out {
                Out::Record { seq, id } => {
                    assert_eq!(self.given.get(&seq), Some(&id), "number {seq}");
                    assert_eq!(*self.seen.entry(seq).or_insert(id), id, "number {seq} came for two records");
                }
                Out::Gap { reason, first_seq, last_seq } => {
                    let deleted = slots::Slots::peek(&self.folder.path().join("mark"));
                    let deleted = deleted.map_or(0, |numbers| store::Mark::of_numbers(numbers).deleted);
                    if reason == "spool_full" {
                        assert!(last_seq < deleted);
                    } else {
                        let lost: Vec<_> = self.safe.range(first_seq..=last_seq).collect();
                        assert!(lost.is_empty(), "{reason} {first_seq} to {last_seq}: {lost:?}");
                    }
                }
            }
        }
        assert_eq!(instances.keys().collect::<Vec<_>>(), [&format!("{:016x}", self.spool().instance())]);
        self.expected = Some(batch.last_seq + 1);
        self.sent.push(batch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn like_a_list(small in any::<bool>(), live in any::<bool>(), steps in proptest::collection::vec(step(), 1..80)) {
        let sync = SyncPolicy::Every(Duration::from_millis(1));
        let max_bytes = if small { 64 << 10 } else { 64 << 20 };
        let mut world = World::new(SpoolOptions { max_bytes, sync, live });
        for step in steps {
            world.take(step);
        }
        // In the end all that was written is read: numbers without a break, up to the last one.
        world.take(Step::Append { lines: 1, padding: 0 });
        world.flush();
        let end = world.spool().counts().next_seq;
        while world.expected.is_none_or(|expected| expected < end) {
            let before = world.expected;
            world.read(50, 1_000_000);
            prop_assert_ne!(world.expected, before, "nothing comes any more, and {} was written", end);
        }
        prop_assert_eq!(world.expected, Some(end));
    }
}
