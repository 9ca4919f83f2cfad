//! What a writer finds when it opens a spool, and how it goes on from there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::frame::MAX_SEQ;
use super::segment::{self, Frames, Segment, Step};
use super::slots::Slots;
use super::store::{CURSOR, HEAD, MARK, Mark};

/// A spool that was found, or made.
pub(super) struct Found {
    pub head: Slots<2>,
    pub mark: Slots<4>,
    pub state: Mark,
    pub cursor: Slots<1>,
    pub segments: Vec<Segment>,
    pub instance: u64,
    /// The number of the next record.
    pub next_seq: u64,
    /// The first of the numbers below `next_seq` that no record will come for; `next_seq` where there are none.
    pub lost_from: u64,
}

/// Opens the spool in a folder for writing; `boot` names this run of the machine, 0 where that is not known.
pub(super) fn recover(folder: &Path, boot: u128) -> io::Result<Found> {
    make_folder(folder)?;
    let (mut head, was_head) = Slots::<2>::lock(&folder.join(HEAD), "writing")?;
    let (mut mark, was_mark) = Slots::<4>::open(&folder.join(MARK))?;
    let mut segments = segment::list(folder)?;
    put_in_order(folder, &mut segments)?;
    let tail = cut_tail(folder, &mut segments)?;
    // A reader that comes later knows then what was lost before.
    let is_new = was_head.is_none() && segments.is_empty();
    let mut cursor = begin_cursor(folder, is_new.then_some(0))?;
    let done = cursor.read().map(|[next]| next);
    let was_mark = was_mark.map(Mark::of_numbers).unwrap_or_default();

    let known = tail.seen.max(done.unwrap_or(0));
    let (instance, next_seq) = match was_head {
        // What was written in this run of the machine is there still, and so is the mark.
        Some([instance, _]) if boot != 0 && was_mark.boot == boot => (instance, known.max(was_mark.written)),
        Some([instance, reserved]) => (instance, known.max(reserved)),
        // Nobody knows how far numbers were used. Those of another instance are other numbers.
        None => (random()?, known.max(was_mark.written)),
    };
    if next_seq >= MAX_SEQ / 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the numbers of this spool are used up"));
    }
    if was_head.is_none_or(|[before, _]| before != instance) {
        head.write([instance, next_seq])?;
        head.sync()?;
        File::open(folder)?.sync_all()?;
    }
    let state = Mark { written: next_seq, deleted: was_mark.deleted.min(next_seq), boot };
    // A kill before the first record of this run leaves no doubt about the numbers that it had reserved.
    mark.write(state.to_numbers())?;
    let last_whole = [tail.whole, done].into_iter().flatten().max();
    Ok(Found {
        head,
        mark,
        cursor,
        state,
        segments,
        instance,
        next_seq,
        lost_from: last_whole.map_or(next_seq, |end| end.min(next_seq)),
    })
}

/// Returns a name of this run of the machine; 0 where the system tells none.
pub(super) fn boot() -> u128 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
}

/// Makes the folder of a spool, for its user only; what is there stays as it is.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Gives every segment the name that its first frame asks for, and deletes those without a frame: a name that is too
/// high would stand in the way of those to come.
fn put_in_order(folder: &Path, segments: &mut Vec<Segment>) -> io::Result<()> {
    for segment in segments.iter() {
        let Some(mut frames) = Frames::open(folder, segment.first_seq)? else { continue };
        let mut found = frames.header()?;
        if found.is_none() && frames.resync()? {
            found = frames.header()?;
        }
        match found.map(|header| header.first_seq) {
            // Its first frames may be damaged.
            Some(first) if first >= segment.first_seq => {}
            Some(first) if !segment::path(folder, first).exists() => {
                fs::rename(segment::path(folder, segment.first_seq), segment::path(folder, first))?;
            }
            _ => _ = segment::delete(folder, segment.first_seq)?,
        }
    }
    *segments = segment::list(folder)?;
    Ok(())
}

/// How far the numbers of the last segments go.
#[derive(Default)]
struct Tail {
    /// The number after the last whole frame, if there is one.
    whole: Option<u64>,
    /// The number after the last frame of which anything is known.
    seen: u64,
}

/// Cuts off what stands behind the last whole frame, and deletes the segments behind the one that has it.
fn cut_tail(folder: &Path, segments: &mut Vec<Segment>) -> io::Result<Tail> {
    let mut tail = Tail::default();
    while let Some(last) = segments.last_mut() {
        let Some(mut frames) = Frames::open(folder, last.first_seq)? else {
            segments.pop();
            continue;
        };
        let mut whole_bytes = 0;
        loop {
            match frames.step(0)? {
                Step::Whole(header) => {
                    tail.whole = tail.whole.max(Some(header.end()));
                    tail.seen = tail.seen.max(header.end());
                    whole_bytes = frames.offset();
                }
                Step::Damaged(header) => tail.seen = tail.seen.max(header.end()),
                Step::Torn => {
                    tail.seen = tail.seen.max(frames.header()?.map_or(0, |header| header.end()));
                    if !frames.resync()? {
                        break;
                    }
                }
                Step::End => break,
            }
        }
        if whole_bytes > 0 {
            if whole_bytes < last.bytes {
                let file = OpenOptions::new().write(true).open(segment::path(folder, last.first_seq))?;
                file.set_len(whole_bytes)?;
                file.sync_data()?;
                last.bytes = whole_bytes;
            }
            break;
        }
        segment::delete(folder, last.first_seq)?;
        segments.pop();
    }
    Ok(tail)
}

/// Opens the cursor, and has it say which number comes next if nobody has written into it.
pub(super) fn begin_cursor(folder: &Path, next: Option<u64>) -> io::Result<Slots<1>> {
    let (mut cursor, was) = Slots::<1>::open(&folder.join(CURSOR))?;
    if let (None, Some(next)) = (was, next) {
        cursor.write([next])?;
    }
    Ok(cursor)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if length == bytes.len() {
        Ok(u64::from_le_bytes(bytes))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
