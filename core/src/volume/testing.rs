//! What the tests of records share.

use crate::crc::crc32c;
use crate::log::{BLOCK_LEN, Block};

/// A record that was changed, with the checksum that fits.
pub(super) fn with_crc(mut bytes: Block) -> Block {
    let crc = crc32c(&bytes[..BLOCK_LEN - 4]);
    bytes[BLOCK_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}
