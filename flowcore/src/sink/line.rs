//! Where bytes are appended: a buffer that grows, or a line that is put together in a block of fixed size.

use crate::time::{Minute, Timestamp};

/// Takes bytes at its end; what is spelled is spelled into one.
pub(super) trait Append {
    /// Appends the first bytes of a block: to copy a block of a fixed size and to cut it is faster than to copy any
    /// number of bytes.
    fn front<const SIZE: usize>(&mut self, block: &[u8; SIZE], length: usize);

    /// Appends bytes.
    fn bytes(&mut self, bytes: &[u8]);

    /// Appends RFC 3339 in UTC with nine digits.
    fn time(&mut self, time: Timestamp);

    /// Appends a whole block.
    #[inline(always)]
    fn block<const SIZE: usize>(&mut self, block: &[u8; SIZE]) {
        self.front(block, SIZE);
    }

    /// Appends a byte.
    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        self.front(&[byte], 1);
    }
}

impl Append for Vec<u8> {
    #[inline]
    fn front<const SIZE: usize>(&mut self, block: &[u8; SIZE], length: usize) {
        let end = self.len() + length;
        self.extend_from_slice(block);
        self.truncate(end);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn time(&mut self, time: Timestamp) {
        self.extend_from_slice(&time.rfc3339());
    }
}

/// A line that is put together in a block of fixed size, and what is remembered from line to line.
///
/// A cursor moves over the block, while each byte appended to a `Vec` makes it ask for room, which is a call, and read
/// its place and length from memory again. What finds no room fills the line: nothing else fits then, and the line has
/// to be put together elsewhere.
pub(super) struct Line {
    block: Box<[u8; SIZE]>,
    end: usize,
    minute: Minute,
}

impl Line {
    pub(super) fn new() -> Self {
        Line { block: Box::new([0; SIZE]), end: 0, minute: Minute::default() }
    }

    /// Starts anew.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.end = 0;
    }

    /// Returns the line; none where it had no room.
    #[inline]
    pub(super) fn whole(&self) -> Option<&[u8]> {
        self.block.get(..self.end).filter(|line| line.len() < SIZE)
    }

    /// Appends from `WIDTH` to `2 * WIDTH` bytes: two blocks that overlap.
    #[inline(always)]
    fn ends<const WIDTH: usize>(&mut self, bytes: &[u8]) {
        if let (Some(first), Some(last)) = (bytes.first_chunk::<WIDTH>(), bytes.last_chunk::<WIDTH>()) {
            self.front(first, bytes.len() - WIDTH);
            self.block(last);
        }
    }
}

impl Append for Line {
    #[inline(always)]
    fn front<const WIDTH: usize>(&mut self, block: &[u8; WIDTH], length: usize) {
        self.end = if self.end <= SIZE - WIDTH
            && let Some(place) = self.block.get_mut(self.end..self.end + WIDTH)
        {
            place.copy_from_slice(block);
            self.end + length
        } else {
            SIZE
        };
    }

    #[inline(always)]
    fn bytes(&mut self, mut bytes: &[u8]) {
        match bytes.len() {
            16.. => {
                while bytes.len() > 32
                    && let Some((block, rest)) = bytes.split_first_chunk::<16>()
                {
                    self.block(block);
                    bytes = rest;
                }
                self.ends::<16>(bytes);
            }
            8..16 => self.ends::<8>(bytes),
            4..8 => self.ends::<4>(bytes),
            2..4 => self.ends::<2>(bytes),
            0..2 => bytes.iter().for_each(|&byte| self.byte(byte)),
        }
    }

    #[inline(always)]
    fn time(&mut self, time: Timestamp) {
        let text = self.minute.rfc3339(time);
        self.block(&text);
    }
}

/// Nearly all lines are shorter.
const SIZE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_number_of_bytes() {
        let text: Vec<u8> = (0..=255).collect();
        let mut line = Line::new();
        for length in 0..text.len() {
            line.clear();
            line.byte(b'-');
            line.bytes(&text[..length]);
            line.front(b"--", 1);
            assert_eq!(line.whole().unwrap(), [b"-", &text[..length], b"-"].concat());
        }
    }

    #[test]
    fn a_full_line_stays_full() {
        let mut line = Line::new();
        for _ in 0..SIZE / 32 - 1 {
            line.block(&[b'a'; 32]);
        }
        assert_eq!(line.whole().unwrap().len(), SIZE - 32);
        line.front(&[b'b'; 32], 20);
        assert_eq!(line.whole().unwrap().len(), SIZE - 12);
        line.front(&[b'c'; 16], 1);
        assert_eq!(line.whole(), None);
        line.byte(b'd');
        line.bytes(b"");
        assert_eq!(line.whole(), None);
        line.clear();
        assert_eq!(line.whole(), Some(&[][..]));
    }

    proptest! {
        #[test]
        fn times_are_remembered_rightly(times in prop::collection::vec((any::<i64>(), 0..1_u64 << 37), 1..20)) {
            let mut line = Line::new();
            for (nanos, later) in times {
                for time in [Timestamp::from_nanos(nanos), Timestamp::from_nanos(nanos).saturating_add_nanos(later)] {
                    line.clear();
                    line.time(time);
                    prop_assert_eq!(line.whole().unwrap(), time.rfc3339());
                }
            }
        }
    }
}
