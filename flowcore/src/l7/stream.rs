//! A TCP byte stream put together, one direction of it, within bounds.

/// One direction of a TCP connection, as far as a protocol has not read it yet.
///
/// Bytes that come again are left out, the first ones win; segments that come early are parked, at most
/// 8 of them and 64 KiB. Where the stream begins, or goes on after a loss, is where the protocol finds
/// the beginning of a frame at the beginning of a segment. After three losses in a row it gives up.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The sequence number behind all bytes that were taken.
    next: Option<u32>,
    /// Bytes in order that are no whole frame yet.
    ready: Vec<u8>,
    /// Segments behind a hole.
    parked: Vec<(u32, Box<[u8]>)>,
    /// Losses since the last frame.
    losses: u8,
}

impl Stream {
    /// Says where the stream stands, for the case that nothing of it was seen: the acknowledgement
    /// number of the other side.
    pub(super) fn expect(&mut self, seq: u32) {
        if self.next.is_none() && self.parked.is_empty() && self.losses == 0 {
            self.next = Some(seq);
        }
    }

    /// Takes a segment, and hands all bytes that are now in order to `frames`.
    ///
    /// `frames` returns how many bytes it has read: whole frames; `None` says that no frame begins there.
    /// Returns how often the thread was lost.
    pub(super) fn feed(
        &mut self,
        seq: u32,
        bytes: &[u8],
        frames: &mut impl FnMut(&[u8]) -> Option<usize>,
    ) -> u32 {
        if self.losses >= MAX_LOSSES {
            return 0;
        }
        let before = self.losses;
        if !self.take(seq, bytes, frames) {
            self.park(seq, bytes);
        }
        self.unpark(frames);
        let mut lost = u32::from(self.losses.saturating_sub(before));
        if self.is_overfull() {
            self.lose();
            lost += 1;
            self.begin_anew(frames);
        }
        if self.losses >= MAX_LOSSES {
            (self.ready, self.parked) = (Vec::new(), Vec::new());
        }
        lost
    }

    /// Forgets where it stands, because bytes of the stream were not captured.
    pub(super) fn forget(&mut self) {
        self.next = None;
        self.ready.clear();
    }

    /// Returns how many bytes it holds outside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.ready.capacity()
            + self.parked.capacity() * size_of::<(u32, Box<[u8]>)>()
            + self.parked.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    /// Takes a segment if it is in order, or begins the stream; `false` leaves it to be parked.
    fn take(&mut self, seq: u32, bytes: &[u8], frames: &mut impl FnMut(&[u8]) -> Option<usize>) -> bool {
        let Some(next) = self.next else {
            let Some(used) = frames(bytes) else { return false };
            self.next = Some(seq);
            self.keep(bytes, used);
            return true;
        };
        let old = next.wrapping_sub(seq) as usize;
        if old > MAX_BEHIND {
            return false;
        }
        let Some(fresh) = bytes.get(old..).filter(|fresh| !fresh.is_empty()) else { return true };
        if self.ready.is_empty() {
            match frames(fresh) {
                Some(used) => self.keep(fresh, used),
                None => self.lose(),
            }
            return true;
        }
        self.grow(fresh);
        match frames(&self.ready) {
            Some(used) => {
                self.ready.drain(..used.min(self.ready.len()));
                self.advance(fresh.len(), used);
            }
            None => self.lose(),
        }
        true
    }

    /// Keeps what `frames` did not use of bytes that came in order.
    fn keep(&mut self, bytes: &[u8], used: usize) {
        self.grow(bytes.get(used..).unwrap_or_default());
        self.advance(bytes.len(), used);
    }

    fn advance(&mut self, len: usize, used: usize) {
        self.next = self.next.map(|next| next.wrapping_add(len as u32));
        if used > 0 {
            self.losses = 0;
        }
    }

    /// Appends; doubles the memory where it has to, so that a stream of single bytes stays cheap.
    fn grow(&mut self, bytes: &[u8]) {
        let len = self.ready.len() + bytes.len();
        if len > self.ready.capacity() {
            self.ready.reserve_exact(len.max(self.ready.len() * 2) - self.ready.len());
        }
        self.ready.extend_from_slice(bytes);
    }

    fn lose(&mut self) {
        self.forget();
        self.losses = self.losses.saturating_add(1);
    }

    fn park(&mut self, seq: u32, bytes: &[u8]) {
        let known = |(other, held): &(u32, Box<[u8]>)| *other == seq && held.len() >= bytes.len();
        if !self.parked.iter().any(known) {
            self.parked.push((seq, bytes.into()));
        }
    }

    /// Takes parked segments for as long as one is in order.
    fn unpark(&mut self, frames: &mut impl FnMut(&[u8]) -> Option<usize>) {
        while let Some(next) = self.next {
            let in_order = |(seq, _): &(u32, Box<[u8]>)| next.wrapping_sub(*seq) as usize <= MAX_BEHIND;
            let Some(at) = self.parked.iter().position(in_order) else { return };
            let (seq, bytes) = self.parked.swap_remove(at);
            self.take(seq, &bytes, frames);
        }
    }

