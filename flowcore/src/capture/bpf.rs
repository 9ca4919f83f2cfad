//! A machine for classic BPF programs (McCanne and Jacobson 1993), as libpcap compiles them.
//!
//! The `pcap` package runs a program with the captured length as wire length, so that `less 100` is wrong for
//! packets that were cut. This machine is given both.

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) k: u32,
}

impl Instruction {
    /// Reads an instruction as libpcap's `-ddd` and the `pcap` package write it: four decimal numbers.
    pub(super) fn parse(text: &str) -> Option<Instruction> {
        let mut numbers = text.split_ascii_whitespace();
        let instruction = Instruction {
            code: numbers.next()?.parse().ok()?,
            if_true: numbers.next()?.parse().ok()?,
            if_false: numbers.next()?.parse().ok()?,
            k: numbers.next()?.parse().ok()?,
        };
        numbers.next().is_none().then_some(instruction)
    }
}

/// Runs a program on a packet; true if it lets the packet through.
///
/// Jumps only go forward, so that every program ends. A load beyond the captured bytes, a division by zero,
/// an unknown instruction and a program without return reject the packet.
pub(super) fn run(program: &[Instruction], data: &[u8], wire_len: u32) -> bool {
    Machine { a: 0, x: 0, memory: [0; 16], data, wire_len }.run(program).unwrap_or(0) != 0
}

struct Machine<'a> {
    a: u32,
    x: u32,
    memory: [u32; 16],
    data: &'a [u8],
    wire_len: u32,
}

impl Machine<'_> {
    fn run(&mut self, program: &[Instruction]) -> Option<u32> {
        let mut at = 0usize;
        loop {
            let op = program.get(at)?;
            at += 1;
            match op.code & CLASS {
                LD => self.a = self.load(op)?,
                LDX => self.x = self.load(op)?,
                ST => *self.memory.get_mut(op.k as usize)? = self.a,
                STX => *self.memory.get_mut(op.k as usize)? = self.x,
                ALU => self.a = self.calculate(op)?,
                JMP => at = at.checked_add(self.jump(op)?)?,
                RET => {
                    return match op.code & RETURN {
                        RETURN_K => Some(op.k),
                        RETURN_A => Some(self.a),
                        _ => None,
                    };
                }
                _ => match op.code & MISC {
                    TAX => self.x = self.a,
                    TXA => self.a = self.x,
                    _ => return None,
                },
            }
        }
    }

    fn load(&self, op: &Instruction) -> Option<u32> {
        match op.code & MODE {
            IMM => Some(op.k),
            ABS => self.fetch(op.code & SIZE, op.k),
            IND => self.fetch(op.code & SIZE, self.x.checked_add(op.k)?),
            MEM => self.memory.get(op.k as usize).copied(),
            LEN => Some(self.wire_len),
            // Four times the low half of a byte: an IPv4 header's length.
            MSH => Some((self.fetch(BYTE, op.k)? & 0xF) << 2),
            _ => None,
        }
    }

    fn fetch(&self, size: u16, at: u32) -> Option<u32> {
        let rest = self.data.get(at as usize..)?;
        match size {
            WORD => rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            HALF => rest.first_chunk().map(|bytes| u16::from_be_bytes(*bytes).into()),
            BYTE => rest.first().map(|byte| u32::from(*byte)),
            _ => None,
        }
    }

    fn calculate(&self, op: &Instruction) -> Option<u32> {
        let (a, b) = (self.a, self.operand(op));
        Some(match op.code & OPERATION {
            ADD => a.wrapping_add(b),
            SUB => a.wrapping_sub(b),
            MUL => a.wrapping_mul(b),
            DIV => a.checked_div(b)?,
            MOD => a.checked_rem(b)?,
            OR => a | b,
            AND => a & b,
            XOR => a ^ b,
            LSH => a.checked_shl(b).unwrap_or(0),
            RSH => a.checked_shr(b).unwrap_or(0),
            NEG => a.wrapping_neg(),
            _ => return None,
        })
    }

    /// Returns by how much to jump.
    fn jump(&self, op: &Instruction) -> Option<usize> {
        let (a, b) = (self.a, self.operand(op));
        let holds = match op.code & OPERATION {
            JA => return Some(op.k as usize),
            JEQ => a == b,
            JGT => a > b,
            JGE => a >= b,
            JSET => a & b != 0,
            _ => return None,
        };
        Some(usize::from(if holds { op.if_true } else { op.if_false }))
    }

    fn operand(&self, op: &Instruction) -> u32 {
        if op.code & FROM_X == 0 { op.k } else { self.x }
    }
}

const CLASS: u16 = 0x07;
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;

const SIZE: u16 = 0x18;
const WORD: u16 = 0x00;
const HALF: u16 = 0x08;
const BYTE: u16 = 0x10;

const MODE: u16 = 0xE0;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH: u16 = 0xA0;

const OPERATION: u16 = 0xF0;
const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const MOD: u16 = 0x90;
const XOR: u16 = 0xA0;

const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;

const FROM_X: u16 = 0x08;

const RETURN: u16 = 0x18;
const RETURN_K: u16 = 0x00;
const RETURN_A: u16 = 0x10;

