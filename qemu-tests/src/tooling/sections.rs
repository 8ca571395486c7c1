//! How much of a microcontroller's memories a program takes, from its ELF file.

use anyhow::{Context, Result, ensure};

/// Section flags and a type of ELF.
const ALLOCATED: u32 = 2;
const EXECUTABLE: u32 = 4;
const WRITABLE: u32 = 1;
const NO_BITS: u32 = 8;
/// What the microcontroller's memories hold of the program. There is no stack and no heap in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// Code.
    pub text: u32,
    /// Constants.
    pub rodata: u32,
    /// Variables with a value at the start, which is in flash, too.
    pub data: u32,
    /// Variables without one.
    pub bss: u32,
}

impl Sections {
    /// Bytes of flash.
    #[must_use]
    pub const fn flash(&self) -> u32 {
        self.text.saturating_add(self.rodata).saturating_add(self.data)
    }

    /// Bytes of memory that variables have from the start to the end.
    #[must_use]
    pub const fn memory(&self) -> u32 {
        self.data.saturating_add(self.bss)
    }
}

/// Sums up the sections of a 32-bit little-endian ELF file that a program has in memory.
///
/// # Errors
/// When it is none, or is cut short.
pub fn sections(file: &[u8]) -> Result<Sections> {
    ensure!(file.get(..6) == Some(b"\x7fELF\x01\x01"), "not a 32-bit little-endian ELF file");
    let start = usize::try_from(word(file, 0x20)?)?;
    let sizes = word(file, 0x2e)?;
    let (each, count) = (usize::try_from(sizes & 0xffff)?, usize::try_from(sizes >> 16)?);
    let mut sections = Sections::default();
    for number in 0..count {
        let at = start + number * each;
        let (kind, flags, size) = (word(file, at + 4)?, word(file, at + 8)?, word(file, at + 20)?);
        if flags & ALLOCATED == 0 {
            continue;
        }
        let sum = match (flags & EXECUTABLE != 0, flags & WRITABLE != 0, kind == NO_BITS) {
            (true, ..) => &mut sections.text,
            (false, false, _) => &mut sections.rodata,
            (false, true, false) => &mut sections.data,
            (false, true, true) => &mut sections.bss,
        };
        *sum += size;
    }
    Ok(sections)
}

/// The word at `at`.
///
/// # Errors
/// When the file ends before.
pub fn word(file: &[u8], at: usize) -> Result<u32> {
    let bytes = file.get(at..).and_then(|rest| rest.first_chunk()).context("the file is cut short")?;
    Ok(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header and one section header for each kind, flags and size.
    fn file(sections: &[[u32; 3]]) -> Vec<u8> {
        let mut file = vec![0; 52];
        file[..6].copy_from_slice(b"\x7fELF\x01\x01");
        file[0x20] = 52;
        file[0x2e] = 40;
        file[0x30] = u8::try_from(sections.len()).unwrap();
        for [kind, flags, size] in sections {
            let words = [0, *kind, *flags, 0, 0, *size, 0, 0, 0, 0];
            file.extend(words.iter().flat_map(|word: &u32| word.to_le_bytes()));
        }
        file
    }

    #[test]
    fn each_section_is_counted_where_it_lies() {
        let all = [[1, 6, 1000], [1, 2, 200], [1, 3, 30], [8, 3, 4], [1, 0, 99_999]];
        let expected = Sections { text: 1000, rodata: 200, data: 30, bss: 4 };
        assert_eq!(sections(&file(&all)).unwrap(), expected);
        assert!(sections(&file(&all)[..100]).is_err() && sections(b"MZ").is_err());
    }
}
