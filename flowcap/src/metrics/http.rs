//! As much of HTTP as a collector of metrics speaks: one request a connection, without a body.
//!
//! Whoever connects has few seconds of one of few threads, so that nobody takes descriptors or threads from a capture.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What was asked for.
pub(super) struct Request {
    /// `GET` and the like.
    pub(super) method: String,
    /// Without what follows a question mark.
    pub(super) path: String,
    /// What the other end understands; empty where it does not say.
    pub(super) accept: String,
}

/// What is answered.
pub(super) struct Answer {
    /// Code and reason.
    pub(super) status: &'static str,
    /// The type of the body.
    pub(super) kind: &'static str,
    /// The body.
    pub(super) body: String,
}

/// Answers until it is dropped.
pub(super) struct Server {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to answer who connects to a listener that does not block.
    pub(super) fn start(
        listener: TcpListener,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (is_over, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let over = is_over.clone();
        let thread = thread::Builder::new().name("metrics".into()).spawn(move || {
            let busy = Arc::new(AtomicUsize::new(0));
            while !over.load(Ordering::Relaxed) {
                let stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        wait(&listener);
                        continue;
                    }
                    // It may be that there are no descriptors left.
                    Err(_) => {
                        thread::sleep(Duration::from_millis(200));
                        continue;
                    }
                };
                // One too many is let go; who collects comes again.
                if busy.load(Ordering::Relaxed) >= AT_ONCE {
                    continue;
                }
                busy.fetch_add(1, Ordering::Relaxed);
                let (answer, done) = (answer.clone(), Done(busy.clone()));
                // Without a thread it is let go as well.
                let _ = thread::Builder::new().name("metrics".into()).spawn(move || {
                    let _done = done;
                    let _ = respond(stream, &*answer);
                });
            }
        })?;
        Ok(Server { is_over, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Makes room for another one.
struct Done(Arc<AtomicUsize>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits until somebody connects, or for a moment.
fn wait(listener: &TcpListener) {
    let moment = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    if poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&moment)).is_err() {
        thread::sleep(Duration::from_millis(200));
    }
}

fn respond(mut stream: TcpStream, answer: impl Fn(&Request) -> Answer) -> io::Result<()> {
    // What Linux accepts does block, and a sandbox lets nobody change that.
    #[cfg(not(target_os = "linux"))]
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Answer { status, kind, body } = match read_head(&mut stream)? {
        Some(request) if matches!(request.method.as_str(), "GET" | "HEAD") => {
            let answer = answer(&request);
            let length = answer.body.len();
            let body = if request.method == "HEAD" { String::new() } else { answer.body };
            return write(&mut stream, answer.status, answer.kind, length, &body);
        }
        Some(_) => Answer { status: "405 Method Not Allowed", kind: PLAIN, body: "GET only\n".to_owned() },
        None => Answer { status: "400 Bad Request", kind: PLAIN, body: "what was that?\n".to_owned() },
    };
    write(&mut stream, status, kind, body.len(), &body)
}

/// Reads up to the empty line; none of what is no request, or too long.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let (end, mut head, mut part) = (Instant::now() + PATIENCE, Vec::new(), [0; 1024]);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => head.extend(part.iter().take(length)),
        }
        if head.len() > LONGEST {
            return Ok(None);
        }
    }
    Ok(parse(&String::from_utf8_lossy(&head)))
}

fn parse(head: &str) -> Option<Request> {
    let (mut lines, mut accept) = (head.split("\r\n"), String::new());
    let mut words = lines.next()?.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("accept") {
            accept.push_str(value);
            accept.push(',');
        }
    }
    let path = path.split('?').next().unwrap_or_default();
    Some(Request { method: method.to_owned(), path: path.to_owned(), accept })
}

fn write(stream: &mut TcpStream, status: &str, kind: &str, length: usize, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// Who is answered at the same time.
const AT_ONCE: usize = 8;
/// How long a request, and its answer, may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest head of a request.
const LONGEST: usize = 16 * 1024;
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let head = "GET /metrics?a=b HTTP/1.1\r\nHost: x\r\nACCEPT: text/plain\r\naccept: a/b;q=0.5\r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/metrics"));
        assert_eq!(request.accept, " text/plain, a/b;q=0.5,");
        for wrong in ["", "GET\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET / x HTTP/1.1\r\n\r\n", "\0\r\n\r\n"] {
            assert!(parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn who_only_connects_takes_nothing_from_others_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let answer = |request: &Request| Answer { status: "200 OK", kind: PLAIN, body: request.path.clone() };
        let server = Server::start(listener, answer).unwrap();
        let ask = |request: &[u8]| {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(request)?;
            let mut said = String::new();
            stream.read_to_string(&mut said).map(|_| said)
        };
        let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        // All but a few were let go; these are, too, after a while.
        let deadline = Instant::now() + 20 * PATIENCE;
        while !ask(b"GET /x HTTP/1.1\r\n\r\n").is_ok_and(|said| said.ends_with("\r\n\r\n/x")) {
            assert!(Instant::now() < deadline, "nobody is answered any more");
        }
        drop(silent);
        // All of it is read: what is left unread would have the kernel cut the answer.
        let long = [b"GET / HTTP/1.1\r\n".as_slice(), &[b'a'; LONGEST + 1]].concat();
        let long = &long[..=LONGEST];
        assert!(ask(long).is_ok_and(|said| said.starts_with("HTTP/1.1 400")));
        let head = ask(b"HEAD /abc HTTP/1.0\r\n\r\n").unwrap();
        assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        drop(server);
        assert!(TcpStream::connect(address).is_err(), "it has ended");
    }
}
