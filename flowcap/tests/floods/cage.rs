//! A bound on memory that the kernel holds a program to: a control group of version 1 or 2.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A control group with a limit; it goes when this is dropped.
pub struct Cage {
    folder: PathBuf,
    peak: &'static str,
}

impl Cage {
    /// Makes a control group for programs that may have `bytes` of memory, the kernel's for them included.
    ///
    /// # Errors
    /// Why there is none here.
    pub fn new(bytes: u64) -> Result<Cage, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (root, version) = mounted().ok_or("no control groups of memory are mounted")?;
        let (limit, peak) = match version {
            1 => ("memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            _ => ("memory.max", "memory.peak"),
        };
        // Where it is allowed already, this says so again.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        let name = format!("flowcap-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = root.join(name);
        let why = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(why)?;
        let cage = Cage { folder: folder.clone(), peak };
        if !folder.join(peak).exists() {
            return Err(format!("{}: no {peak}", folder.display()));
        }
        fs::write(folder.join(limit), bytes.to_string()).map_err(why)?;
        Ok(cage)
    }

    /// The file to which a process writes its number to be inside.
    pub fn door(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Returns the most memory that was in use.
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.peak)).expect("a control group");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Returns where control groups of memory are mounted, and their version.
fn mounted() -> Option<(PathBuf, u32)> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut version_2 = None;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (folder, kind, options) = (PathBuf::from(words.next()?), words.next()?, words.next()?);
        match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => return Some((folder, 1)),
            "cgroup2" => version_2 = Some((folder, 2)),
            _ => {}
        }
    }
    version_2
}
