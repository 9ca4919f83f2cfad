//! pcapng: blocks in sections, each section with its own byte order and interfaces
//! (draft-ietf-opsawg-pcapng).

use std::sync::Arc;

use super::bytes::{Fields, Order};
use super::file::{Fault, Record, end_or_cut};
use super::window::Window;
use crate::time::Timestamp;

/// Where the reader of a pcapng stream stands.
pub(super) struct PcapNg {
    order: Order,
    /// The interfaces of the section so far.
    interfaces: Vec<Interface>,
    /// A block that is being passed over, up to its trailing length.
    passed: Option<Block>,
}

impl PcapNg {
    /// Makes a reader for a stream that begins with [`SECTION`].
    pub(super) fn new() -> PcapNg {
        PcapNg { order: Order::Little, interfaces: Vec::new(), passed: None }
    }

    /// Takes the next block if all of it is in memory, and a sound enhanced packet block: nearly all are.
    #[inline]
    fn at_hand(&self, window: &mut Window) -> Option<Record> {
        let bytes = window.bytes();
        let [kind, len, index, high, low, captured, wire] = self.order.words(bytes)?;
        let whole = len as usize;
        let room = whole.checked_sub(ENHANCED_HEAD + TRAILER)?;
        let [trailer] = self.order.words(bytes.get(..whole)?.last_chunk::<TRAILER>()?)?;
        let is_sound =
            captured as usize <= room && whole <= MAX_BLOCK && whole.is_multiple_of(4) && trailer == len;
        if kind != ENHANCED_PACKET || !is_sound || self.passed.is_some() {
            return None;
        }
        let interface = self.interfaces.get(index as usize)?;
        let (time, clamped) = interface.time(u64::from(high) << 32 | u64::from(low));
        if clamped {
            return None;
        }
        Some(Record {
            at: window.take(whole) + ENHANCED_HEAD,
            len: captured,
            wire_len: wire,
            time,
            has_time: true,
            clamped,
            link: interface.link,
            interface: Some(index),
        })
    }

    /// Finds the next packet; false at the end.
    #[inline]
    pub(super) fn next(&mut self, window: &mut Window, found: &mut Record) -> Result<bool, Fault> {
        if let Some(record) = self.at_hand(window) {
            *found = record;
            return Ok(true);
        }
        loop {
            if self.passed.is_some() {
                self.finish_passing(window)?;
            }
            if !window.holds(BLOCK_MIN)? {
                return end_or_cut(window, "block header cut");
            }
            let Some([kind, len]) = self.order.words(window.bytes()) else {
                return end_or_cut(window, "block header cut");
            };
            if kind == SECTION_HEADER {
                self.begin_section(window)?;
                continue;
            }
            let block = Block { at: window.offset(), kind, len };
            block.check_len()?;
            match kind {
                ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET => {
                    return self.packet(window, block, found);
                }
                INTERFACE => self.add_interface(window, block)?,
                _ => self.pass_over(window, block),
            }
        }
    }

    /// Returns the name of an interface of the present section.
    #[inline]
    pub(super) fn interface_name(&self, index: u32) -> Option<&Arc<str>> {
        self.interfaces.get(index as usize)?.name.as_ref()
    }

    #[inline]
    fn packet(&self, window: &mut Window, block: Block, found: &mut Record) -> Result<bool, Fault> {
        let body = block.body(window, self.order)?;
        let Some(head) = PacketHead::read(block.kind, body, self.order) else {
            return Err(block.damage("packet block too short"));
        };
        let Some(interface) = self.interfaces.get(head.interface as usize) else {
            return Err(block.damage(format!("packet of interface {}, which is unknown", head.interface)));
        };
        let there = body.len().saturating_sub(head.len);
        let captured = match head.captured {
            Some(captured) => captured,
            // The length of a simple packet follows from the snapshot length, 0 for none.
            None => {
                let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                head.wire.min(snaplen).min(u32::try_from(there).unwrap_or(u32::MAX))
            }
        };
        if captured as usize > there {
            return Err(block.damage(format!("captured length {captured} goes beyond its block")));
        }
        let (time, clamped) = head.ticks.map_or_else(Default::default, |ticks| interface.time(ticks));
        *found = Record {
            at: window.take(block.len as usize) + BLOCK_HEAD + head.len,
            len: captured,
            wire_len: head.wire,
            time,
            has_time: head.ticks.is_some(),
            clamped,
            link: interface.link,
            interface: Some(head.interface),
        };
        Ok(true)
    }

