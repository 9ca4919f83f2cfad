//! Batches by HTTP: a POST each, over a connection that is kept.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{Response, header};

use super::destination::Destination;
use super::options::ShipOptions;
use super::patience::Patience;
use super::status;
use super::tls::TlsFiles;
use super::token::Token;
use super::transport::Dialler;
use super::{Batch, SendError, Sender, Sent};
use crate::error::Error;

/// Sends each batch as the body of a POST.
pub(super) struct HttpSender {
    agent: Agent,
    url: String,
    options: ShipOptions,
    /// The status of an answer with more fields in its head than are read; 0 for others.
    long_head: Arc<AtomicU16>,
}

impl HttpSender {
    pub(super) fn new(
        destination: &Destination,
        options: &ShipOptions,
        patience: Patience,
    ) -> Result<Self, Error> {
        let config = Config::builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("flowcap/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .max_response_header_size(LONGEST_ANSWER)
            .max_idle_connections(1)
            .max_idle_age(IDLE)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_send_request(Some(options.silence_timeout))
            .timeout_send_body(Some(options.silence_timeout * 2))
            .timeout_recv_response(Some(options.silence_timeout))
            .timeout_recv_body(Some(options.silence_timeout))
            .build();
        let dialler = Dialler {
            destination: destination.clone(),
            tls: TlsFiles::of(options),
            patience,
            allow_plaintext: options.allow_plaintext,
            long_head: Arc::default(),
        };
        let long_head = Arc::clone(&dialler.long_head);
        let agent = Agent::with_parts(config, dialler.clone(), dialler);
        Ok(HttpSender { agent, url: destination.url(), options: options.clone(), long_head })
    }

    fn post(&self, batch: &Batch, token: Option<&Token>) -> Result<Sent, SendError> {
        let mut request = self
            .agent
            .post(&self.url)
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .header("Flowcap-First-Seq", batch.first_seq.to_string())
            .header("Flowcap-Last-Seq", batch.last_seq.to_string());
        if let Some(instance) = batch.instance() {
            request = request.header("Flowcap-Instance", instance);
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        let body = match self.options.gzip {
            true => {
                request = request.header(header::CONTENT_ENCODING, "gzip");
                &gzip(&batch.lines).map_err(|error| SendError::of_io(&error))?
            }
            false => &batch.lines,
        };
        self.long_head.store(0, Ordering::Relaxed);
        let sent = Sent { bytes: body.len() as u64, refused: 0 };
        let mut answer = match (request.send(body.as_slice()), self.long_head.load(Ordering::Relaxed)) {
            (Ok(answer), _) => answer,
            // Its status says all that has to be known; to ask again would bring the same answer.
            (Err(ureq::Error::Protocol(_)), status) if status != 0 => {
                let what = format!("status {status}, with more fields than are read");
                return status::verdict(status, what, None).map(|()| sent);
            }
            (Err(error), _) => return Err(self.trouble(error)),
        };
        let status = answer.status().as_u16();
        let after = header_text(&answer, header::RETRY_AFTER.as_str());
        let after = after.and_then(|value| status::retry_after(value, SystemTime::now()));
        let text = read_answer(&mut answer);
        let shown = String::from_utf8_lossy(text.as_deref().unwrap_or_default());
        // A server may repeat what it was sent.
        let what = describe(status, &token.map_or(shown.to_string(), |token| token.strike(&shown)));
        status::verdict(status, what, after)?;
        // The server has it, but who knows what broke there in the middle of a sentence.
        text.map_err(|error| {
            SendError::retry(format!("status {status}, but the answer broke off: {error}"))
        })?;
        Ok(sent)
    }

    fn trouble(&self, error: ureq::Error) -> SendError {
        match error {
            ureq::Error::Io(error) => SendError::of_io(&error),
            ureq::Error::Timeout(what) => SendError::retry(format!("no answer in time ({what})")),
            ureq::Error::Protocol(error) => SendError::retry(format!("not HTTP: {error}")),
            error => SendError::retry(error.to_string()),
        }
    }
}

impl Sender for HttpSender {
    fn send(&mut self, batch: &Batch) -> Result<Sent, SendError> {
        let token =
            self.options.token_file.as_deref().map(Token::read).transpose().map_err(SendError::Settings)?;
        self.post(batch, token.as_ref())
    }
}

fn gzip(lines: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::new(3));
    encoder.write_all(lines)?;
    encoder.finish()
}

fn header_text<'a>(answer: &'a Response<ureq::Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Reads the answer up to a limit; a longer one ends the connection.
fn read_answer(answer: &mut Response<ureq::Body>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    answer.body_mut().as_reader().take(LONGEST_ANSWER as u64).read_to_end(&mut text)?;
    Ok(text)
}

/// Puts an answer into one line for a log: nothing in it can move a cursor or begin another line.
fn describe(status: u16, body: &str) -> String {
    let shown = body.trim().chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c });
    match body.trim().is_empty() {
        true => format!("status {status}"),
        false => format!("status {status}: {}", shown.collect::<String>()),
    }
}

/// The most bytes of an answer that are read.
const LONGEST_ANSWER: usize = 64 << 10;
/// The most characters of an answer that are shown.
const SHOWN: usize = 200;
/// How long a connection without use is kept.
const IDLE: Duration = Duration::from_secs(55);
