//! Which bytes of a side were seen, by their sequence numbers (all arithmetic modulo 2^32).

/// The sequence numbers that one side has sent: all from `first` to `next`, except its [`Holes`].
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stream {
    first: u32,
    next: u32,
    started: bool,
}

/// A segment by its sequence numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Its sequence number.
    pub(super) start: u32,
    /// How many numbers it takes: payload, and one each for SYN and FIN.
    pub(super) len: u32,
    /// It has none of SYN, FIN and RST.
    pub(super) plain: bool,
    /// Its number cannot be trusted to follow what was sent: an RST without data.
    pub(super) bare_reset: bool,
    /// It is a SYN that numbers start anew with.
    pub(super) restart: bool,
}

/// What a segment brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// New bytes, or none at all.
    New,
    /// Only bytes already seen.
    Retransmit,
    /// Bytes that were missing.
    OutOfOrder,
}

/// Numbers that were skipped, at most four ranges; a fifth takes the place of the oldest, whose
/// numbers count as seen from then on.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Holes {
    list: [Hole; 4],
    len: u8,
}

#[derive(Clone, Copy, Default, Debug)]
struct Hole {
    start: u32,
    end: u32,
    /// The peer has acknowledged bytes of it.
    acknowledged: bool,
}

impl Stream {
    /// Takes in a segment that begins where the last one ended, as most do; returns whether it did.
    #[inline]
    pub(super) fn append(&mut self, segment: Segment) -> bool {
        let fits = self.started && segment.start == self.next && !segment.restart;
        if fits {
            self.advance(segment.start.wrapping_add(segment.len));
        }
        fits
    }

    /// Takes in any segment; returns what it brought.
    pub(super) fn insert(&mut self, segment: Segment, holes: &mut Holes) -> News {
        let Segment { start, len, .. } = segment;
        if segment.bare_reset {
            return News::New;
        }
        let end = start.wrapping_add(len);
        if !self.started || segment.restart {
            *self = Stream { first: start, next: end, started: true };
            *holes = Holes::default();
            return News::New;
        }
        let keep_alive = segment.plain && len <= 1 && start.wrapping_add(1) == self.next;
        if keep_alive || len == 0 && !is_before(self.next, start) {
            return News::New;
        }
        let filled = holes.fill(start, end);
        let below = is_before(start, self.first);
        let beyond = is_before(self.next, end);
        if below {
            if is_before(end, self.first) {
                holes.open(end, self.first);
            }
            self.first = start;
        }
        if is_before(self.next, start) {
            holes.open(self.next, start);
        }
        if beyond || is_before(self.next, start) {
            self.advance(end);
            holes.forget_before(self.first);
        }
        match (filled, below || beyond || len == 0) {
            (true, _) => News::OutOfOrder,
            (false, true) => News::New,
            (false, false) => News::Retransmit,
        }
    }

    /// Tells whether a side's first SYN, having this number, can have opened what was seen before it.
    pub(super) fn is_opened_by(&self, syn: u32) -> bool {
        !self.started || self.first.wrapping_sub(syn) <= LATE
    }

    /// Takes in the rest of a segment whose beginning was counted.
    pub(super) fn complete(&mut self, start: u32, end: u32, holes: &mut Holes) {
        holes.fill(start, end);
        if self.started && is_before(self.next, end) {
            self.advance(end);
        }
    }

    #[inline]
    fn advance(&mut self, next: u32) {
        self.next = next;
        if next.wrapping_sub(self.first) > REACH {
            self.first = next.wrapping_sub(REACH);
        }
    }
}

