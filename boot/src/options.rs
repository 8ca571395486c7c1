//! The command line an image is started with: its own, then what tells the node how it was booted.

use bulkhead_core::bcb::state::BootId;
use bulkhead_core::slot::SlotId;
use core::fmt::Write;

/// Writes UTF-16 units of the load options to `put`: the image's own command line, then
/// `bulkhead.slot=` and `bulkhead.boot=`, then the closing zero.
///
/// `bulkhead.boot` names this boot: only it can confirm the slot it started (V38).
pub fn load_options(own: &str, slot: SlotId, boot: BootId, put: impl FnMut(u16)) {
    let mut out = Units { put };
    let space = if own.is_empty() { "" } else { " " };
    // `Units` never fails, so neither does this.
    let _ = write!(out, "{own}{space}bulkhead.slot={slot} bulkhead.boot={boot}\0");
}

struct Units<F> {
    put: F,
}

impl<F: FnMut(u16)> Write for Units<F> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.encode_utf16().for_each(&mut self.put);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn our_words_come_last_so_that_they_win() {
        for (own, expected) in [
            ("quiet", "quiet bulkhead.slot=b bulkhead.boot=000000000000001f\0"),
            ("", "bulkhead.slot=b bulkhead.boot=000000000000001f\0"),
        ] {
            let mut units = Vec::new();
            load_options(own, SlotId::B, BootId(31), |unit| units.push(unit));
            assert_eq!(String::from_utf16(&units).unwrap(), expected);
        }
    }
}
