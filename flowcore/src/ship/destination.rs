//! Where records are sent: the parts of a server's address.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::error::Error;

/// A server, as it is named in the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    /// What is spoken there.
    pub scheme: Scheme,
    /// The name or address of the host, without brackets; empty for a Unix socket.
    pub host: String,
    /// The port; 0 for a Unix socket.
    pub port: u16,
    /// For HTTP the path with its query; for a Unix socket the path of the socket; else empty.
    pub path: String,
}

/// What is spoken with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// HTTP, in the clear.
    Http,
    /// Lines over TCP, in the clear.
    Tcp,
    /// Lines over TLS.
    Tls,
    /// Lines to a stream socket of this machine.
    Unix,
    /// Syslog messages (RFC 5424) over UDP (RFC 5426).
    Syslog,
    /// Syslog messages over TCP, each after its length (RFC 6587).
    SyslogTcp,
    /// Syslog messages over TLS (RFC 5425).
    SyslogTls,
}

impl Destination {
    /// Tells whether a text is the address of a server, good or bad: whether it has `://` in it.
    pub fn is_one(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads `scheme://host[:port][/path]` or `unix:///path`.
    ///
    /// The ports are 443 and 80 for HTTP, 514 for syslog over UDP (RFC 5426), 6514 over TLS (RFC 5425); else a port
    /// has to be given.
    ///
    /// # Errors
    /// [`Error::Option`] says what is wrong with it; an address with a user or password in it is refused, and the
    /// error does not repeat it.
    pub fn parse(text: &str) -> Result<Destination, Error> {
        let wrong = |what: &str| Error::Option(format!("'{text}': {what}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong("not the address of a server: no ://"));
        };
        let Some(scheme) = Scheme::ALL.iter().copied().find(|known| known.name() == scheme) else {
            let known: Vec<&str> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
            return Err(wrong(&format!("what is spoken there has to be one of {}", known.join(" "))));
        };
        let plain = |byte: u8| {
            byte.is_ascii_graphic() && byte != b'#' && byte != b'"' && byte != b'<' && byte != b'>'
        };
        if scheme == Scheme::Unix {
            let absolute = rest.starts_with('/') && rest.len() > 1 && !rest.contains('\0');
            let path = absolute
                .then(|| rest.to_owned())
                .ok_or_else(|| wrong("the path of a socket begins with /"))?;
            return Ok(Destination { scheme, host: String::new(), port: 0, path });
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Error::Option(format!(
                "{}://…: no user or password in an address; a token is given by token_file",
                scheme.name()
            )));
        }
        let (host, port) =
            host_and_port(authority).ok_or_else(|| wrong("no host, or a port that is none"))?;
        if host.is_empty()
            || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
        {
            return Err(wrong("the name of a host has letters, digits, - and . in it"));
        }
        if !path.bytes().all(plain) {
            return Err(wrong(
                "a path has no blanks, #, quotes and letters beyond ASCII in it; write them as %20",
            ));
        }
        let path = match (scheme.is_http(), path) {
            (true, "") => "/".to_owned(),
            (true, path) if path.starts_with('?') => format!("/{path}"),
            (true, path) => path.to_owned(),
            (false, "" | "/") => String::new(),
            (false, _) => return Err(wrong("a path has a meaning for http, https and unix only")),
        };
        let port =
            port.or(scheme.default_port()).ok_or_else(|| wrong("a port has to be given: host:port"))?;
        Ok(Destination { scheme, host: host.to_owned(), port, path })
    }

    /// Returns the host and port as an address bar shows them: `[2001:db8::1]:6514`.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Returns the address for an HTTP request, whose Host has no port in it where it is the usual one.
    pub(super) fn url(&self) -> String {
        let authority = self.authority();
        let usual = self.scheme.default_port().map(|port| format!(":{port}")).unwrap_or_default();
        let authority = authority.strip_suffix(&usual).unwrap_or(&authority);
        format!("{}://{authority}{}", self.scheme.name(), self.path)
    }

    /// Tells whether the name of the host can only be this machine; what it resolves to is looked at again.
    pub(super) fn is_this_machine(&self) -> bool {
        let is_loopback = |address: IpAddr| address.is_loopback();
        self.host == "localhost" || self.host.parse().is_ok_and(is_loopback)
    }

    /// Returns the path of a Unix socket.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        (self.scheme == Scheme::Unix).then(|| PathBuf::from(&self.path))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Unix => write!(f, "unix://{}", self.path),
            scheme => write!(f, "{}://{}{}", scheme.name(), self.authority(), self.path),
        }
    }
}

