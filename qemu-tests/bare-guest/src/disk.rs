//! A driver of virtio over memory for one disk (virtio 1.3, 4.2 and 5.2), with one request under way.

use core::fmt;
use core::sync::atomic::{Ordering, fence};

use super::memory::{DEVICES, SHARED, WORD, get, put};

/// Bytes of a block, as mirrored volumes have them.
pub const BLOCK: u32 = 4096;
/// Where the content of a request is.
pub const DATA: u32 = SHARED.start + 0x4000;

const DESCRIPTORS: u32 = SHARED.start;
const AVAILABLE: u32 = SHARED.start + 0x1000;
const USED: u32 = SHARED.start + 0x2000;
const HEADER: u32 = SHARED.start + 0x3000;
const STATUS: u32 = HEADER + 16;
/// Entries of the ring.
const ENTRIES: u32 = 8;
/// Sectors of a block.
const SECTORS: u32 = BLOCK / 512;
/// From the registers of one device to those of the next.
const STRIDE: usize = 0x1000;

/// `virt`, and what kind of device a disk is.
const MAGIC: u32 = 0x7472_6976;
const IS_DISK: u32 = 2;
/// Of the device's features: flushes; and the first one of the second word, version 1.
const FLUSHES: u32 = 1 << 9;
const VERSION_1: u32 = 1;
/// Nobody is interrupted.
const SILENT: u32 = 1;
/// What is in the place of a status that did not come.
const NO_STATUS: u32 = 0xff;

/// What a request does.
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
/// What a descriptor is for: the next one follows; the device writes there.
const NEXT: u32 = 1;
const IS_ROOM: u32 = 2;

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug)]
pub enum Broken {
    /// There is none.
    Missing,
    /// It does not take what every driver needs.
    Refused,
    /// A request failed: what it was to do, where, and its status.
    Failed(u32, u32, u32),
    /// The block of this number has not what was written.
    Content(u32),
    /// The block with the last number is no such block.
    Head,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "there is no disk"),
            Self::Refused => write!(f, "the disk refuses its driver"),
            Self::Failed(does, block, status) => {
                write!(f, "request {does} of block {block} ended with status {status}")
            }
            Self::Content(number) => write!(f, "number {number} is not on the disk as it was written"),
            Self::Head => write!(f, "the last number is damaged"),
        }
    }
}

/// The disk.
#[derive(Debug)]
pub struct Disk {
    /// Its registers.
    at: u32,
    /// Requests so far, as the ring counts them.
    asked: u16,
}

impl Disk {
    /// The first one that there is.
    pub fn find() -> Result<Self, Broken> {
        let mut devices = DEVICES.step_by(STRIDE);
        let is_disk = |at: &u32| get(*at) == MAGIC && get(at.wrapping_add(8)) == IS_DISK;
        let this = Self { at: devices.find(is_disk).ok_or(Broken::Missing)?, asked: 0 };
        // Reset, acknowledge, driver; features are taken.
        for status in [0, 1, 3] {
            this.tell(0x70, status);
        }
        for (word, features) in [(0, FLUSHES), (1, VERSION_1)] {
            this.tell(0x24, word);
            this.tell(0x20, features);
        }
        this.tell(0x70, 0xb);
        if get(this.register(0x70)) & 8 == 0 {
            return Err(Broken::Refused);
        }
        (DESCRIPTORS..DATA).step_by(WORD as usize).for_each(|at| put(at, 0));
        put(AVAILABLE, SILENT);
        this.tell(0x30, 0);
        this.tell(0x38, ENTRIES);
        for (register, ring) in [(0x80, DESCRIPTORS), (0x90, AVAILABLE), (0xa0, USED)] {
            this.tell(register, ring);
            this.tell(register | 4, 0);
        }
        this.tell(0x44, 1);
        this.tell(0x70, 0xf);
        Ok(this)
    }

    /// Reads a block.
    pub fn read(&mut self, block: u32) -> Result<(), Broken> {
        self.ask(READ, block)
    }

    /// Writes a block.
    pub fn write(&mut self, block: u32) -> Result<(), Broken> {
        self.ask(WRITE, block)
    }

    /// What was written before is durable when this returns.
    pub fn flush(&mut self) -> Result<(), Broken> {
        self.ask(FLUSH, 0)
    }

    fn register(&self, offset: u32) -> u32 {
        self.at.wrapping_add(offset)
    }

    fn tell(&self, offset: u32, value: u32) {
        put(self.register(offset), value);
    }

    /// One request, from its begin to its end.
    fn ask(&mut self, does: u32, block: u32) -> Result<(), Broken> {
        let sector = block.wrapping_mul(SECTORS);
        for (at, value) in (HEADER..).step_by(WORD as usize).zip([does, 0, sector, 0]) {
            put(at, value);
        }
        put(STATUS, NO_STATUS);
        let has_data = does != FLUSH;
        descriptor(0, HEADER, 16, NEXT, if has_data { 1 } else { 2 });
        descriptor(1, DATA, BLOCK, NEXT | if does == READ { IS_ROOM } else { 0 }, 2);
        descriptor(2, STATUS, 1, IS_ROOM, 0);
        self.asked = self.asked.wrapping_add(1);
        // The first descriptor is that of each entry: all of them are zero.
        fence(Ordering::SeqCst);
        put(AVAILABLE, SILENT | u32::from(self.asked) << 16);
        fence(Ordering::SeqCst);
        self.tell(0x50, 0);
        while get(USED) >> 16 != u32::from(self.asked) {
            core::hint::spin_loop();
        }
        fence(Ordering::SeqCst);
        match get(STATUS) & 0xff {
            0 => Ok(()),
            status => Err(Broken::Failed(does, block, status)),
        }
    }
}

fn descriptor(number: u32, address: u32, length: u32, flags: u32, next: u32) {
    let at = DESCRIPTORS.wrapping_add(number.wrapping_mul(16));
    let words = [address, 0, length, flags | next << 16];
    for (at, value) in (at..).step_by(WORD as usize).zip(words) {
        put(at, value);
    }
}