    /// Reads a section header block; its options and its section length mean nothing here.
    fn begin_section(&mut self, window: &mut Window) -> Result<(), Fault> {
        let at = window.offset();
        let Some(head) = window.peek(SECTION_MIN)? else {
            return Err(Fault::damage(at, "section header cut"));
        };
        self.order = match head.get(8..12) {
            Some([0x4D, 0x3C, 0x2B, 0x1A]) => Order::Little,
            Some([0x1A, 0x2B, 0x3C, 0x4D]) => Order::Big,
            _ => return Err(Fault::damage(at, "no byte order in the section header")),
        };
        let mut fields = Fields::new(head, self.order);
        let (Some(kind), Some(len), Some(_), Some(major), Some(minor)) =
            (fields.u32(), fields.u32(), fields.u32(), fields.u16(), fields.u16())
        else {
            return Err(Fault::damage(at, "section header cut"));
        };
        let block = Block { at, kind, len };
        block.check_len()?;
        if (block.len as usize) < SECTION_MIN {
            return Err(block.damage("section header too short"));
        }
        if !matches!((major, minor), (1, 0 | 2)) {
            return Err(block.damage(format!("pcapng version {major}.{minor} is not supported")));
        }
        self.interfaces.clear();
        self.pass_over(window, block);
        Ok(())
    }

    fn add_interface(&mut self, window: &mut Window, block: Block) -> Result<(), Fault> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(block.damage(format!("more than {MAX_INTERFACES} interfaces in a section")));
        }
        let body = block.body(window, self.order)?;
        let Some(interface) = Interface::read(Fields::new(body, self.order)) else {
            return Err(block.damage("interface block too short"));
        };
        self.interfaces.push(interface);
        window.take(block.len as usize);
        Ok(())
    }

    /// Passes over a block of any length without holding it in memory.
    fn pass_over(&mut self, window: &mut Window, block: Block) {
        window.skip(u64::from(block.len) - TRAILER as u64);
        self.passed = Some(block);
    }

    #[cold]
    fn finish_passing(&mut self, window: &mut Window) -> Result<(), Fault> {
        let Some(block) = self.passed else { return Ok(()) };
        let Some(trailer) = window.peek(TRAILER)? else { return Err(block.cut()) };
        block.check_trailer(Fields::new(trailer, self.order).u32())?;
        window.take(TRAILER);
        self.passed = None;
        Ok(())
    }
}

/// The frame of a block: where it begins, what it is, and its whole length.
#[derive(Clone, Copy)]
struct Block {
    at: u64,
    kind: u32,
    len: u32,
}

impl Block {
    #[inline]
    fn check_len(self) -> Result<(), Fault> {
        if (self.len as usize) < BLOCK_MIN || !self.len.is_multiple_of(4) {
            return Err(self.damage(format!("block length {} cannot be", self.len)));
        }
        Ok(())
    }

    #[inline]
    fn check_trailer(self, trailer: Option<u32>) -> Result<(), Fault> {
        if trailer != Some(self.len) {
            let trailer = trailer.unwrap_or_default();
            return Err(self.damage(format!("block lengths differ: {} and {trailer}", self.len)));
        }
        Ok(())
    }

    /// Returns what stands between the two lengths.
    #[inline]
    fn body(self, window: &mut Window, order: Order) -> Result<&[u8], Fault> {
        let len = self.len as usize;
        if len > MAX_BLOCK {
            return Err(self.damage(format!("block of {len} bytes is longer than {MAX_BLOCK}")));
        }
        let Some(block) = window.peek(len)? else { return Err(self.cut()) };
        let trailer = block.last_chunk::<TRAILER>().and_then(|last| order.words(last)).map(|[len]| len);
        self.check_trailer(trailer)?;
        Ok(block.get(BLOCK_HEAD..len - TRAILER).unwrap_or_default())
    }

    #[cold]
    fn cut(self) -> Fault {
        self.damage("block cut")
    }

    #[cold]
    fn damage(self, what: impl Into<String>) -> Fault {
        Fault::damage(self.at, format!("{} (block type {:#x})", what.into(), self.kind))
    }
}

/// The fixed fields of a packet block.
struct PacketHead {
    interface: u32,
    ticks: Option<u64>,
    captured: Option<u32>,
    wire: u32,
    /// Their length in bytes.
    len: usize,
}

impl PacketHead {
    #[inline]
    fn read(kind: u32, body: &[u8], order: Order) -> Option<PacketHead> {
        if kind == SIMPLE_PACKET {
            let [wire] = order.words(body)?;
            return Some(PacketHead { interface: 0, ticks: None, captured: None, wire, len: 4 });
        }
        let [interface, high, low, captured, wire] = order.words(body)?;
        // The obsolete block has a count of drops in the second half of the first number.
        let interface =
            if kind == OBSOLETE_PACKET { u32::from(Fields::new(body, order).u16()?) } else { interface };
        let ticks = Some(u64::from(high) << 32 | u64::from(low));
        Some(PacketHead { interface, ticks, captured: Some(captured), wire, len: 20 })
    }
}