impl Scheme {
    const ALL: [Scheme; 8] = [
        Scheme::Https,
        Scheme::Http,
        Scheme::Tcp,
        Scheme::Tls,
        Scheme::Unix,
        Scheme::Syslog,
        Scheme::SyslogTcp,
        Scheme::SyslogTls,
    ];

    /// Returns its name, which stands before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
            Scheme::Tcp => "tcp",
            Scheme::Tls => "tls",
            Scheme::Unix => "unix",
            Scheme::Syslog => "syslog",
            Scheme::SyslogTcp => "syslog+tcp",
            Scheme::SyslogTls => "syslog+tls",
        }
    }

    /// Tells whether HTTP is spoken.
    pub fn is_http(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Http)
    }

    /// Tells whether TLS protects what is sent.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Tls | Scheme::SyslogTls)
    }

    /// Tells whether others on the way can read along: what leaves this machine without TLS.
    pub fn is_in_the_clear(self) -> bool {
        !self.is_tls() && self != Scheme::Unix
    }

    fn default_port(self) -> Option<u16> {
        match self {
            Scheme::Https => Some(443),
            Scheme::Http => Some(80),
            Scheme::Syslog => Some(514),
            Scheme::SyslogTls => Some(6514),
            Scheme::Tcp | Scheme::Tls | Scheme::Unix | Scheme::SyslogTcp => None,
        }
    }
}

/// Splits `host`, `host:port` or `[address]:port`.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port))),
        None => port.is_empty().then_some((host, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, host, port, path) in [
            ("https://collector.example:443/flows", "collector.example", 443, "/flows"),
            ("http://127.0.0.1:8123/?query=INSERT%20x", "127.0.0.1", 8123, "/?query=INSERT%20x"),
            ("tls://[2001:db8::1]:6000", "2001:db8::1", 6000, ""),
            ("syslog+tcp://log:601", "log", 601, ""),
            ("unix:///run/log.sock", "", 0, "/run/log.sock"),
        ] {
            let read = Destination::parse(text).unwrap();
            assert_eq!((read.host.as_str(), read.port, read.path.as_str()), (host, port, path));
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(Destination::parse("https://a").unwrap().to_string(), "https://a:443/");
        assert_eq!(Destination::parse("https://[::1]:443/x").unwrap().url(), "https://[::1]/x");
        assert_eq!(Destination::parse("https://a:8443").unwrap().url(), "https://a:8443/");
        assert_eq!(Destination::parse("syslog+tls://a").unwrap().port, 6514);
        assert_eq!(Destination::parse("syslog://a").unwrap().port, 514);
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in [
            "ftp://a",
            "https://",
            "https://:443/",
            "https://a:0/",
            "https://a:66666/",
            "https://a b/",
            "https://a/x y",
            "https://a/x#y",
            "https://a/\r\nHost: b",
            "https://[::1/",
            "https://[::1]x/",
            "https://::1/",
            "tcp://a",
            "tcp://a:1/path",
            "unix://run/x",
            "unix:///",
            "/var/log/x",
        ] {
            assert!(Destination::parse(text).is_err(), "{text}");
        }
        let error = Destination::parse("https://me:secret@a/").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
