//! Finds the corpus: beside the checkout, or where FLOWCAP_CORPUS says.

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

    /// Returns all captures.
    pub fn captures(&self) -> Vec<Capture> {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(self.0.join("captures")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 282);
        let captures = names.into_iter().map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let expected = self.0.join("expected").join(format!("{name}.json"));
            let expected = serde_json::from_str(&std::fs::read_to_string(expected).unwrap()).unwrap();
            Capture { name, path, expected }
        });
        captures.collect()
    }
}
