//! Reports of shards that do not keep up: what they counted is what they were sent.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::super::{Merged, WhenFull, start};
use super::datagram;
use crate::decode::{DecodeOptions, Decoder};
use crate::packet::{Frame, LinkType};
use crate::record::EndReason;
use crate::table::TableOptions;
use crate::time::Timestamp;

#[test]
fn a_report_counts_what_was_sent_before_it_and_nothing_else() {
    // Each packet ends the flow before it, so that shards wait for a writer that is slow.
    let options = TableOptions { max_flows: 2, ..TableOptions::default() };
    let (mut router, mut merge, threads) = start(2, &options, WhenFull::Drop).unwrap();
    let (tell, told) = channel();
    let writer = thread::spawn(move || {
        let (mut wait, mut complete, mut records) = (false, 0, 0u64);
        while let Some(next) = merge.next(wait) {
            wait = matches!(next, Merged::Pause);
            if let Merged::Report(reports) = &next {
                let counted: u64 = reports.iter().map(|report| report.counts.packets).sum();
                let mut asked = told.iter();
                let (_, sent) = asked.find(|(number, _)| *number == reports[0].number).unwrap();
                assert_eq!(counted, sent, "report {}", reports[0].number);
                complete += 1;
            }
            if matches!(next, Merged::Record(_)) {
                records += 1;
                // Now and then it stands still for longer than the reader waits.
                if records % 50_000 == 0 {
                    thread::sleep(Duration::from_millis(500));
                }
            }
        }
        complete
    });
    let mut decoder = Decoder::new(DecodeOptions::default());
    for nth in 0..200_000u64 {
        let data = datagram(nth as u16);
        let time = Some(Timestamp::from_nanos(nth as i64 * 1_000));
        let frame = Frame { data: &data, time, wire_len: 28, link: LinkType(101), interface: None };
        decoder.decode(&frame, |packet| router.send(&packet));
        if nth % 700 == 0 {
            tell.send((nth + 1, nth + 1 - router.dropped().packets)).unwrap();
            router.ask_for_report(nth + 1);
        }
    }
    let dropped = router.finish(EndReason::Shutdown).packets;
    tell.send((super::super::LAST_REPORT, 200_000 - dropped)).unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(writer.join().unwrap() > 1, "some reports are complete");
    assert!(dropped > 0, "the shards did not keep up");
}
