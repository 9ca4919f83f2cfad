//! Finds the corpus: beside the checkout, or where FLOWCAP_CORPUS says.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The corpus of captures.
pub struct Corpus(PathBuf);

/// A capture, and what is expected of it.
pub struct Capture {
    pub name: String,
    pub path: PathBuf,
    pub expected: Value,
}

impl Corpus {
    /// Returns the corpus; without one, says so loudly, and panics where CI_REQUIRE_CORPUS demands it.
    pub fn find() -> Option<Corpus> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
        let path = std::env::var_os("FLOWCAP_CORPUS").map_or(beside, PathBuf::from);
        if path.join("manifest.json").exists() {
            return Some(Corpus(path));
        }
        assert!(std::env::var_os("CI_REQUIRE_CORPUS").is_none(), "no corpus at {}", path.display());
        println!("SKIPPED: no corpus at {}", path.display());
        None
    }

    /// Returns the folder of the corpus.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Returns the paths of all captures but the large ones.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(self.0.join("captures")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(paths.len(), 282);
        paths.sort();
        paths
    }

    /// Returns all captures, the large generated one with values for each flow among them.
    pub fn captures(&self) -> Vec<Capture> {
        let captures = self.paths().into_iter().map(|path| {
            let expected = format!("expected/{}.json", name(&path));
            self.capture(path, &expected)
        });
        let bigflow =
            self.capture(self.0.join("perf/bigflow_small.pcap"), "perf/bigflow_small.pcap.flows.json");
        captures.chain([bigflow]).collect()
    }

    /// Returns the generated captures of which totals are known.
    pub fn with_totals(&self) -> Vec<Capture> {
        let names = ["bigflow_small", "mix_small", "smallpkt_small"].into_iter();
        let captures = names.map(|name| {
            let path = self.0.join(format!("perf/{name}.pcap"));
            self.capture(path, &format!("perf/{name}.pcap.json"))
        });
        captures.collect()
    }

    fn capture(&self, path: PathBuf, expected: &str) -> Capture {
        let expected = std::fs::read_to_string(self.0.join(expected)).unwrap();
        Capture { name: name(&path), path, expected: serde_json::from_str(&expected).unwrap() }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
