//! Recorded sockets: one JSON object a line, written while capturing and read for a replay.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::output::Output;
use super::place::Known;
use super::recording::{Failure, Kept, Lines, MOST, bytes_of, unpacked};
use super::{FileOptions, json};
use crate::error::{Error, Reason};
use crate::host::{Credentials, Owner, Process};
use crate::key::{Endpoint, Proto};
use crate::record::{SightedAs, SightedSocket};
use crate::time::Timestamp;

/// Writes sockets as JSON lines.
pub struct SightedLines {
    output: Output,
}

impl SightedLines {
    /// Opens a file, or `-` for standard output; `.gz` and `.zst` compress.
    ///
    /// # Errors
    /// Those of [`open`](super::open).
    pub fn open(destination: &str, options: impl Into<FileOptions>) -> Result<Self, Error> {
        Ok(SightedLines { output: Output::open(destination, &options.into(), Known::Lines)? })
    }

    /// Writes a socket.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes.
    pub fn write(&mut self, socket: &SightedSocket) -> Result<(), Error> {
        let out = self.output.room()?;
        json::nested(out, &Line::of(socket));
        out.push(b'\n');
        Ok(())
    }

    /// Returns how many sockets were taken and are not in the file yet.
    pub fn waiting(&self) -> u64 {
        self.output.waiting()
    }

    /// Ends the output.
    ///
    /// # Errors
    /// [`Error::Output`] when the destination refuses the bytes, or the file its name.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.output.finish()
    }
}

/// Reads recorded sockets, also compressed ones; empty lines are passed over.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, [`Error::Damaged`] for a line that is no recorded socket or is longer
/// than 1 MiB, and for sockets that take more than 1 GiB of memory; it names the line, counted from 1 as editors do.
pub fn read_sighted(path: &str) -> Result<Vec<SightedSocket>, Error> {
    let lines = File::open(path).and_then(|file| unpacked(BufReader::new(file))).map_err(Failure::Read);
    lines.and_then(|lines| read(lines, MOST)).map_err(|failure| failure.of(path))
}

fn read(lines: impl BufRead, most: usize) -> Result<Vec<SightedSocket>, Failure> {
    let mut lines = Lines::new(lines);
    let mut kept = Kept::within(most);
    while let Some(line) = lines.next()? {
        let read = serde_json::from_slice::<Line>(line).map_err(|error| within_line(&error));
        let spot = lines.spot();
        let read = read.map_err(|what| spot.damaged(&format!("no recorded socket: {what}")))?;
        let mut socket = SightedSocket::from(read);
        let texts = match &mut socket.owner {
            Some(Owner::Process { process, .. }) => {
                kept.share(process);
                0
            }
            Some(Owner::UidOnly { container_id, .. }) => container_id.as_deref().map_or(0, bytes_of),
            _ => 0,
        };
        kept.push(socket, texts, spot)?;
    }
    Ok(kept.records())
}

/// Says what is wrong with a line of JSON, and where in it; the line's own number, always 1, is left out.
pub(super) fn within_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} at column {column}"),
        None => text,
    }
}

/// A line: names, types and units as in record.md.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(with = "keyword")]
    protocol: Proto,
    local_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_port: Option<u16>,
    /// 0 for the one that flows were seen in.
    #[serde(default, skip_serializing_if = "is_zero")]
    netns: u64,
    cookie: u64,
    #[serde(rename = "match", with = "relation")]
    is: SightedAs,
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    answered: Option<Timestamp>,
    /// None where only the socket's end was seen.
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    valid_from: Option<Timestamp>,
    #[serde(with = "time")]
    seen: Timestamp,
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    valid_to: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerLine>,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "recorded_socket")]
    RecordedSocket,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "known")]
enum OwnerLine {
    Process {
        process: Box<ProcessLine>,
        shared: u32,
    },
    UidOnly {
        uid: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        container_id: Option<String>,
    },
    NoProcess,
    NotPermitted,
    Ambiguous,
}

