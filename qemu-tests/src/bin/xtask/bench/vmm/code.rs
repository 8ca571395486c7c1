//! The programs of the guests: a few instructions of 32-bit code, as their kernels.

#[path = "../../../../../../host-linux/src/vmm/testing.rs"]
#[allow(clippy::unwrap_used, reason = "sizes that are known here")]
pub mod parts;

use parts::{FOR_EVER, elf, out, say};

/// How often a guest leaves itself, to be timed.
pub const EXITS: u32 = 20_000;
/// The first byte of memory that a guest writes.
const FROM: u32 = 16 << 20;
const PAGE: u32 = 4096;
/// cli; hlt. Nothing wakes it.
const SLEEP: [u8; 2] = [0xfa, 0xf4];

/// Says `a` first of all; writes to a port that nothing is at; says `b`, and sleeps.
pub fn begins() -> Vec<u8> {
    // mov ecx, EXITS; again: out 0x80, al; dec ecx; jnz again
    let exits = [&[0xb9][..], &EXITS.to_le_bytes(), &[0xe6, 0x80, 0x49, 0x75, 0xfb]].concat();
    elf(&[say("a"), exits, say("b"), SLEEP.to_vec(), FOR_EVER.to_vec()].concat(), true)
}

/// Writes to each page of so many MiB, says `a`, and then what is typed.
pub fn writes(mib: u32) -> Vec<u8> {
    let end = FROM + (mib << 20);
    // mov edi, FROM; again: mov [edi], edi; add edi, PAGE; cmp edi, end; jb again
    let touch = [
        &[0xbf][..],
        &FROM.to_le_bytes(),
        &[0x89, 0x3f, 0x81, 0xc7],
        &PAGE.to_le_bytes(),
        &[0x81, 0xff],
        &end.to_le_bytes(),
        &[0x72, 0xf0],
    ];
    // again: mov dx, 0x3fd; in al, dx; test al, 1; jz again
    let wait = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf7];
    // mov dx, 0x3f8; in al, dx; out dx, al; jmp wait
    let tell = [0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef];
    elf(&[touch.concat(), out(0x3f8, b'a'), wait.to_vec(), tell.to_vec()].concat(), true)
}

/// MiB of memory that a guest has which writes so many.
pub fn memory_of(mib: u32) -> u32 {
    mib + (FROM >> 20) + 16
}
