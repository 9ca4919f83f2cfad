//! Names: decoded in a loop, within bounds, and written in the notation of definitions.md ("DNS").

use super::text::{Text, escape};

/// A name in a message, found to be sound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    message: &'a [u8],
    start: usize,
    end: usize,
    /// Bytes of its labels, with their length bytes.
    len: usize,
}

impl<'a> Name<'a> {
    /// Reads the name that starts at `start`; follows compression and touches each label once.
    ///
    /// At most 255 bytes (and so 127 labels) and 32 pointers, each to a place before the labels that
    /// led to it. Every label and pointer is a step.
    ///
    /// # Errors
    /// [`NameFault`], where the name breaks one of these rules or leaves the message.
    #[inline]
    pub(super) fn read(message: &'a [u8], start: usize, steps: &mut Steps) -> Result<Name<'a>, NameFault> {
        let mut labels = Labels::new(message, start);
        while labels.step()?.is_some() {
            steps.take()?;
        }
        let end = labels.end.unwrap_or(labels.at);
        Ok(Name { message, start, end, len: labels.len })
    }

    /// Returns the place behind the name in the message.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Returns how many bytes its text has, if no byte must be escaped.
    pub(super) fn plain_len(&self) -> usize {
        self.len.saturating_sub(1).max(1)
    }

    /// Writes the name.
    pub(super) fn write(&self, out: &mut Text) {
        self.spell(|part| {
            out.bytes(part);
            true
        });
    }

    /// Tells whether the name would be written like this.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        self.compare(text, <[u8]>::eq)
    }

    /// Tells whether the name would be written like this but for the case of letters.
    pub(super) fn is_like(&self, text: &[u8]) -> bool {
        self.compare(text, |part, text| part == text || part.eq_ignore_ascii_case(text))
    }

    fn compare(&self, text: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        let mut rest = text;
        self.spell(|part| match rest.split_at_checked(part.len()) {
            Some((front, behind)) => {
                rest = behind;
                same(part, front)
            }
            None => false,
        }) && rest.is_empty()
    }

    /// Hands out the parts of the text until one is refused; tells whether none was.
    #[inline(always)]
    fn spell(&self, mut part: impl FnMut(&[u8]) -> bool) -> bool {
        let mut labels = Labels::new(self.message, self.start);
        let mut first = true;
        while let Ok(Some(step)) = labels.step() {
            let Step::Label(label) = step else { continue };
            if !std::mem::replace(&mut first, false) && !part(b".") {
                return false;
            }
            let spelt = if label.iter().all(|&byte| is_plain(byte)) {
                part(label)
            } else {
                let mut escaped = [0; 4];
                label.iter().all(|byte| match is_plain(*byte) {
                    true => part(std::slice::from_ref(byte)),
                    false => part(escape(*byte, &mut escaped)),
                })
            };
            if !spelt {
                return false;
            }
        }
        !first || part(b".")
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E) && byte != b'.' && byte != b'\\'
}

/// Why a name cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NameFault {
    /// It leaves the message.
    Cut,
    /// A label type other than length and pointer.
    LabelType,
    /// A pointer that does not point backwards.
    Pointer,
    /// More than 32 pointers.
    Hops,
    /// More than 255 bytes.
    TooLong,
    /// The message took too much work already.
    Work,
}

/// How much work a message may still take, counted in labels, pointers and records.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    left: u32,
}

impl Steps {
    /// What a message of 256 records with 32 labels each takes.
    pub(super) const MAX: u32 = 8192;

    pub(super) fn new() -> Steps {
        Steps { left: Steps::MAX }
    }

    #[inline]
    pub(super) fn take(&mut self) -> Result<(), NameFault> {
        self.left = self.left.checked_sub(1).ok_or(NameFault::Work)?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> u32 {
        Steps::MAX - self.left
    }
}

/// The walk along a name's labels.
struct Labels<'a> {
    message: &'a [u8],
    at: usize,
    /// Where the labels began that are being read: pointers must point before it.
    run: usize,
    /// The place behind the first pointer.
    end: Option<usize>,
    hops: u8,
    /// Bytes the name has, with length bytes and without its root.
    len: usize,
}

enum Step<'a> {
    Label(&'a [u8]),
    Hop,
}

impl<'a> Labels<'a> {
    fn new(message: &'a [u8], start: usize) -> Labels<'a> {
        Labels { message, at: start, run: start, end: None, hops: 0, len: 0 }
    }

    /// Goes on by a label or pointer; `None` is the root.
    #[inline]
    fn step(&mut self) -> Result<Option<Step<'a>>, NameFault> {
        let rest = self.message.get(self.at..).ok_or(NameFault::Cut)?;
        let (&head, rest) = rest.split_first().ok_or(NameFault::Cut)?;
        match head {
            0 => {
                self.at += 1;
                Ok(None)
            }
            1..=63 => {
                let label = rest.get(..usize::from(head)).ok_or(NameFault::Cut)?;
                self.at += 1 + label.len();
                self.len += 1 + label.len();
                if self.len + 1 > MAX_BYTES { Err(NameFault::TooLong) } else { Ok(Some(Step::Label(label))) }
            }
            0xC0.. => {
                let low = rest.first().ok_or(NameFault::Cut)?;
                let target = usize::from(head & 0x3F) << 8 | usize::from(*low);
                if target >= self.run {
                    return Err(NameFault::Pointer);
                }
                if self.hops == MAX_HOPS {
                    return Err(NameFault::Hops);
                }
                self.hops += 1;
                self.end.get_or_insert(self.at + 2);
                (self.at, self.run) = (target, target);
                Ok(Some(Step::Hop))
            }
            _ => Err(NameFault::LabelType),
        }
    }
}

