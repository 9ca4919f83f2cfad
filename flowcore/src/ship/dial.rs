//! Connections opened: names resolved and hosts called, without waiting longer than patience lasts.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::patience::Patience;

/// Returns the addresses of a host.
///
/// # Errors
/// What the resolver says, or that there was no time.
pub(super) fn resolve(
    host: &str,
    port: u16,
    patience: &Patience,
    limit: Instant,
) -> io::Result<Vec<SocketAddr>> {
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

/// Connects to a socket of this machine.
///
/// # Errors
/// What the system says, or that there was no time.
pub(super) fn connect_unix(path: PathBuf, patience: &Patience, limit: Instant) -> io::Result<UnixStream> {
    aside(patience, limit, move || UnixStream::connect(path))
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
