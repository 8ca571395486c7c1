//! The SHA-256 compression function with the processor's SHA instructions.
//!
//! In assembly, because the UEFI target is built without vector registers and the compiler has no
//! intrinsics for it. Intel 64 Software Developer's Manual, volume 2, SHA256RNDS2, SHA256MSG1, SHA256MSG2.
#![allow(unsafe_code, reason = "assembly: the only way to these instructions on a soft-float target")]

use core::arch::x86_64::__cpuid_count;

/// Proof that the processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub struct Engine(());

impl Engine {
    /// Asks the processor for SHA (leaf 7 EBX 29), SSSE3 (leaf 1 ECX 9) and SSE4.1 (leaf 1 ECX 19).
    pub fn detect() -> Option<Self> {
        #[allow(unused_unsafe, reason = "safe since Rust 1.92; the minimum is 1.91")]
        // SAFETY: every x86-64 processor has CPUID, and leaf 0 says which leaves exist.
        let (max, leaf1, leaf7) = unsafe {
            let max = __cpuid_count(0, 0).eax;
            (max, __cpuid_count(1, 0).ecx, if max < 7 { 0 } else { __cpuid_count(7, 0).ebx })
        };
        let needed = leaf1 & (1 << 9) != 0 && leaf1 & (1 << 19) != 0 && leaf7 & (1 << 29) != 0;
        (7 <= max && needed).then_some(Self(()))
    }

    /// Runs `blocks` through the compression function.
    pub fn compress(self, state: &mut [u32; 8], blocks: &[[u8; 64]]) {
        if blocks.is_empty() {
            return;
        }
        // JUSTIFICATION: see the head of this file.
        // SAFETY: `Engine` proves that the instructions exist. The pointers are valid for eight
        // words, `blocks.len() * 64` bytes and 64 words; the function touches nothing else.
        unsafe {
            bulkhead_sha256_blocks(state.as_mut_ptr(), blocks.as_ptr().cast(), blocks.len(), K.as_ptr())
        }
    }
}

// SAFETY: defined below with exactly this signature.
unsafe extern "sysv64" {
    fn bulkhead_sha256_blocks(state: *mut u32, data: *const u8, blocks: usize, constants: *const u32);
}

/// FIPS 180-4, section 4.2.2, then the byte order mask of `pshufb`.
#[rustfmt::skip] // Read as the table of the standard.
static K: [u32; 68] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f,
];

// rdi state, rsi data, rdx blocks, rcx constants. xmm1 ABEF, xmm2 CDGH, xmm3-xmm6 message, xmm7
// scratch, xmm8 and xmm9 the state before the block, xmm10 byte order. Firmware built for the
// Microsoft convention keeps values in xmm6-xmm10, and our own compiler does not know of them: saved.
core::arch::global_asm!(
    r"
.macro bulkhead_rounds k
    movdqu xmm7, [rcx + \k]
    paddd xmm0, xmm7
    sha256rnds2 xmm2, xmm1
    pshufd xmm0, xmm0, 0x0e
    sha256rnds2 xmm1, xmm2
.endm
.macro bulkhead_load m, at
    movdqu xmm0, [rsi + \at]
    pshufb xmm0, xmm10
    movdqa \m, xmm0
.endm
.macro bulkhead_schedule m0, m1, m3
    movdqa xmm7, \m0
    palignr xmm7, \m3, 4
    paddd \m1, xmm7
    sha256msg2 \m1, \m0
    sha256msg1 \m3, \m0
.endm
.macro bulkhead_step m0, m1, m3, k
    movdqa xmm0, \m0
    bulkhead_rounds \k
    bulkhead_schedule \m0, \m1, \m3
.endm

.text
.globl bulkhead_sha256_blocks
bulkhead_sha256_blocks:
    sub rsp, 88
    movdqu [rsp], xmm6
    movdqu [rsp + 16], xmm7
    movdqu [rsp + 32], xmm8
    movdqu [rsp + 48], xmm9
    movdqu [rsp + 64], xmm10
    movdqu xmm7, [rdi]
    movdqu xmm2, [rdi + 16]
    pshufd xmm7, xmm7, 0xb1
    pshufd xmm2, xmm2, 0x1b
    movdqa xmm1, xmm7
    palignr xmm1, xmm2, 8
    pblendw xmm2, xmm7, 0xf0
    movdqu xmm10, [rcx + 256]
2:
    movdqa xmm8, xmm1
    movdqa xmm9, xmm2
    bulkhead_load xmm3, 0
    bulkhead_rounds 0
    bulkhead_load xmm4, 16
    bulkhead_rounds 16
    sha256msg1 xmm3, xmm4
    bulkhead_load xmm5, 32
    bulkhead_rounds 32
    sha256msg1 xmm4, xmm5
    bulkhead_load xmm6, 48
    bulkhead_rounds 48
    bulkhead_schedule xmm6, xmm3, xmm5
    bulkhead_step xmm3, xmm4, xmm6, 64
    bulkhead_step xmm4, xmm5, xmm3, 80
    bulkhead_step xmm5, xmm6, xmm4, 96
    bulkhead_step xmm6, xmm3, xmm5, 112
    bulkhead_step xmm3, xmm4, xmm6, 128
    bulkhead_step xmm4, xmm5, xmm3, 144
    bulkhead_step xmm5, xmm6, xmm4, 160
    bulkhead_step xmm6, xmm3, xmm5, 176
    bulkhead_step xmm3, xmm4, xmm6, 192
    bulkhead_step xmm4, xmm5, xmm3, 208
    bulkhead_step xmm5, xmm6, xmm4, 224
    movdqa xmm0, xmm6
    bulkhead_rounds 240
    paddd xmm1, xmm8
    paddd xmm2, xmm9
    add rsi, 64
    dec rdx
    jnz 2b
    pshufd xmm1, xmm1, 0x1b
    pshufd xmm2, xmm2, 0xb1
    movdqa xmm7, xmm1
    pblendw xmm1, xmm2, 0xf0
    palignr xmm2, xmm7, 8
    movdqu [rdi], xmm1
    movdqu [rdi + 16], xmm2
    movdqu xmm6, [rsp]
    movdqu xmm7, [rsp + 16]
    movdqu xmm8, [rsp + 32]
    movdqu xmm9, [rsp + 48]
    movdqu xmm10, [rsp + 64]
    add rsp, 88
    ret
"
);
