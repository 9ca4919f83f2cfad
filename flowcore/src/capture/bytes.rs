//! Reads the fixed fields of a header one after the other, in the byte order of their file.

/// A cursor over header bytes.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    order: Order,
}

/// The byte order of a file or section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// Reads the first `N` 32-bit numbers at once.
    #[inline]
    pub(super) fn words<const N: usize>(self, bytes: &[u8]) -> Option<[u32; N]> {
        // With its length known, the slice needs no more checks.
        let words = bytes.get(..4 * N)?.as_chunks().0.first_chunk::<N>()?;
        Some(match self {
            Order::Little => words.map(u32::from_le_bytes),
            Order::Big => words.map(u32::from_be_bytes),
        })
    }
}

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], order: Order) -> Self {
        Fields { rest: bytes, order }
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Option<u16> {
        let bytes = self.array()?;
        Some(match self.order {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        })
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Option<u32> {
        let bytes = self.array()?;
        Some(match self.order {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        })
    }

    #[inline]
    pub(super) fn i64(&mut self) -> Option<i64> {
        let bytes = self.array()?;
        Some(match self.order {
            Order::Little => i64::from_le_bytes(bytes),
            Order::Big => i64::from_be_bytes(bytes),
        })
    }

    /// Takes the next `len` bytes.
    #[inline]
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Takes the next `len` bytes as fields of their own.
    pub(super) fn slice(&mut self, len: usize) -> Option<Fields<'a>> {
        Some(Fields::new(self.bytes(len)?, self.order))
    }

    /// Returns what was not taken yet.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }
}
