//! Linux guests on the nodes of a site: what they are, and what they say that they keep (S2-01, S4-01).

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Part, Site};
use crate::lab::Lab;
use crate::tooling::node_image::{Recipe, Variant};

/// A guest from its start to its end, under emulation of emulation.
pub const GUEST: Duration = Duration::from_secs(120);

/// A node image with a kernel and first files for guests, which does what `qemu-tests/guest/init` lists.
pub fn recipe(overlays: &[&str]) -> Recipe {
    let overlays = overlays.iter().map(|name| (*name).to_owned()).collect();
    // A node that is busy with its guest is to be slow, not to be reset.
    Recipe { overlays, has_guest: true, watchdog_seconds: 60, ..Lab::recipe(Variant::Good, 1) }
}

/// The command that writes what a guest with so many processors and these devices is, which does this.
pub fn describe(does: &str, processors: u32, devices: &str) -> String {
    let described = format!(
        "version = 1\\nname = \"{does}\"\\nprocessors = {processors}\\nmemory = \"128M\"\\n\
         kernel = \"/guest/vmlinuz\"\\ninitrd = \"/guest/initrd\"\\n\
         command_line = \"console=ttyS0 loglevel=4 pci=off guest.does={does}\"\\n{devices}"
    );
    format!("printf %b '{described}' >/tmp/{does}.toml")
}

impl Site {
    /// Makes and starts a guest on the node that leads, with this volume as its disk.
    ///
    /// # Errors
    /// When the node does not.
    pub fn start_guest(&self, part: Part, does: &str, volume: &str) -> Result<()> {
        let described = describe(does, 1, &format!("[[disk]]\\nvolume = \"{volume}\"\\n"));
        let start = format!("{described}; bulkhead vm create /tmp/{does}.toml && bulkhead vm start {does}");
        self.rig(part)?.shell.exit(0, &start, GUEST).map(drop)
    }

    /// Waits until the guest `keeps` has said on this node that it keeps more than this; what it said last.
    ///
    /// # Errors
    /// When it does not.
    pub fn kept(&self, part: Part, behind: u64) -> Result<u64> {
        let last = "bulkhead vm log keeps | sed -n 's/.*guest: kept \\([0-9]*\\).*/\\1/p' | tail -n 1";
        let wait = format!(
            "n=0; until last=$({last}); [ $((last + 0)) -gt {behind} ]; do sleep 1; n=$((n+1)); \
             [ $n -lt 100 ] || break; done; echo last $last"
        );
        let text = self.rig(part)?.shell.exit(0, &wait, GUEST)?;
        let last = text.lines().rev().find_map(|line| line.split_once("last "));
        let last = last.with_context(|| text.clone())?.1.trim();
        let last = last.parse().with_context(|| format!("{}: {text}", part.name()))?;
        ensure!(behind < last, "{}: {text}", part.name());
        Ok(last)
    }
}