#[derive(Serialize, Deserialize)]
struct ProcessLine {
    pid: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    uid: u32,
    #[serde(with = "time")]
    start_time: Timestamp,
    ppid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_id: Option<String>,
    euid: u32,
    gid: u32,
    egid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    auid: Option<u32>,
    cap_inheritable: u64,
    cap_permitted: u64,
    cap_effective: u64,
}

impl Line {
    fn of(socket: &SightedSocket) -> Self {
        Line {
            kind: Kind::RecordedSocket,
            protocol: socket.proto,
            local_ip: socket.local.addr,
            local_port: socket.local.port,
            remote_ip: socket.remote.map(|end| end.addr),
            remote_port: socket.remote.and_then(|end| end.port),
            netns: socket.netns,
            cookie: socket.cookie,
            is: socket.is,
            asked: socket.asked,
            answered: socket.answered,
            valid_from: Some(socket.valid_from).filter(|&from| from != Timestamp::MIN),
            seen: socket.seen,
            valid_to: socket.valid_to,
            owner: socket.owner.as_ref().map(OwnerLine::of),
        }
    }
}

impl From<Line> for SightedSocket {
    fn from(line: Line) -> Self {
        SightedSocket {
            netns: line.netns,
            proto: line.protocol,
            local: Endpoint { addr: line.local_ip, port: line.local_port },
            remote: line.remote_ip.map(|addr| Endpoint { addr, port: line.remote_port }),
            is: line.is,
            cookie: line.cookie,
            asked: line.asked,
            answered: line.answered,
            valid_from: line.valid_from.unwrap_or(Timestamp::MIN),
            seen: line.seen,
            valid_to: line.valid_to,
            owner: line.owner.map(Owner::from),
        }
    }
}

impl OwnerLine {
    fn of(owner: &Owner) -> Self {
        match owner {
            Owner::Process { process, shared } => {
                OwnerLine::Process { process: Box::new(ProcessLine::of(process)), shared: *shared }
            }
            Owner::UidOnly { uid, container_id } => {
                OwnerLine::UidOnly { uid: *uid, container_id: container_id.clone() }
            }
            Owner::NoProcess => OwnerLine::NoProcess,
            Owner::NotPermitted => OwnerLine::NotPermitted,
            Owner::Ambiguous => OwnerLine::Ambiguous,
        }
    }
}

impl From<OwnerLine> for Owner {
    fn from(line: OwnerLine) -> Self {
        match line {
            OwnerLine::Process { process, shared } => {
                Owner::Process { process: Arc::new(Process::from(*process)), shared }
            }
            OwnerLine::UidOnly { uid, container_id } => Owner::UidOnly { uid, container_id },
            OwnerLine::NoProcess => Owner::NoProcess,
            OwnerLine::NotPermitted => Owner::NotPermitted,
            OwnerLine::Ambiguous => Owner::Ambiguous,
        }
    }
}

impl ProcessLine {
    fn of(process: &Process) -> Self {
        let credentials = &process.credentials;
        ProcessLine {
            pid: process.pid,
            name: process.name.clone(),
            exe: process.exe.clone(),
            args: process.args.clone(),
            user: process.user.clone(),
            uid: credentials.uid,
            start_time: process.started,
            ppid: process.ppid,
            parent_name: process.parent_name.clone(),
            container_id: process.container_id.clone(),
            euid: credentials.euid,
            gid: credentials.gid,
            egid: credentials.egid,
            auid: credentials.auid,
            cap_inheritable: credentials.cap_inheritable,
            cap_permitted: credentials.cap_permitted,
            cap_effective: credentials.cap_effective,
        }
    }
}

impl From<ProcessLine> for Process {
    fn from(line: ProcessLine) -> Self {
        Process {
            pid: line.pid,
            name: line.name,
            exe: line.exe,
            args: line.args,
            started: line.start_time,
            ppid: line.ppid,
            parent_name: line.parent_name,
            credentials: Credentials {
                uid: line.uid,
                euid: line.euid,
                gid: line.gid,
                egid: line.egid,
                auid: line.auid,
                cap_inheritable: line.cap_inheritable,
                cap_permitted: line.cap_permitted,
                cap_effective: line.cap_effective,
            },
            user: line.user,
            container_id: line.container_id,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

mod time {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| D::Error::custom(format!("no time: {text}")))
    }
}

mod optional_time {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        super::time::deserialize(deserializer).map(Some)
    }
}

