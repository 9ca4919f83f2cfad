//! Segments: files of frames, and the walk from frame to frame past whatever is damaged.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::frame::{HEADER_LEN, Header, MAGIC};

/// A segment in the folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Segment {
    /// The number in its name: that of its first record.
    pub first_seq: u64,
    /// Its length.
    pub bytes: u64,
}

/// Returns the path of the segment with this name.
pub(super) fn path(folder: &Path, first_seq: u64) -> PathBuf {
    folder.join(format!("{first_seq:020}{SUFFIX}"))
}

/// Lists the segments of a folder, oldest first; whatever else lies there is not looked at.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(first_seq) = entry.file_name().to_str().and_then(first_seq) else { continue };
        match entry.metadata() {
            Ok(there) if there.is_file() => segments.push(Segment { first_seq, bytes: there.len() }),
            Ok(_) => {}
            // Deleted by the other process meanwhile.
            Err(gone) if gone.kind() == ErrorKind::NotFound => {}
            Err(refused) => return Err(refused),
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Deletes a segment; false where it was gone already.
pub(super) fn delete(folder: &Path, first_seq: u64) -> io::Result<bool> {
    match fs::remove_file(path(folder, first_seq)) {
        Ok(()) => Ok(true),
        Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(false),
        Err(refused) => Err(refused),
    }
}

fn first_seq(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// What stands next in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A whole frame; what is packed in it is at [`Frames::packed`].
    Whole(Header),
    /// A frame whose header can be trusted and whose lines cannot.
    Damaged(Header),
    /// What may become a frame once more of it is written.
    Torn,
    /// Nothing.
    End,
}

/// Walks through the frames of a segment that may be written at the same time.
pub(super) struct Frames {
    file: File,
    first_seq: u64,
    /// Where the next frame begins.
    offset: u64,
    packed: Vec<u8>,
}

impl Frames {
    /// Opens a segment; none where it is gone.
    pub(super) fn open(folder: &Path, first_seq: u64) -> io::Result<Option<Self>> {
        match File::open(path(folder, first_seq)) {
            Ok(file) => Ok(Some(Frames { file, first_seq, offset: 0, packed: Vec::new() })),
            Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Returns the number in the segment's name.
    pub(super) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Tells whether the file has no name any more; what is in it can be read still.
    pub(super) fn is_deleted(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() == 0)
    }

    /// Returns how far the walk has come, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns what the last whole frame has packed in it.
    pub(super) fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Returns the header at this place, if there is one, whether or not all of its frame is there.
    pub(super) fn header(&self) -> io::Result<Option<Header>> {
        let mut head = [0; HEADER_LEN];
        let length = read_at(&self.file, &mut head, self.offset)?;
        Ok(head.get(..length).and_then(Header::parse))
    }

    /// Goes on to the next frame; frames of which all numbers are below `below` are passed over unread.
    pub(super) fn step(&mut self, below: u64) -> io::Result<Step> {
        loop {
            let mut head = [0; HEADER_LEN];
            match read_at(&self.file, &mut head, self.offset)? {
                0 => return Ok(Step::End),
                HEADER_LEN => {}
                _ => return Ok(Step::Torn),
            }
            let Some(header) = Header::parse(&head) else {
                match self.resync()? {
                    true => continue,
                    false => return Ok(Step::Torn),
                }
            };
            let end = self.offset.saturating_add(header.frame_len());
            if header.end() <= below {
                if end > self.file.metadata()?.len() {
                    return Ok(Step::Torn);
                }
                self.offset = end;
                continue;
            }
            let Some(mut is_whole) = self.read_packed(&header)? else { return Ok(Step::Torn) };
            if !is_whole {
                // A writer that ran out of room cuts a torn frame off and writes another in its place, so that
                // header and lines may have been read of two frames. Damage stays.
                let mut again = [0; HEADER_LEN];
                if read_at(&self.file, &mut again, self.offset)? < HEADER_LEN || again != head {
                    continue;
                }
                let Some(second) = self.read_packed(&header)? else { return Ok(Step::Torn) };
                is_whole = second;
            }
            self.offset = end;
            return Ok(if is_whole { Step::Whole(header) } else { Step::Damaged(header) });
        }
    }

    /// Goes on to the next header that can be trusted behind this place; false, and close to the end, where there is
    /// none.
    pub(super) fn resync(&mut self) -> io::Result<bool> {
        let mut block = vec![0; RESYNC_BLOCK];
        self.offset += 1;
        loop {
            let length = read_at(&self.file, &mut block, self.offset)?;
            let bytes = block.get(..length).unwrap_or_default();
            if length < HEADER_LEN {
                return Ok(false);
            }
            let mut at = 0;
            while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_LEN) {
                if rest.starts_with(&MAGIC) && Header::parse(rest).is_some() {
                    self.offset += at as u64;
                    return Ok(true);
                }
                at += 1 + rest.iter().skip(1).take_while(|&&byte| byte != MAGIC[0]).count();
            }
            // The last bytes may be the beginning of a header.
            self.offset += (length - HEADER_LEN + 1) as u64;
        }
    }

    /// Reads what is packed behind a header; none where it is not all there, false where the checksum is wrong.
    fn read_packed(&mut self, header: &Header) -> io::Result<Option<bool>> {
        self.packed.resize(header.packed_len as usize, 0);
        let length = read_at(&self.file, &mut self.packed, self.offset.saturating_add(HEADER_LEN as u64))?;
        Ok((length == self.packed.len()).then(|| crc32fast::hash(&self.packed) == header.checksum))
    }
}

/// Reads until the buffer is full or the file at its end; returns how much that was.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(length as u64)) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(again) if again.kind() == ErrorKind::Interrupted => {}
            Err(refused) => return Err(refused),
        }
    }
    Ok(length)
}

