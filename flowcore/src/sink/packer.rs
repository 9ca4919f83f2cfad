//! Compression: rows of whole frames (gzip members, zstd frames) of whole lines.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::Compress;

/// How a file is compressed, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Returns what stands at the end of a name.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

impl From<Compress> for Compression {
    fn from(compress: Compress) -> Self {
        match compress {
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
        }
    }
}

/// Splits a destination into what stands before `.gz` or `.zst`, and what that says.
pub(super) fn split_compression(destination: &str) -> (&str, Compression) {
    for compression in [Compression::Gzip, Compression::Zstd] {
        if let Some(name) = destination.strip_suffix(compression.ending()) {
            return (name, compression);
        }
    }
    (destination, Compression::None)
}

/// Makes whole frames of whole lines.
pub(super) enum Packer {
    None,
    Gzip,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Packer::None,
            Compression::Gzip => Packer::Gzip,
            Compression::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL)?;
                compressor.include_checksum(true)?;
                Packer::Zstd(compressor)
            }
        })
    }

    /// Returns how many bytes of lines are sent off at once.
    pub(super) fn portion(&self) -> usize {
        match self {
            Packer::None => PLAIN_PORTION,
            Packer::Gzip | Packer::Zstd(_) => PACKED_PORTION,
        }
    }

    /// Makes a frame; none where lines are written as they are.
    pub(super) fn pack(&mut self, lines: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self {
            Packer::None => Ok(None),
            Packer::Gzip => {
                let mut member = GzEncoder::new(Vec::new(), flate2::Compression::default());
                member.write_all(lines)?;
                member.finish().map(Some)
            }
            Packer::Zstd(compressor) => compressor.compress(lines).map(Some),
        }
    }
}

/// Returns how many bytes the whole frames at the beginning of a compressed file have.
///
/// Whole are those that can be decompressed and have the checksum that they name.
///
/// # Errors
/// What the system says when it cannot be read, and [`ErrorKind::Interrupted`] when `goes_on` says no: however small a
/// file is, what is in it may take long to unpack.
pub(super) fn whole_frames(
    file: impl Read,
    compression: Compression,
    goes_on: impl Fn() -> bool,
) -> io::Result<u64> {
    let mut source = BufReader::with_capacity(FRAME_READ, Counted { inner: file, bytes: 0, failure: None });
    let mut whole = 0;
    loop {
        if source.fill_buf()?.is_empty() {
            return Ok(whole);
        }
        let frame = match compression {
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&mut source)
                .and_then(|frame| io::copy(&mut frame.single_frame(), &mut While(&goes_on))),
            _ => io::copy(&mut GzDecoder::new(&mut source), &mut While(&goes_on)),
        };
        if !goes_on() {
            return Err(ErrorKind::Interrupted.into());
        }
        if let Some(failure) = source.get_mut().failure.take() {
            return Err(failure);
        }
        if frame.is_err() {
            return Ok(whole);
        }
        whole = source.get_ref().bytes - source.buffer().len() as u64;
    }
}

/// Takes all bytes and forgets them, as long as that goes on.
struct While<F>(F);

impl<F: Fn() -> bool> Write for While<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0)() { Ok(bytes.len()) } else { Err(ErrorKind::Other.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is read, and tells a file that cannot be read from one that makes no sense.
struct Counted<R> {
    inner: R,
    bytes: u64,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(again) if again.kind() == ErrorKind::Interrupted => Err(again),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Compresses all of a source, in frames of its bytes as they come.
///
/// # Errors
/// What the system says, and [`ErrorKind::Interrupted`] when `goes_on` says no.
pub(super) fn pack_all(
    mut source: impl Read,
    into: &mut impl Write,
    compress: Compress,
    goes_on: impl Fn() -> bool,
) -> io::Result<()> {
    let mut packer = Packer::new(compress.into())?;
    let mut block = Vec::with_capacity(PACKED_PORTION);
    let mut has_frame = false;
    loop {
        block.clear();
        source.by_ref().take(PACKED_PORTION as u64).read_to_end(&mut block)?;
        // Without a frame it would be no compressed file: there is one even of nothing.
        if block.is_empty() && has_frame {
            return Ok(());
        }
        has_frame = true;
        if !goes_on() {
            return Err(ErrorKind::Interrupted.into());
        }
        if let Some(frame) = packer.pack(&block)? {
            into.write_all(&frame)?;
        }
    }
}

/// Returns what reads a compressed file.
pub(super) fn unpack<'a>(file: impl Read + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::Decoder::new(file)?),
    })
}

