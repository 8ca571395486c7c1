//! What a node knows of a move of a guest: written before it is given away, and when it was taken, so that
//! both ends say the same after any crash (X15).

use crate::durable;
use crate::failure::Failure;
use crate::migration::moved::Moved;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Record {
    /// Of the file.
    pub version: u32,
    /// Whether it left or came.
    pub way: Way,
    /// The other node.
    pub node: String,
    /// It runs by leases: where nobody leads it does not run, whatever stands here.
    pub leased: bool,
    /// Seconds since 1970, by the clock of this node.
    pub at: u64,
    /// How it went; `None`: the other end was not heard, or it came.
    pub moved: Option<Moved>,
    /// What is on its disks went with it: what is here of them is of before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_disks: bool,
    /// It came to run here, and that it is to run here is to be said in the catalogue yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsaid: bool,
}

/// Which way a guest went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// To the other node.
    To,
    /// From it.
    From,
}

const VERSION: u32 = 1;

impl Record {
    /// Of this moment.
    #[must_use]
    pub fn now(way: Way, node: &str, leased: bool) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let node = node.into();
        Self { version: VERSION, way, node, leased, at, moved: None, with_disks: false, unsaid: false }
    }

    /// Writes it, in place of what is there; then it is on disk.
    ///
    /// # Errors
    ///
    /// The disk does not take it: what was there is there still.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        durable::replace_json(path, self)
    }

    /// Nothing is to be said any more of a guest that came.
    ///
    /// # Errors
    ///
    /// The disk does not take it.
    pub fn settle(path: &Path) -> Result<(), Failure> {
        match Self::load(path)? {
            Some(record) if record.unsaid => Self { unsaid: false, ..record }.save(path),
            Some(_) | None => Ok(()),
        }
    }

    /// What stands there; `None`: nothing does.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let Some(text) = durable::text(path)? else { return Ok(None) };
        let record: Self = serde_json::from_str(&text).map_err(|error| {
            let next = "if the guest runs nowhere else, delete the file.";
            Failure::failed(format!("{} says nothing of a move: {error}", path.display())).next(next)
        })?;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in the field. If this test fails, add a version; do not edit them.
    #[test]
    fn version_1_never_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moved.json");
        assert_eq!(Record::load(&path).unwrap(), None);
        let moved = Moved {
            rounds: 2,
            bytes: 3,
            downtime_ms: 4,
            total_ms: 5,
            throttled: 6,
            disk_bytes: 0,
            stood: None,
        };
        let given = Record { at: 7, ..Record::now(Way::To, "b1", true) };
        let done = Record { moved: Some(moved), ..given.clone() };
        let with_disks = Record { with_disks: true, ..given.clone() };
        let came = Record { at: 8, ..Record::now(Way::From, "a1", false) };
        let unsaid = Record { unsaid: true, ..came.clone() };
        let cases = [
            (given, r#"{"version":1,"way":"to","node":"b1","leased":true,"at":7,"moved":null}"#),
            (
                done,
                concat!(
                    r#"{"version":1,"way":"to","node":"b1","leased":true,"at":7,"moved":"#,
                    r#"{"rounds":2,"bytes":3,"downtimeMs":4,"totalMs":5,"throttled":6}}"#
                ),
            ),
            (
                with_disks,
                concat!(
                    r#"{"version":1,"way":"to","node":"b1","leased":true,"at":7,"moved":null,"#,
                    r#""withDisks":true}"#
                ),
            ),
            (came, r#"{"version":1,"way":"from","node":"a1","leased":false,"at":8,"moved":null}"#),
            (
                unsaid,
                concat!(
                    r#"{"version":1,"way":"from","node":"a1","leased":false,"at":8,"moved":null,"#,
                    r#""unsaid":true}"#
                ),
            ),
        ];
        for (record, text) in cases {
            record.save(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(Record::load(&path).unwrap(), Some(record.clone()));
            Record::settle(&path).unwrap();
            let settled = Record { unsaid: false, ..record };
            assert_eq!(Record::load(&path).unwrap(), Some(settled));
        }
        std::fs::write(&path, "{}").unwrap();
        assert!(Record::load(&path).unwrap_err().what.contains("moved.json"));
    }
}
