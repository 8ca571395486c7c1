//! The two facts we need from 64-bit ELF files: is a program static, and what does a kernel module depend on.
//! Files come from a build or a package, but every offset is checked: a damaged file is an error, never a
//! panic.

use anyhow::{Context, Result, bail};

/// Program header type of the path of a dynamic loader.
const PT_INTERP: u32 = 3;

/// Whether the program runs without a dynamic loader.
///
/// # Errors
/// When `file` is not a whole 64-bit little-endian ELF file.
pub fn is_static(file: &[u8]) -> Result<bool> {
    check(file)?;
    let headers = table(file, 0x20, 0x36)?;
    let mut kinds = headers.iter().map(|header| u32_at(header, 0));
    // A collected error is an error; a loader among the kinds makes the program dynamic.
    let kinds: Vec<_> = kinds.by_ref().collect::<Result<_>>()?;
    Ok(!kinds.contains(&PT_INTERP))
}

/// The `key=value` strings of a kernel module's `.modinfo` section, in the order of the file.
///
/// # Errors
/// When `file` is not a whole 64-bit little-endian ELF file, or has no such section.
pub fn modinfo(file: &[u8]) -> Result<Vec<(String, String)>> {
    let section = section(file, ".modinfo")?.context("no .modinfo section: not a kernel module")?;
    let strings = section.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    Ok(strings.filter_map(|text| text.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()))).collect())
}

fn section<'a>(file: &'a [u8], wanted: &str) -> Result<Option<&'a [u8]>> {
    check(file)?;
    let headers = table(file, 0x28, 0x3a)?;
    let names =
        headers.get(usize::from(u16_at(file, 0x3e)?)).context("no section holds the section names")?;
    let names = content(file, names)?;
    for header in &headers {
        let at = usize::try_from(u32_at(header, 0)?)?;
        let name = names.get(at..).context("a section's name is outside the names")?;
        if name.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
            return content(file, header).map(Some);
        }
    }
    Ok(None)
}

fn check(file: &[u8]) -> Result<()> {
    // Magic, class 2 (64 bits), data 1 (little-endian).
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    Ok(())
}

/// The entries of the header table whose offset stands at `offset_at` and whose entry size and count at
/// `size_at`.
fn table(file: &[u8], offset_at: usize, size_at: usize) -> Result<Vec<&[u8]>> {
    let start = usize::try_from(u64_at(file, offset_at)?)?;
    let size = usize::from(u16_at(file, size_at)?);
    let count = usize::from(u16_at(file, size_at + 2)?);
    let end = size.checked_mul(count).and_then(|length| start.checked_add(length));
    let bytes = end.and_then(|end| file.get(start..end)).context("a header table is outside the file")?;
    if size == 0 {
        bail!("a header table has entries of no size");
    }
    Ok(bytes.chunks_exact(size).collect())
}

fn content<'a>(file: &'a [u8], header: &[u8]) -> Result<&'a [u8]> {
    let start = usize::try_from(u64_at(header, 0x18)?)?;
    let length = usize::try_from(u64_at(header, 0x20)?)?;
    let end = start.checked_add(length).context("a section ends beyond any file")?;
    file.get(start..end).context("a section is outside the file")
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).context("an offset is beyond any file")?;
    let field = bytes.get(at..end).with_context(|| format!("cut off at byte {at}"))?;
    Ok(field.try_into()?)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_dynamic_and_busybox_is_static() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&this).unwrap());
        let busybox = std::fs::read("/bin/busybox").unwrap();
        assert!(is_static(&busybox).unwrap());
        assert!(modinfo(&busybox).is_err());
    }

    #[test]
    fn a_cut_or_changed_file_is_an_error_or_an_answer_never_a_panic() {
        let whole = std::fs::read("/bin/busybox").unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 97).chain(0..128) {
            let cut = whole.get(..length).unwrap();
            let _ = (is_static(cut), modinfo(cut));
        }
        for at in 0..64 {
            for value in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = (is_static(&changed), modinfo(&changed));
            }
        }
    }
}
