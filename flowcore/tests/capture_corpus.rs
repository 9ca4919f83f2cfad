//! Reads every capture of the corpus and compares each packet with what an independent reader found.

mod corpus_files;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use corpus_files::Corpus;
use flowcore::capture::{FileSource, Next, Source};
use flowcore::error::Error;
use flowcore::packet::LinkType;
use flowcore::time::Timestamp;
use serde_json::Value;

#[test]
fn every_packet_of_every_capture() {
    let Some(corpus) = Corpus::find() else { return };
    let mut packets = 0;
    for path in corpus.paths() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected =
            json(&fs::read_to_string(corpus.folder().join(format!("expected/{name}.json"))).unwrap());
        let (frames, error) = read(FileSource::open(&[&path]).unwrap());
        compare_totals(name, &frames, &expected);
        match (&error, expected.get("read_error")) {
            (None, None) => {}
            (Some(Error::Damaged { name: named, .. }), Some(_)) => assert_eq!(Path::new(named), path),
            (error, wanted) => panic!("{name}: {error:?}, but expected {wanted:?}"),
        }
        if let Ok(lines) = fs::read_to_string(corpus.folder().join(format!("packets/{name}.jsonl"))) {
            assert_eq!(lines.lines().count(), frames.len(), "{name}");
            for (frame, line) in frames.iter().zip(lines.lines()) {
                compare(name, frame, &json(line), &expected);
            }
        }
        packets += frames.len();
    }
    assert!(packets > 7000, "only {packets} packets");
}

#[test]
fn packed_and_slow_inputs_give_the_same() {
    let Some(corpus) = Corpus::find() else { return };
    for path in corpus.paths() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(&path).unwrap();
        let (frames, error) = read(FileSource::open(&[&path]).unwrap());
        let ways: [(&str, Box<dyn Read + Send>); 5] = [
            ("slow", Box::new(Slow::new(bytes.clone()))),
            ("gzip", Box::new(io::Cursor::new(gzip(&bytes)))),
            ("zstd", Box::new(io::Cursor::new(zstd(&bytes)))),
            ("slow gzip", Box::new(Slow::new(gzip(&bytes)))),
            ("slow zstd", Box::new(Slow::new(zstd(&bytes)))),
        ];
        for (way, reader) in ways {
            let (same, same_error) = read(FileSource::from_reader(name, reader));
            assert!(frames == same, "{name} by {way}: other frames");
            match (&error, &same_error) {
                (None, None) => {}
                (Some(Error::Damaged { offset: a, .. }), Some(Error::Damaged { offset: b, .. })) => {
                    assert_eq!(a, b, "{name} by {way}");
                }
                _ => panic!("{name} by {way}: {error:?} and {same_error:?}"),
            }
        }
    }
}

#[test]
fn all_captures_in_one_go() {
    let Some(corpus) = Corpus::find() else { return };
    let paths = corpus.paths();
    let (mut frames, mut damaged) = (0, 0);
    for path in &paths {
        let (of_one, error) = read(FileSource::open(&[path]).unwrap());
        frames += of_one.len();
        damaged += usize::from(error.is_some());
    }
    let mut source = FileSource::open(&paths).unwrap();
    let total = source.total_bytes().unwrap();
    let (mut frames_together, mut damaged_together) = (0, 0);
    loop {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(_)) => frames_together += 1,
            Ok(Next::End) => break,
            Ok(Next::Idle) => panic!("files do not wait"),
            Err(Error::Damaged { .. }) => damaged_together += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((frames, damaged), (frames_together, damaged_together));
    // Of a damaged input only the bytes up to the damage need to have been read.
    let read = source.counts().file_bytes;
    assert!(read <= total && read >= total - 1000, "{read} of {total} bytes");
}

#[derive(PartialEq, Debug)]
struct Captured {
    time: Option<Timestamp>,
    data: Vec<u8>,
    wire_len: u32,
    link: LinkType,
    interface: Option<String>,
}

/// Reads a source to its end or to its first error.
fn read(mut source: FileSource) -> (Vec<Captured>, Option<Error>) {
    let mut frames = Vec::new();
    loop {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => frames.push(Captured {
                time: frame.time,
                data: frame.data.to_vec(),
                wire_len: frame.wire_len,
                link: frame.link,
                interface: frame.interface.map(|name| name.to_string()),
            }),
            Ok(Next::End) => return (frames, None),
            Ok(Next::Idle) => panic!("files do not wait"),
            Err(error) => {
                assert!(matches!(source.next(Duration::ZERO), Ok(Next::End)), "an input after the last");
                return (frames, Some(error));
            }
        }
    }
}

fn compare_totals(name: &str, frames: &[Captured], expected: &Value) {
    let captured: usize = frames.iter().map(|frame| frame.data.len()).sum();
    let wire: u64 = frames.iter().map(|frame| u64::from(frame.wire_len)).sum();
    assert_eq!(expected["packets"], frames.len(), "{name}: packets");
    assert_eq!(expected["captured_bytes"], captured, "{name}: captured bytes");
    assert_eq!(expected["wire_bytes"], wire, "{name}: wire bytes");
}

fn compare(name: &str, frame: &Captured, line: &Value, expected: &Value) {
    let at = format!("{name}, packet {}", line["n"]);
    assert_eq!(line["ts"].as_i64(), frame.time.map(Timestamp::as_nanos), "{at}: time");
    assert_eq!(line["cap"], frame.data.len(), "{at}: captured length");
    assert_eq!(line["wire"], frame.wire_len, "{at}: wire length");
    let interface = line.get("if").map_or(0, |index| index.as_u64().unwrap() as usize);
    assert_eq!(expected["interfaces"][interface]["linktype"], frame.link.0, "{at}: link type");
}

/// Gives 1 to 7 bytes at a time, like a slow pipe.
struct Slow {
    bytes: io::Cursor<Vec<u8>>,
    step: usize,
}

impl Slow {
    fn new(bytes: Vec<u8>) -> Self {
        Slow { bytes: io::Cursor::new(bytes), step: 0 }
    }
}

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.step = self.step % 7 + 1;
        let most = self.step.min(into.len());
        self.bytes.read(&mut into[..most])
    }
}

/// Packs into two members, as programs that append do.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut packed = Vec::new();
    for part in [first, second] {
        let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
    }
    packed
}

/// Packs into two frames.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [first, second].iter().flat_map(|part| ::zstd::encode_all(*part, 1).unwrap()).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