impl Holes {
    /// Notes that the peer acknowledges everything before `ack`; returns how many holes that is news for.
    pub(super) fn acknowledge(&mut self, ack: u32) -> u64 {
        let mut news = 0;
        for hole in self.list.iter_mut().take(usize::from(self.len)) {
            if !hole.acknowledged && is_before(hole.start, ack) {
                hole.acknowledged = true;
                news += 1;
            }
        }
        news
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn open(&mut self, start: u32, end: u32) {
        self.push(Hole { start, end, acknowledged: false });
    }

    fn push(&mut self, hole: Hole) {
        if usize::from(self.len) == self.list.len() {
            self.list.rotate_left(1);
            self.len -= 1;
        }
        if let Some(place) = self.list.get_mut(usize::from(self.len)) {
            *place = hole;
            self.len += 1;
        }
    }

    /// Takes a range out of the holes; returns whether any of it was in one.
    fn fill(&mut self, start: u32, end: u32) -> bool {
        let before = std::mem::take(self);
        let mut filled = false;
        for &hole in before.list.iter().take(usize::from(before.len)) {
            if !is_before(start, hole.end) || !is_before(hole.start, end) {
                self.push(hole);
                continue;
            }
            filled = true;
            if is_before(hole.start, start) {
                self.push(Hole { end: start, ..hole });
            }
            if is_before(end, hole.end) {
                self.push(Hole { start: end, ..hole });
            }
        }
        filled
    }

    /// Drops holes that are too old for their numbers to be told from new ones.
    fn forget_before(&mut self, first: u32) {
        let before = std::mem::take(self);
        for &hole in before.list.iter().take(usize::from(before.len)) {
            if !is_before(hole.start, first) {
                self.push(hole);
            }
        }
    }
}

/// Tells whether `a` comes before `b`: by less than 2^31 numbers.
#[inline]
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// How far back what was seen is remembered: the largest window that TCP has (RFC 7323), and half the
/// distance at which earlier and later can be told apart.
const REACH: u32 = 1 << 30;

/// How many bytes can overtake the SYN before them: the largest window before it is answered.
const LATE: u32 = 0xFFFF;

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u32, len: u32) -> Segment {
        Segment { start, len, plain: true, bare_reset: false, restart: false }
    }

    fn run(segments: &[(u32, u32)]) -> Vec<News> {
        let (mut stream, mut holes) = (Stream::default(), Holes::default());
        let mut take = |&(start, len): &(u32, u32)| match stream.append(segment(start, len)) {
            true => News::New,
            false => stream.insert(segment(start, len), &mut holes),
        };
        segments.iter().map(&mut take).collect()
    }

    #[test]
    fn in_order_across_the_wrap() {
        assert_eq!(run(&[(u32::MAX - 9, 10), (0, 5), (5, 5)]), [News::New; 3]);
        assert_eq!(run(&[(u32::MAX - 9, 20), (u32::MAX - 9, 20)])[1], News::Retransmit);
        let wrapped = run(&[(u32::MAX - 9, 5), (5, 5), (u32::MAX - 4, 10)]);
        assert_eq!(wrapped, [News::New, News::New, News::OutOfOrder]);
    }

    #[test]
    fn partly_new_is_new() {
        assert_eq!(run(&[(0, 100), (50, 100), (50, 100)]), [News::New, News::New, News::Retransmit]);
    }

    #[test]
    fn before_the_first_number_seen_is_new() {
        let got = run(&[(100, 10), (50, 10), (60, 40), (50, 10)]);
        assert_eq!(got, [News::New, News::New, News::OutOfOrder, News::Retransmit]);
    }

    #[test]
    fn a_hole_is_filled_from_its_middle() {
        let got = run(&[(0, 10), (40, 10), (20, 10), (10, 10), (30, 10), (20, 10)]);
        use News::{New, OutOfOrder, Retransmit};
        assert_eq!(got, [New, New, OutOfOrder, OutOfOrder, OutOfOrder, Retransmit]);
    }

    #[test]
    fn the_fifth_hole_takes_the_place_of_the_oldest() {
        let skips: Vec<(u32, u32)> = (0..6).map(|nth| (nth * 20, 10)).collect();
        let with = |last| *run(&[&skips[..], &[last]].concat()).last().unwrap();
        assert_eq!(with((10, 10)), News::Retransmit, "the first hole is forgotten");
        assert_eq!(with((30, 10)), News::OutOfOrder);
        assert_eq!(with((90, 10)), News::OutOfOrder);
    }

    #[test]
    fn what_is_a_gigabyte_back_is_forgotten() {
        let step = 1 << 28;
        let walk: Vec<(u32, u32)> = (0..40u32).map(|nth| (nth.wrapping_mul(step), step)).collect();
        let mut all = walk.clone();
        all.push((39u32.wrapping_mul(step), 10));
        let got = run(&all);
        assert_eq!(got[..40], [News::New; 40]);
        assert_eq!(got[40], News::Retransmit);
    }

    #[test]
    fn acknowledged_holes_count_once() {
        let mut holes = Holes::default();
        holes.open(10, 20);
        holes.open(30, 40);
        assert_eq!(holes.acknowledge(10), 0);
        assert_eq!(holes.acknowledge(11), 1);
        assert_eq!(holes.acknowledge(45), 1);
        assert_eq!(holes.acknowledge(45), 0);
        assert!(holes.fill(15, 16), "an acknowledged hole can still be filled");
        assert_eq!(holes.acknowledge(50), 0);
    }
}
