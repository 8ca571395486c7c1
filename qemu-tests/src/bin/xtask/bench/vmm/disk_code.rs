//! The program of a guest with a disk: a driver of virtio over memory (virtio 1.3, 4.2 and 5.2) with one
//! request under way, in a few dozen instructions of 32-bit code.

use super::code::parts::{FOR_EVER, elf};

/// Requests of each kind.
pub const REQUESTS: u32 = 2000;
/// Where in memory the parts of the ring are, and of its one request.
const DESCRIPTORS: u32 = 0x20_0000;
const AVAILABLE: u32 = 0x20_1000;
const USED: u32 = 0x20_2000;
const HEADER: u32 = 0x20_3000;
const SECTOR: u32 = HEADER + 8;
const STATUS: u32 = HEADER + 16;
const DATA: u32 = 0x20_4000;
const BLOCK: u32 = 4096;
/// What a block begins with.
const CONTENT: u32 = 0x6b6c_7562;
/// Sectors from one request to the next: an odd number of blocks, so that each of the volume's has its turn.
const STRIDE: u32 = 8 * 40_503;
/// Of the sectors of the volume.
const MASK: u32 = 0xf_ffff;
const _: () = assert!((MASK as u64 + 1) * 512 == super::super::served::SIZE);

/// What a request does, and what its descriptors are for: the next one follows, the device writes there.
const READ: u32 = 0;
const WRITE: u32 = 1;
const NEXT: u32 = 1;
const IS_ROOM: u32 = 2;

/// Makes the disk at `device` ready, says `a`; writes so many blocks, says `b`; reads them, says `c`. It says
/// something else where a last request has failed, or read what was not written.
pub fn asks(device: u32) -> Vec<u8> {
    let ring = |at: u32, address: u32| [put(device + at, address), put(device + at + 4, 0)].concat();
    let begin = [
        // Reset, acknowledge, driver; flushes, and version 1; features are taken.
        put(device + 0x70, 0),
        put(device + 0x70, 1),
        put(device + 0x70, 3),
        put(device + 0x24, 0),
        put(device + 0x20, 1 << 9),
        put(device + 0x24, 1),
        put(device + 0x20, 1),
        put(device + 0x70, 0xb),
        // One ring of 64, which interrupts nobody.
        put(device + 0x30, 0),
        put(device + 0x38, 64),
        put(AVAILABLE, 1),
        ring(0x80, DESCRIPTORS),
        ring(0x90, AVAILABLE),
        ring(0xa0, USED),
        put(device + 0x44, 1),
        put(device + 0x70, 0xf),
        descriptor(0, HEADER, 16, NEXT),
        descriptor(2, STATUS, 1, IS_ROOM),
        put(DATA, CONTENT),
    ];
    let code = [
        begin.concat(),
        all(device, WRITE, 1),
        tell(b'a'),
        all(device, WRITE, REQUESTS),
        tell(b'b'),
        put(DATA, 0),
        all(device, READ, REQUESTS),
        tell(b'c'),
        FOR_EVER.to_vec(),
    ];
    elf(&code.concat(), true)
}

/// mov dword [address], value
fn put(address: u32, value: u32) -> Vec<u8> {
    [&[0xc7, 0x05][..], &address.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// A descriptor of the ring; one that has a next one has the one behind it.
fn descriptor(number: u32, address: u32, length: u32, flags: u32) -> Vec<u8> {
    let at = DESCRIPTORS + number * 16;
    let flags = flags | if flags & NEXT == 0 { 0 } else { (number + 1) << 16 };
    [put(at, address), put(at + 4, 0), put(at + 8, length), put(at + 12, flags)].concat()
}

/// So many requests, one behind the other.
fn all(device: u32, does: u32, count: u32) -> Vec<u8> {
    let room = if does == READ { IS_ROOM } else { 0 };
    let before =
        [put(HEADER, does), put(SECTOR, 0), put(STATUS, 0xff), descriptor(1, DATA, BLOCK, NEXT | room)];
    let counts = [&[0xb9][..], &count.to_le_bytes()].concat();
    let (available, used) = ((AVAILABLE + 2).to_le_bytes(), (USED + 2).to_le_bytes());
    let once = [
        // add dword [SECTOR], STRIDE; and dword [SECTOR], MASK
        &[0x81, 0x05],
        &SECTOR.to_le_bytes()[..],
        &STRIDE.to_le_bytes(),
        &[0x81, 0x25],
        &SECTOR.to_le_bytes(),
        &MASK.to_le_bytes(),
        // inc word [available]; and the device is told
        &[0x66, 0xff, 0x05],
        &available,
        &put(device + 0x50, 0),
        // again: pause; mov ax, [used]; cmp ax, [available]; jne again
        &[0xf3, 0x90, 0x66, 0xa1],
        &used,
        &[0x66, 0x3b, 0x05],
        &available,
        &[0x75, 0xef],
        // dec ecx; jnz once
        &[0x49, 0x75, 0xc7],
    ];
    [before.concat(), counts, once.concat()].concat()
}

/// Says this letter, if the last request has succeeded and the block has what was written: else another one.
fn tell(letter: u8) -> Vec<u8> {
    let [first, ..] = CONTENT.to_le_bytes();
    // mov al, [STATUS]; add al, [DATA]; add al, what is missing; mov dx, 0x3f8; out dx, al
    let so_far = [&[0xa0][..], &STATUS.to_le_bytes(), &[0x02, 0x05], &DATA.to_le_bytes()].concat();
    [&so_far[..], &[0x04, letter.wrapping_sub(first), 0x66, 0xba, 0xf8, 0x03, 0xee]].concat()
}