/// What an interface description block says.
struct Interface {
    link: u32,
    snaplen: u32,
    scale: Scale,
    offset_nanos: i128,
    name: Option<Arc<str>>,
}

impl Interface {
    fn read(mut fields: Fields<'_>) -> Option<Interface> {
        let link = fields.u16()?.into();
        fields.u16()?; // reserved
        let snaplen = fields.u32()?;
        let mut interface =
            Interface { link, snaplen, scale: Scale::Times(1000), offset_nanos: 0, name: None };
        while let Some((code, mut value)) = option(&mut fields) {
            match code {
                OPTION_NAME => interface.name = name(value.rest()),
                OPTION_RESOLUTION => {
                    if let Some(&resolution) = value.rest().first() {
                        interface.scale = Scale::of(resolution);
                    }
                }
                OPTION_OFFSET => {
                    if let Some(seconds) = value.i64() {
                        interface.offset_nanos = i128::from(seconds) * 1_000_000_000;
                    }
                }
                _ => {}
            }
        }
        Some(interface)
    }

    #[inline]
    fn time(&self, ticks: u64) -> (Timestamp, bool) {
        // Most need no wide numbers.
        if let (Scale::Times(nanos), 0) = (self.scale, self.offset_nanos)
            && let Some(Ok(nanos)) = ticks.checked_mul(nanos).map(i64::try_from)
        {
            return (Timestamp::from_nanos(nanos), false);
        }
        Timestamp::from_wide_nanos(self.scale.nanos(ticks) + self.offset_nanos)
    }
}

/// Takes the next option; one that is cut by the end of its block keeps what is there of it.
fn option<'a>(fields: &mut Fields<'a>) -> Option<(u16, Fields<'a>)> {
    let (code, len) = (fields.u16()?, fields.u16()?);
    if code == OPTION_END {
        return None;
    }
    let len = usize::from(len);
    let there = len.min(fields.rest().len());
    let value = fields.slice(there)?;
    fields.bytes((len.next_multiple_of(4) - len).min(fields.rest().len()))?;
    Some((code, value))
}

/// Reads an interface's name; some writers end it with a zero byte.
fn name(value: &[u8]) -> Option<Arc<str>> {
    let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value.get(..MAX_NAME).unwrap_or(value));
    // What is no UTF-8 has become longer.
    let value = &value[..value.floor_char_boundary(MAX_NAME)];
    (!value.is_empty()).then(|| value.into())
}

/// How ticks become nanoseconds.
#[derive(Clone, Copy)]
enum Scale {
    /// One tick is that many nanoseconds.
    Times(u64),
    /// That many ticks are one nanosecond.
    Parts(u64),
    /// A tick is 2 to the minus that many seconds.
    Halvings(u32),
}

impl Scale {
    /// Reads an if_tsresol byte: the top bit says whether the rest is a power of 2 or of 10.
    fn of(resolution: u8) -> Scale {
        let power = u32::from(resolution & 0x7F);
        if resolution & 0x80 != 0 {
            return Scale::Halvings(power);
        }
        match power {
            ..=9 => Scale::Times(10u64.pow(9 - power)),
            // From 10^-29 s on, no 64 bit of ticks reach a nanosecond.
            _ => 10u64.checked_pow(power - 9).map_or(Scale::Halvings(127), Scale::Parts),
        }
    }

    /// Rounds down to whole nanoseconds.
    #[inline]
    fn nanos(self, ticks: u64) -> i128 {
        match self {
            Scale::Times(nanos) => i128::from(ticks) * i128::from(nanos),
            Scale::Parts(ticks_per_nano) => (ticks / ticks_per_nano).into(),
            Scale::Halvings(power) => (i128::from(ticks) * 1_000_000_000) >> power,
        }
    }
}

/// The type of a section header block, the same in both byte orders.
pub(super) const SECTION: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];
const SECTION_HEADER: u32 = u32::from_be_bytes(SECTION);
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_END: u16 = 0;
const OPTION_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// Type and length.
const BLOCK_HEAD: usize = 8;
/// That and the fixed fields of an enhanced packet block.
const ENHANCED_HEAD: usize = BLOCK_HEAD + 20;
/// The length again.
const TRAILER: usize = 4;
const BLOCK_MIN: usize = BLOCK_HEAD + TRAILER;
const SECTION_MIN: usize = 28;
/// The longest block that has to be in memory at once; others are passed over whatever their length.
const MAX_BLOCK: usize = 16 * 1024 * 1024;
/// An interface costs memory until its section ends.
const MAX_INTERFACES: usize = 65_536;
const MAX_NAME: usize = 255;
