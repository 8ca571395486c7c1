//! The two checksums of the disk formats, each under the name its specification uses.

use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, Crc, Table};

/// How many tables the checksum of our own structures has, 1 KiB each. With sixteen of them it takes sixteen
/// bytes at a time, a fifth of the time for the header of a batch of writes; with one it fits a
/// microcontroller, and the boot application, which reads a few blocks in all.
#[cfg(all(target_pointer_width = "64", not(target_os = "uefi")))]
const TABLES: usize = 16;
#[cfg(not(all(target_pointer_width = "64", not(target_os = "uefi"))))]
const TABLES: usize = 1;

static CASTAGNOLI: Crc<u32, Table<TABLES>> = Crc::<u32, Table<TABLES>>::new(&CRC_32_ISCSI);
static ISO_HDLC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4): every Bulkhead structure.
pub fn crc32c(bytes: &[u8]) -> u32 {
    CASTAGNOLI.checksum(bytes)
}

/// CRC-32 (ISO-HDLC, as in Ethernet): the GPT, UEFI specification 2.10 section 5.3.2.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut digest = ISO_HDLC.digest();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720 appendix B.4: 32 bytes of zeroes, and 32 of ones.
        assert_eq!((crc32c(&[0; 32]), crc32c(&[0xff; 32])), (0x8a91_36aa, 0x62a8_ab43));
        assert_eq!(crc32(&[b"12345", b"6789"]), 0xcbf4_3926);
    }
}
