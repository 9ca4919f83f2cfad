//! The same packets give the same bytes: for every number of shards, for batches of any size, from a file or from a
//! pipe, whatever its pace. Over the captures of testdata and the corpus, and over made traffic.

#[path = "../../../flowcore/tests/corpus_files/mod.rs"]
mod corpus_files;
mod pipes;
mod replays;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use corpus_files::Corpus;
use flowcap_benches::pcap::Pcap;
use flowcap_benches::{Shape, Traffic};
use tempfile::TempDir;

/// Captures to replay.
struct Captures {
    paths: Vec<PathBuf>,
    /// Where the made ones lie.
    folder: TempDir,
}

impl Captures {
    /// Finds all captures, and makes traffic of every shape, also of those that do harm.
    fn all() -> Captures {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures");
        let mut paths: Vec<PathBuf> =
            fs::read_dir(testdata).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.extend(Corpus::find().map(|corpus| corpus.paths()).unwrap_or_default());
        let folder = tempfile::tempdir().unwrap();
        for (seed, shape) in Shape::ALL.into_iter().chain(Shape::HOSTILE).enumerate() {
            let path = folder.path().join(shape.name());
            let mut file = Pcap::new(File::create(&path).unwrap());
            let mut traffic = Traffic::new(shape, 0.003, seed as u64);
            while let Some(frame) = traffic.next() {
                file.write(&frame).unwrap();
            }
            file.finish().unwrap();
            paths.push(path);
        }
        Captures { paths, folder }
    }
}