const MAX_BYTES: usize = 255;
const MAX_HOPS: u8 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &[u8], start: usize) -> Result<(String, usize), NameFault> {
        let name = Name::read(message, start, &mut Steps::new())?;
        let mut out = Text::new(2000);
        name.write(&mut out);
        Ok((out.as_str().unwrap().to_owned(), name.end()))
    }

    #[test]
    fn letters_as_on_the_wire() {
        assert_eq!(text(b"\x03WwW\x07eXample\x00", 0), Ok(("WwW.eXample".into(), 13)));
        assert_eq!(text(b"\x00", 0), Ok((".".into(), 1)));
    }

    #[test]
    fn escapes() {
        assert_eq!(text(b"\x03a.b\x02c\\\x00", 0).unwrap().0, r"a\.b.c\\");
        assert_eq!(text(b"\x06 \x00\x7f\xff\"!\x00", 0).unwrap().0, r#"\032\000\127\255"!"#);
        assert_eq!(text(b"\x02\xc3\xa9\x00", 0).unwrap().0, r"\195\169");
    }

    #[test]
    fn compression_goes_strictly_backwards() {
        let message = b"\x03com\x00\x01x\xc0\x00\x01y\xc0\x05";
        assert_eq!(text(message, 5), Ok(("x.com".into(), 9)));
        assert_eq!(text(message, 9), Ok(("y.x.com".into(), 13)));
        assert_eq!(text(b"\xc0\x00", 0), Err(NameFault::Pointer));
        assert_eq!(text(b"\xc0\x02\xc0\x00", 0), Err(NameFault::Pointer));
        assert_eq!(text(b"\xc0\x02\xc0\x00", 2), Err(NameFault::Pointer));
        assert_eq!(text(b"\x01a\xc0\x00", 0), Err(NameFault::Pointer));
        assert_eq!(text(b"\x01a\xc0\x04\x00", 0), Err(NameFault::Pointer));
        assert_eq!(text(b"\x01a\xc0", 0), Err(NameFault::Cut));
    }

    #[test]
    fn cut_and_odd_labels() {
        assert_eq!(text(b"", 0), Err(NameFault::Cut));
        assert_eq!(text(b"\x00", 9), Err(NameFault::Cut));
        assert_eq!(text(b"\x03ab", 0), Err(NameFault::Cut));
        assert_eq!(text(b"\x02ab", 0), Err(NameFault::Cut));
        assert_eq!(text(b"\x40\x00", 0), Err(NameFault::LabelType));
        assert_eq!(text(b"\x80\x00", 0), Err(NameFault::LabelType));
    }

    #[test]
    fn at_most_255_bytes_and_127_labels() {
        let mut longest = Vec::new();
        for len in [63, 63, 63, 61] {
            longest.push(len);
            longest.extend(vec![b'a'; usize::from(len)]);
        }
        longest.push(0);
        assert_eq!(longest.len(), 255);
        assert_eq!(text(&longest, 0).unwrap().0.len(), 253);
        longest[192] = 62;
        longest.insert(193, b'a');
        assert_eq!(text(&longest, 0), Err(NameFault::TooLong));

        let most = [b"\x01a".repeat(127), vec![0]].concat();
        assert_eq!(text(&most, 0).unwrap().0.len(), 127 + 126);
        let more = [b"\x01a".repeat(128), vec![0]].concat();
        assert_eq!(text(&more, 0), Err(NameFault::TooLong));
    }

    #[test]
    fn at_most_32_pointers() {
        // A root, then pointers each to the one before.
        let mut chain = vec![0];
        for nth in 0..33u8 {
            chain.extend([0xC0, if nth == 0 { 0 } else { nth * 2 - 1 }]);
        }
        assert_eq!(text(&chain, 63), Ok((".".into(), 65)));
        assert_eq!(text(&chain, 65), Err(NameFault::Hops));
    }

    #[test]
    fn work_is_counted_and_bounded() {
        let message = [b"\x01a".repeat(127), vec![0]].concat();
        let mut steps = Steps::new();
        for _ in 0..Steps::MAX / 127 {
            assert!(Name::read(&message, 0, &mut steps).is_ok());
        }
        assert_eq!(steps.taken(), 64 * 127);
        assert_eq!(Name::read(&message, 0, &mut steps).unwrap_err(), NameFault::Work);
        assert_eq!(steps.taken(), Steps::MAX);
    }
}
