//! TLS: who is trusted and who is not.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use flowcore::Error;
use flowcore::ship::{self, Destination, ShipOptions};

use crate::backlog::{Memory, Running, quick};
use crate::certificates::Authority;
use crate::server::{Habit, Server, status};

fn trusting(authority: &Authority) -> ShipOptions {
    ShipOptions { ca_file: Some(authority.file()), ..quick() }
}

/// Sends to a server and checks that it gets nothing, and what is said about it.
fn is_refused(url: &str, options: &ShipOptions, words: &[&str]) {
    let memory = Memory::default();
    memory.add(0, 10);
    let running = Running::start(url, options, &memory);
    running.until("two tries", |counts| counts.retries >= 2);
    let log = running.log_text();
    assert!(words.iter().any(|word| log.contains(word)), "{log}");
    let counts = running.stop();
    assert_eq!((counts.records, counts.refused, memory.len()), (0, 0, 10));
    let error = ship::check(&Destination::parse(url).unwrap(), options).unwrap_err().to_string();
    assert!(words.iter().any(|word| error.contains(word)), "{error}");
}

#[test]
fn a_good_certificate_is_taken_and_its_connection_kept() {
    let authority = Authority::new();
    let server = Server::with_tls(
        authority.server(&authority.certificate("localhost"), false),
        [Habit::Say(status(500, ""))],
    );
    let memory = Memory::default();
    memory.add(0, 30);
    let url = format!("https://localhost:{}/flows", server.port);
    let counts = Running::start(&url, &trusting(&authority), &memory).finish();
    assert_eq!((counts.records, counts.retries), (30, 1));
    assert_eq!(server.connections(), 1, "{:?}", server.failures());
    assert!(server.accepted().keys().copied().eq(0..30));
    let found = ship::check(&Destination::parse(&url).unwrap(), &trusting(&authority)).unwrap();
    assert!(found.contains("TLS 1.3, certificate verified"), "{found}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.server(&authority.certificate("other.example"), false), []);
    let url = format!("https://localhost:{}/", server.port);
    is_refused(&url, &trusting(&authority), &["not valid for name"]);
    assert!(server.requests().is_empty());
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.server(&authority.expired("localhost"), false), []);
    is_refused(&format!("https://localhost:{}/", server.port), &trusting(&authority), &["expired"]);
    assert!(server.requests().is_empty());
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let (unknown, known) = (Authority::new(), Authority::new());
    let server = Server::with_tls(unknown.server(&unknown.certificate("localhost"), false), []);
    let url = format!("https://localhost:{}/", server.port);
    is_refused(&url, &trusting(&known), &["UnknownIssuer", "BadSignature"]);
    // Not by the system's authorities either, where it has some.
    is_refused(&url, &quick(), &["UnknownIssuer", "no certificate authorities"]);
    is_refused(
        url.replace("https", "tls").trim_end_matches('/'),
        &trusting(&known),
        &["UnknownIssuer", "BadSignature"],
    );
    assert!(server.requests().is_empty());
}

#[test]
fn tls_before_1_2_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut hello = [0; 4096];
            if stream.read(&mut hello).unwrap_or(0) > 0 {
                // A ServerHello of TLS 1.1: version, random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
                let mut answer = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
                answer.extend_from_slice(&[7; 32]);
                answer.extend_from_slice(&[0, 0, 0x2f, 0]);
                let _ = stream.write_all(&answer);
                let _ = stream.read(&mut hello);
            }
        }
    });
    let authority = Authority::new();
    is_refused(
        &format!("https://localhost:{port}/"),
        &trusting(&authority),
        &["Tls12", "peer is incompatible"],
    );
}

#[test]
fn a_server_that_speaks_no_tls_is_refused() {
    let server = Server::start([]);
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    is_refused(&format!("https://localhost:{port}/"), &trusting(&authority), &["TLS handshake"]);
    assert!(server.requests().is_empty());
}

#[test]
fn a_server_that_wants_a_certificate_gets_one() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.server(&authority.certificate("localhost"), true), []);
    let url = format!("https://localhost:{}/", server.port);
    is_refused(&url, &trusting(&authority), &["CertificateRequired", "Connection reset"]);
    let client = authority.certificate("sensor.example");
    let options = ShipOptions {
        client_cert: Some(client.certificate.clone()),
        client_key: Some(client.key.clone()),
        ..trusting(&authority)
    };
    let memory = Memory::default();
    memory.add(0, 30);
    assert_eq!(Running::start(&url, &options, &memory).finish().records, 30);
    assert!(server.accepted().keys().copied().eq(0..30));
    ship::check(&Destination::parse(&url).unwrap(), &options).unwrap();
}

#[test]
fn files_that_are_wrong_are_named_and_may_be_mended() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.server(&authority.certificate("localhost"), false), []);
    let url = format!("https://localhost:{}/", server.port);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let options = ShipOptions { ca_file: Some(ca.clone()), ..quick() };
    is_refused(&url, &options, &["ca.pem"]);
    fs::write(&ca, "no certificate").unwrap();
    is_refused(&url, &options, &["ca.pem: no certificate in it"]);
    let memory = Memory::default();
    memory.add(0, 10);
    let running = Running::start(&url, &options, &memory);
    running.until("a try", |counts| counts.retries >= 1);
    fs::copy(authority.file(), &ca).unwrap();
    assert_eq!(running.finish().records, 10);
}

#[test]
fn options_go_together() {
    let https = Destination::parse("https://localhost/").unwrap();
    let half = ShipOptions { client_cert: Some("x".into()), ..quick() };
    assert!(matches!(ship::check(&https, &half), Err(Error::Option(_))));
    let zero: Result<flowcore::ship::BatchLimits, _> = "0".parse();
    assert!(zero.is_err());
}

#[test]
fn checking_says_what_is_wrong_and_sends_nothing() {
    let check = |text: &str| ship::check(&Destination::parse(text).unwrap(), &quick());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert!(matches!(check(&format!("http://127.0.0.1:{port}/")), Err(Error::Output { .. })));
    assert!(matches!(check(&format!("tcp://127.0.0.1:{port}")), Err(Error::Output { .. })));
    assert!(matches!(check("unix:///nowhere/at/all"), Err(Error::Output { .. })));
    assert!(matches!(check("tls://nowhere.invalid:1"), Err(Error::Output { .. })));
    assert!(check(&format!("syslog://127.0.0.1:{port}")).unwrap().contains("UDP"));
    let server = Server::start([]);
    assert!(check(&server.url()).unwrap().contains("connected, 127.0.0.1:"));
    assert!(server.requests().is_empty());
    let without_token = ShipOptions { token_file: Some("/nowhere/token".into()), ..quick() };
    let error = ship::check(&Destination::parse(&server.url()).unwrap(), &without_token).unwrap_err();
    assert!(error.to_string().contains("/nowhere/token"));
}
