//! 802.11 frames and the headers that capture tools put before them.

use super::link::{CUT, skip};
use super::walk::{Halt, Next, Step};
use crate::error::DropReason;

/// Opens an 802.11 frame, if it is a whole data frame that is not encrypted.
pub(super) fn ieee80211(bytes: &[u8]) -> Step<'_> {
    let header = bytes.first_chunk::<24>().ok_or(CUT)?;
    let (control, flags, sequence) = (header[0], header[1], header[22]);
    let is_data = control >> 2 & 3 == 2;
    let without_data = control & 0x40 != 0;
    if !is_data || without_data || flags & PROTECTED != 0 {
        return Err(NO_DATA);
    }
    let mut length = addresses_len(flags);
    if has_qos(control) {
        let qos = *bytes.get(length).ok_or(CUT)?;
        let aggregated = qos & 0x80 != 0;
        if aggregated {
            return Err(NO_DATA);
        }
        length += 2;
        if flags & ORDER != 0 {
            length += 4;
        }
    }
    let fragment = flags & MORE_FRAGMENTS != 0 || sequence & 0xF != 0;
    if fragment { Err(NO_DATA) } else { Ok(Next::Llc(skip(bytes, length)?)) }
}

/// Opens a radiotap header; takes out the padding that some drivers put behind the 802.11 header.
pub(super) fn radiotap(bytes: &[u8]) -> Step<'_> {
    let &[_, _, low, high, present @ ..] = bytes.first_chunk::<8>().ok_or(CUT)?;
    let length = usize::from(u16::from_le_bytes([low, high]));
    let frame = skip(bytes, length.max(8))?;
    let padded = radiotap_flags(bytes, u32::from_le_bytes(present)) & 0x20 != 0;
    match frame {
        &[control, flags, ..] if padded && frame.len() >= 24 => {
            let header = addresses_len(flags) + if has_qos(control) { 2 } else { 0 };
            // The padding is only skipped where the frame is read; nothing before it moves.
            let padding = header.next_multiple_of(4) - header;
            match ieee80211(frame)? {
                Next::Llc(rest) => Ok(Next::Llc(skip(rest, padding)?)),
                other => Ok(other),
            }
        }
        _ => Ok(Next::Ieee80211(frame)),
    }
}

/// Opens a PPI header, which names the link type of what follows.
pub(super) fn per_packet_information(bytes: &[u8]) -> Step<'_> {
    let &[_, _, low, high, link @ ..] = bytes.first_chunk::<8>().ok_or(CUT)?;
    let length = usize::from(u16::from_le_bytes([low, high]));
    if length < 8 {
        return Err(CUT);
    }
    Ok(Next::Link(u32::from_le_bytes(link), skip(bytes, length)?))
}

/// Finds the flags field: behind the presence words (bit 31: one more) and the eight-byte timer (bit 0).
fn radiotap_flags(bytes: &[u8], present: u32) -> u8 {
    let (mut at, mut word) = (8usize, present);
    while word & 1 << 31 != 0 {
        let Some(next) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { break };
        word = u32::from_le_bytes(*next);
        at += 4;
    }
    if present & 1 != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    if present & 2 != 0 { bytes.get(at).copied().unwrap_or(0) } else { 0 }
}

/// Returns the length of an 802.11 data header up to its QoS field: three addresses, or four between stations.
fn addresses_len(flags: u8) -> usize {
    if flags & 3 == 3 { 30 } else { 24 }
}

fn has_qos(control: u8) -> bool {
    control & 0x80 != 0
}

const MORE_FRAGMENTS: u8 = 0x04;
const PROTECTED: u8 = 0x40;
const ORDER: u8 = 0x80;
const NO_DATA: Halt = Halt::Unreadable(DropReason::Ieee80211);
