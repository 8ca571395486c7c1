//! What the firmware witness may take of its board; more fails the build (X03, rule 38 of the house).
//!
//! The numbers stand here and nowhere else. Stack is measured in QEMU, after a flood and many changes of
//! hands (`tests/witness_hostile.rs`); flash and variables are read from the ELF file.

use anyhow::{Result, ensure};

use crate::tooling::sections::Sections;

/// Flash: half of what the smallest board has, so that a new one fits beside the old one (KiB = 1024 bytes).
pub const FLASH_MAX: u32 = 128 << 10;
/// Variables that are there all the time.
pub const VARIABLES_MAX: u32 = 10 << 10;
/// Stack that must be left over at its deepest.
pub const STACK_LEFT_MIN: u32 = 512;

/// Holds a program to its budget.
///
/// # Errors
/// When it takes more.
pub fn check(sections: &Sections) -> Result<()> {
    let within = |what: &str, bytes: u32, most: u32| {
        ensure!(bytes <= most, "the firmware takes {bytes} bytes of {what}, {most} are its budget");
        Ok(())
    };
    within("flash", sections.flash(), FLASH_MAX)?;
    within("memory for variables", sections.memory(), VARIABLES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_budget_is_refused_by_name() {
        let fits = Sections { text: FLASH_MAX - 100, rodata: 50, data: 50, bss: VARIABLES_MAX - 50 };
        assert!(check(&fits).is_ok());
        let text = check(&Sections { text: FLASH_MAX, ..fits }).unwrap_err().to_string();
        assert!(text.contains("of flash"), "{text}");
        let text = check(&Sections { bss: VARIABLES_MAX, ..fits }).unwrap_err().to_string();
        assert!(text.contains("for variables"), "{text}");
    }
}