    fn is_overfull(&self) -> bool {
        let bytes: usize = self.parked.iter().map(|(_, bytes)| bytes.len()).sum();
        self.parked.len() > MAX_PARKED || bytes > MAX_PARKED_BYTES
    }

    /// Goes on behind a loss with the earliest parked segment in which a frame begins.
    fn begin_anew(&mut self, frames: &mut impl FnMut(&[u8]) -> Option<usize>) {
        let mut parked = std::mem::take(&mut self.parked);
        let Some(&(anchor, _)) = parked.first() else { return };
        parked.sort_by_key(|(seq, _)| seq.wrapping_sub(anchor) as i32);
        for (seq, bytes) in parked {
            let begun = self.next.is_some();
            if !self.take(seq, &bytes, frames) && begun {
                self.park(seq, &bytes);
            }
        }
    }
}

const MAX_PARKED: usize = 8;
const MAX_PARKED_BYTES: usize = 64 * 1024;
const MAX_LOSSES: u8 = 3;
/// What is less far behind has been seen before; what is further "behind" is ahead, modulo 2^32.
const MAX_BEHIND: usize = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of one length byte below 100 and as many bytes.
    fn feed(stream: &mut Stream, seq: u32, bytes: &[u8], found: &mut Vec<String>) -> u32 {
        stream.feed(seq, bytes, &mut |available| {
            let mut used = 0;
            while let Some((&len, rest)) = available[used..].split_first() {
                if len >= 100 {
                    return None;
                }
                let Some(frame) = rest.get(..usize::from(len)) else { break };
                found.push(String::from_utf8_lossy(frame).into_owned());
                used += 1 + frame.len();
            }
            Some(used)
        })
    }

    fn all(segments: &[(u32, &[u8])]) -> Vec<String> {
        let (mut stream, mut found) = (Stream::default(), Vec::new());
        for &(seq, bytes) in segments {
            feed(&mut stream, seq, bytes, &mut found);
        }
        found
    }

    #[test]
    fn in_order_and_split() {
        assert_eq!(all(&[(0, b"\x03abc\x02de")]), ["abc", "de"]);
        assert_eq!(all(&[(0, b"\x03a"), (2, b"bc\x02d"), (6, b"e")]), ["abc", "de"]);
    }

    #[test]
    fn across_the_end_of_the_sequence_numbers() {
        assert_eq!(all(&[(u32::MAX, b"\x03a"), (1, b"bc")]), ["abc"]);
    }

    #[test]
    fn reordered_and_repeated() {
        assert_eq!(all(&[(0, b"\x03a"), (4, b"\x02de"), (2, b"bc")]), ["abc", "de"]);
        assert_eq!(all(&[(0, b"\x03a"), (0, b"\x03a"), (1, b"abc"), (0, b"\x03abc")]), ["abc"]);
        assert_eq!(all(&[(0, b"\x03a"), (3, b"c"), (3, b"c\x01d"), (2, b"b")]), ["abc", "d"]);
    }

    #[test]
    fn the_first_bytes_win() {
        assert_eq!(all(&[(0, b"\x03ab"), (1, b"XYc")]), ["abc"]);
    }

    #[test]
    fn begins_in_the_middle() {
        assert_eq!(all(&[(50, b"xyz"), (53, b"\x02ab")]), ["ab"]);
        let (mut stream, mut found) = (Stream::default(), Vec::new());
        stream.expect(10);
        feed(&mut stream, 12, b"bc", &mut found);
        feed(&mut stream, 10, b"\x03a", &mut found);
        assert_eq!(found, ["abc"]);
    }

    #[test]
    fn goes_on_after_a_hole_that_stays() {
        let (mut stream, mut found) = (Stream::default(), Vec::new());
        feed(&mut stream, 0, b"\x03a", &mut found);
        let mut lost = 0;
        for nth in 0..9 {
            lost += feed(&mut stream, 10 + 2 * nth, b"\x01b", &mut found);
        }
        assert_eq!((lost, found.len()), (1, 9));
        lost += feed(&mut stream, 28, b"\x01c", &mut found);
        assert_eq!((lost, found.last().map(String::as_str)), (1, Some("c")));
        assert_eq!(stream.parked.len(), 0);
    }

    #[test]
    fn memory_is_bounded_and_it_gives_up() {
        let (mut stream, mut found) = (Stream::default(), Vec::new());
        let mut lost = 0;
        for nth in 0..1000u32 {
            lost += feed(&mut stream, nth.wrapping_mul(0x1234_5678), &[255; 20_000], &mut found);
            assert!(stream.heap_bytes() <= MAX_PARKED_BYTES + 1024, "{}", stream.heap_bytes());
        }
        assert_eq!((lost, stream.heap_bytes()), (u32::from(MAX_LOSSES), 0));
        assert!(found.is_empty());
    }

    #[test]
    fn after_bytes_that_were_not_captured() {
        let (mut stream, mut found) = (Stream::default(), Vec::new());
        feed(&mut stream, 0, b"\x09abc", &mut found);
        stream.forget();
        feed(&mut stream, 10, b"\x02de", &mut found);
        assert_eq!(found, ["de"]);
    }
}
