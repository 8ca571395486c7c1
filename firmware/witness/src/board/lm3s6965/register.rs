//! One register of a peripheral: the only place where this board touches memory by its address.

/// A block of registers.
#[derive(Clone, Copy, Debug)]
pub struct Block(usize);

impl Block {
    /// The block at `address`.
    ///
    /// # Safety
    ///
    /// The 4 KiB from `address` on are registers of one peripheral. Whatever is written to them changes no
    /// memory that the compiler knows of: this board uses no direct memory access.
    pub const unsafe fn at(address: usize) -> Self {
        Self(address)
    }

    /// Reads the register `offset` bytes into the block. Below 4,096 and a multiple of four.
    pub fn read(self, offset: usize) -> u32 {
        let place = self.place(offset);
        // SAFETY: `at` promised a block of registers, and `place` is an aligned one of them.
        unsafe { place.read_volatile() }
    }

    /// Writes the register `offset` bytes into the block.
    pub fn write(self, offset: usize, value: u32) {
        let place = self.place(offset);
        // SAFETY: `at` promised a block of registers, and `place` is an aligned one of them.
        unsafe { place.write_volatile(value) }
    }

    /// Sets the bits of `set`, clears those of `clear`.
    pub fn modify(self, offset: usize, clear: u32, set: u32) {
        self.write(offset, self.read(offset) & !clear | set);
    }

    fn place(self, offset: usize) -> *mut u32 {
        core::ptr::with_exposed_provenance_mut(self.0 | (offset & 0xffc))
    }
}