const SUFFIX: &str = ".spool";

const RESYNC_BLOCK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::super::frame::Packer;
    use super::*;
    use crate::time::Timestamp;

    /// A segment with frames of one record each, and where each begins.
    fn segment(folder: &Path, frames: u64) -> (Vec<u8>, Vec<usize>) {
        let mut packer = Packer::new().unwrap();
        let (mut bytes, mut begins) = (Vec::new(), Vec::new());
        for seq in 0..frames {
            let header = Header {
                gap: None,
                raw_len: 0,
                packed_len: 0,
                checksum: 0,
                instance: 1,
                first_seq: seq,
                records: 1,
                time: Timestamp::EPOCH,
            };
            begins.push(bytes.len());
            bytes.extend(packer.pack(header, format!("{{\"seq\":{seq}}}\n").as_bytes()).unwrap().1);
        }
        fs::write(path(folder, 0), &bytes).unwrap();
        (bytes, begins)
    }

    /// The numbers of the whole frames, up to the end.
    fn whole(folder: &Path) -> Vec<u64> {
        let mut frames = Frames::open(folder, 0).unwrap().unwrap();
        let mut found = Vec::new();
        loop {
            match frames.step(0).unwrap() {
                Step::Whole(header) => found.push(header.first_seq),
                Step::Damaged(_) => {}
                Step::Torn if frames.resync().unwrap() => {}
                Step::Torn | Step::End => return found,
            }
        }
    }

    #[test]
    fn names() {
        assert_eq!(first_seq("00000000000000000042.spool"), Some(42));
        assert_eq!(first_seq("18446744073709551615.spool"), Some(u64::MAX));
        for wrong in [
            "42.spool",
            "99999999999999999999.spool",
            "00000000000000000042.spoo",
            "",
            "+0000000000000000042.spool",
        ] {
            assert_eq!(first_seq(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_segments_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cursor", "x.spool", "00000000000000000009.spool", "00000000000000000002.spool.part"] {
            fs::write(folder.path().join(name), "four").unwrap();
        }
        fs::create_dir(path(folder.path(), 3)).unwrap();
        assert_eq!(list(folder.path()).unwrap(), [Segment { first_seq: 9, bytes: 4 }]);
        assert!(delete(folder.path(), 9).unwrap());
        assert!(!delete(folder.path(), 9).unwrap());
    }

    #[test]
    fn each_flipped_byte_costs_one_frame() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, begins) = segment(folder.path(), 3);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            fs::write(path(folder.path(), 0), &damaged).unwrap();
            let hit = begins.iter().rposition(|&begin| begin <= at).unwrap() as u64;
            let expected: Vec<u64> = (0..3).filter(|&seq| seq != hit).collect();
            assert_eq!(whole(folder.path()), expected, "byte {at}");
        }
    }

    #[test]
    fn missing_and_foreign_bytes_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, begins) = segment(folder.path(), 3);
        for cut in 1..begins[1] {
            fs::write(path(folder.path(), 0), &bytes[cut..]).unwrap();
            assert_eq!(whole(folder.path()), [1, 2], "{cut} bytes gone in front");
        }
        for foreign in [
            1,
            59,
            60,
            RESYNC_BLOCK - 60,
            RESYNC_BLOCK - 59,
            RESYNC_BLOCK - 1,
            RESYNC_BLOCK,
            RESYNC_BLOCK + 1,
        ] {
            let between = [vec![MAGIC[0]; foreign], bytes.clone()].concat();
            fs::write(path(folder.path(), 0), &between).unwrap();
            assert_eq!(whole(folder.path()), [0, 1, 2], "{foreign} bytes in front");
        }
    }

    #[test]
    fn a_torn_frame_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, begins) = segment(folder.path(), 2);
        for cut in begins[1]..bytes.len() {
            fs::write(path(folder.path(), 0), &bytes[..cut]).unwrap();
            let mut frames = Frames::open(folder.path(), 0).unwrap().unwrap();
            assert!(matches!(frames.step(0).unwrap(), Step::Whole(_)));
            let expected = if cut == begins[1] { Step::End } else { Step::Torn };
            assert_eq!(frames.step(0).unwrap(), expected, "cut at {cut}");
            assert_eq!(frames.step(2).unwrap(), expected, "cut at {cut}");
            fs::write(path(folder.path(), 0), &bytes).unwrap();
            assert!(matches!(frames.step(0).unwrap(), Step::Whole(header) if header.first_seq == 1));
        }
    }
}
