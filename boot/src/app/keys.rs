//! The keys this node trusts: a section of this binary, so that a Secure Boot signature covers them.
#![allow(unsafe_code, reason = "a named section, and a value that tools change behind the compiler's back")]

use super::console::say;
use bulkhead_core::container::trust::Trust;
use bulkhead_core::plan::SECTOR;

/// The key table as built: no keys. `bulkhead image boot-app --trust` writes the real one here.
// SAFETY: a plain array of bytes in a section that holds nothing else.
#[unsafe(link_section = ".bhkeys")]
#[used]
static KEYS: [u8; SECTOR] = EMPTY;

/// "BHDKEYS", format 1, no keys, and the checksum of that; a test beside the core's format holds it.
const EMPTY: [u8; SECTOR] = {
    let mut table = [0; SECTOR];
    let (head, _) = table.split_at_mut(9);
    head.copy_from_slice(b"BHDKEYS\0\x01");
    let (_, crc) = table.split_at_mut(508);
    crc.copy_from_slice(&EMPTY_CRC.to_le_bytes());
    table
};
const EMPTY_CRC: u32 = 0xeeda_93f8;

/// The table, read where tools put it.
pub(super) fn trust() -> Trust {
    // SAFETY: `KEYS` is initialised and aligned; volatile, because its bytes are not those the
    // compiler saw.
    let table = unsafe { core::ptr::read_volatile(&raw const KEYS) };
    Trust::parse(&table).unwrap_or_else(|fault| {
        say!("key table: {fault}; no image is trusted");
        Trust::default()
    })
}
