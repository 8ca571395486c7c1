//! A Linux guest written into its own volume, and into a file of its node, and read back.

use anyhow::{Context, Result};
use serde_json::Value;

use super::guest::Guest;
use super::{Seen, Stage};

/// MiB of its memory that the guest fills, beside what its kernel has.
const HELD: u32 = 32;
const GIB: f64 = (1 << 30) as f64;
/// Where to, what that is called, and what is to be removed afterwards.
const PLACES: [(&str, &str, &str); 2] = [
    ("/volumes/snapshot", "a file of its node", "rm /volumes/snapshot"),
    ("", "its own mirrored volume", "bulkhead vm snapshots bench --delete last"),
];

pub fn figures(stage: &Stage, guest: &Guest<'_>, seen: &mut Seen) -> Result<()> {
    guest.start()?;
    guest.does(&format!("holds {HELD}"))?;
    stage.each("snapshots", || {
        for (file, place, remove) in PLACES {
            let take = format!("bulkhead vm snapshot bench {file} --stop --json >/dev/null");
            let written = guest.timed(&take)?;
            let bytes = bytes(guest, file)?;
            let read = guest.timed(&format!("bulkhead vm restore bench {file} --json >/dev/null"))?;
            guest.does("nothing")?;
            guest.node(remove)?;
            let gib = bytes / GIB;
            seen.keep(&format!("a snapshot in {place}"), "MiB", gib * 1024.0, None);
            seen.keep(&format!("a snapshot into {place}, for each GiB"), "s", written / gib, None);
            seen.keep(&format!("restored from {place}, for each GiB"), "s", read / gib, None);
        }
        Ok(())
    })?;
    guest.stop()
}

/// Of a snapshot that was taken.
fn bytes(guest: &Guest<'_>, file: &str) -> Result<f64> {
    let bytes = if file.is_empty() {
        let listed = guest.vm("snapshots", "")?;
        let bytes = listed.pointer("/snapshots/0/bytes").and_then(Value::as_u64);
        u32::try_from(bytes.with_context(|| listed.to_string())?)?
    } else {
        guest.node(&format!("stat -c %s {file}"))?.trim().parse()?
    };
    Ok(f64::from(bytes))
}
