//! Network namespaces: which there are, and work that is done inside one.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, which lives as long as this value does.
#[derive(Debug)]
pub struct NetNamespace {
    file: File,
    inode: u64,
}

impl NetNamespace {
    /// Opens a namespace by a path: `/proc/PID/ns/net`, or one that `ip netns` made below `/run/netns`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> io::Result<NetNamespace> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(NetNamespace { file, inode })
    }

    /// Opens the namespace that the calling thread is in.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn current() -> io::Result<NetNamespace> {
        NetNamespace::open(CURRENT)
    }

    /// Opens the namespaces of all processes, in the order of their inodes; the second value counts processes whose
    /// namespace may not be looked at (that needs CAP_SYS_PTRACE for those of other users).
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn all() -> io::Result<(Vec<NetNamespace>, u64)> {
        let mut found: Vec<NetNamespace> = Vec::new();
        let mut denied = 0;
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let is_process =
                path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
            if !is_process {
                continue;
            }
            let path = path.join("ns/net");
            // What is known already need not be opened. A process that is gone meanwhile has none.
            let inode = fs::metadata(&path).map(|metadata| metadata.ino());
            match inode {
                Ok(inode) if found.iter().any(|known| known.inode == inode) => {}
                Ok(_) => found.extend(NetNamespace::open(&path)),
                Err(error) => denied += u64::from(error.kind() == io::ErrorKind::PermissionDenied),
            }
        }
        found.sort_by_key(|namespace| namespace.inode);
        found.dedup_by_key(|namespace| namespace.inode);
        Ok((found, denied))
    }

    /// The number that stands in [`Socket::netns`](crate::host::Socket::netns).
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Does a piece of work inside the namespace: what it opens stays there, sockets and the files of
    /// `/proc/thread-self/net` alike.
    ///
    /// It runs in a thread of its own that ends with it, so that the caller never has to find its way back.
    ///
    /// # Errors
    /// Those of the work, and those of entering: it needs CAP_SYS_ADMIN, unless the caller is there already.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if current()? == self.inode {
            return work();
        }
        thread::scope(|scope| {
            let inside = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            })?;
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The inode of the namespace that the calling thread is in.
pub(super) fn current() -> io::Result<u64> {
    Ok(fs::metadata(CURRENT)?.ino())
}

const CURRENT: &str = "/proc/thread-self/ns/net";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_among_all_and_needs_no_privilege_to_enter() {
        let own = NetNamespace::current().unwrap();
        let (all, _) = NetNamespace::all().unwrap();
        assert_eq!(all.iter().filter(|one| one.inode() == own.inode()).count(), 1);
        assert_eq!(own.enter(current).unwrap(), own.inode());
    }
}
