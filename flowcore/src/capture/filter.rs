//! tcpdump filter expressions on frames of files; libpcap compiles them, for each link type anew.

use std::collections::BTreeMap;

use pcap::{Capture, Linktype};

use super::bpf::{self, Instruction};
use super::link;
use crate::error::Error;
use crate::packet::LinkType;

/// Tells whether libpcap takes a tcpdump filter expression, for at least one of the usual link types.
///
/// # Errors
/// [`Error::Filter`] with what libpcap says.
pub fn check_filter(expression: &str) -> Result<(), Error> {
    Filter::new(expression).map(|_| ())
}

/// A filter expression and its programs, one per link type met so far.
pub(super) struct Filter {
    expression: String,
    /// By link type, of which a file may have 65,536; no program: libpcap does not compile it for that one.
    programs: BTreeMap<u32, Option<Vec<Instruction>>>,
    /// Why it was not compiled for the link type that was met first, as long as none was met that it fits.
    misfit: Option<Error>,
    is_fitting: bool,
}

impl Filter {
    /// Takes an expression that libpcap compiles for at least one of the usual link types.
    pub(super) fn new(expression: &str) -> Result<Filter, Error> {
        let mut refused = None;
        for link in USUAL {
            match compile(expression, link) {
                Ok(_) => {
                    let expression = expression.to_owned();
                    return Ok(Filter {
                        expression,
                        programs: BTreeMap::new(),
                        misfit: None,
                        is_fitting: false,
                    });
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| refusal(expression, "no link type")))
    }

    /// Tells whether a frame matches; none of a link type does that the expression does not fit.
    #[inline]
    pub(super) fn passes(&mut self, link: LinkType, data: &[u8], wire_len: u32) -> bool {
        if !self.programs.contains_key(&link.0) {
            self.meet(link);
        }
        let program = self.programs.get(&link.0).and_then(Option::as_ref);
        program.is_some_and(|program| bpf::run(program, data, wire_len))
    }

    /// Returns why nothing could match, once: the expression fits no link type that was met.
    pub(super) fn misfit(&mut self) -> Option<Error> {
        self.misfit.take().filter(|_| !self.is_fitting)
    }

    #[cold]
    fn meet(&mut self, link: LinkType) {
        let program = match compile(&self.expression, link) {
            Ok(program) => {
                self.is_fitting = true;
                Some(program)
            }
            Err(error) => {
                self.misfit.get_or_insert(error);
                None
            }
        };
        self.programs.insert(link.0, program);
    }
}

fn compile(expression: &str, link: LinkType) -> Result<Vec<Instruction>, Error> {
    let number = link::to_dlt(link);
    let program = Capture::dead(Linktype(number))
        .and_then(|capture| capture.compile(expression, true))
        .map_err(|error| refusal(expression, &format!("{} (link type {})", said(&error), link.0)))?;
    program
        .get_instructions()
        .iter()
        .map(|instruction| Instruction::parse(&instruction.to_string()))
        .collect::<Option<_>>()
        .ok_or_else(|| refusal(expression, "libpcap's program cannot be read"))
}

fn refusal(expression: &str, what: &str) -> Error {
    Error::Filter { expression: expression.to_owned(), what: what.to_owned() }
}

/// Returns libpcap's words without the package's.
pub(super) fn said(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.clone(),
        error => error.to_string(),
    }
}

/// Ethernet, Linux cooked, IP and 802.11: an expression that fits none of them is a mistake.
const USUAL: [LinkType; 5] = [LinkType(1), LinkType(276), LinkType(113), LinkType(101), LinkType(127)];

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(expression: &str, link: u32, data: &[u8], wire_len: u32) -> bool {
        Filter::new(expression).unwrap().passes(LinkType(link), data, wire_len)
    }

    /// An IPv4 UDP header from port 1000 to port 53 behind `link` header bytes.
    fn udp(link: &[u8]) -> Vec<u8> {
        let mut bytes = link.to_vec();
        bytes.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        bytes.extend([0x03, 0xE8, 0, 53, 0, 8, 0, 0]);
        bytes
    }

    #[test]
    fn wire_length_is_not_captured_length() {
        let ethernet = udp(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0]);
        assert!(passes("less 100", 1, &ethernet, 100));
        assert!(!passes("less 100", 1, &ethernet, 101));
        assert!(passes("greater 1514", 1, &ethernet, 1514));
        assert!(!passes("udp port 53", 1, &ethernet[..30], 42));
    }

    #[test]
    fn each_link_type_has_its_program() {
        let mut filter = Filter::new("udp and src host 192.0.2.1 and dst port 53").unwrap();
        let cooked = udp(&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 1, 0, 0, 8, 0]);
        let ethernet = udp(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0]);
        let raw = udp(&[]);
        for (link, data) in [(1, &ethernet), (113, &cooked), (101, &raw), (12, &raw), (1, &ethernet)] {
            assert!(filter.passes(LinkType(link), data, data.len() as u32), "link type {link}");
        }
        assert!(!filter.passes(LinkType(1), &raw, 28));
        assert_eq!(filter.programs.len(), 4);
    }

    #[test]
    fn what_libpcap_refuses_is_an_error() {
        let Err(Error::Filter { expression, what }) = Filter::new("udp prot 53") else { panic!("accepted") };
        assert_eq!(expression, "udp prot 53");
        assert!(what.contains("syntax error"), "{what}");
        assert!(matches!(Filter::new("host\0"), Err(Error::Filter { .. })));
        // Sound, but not for Ethernet.
        assert!(Filter::new("ifindex 2").is_ok());
    }

    #[test]
    fn a_link_type_without_program_passes_nothing_and_ends_nothing() {
        let (user, raw) = (LinkType(147), LinkType(101));
        for fits in [false, true] {
            let mut filter = Filter::new("udp").unwrap();
            assert!(!filter.passes(user, &udp(&[]), 28) && !filter.passes(user, &udp(&[]), 28));
            assert_eq!(fits, fits && filter.passes(raw, &udp(&[]), 28));
            assert_eq!(matches!(filter.misfit(), Some(Error::Filter { .. })), !fits);
            assert!(filter.misfit().is_none());
        }
    }
}
