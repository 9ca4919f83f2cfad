//! Puts `instance` and `seq` into lines.

/// The last members of the next line, ready to be copied.
pub(super) struct Stamp {
    /// `,"instance":"00c0ffee00c0ffee","seq":` and the digits of the number, then `}` and the end of the line.
    text: Vec<u8>,
    instance: u64,
    seq: u64,
}

impl Stamp {
    /// Makes the stamp of an instance whose next number is `seq`.
    pub(super) fn new(instance: u64, seq: u64) -> Self {
        let text = format!(",\"instance\":\"{instance:016x}\",\"seq\":{seq}}}\n").into_bytes();
        Stamp { text, instance, seq }
    }

    pub(super) fn instance(&self) -> u64 {
        self.instance
    }

    /// Returns the number that the next line gets.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Appends an object with its members and the next number; false, and nothing done, where it is no object.
    #[inline]
    pub(super) fn append(&mut self, object: &[u8], out: &mut Vec<u8>) -> bool {
        let (Some(b'{'), Some(members)) = (object.first(), object.strip_suffix(b"}")) else { return false };
        if members.is_empty() {
            return false;
        }
        out.extend_from_slice(members);
        // The only member has no comma before it.
        let comma = usize::from(members == b"{");
        out.extend_from_slice(self.text.get(comma..).unwrap_or_default());
        self.advance();
        true
    }

    /// Counts on in the text: mostly one digit changes, and none is computed anew.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.seq += 1;
        let digits = self.text.iter_mut().rev().skip(b"}\n".len());
        for digit in digits {
            match digit {
                b'0'..=b'8' => {
                    *digit += 1;
                    return;
                }
                b'9' => *digit = b'0',
                _ => break,
            }
        }
        *self = Stamp::new(self.instance, self.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(stamp: &mut Stamp, object: &str) -> Option<String> {
        let mut out = Vec::new();
        stamp.append(object.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn members_are_added() {
        let mut stamp = Stamp::new(0xAB, 9);
        let first = stamped(&mut stamp, r#"{"a":{"b":"}"}}"#).unwrap();
        assert_eq!(first, "{\"a\":{\"b\":\"}\"},\"instance\":\"00000000000000ab\",\"seq\":9}\n");
        let second = stamped(&mut stamp, "{}").unwrap();
        assert_eq!(second, "{\"instance\":\"00000000000000ab\",\"seq\":10}\n");
        for wrong in ["", "{", "}", "[]", "1", "{} "] {
            assert_eq!(stamped(&mut stamp, wrong), None, "{wrong}");
        }
        assert_eq!(stamp.seq(), 11);
    }

    #[test]
    fn the_text_counts_as_the_number_does() {
        for start in [0, 95, 9_998, 999_999_999_995] {
            let mut stamp = Stamp::new(1, start);
            for seq in start..start + 1_200 {
                assert_eq!(stamp.text, Stamp::new(1, seq).text);
                stamp.advance();
            }
        }
    }
}