/// Bytes of lines that are written at once.
pub(super) const PLAIN_PORTION: usize = 256 * 1024;

/// Bytes of lines that are compressed at once: larger frames compress better.
const PACKED_PORTION: usize = 1024 * 1024;

/// Bytes that are read at once.
const FRAME_READ: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(compression: Compression, lines: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut packer = Packer::new(compression).unwrap();
        lines.iter().map(|lines| packer.pack(lines).unwrap().unwrap()).collect()
    }

    #[test]
    fn whole_frames_are_found_wherever_a_file_is_cut() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let big: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let frames = frames(compression, &[b"1\n2\n", b"3\n", &big]);
            let bytes = frames.concat();
            let (first, second) = (frames[0].len(), frames[0].len() + frames[1].len());
            for cut in (0..second + 50).chain([bytes.len() - 1, bytes.len()]) {
                let expected = match cut {
                    _ if cut < first => 0,
                    _ if cut < second => first,
                    _ if cut < bytes.len() => second,
                    _ => bytes.len(),
                };
                let whole = whole_frames(&bytes[..cut], compression, || true).unwrap();
                assert_eq!(whole, expected as u64, "{compression:?} at {cut}");
            }
            let mut holes = bytes.clone();
            holes[second + 1000..second + 2000].fill(0);
            assert_eq!(whole_frames(&holes[..], compression, || true).unwrap(), second as u64);
            let zeros = [&bytes[..], &[0; 5000]].concat();
            assert_eq!(whole_frames(&zeros[..], compression, || true).unwrap(), bytes.len() as u64);
        }
    }

    #[test]
    fn what_is_packed_comes_back() {
        let text = "a line\n".repeat(400_000);
        for compress in [Compress::Gzip, Compress::Zstd] {
            let mut packed = Vec::new();
            pack_all(text.as_bytes(), &mut packed, compress, || true).unwrap();
            assert_eq!(whole_frames(&packed[..], compress.into(), || true).unwrap(), packed.len() as u64);
            let mut back = String::new();
            unpack(&packed[..], compress.into()).unwrap().read_to_string(&mut back).unwrap();
            assert!(back == text);
            let mut nothing = Vec::new();
            pack_all(&[][..], &mut nothing, compress, || true).unwrap();
            assert!(whole_frames(&nothing[..], compress.into(), || true).unwrap() > 0);
            let stopped = pack_all(text.as_bytes(), &mut Vec::new(), compress, || false);
            assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
        }
    }

    #[test]
    fn unpacking_ends_where_it_is_told_to() {
        let megabytes = vec![0; 64 << 20];
        for compression in [Compression::Gzip, Compression::Zstd] {
            let bomb = Packer::new(compression).unwrap().pack(&megabytes).unwrap().unwrap();
            let looks = std::cell::Cell::new(0);
            let goes_on = || looks.replace(looks.get() + 1) < 3;
            let stopped = whole_frames(&bomb[..], compression, goes_on);
            assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
            // In the middle of the frame: it is looked at once more behind it.
            assert_eq!(looks.get(), 5, "{compression:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_damage() {
        let folder = std::fs::File::open("/").unwrap();
        assert!(whole_frames(folder, Compression::Zstd, || true).is_err());
    }
}
