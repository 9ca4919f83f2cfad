//! Sockets as the kernel writes them into text files: `/proc/net/tcp` and its like.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

use std::fs::File;
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::io::{self, Read, Seek};
use std::net::IpAddr;
use std::path::Path;

use super::listing::{self, Listing, ends_of};
use super::namespace;
use crate::host::{Query, Socket, SocketState, SocketTable};

/// The sockets of a network namespace, read from its text files: slower than sock_diag, and without cookies, control
/// groups and interfaces.
///
/// The files do not tell which socket the kernel would choose, so a lookup looks for it: the connection's own, else a
/// listener or an unconnected one, a specific address before an unspecified one, IPv4 before IPv6. Where several are
/// left (`SO_REUSEPORT`), none is named.
pub struct TextSockets {
    files: Vec<(Listing, File)>,
    netns: u64,
    time_wait: bool,
    text: Vec<u8>,
    damaged: u64,
}

impl TextSockets {
    /// Opens the files of the network namespace that the calling thread is in; they stay those of that namespace.
    ///
    /// # Errors
    /// When there is none of them, or one of them cannot be opened.
    pub fn here() -> io::Result<TextSockets> {
        let netns = namespace::current()?;
        Ok(TextSockets { netns, ..TextSockets::open(Path::new("/proc/thread-self/net"))? })
    }

    /// Opens the files of a folder: `tcp`, `tcp6`, `udp`, … Those that are not there, or may not be read, are taken to be empty.
    ///
    /// # Errors
    /// When there is none of them, or one of them cannot be opened.
    pub fn open(folder: &Path) -> io::Result<TextSockets> {
        let mut files = Vec::new();
        for listing in Listing::ALL {
            for name in listing.files() {
                match File::open(folder.join(name)) {
                    Ok(file) => files.push((listing, file)),
                    Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if files.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no tables in {}", folder.display()),
            ));
        }
        Ok(TextSockets { files, netns: 0, time_wait: false, text: Vec::new(), damaged: 0 })
    }

    /// Lists connections in TIME_WAIT, too.
    pub fn with_time_wait(mut self) -> TextSockets {
        self.time_wait = true;
        self
    }

    /// How many lines could not be read.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Appends the sockets of a list.
    pub(super) fn list(&mut self, wanted: Listing, sockets: &mut Vec<Socket>) -> io::Result<()> {
        for (listing, file) in self.files.iter_mut().filter(|(listing, _)| *listing == wanted) {
            file.rewind()?;
            self.text.clear();
            file.read_to_end(&mut self.text)?;
            // The first line says what the columns are.
            for line in String::from_utf8_lossy(&self.text).lines().skip(1) {
                match read_line(*listing, self.netns, line) {
                    Some(socket) if socket.state == SocketState::TimeWait && !self.time_wait => {}
                    Some(socket) => sockets.push(socket),
                    None => self.damaged += 1,
                }
            }
        }
        Ok(())
    }
}

impl SocketTable for TextSockets {
    fn find(&mut self, query: &Query) -> io::Result<Option<Socket>> {
        let Some((listing, ends)) = Listing::of(query.proto).zip(ends_of(query)) else { return Ok(None) };
        let mut sockets = Vec::new();
        self.list(listing, &mut sockets)?;
        let mut best: Option<(Fit, Socket)> = None;
        let mut rivals = false;
        for socket in sockets {
            let Some(fit) = fit(&socket, ends) else { continue };
            match &best {
                Some((before, _)) if *before > fit => {}
                Some((before, same)) if *before == fit => rivals |= same.inode != socket.inode,
                _ => (best, rivals) = (Some((fit, socket)), false),
            }
        }
        Ok(best.filter(|_| !rivals).map(|(_, socket)| socket))
    }

    fn snapshot(&mut self, sockets: &mut Vec<Socket>) -> io::Result<()> {
        Listing::ALL.into_iter().try_for_each(|listing| self.list(listing, sockets))
    }
}

/// How well a socket fits a packet; the greater is chosen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    is_connected: bool,
    has_address: bool,
    is_of_its_version: bool,
}

/// Tells how a socket fits a packet with these ends (local, remote), if it does.
fn fit(socket: &Socket, [local, remote]: [(IpAddr, u16); 2]) -> Option<Fit> {
    let own = socket.local.addr.to_canonical();
    let has_address = own == local.0;
    // An unspecified IPv6 address stands for IPv4, too.
    let is_open = own.is_unspecified() && (socket.local.addr.is_ipv6() || local.0.is_ipv4());
    if socket.local.port != Some(local.1) || !(has_address || is_open) {
        return None;
    }
    match socket.remote {
        Some(other) if (other.addr.to_canonical(), other.port) != (remote.0, Some(remote.1)) => return None,
        Some(_) => {}
        None if !matches!(socket.state, SocketState::Listen | SocketState::Unconnected) => return None,
        None => {}
    }
    let is_of_its_version = socket.local.addr.is_ipv4() == local.0.is_ipv4();
    Some(Fit { is_connected: socket.remote.is_some(), has_address, is_of_its_version })
}

/// Reads a line: slot, local and remote end, state, queues, timer, retransmissions, user, timeout, inode, …
fn read_line(listing: Listing, netns: u64, line: &str) -> Option<Socket> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let own = read_end(columns.next()?)?;
    let other = read_end(columns.next()?)?;
    let state = listing::state(u8::from_str_radix(columns.next()?, 16).ok()?)?;
    let uid = columns.nth(3)?.parse().ok()?;
    let inode = columns.nth(1)?.parse().ok()?;
    let (local, remote) = listing.ends(own, other);
    let kind = listing.kind(own.1);
    Some(Socket { kind, local, remote, state, uid, inode, cookie: 0, netns, interface: 0, cgroup: None })
}

/// Reads `0100007F:1F90`: words of four bytes, each as the machine reads it, and the port.
fn read_end(column: &str) -> Option<(IpAddr, u16)> {
    let (words, port) = column.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(words.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match words.len() {
        8 => Some((word(0)?.into(), port)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some((bytes.into(), port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
