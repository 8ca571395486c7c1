//! Which keys a command trusts, and where it got them from.

use crate::disk::esp;
use crate::disk::open::Disk;
use crate::disk::state::NodeDisk;
use crate::failure::Failure;
use crate::image::{boot_app, keys};
use crate::machine::Machine;
use bulkhead_core::container::trust::Trust;
use std::path::PathBuf;

/// Keys, and where they come from.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) trust: Trust,
    pub(super) from: String,
}

/// The keys given on the command line; `None` when there are none.
pub(super) fn given(trust: &[PathBuf]) -> Result<Option<Trusted>, Failure> {
    if trust.is_empty() {
        return Ok(None);
    }
    let trust = boot_app::table(keys::read_public(trust, false)?)?;
    Ok(Some(Trusted { trust, from: "the command line".into() }))
}

/// The keys that count for `disk`: those given, else those its own boot application trusts, which
/// is what decides at the next boot, else those in `/etc/bulkhead/trust`.
pub(super) fn for_disk(
    machine: &Machine,
    disk: &Disk,
    node: &NodeDisk,
    paths: &[PathBuf],
) -> Result<Trusted, Failure> {
    if let Some(given) = given(paths)? {
        return Ok(given);
    }
    let app = esp::read_boot_app(disk, &node.layout.esp).map_err(|why| why.to_string());
    let why = match app.and_then(|app| boot_app::trust_of(&app)) {
        Ok(trust) if !trust.keys.is_empty() => {
            return Ok(Trusted { trust, from: "the boot application on the disk".into() });
        }
        Ok(_) => "the boot application on the disk trusts no key".to_owned(),
        Err(why) => why,
    };
    let directory = machine.path("etc/bulkhead/trust");
    let files = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "pub")).collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::failed(format!(
            "there is no key to trust: {why}, and {} has none",
            directory.display()
        ))
        .next("name the keys with `--trust NAME.pub`."));
    }
    let trust = boot_app::table(keys::read_public(&files, false)?)?;
    Ok(Trusted { trust, from: directory.display().to_string() })
}
