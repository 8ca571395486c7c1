//! What is needed of an EFI binary: that it is one, what it is for, and where a section lies.
//!
//! PE/COFF as in Microsoft's "PE Format". The binary comes from outside: every field is checked,
//! nothing is indexed.

use std::ops::Range;

/// Why bytes are not the EFI binary that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEfi {
    /// There is no PE header.
    NoPe,
    /// It is a PE binary, but not an EFI application.
    NotAnApplication {
        /// The subsystem it is for.
        subsystem: u16,
    },
    /// A header field points outside the file.
    Damaged,
}

impl std::fmt::Display for NotEfi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPe => f.write_str("it has no PE header"),
            Self::NotAnApplication { subsystem } => {
                write!(f, "it is a PE binary for subsystem {subsystem}, not 10 (EFI application)")
            }
            Self::Damaged => f.write_str("its PE header points outside the file"),
        }
    }
}

const SUBSYSTEM_EFI_APPLICATION: u16 = 10;
const PE32_PLUS: u16 = 0x20b;
const PE32: u16 = 0x10b;
/// Index of the certificate table among the data directories.
const CERTIFICATES: usize = 4;

/// An EFI application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pe {
    /// The instruction set, as in the COFF header: 0x8664 for x86-64.
    pub machine: u16,
    /// It carries a signature (Secure Boot).
    pub signed: bool,
    /// Name and place in the file of each section.
    pub sections: Vec<([u8; 8], Range<usize>)>,
}

impl Pe {
    /// Reads the headers of `bytes`, which may be only the beginning of the file.
    ///
    /// # Errors
    ///
    /// [`NotEfi`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotEfi> {
        let u16_at = |at: usize| bytes.get(at..)?.first_chunk().map(|field| u16::from_le_bytes(*field));
        let u32_at = |at: usize| bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field));
        let usize_at = |at: usize| u32_at(at).and_then(|field| usize::try_from(field).ok());
        if bytes.get(..2) != Some(b"MZ") {
            return Err(NotEfi::NoPe);
        }
        let pe = usize_at(0x3c).ok_or(NotEfi::NoPe)?;
        if bytes.get(pe..pe.saturating_add(4)) != Some(b"PE\0\0") {
            return Err(NotEfi::NoPe);
        }
        let fields = || {
            let machine = u16_at(pe.checked_add(4)?)?;
            let count = usize::from(u16_at(pe.checked_add(6)?)?);
            let optional_len = usize::from(u16_at(pe.checked_add(20)?)?);
            let optional = pe.checked_add(24)?;
            let directories = match u16_at(optional)? {
                PE32_PLUS => optional.checked_add(112)?,
                PE32 => optional.checked_add(96)?,
                _ => return None,
            };
            let subsystem = u16_at(optional.checked_add(68)?)?;
            let directory_count = usize_at(directories.checked_sub(4)?)?;
            let certificates = directories.checked_add(CERTIFICATES.checked_mul(8)?)?;
            let signed = CERTIFICATES < directory_count && u32_at(certificates.checked_add(4)?)? != 0;
            Some((machine, count, optional.checked_add(optional_len)?, subsystem, signed))
        };
        let (machine, count, table, subsystem, signed) = fields().ok_or(NotEfi::Damaged)?;
        if subsystem != SUBSYSTEM_EFI_APPLICATION {
            return Err(NotEfi::NotAnApplication { subsystem });
        }
        let section = |index: usize| {
            let at = table.checked_add(index.checked_mul(40)?)?;
            let name = *bytes.get(at..)?.first_chunk::<8>()?;
            let (len, start) = (usize_at(at.checked_add(16)?)?, usize_at(at.checked_add(20)?)?);
            Some((name, start..start.checked_add(len)?))
        };
        let sections = (0..count).map(section).collect::<Option<Vec<_>>>().ok_or(NotEfi::Damaged)?;
        Ok(Self { machine, signed, sections })
    }
}
