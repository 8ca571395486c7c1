//! What `bulkhead vm snapshot` and `vm restore` are told of snapshots that build on others (S3-06).

use crate::failure::Failure;
use crate::vmm::snapshot::tracked::Extent;
use clap::Args;
use std::path::PathBuf;

/// How much of a guest's memory a snapshot has.
#[derive(Clone, Debug, Args)]
pub(super) struct ExtentArgs {
    /// Keep from then on what the guest writes, for a next one with --since
    #[arg(long, conflicts_with = "since")]
    track: bool,
    /// Only what was written since this snapshot, the newest one with --track or --since
    #[arg(long, value_name = "OLDER")]
    since: Option<PathBuf>,
}

impl ExtentArgs {
    pub(super) fn extent(&self) -> Extent {
        match (&self.since, self.track) {
            (Some(older), _) => Extent::Since(older.clone()),
            (None, true) => Extent::Tracked,
            (None, false) => Extent::All,
        }
    }
}

/// What a snapshot builds on.
#[derive(Clone, Debug, Args)]
pub(super) struct BasesArg {
    /// A snapshot that this one builds on, where it is not beside it; may be given again
    #[arg(long = "base", value_name = "FILE")]
    bases: Vec<PathBuf>,
}

impl BasesArg {
    /// Where they are.
    pub(super) fn absolute(&self) -> Result<Vec<PathBuf>, Failure> {
        let absolute =
            |path: &PathBuf| std::path::absolute(path).map_err(|error| Failure::io("find", path, &error));
        self.bases.iter().map(absolute).collect()
    }
}
