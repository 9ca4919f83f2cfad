//! Time that jumps in a capture, and clocks that are set while a link is quiet.

use super::*;

/// Time jumps back and forth, and in most of these times there is no flow.
#[test]
fn jumps_without_flows_change_nothing() {
    let mut frames: Vec<(i64, Vec<u8>)> = Vec::new();
    for (nth, (nanos, data)) in traffic(1, 2_000).into_iter().enumerate() {
        let arp = [&[0; 12][..], &[0x08, 0x06], &[0; 46]].concat();
        let away = (nth % 7) as i64 * 1_000_000_000_000;
        frames.extend((0..nth % 3).map(|step| (nanos + away - step as i64 * 900_000_000_000, arp.clone())));
        frames.push((nanos, data));
    }
    let (expected, summary) = replay(&frames, 1);
    assert!(summary.stats.time_jumps > 500, "{}", summary.stats.time_jumps);
    for shards in [2, 5] {
        assert!(replay(&frames, shards).0 == expected, "{shards} shards differ from one");
    }
}

/// One frame after the other of a link that is quiet in between, as long as it says, by a clock of its own.
struct Quiet {
    frames: Frames,
    is_quiet: Box<dyn FnMut(usize) -> bool + Send>,
}

impl Source for Quiet {
    fn next(&mut self, patience: Duration) -> Result<Next<'_>, Error> {
        if (self.is_quiet)(self.frames.next) {
            std::thread::sleep(patience);
            return Ok(Next::Idle);
        }
        self.frames.next(patience)
    }

    fn counts(&mut self) -> SourceCounts {
        SourceCounts::default()
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// Captures packets of one flow that come at these seconds; returns the records.
fn captured(
    seconds: &[i64],
    idle: Duration,
    mut is_quiet: impl FnMut(usize, &Kept) -> bool + Send + 'static,
) -> Vec<String> {
    let (kept, frame) = (Kept::default(), frame(&mut Random(1)));
    let frames = seconds.iter().map(|second| (second * 1_000_000_000, frame.clone())).collect();
    let seen = kept.clone();
    let source = Quiet {
        frames: Frames { frames, next: 0, live: true },
        is_quiet: Box::new(move |next| is_quiet(next, &seen)),
    };
    let table = TableOptions { idle: IdleTimeouts::all(idle), ..options() };
    let meter = Meter::builder().table(table).shards(1).sink("kept", Box::new(kept.clone()));
    let summary = meter.build().unwrap().run(Box::new(source), &Stop::new());
    assert!(summary.false_identities.is_empty(), "{:?}", summary.false_identities);
    assert_eq!(summary.stats.packets, seconds.len() as u64);
    std::mem::take(&mut *kept.lines.lock().unwrap())
}

#[test]
fn on_a_quiet_link_flows_are_due_whatever_the_clock_is_set_to() {
    // Set back, so that packets came in what is the future now; and by one of long ago.
    for second in [4_000_000_000, 1_000] {
        let start = Instant::now();
        let is_quiet = move |next, kept: &Kept| {
            assert!(start.elapsed() < Duration::from_secs(30), "never due");
            next == 1 && kept.lines.lock().unwrap().is_empty()
        };
        let records = captured(&[second, second + 1], Duration::from_millis(200), is_quiet);
        assert_eq!(records.len(), 2, "{records:?}");
        assert!(records[0].contains("end_reason: Idle"), "{records:?}");
    }
}

#[test]
fn a_flow_is_not_due_before_its_time_whatever_the_clock_is_set_to() {
    let mut idle = 0;
    let is_quiet = move |next, _: &Kept| {
        idle += usize::from(next == 1);
        next == 1 && idle < 8
    };
    let records = captured(&[1_000, 1_001], Duration::from_secs(300), is_quiet);
    assert_eq!(records.len(), 1, "{records:?}");
}
