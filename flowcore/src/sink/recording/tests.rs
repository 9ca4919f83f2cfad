use std::io::{Write, repeat};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::super::{read_sighted, read_sockets};
use super::*;
use crate::host::Credentials;
use crate::time::Timestamp;

/// What a failure says.
fn said<T>(outcome: Result<T, Failure>) -> String {
    match outcome {
        Err(Failure::Damaged { offset, what }) => format!("{offset}: {what}"),
        Err(Failure::Read(error)) => panic!("{error}"),
        Ok(_) => panic!("it was read"),
    }
}

/// All rows of a text, each with its place, as a reader of CSV takes them.
fn rows(text: &[u8]) -> Vec<(u64, u64, Vec<Vec<u8>>)> {
    let Ok(rows) = Rows::new(text) else { panic!("no rows") };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(rows);
    let (mut row, mut all) = (csv::ByteRecord::new(), Vec::new());
    loop {
        reader.get_mut().ask();
        if !reader.read_byte_record(&mut row).unwrap() {
            return all;
        }
        let Spot { offset, line } = reader.get_ref().spot();
        all.push((offset, line, row.iter().map(<[u8]>::to_vec).collect()));
    }
}

#[test]
fn a_line_has_an_end() {
    let longest = [vec![b'a'; LONGEST_LINE], b"\nb".to_vec()].concat();
    let mut lines = Lines::new(&longest[..]);
    assert_eq!(lines.next().ok().flatten().map(<[u8]>::len), Some(LONGEST_LINE));
    assert_eq!(lines.next().ok().flatten(), Some(&b"b"[..]));
    assert_eq!(lines.next().ok().flatten(), None);
    // As /dev/zero: only so much of it is read.
    let mut endless = Lines::new(BufReader::new(b"x\n\n".chain(repeat(0))));
    assert!(endless.next().is_ok());
    assert_eq!(said(endless.next()), "3: line 3: it is longer than 1048576 bytes");
    assert!(endless.line.capacity() <= 2 * LONGEST_LINE);
}

#[test]
fn a_row_has_an_end() {
    for endless in [&b"a,b\n\n\"c\n"[..], b"a,b\n\nc\""] {
        let Ok(rows) = Rows::new(BufReader::new(endless.chain(repeat(b'x')))) else { panic!("no rows") };
        let mut reader = csv::Reader::from_reader(rows);
        let mut row = csv::ByteRecord::new();
        reader.get_mut().ask();
        assert_eq!(reader.byte_headers().unwrap().len(), 2);
        reader.get_mut().ask();
        let error = reader.read_byte_record(&mut row).unwrap_err().to_string();
        assert!(error.contains("it is longer than 1048576 bytes"), "{error}");
        assert_eq!((reader.get_ref().spot().offset, reader.get_ref().spot().line), (5, 3));
    }
}

/// Where a reader of CSV and what cuts its rows would not agree, it gets no more than the row.
#[test]
fn a_row_is_not_gone_beyond() {
    let text = "\u{feff}\u{feff}\"a\nb\"\n";
    let Ok(rows) = Rows::new(text.as_bytes()) else { panic!("no rows") };
    let mut reader = csv::Reader::from_reader(rows);
    reader.get_mut().ask();
    let error = reader.headers().unwrap_err().to_string();
    assert!(error.contains("it goes on behind its end"), "{error}");
}

#[test]
fn blank_lines_cost_nothing() {
    let mut text = vec![b'\n'; 3 << 20];
    text.extend(b" \r\n{}\n\n");
    let mut lines = Lines::new(&text[..]);
    assert_eq!(lines.next().ok().flatten(), Some(&b"{}"[..]));
    assert_eq!((lines.spot().offset, lines.spot().line), ((3 << 20) + 3, (3 << 20) + 2));
    assert!(lines.line.capacity() < 1_000);
    let Ok(mut rows) = Rows::new(&text[..]) else { panic!("no rows") };
    rows.ask();
    let mut row = [0; 10];
    assert_eq!(rows.read(&mut row).unwrap(), 2);
    assert_eq!(rows.spot().offset, 3 << 20);
}

/// A small file that becomes a large one.
#[test]
fn a_bomb_does_not_go_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.gz");
    for (first, byte) in [(&b"{"[..], b'['), (b"a,b\n", b'x'), (b"{\"type\":\"", b'a')] {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(first).unwrap();
        io::copy(&mut repeat(byte).take(64 << 20), &mut packed).unwrap();
        std::fs::write(&path, packed.finish().unwrap()).unwrap();
        let path = path.to_str().unwrap();
        for error in
            [read_sockets(path).map(|_| ()).unwrap_err(), read_sighted(path).map(|_| ()).unwrap_err()]
        {
            let Error::Damaged { what, .. } = error else { panic!("{error}") };
            assert!(what.chars().count() < 300, "{what}");
        }
    }
}

#[test]
fn what_is_kept_is_counted() {
    let process = |pid| {
        Arc::new(Process {
            pid,
            name: "a".repeat(1_000),
            exe: None,
            args: vec![String::new(); 1_000],
            started: Timestamp::EPOCH,
            ppid: 1,
            parent_name: None,
            credentials: Credentials::default(),
            user: None,
            container_id: None,
        })
    };
    let mut kept = Kept::<u64>::within(150_000);
    let mut first = process(1);
    kept.share(&mut first);
    let of_one = kept.bytes;
    assert!(of_one > 1_000 + 1_000 * size_of::<String>(), "{of_one}");
    // Another socket of the same process has the same one.
    let mut again = process(1);
    kept.share(&mut again);
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(kept.bytes, of_one);
    kept.share(&mut process(2));
    assert_eq!(kept.bytes, 2 * of_one);
    let spot = Spot { offset: 70, line: 7 };
    assert!(kept.push(8, 0, spot).is_ok() && kept.push(9, bytes_of("text"), spot).is_ok());
    assert_eq!(
        said(kept.push(10, bytes_of(&"b".repeat(100_000)), spot)),
        "70: line 7: up to here it takes more than 150000 bytes of memory"
    );
    assert_eq!(kept.records(), [8, 9]);
}

proptest! {
    #[test]
    fn rows_are_those_of_a_reader_of_csv(text in "[ab,\"\r\n]{0,40}") {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let whole: Vec<Vec<Vec<u8>>> =
            reader.byte_records().map(|row| row.unwrap().iter().map(<[u8]>::to_vec).collect()).collect();
        let rows = rows(text.as_bytes());
        for (offset, line, _) in &rows {
            let before = &text.as_bytes()[..*offset as usize];
            prop_assert_eq!(*line, 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64);
        }
        prop_assert_eq!(rows.into_iter().map(|(_, _, row)| row).collect::<Vec<_>>(), whole);
    }
}
