//! Tests of the matching with records alone, of the index, and of the resolver with a made machine.

mod index;
mod matching;
mod news;
mod resolver;
mod windows;

use std::sync::Arc;

use crate::host::{Credentials, Owner, Process};
use crate::key::{Endpoint, Proto};
use crate::record::{SightedAs, SightedSocket};
use crate::time::Timestamp;

/// A time in milliseconds after the beginning of the story.
fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000)
}

fn end(text: &str) -> Endpoint {
    let socket: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { addr: socket.ip(), port: Some(socket.port()) }
}

fn process(pid: u32, name: &str) -> Owner {
    let process = Process {
        pid,
        name: name.to_owned(),
        exe: Some(format!("/usr/bin/{name}")),
        args: vec![name.to_owned()],
        started: at(-60_000 + i64::from(pid)),
        ppid: 1,
        parent_name: None,
        credentials: Credentials::default(),
        user: None,
        container_id: None,
    };
    Owner::Process { process: Arc::new(process), shared: 1 }
}

/// A TCP connection of 192.0.2.1 that was looked up as it opened, at 0.
fn connection(cookie: u64, owner: Owner) -> SightedSocket {
    SightedSocket {
        netns: 0,
        proto: Proto::TCP,
        local: end("192.0.2.1:40000"),
        remote: Some(end("198.51.100.2:443")),
        is: SightedAs::Exact,
        cookie,
        asked: Some(at(0)),
        answered: Some(at(0)),
        valid_from: at(0),
        seen: at(0),
        valid_to: None,
        owner: Some(owner),
    }
}