mod keyword {
    use super::*;

    pub(super) fn serialize<S: Serializer>(proto: &Proto, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(proto)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Proto, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = [Proto::TCP, Proto::UDP, Proto::UDP_LITE];
        let found = known.into_iter().find(|proto| proto.keyword() == Some(&text));
        found.ok_or_else(|| D::Error::custom(format!("no protocol with sockets: {text}")))
    }
}

mod relation {
    use super::*;

    pub(super) fn serialize<S: Serializer>(is: &SightedAs, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(is.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SightedAs, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = SightedAs::ALL.iter().find(|is| is.name() == text);
        found.copied().ok_or_else(|| D::Error::custom(format!("no match: {text}")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::option::of;
    use proptest::prelude::*;

    use super::super::Existing;
    use super::*;

    fn written(sockets: &[SightedSocket]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.jsonl").to_str().unwrap().to_owned();
        let mut lines = SightedLines::open(&path, Existing::Refuse).unwrap();
        sockets.iter().for_each(|socket| lines.write(socket).unwrap());
        lines.finish().unwrap();
        (folder, path)
    }

    fn socket() -> SightedSocket {
        SightedSocket {
            netns: 0,
            proto: Proto::TCP,
            local: Endpoint { addr: [192, 0, 2, 1].into(), port: Some(40_000) },
            remote: Some(Endpoint { addr: [192, 0, 2, 2].into(), port: Some(443) }),
            is: SightedAs::Exact,
            cookie: 4711,
            asked: Some(Timestamp::from_nanos(1_700_000_000_000_000_000)),
            answered: Some(Timestamp::from_nanos(1_700_000_000_000_100_000)),
            valid_from: Timestamp::from_nanos(1_700_000_000_000_100_000),
            seen: Timestamp::from_nanos(1_700_000_005_000_000_000),
            valid_to: None,
            owner: Some(Owner::NoProcess),
        }
    }

    #[test]
    fn a_line_by_hand() {
        let (_folder, path) = written(&[socket()]);
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            concat!(
                r#"{"type":"recorded_socket","protocol":"TCP","local_ip":"192.0.2.1","local_port":40000,"#,
                r#""remote_ip":"192.0.2.2","remote_port":443,"cookie":4711,"match":"exact","#,
                r#""asked":"2023-11-14T22:13:20.000000000Z","answered":"2023-11-14T22:13:20.000100000Z","#,
                r#""valid_from":"2023-11-14T22:13:20.000100000Z","seen":"2023-11-14T22:13:25.000000000Z","#,
                r#""owner":{"known":"no_process"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn compressed_lines_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["s.jsonl.gz", "s.jsonl.zst"] {
            let path = folder.path().join(name).to_str().unwrap().to_owned();
            let mut lines = SightedLines::open(&path, Existing::Refuse).unwrap();
            (0..3).for_each(|_| lines.write(&socket()).unwrap());
            lines.finish().unwrap();
            assert_eq!(read_sighted(&path).unwrap(), [socket(), socket(), socket()]);
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let (folder, path) = written(&[socket()]);
        let good = fs::read_to_string(path).unwrap();
        let path = folder.path().join("bad.jsonl").to_str().unwrap().to_owned();
        let wrong_time = good.replace("22:13:25", "22:61:25");
        for bad in ["{}\n", "x\n", wrong_time.as_str(), &good[..40], &good.replace("TCP", "ICMP")] {
            fs::write(&path, format!("{good}\n{bad}")).unwrap();
            let Err(Error::Damaged { offset, what, .. }) = read_sighted(&path) else { panic!("read {bad}") };
            assert_eq!(offset, good.len() as u64 + 1);
            assert!(what.starts_with("line 3: "), "{what}");
            assert!(!what.contains("line 1"), "{what}");
        }
        // Bytes that are no text, behind blank lines and a line that ends as on another system.
        let crlf = good.replace('\n', "\r\n");
        fs::write(&path, [b"\n \r\n\n", crlf.as_bytes(), b"\n{\"type\":\"\xFF\"}"].concat()).unwrap();
        let Err(Error::Damaged { what, .. }) = read_sighted(&path) else { panic!("read") };
        assert!(what.starts_with("line 6: no recorded socket: "), "{what}");
        assert!(matches!(read_sighted("/no/such/file"), Err(Error::Input { .. })));
        fs::write(&path, "\n\n").unwrap();
        assert_eq!(read_sighted(&path).unwrap(), []);
    }

    #[test]
    fn more_than_memory_has_room_for_is_refused() {
        let (_folder, path) = written(&[socket(), socket(), socket()]);
        let text = fs::read(path).unwrap();
        let one = size_of::<SightedSocket>();
        assert_eq!(read(text.as_slice(), 3 * one).ok().map(|sockets| sockets.len()), Some(3));
        let Err(Failure::Damaged { what, .. }) = read(text.as_slice(), 3 * one - 1) else { panic!("read") };
        assert!(what.starts_with("line 3: up to here it takes more than "), "{what}");
    }

    fn any_owner() -> impl Strategy<Value = Owner> {
        let names = (any::<String>(), of(any::<String>()), prop::collection::vec(any::<String>(), 0..3));
        let rest =
            (of(any::<String>()), of("[0-9a-f]{64}"), any::<[u32; 6]>(), any::<i64>(), any::<[u64; 3]>());
        let process =
            (names, rest).prop_map(|((name, exe, args), (user, container_id, ids, start, caps))| {
                let [pid, ppid, uid, euid, gid, shared] = ids;
                let [cap_inheritable, cap_permitted, cap_effective] = caps;
                let process = Process {
                    pid,
                    parent_name: exe.clone(),
                    name,
                    exe,
                    args,
                    started: Timestamp::from_nanos(start),
                    ppid,
                    credentials: Credentials {
                        uid,
                        euid,
                        gid,
                        egid: ppid,
                        auid: Some(uid).filter(|uid| uid % 2 == 0),
                        cap_inheritable,
                        cap_permitted,
                        cap_effective,
                    },
                    user,
                    container_id,
                };
                Owner::Process { process: Arc::new(process), shared }
            });
        let user = (any::<u32>(), of("[0-9a-f]{64}"));
        prop_oneof![
            process,
            user.prop_map(|(uid, container_id)| Owner::UidOnly { uid, container_id }),
            Just(Owner::NoProcess),
            Just(Owner::NotPermitted),
            Just(Owner::Ambiguous),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sockets_come_back(
            owner in of(any_owner()),
            local in any::<IpAddr>(),
            remote in of((any::<IpAddr>(), any::<u16>())),
            times in any::<[i64; 3]>(),
            asked in of(any::<[i64; 2]>()),
            numbers in any::<[u64; 2]>(),
        ) {
            let time = Timestamp::from_nanos;
            let socket = SightedSocket {
                netns: numbers[0],
                cookie: numbers[1],
                local: Endpoint { addr: local, port: Some(numbers[0] as u16) },
                remote: remote.map(|(addr, port)| Endpoint { addr, port: Some(port) }),
                is: SightedAs::ALL[numbers[1] as usize % SightedAs::ALL.len()],
                asked: asked.map(|times| time(times[0])),
                answered: asked.map(|times| time(times[1])),
                valid_from: time(times[0]),
                seen: time(times[1]),
                valid_to: Some(time(times[2])).filter(|_| times[2] % 2 == 0),
                owner,
                ..socket()
            };
            let (_folder, path) = written(std::slice::from_ref(&socket));
            prop_assert_eq!(read_sighted(&path).unwrap(), [socket]);
        }
    }
}
