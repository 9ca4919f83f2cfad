//! An HTTP server with every bad habit, one after the other.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Habit {
    /// Reads it and says this.
    Say(String),
    /// Reads it, says this and closes.
    Cut(String),
    /// Reads it, says this and nothing more, and keeps the connection.
    Hang(String),
    /// Reads some of it and closes.
    CloseMidBody,
    /// Reads it very slowly, then says 200.
    Slow,
    /// Reads it, says 200 and goes on talking without end.
    Endless,
    /// Closes before it reads anything.
    Close,
    /// Says this before it reads the body, and closes.
    Early(String),
    /// Says 413 to more than so many lines, else 200.
    AtMost(usize),
    /// Says 400 to what has one of these numbers in it, else 200.
    Dislike(Vec<u64>),
    /// Says 401 to all but this Authorization, and repeats what it was sent.
    Authorize(String),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    /// The body, uncompressed.
    pub lines: Vec<String>,
    /// What was said, 0 for nothing.
    pub status: u16,
}

/// A server that runs until the test ends.
pub struct Server {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    habits: VecDeque<Habit>,
    /// What it does when there are no habits left.
    last: Option<Habit>,
    requests: Vec<Request>,
    connections: usize,
    /// What reading the connections failed with.
    failures: Vec<String>,
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

impl Server {
    /// Starts one that has these habits, each for one request, and then is good.
    pub fn start(habits: impl IntoIterator<Item = Habit>) -> Server {
        Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), None, habits)
    }

    /// Starts one that speaks TLS.
    pub fn with_tls(config: Arc<ServerConfig>, habits: impl IntoIterator<Item = Habit>) -> Server {
        Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), habits)
    }

    pub fn on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        habits: impl IntoIterator<Item = Habit>,
    ) -> Server {
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { habits: habits.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                thread::spawn(move || {
                    if let Err(error) = serve(stream.unwrap(), tls, &state) {
                        state.lock().unwrap().failures.push(error.to_string());
                    }
                });
            }
        });
        Server { port, state }
    }

    /// Sets what it does with all further requests.
    pub fn always(self, habit: Habit) -> Server {
        self.state.lock().unwrap().last = Some(habit);
        self
    }

    pub fn change(&self, habit: Option<Habit>) {
        self.state.lock().unwrap().last = habit;
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/flows?x=1", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Returns the requests since the last call, and forgets them.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub fn failures(&self) -> Vec<String> {
        self.state.lock().unwrap().failures.clone()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, state: &Mutex<State>) -> io::Result<()> {
    state.lock().unwrap().connections += 1;
    let mut duplex: Box<dyn Duplex> = match tls {
        Some(config) => {
            let session = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut owned = StreamOwned::new(session, stream);
            owned.conn.complete_io(&mut owned.sock)?;
            Box::new(owned)
        }
        None => Box::new(stream),
    };
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if duplex.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let habit = {
            let mut state = state.lock().unwrap();
            state.habits.pop_front().or(state.last.clone()).unwrap_or(Habit::Say(OK.to_owned()))
        };
        if !answer(&mut *duplex, head, habit, state)? {
            return Ok(());
        }
    }
}

/// Answers one request; returns whether another may follow.
fn answer(duplex: &mut dyn Duplex, head: String, habit: Habit, state: &Mutex<State>) -> io::Result<bool> {
    let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    match &habit {
        Habit::Close => return Ok(false),
        Habit::Early(text) => {
            duplex.write_all(text.as_bytes())?;
            return Ok(false);
        }
        Habit::CloseMidBody => {
            duplex.read_exact(&mut body[..length / 2])?;
            return Ok(false);
        }
        Habit::Slow => {
            for piece in body.chunks_mut(length.div_ceil(20)) {
                thread::sleep(Duration::from_millis(20));
                duplex.read_exact(piece)?;
            }
        }
        _ => duplex.read_exact(&mut body)?,
    }
    let body = match header(&head, "content-encoding").as_deref() {
        Some("gzip") => {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
            plain
        }
        _ => body,
    };
    let lines: Vec<String> = String::from_utf8(body).unwrap().lines().map(str::to_owned).collect();
    let says = |seq: &u64| lines.iter().any(|line| line.ends_with(&format!("\"seq\":{seq}}}")));
    let (said, goes_on, stays) = match &habit {
        Habit::Say(text) => (text.clone(), true, false),
        Habit::Cut(text) => (text.clone(), false, false),
        Habit::Hang(text) => (text.clone(), false, true),
        Habit::AtMost(most) if lines.len() > *most => (status(413, ""), true, false),
        Habit::Dislike(bad) if bad.iter().any(says) => (status(400, "one of them is bad"), true, false),
        Habit::Authorize(wanted) if header(&head, "authorization").as_ref() != Some(wanted) => {
            (status(401, &format!("not {:?}", header(&head, "authorization"))), true, false)
        }
        Habit::Endless => ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), false, false),
        _ => (OK.to_owned(), true, false),
    };
    let code = said.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    state.lock().unwrap().requests.push(Request { head, lines, status: code });
    duplex.write_all(said.as_bytes())?;
    duplex.flush()?;
    if matches!(habit, Habit::Endless) {
        // Ends when the other side has had enough.
        let chatter = [b'x'; 4096];
        let mut said = 0;
        while duplex.write_all(&chatter).is_ok() {
            said += chatter.len();
            assert!(said < 64 << 20, "the client listens to everything");
        }
    }
    if stays {
        let mut rest = [0; 1024];
        while duplex.read(&mut rest)? > 0 {}
    }
    Ok(goes_on)
}

/// Returns an answer with that status.
pub fn status(code: u16, body: &str) -> String {
    format!("HTTP/1.1 {code} Said\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
