//! Connections opened: names resolved and hosts called, without waiting longer than patience lasts.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::destination::Destination;
use super::patience::Patience;

/// Returns the addresses of a destination.
///
/// # Errors
/// What the resolver says, or that there was no time; [`InvalidInput`](io::ErrorKind::InvalidInput) where records would
/// leave this machine in the clear, unless that is allowed.
pub(super) fn resolve(
    destination: &Destination,
    allow_plaintext: bool,
    patience: &Patience,
    limit: Instant,
) -> io::Result<Vec<SocketAddr>> {
    let host = &destination.host;
    let found = addresses(host, destination.port, patience, limit)?;
    if destination.scheme.is_in_the_clear()
        && !allow_plaintext
        && let Some(other) = found.iter().find(|address| !address.ip().is_loopback())
    {
        let what = format!("{host} is {}, another machine: allow_plaintext is not set", other.ip());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(found)
}

fn addresses(host: &str, port: u16, patience: &Patience, limit: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    let found = aside(patience, limit, move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    match found {
        Ok(found) if found.is_empty() => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(io::Error::new(error.kind(), format!("resolving {host}: {error}"))),
    }
}

/// Connects to the first of the addresses that answers; each has an equal share of the time that is left.
///
/// # Errors
/// What the last address said, or that there was no time.
pub(super) fn connect(
    addresses: &[SocketAddr],
    patience: &Patience,
    limit: Instant,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for (at, &address) in addresses.iter().enumerate() {
        let left = limit.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = share.max(Duration::from_millis(10));
        match aside(patience, Instant::now() + share, move || TcpStream::connect_timeout(&address, share)) {
            Ok(stream) => {
                notice_the_dead(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("connecting to {address}: {error}")),
        }
    }
    Err(last)
}

/// Connects to a socket of this machine, at once or not at all.
///
/// # Errors
/// What the system says; [`WouldBlock`](io::ErrorKind::WouldBlock) where so many wait to be accepted that one more
/// would wait without end.
pub(super) fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    match net::connect(&stream, &address) {
        Err(Errno::AGAIN) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "the server accepts no connections"))
        }
        connected => {
            connected?;
            stream.set_nonblocking(false)?;
            Ok(stream)
        }
    }
}

/// Sets that small writes leave at once, and that a peer which is no longer there is noticed.
fn notice_the_dead(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        use rustix::net::sockopt;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
        sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
    }
    Ok(())
}

/// Does what may block in a thread of its own, which is left behind when the time is over: neither resolving nor
/// connecting can be interrupted, but both end by themselves.
fn aside<T: Send + 'static>(
    patience: &Patience,
    limit: Instant,
    what: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (to, from) = mpsc::sync_channel(1);
    let since = Instant::now();
    let waiting = thread::Builder::new().name("dial".to_owned());
    waiting.spawn(move || {
        let _ = to.send(what());
    })?;
    loop {
        match from.recv_timeout(patience.slice(since, limit)?) {
            Ok(done) => return done,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread that connects is gone"));
            }
        }
    }
}

/// After so many milliseconds without an acknowledgement of what was sent, a connection is closed by the kernel.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// Programs that are started do not get the sockets.
#[cfg(target_os = "linux")]
const FLAGS: SocketFlags = SocketFlags::CLOEXEC;
#[cfg(not(target_os = "linux"))]
const FLAGS: SocketFlags = SocketFlags::empty();

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_accepts_nobody_is_left_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ear");
        let listener = UnixListener::bind(&path).unwrap();
        // Room for one that waits.
        net::listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match connect_unix(&path) {
                Ok(stream) if waiting.len() < 100 => waiting.push(stream),
                outcome => break outcome.unwrap_err(),
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(!waiting.is_empty());
        listener.accept().unwrap();
        connect_unix(&path).unwrap();
        drop(listener);
        assert_eq!(connect_unix(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
