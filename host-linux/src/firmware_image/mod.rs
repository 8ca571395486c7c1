//! The program of a microcontroller as the tools of its maker want it: ELF in, plain bytes and Intel HEX
//! out, and proof that no secret of the site is in it (P1, V41).
//!
//! Every offset of the file is checked: a damaged one is an error, never a panic.

pub mod hex;

use bulkhead_core::bytes::Reader;

/// Bytes of a program are together: a gap of more than this is no program for one flash.
const SPAN_MAX: u32 = 64 << 20;
/// A part of the file that is loaded.
const LOAD: u32 = 1;
/// The machine: ARM.
const ARM: u16 = 40;

/// What is to stand in the flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Parts, in the order of their addresses; they do not overlap.
    pub parts: Vec<Part>,
    /// Where it starts.
    pub entry: u32,
}

/// Bytes from an address on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The address in the flash.
    pub at: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Part {
    fn end(&self) -> u64 {
        u64::from(self.at).saturating_add(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }
}

impl Program {
    /// Reads an ELF file for a 32-bit ARM processor.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn parse(elf: &[u8]) -> Result<Self, String> {
        let cut = || "the file is cut short".to_owned();
        if !elf.starts_with(b"\x7fELF\x01\x01\x01") {
            return Err("it is no ELF file for a 32-bit little-endian processor".into());
        }
        let head = elf.get(16..52).ok_or_else(cut)?;
        let mut fields = Reader::new(head);
        let mut next = || fields.u16().ok_or_else(cut);
        let (_kind, machine) = (next()?, next()?);
        let mut wide = || fields.u32().ok_or_else(cut);
        let (_version, entry, table, _sections, _flags) = (wide()?, wide()?, wide()?, wide()?, wide()?);
        let mut next = || fields.u16().ok_or_else(cut);
        let (_size, entry_size, count) = (next()?, next()?, next()?);
        if machine != ARM {
            return Err(format!("it is for another machine ({machine}) than ARM"));
        }
        let mut parts = Vec::new();
        for number in 0..u32::from(count) {
            let at = number.saturating_mul(entry_size.into()).saturating_add(table);
            let mut fields = Reader::new(slice(elf, at, 32).ok_or_else(cut)?);
            let mut next = || fields.u32().ok_or_else(cut);
            // What kind, where in the file, its virtual and its physical address, how long in the file.
            let (kind, from, _virtual, at, len) = (next()?, next()?, next()?, next()?, next()?);
            if kind == LOAD && len != 0 {
                parts.push(Part { at, bytes: slice(elf, from, len).ok_or_else(cut)?.to_vec() });
            }
        }
        parts.sort_by_key(|part| part.at);
        let program = Self { parts, entry };
        program.check()?;
        Ok(program)
    }

    fn check(&self) -> Result<(), String> {
        if self.parts.is_empty() {
            return Err("it holds no program".into());
        }
        let mut pairs = self.parts.iter().zip(self.parts.iter().skip(1));
        if pairs.any(|(part, next)| u64::from(next.at) < part.end()) {
            return Err("two parts of it overlap".into());
        }
        let (first, end) = self.span();
        if u64::from(u32::MAX) < end || u64::from(SPAN_MAX) < end.saturating_sub(first.into()) {
            return Err("it does not fit one flash".into());
        }
        Ok(())
    }

    /// From where, and to where (exclusive).
    pub fn span(&self) -> (u32, u64) {
        let first = self.parts.first().map_or(0, |part| part.at);
        (first, self.parts.last().map_or(0, Part::end))
    }

    /// All bytes from the first address on; what is between parts is zero.
    pub fn binary(&self) -> Vec<u8> {
        let (first, _) = self.span();
        let mut out = Vec::new();
        for part in &self.parts {
            let at = usize::try_from(part.at.saturating_sub(first)).unwrap_or(usize::MAX);
            out.resize(at, 0);
            out.extend(&part.bytes);
        }
        out
    }
}

fn slice(bytes: &[u8], at: u32, len: u32) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(usize::try_from(len).ok()?)?)
}

/// Whether `file` holds the secret: as bytes, or as hex digits of either case.
pub fn holds_secret(file: &[u8], secret: &[u8; 32]) -> bool {
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let (bytes, digits) = (&secret[..], digits.as_bytes());
    file.windows(bytes.len()).any(|window| window == bytes)
        || file.windows(digits.len()).any(|window| window.eq_ignore_ascii_case(digits))
}

#[cfg(test)]
mod tests;
