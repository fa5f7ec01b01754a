//! An input as a source of choices: it never fails, and gives zeros when it is used up.

/// Has an input make a world and then do things to it, as long as there is any of it left.
pub(crate) fn steer<W>(
    data: &[u8],
    make: impl FnOnce(u64) -> W,
    mut step: impl FnMut(&mut W, &mut Input<'_>),
) -> W {
    let mut input = Input::new(data);
    let mut world = make(u64::from(input.byte()));
    while !input.is_empty() {
        step(&mut world, &mut input);
    }
    world
}

/// What is left of an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u64(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// A place among so many; 0 among none.
    pub(crate) fn place(&mut self, count: usize) -> usize {
        if count > 256 { usize::from(self.u16()) % count } else { usize::from(self.byte()) % count.max(1) }
    }

    /// As many bytes, or what is left.
    pub(crate) fn slice(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.slice(usize::MAX)
    }

    /// A number that means something: small, near a bound, or any.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            0 => u64::MAX,
            1 => (1 << 62) - 1,
            2 => (1 << 60) - 1,
            3 => 1 << 60,
            4 => (1 << 60) - 2,
            5 => u64::from(u32::MAX),
            6 => 1 << 32,
            7 => self.u64(),
            8 => self.u64() >> 2,
            other => u64::from(other % 16),
        }
    }
}
