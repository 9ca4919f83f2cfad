//! Internet checksums (RFC 1071) of whole packets.

use etherparse::checksum::u64_16bit_word::{add_2bytes, add_4bytes, add_8bytes, add_slice, ones_complement};

use super::ip::Ip;
use super::walk::Layer;

/// Tells whether the IPv4 header's or the transport's checksum is wrong.
///
/// Fragments and cut packets are never wrong: the bytes that the sum covers are not all there.
#[cold]
pub(super) fn is_bad(layer: &Layer<'_>) -> bool {
    let ip = &layer.ip;
    if ip.piece.is_some() || ip.body.len() as u64 != ip.body_len {
        return false;
    }
    if ip.version == 4 && ones_complement(add_slice(0, ip.header)) != 0 {
        return true;
    }
    match ip.proto {
        _ if !layer.transport.sound => false,
        1 => ones_complement(add_slice(0, ip.body)) != 0,
        // A source route changes the address that the sum covers.
        6 | 58 if !ip.routed => with_pseudo_header(ip, ip.body) != 0,
        17 if !ip.routed => udp(layer),
        _ => false,
    }
}

/// UDP: 0 means that there is no checksum; bytes behind the UDP length are not covered.
fn udp(layer: &Layer<'_>) -> bool {
    let ip = &layer.ip;
    let covered = layer.transport.payload.len().saturating_add(8);
    match (ip.body.get(6..8), ip.body.get(..covered)) {
        (Some([0, 0]), _) | (_, None) => false,
        (_, Some(covered)) => with_pseudo_header(ip, covered) != 0,
    }
}

fn with_pseudo_header(ip: &Ip<'_>, covered: &[u8]) -> u16 {
    let mut sum = add_2bytes(0, [0, ip.proto]);
    sum = add_4bytes(sum, u32::try_from(covered.len()).unwrap_or(u32::MAX).to_be_bytes());
    for words in [ip.src, ip.dst] {
        sum = add_8bytes(sum, words.0.to_be_bytes());
        sum = add_8bytes(sum, words.1.to_be_bytes());
    }
    ones_complement(add_slice(sum, covered))
}
