//! Who owned the last sockets of an end: a program that has talked with a server, or served at a port, mostly does so again.

use std::collections::HashMap;
use std::iter;

use crate::host::{Socket, SocketKind};
use crate::key::Endpoint;

/// The owners of the last sockets, by either end.
#[derive(Debug, Default)]
pub(super) struct Hints {
    owners: HashMap<End, [u32; OWNERS]>,
}

/// An end, and whether it is the remote one.
type End = (SocketKind, bool, Endpoint);

impl Hints {
    /// Takes note of an owner.
    pub(super) fn add(&mut self, socket: &Socket, pid: u32) {
        if self.owners.len() >= ENDS {
            self.owners.clear();
        }
        for end in ends(socket) {
            let owners = self.owners.entry(end).or_default();
            let at = owners.iter().position(|owner| *owner == pid).unwrap_or(OWNERS - 1);
            if let Some(before) = owners.get_mut(..=at) {
                before.rotate_right(1);
            }
            if let Some(first) = owners.first_mut() {
                *first = pid;
            }
        }
    }

    /// Returns who may own a socket, the likeliest first.
    pub(super) fn of(&self, socket: &Socket) -> Vec<u32> {
        let mut pids = Vec::new();
        for owners in ends(socket).filter_map(|end| self.owners.get(&end)) {
            for &pid in owners.iter().filter(|pid| **pid != 0) {
                if !pids.contains(&pid) {
                    pids.push(pid);
                }
            }
        }
        pids
    }
}

/// The end here, which tells a server, and the one there, which tells its clients.
fn ends(socket: &Socket) -> impl Iterator<Item = End> {
    let remote = socket.remote.map(|end| (socket.kind, true, end));
    iter::once((socket.kind, false, socket.local)).chain(remote)
}

/// So many owners of an end are remembered,
const OWNERS: usize = 4;
/// and so many ends.
const ENDS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::SocketState;

    fn socket(local: u16, remote: Option<u16>) -> Socket {
        let end = |port| Endpoint { addr: [127, 0, 0, 1].into(), port: Some(port) };
        Socket {
            kind: SocketKind::Udp,
            local: end(local),
            remote: remote.map(end),
            state: SocketState::Established,
            uid: 0,
            inode: 1,
            cookie: 0,
            netns: 0,
            interface: 0,
            cgroup: None,
        }
    }

    #[test]
    fn the_last_owners_of_both_ends_come_first() {
        let mut hints = Hints::default();
        assert!(hints.of(&socket(1, Some(53))).is_empty());
        for pid in [10, 11, 12, 13, 14, 12] {
            hints.add(&socket(5000 + pid as u16, Some(53)), pid);
        }
        assert_eq!(hints.of(&socket(1, Some(53))), [12, 14, 13, 11]);
        // A port here is not one there.
        assert!(hints.of(&socket(53, None)).is_empty());
        // Who has this end now is named once, and first.
        assert_eq!(hints.of(&socket(5013, Some(53))), [13, 12, 14, 11]);
        let tcp = Socket { kind: SocketKind::Tcp, ..socket(5013, Some(53)) };
        assert!(hints.of(&tcp).is_empty());
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let mut hints = Hints::default();
        for port in 0..u16::MAX {
            hints.add(&socket(port, Some(port)), 7);
            assert_eq!(hints.of(&socket(port, None)), [7]);
            assert!(hints.owners.len() <= ENDS);
        }
    }
}
