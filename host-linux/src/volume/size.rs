//! Sizes of volumes, as people write them.

use crate::output::{parse_size, size};
use bulkhead_core::volume::BLOCKS_MAX;

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// A size of a volume, in blocks.
///
/// # Errors
///
/// It is no size, none of whole blocks, or none that a volume has.
pub fn blocks(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    let blocks = bytes.div_ceil(BLOCK);
    if blocks == 0 || BLOCKS_MAX < blocks {
        return Err(format!("a volume has 4 KiB to {}", size(BLOCKS_MAX.saturating_mul(BLOCK))));
    }
    let next = blocks.saturating_mul(BLOCK);
    if next != bytes {
        return Err(format!("a volume has whole blocks of 4 KiB; the next size is {next}"));
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_of_blocks() {
        assert_eq!(blocks("4KiB"), Ok(1));
        assert_eq!(blocks("10GiB"), Ok(10 << 18));
        assert_eq!(blocks("4096T"), Ok(BLOCKS_MAX));
        assert_eq!(blocks("4097").unwrap_err(), "a volume has whole blocks of 4 KiB; the next size is 8192");
        for text in ["0", "4097T", "1.5G", "x"] {
            assert!(blocks(text).is_err(), "{text}");
        }
    }
}
