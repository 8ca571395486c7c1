//! A Linux guest from `bulkhead vm start` to its init, and what its process takes beside its memory.

use anyhow::Result;

use super::guest::{Guest, numbers};
use super::{Seen, Stage};

/// Each is of a guest that was off.
pub fn figures(stage: &Stage, guest: &Guest<'_>, seen: &mut Seen) -> Result<()> {
    stage.each("starts", || {
        let [runs, init] = guest.start()?;
        seen.keep("from `vm start` until the command returned", "ms", runs * 1e3, None);
        seen.keep("from `vm start` to Linux init", "ms", init * 1e3, None);
        // The guest's memory is a file without a name.
        let own = "for process in $(pidof bulkhead); do \
                   tr '\\0' ' ' </proc/$process/cmdline | grep -q ' vmm ' && break; done; \
                   awk '/^[0-9a-f]+-/ { guest = /memfd:/ } /^Anonymous:/ && !guest { kib += $2 } \
                   END { print \"own \" kib }' /proc/$process/smaps";
        let [kib] = numbers(&guest.node(own)?, "own ")?;
        seen.keep("memory beside the guest's: its own", "MiB", kib / 1024.0, None);
        guest.stop()
    })
}
