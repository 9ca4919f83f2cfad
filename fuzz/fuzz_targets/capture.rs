//! Any bytes as a capture file: reading ends, no frame has bytes that were not read, and how the bytes come (at once or
//! a few at a time) makes no difference.
#![no_main]

use std::io::{self, Cursor, Read};
use std::time::Duration;

use flowcore::capture::{FileSource, Next, Source};
use flowcore::packet::LinkType;
use flowcore::time::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let frames = read(Cursor::new(data.to_vec()));
    assert_eq!(frames, read(Dribble(Cursor::new(data.to_vec()), 0)));
    // A compressed capture can hold far more than its own length.
    let is_packed = matches!(data, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, ..]);
    let bytes: usize = frames.iter().flatten().map(|frame| frame.data.len()).sum();
    assert!(is_packed || bytes <= data.len());
});

#[derive(PartialEq, Debug)]
struct Seen {
    data: Vec<u8>,
    time: Option<Timestamp>,
    wire_len: u32,
    link: LinkType,
    interface: Option<String>,
}

/// Reads all frames, or as many as are enough, and what is wrong at the end.
fn read(from: impl Read + Send + 'static) -> Vec<Result<Seen, String>> {
    let mut source = FileSource::from_reader("fuzz", from);
    let mut seen = Vec::new();
    while seen.len() < 500 {
        seen.push(match source.next(Duration::ZERO) {
            // A long way without a packet.
            Ok(Next::Idle) => continue,
            Ok(Next::Frame(frame)) => Ok(Seen {
                data: frame.data.to_vec(),
                time: frame.time,
                wire_len: frame.wire_len,
                link: frame.link,
                interface: frame.interface.map(|name| name.to_string()),
            }),
            Ok(Next::End) => return seen,
            Err(error) => Err(error.to_string()),
        });
    }
    seen
}

/// Gives 1, 2, … 13 bytes at a time.
struct Dribble(Cursor<Vec<u8>>, usize);

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 13 + 1;
        let most = self.1.min(into.len());
        self.0.read(&mut into[..most])
    }
}
