//! Reading and writing fixed little-endian layouts, front to back, without an index.
//!
//! A reader that runs out of bytes answers `None`: the structure is truncated. A writer that
//! runs out of room is a defect of ours, found by the golden test of the format, and asserts.

/// Takes fields off the front of a byte string.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the first byte of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    /// All that is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes, little-endian.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes, little-endian.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `N` bytes, which the format reserves: `Some(true)` when all are zero.
    pub fn reserved<const N: usize>(&mut self) -> Option<bool> {
        self.array::<N>().map(|bytes| bytes.iter().all(|byte| *byte == 0))
    }
}

/// A `u64` without alignment: in a record of which there are many, its eight bytes are all that it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Long([u8; 8]);

impl Long {
    /// The number.
    pub const fn get(self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

impl From<u64> for Long {
    fn from(number: u64) -> Self {
        Self(number.to_le_bytes())
    }
}

/// Fills an array of `N` zero bytes from the front.
#[derive(Clone, Debug)]
pub struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Default for Writer<N> {
    fn default() -> Self {
        Self { bytes: [0; N], at: 0 }
    }
}

impl<const N: usize> Writer<N> {
    /// Appends `field`.
    ///
    /// # Panics
    ///
    /// If the layout is longer than `N`: a defect of the format's own code, found by its golden
    /// test, never a condition of the outside world.
    pub fn put(&mut self, field: &[u8]) {
        let end = self.at.saturating_add(field.len());
        let room = self.bytes.get_mut(self.at..end);
        room.expect("the layout fits its structure").copy_from_slice(field);
        self.at = end;
    }

    /// Appends one byte.
    pub fn u8(&mut self, field: u8) {
        self.put(&[field]);
    }

    /// Appends two bytes, little-endian.
    pub fn u16(&mut self, field: u16) {
        self.put(&field.to_le_bytes());
    }

    /// Appends four bytes, little-endian.
    pub fn u32(&mut self, field: u32) {
        self.put(&field.to_le_bytes());
    }

    /// Appends eight bytes, little-endian.
    pub fn u64(&mut self, field: u64) {
        self.put(&field.to_le_bytes());
    }

    /// Leaves `count` bytes zero.
    pub fn reserved(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    /// What has been written so far, without the zeros behind it.
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.at).unwrap_or(&self.bytes)
    }

    /// The array.
    pub const fn finish(self) -> [u8; N] {
        self.bytes
    }
}
