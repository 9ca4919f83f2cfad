//! Any bytes as a capture file: reading ends, and no frame is longer than what was read.
#![no_main]

use std::io::Cursor;
use std::time::Duration;

use flowcore::capture::{FileSource, Next, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut source = FileSource::from_reader("fuzz", Cursor::new(data.to_vec()));
    // A compressed capture can hold far more than its own length; the uncompressed ones cannot.
    for _ in 0..100_000 {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => assert!(frame.data.len() <= 64 << 20),
            Ok(Next::Idle) => panic!("a file never waits"),
            Ok(Next::End) => break,
            Err(_) => {}
        }
    }
});
