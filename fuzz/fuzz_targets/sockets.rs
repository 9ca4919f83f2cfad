//! Any bytes as the kernel's text files of sockets and counters: each line is a socket or counted as damaged, and a
//! socket that is looked up is one of those.
//!
//! Input: files, as `files` of this crate takes them apart.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use flowcap_fuzz::{files, folder};
use flowcore::host::{Query, SocketKind, SocketTable, TextSockets, network_stats};
use flowcore::key::Proto;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 14] = [
    "tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6", "snmp", "snmp6",
    "netstat", "dev",
];

/// The folder of the files, all of them empty between two runs, and the sockets in it.
struct Net {
    folder: PathBuf,
    sockets: TextSockets,
    seen: u64,
}

thread_local! {
    static NET: RefCell<Net> = RefCell::new(Net::new());
}

fuzz_target!(|data: &[u8]| NET.with_borrow_mut(|net| net.read(data)));

impl Net {
    fn new() -> Net {
        let folder = folder().join("net");
        fs::create_dir(&folder).expect("a folder");
        NAMES.iter().for_each(|name| fs::write(folder.join(name), b"").expect("a file"));
        let sockets = TextSockets::open(&folder).expect("files").with_time_wait();
        Net { folder, sockets, seen: 0 }
    }

    fn read(&mut self, data: &[u8]) {
        let mut texts = [&[][..]; NAMES.len()];
        files(data).for_each(|(which, bytes)| texts[which % NAMES.len()] = bytes);
        for (name, text) in NAMES.iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
            fs::write(self.folder.join(name), text).expect("room");
        }
        self.look(&texts[..10]);
        let proc = self.folder.parent().expect("a folder");
        let counters = network_stats(proc).expect("readable files");
        assert_eq!(counters, network_stats(proc).expect("readable files"));
        for (name, _) in NAMES.iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
            fs::write(self.folder.join(name), b"").expect("room");
        }
    }

    fn look(&mut self, texts: &[&[u8]]) {
        let mut sockets = Vec::new();
        self.sockets.snapshot(&mut sockets).expect("readable files");
        let damaged = self.sockets.damaged() - self.seen;
        // The first line of each says what the columns are.
        let lines = |text: &&[u8]| String::from_utf8_lossy(text).lines().skip(1).count();
        assert_eq!(sockets.len() + damaged as usize, texts.iter().map(lines).sum::<usize>());
        for socket in sockets.iter().take(3) {
            let proto = match socket.kind {
                SocketKind::Tcp => Proto::TCP,
                SocketKind::Udp => Proto::UDP,
                _ => Proto::UDP_LITE,
            };
            let remote = socket.remote.unwrap_or(socket.local);
            let query = Query { proto, local: socket.local, remote, interface: 0 };
            if let Some(found) = self.sockets.find(&query).expect("readable files") {
                assert!(sockets.contains(&found) && found.local.port == query.local.port);
            }
        }
        self.seen = self.sockets.damaged();
    }
}
