//! gzip and zstd unpacked, so that damage takes nothing away of what lies before it.
//!
//! The readers of flate2 and zstd let go what they had unpacked in the call that meets damage, which may be many
//! packets. So the decoders below them are fed here: an inflater says how much it wrote even so, and zstd's is given
//! each block by itself, and whole.

use std::io::{self, BufRead};

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

/// A decoder and what it has unpacked.
pub(super) struct Unpack {
    codec: Codec,
    out: Vec<u8>,
    taken: usize,
    filled: usize,
    /// What is told once everything before it was taken.
    failure: Option<io::Error>,
}

enum Codec {
    Gzip(Box<Gzip>),
    Zstd(Zstd),
}

impl Unpack {
    pub(super) fn gzip() -> Self {
        Unpack::new(Codec::Gzip(Box::new(Gzip::new())))
    }

    pub(super) fn zstd() -> io::Result<Self> {
        Ok(Unpack::new(Codec::Zstd(Zstd::new()?)))
    }

    fn new(codec: Codec) -> Self {
        Unpack { codec, out: vec![0; OUT_LEN], taken: 0, filled: 0, failure: None }
    }

    /// Returns the name of the compression.
    pub(super) fn name(&self) -> &'static str {
        match self.codec {
            Codec::Gzip(_) => "gzip",
            Codec::Zstd(_) => "zstd",
        }
    }

    /// Reads unpacked bytes; 0 at the end.
    ///
    /// # Errors
    /// Those of `from`, and `WouldBlock` where a long way unpacks to nothing, after which it can be gone on with; others
    /// for damage.
    pub(super) fn read(&mut self, from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
        let mut in_vain = 0;
        while self.taken == self.filled {
            if in_vain >= READ_IN_VAIN {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            let input = from.fill_buf()?;
            let is_end = input.is_empty();
            let step = match &mut self.codec {
                Codec::Gzip(gzip) => gzip.step(input, &mut self.out),
                Codec::Zstd(zstd) => zstd.step(input, &mut self.out),
            };
            from.consume(step.read);
            in_vain += step.read;
            (self.taken, self.filled, self.failure) = (0, step.written, step.failure);
            if is_end && step.written == 0 && self.failure.is_none() {
                return Ok(0);
            }
        }
        let waiting = self.out.get(self.taken..self.filled).unwrap_or_default();
        let n = waiting.len().min(into.len());
        if let (Some(into), Some(from)) = (into.get_mut(..n), waiting.get(..n)) {
            into.copy_from_slice(from);
        }
        self.taken += n;
        Ok(n)
    }
}

/// What a decoder did with the input that it was given; none means that there is no more.
#[derive(Default)]
struct Step {
    read: usize,
    written: usize,
    failure: Option<io::Error>,
}

/// One gzip member after the other (RFC 1952).
struct Gzip {
    inflater: Decompress,
    part: Part,
    /// The bytes of this part so far, but for texts and the body.
    held: Vec<u8>,
    flags: u8,
    /// Of the header.
    head: Crc,
    /// Of what was unpacked.
    body: Crc,
}

/// A part of a member, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Part {
    Fixed,
    Extra,
    Name,
    Comment,
    HeadSum,
    Body,
    Tail,
}

