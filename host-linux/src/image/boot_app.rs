//! Puts the trusted keys into the boot application, and reads them out of it.
//!
//! The table is the section `.bhkeys`; a Secure Boot signature made afterwards covers it.

use super::pe::Pe;
use crate::failure::Failure;
use bulkhead_core::container::trust::{KEYS_MAGIC, KEYS_MAX, Key, Trust};
use bulkhead_core::plan::SECTOR;
use std::path::Path;

const SECTION: [u8; 8] = *b".bhkeys\0";

/// The boot application with `trust` in it.
///
/// # Errors
///
/// `app` is not our boot application, or is signed already.
pub fn with_trust(app: &[u8], trust: &Trust, path: &Path) -> Result<Vec<u8>, Failure> {
    let not_ours = |why: &dyn std::fmt::Display| {
        Failure::failed(format!("{} is not a Bulkhead boot application: {why}", path.display()))
            .next("give the BOOTX64.EFI that `cargo xtask boot-app` built.")
    };
    let pe = Pe::parse(app).map_err(|why| not_ours(&why))?;
    if pe.signed {
        let what = format!("{} carries a signature, which a change of its keys would break", path.display());
        return Err(
            Failure::refused(what).next("put the keys into the unsigned application first, then sign it.")
        );
    }
    let at = place(&pe, app).map_err(|why| not_ours(&why))?;
    let mut patched = app.to_vec();
    let table = patched.get_mut(at..at.saturating_add(SECTOR)).ok_or_else(|| not_ours(&NO_ROOM))?;
    table.copy_from_slice(&trust.encode());
    Ok(patched)
}

/// The keys a boot application trusts.
///
/// # Errors
///
/// Why there are none.
pub fn trust_of(app: &[u8]) -> Result<Trust, String> {
    let pe = Pe::parse(app).map_err(|why| why.to_string())?;
    let at = place(&pe, app).map_err(str::to_owned)?;
    let table = app.get(at..).and_then(<[u8]>::first_chunk).ok_or(NO_ROOM)?;
    Trust::parse(table).map_err(|bad| bad.to_string())
}

const NO_ROOM: &str = "its section .bhkeys lies outside the file";

fn place(pe: &Pe, app: &[u8]) -> Result<usize, &'static str> {
    let section = pe.sections.iter().find(|(name, _)| *name == SECTION);
    let (_, range) = section.ok_or("it has no section .bhkeys")?;
    let bytes = app.get(range.clone()).ok_or(NO_ROOM)?;
    if bytes.len() < SECTOR || !bytes.starts_with(&KEYS_MAGIC) {
        return Err("its section .bhkeys holds no key table");
    }
    Ok(range.start)
}

/// A table of `keys`.
///
/// # Errors
///
/// There are none, too many, or one is both trusted and revoked.
pub fn table(keys: Vec<Key>) -> Result<Trust, Failure> {
    let mut trust = Trust::default();
    for key in keys {
        if trust.keys.iter().any(|known| known.public == key.public) {
            return Err(Failure::usage(format!("key {} is given twice", key.id())));
        }
        let full = |_| Failure::usage(format!("there is room for {KEYS_MAX} keys"));
        trust.keys.push(key).map_err(full)?;
    }
    if trust.keys.is_empty() {
        return Err(Failure::usage("no key is given, so no image would ever start")
            .next("give at least one public key with `--trust NAME.pub`."));
    }
    Ok(trust)
}
