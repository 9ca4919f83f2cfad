//! Any bytes as what this program has written and reads again: recorded sockets, snapshots of sockets as JSON lines and
//! CSV, and what one of its processes tells another. What is understood can be written and is understood the same way.
//!
//! Input: a byte that says which of them, and the text.
#![no_main]

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use flowcap_fuzz::folder;
use flowcore::record::{HostNews, Message, Record, SocketNews, SocketRecord};
use flowcore::sink::{
    Existing, Format, HostRecords, NewsWriter, SightedLines, open_host, read_news, read_sighted, read_sockets,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(folder);

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    match which % 4 {
        0 => sockets(text),
        1 => sighted(text),
        2 => news::<SocketNews>(text),
        _ => news::<HostNews>(text),
    }
});

fn path(name: &str) -> String {
    FOLDER.join(name).to_str().expect("a path").to_owned()
}

fn sockets(text: &[u8]) {
    let given = path("sockets");
    fs::write(&given, text).expect("room");
    let Ok(sockets) = read_sockets(&given) else { return };
    for name in ["sockets.jsonl", "sockets.csv"] {
        let mut sink =
            open_host(HostRecords::Sockets, &path(name), Format::Jsonl, &Existing::Overwrite.into())
                .expect("a file");
        for socket in &sockets {
            sink.write(Record::Socket(socket)).expect("room");
        }
        sink.finish().expect("room");
        let again: Vec<SocketRecord> = match read_sockets(&path(name)) {
            Ok(again) => again,
            // A file without records is damaged.
            Err(_) if sockets.is_empty() => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        if name.ends_with(".csv") {
            // Texts come back escaped, and empty ones as none.
            assert_eq!(again.len(), sockets.len());
        } else {
            assert_eq!(again, sockets);
        }
    }
}

fn sighted(text: &[u8]) {
    let given = path("sighted");
    fs::write(&given, text).expect("room");
    let Ok(sockets) = read_sighted(&given) else { return };
    let again = path("again.jsonl");
    let mut lines = SightedLines::open(&again, Existing::Overwrite).expect("a file");
    for socket in &sockets {
        lines.write(socket).expect("room");
    }
    lines.finish().expect("room");
    assert_eq!(read_sighted(&again).expect("what was written"), sockets);
}

fn news<N: Serialize + DeserializeOwned + PartialEq + Debug>(mut text: &[u8]) {
    while let Ok(Some(news)) = read_news::<Message<N>>(&mut text) {
        let mut written = Vec::new();
        let mut writer = NewsWriter::new(&mut written);
        writer.write(&news).expect("room");
        writer.flush().expect("room");
        drop(writer);
        let again = read_news::<Message<N>>(&mut written.as_slice()).expect("what was written");
        assert_eq!(again, Some(news));
    }
}
