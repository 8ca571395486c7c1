//! SHA-256 (FIPS 180-4) of one piece of memory, with the processor's instructions where it has them.
//!
//! The `sha2` crate does not look for them under UEFI, where nothing tells it that they may be
//! used; the UEFI specification (2.10, section 2.3.4) does: SSE is on.

use sha2::Digest as _;

/// The digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    #[cfg(target_arch = "x86_64")]
    if let Some(engine) = crate::sha_ni::Engine::detect() {
        return with_instructions(engine, bytes);
    }
    portable(bytes)
}

/// Whether this processor has the instructions.
pub fn has_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return crate::sha_ni::Engine::detect().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn portable(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// The initial state: FIPS 180-4, section 5.3.3.
#[cfg(target_arch = "x86_64")]
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

#[cfg(target_arch = "x86_64")]
fn with_instructions(engine: crate::sha_ni::Engine, bytes: &[u8]) -> [u8; 32] {
    let mut state = INITIAL;
    let (blocks, rest) = bytes.as_chunks::<64>();
    engine.compress(&mut state, blocks);
    engine.compress(&mut state, padding(bytes, rest).as_slice());
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// The last one or two blocks: `rest`, a one bit, zeros, the length of `bytes` in bits.
#[cfg(target_arch = "x86_64")]
fn padding(bytes: &[u8], rest: &[u8]) -> Padding {
    let mut flat = [0_u8; 128];
    for (to, from) in flat.iter_mut().zip(rest.iter().chain(&[0x80])) {
        *to = *from;
    }
    let (count, last) = if rest.len() < 56 { (1, 0) } else { (2, 1) };
    let bits = u64::try_from(bytes.len()).unwrap_or(u64::MAX).wrapping_shl(3);
    let mut blocks = [[0; 64]; 2];
    for (block, source) in blocks.iter_mut().zip(flat.as_chunks::<64>().0) {
        *block = *source;
    }
    if let Some(length) = blocks.get_mut(last).and_then(|last| last.last_chunk_mut::<8>()) {
        *length = bits.to_be_bytes();
    }
    Padding { blocks, count }
}

#[cfg(target_arch = "x86_64")]
struct Padding {
    blocks: [[u8; 64]; 2],
    count: usize,
}

#[cfg(target_arch = "x86_64")]
impl Padding {
    fn as_slice(&self) -> &[[u8; 64]] {
        self.blocks.get(..self.count).unwrap_or(&self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_published_value() {
        let digest = sha256(b"abc");
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(digest, portable(b"abc"));
    }

    /// Every length around the block boundaries, against the crate.
    #[test]
    fn instructions_and_portable_code_agree() {
        let bytes: Vec<u8> =
            (0..4096_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in (0..=400).chain([1000, 4095, 4096]) {
            assert_eq!(sha256(&bytes[..len]), portable(&bytes[..len]), "{len} bytes");
        }
    }
}