impl Gzip {
    fn new() -> Self {
        Gzip {
            inflater: Decompress::new(false),
            part: Part::Fixed,
            held: Vec::new(),
            flags: 0,
            head: Crc::new(),
            body: Crc::new(),
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Step {
        match (self.part, input.first()) {
            (Part::Body, _) => self.inflate(input, out),
            (_, Some(&byte)) => Step { read: 1, written: 0, failure: self.take(byte).err().map(damage) },
            (Part::Fixed, None) if self.held.is_empty() => Step::default(),
            (_, None) => Step { failure: Some(damage(CUT)), ..Step::default() },
        }
    }

    fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Step {
        let before = (self.inflater.total_in(), self.inflater.total_out());
        let status = self.inflater.decompress(input, out, FlushDecompress::None);
        let read = (self.inflater.total_in() - before.0) as usize;
        let written = (self.inflater.total_out() - before.1) as usize;
        self.body.update(out.get(..written).unwrap_or_default());
        let failure = match status {
            Ok(Status::StreamEnd) => {
                self.part = Part::Tail;
                None
            }
            Ok(_) => (input.is_empty() && written == 0).then(|| damage(CUT)),
            Err(_) => Some(damage("corrupt deflate stream")),
        };
        Step { read, written, failure }
    }

    /// Takes a byte of what is around the body.
    fn take(&mut self, byte: u8) -> Result<(), &'static str> {
        self.held.push(byte);
        if self.part < Part::HeadSum {
            self.head.update(&[byte]);
        }
        match (self.part, self.held.as_slice()) {
            (Part::Fixed, [0x1f, 0x8b, 8, flags, _, _, _, _, _, _]) if *flags < 0x20 => self.flags = *flags,
            (Part::Fixed, held) if held.len() == 10 => return Err("invalid gzip header"),
            (Part::Extra, [low, high, extra @ ..])
                if extra.len() == usize::from(u16::from_le_bytes([*low, *high])) => {}
            (Part::Name | Part::Comment, _) => {
                self.held.clear();
                if byte != 0 {
                    return Ok(());
                }
            }
            (Part::HeadSum, [low, high]) => {
                if self.head.sum().to_le_bytes().get(..2) != Some(&[*low, *high]) {
                    return Err("the checksum of a gzip header is wrong");
                }
            }
            (Part::Tail, held) if held.len() == 8 => {
                let sums = [self.body.sum().to_le_bytes(), self.body.amount().to_le_bytes()];
                if held != sums.as_flattened() {
                    return Err("what was unpacked does not match its checksum");
                }
                *self = Gzip::new();
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.held.clear();
        let parts = [(4, Part::Extra), (8, Part::Name), (16, Part::Comment), (2, Part::HeadSum)];
        let next = parts.into_iter().find(|(flag, part)| *part > self.part && self.flags & flag != 0);
        self.part = next.map_or(Part::Body, |(_, part)| part);
        Ok(())
    }
}

/// One zstd frame after the other (RFC 8878).
struct Zstd {
    decoder: Decoder<'static>,
    /// How many bytes the decoder would like: those of a block come with the header of the next one. 0 between frames.
    wanted: usize,
    /// What is held back until the decoder can be given all it wants: a call that fails gives nothing, and which one does
    /// must not depend on how the input comes.
    held: Vec<u8>,
    /// It may have more to give.
    is_full: bool,
}

impl Zstd {
    fn new() -> io::Result<Self> {
        Ok(Zstd { decoder: Decoder::new()?, wanted: 0, held: Vec::new(), is_full: false })
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Step {
        let mut step = Step::default();
        if !self.is_full {
            let wanted = match self.wanted {
                // What ends a frame may show that it is damaged: then what these bytes gave is gone.
                0..=BLOCK_HEADER => 1,
                // More than a block is a frame to be skipped, which gives nothing that could be lost.
                wanted => (wanted - BLOCK_HEADER).min(OUT_LEN),
            };
            let missing = wanted.saturating_sub(self.held.len());
            let piece = input.get(..missing).unwrap_or(input);
            self.held.extend_from_slice(piece);
            step.read = piece.len();
            if self.held.len() < wanted && !input.is_empty() {
                return step;
            }
            if self.held.is_empty() {
                step.failure = (self.wanted > 0).then(|| damage(CUT));
                return step;
            }
        }
        let (mut from, mut to) = (InBuffer::around(self.held.as_slice()), OutBuffer::around(&mut *out));
        let wanted = self.decoder.run(&mut from, &mut to);
        let (taken, written) = (from.pos(), to.pos());
        self.held.drain(..taken);
        self.wanted = *wanted.as_ref().unwrap_or(&0);
        self.is_full = self.wanted > 0 && written == out.len();
        let is_cut = input.is_empty() && written == 0 && self.wanted > 0;
        let failure = wanted.err().map(told).or_else(|| is_cut.then(|| damage(CUT)));
        Step { written, failure, ..step }
    }
}

/// Says what zstd's words leave open: a frame that is sound may want too much.
fn told(error: io::Error) -> io::Error {
    match error.to_string().contains("too much memory") {
        true => io::Error::new(io::ErrorKind::OutOfMemory, TOO_LARGE),
        false => error,
    }
}

fn damage(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const CUT: &str = "cut short";
/// zstd's own limit, which it has where none is set.
const TOO_LARGE: &str =
    "it may be sound, but is refused: it takes more than 128 MiB of memory (zstd --long=28 and above)";
/// The length of a block's header (RFC 8878, 3.1.1.2).
const BLOCK_HEADER: usize = 3;
/// How much may be read that unpacks to nothing, as empty members or frames to be skipped do, before the caller is asked.
const READ_IN_VAIN: usize = 1024 * 1024;
/// Room for a zstd block, and the most that one takes; an inflater writes a quarter of it at most.
const OUT_LEN: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_frame_that_wants_too_much_memory_is_not_called_damaged() {
        // A window of 2 GiB, as `zstd --long=31` makes it.
        let mut frame: &[u8] = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
        let refused = Unpack::zstd().unwrap().read(&mut frame, &mut [0; 10]).unwrap_err();
        assert_eq!(refused.to_string(), TOO_LARGE);
    }

    #[test]
    fn a_frame_to_be_skipped_is_not_held() {
        let header = [b"\x50\x2A\x4D\x18".as_slice(), &u32::MAX.to_le_bytes()].concat();
        let mut from = io::BufReader::new(header.chain(io::repeat(0)).take(64 << 20));
        let mut unpack = Unpack::zstd().unwrap();
        while unpack
            .read(&mut from, &mut [0; 8])
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        {}
        let Codec::Zstd(zstd) = &unpack.codec else { panic!("no zstd") };
        assert!(zstd.held.capacity() <= 2 * OUT_LEN, "{}", zstd.held.capacity());
    }
}
