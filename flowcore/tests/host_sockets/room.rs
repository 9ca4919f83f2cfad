//! A network namespace for a test, and the sockets in it.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flowcore::host::{KernelSockets, NetNamespace, Query, Socket, SocketKind};
use flowcore::key::{Endpoint, Proto};
use rustix::net::{AddressFamily, Protocol, SocketType, bind, connect, sockopt};

/// A network namespace with a loopback interface, removed when dropped.
pub struct Room {
    pub namespace: NetNamespace,
    name: String,
}

impl Room {
    /// Makes a namespace, or says loudly why it cannot, which is a failure with CI_REQUIRE_LIVE=1.
    pub fn open() -> Option<Room> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("flowcore-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made = run("ip", &["netns", "add", &name])
            .and_then(|()| {
                NetNamespace::open(format!("/run/netns/{name}")).map_err(|error| error.to_string())
            })
            .map(|namespace| Room { namespace, name });
        match made.and_then(|room| room.raise_loopback().map(|()| room)) {
            Ok(room) => Some(room),
            Err(why) => {
                assert!(
                    env::var_os("CI_REQUIRE_LIVE").is_none_or(|set| set != "1"),
                    "cannot test live: {why}"
                );
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED: no network namespace, this needs root and iproute2: {why}"
                );
                None
            }
        }
    }

    fn raise_loopback(&self) -> Result<(), String> {
        run("ip", &["-n", &self.name, "link", "set", "lo", "up"])
    }

    /// Does something inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> T {
        self.namespace.enter(work).expect("it works inside")
    }

    /// The sockets of this namespace, asked from outside.
    pub fn kernel(&self) -> KernelSockets {
        self.enter(KernelSockets::open)
    }

    /// A command that runs inside.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a Python program inside that prints a line and then waits for its end; returns the line.
    pub fn python(&self, program: &str) -> (String, Guest) {
        let program = format!("import socket, time\n{program}\ntime.sleep(600)");
        let mut child =
            self.run("python3", &["-uBc", &program]).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        (line.trim().to_owned(), Guest(child))
    }

    /// Opens sockets of every kind, and leaves a connection in TIME_WAIT.
    pub fn furnish(&self) -> Vec<OwnedFd> {
        self.enter(|| {
            fs::write("/proc/thread-self/root/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap_or_default();
            let mut held: Vec<OwnedFd> = Vec::new();
            for (bind, to) in [("127.0.0.1:80", "127.0.0.1"), ("[::]:8080", "127.0.0.1"), ("[::1]:22", "::1")]
            {
                let listener = TcpListener::bind(bind)?;
                let there = SocketAddr::new(address(to), listener.local_addr()?.port());
                for is_kept in [true, false] {
                    let near = TcpStream::connect(there)?;
                    let (far, _) = listener.accept()?;
                    if is_kept {
                        held.extend([near.into(), OwnedFd::from(far)]);
                    } else {
                        drop(near);
                        drop(far);
                    }
                }
                held.push(listener.into());
            }
            for bind in ["127.0.0.1:53", "0.0.0.0:67", "[::]:5353", "[::1]:546"] {
                held.push(UdpSocket::bind(bind)?.into());
            }
            for (bind, to) in [("127.0.0.1:0", "127.0.0.1:53"), ("[::1]:0", "[::1]:5353")] {
                let socket = UdpSocket::bind(bind)?;
                socket.connect(to)?;
                held.push(socket.into());
            }
            let (four, six) = (AddressFamily::INET, AddressFamily::INET6);
            for _ in 0..2 {
                let shared = open(four, SocketType::STREAM, 0)?;
                sockopt::set_socket_reuseport(&shared, true)?;
                bind_to(&shared, "127.0.0.1:9000")?;
                rustix::net::listen(&shared, 8)?;
                held.push(shared);
            }
            // A port that is only bound is no socket that anything can reach.
            held.push(open(four, SocketType::STREAM, 0)?);
            bind_to(&held[held.len() - 1], "127.0.0.1:9001")?;
            for (family, kind, proto, address) in [
                (four, SocketType::DGRAM, 136, "127.0.0.1:7000"),
                (six, SocketType::DGRAM, 136, "[::1]:7001"),
                (four, SocketType::RAW, 1, "0.0.0.0:0"),
                (four, SocketType::RAW, 89, "127.0.0.1:0"),
                (six, SocketType::RAW, 58, "[::1]:0"),
                (four, SocketType::DGRAM, 1, "127.0.0.1:77"),
                (six, SocketType::DGRAM, 58, "[::1]:78"),
            ] {
                let socket = open(family, kind, proto)?;
                bind_to(&socket, address)?;
                if proto == 89 {
                    connect(&socket, &SocketAddr::new(address_of("127.0.0.2:0"), 0))?;
                }
                held.push(socket);
            }
            Ok(held)
        })
    }

    /// The rows of `ss` for TCP, UDP and raw sockets.
    pub fn ss(&self) -> Vec<String> {
        let output = self.run("ss", &["-tuwanOHe"]).output().expect("ss runs");
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(read_ss).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
}

/// A program inside; it is killed when dropped.
pub struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says loudly that a test cannot be done here, which is a failure with CI_REQUIRE_LIVE=1.
pub fn skip(why: &str) {
    assert!(env::var_os("CI_REQUIRE_LIVE").is_none_or(|set| set != "1"), "cannot test live: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Opens a socket that std cannot.
pub fn open(family: AddressFamily, kind: SocketType, proto: u32) -> io::Result<OwnedFd> {
    let proto = proto.try_into().ok().map(Protocol::from_raw);
    Ok(rustix::net::socket(family, kind, proto)?)
}

pub fn bind_to(socket: &OwnedFd, to: &str) -> io::Result<()> {
    Ok(bind(socket, &to.parse::<SocketAddr>().expect("an address"))?)
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn address_of(text: &str) -> IpAddr {
    text.parse::<SocketAddr>().expect("an address").ip()
}

pub fn inode(socket: &impl AsRawFd) -> u64 {
    fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("an open file").ino()
}

pub fn cookie(socket: &impl AsFd) -> u64 {
    sockopt::socket_cookie(socket).expect("a cookie")
}

pub fn end(address: SocketAddr) -> Endpoint {
    Endpoint { addr: address.ip(), port: Some(address.port()) }
}

/// The address as a packet has it.
pub fn as_in_packets(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A remote end that talks to nobody here.
pub fn stranger(here: SocketAddr) -> SocketAddr {
    SocketAddr::new(if here.is_ipv4() { address("127.7.7.7") } else { address("::1") }, 7)
}

/// A question of a packet that was seen on the loopback interface.
pub fn query(proto: Proto, local: SocketAddr, remote: SocketAddr) -> Query {
    Query { proto, local: end(local), remote: end(remote), interface: 1 }
}

/// A line of `ss`: kind, state, ends, inode and cookie; of raw sockets it does not tell the last two.
fn read_ss(line: &str) -> String {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let [kind, state, _, _, local, remote, rest @ ..] = columns.as_slice() else { panic!("{line}") };
    let find = |name| rest.iter().find_map(|word| word.strip_prefix(name)).unwrap_or("-");
    let is_any = |end: &str| matches!(end, "*:*" | "0.0.0.0:*" | "[::]:*");
    let plain = |end: &str| end.replace(['[', ']'], "").replace("*:", ":::");
    let remote = if is_any(remote) { "-".to_owned() } else { plain(remote) };
    format!("{kind} {state} {} {remote} {} {}", plain(local), find("ino:"), find("sk:"))
}

/// Writes a socket as [`read_ss`] does; none for the kinds that it does not list.
pub fn as_ss(socket: &Socket) -> Option<String> {
    let (kind, proto) = match socket.kind {
        SocketKind::Tcp => ("tcp", None),
        SocketKind::Udp => ("udp", None),
        SocketKind::Raw(proto) => ("raw", Some(proto.0.into())),
        _ => return None,
    };
    let state = match socket.state.name() {
        "ESTABLISHED" => "ESTAB".to_owned(),
        name => name.replace('_', "-").replace("FIN-WAIT", "FIN-WAIT-"),
    };
    let end = |end: Endpoint, other: &str| match end.port.or(proto.filter(|_| other.is_empty())) {
        Some(port) => format!("{}:{port}", end.addr),
        None => format!("{}:{other}", end.addr),
    };
    let remote = socket.remote.map_or("-".to_owned(), |remote| end(remote, "*"));
    let (inode, cookie) = match proto {
        None => (socket.inode.to_string(), format!("{:x}", socket.cookie)),
        Some(_) => ("-".to_owned(), "-".to_owned()),
    };
    Some(format!("{kind} {state} {} {remote} {inode} {cookie}", end(socket.local, "")))
}

/// Waits a moment, so that what is under way on the loopback interface has come.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(100));
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
