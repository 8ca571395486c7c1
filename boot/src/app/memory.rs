//! Whole pages of memory for an image: what is read into them is hashed and started in place (V34).
#![allow(unsafe_code, reason = "pages of the firmware are raw memory")]

use core::ptr::NonNull;
use uefi::boot::{self, AllocateType, MemoryType};

const PAGE: usize = 4096;

/// Pages owned by us until dropped.
pub(super) struct Pages {
    start: NonNull<u8>,
    count: usize,
}

impl Pages {
    /// Zeroed pages for at least `bytes` bytes; `None` when there is not enough memory.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let count = usize::try_from(bytes).ok()?.div_ceil(PAGE).max(1);
        let start = boot::allocate_pages(AllocateType::AnyPages, MemoryType::LOADER_DATA, count).ok()?;
        // SAFETY: the firmware gave us `count` pages from `start` on.
        unsafe { start.as_ptr().write_bytes(0, count.checked_mul(PAGE)?) };
        Some(Self { start, count })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the pages are ours, initialised in `new`, and borrowed with `self`.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.count.saturating_mul(PAGE)) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; the borrow is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.count.saturating_mul(PAGE)) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // A failure loses the pages until the kernel takes all memory over: nothing to do about it.
        // SAFETY: they came from `allocate_pages`, and every borrow of them has ended.
        let _ = unsafe { boot::free_pages(self.start, self.count) };
    }
}
