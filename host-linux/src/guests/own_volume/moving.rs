//! What a guest's own volume says of its move to another pair: where the guest goes with what is on its
//! disks, or from where it came (S0-11, X15; I5).
//!
//! A pair's catalogue says whether a guest is wanted there, and no write changes two of them. So each side
//! has a note beside it, made before anything moves, which counts only **while nobody wants the guest in this
//! pair**. The one write that takes the want away puts the note in force, and the one that gives it takes it
//! out of force: there is no moment in which the two disagree. In force, it keeps a guest from being begun
//! here that may run there, on whichever node of the pair; an operator can say that it does not.

use super::contents::{Change, Contents};
use super::keeping::now;
use super::medium::Medium;
use super::pair::{Pair, has_none};
use super::served::Access;
use super::table::What;
use crate::failure::Failure;
use crate::guests::record::{Record, Way};
use serde::{Deserialize, Serialize};
use std::io::{Error, Read as _, Result as IoResult};
use std::path::Path;

/// The longest note.
const LENGTH_MAX: u64 = 4096;
const VERSION: u32 = 1;

/// A move of a guest to another pair, or from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moving {
    /// Of the note.
    pub version: u32,
    /// Whether it goes or comes.
    pub way: Way,
    /// The node at the other end.
    pub node: String,
    /// Seconds since 1970, by the clock of the node that wrote it.
    pub at: u64,
    /// It was heard to run there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heard: bool,
}

impl Moving {
    /// Of this moment.
    #[must_use]
    pub fn now(way: Way, node: &str) -> Self {
        Self { version: VERSION, way, node: node.into(), at: now(), heard: false }
    }

    /// What is noted in an own volume, in force or not.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn load<M: Medium>(guest: &str, contents: &Contents<M>) -> Result<Option<Self>, Failure> {
        let Some(from) = contents.read(&What::Move) else { return Ok(None) };
        let mut text = String::new();
        let read = from.take(LENGTH_MAX).read_to_string(&mut text);
        let known = read.and_then(|_| serde_json::from_str(&text).map_err(Error::from));
        let known = known.map_err(|error| error.to_string()).and_then(|known: Self| match known.version {
            VERSION => Ok(known),
            version => Err(format!("it is of version {version}")),
        });
        known.map(Some).map_err(|why| {
            let what = format!("where guest {guest} moves cannot be read in its own volume: {why}");
            Failure::failed(what).next("use a newer `bulkhead` if one wrote it.")
        })
    }

    /// Puts it there with what else is changed.
    ///
    /// # Errors
    ///
    /// As [`Change::put`].
    pub fn put<M: Medium>(&self, change: &mut Change<M>) -> IoResult<()> {
        let text = serde_json::to_vec(self)?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        change.put(What::Move, self.at, length, &mut &text[..])
    }

    /// What it says of a guest that is off and that nobody here wants.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { node, way, .. } = self;
        match way {
            Way::To if self.heard => format!("which went to {node} with what is on its disks"),
            Way::To => format!("which was given to {node}, and was not heard to run there"),
            Way::From => format!("which comes from {node}, and was not seen to run here"),
        }
    }

    /// Whether the guest was given to this node, by what that has noted.
    fn was_given(&self, record: Option<&Record>) -> bool {
        let is_it = |record: &Record| record.way == Way::From && record.node == self.node;
        self.way == Way::From && record.is_some_and(|record| is_it(record) && self.at <= record.at)
    }

    /// Whether the guest may be begun in this pair, where this is in force.
    ///
    /// # Errors
    ///
    /// It may run at the other end.
    pub fn may_begin(&self, guest: &str, record: Option<&Record>) -> Result<(), Failure> {
        let Self { node, way, .. } = self;
        if self.was_given(record) {
            return Ok(());
        }
        let (what, next) = match way {
            Way::To => (
                format!("guest {guest} went to {node} with what is on its disks, and may run there"),
                format!(
                    "look there with `bulkhead vm show {guest}`: say --here once you know that it does not; \
                     what is on its disks here is of before."
                ),
            ),
            Way::From => (
                format!("guest {guest} comes from {node}, and may run there, and its disks may be half here"),
                format!(
                    "`bulkhead vm show {guest}` on {node} says whether it went; if so, say --here; if not, \
                     move it again from there, or `bulkhead vm delete {guest}` here."
                ),
            ),
        };
        Err(Failure::refused(what).left("It was not started.").next(next))
    }
}

/// The note of a guest that nobody wants to run in this pair; `None`: there is none, or it is not in force.
///
/// # Errors
///
/// Its own volume cannot be read.
pub fn in_force(pair: &Pair, guest: &str) -> Result<Option<Moving>, Failure> {
    if pair.wants(guest) || pair.volume(guest).is_none() {
        return Ok(None);
    }
    Moving::load(guest, &pair.open(guest, Access::Look)?)
}

/// Notes it in place of what is there; the names of the guest's snapshots, which stay here.
///
/// # Errors
///
/// The agent at this socket does not lead, or its volume does not take it.
pub fn note(agent: &Path, guest: &str, moving: &Moving) -> Result<Vec<String>, Failure> {
    let pair = Pair::ask(agent)?.ok_or_else(|| has_none(guest))?;
    let contents = pair.open(guest, Access::Change)?;
    let snapshot = |what: &What| if let What::Snapshot(name) = what { Some(name.to_string()) } else { None };
    let entries = contents.table().entries().iter();
    let snapshots = entries.filter_map(|entry| snapshot(&entry.what)).collect();
    let mut change = contents.change();
    let put = moving.put(&mut change).and_then(|()| change.commit());
    put.map(|_| snapshots).map_err(|error| failed(guest, &error))
}

/// Takes the note away, if there is one that is not in force: it says nothing any more.
///
/// # Errors
///
/// As there.
pub fn forget(agent: &Path, guest: &str) -> Result<(), Failure> {
    let can = |pair: &Pair| pair.wants(guest) && pair.leads().is_ok();
    let Some(pair) = Pair::ask(agent)?.filter(can) else { return Ok(()) };
    if pair.open(guest, Access::Look)?.table().find(&What::Move).is_none() {
        return Ok(());
    }
    let mut change = pair.open(guest, Access::Change)?.change();
    change.remove(&What::Move);
    // Twice, so that no copy of the table has it: a release before reads neither then.
    let twice = change.commit().and_then(|contents| contents.change().commit());
    twice.map(drop).map_err(|error| failed(guest, &error))
}

fn failed(guest: &str, error: &Error) -> Failure {
    let what = format!("where guest {guest} moves cannot be noted in its own volume: {error}");
    let next = format!(
        "`bulkhead vm snapshots {guest}` says what is in it; `volume resize {guest}.guest` makes room."
    );
    Failure::failed(what).next(next)
}

#[cfg(test)]
#[path = "moving_tests.rs"]
mod tests;
