//! Capture files written here byte by byte: each odd kind, each kind of damage.

use std::io;
use std::time::Duration;

use super::bytes::Order;
use super::{FileSource, Next, Source};
use crate::error::Error;

mod inputs;
mod pcap_file;
mod pcapng;

/// What a frame of a test is compared by.
#[derive(PartialEq, Debug, Clone)]
struct Seen {
    nanos: Option<i64>,
    data: Vec<u8>,
    wire_len: u32,
    link: u32,
    interface: Option<String>,
}

fn read(mut source: FileSource) -> (Vec<Seen>, Option<(u64, String)>) {
    let mut frames = Vec::new();
    loop {
        match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => frames.push(Seen {
                nanos: frame.time.map(|time| time.as_nanos()),
                data: frame.data.to_vec(),
                wire_len: frame.wire_len,
                link: frame.link.0,
                interface: frame.interface.map(|name| name.to_string()),
            }),
            Ok(Next::End) => return (frames, None),
            Ok(Next::Idle) => panic!("waits"),
            Err(Error::Damaged { offset, what, .. }) => return (frames, Some((offset, what))),
            Err(error) => panic!("{error}"),
        }
    }
}

fn read_bytes(bytes: &[u8]) -> (Vec<Seen>, Option<(u64, String)>) {
    read(FileSource::from_reader("test", io::Cursor::new(bytes.to_vec())))
}

/// Reads what has to be sound.
fn sound(bytes: &[u8]) -> Vec<Seen> {
    let (frames, damage) = read_bytes(bytes);
    assert_eq!(damage, None);
    frames
}

/// Reads what has to be damaged; returns the number of frames before, and where and what the damage is.
fn damaged(bytes: &[u8]) -> (usize, u64, String) {
    let (frames, damage) = read_bytes(bytes);
    let (offset, what) = damage.expect("no damage found");
    (frames.len(), offset, what)
}

/// Writes numbers in a byte order.
struct Writer {
    bytes: Vec<u8>,
    order: Order,
}

impl Writer {
    fn new(order: Order) -> Self {
        Writer { bytes: Vec::new(), order }
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        let bytes = if self.order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        self.put(&bytes)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        let bytes = if self.order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    // ---- pcap

    fn pcap(order: Order, magic: u32, version: (u16, u16), snaplen: u32, link: u32) -> Self {
        let mut writer = Writer::new(order);
        writer.u32(magic).u16(version.0).u16(version.1).u32(0).u32(0).u32(snaplen).u32(link);
        writer
    }

    fn micros() -> Self {
        Writer::pcap(Order::Little, MICROS, (2, 4), 262_144, 1)
    }

    fn record(&mut self, seconds: u32, ticks: u32, wire: u32, data: &[u8]) -> &mut Self {
        self.u32(seconds).u32(ticks).u32(data.len() as u32).u32(wire).put(data)
    }

    // ---- pcapng

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let len = padded as u32 + 12;
        self.u32(kind).u32(len).put(body).put(&[0; 3][..padded - body.len()]).u32(len)
    }

    /// Starts a section; what follows is in its byte order.
    fn section(&mut self, order: Order, version: (u16, u16)) -> &mut Self {
        self.order = order;
        let mut body = Writer::new(order);
        body.u32(0x1A2B_3C4D).u16(version.0).u16(version.1).u32(u32::MAX).u32(u32::MAX);
        self.block(SECTION, &body.bytes)
    }

    fn interface(&mut self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = Writer::new(self.order);
        body.u16(link).u16(0).u32(snaplen);
        for (code, value) in options {
            body.u16(*code).u16(value.len() as u16).put(value);
            body.put(&[0; 3][..value.len().next_multiple_of(4) - value.len()]);
        }
        body.u16(0).u16(0);
        self.block(1, &body.bytes)
    }

    fn enhanced(&mut self, interface: u32, ticks: u64, wire: u32, data: &[u8]) -> &mut Self {
        let body = self.enhanced_body(interface, ticks, data.len() as u32, wire, data);
        self.block(6, &body)
    }

    fn enhanced_body(&self, interface: u32, ticks: u64, captured: u32, wire: u32, data: &[u8]) -> Vec<u8> {
        let mut body = Writer::new(self.order);
        body.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32).u32(captured).u32(wire).put(data);
        body.bytes
    }

    fn ng() -> Self {
        let mut writer = Writer::new(Order::Little);
        writer.section(Order::Little, (1, 0));
        writer
    }
}

const MICROS: u32 = 0xA1B2_C3D4;
const NANOS: u32 = 0xA1B2_3C4D;
const MODIFIED: u32 = 0xA1B2_CD34;
const SECTION: u32 = 0x0A0D_0D0A;
const BOTH: [Order; 2] = [Order::Little, Order::Big];
