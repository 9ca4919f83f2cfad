//! The letters that tell the story of a flow: Zeek's history.

use crate::field::ShortText;
use crate::key::Dir;
use crate::packet::{TcpFacts, TcpFlags};

/// The letters of a history, at most `N` of them: what comes beyond is left out, since a sender could
/// otherwise add letters without end. Upper case is `src`.
///
/// In a later slice the letters start anew, while what was written once stays written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letters<const N: usize> {
    text: ShortText<N>,
    /// What each side has done, bit by bit.
    done: [u8; 2],
    /// Any letter was written, in any slice.
    begun: bool,
    /// `src` is not who sent the flow's first packet.
    turned: bool,
}

/// How many letters a TCP flow's history has at most, a `^` in front not counted.
pub(super) const CAPACITY: usize = 31;

/// The text of a history: [`CAPACITY`] letters, and `^`.
pub(super) type HistoryText = ShortText<{ CAPACITY + 1 }>;

/// Letters that each side writes once.
#[derive(Clone, Copy)]
pub(super) enum Once {
    Ack,
    Data,
    /// FIN with RST.
    Inconsistent,
    /// SYN with FIN or RST.
    MultiFlag,
}

/// The sequence numbers of a side's last SYN or SYN-ACK, FIN and RST, so that a repetition is no news.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct LastNumbers {
    numbers: [u32; 3],
    /// Which of them there are, bit by bit.
    known: u8,
}

#[derive(Clone, Copy)]
enum Control {
    Syn,
    Fin,
    Rst,
}

impl LastNumbers {
    /// Returns the number of the last SYN or SYN-ACK.
    #[inline]
    pub(super) fn syn(&self) -> Option<u32> {
        self.last(Control::Syn)
    }

    fn last(&self, control: Control) -> Option<u32> {
        (self.known >> control as u8 & 1 != 0).then_some(self.numbers[control as usize])
    }

    /// Remembers a number; returns whether it is another than the last one.
    fn replace(&mut self, control: Control, number: u32) -> bool {
        let news = self.last(control) != Some(number);
        self.numbers[control as usize] = number;
        self.known |= 1 << control as u8;
        news
    }
}

impl<const N: usize> Letters<N> {
    /// Makes an empty history of a flow whose first packet goes in direction `first`.
    pub(super) fn new(first: Dir) -> Self {
        Letters { text: ShortText::new(), done: [0; 2], begun: false, turned: first == Dir::Rev }
    }

    /// Returns the same history with room for [`CAPACITY`] letters.
    pub(super) fn widen(&self) -> Letters<CAPACITY> {
        let mut text = ShortText::new();
        self.text.as_bytes().iter().for_each(|&letter| {
            text.push(letter);
        });
        Letters { text, done: self.done, begun: self.begun, turned: self.turned }
    }

    /// Writes the letter of a TCP packet for its flags and payload.
    #[inline(always)]
    pub(super) fn segment(&mut self, last: &mut LastNumbers, at: usize, tcp: &TcpFacts, payload: u64) {
        let flags = tcp.flags;
        if flags.intersects(CONTROL) {
            self.control(last, at, tcp, payload);
        } else if payload > 0 {
            self.once(at, Once::Data);
        } else if flags.contains(TcpFlags::ACK) {
            self.once(at, Once::Ack);
        }
    }

    /// Writes a letter unless this side has it already.
    #[inline]
    pub(super) fn once(&mut self, at: usize, letter: Once) {
        let bit = 1 << letter as u8;
        if self.done[at] & bit == 0 {
            self.done[at] |= bit;
            self.write(at, b"ADIQ"[letter as usize]);
        }
    }

    /// Writes a letter, given in upper case.
    pub(super) fn write(&mut self, at: usize, letter: u8) {
        let done = &mut self.done[at];
        match letter {
            b'S' if !self.begun => *done |= OPENED,
            b'H' | b'A' | b'F' | b'G' | b'I' | b'Q' => *done |= ANSWERED,
            b'R' if *done & (OPENED | ANSWERED) == OPENED => *done |= ABORTED,
            _ => {}
        }
        self.begun = true;
        self.text.push(if at == 0 { letter } else { letter.to_ascii_lowercase() });
    }

    /// Tells whether the history, all slices together, matches `^\^?S[^HAFGIQ]*R`.
    pub(super) fn aborted_attempt(&self) -> bool {
        self.done[0] & ABORTED != 0
    }

    pub(super) fn turn(&mut self) {
        self.done.swap(0, 1);
        self.turned = !self.turned;
        for letter in self.text.bytes_mut() {
            *letter ^= CASE;
        }
    }

    pub(super) fn next_slice(&mut self) {
        self.text = ShortText::new();
    }

    /// Returns the history, `^` in front where the flow is turned round; none where it is empty.
    pub(super) fn text(&self) -> Option<HistoryText> {
        if self.text.as_bytes().is_empty() {
            return None;
        }
        let mut text = ShortText::new();
        if self.turned {
            text.push(b'^');
        }
        self.text.as_bytes().iter().for_each(|&letter| {
            text.push(letter);
        });
        Some(text)
    }

    fn control(&mut self, last: &mut LastNumbers, at: usize, tcp: &TcpFacts, payload: u64) {
        let flags = tcp.flags;
        let (fin, rst) = (flags.contains(TcpFlags::FIN), flags.contains(TcpFlags::RST));
        let (control, letter, number) = match (flags.contains(TcpFlags::SYN), fin, rst) {
            (_, true, true) => return self.once(at, Once::Inconsistent),
            (true, true, _) | (true, _, true) => return self.once(at, Once::MultiFlag),
            (true, ..) if flags.contains(TcpFlags::ACK) => (Control::Syn, b'H', tcp.seq),
            (true, ..) => (Control::Syn, b'S', tcp.seq),
            (_, true, _) => (Control::Fin, b'F', tcp.seq.wrapping_add(payload as u32)),
            _ => (Control::Rst, b'R', tcp.seq),
        };
        if last.replace(control, number) {
            self.write(at, letter);
        }
    }
}

/// The flags whose packets add no letter but their own.
pub(super) const CONTROL: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0);

/// The side's SYN is the first letter of the history.
const OPENED: u8 = 1 << 4;
/// The side wrote a letter with which its attempt is no longer a mere one.
const ANSWERED: u8 = 1 << 5;
/// The side sent RST after its opening SYN and nothing of the above in between.
const ABORTED: u8 = 1 << 6;

/// What upper and lower case of an ASCII letter differ by.
const CASE: u8 = 0x20;
