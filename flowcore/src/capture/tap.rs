//! A second, small capture beside the main one: only packets that open flows, and those at once.
//!
//! The sooner a socket is asked for the more of the short ones are still there, and the main capture hands packets
//! over in blocks.

use super::live::{LiveOptions, LiveSource};
use crate::error::Error;

/// Opens a tap on interfaces by name; `any` is all of them.
///
/// It sees SYN packets without ACK and all of UDP, 128 bytes of each, as they come. What it loses under load is lost
/// to it only.
///
/// # Errors
/// Those of [`LiveSource::open`].
pub fn tap(interfaces: &[String]) -> Result<LiveSource, Error> {
    let options = LiveOptions {
        snaplen: SNAPLEN,
        promiscuous: false,
        buffer_bytes: BUFFER_BYTES,
        filter: Some(OPENS_A_FLOW.to_owned()),
    };
    LiveSource::open_as(interfaces, options, true)
}

/// Link, IP and transport headers.
const SNAPLEN: u32 = 128;
const BUFFER_BYTES: u32 = 1024 * 1024;
/// `tcp[…]` reads IPv4 only; in IPv6 the flags stand in byte 53 where no extension header comes before.
const OPENS_A_FLOW: &str = "udp \
    or tcp[tcpflags] & (tcp-syn | tcp-ack) == tcp-syn \
    or (ip6[6] == 6 and ip6[53] & 0x12 == 0x02)";

#[cfg(test)]
mod tests {
    use super::super::filter::Filter;
    use super::*;
    use crate::packet::LinkType;

    /// An Ethernet frame with a header of TCP or UDP in IPv4 or IPv6.
    fn frame(version: u8, proto: u8, flags: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        if version == 4 {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, proto, 0, 0]);
            frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        } else {
            frame.extend([0x86, 0xDD, 0x60, 0, 0, 0, 0, 20, proto, 64]);
            frame.extend([0x20; 32]);
        }
        frame.extend([0x9C, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 4, 0, 0, 0, 0, 0]);
        frame
    }

    #[test]
    fn what_opens_flows_passes_and_nothing_else() {
        let mut filter = Filter::new(OPENS_A_FLOW).unwrap();
        let mut passes = |frame: Vec<u8>| filter.passes(LinkType(1), &frame, frame.len() as u32);
        for version in [4, 6] {
            let (tcp, udp) = (6, 17);
            assert!(passes(frame(version, udp, 0)), "UDP in IPv{version}");
            assert!(passes(frame(version, tcp, 0x02)), "SYN in IPv{version}");
            assert!(passes(frame(version, tcp, 0xC2)), "SYN with ECN in IPv{version}");
            for flags in [0x12, 0x10, 0x18, 0x11, 0x04, 0x14] {
                assert!(!passes(frame(version, tcp, flags)), "{flags:#x} in IPv{version}");
            }
            assert!(!passes(frame(version, 1, 0x02)));
        }
    }

    #[test]
    fn a_missing_interface_is_an_input_error() {
        assert!(matches!(tap(&["no-such-if0".to_owned()]), Err(Error::Input { .. })));
    }
}
