//! What `bulkhead vm snapshot` and `vm restore` are told of snapshots that build on others, and what they
//! show while they wait (S3-06).

use crate::failure::Failure;
use crate::output::{Voice, size};
use crate::vmm::begins::Kept;
use crate::vmm::snapshot::tracked::Extent;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much of a guest's memory a snapshot has.
#[derive(Clone, Debug, Args)]
pub(super) struct ExtentArgs {
    /// Keep from then on what the guest writes, for a next one with --since: with FILE only
    #[arg(long, conflicts_with = "since")]
    track: bool,
    /// Only what was written since this snapshot, the newest one with --track or --since: with FILE only
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
    /// Where they are on which this snapshot builds.
    pub(super) fn of(&self, snapshot: &Kept) -> Result<Vec<PathBuf>, Failure> {
        if matches!(snapshot, Kept::Own(_)) && !self.bases.is_empty() {
            let what = "a snapshot in a guest's own volume builds on no others";
            return Err(Failure::usage(what).next("leave --base out, or name a FILE."));
        }
        let absolute =
            |path: &PathBuf| std::path::absolute(path).map_err(|error| Failure::io("find", path, &error));
        self.bases.iter().map(absolute).collect()
    }
}

/// How far a snapshot is, for people; `None`: there is none.
pub(super) fn told(view: &Value) -> Option<String> {
    let number = |key: &str| view.get(key).and_then(Value::as_u64).unwrap_or(0);
    let state = view.get("state")?.as_str()?;
    let percent = number("bytes").saturating_mul(100).checked_div(number("of")).unwrap_or(0);
    Some(format!("{state}, {percent} % of {}", size(number("of"))))
}

/// Shows how far it is, on a terminal; Ctrl-C has it not be, and a second one ends the command.
pub(super) struct Watcher {
    bar: ProgressBar,
    is_cancelled: Arc<AtomicBool>,
}

impl Watcher {
    pub(super) fn new(label: &'static str, is_quiet: bool) -> Result<Self, Failure> {
        let is_cancelled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let own = || Arc::clone(&is_cancelled);
            let heard = signal_hook::flag::register_conditional_default(signal, own());
            heard
                .and_then(|_| signal_hook::flag::register(signal, own()))
                .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
        }
        Ok(Self { bar: Voice::new(is_quiet).bar(label, 0), is_cancelled })
    }

    /// It is so far. Whether it is not to be any more.
    pub(super) fn watch(&mut self, view: &Value) -> bool {
        let number = |key: &str| view.get(key).and_then(Value::as_u64).unwrap_or(0);
        if let of @ 1.. = number("of") {
            self.bar.set_length(of);
            self.bar.set_position(number("bytes"));
        }
        self.is_cancelled()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn how_far_it_is_is_told_in_words() {
        assert_eq!(told(&Value::Null), None);
        let view = json!({ "state": "writing", "bytes": 1 << 20, "of": 8 << 20 });
        assert_eq!(told(&view).unwrap(), "writing, 12 % of 8 MiB");
        assert_eq!(
            told(&json!({ "state": "stopping", "bytes": 0, "of": 0 })).unwrap(),
            "stopping, 0 % of 0 bytes"
        );
    }
}
