//! Rules that allow listeners.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::role::Role;
use crate::error::Error;
use crate::host::{Process, SocketKind};

/// A rule that allows listeners: `PROTOCOL/PORT [PROGRAM]`, as in `tcp/22 sshd`.
///
/// - PROTOCOL is `tcp`, `udp`, `raw` or `*`, of both IP versions, in upper or lower case.
/// - PORT is a number, a range `8000-8099`, or `*`. Raw sockets have no port: they need `*`.
/// - PROGRAM is the name of the process or the base name of its executable; with a `/` in it, the whole path of the
///   executable; `*` or nothing means any. It may have blanks. A process that is not known matches any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allow {
    protocol: Protocol,
    ports: Option<RangeInclusive<u16>>,
    program: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Tcp,
    Udp,
    Raw,
    Any,
}

impl Allow {
    /// Tells whether the rule allows a listener of this process.
    pub(super) fn allows(&self, role: &Role, process: Option<&Process>) -> bool {
        let Role::Listener { kind, port, .. } = role else { return false };
        let protocol = match kind {
            SocketKind::Tcp => Protocol::Tcp,
            SocketKind::Udp | SocketKind::UdpLite => Protocol::Udp,
            SocketKind::Raw(_) => Protocol::Raw,
            SocketKind::Ping | SocketKind::Rdma => Protocol::Any,
        };
        (self.protocol == Protocol::Any || self.protocol == protocol)
            && self.ports.as_ref().is_none_or(|ports| port.is_some_and(|port| ports.contains(&port)))
            && match (&self.program, process) {
                // A path that is not known matches any.
                (Some(program), Some(process)) => process.runs(program).unwrap_or(true),
                _ => true,
            }
    }
}

impl FromStr for Allow {
    type Err = Error;

    fn from_str(rule: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Option(format!("'{rule}' is no allow rule: PROTOCOL/PORT [PROGRAM], as in 'tcp/22 sshd'"))
        };
        let (what, program) = match rule.trim().split_once(char::is_whitespace) {
            Some((what, program)) => (what, program.trim()),
            None => (rule.trim(), "*"),
        };
        let (protocol, ports) = what.split_once('/').ok_or_else(wrong)?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "raw" => Protocol::Raw,
            "*" => Protocol::Any,
            _ => return Err(wrong()),
        };
        let ports = match ports {
            "*" => None,
            ports => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let range = port(first).ok_or_else(wrong)?..=port(last).ok_or_else(wrong)?;
                if range.is_empty() {
                    return Err(wrong());
                }
                Some(range)
            }
        };
        Ok(Allow { protocol, ports, program: Some(program.to_owned()).filter(|program| program != "*") })
    }
}

/// Reads a port: digits only, while std would take a sign.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::super::role::AddressClass;
    use super::super::sample::process;
    use super::*;
    use crate::key::Proto;

    fn listens(kind: SocketKind, port: impl Into<Option<u16>>) -> Role {
        Role::Listener { kind, ipv6: true, class: AddressClass::Any, port: port.into() }
    }

    #[test]
    fn rules_by_hand() {
        let (tcp, udp) = (SocketKind::Tcp, SocketKind::Udp);
        for (rule, kind, port, exe, allowed) in [
            ("tcp/22 sshd", tcp, 22, "/usr/sbin/sshd", true),
            ("TCP/22  sshd ", tcp, 22, "/usr/sbin/sshd (deleted)", true),
            ("tcp/22 sshd", tcp, 22, "/tmp/evil", false),
            ("tcp/22 sshd", tcp, 2222, "/usr/sbin/sshd", false),
            ("tcp/22 sshd", udp, 22, "/usr/sbin/sshd", false),
            ("tcp/22 /usr/sbin/sshd", tcp, 22, "/usr/sbin/sshd", true),
            ("tcp/22 /usr/sbin/sshd", tcp, 22, "/usr/sbin/sshd (deleted)", true),
            ("tcp/22 /usr/sbin/sshd", tcp, 22, "/tmp/sshd", false),
            ("udp/53", udp, 53, "/tmp/evil", true),
            ("udp/53 *", SocketKind::UdpLite, 53, "/tmp/evil", true),
            ("*/22", udp, 22, "/tmp/evil", true),
            ("tcp/8000-8099", tcp, 8099, "x", true),
            ("tcp/8000-8099", tcp, 8100, "x", false),
            ("*/* Web Content", tcp, 1, "/opt/Web Content", true),
        ] {
            let process = process(1, exe);
            let rule_read: Allow = rule.parse().unwrap();
            assert_eq!(rule_read.allows(&listens(kind, port), Some(&process)), allowed, "{rule}: {exe}");
        }
        let sshd: Allow = "tcp/22 sshd".parse().unwrap();
        assert!(sshd.allows(&listens(tcp, 22), None));
        assert!(!sshd.allows(&Role::Other { kind: tcp }, None));
        let raw: Allow = "raw/*".parse().unwrap();
        assert!(raw.allows(&listens(SocketKind::Raw(Proto::ICMP), None), None));
        assert!(!"*/1".parse::<Allow>().unwrap().allows(&listens(SocketKind::Raw(Proto::ICMP), None), None));
    }

    #[test]
    fn what_is_no_rule() {
        for rule in [
            "",
            "tcp",
            "tcp22",
            "22/tcp",
            "tcp/",
            "tcp/x",
            "tcp/65536",
            "tcp/+22",
            "tcp/9-8",
            "sctp/1",
            "tcp/-",
        ] {
            assert!(matches!(rule.parse::<Allow>(), Err(Error::Option(_))), "{rule}");
        }
    }
}
