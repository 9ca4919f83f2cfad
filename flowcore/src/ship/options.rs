//! How a server is to be served.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;

/// How records are sent to a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShipOptions {
    /// A file with the bearer token for HTTP; read before every request, so that it may change.
    pub token_file: Option<PathBuf>,
    /// A PEM file with the only authorities that are trusted, in place of the system's; read at each new connection.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate that this client shows, and those above it; read at each new connection.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with the private key of that certificate.
    pub client_key: Option<PathBuf>,
    /// When a batch is full.
    pub batch: BatchLimits,
    /// Lets what has no TLS go to other machines too, in the clear.
    pub allow_plaintext: bool,
    /// Compresses what HTTP sends.
    pub gzip: bool,
    /// How long resolving, connecting and a TLS handshake may take together.
    pub connect_timeout: Duration,
    /// How long a server may neither read nor answer.
    pub silence_timeout: Duration,
    /// The first wait after a failure; it doubles from one to the next.
    pub first_wait: Duration,
    /// The longest wait between two tries.
    pub longest_wait: Duration,
    /// The longest that a server's Retry-After is followed.
    pub longest_retry_after: Duration,
    /// How often a batch that a server calls bad is sent whole before it is taken apart and what is bad set aside.
    pub tries: u32,
    /// How long after a request to stop what waits is still sent, as long as it goes.
    pub drain: Duration,
    /// The HOSTNAME of syslog messages; without one, what the kernel calls this machine.
    pub hostname: Option<String>,
    /// The PRI of syslog messages: facility × 8 + severity.
    pub priority: u8,
}

/// When a batch is sent: as soon as one of these is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    /// The most lines in it.
    pub records: u64,
    /// The most bytes of lines in it, uncompressed; one line that is longer goes alone.
    pub bytes: usize,
    /// How long a record waits for others.
    pub time: Duration,
}

impl ShipOptions {
    /// Checks what can be checked without opening anything.
    ///
    /// # Errors
    /// [`Error::Option`] for a certificate without its key or the other way round, and for limits of 0.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::Option(what.to_owned()));
        if self.client_cert.is_some() != self.client_key.is_some() {
            return wrong("client_cert and client_key need each other");
        }
        if self.batch.records == 0 || self.batch.bytes == 0 {
            return wrong("a batch has at least one record and one byte");
        }
        if self.priority > 191 {
            return wrong("a syslog priority is at most 191");
        }
        Ok(())
    }
}

impl Default for ShipOptions {
    fn default() -> Self {
        ShipOptions {
            token_file: None,
            ca_file: None,
            client_cert: None,
            client_key: None,
            batch: BatchLimits::default(),
            allow_plaintext: false,
            gzip: true,
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(30),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            longest_retry_after: Duration::from_secs(300),
            tries: 3,
            drain: Duration::from_secs(5),
            hostname: None,
            priority: LOCAL0_INFO,
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits { records: 1000, bytes: 1 << 20, time: Duration::from_secs(5) }
    }
}

impl FromStr for BatchLimits {
    type Err = Error;

    /// Reads `1000,5s` or `1000,1MB,500ms`: a bare number is records, a size is bytes, a time is time; what is not
    /// named stays as it is by default.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut limits = BatchLimits::default();
        for part in text.split(',').map(str::trim) {
            let (number, unit) =
                part.split_at(part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len()));
            let wrong =
                || Error::Option(format!("batch '{text}': '{part}' is no number, size (1MB) or time (5s)"));
            let number: u64 = number.parse().ok().filter(|number| *number <= MOST).ok_or_else(wrong)?;
            match unit.trim() {
                "" => limits.records = number,
                "ms" => limits.time = Duration::from_millis(number),
                "s" => limits.time = Duration::from_secs(number),
                "m" | "min" => limits.time = Duration::from_secs(number * 60),
                unit => {
                    let factor = match unit {
                        "B" => 1,
                        "kB" | "KB" => 1_000,
                        "MB" => 1_000_000,
                        "KiB" => 1 << 10,
                        "MiB" => 1 << 20,
                        _ => return Err(wrong()),
                    };
                    limits.bytes = usize::try_from(number * factor).map_err(|_| wrong())?;
                }
            }
        }
        match limits.records > 0 && limits.bytes > 0 {
            true => Ok(limits),
            false => Err(Error::Option(format!("batch '{text}': at least one record and one byte"))),
        }
    }
}

/// Facility local0, severity informational.
const LOCAL0_INFO: u8 = 16 * 8 + 6;
/// More than this is no count, size or time of a batch.
const MOST: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_limits_are_read() {
        let read = |text: &str| text.parse::<BatchLimits>().unwrap();
        assert_eq!(
            read("200,2s"),
            BatchLimits { records: 200, time: Duration::from_secs(2), ..BatchLimits::default() }
        );
        assert_eq!(read("10, 2MB, 500ms").bytes, 2_000_000);
        assert_eq!(read("1MiB").bytes, 1 << 20);
        for bad in ["", "0", "5x", "-1", "0B", "1,,2", "99999999999"] {
            assert!(bad.parse::<BatchLimits>().is_err(), "{bad}");
        }
    }
}