const MISC: u16 = 0xF8;
const TAX: u16 = 0x00;
const TXA: u16 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    fn op(code: u16, if_true: u8, if_false: u8, k: u32) -> Instruction {
        Instruction { code, if_true, if_false, k }
    }

    /// Runs `program`, which leaves a value in A, and returns A.
    fn value(program: &[Instruction], data: &[u8], wire_len: u32) -> Option<u32> {
        let mut program = program.to_vec();
        program.push(op(RET | RETURN_A, 0, 0, 0));
        Machine { a: 0, x: 0, memory: [0; 16], data, wire_len }.run(&program)
    }

    #[test]
    fn loads() {
        let data = [0x45, 0x12, 0x34, 0x56, 0x78];
        let abs = |size, k| value(&[op(LD | ABS | size, 0, 0, k)], &data, 0);
        assert_eq!(abs(WORD, 1), Some(0x1234_5678));
        assert_eq!(abs(WORD, 2), None);
        assert_eq!(abs(HALF, 3), Some(0x5678));
        assert_eq!(abs(HALF, 4), None);
        assert_eq!(abs(BYTE, 4), Some(0x78));
        assert_eq!(abs(BYTE, 5), None);
        assert_eq!(abs(BYTE, u32::MAX), None);
        let x = op(LDX | MSH | BYTE, 0, 0, 0);
        assert_eq!(value(&[x, op(MISC_CLASS | TXA, 0, 0, 0)], &data, 0), Some(20));
        let three = op(LDX | IMM, 0, 0, 3);
        assert_eq!(value(&[three, op(LD | IND | BYTE, 0, 0, 1)], &data, 0), Some(0x78));
        assert_eq!(value(&[three, op(LD | IND | BYTE, 0, 0, u32::MAX)], &data, 0), None);
        assert_eq!(value(&[op(LD | LEN, 0, 0, 0)], &data, 1514), Some(1514));
    }

    #[test]
    fn memory() {
        let seven = op(LD | IMM, 0, 0, 7);
        let back = op(LDX | MEM, 0, 0, 15);
        let to_a = op(MISC_CLASS | TXA, 0, 0, 0);
        let zero = op(LD | IMM, 0, 0, 0);
        assert_eq!(value(&[seven, op(ST, 0, 0, 15), zero, back, to_a], &[], 0), Some(7));
        assert_eq!(value(&[seven, op(ST, 0, 0, 16)], &[], 0), None);
        assert_eq!(value(&[op(LD | MEM, 0, 0, 16)], &[], 0), None);
        let to_x = op(MISC_CLASS | TAX, 0, 0, 0);
        assert_eq!(value(&[seven, to_x, op(STX, 0, 0, 2), op(LD | MEM, 0, 0, 2)], &[], 0), Some(7));
    }

    #[test]
    fn arithmetic() {
        let with = |a, operation, k| value(&[op(LD | IMM, 0, 0, a), op(ALU | operation, 0, 0, k)], &[], 0);
        assert_eq!(with(u32::MAX, ADD, 2), Some(1));
        assert_eq!(with(1, SUB, 2), Some(u32::MAX));
        assert_eq!(with(1 << 31, MUL, 2), Some(0));
        assert_eq!(with(7, DIV, 2), Some(3));
        assert_eq!(with(7, DIV, 0), None);
        assert_eq!(with(7, MOD, 4), Some(3));
        assert_eq!(with(7, MOD, 0), None);
        assert_eq!(with(0b1100, OR, 0b1010), Some(0b1110));
        assert_eq!(with(0b1100, AND, 0b1010), Some(0b1000));
        assert_eq!(with(0b1100, XOR, 0b1010), Some(0b0110));
        assert_eq!(with(1, LSH, 4), Some(16));
        assert_eq!(with(1, LSH, 32), Some(0));
        assert_eq!(with(16, RSH, 4), Some(1));
        assert_eq!(with(16, RSH, 33), Some(0));
        assert_eq!(with(1, NEG, 0), Some(u32::MAX));
    }

    #[test]
    fn jumps() {
        let taken = |a, condition, k| {
            let program = [
                op(LD | IMM, 0, 0, a),
                op(JMP | condition, 1, 0, k),
                op(RET, 0, 0, 0),
                op(LD | IMM, 0, 0, 1),
            ];
            value(&program, &[], 0) == Some(1)
        };
        assert!(taken(5, JEQ, 5) && !taken(5, JEQ, 6));
        assert!(taken(5, JGT, 4) && !taken(5, JGT, 5));
        assert!(taken(5, JGE, 5) && !taken(5, JGE, 6));
        assert!(taken(5, JSET, 4) && !taken(5, JSET, 2));
        let over = [op(JMP | JA, 0, 0, 1), op(RET, 0, 0, 0), op(LD | IMM, 0, 0, 9)];
        assert_eq!(value(&over, &[], 0), Some(9));
    }

    #[test]
    fn a_broken_program_rejects() {
        assert!(!run(&[], &[], 0));
        assert!(!run(&[op(LD | IMM, 0, 0, 1)], &[], 0));
        assert!(!run(&[op(JMP | JA, 0, 0, u32::MAX)], &[], 0));
        assert!(!run(&[op(0xFFFF, 0, 0, 1)], &[], 0));
        assert!(run(&[op(RET, 0, 0, 65_535)], &[], 0));
    }

    #[test]
    fn text() {
        assert_eq!(Instruction::parse("21 0 5 34525"), Some(op(21, 0, 5, 34525)));
        assert_eq!(Instruction::parse("21 0 5"), None);
        assert_eq!(Instruction::parse("21 0 5 1 1"), None);
        assert_eq!(Instruction::parse("21 0 256 1"), None);
    }

    const MISC_CLASS: u16 = 0x07;
}
