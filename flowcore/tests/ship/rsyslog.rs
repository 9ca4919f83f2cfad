//! A real rsyslog takes the messages, over UDP, TCP and TLS.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flowcore::ship::ShipOptions;

use crate::backlog::{Memory, Running, quick};
use crate::certificates::Authority;

/// An rsyslog of this test's own, in the foreground, on ports of loopback.
struct Rsyslog {
    child: Child,
    folder: tempfile::TempDir,
    udp: u16,
    tcp: u16,
    tls: u16,
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Rsyslog {
    /// Starts one, or says loudly why not.
    fn start(authority: &Authority) -> Option<Rsyslog> {
        let driver =
            ["/usr/lib", "/usr/lib64"].iter().find_map(|folder| find(Path::new(folder), "lmnsd_gtls.so", 3));
        let program =
            ["/usr/sbin/rsyslogd", "/usr/bin/rsyslogd"].into_iter().find(|path| Path::new(path).exists());
        let (Some(program), Some(_)) = (program, driver) else {
            assert!(
                std::env::var_os("CI_REQUIRE_LIVE").is_none(),
                "rsyslogd and rsyslog-gnutls are not installed"
            );
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: no rsyslogd with its GnuTLS driver (apt-get install rsyslog rsyslog-gnutls)"
            );
            return None;
        };
        let server = authority.certificate("localhost");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (udp, tcp, tls) = (free_udp(), free_tcp(), free_tcp());
        let config = format!(
            r#"
            global(workDirectory="{work}" maxMessageSize="64k"
                   defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{ca}"
                   defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
            module(load="imudp")
            module(load="imtcp")
            template(name="json" type="string" string="%app-name% %msgid% %structured-data%\t%msg%\n")
            ruleset(name="udp") {{ action(type="omfile" file="{udp_file}" template="json") }}
            ruleset(name="tcp") {{ action(type="omfile" file="{tcp_file}" template="json") }}
            ruleset(name="tls") {{ action(type="omfile" file="{tls_file}" template="json") }}
            input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="udp" rcvbufSize="1m")
            input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="tcp" supportOctetCountedFraming="on")
            input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="tls" supportOctetCountedFraming="on"
                  streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
            "#,
            work = folder.path().display(),
            ca = authority.file().display(),
            certificate = server.certificate.display(),
            key = server.key.display(),
            udp_file = path("udp"),
            tcp_file = path("tcp"),
            tls_file = path("tls"),
        );
        fs::write(path("rsyslog.conf"), config).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let child = Command::new(program)
            .args(["-n", "-f", &path("rsyslog.conf"), "-i", &path("pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut rsyslog = Rsyslog { child, folder, udp, tcp, tls };
        let end = Instant::now() + Duration::from_secs(20);
        while [tcp, tls].iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
            let log = fs::read_to_string(rsyslog.folder.path().join("log")).unwrap();
            assert!(rsyslog.child.try_wait().unwrap().is_none(), "rsyslogd ended: {log}");
            assert!(Instant::now() < end, "rsyslogd does not listen: {log}");
            thread::sleep(Duration::from_millis(50));
        }
        Some(rsyslog)
    }

    /// Waits until a file has the numbers 0 to `count`, and checks each line.
    fn has(&self, name: &str, count: u64) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let seqs: BTreeSet<u64> =
                text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(check).collect();
            if seqs.iter().copied().eq(0..count) {
                return;
            }
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(Instant::now() < end, "{name}: {} of {count}: {log}", seqs.len());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn rsyslog_writes_the_records_as_they_were() {
    let authority = Authority::new();
    let Some(rsyslog) = Rsyslog::start(&authority) else { return };
    let options = ShipOptions { ca_file: Some(authority.file()), ..quick() };
    for (to, name) in [
        (format!("syslog://127.0.0.1:{}", rsyslog.udp), "udp"),
        (format!("syslog+tcp://127.0.0.1:{}", rsyslog.tcp), "tcp"),
        (format!("syslog+tls://localhost:{}", rsyslog.tls), "tls"),
    ] {
        let memory = Memory::default();
        memory.add(0, 500);
        let counts = Running::start(&to, &options, &memory).sent(500);
        assert_eq!((counts.records, counts.refused, counts.retries), (500, 0, 0), "{to} {counts:?}");
        rsyslog.has(name, 500);
    }
}

/// Checks that a line is what was sent, byte by byte, and returns its number.
fn check(line: &str) -> u64 {
    let (head, json) = line.split_once('\t').unwrap();
    // rsyslog keeps the blank before the message with it, as RFC 3164 had it.
    let json = json.trim_start();
    let value: serde_json::Value =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let seq = value["seq"].as_u64().unwrap();
    assert_eq!(json.as_bytes(), crate::backlog::line(seq, 120));
    assert_eq!(head, format!("flowcap flow [flowcap@32473 instance=\"5eed\" seq=\"{seq}\"]"));
    seq
}

fn free_tcp() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_udp() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn find(folder: &Path, name: &str, depth: usize) -> Option<std::path::PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    if let Some(found) = paths.iter().find(|path| path.file_name().is_some_and(|file| file == name)) {
        return Some(found.clone());
    }
    let folders = paths.iter().filter(|path| depth > 0 && path.is_dir() && !path.is_symlink());
    folders.into_iter().find_map(|path| find(path, name, depth - 1))
}
