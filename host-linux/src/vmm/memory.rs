//! A guest's memory: an anonymous file of its size, so that it can be shared, stored and sent.

use super::layout::{DEVICES, KERNEL, LOW_END};
use super::pages::Pages;
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use std::fs::File;
use std::sync::Arc;
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// A guest's memory. Clones are the same memory. It keeps which of its pages this process wrote; those that
/// the guest wrote are KVM's to tell.
pub type Memory = GuestMemoryMmap<AtomicBitmap>;
/// A part of it, in one piece.
pub type MemoryPart = GuestRegionMmap<AtomicBitmap>;

/// A part of the map of memory that a guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub start: u64,
    /// How many.
    pub length: u64,
    /// Whether the guest may use it as it likes; the rest has tables in it.
    pub is_free: bool,
}

/// So many bytes of memory, all zero, none of it in use yet.
///
/// # Errors
///
/// The system has no address space or no file descriptor for it.
pub fn new(bytes: u64) -> std::io::Result<Memory> {
    of(bytes, Pages::System)
}

/// So many bytes of memory, all zero, in such pages: whole ones. Huge ones are there then.
///
/// # Errors
///
/// As [`new`], and there are too few of these pages.
pub fn of(bytes: u64, pages: Pages) -> std::io::Result<Memory> {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC | pages.flags())?);
    ftruncate(&file, bytes)?;
    if pages != Pages::System {
        // Else a page that is missing when it is touched kills the guest.
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    }
    let file = Arc::new(file);
    let mut offset = 0_u64;
    let mut ranges = Vec::new();
    for (start, length) in ranges_of(bytes, pages) {
        let size = usize::try_from(length).map_err(std::io::Error::other)?;
        ranges.push((GuestAddress(start), size, Some(FileOffset::from_arc(Arc::clone(&file), offset))));
        offset = offset.saturating_add(length);
    }
    Memory::from_ranges_with_files(&ranges).map_err(std::io::Error::other)
}

/// What a guest with so many bytes in such pages is told of them.
#[must_use]
pub fn parts(bytes: u64, pages: Pages) -> Vec<Part> {
    let mut parts = Vec::new();
    for (start, length) in ranges_of(bytes, pages) {
        let end = start.saturating_add(length);
        let cuts = [(0, LOW_END, true), (LOW_END, KERNEL, false), (KERNEL, u64::MAX, true)];
        for (from, to, is_free) in cuts {
            let (from, to) = (from.max(start), to.min(end));
            if from < to {
                parts.push(Part { start: from, length: to.saturating_sub(from), is_free });
            }
        }
    }
    parts
}

/// Where it is: below the devices, and what does not fit there above 4 GiB. A page is in one of both.
fn ranges_of(bytes: u64, pages: Pages) -> impl Iterator<Item = (u64, u64)> {
    let fits = DEVICES.start.saturating_sub(DEVICES.start.checked_rem(pages.bytes()).unwrap_or(0));
    let low = bytes.min(fits);
    let high = bytes.saturating_sub(low);
    [(0, low), (DEVICES.end, high)].into_iter().filter(|(_, length)| *length != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestMemoryBackend};

    #[test]
    fn memory_has_its_size_and_a_hole_for_devices() {
        let memory = new(64 << 20).unwrap();
        assert_eq!(memory.last_addr(), GuestAddress((64 << 20) - 1));
        memory.write_obj(7_u64, GuestAddress((64 << 20) - 8)).unwrap();
        assert!(memory.write_obj(7_u64, GuestAddress((64 << 20) - 7)).is_err());

        let part = |start, length, is_free| Part { start, length, is_free };
        let low = [part(0, LOW_END, true), part(LOW_END, KERNEL - LOW_END, false)];
        assert_eq!(parts(64 << 20, Pages::System), [low[0], low[1], part(KERNEL, (64 << 20) - KERNEL, true)]);
        let large = parts(8 << 30, Pages::System);
        let all: u64 = large.iter().map(|part| part.length).sum();
        assert_eq!((all, large.len()), (8 << 30, 4));
        assert_eq!(large[3], part(4 << 30, (8 << 30) - DEVICES.start, true));
        // None of it is in use: a guest of 1 TiB costs nothing until it writes.
        assert!(new(1 << 40).is_ok());
    }
}
