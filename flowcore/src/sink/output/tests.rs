use super::*;

fn put(output: &mut Output, text: &str) {
    output.room().unwrap().extend_from_slice(text.as_bytes());
}

fn write(destination: &str, existing: Existing, text: &str) {
    let mut output = Output::open(destination, existing).unwrap();
    put(&mut output, text);
    output.finish().unwrap();
}

fn kind(outcome: Result<Output, Error>) -> ErrorKind {
    match outcome {
        Err(Error::Output { source, .. }) => source.kind(),
        _ => panic!("no output error"),
    }
}

/// A folder and the path of a file in it.
fn place(name: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name).to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_file_is_not_overwritten_unasked() {
    let (_folder, path) = place("flows.jsonl");
    write(&path, Existing::Refuse, "1\n");
    assert_eq!(kind(Output::open(&path, Existing::Refuse)), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    write(&path, Existing::Append, "2\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
    write(&path, Existing::Overwrite, "3\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
}

#[test]
fn lines_appear_at_a_flush_or_when_the_buffer_is_full() {
    let (_folder, path) = place("flows.jsonl");
    let mut output = Output::open(&path, Existing::Refuse).unwrap();
    put(&mut output, "1\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    output.flush().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    put(&mut output, &"x".repeat(PLAIN_PORTION - 1));
    put(&mut output, "\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    put(&mut output, "2\n");
    assert_eq!(fs::read_to_string(&path).unwrap().len(), 2 + PLAIN_PORTION);
    output.finish().unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with("x\n2\n"));
}

#[test]
fn compressed_files_grow_under_another_name_in_frames_that_can_be_read() {
    for ending in ["gz", "zst"] {
        let (_folder, path) = place(&format!("flows.jsonl.{ending}"));
        let part = format!("{path}.part");
        let read = |path: &str| {
            let bytes = fs::read(path).unwrap();
            let mut text = String::new();
            match ending {
                "gz" => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text),
                _ => zstd::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text),
            }
            .unwrap();
            text
        };
        let mut output = Output::open(&path, Existing::Refuse).unwrap();
        put(&mut output, "1\n");
        output.flush().unwrap();
        assert_eq!(read(&part), "1\n");
        assert!(!Path::new(&path).exists());
        assert_eq!(kind(Output::open(&path, Existing::Refuse)), ErrorKind::AlreadyExists);
        put(&mut output, "2\n");
        output.flush().unwrap();
        assert_eq!(read(&part), "1\n");
        output.last_frame = Some(Instant::now() - FRAME_INTERVAL);
        output.flush().unwrap();
        assert_eq!(read(&part), "1\n2\n");
        put(&mut output, "3\n");
        output.finish().unwrap();
        assert_eq!(read(&path), "1\n2\n3\n");
        assert!(!Path::new(&part).exists());
        assert_eq!(kind(Output::open(&path, Existing::Refuse)), ErrorKind::AlreadyExists);
        write(&path, Existing::Append, "3\n");
        assert_eq!(read(&path.replace(".jsonl", "-2.jsonl")), "3\n");
        write(&path, Existing::Overwrite, "4\n");
        assert_eq!(read(&path), "4\n");
    }
}

#[test]
fn a_cut_line_is_taken_off_before_more_is_added() {
    let (_folder, path) = place("flows.jsonl");
    fs::write(&path, "first\nsecond\nthi").unwrap();
    let mut output = Output::open(&path, Existing::Append).unwrap();
    assert_eq!(output.head(), Some("first"));
    put(&mut output, "third\n");
    output.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\nsecond\nthird\n");

    fs::write(&path, "no line at all").unwrap();
    assert_eq!(kind(Output::open(&path, Existing::Append)), ErrorKind::InvalidData);
    fs::write(&path, "").unwrap();
    assert_eq!(Output::open(&path, Existing::Append).unwrap().head(), None);
}

#[test]
fn a_full_device_is_an_error_and_the_lines_wait() {
    let mut output = Output::open("/dev/full", Existing::Refuse).unwrap();
    put(&mut output, "1\n");
    for _ in 0..2 {
        let Err(Error::Output { name, source }) = output.flush() else { panic!("no error") };
        assert_eq!((name.as_str(), source.kind()), ("/dev/full", ErrorKind::StorageFull));
    }
    assert_eq!(output.lines, b"1\n");
}

#[test]
fn half_a_line_is_taken_back_out_of_a_file() {
    assert_eq!(whole_lines(b"one\ntwo\n", 6), 4);
    assert_eq!(whole_lines(b"one\ntwo\n", 8), 8);
    assert_eq!(whole_lines(b"one\n", 2), 0);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"one\ntw").unwrap();
    take_back(&mut file, 2);
    file.write_all(b"two\n").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(io::read_to_string(file).unwrap(), "one\ntwo\n");
}

#[test]
fn missing_folders_are_errors() {
    let (_folder, path) = place("no/such/flows.csv");
    assert_eq!(kind(Output::open(&path, Existing::Overwrite)), ErrorKind::NotFound);
}
