//! What a node notes of a guest whose disks come to it: written before the first of their bytes is, so that
//! nobody begins the guest from disks that are not all there (X15).

use crate::durable;
use crate::failure::Failure;
use crate::guests::record::{Record, Way};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file beside a guest's description.
const FILE: &str = "coming.json";
const VERSION: u32 = 1;

/// Disks that come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Partial {
    version: u32,
    /// From where.
    pub node: String,
    /// Which: what was on them is gone.
    pub disks: Vec<String>,
    /// All of it is there: only who gives it away knows whether that was done.
    pub whole: bool,
    /// Seconds since 1970, by the clock of this node.
    at: u64,
}

/// Where that is noted, of the guest that is described there.
#[must_use]
pub fn beside(description: &Path) -> PathBuf {
    description.with_file_name(FILE)
}

impl Partial {
    /// Nothing of them is there yet.
    #[must_use]
    pub fn begin(node: &str, disks: Vec<String>) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { version: VERSION, node: node.into(), disks, whole: false, at }
    }

    /// Writes it, in place of what is there; then it is on disk.
    ///
    /// # Errors
    ///
    /// The disk does not take it: what was there is there still.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        durable::replace_json(path, self)
    }

    /// What stands there; `None`: nothing does.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let Some(text) = durable::text(path)? else { return Ok(None) };
        let known = serde_json::from_str(&text).ok().filter(|known: &Self| known.version == VERSION);
        known.map(Some).ok_or_else(|| {
            let next = "if the disks of the guest are all there, delete the file.";
            Failure::failed(format!("{} says nothing that this program knows", path.display())).next(next)
        })
    }

    /// Whether the guest that came with them was given to this node since.
    fn was_given(&self, record: Option<&Record>) -> bool {
        let came = record.filter(|record| record.way == Way::From && record.node == self.node);
        self.whole && came.is_some_and(|record| self.at <= record.at)
    }
}

/// Whether a guest may begin with the disks that it has here; `is_here`: who begins it knows that it runs
/// nowhere else.
///
/// # Errors
///
/// They are not all there, or only who gave it away knows whose it is.
pub fn check(guest: &str, description: &Path, record: Option<&Record>, is_here: bool) -> Result<(), Failure> {
    let Some(known) = Partial::load(&beside(description))?.filter(|known| !known.was_given(record)) else {
        return Ok(());
    };
    let Partial { node, disks, .. } = &known;
    let failure = match (known.whole, is_here) {
        (true, true) => return Ok(()),
        (true, false) => {
            let what = format!("guest {guest} came from {node} with all of its disks, and may run there");
            let next = format!(
                "`bulkhead vm show {guest}` on {node} says whether it was moved here; then say --here."
            );
            Failure::refused(what).next(next)
        }
        (false, _) => {
            let what = format!(
                "the disks of guest {guest} are parts of a copy from {node} that did not come to its end: {}",
                disks.join(", ")
            );
            let next = format!("move it again from {node}, or delete it here and make the disks anew.");
            Failure::refused(what).next(next)
        }
    };
    Err(failure.left("It was not started."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in the field. If this test fails, add a version; do not edit them.
    #[test]
    fn version_1_never_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = beside(&directory.path().join("guest.toml"));
        assert_eq!(Partial::load(&path).unwrap(), None);
        let known = Partial { at: 7, ..Partial::begin("a1", vec!["nbd://x/y".into()]) };
        known.save(&path).unwrap();
        let text = r#"{"version":1,"node":"a1","disks":["nbd://x/y"],"whole":false,"at":7}"#;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(Partial::load(&path).unwrap(), Some(known));
        for text in ["{}", "", &text.replace("\"version\":1", "\"version\":2")] {
            std::fs::write(&path, text).unwrap();
            assert!(Partial::load(&path).unwrap_err().what.contains("coming.json"), "{text}");
        }
    }

    /// X15: half a copy is begun by nobody; a whole one by who knows that it was given, or says so.
    #[test]
    fn a_guest_begins_with_disks_that_are_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let description = directory.path().join("guest.toml");
        let begins = |record: Option<&Record>, is_here| check("web1", &description, record, is_here).is_ok();
        assert!(begins(None, false), "nothing ever came");
        let came = |node, at| Record { at, ..Record::now(Way::From, node, false) };
        for (whole, expected) in [(false, [false; 6]), (true, [false, true, false, false, false, true])] {
            let known = Partial { at: 7, whole, ..Partial::begin("a1", vec!["x".into()]) };
            known.save(&beside(&description)).unwrap();
            let left = Record { way: Way::To, ..came("a1", 9) };
            let found = [
                begins(None, false),
                begins(None, true),
                begins(Some(&left), false),
                begins(Some(&came("a1", 6)), false),
                begins(Some(&came("c1", 9)), false),
                begins(Some(&came("a1", 7)), false),
            ];
            assert_eq!(found, expected, "whole: {whole}");
        }
    }
}
