//! A driver, written by hand from the standard, over the memory of a guest that does not run.

use super::super::memory::{self, Memory};
use super::ring::{Interrupt, Ring};
use super::transport::Transport;
use std::sync::Arc;
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub const MEMORY: u64 = 4 << 20;
pub const SIZE: u16 = 16;
pub const TABLE: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x2000;
pub const USED: u64 = 0x3000;
/// Where requests lie.
pub const DATA: u64 = 0x10_0000;

/// How far the second queue lies behind the first.
const BESIDE: u64 = 0x4000;

/// The device may write it.
pub const WRITABLE: u16 = 2;
pub const INDIRECT: u16 = 4;
const NEXT: u16 = 1;

/// A driver of one queue.
pub struct Driver {
    pub memory: Memory,
    /// How far its queue lies behind the first one.
    base: u64,
    /// How many chains it has offered.
    offered: u16,
    seen: u16,
}

impl Default for Driver {
    fn default() -> Self {
        Self { memory: memory::new(MEMORY).unwrap(), base: 0, offered: 0, seen: 0 }
    }
}

impl Driver {
    /// A driver of the second queue of the same device.
    pub fn beside(&self) -> Self {
        Self { memory: self.memory.clone(), base: BESIDE, offered: 0, seen: 0 }
    }

    pub fn describe(&self, place: u16, (at, length): (u64, u32), flags: u16, next: u16) {
        self.describe_in(self.base + TABLE, place, (at, length), flags, next);
    }

    pub fn describe_in(&self, table: u64, place: u16, (at, length): (u64, u32), flags: u16, next: u16) {
        let entry = GuestAddress(table + u64::from(place) * 16);
        self.memory.write_obj(at, entry).unwrap();
        self.memory.write_obj(length, GuestAddress(entry.0 + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(entry.0 + 12)).unwrap();
        self.memory.write_obj(next, GuestAddress(entry.0 + 14)).unwrap();
    }

    /// It has reset the device: its queue is empty again.
    pub fn restart(&mut self) {
        (self.offered, self.seen) = (0, 0);
        self.put(self.base + AVAILABLE, &[0; 256]);
        self.put(self.base + USED, &[0; 256]);
    }

    /// Offers a chain that begins at this place of the table.
    pub fn offer(&mut self, head: u16) {
        let place = self.base + AVAILABLE + 4 + u64::from(self.offered % SIZE) * 2;
        self.memory.write_obj(head, GuestAddress(place)).unwrap();
        self.offered = self.offered.wrapping_add(1);
        self.memory.write_obj(self.offered, GuestAddress(self.base + AVAILABLE + 2)).unwrap();
    }

    /// Offers a chain of these parts: where, how long, whether the device may write it.
    pub fn ask(&mut self, first: u16, parts: &[(u64, u32, bool)]) {
        let last = u16::try_from(parts.len()).unwrap() - 1;
        for (number, (at, length, is_writable)) in (0..).zip(parts) {
            let flags = if *is_writable { WRITABLE } else { 0 } | if number == last { 0 } else { NEXT };
            self.describe(first + number, (*at, *length), flags, first + number + 1);
        }
        self.offer(first);
    }

    /// What the device has used since this was asked: the head of the chain, and how much it has written.
    pub fn used(&mut self) -> Vec<(u32, u32)> {
        let newest: u16 = self.memory.read_obj(GuestAddress(self.base + USED + 2)).unwrap();
        let mut used = Vec::new();
        while self.seen != newest {
            let place = self.base + USED + 4 + u64::from(self.seen % SIZE) * 8;
            let number = |at| self.memory.read_obj::<u32>(GuestAddress(at)).unwrap();
            used.push((number(place), number(place + 4)));
            self.seen = self.seen.wrapping_add(1);
        }
        used
    }

    /// Waits for so many.
    pub fn wait(&mut self, count: usize) -> Vec<(u32, u32)> {
        let begun = std::time::Instant::now();
        let mut used = Vec::new();
        while used.len() < count {
            used.extend(self.used());
            assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{used:?}");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        used
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub fn get(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// The queue without the registers.
    pub fn ring(&self) -> (Ring, Arc<Interrupt>) {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_size(SIZE);
        queue.set_desc_table_address(Some(u32::try_from(TABLE).unwrap()), Some(0));
        queue.set_avail_ring_address(Some(u32::try_from(AVAILABLE).unwrap()), Some(0));
        queue.set_used_ring_address(Some(u32::try_from(USED).unwrap()), Some(0));
        queue.set_ready(true);
        let interrupt = Arc::new(Interrupt::new(event()));
        (Ring::new(queue, self.memory.clone(), Arc::clone(&interrupt), event()), interrupt)
    }
}

pub fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).unwrap()
}

/// Sets a register.
pub fn set(transport: &mut Transport, offset: u64, value: u32) {
    transport.write(offset, &value.to_le_bytes());
}

/// Reads a register.
pub fn get(transport: &Transport, offset: u64) -> u32 {
    let mut word = [0; 4];
    transport.read(offset, &mut word);
    u32::from_le_bytes(word)
}

/// What a driver does before it uses a device with one queue (virtio 1.3, 3.1.1): it takes these features.
/// The status that it reads at the end.
pub fn initialise(transport: &mut Transport, features: u64) -> u32 {
    initialise_queues(transport, features, 1)
}

/// The same with so many queues, two at most.
pub fn initialise_queues(transport: &mut Transport, features: u64, queues: u32) -> u32 {
    for status in [0, 1, 3] {
        set(transport, 0x70, status);
    }
    for half in [0, 1] {
        set(transport, 0x24, half);
        set(transport, 0x20, u32::try_from(features >> (32 * half) & 0xffff_ffff).unwrap());
    }
    set(transport, 0x70, 11);
    for (queue, base) in (0..queues).zip([0, BESIDE]) {
        set(transport, 0x30, queue);
        set(transport, 0x38, SIZE.into());
        for (register, at) in [(0x80, TABLE), (0x90, AVAILABLE), (0xa0, USED)] {
            set(transport, register, u32::try_from(base + at).unwrap());
            set(transport, register + 4, 0);
        }
        set(transport, 0x44, 1);
    }
    set(transport, 0x70, 15);
    get(transport, 0x70)
}
