//! The card of a witness for a site of QEMU nodes on the harness's switches.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;

/// How fast a site is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The recovery time.
    pub rto: Duration,
    /// How long a node may stand still.
    pub pause: Duration,
}

impl Pace {
    /// As keys of the table `[timers]`.
    pub fn toml(self) -> String {
        format!("rto = \"{}ms\"\npause = \"{}ms\"\n", self.rto.as_millis(), self.pause.as_millis())
    }
}

/// Writes the card of the witness, node 3, of the site whose configuration is in `file`, as an operator does.
///
/// # Errors
/// When the file is no good, or the card cannot be written.
pub fn card(lab: &Lab, file: &Path, image: &Path) -> Result<()> {
    let tool = lab.tool(["witness", "provision", "--node", "3", "--config"]).arg(file);
    tool.arg("--out").arg(image).succeed().map(drop)
}
