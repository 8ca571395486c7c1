//! Who has it kept which pages of a guest are written: its snapshots, so that the next one has only those, or
//! its move. One of them at a time, for whoever reads KVM's log empties it (S3-06, X15).

use super::super::machine::Machine;
use super::lineage::{Base, Digest, Id, Lineage, name_of};
use super::written::Written;
use super::{chain, chain::CHAIN_MAX};
use crate::failure::Failure;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

const MOVES: &str = "wait until it is there, or keep it here: `bulkhead vm migrate --cancel`.";

/// How much of a guest's memory a snapshot is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    #[default]
    All,
    /// All of it; from then on it is kept what is written.
    Tracked,
    /// What was written since the snapshot in this file was taken, the newest one; and it goes on being kept.
    Since(PathBuf),
}

/// Who has it kept.
#[derive(Debug)]
pub enum Tracker {
    /// Its move.
    Move,
    /// Its snapshots.
    Snapshots(Newest),
}

/// The newest snapshot, since which it is kept what is written.
#[derive(Clone, Debug)]
pub struct Newest {
    /// All that it builds on, and itself last.
    chain: Vec<Id>,
    digest: Digest,
    /// Pages that were written since, as far as KVM was asked already.
    written: Written,
}

/// A move has it kept, until this is dropped.
#[derive(Debug)]
pub struct Tracking<'a>(&'a Machine);

impl Drop for Tracking<'_> {
    fn drop(&mut self) {
        *self.0.tracker() = None;
        // It costs the guest time, and nobody asks any more; what comes of that matters to nobody.
        let _ = self.0.log_writes(false);
    }
}

impl Machine {
    /// Has it kept for a move which pages are written, from now on.
    ///
    /// # Errors
    ///
    /// It is kept for somebody else, or those of KVM.
    pub fn track(&self) -> Result<Tracking<'_>, Failure> {
        let mut tracker = self.tracker();
        match &*tracker {
            None => {}
            Some(Tracker::Move) => {
                return Err(Failure::refused("it is being moved already").left("").next(MOVES));
            }
            Some(Tracker::Snapshots(_)) => {
                let what = "what it writes is kept for its next snapshot, by --track";
                let next = "take one without --track and --since, which ends that; or move it with --quick.";
                return Err(Failure::refused(what).left("").next(next));
            }
        }
        self.log_writes(true).map_err(self.origin().failed("tell what is written"))?;
        *tracker = Some(Tracker::Move);
        Ok(Tracking(self))
    }

    /// The newest snapshot since which it is kept what is written.
    pub fn tracked(&self) -> Option<Id> {
        match &*self.tracker() {
            Some(Tracker::Snapshots(newest)) => newest.chain.last().copied(),
            Some(Tracker::Move) | None => None,
        }
    }

    fn tracker(&self) -> MutexGuard<'_, Option<Tracker>> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a snapshot is to have, of a guest that stands still; and what is kept behind it.
#[derive(Debug)]
pub struct Plan<'a> {
    machine: &'a Machine,
    /// Which it will be.
    pub lineage: Lineage,
    /// The pages that it has; `None`: all.
    pub pages: Option<Written>,
    is_tracked: bool,
    chain: Vec<Id>,
    /// It was not kept before, and is not if there will be no snapshot.
    is_new: bool,
}

impl<'a> Plan<'a> {
    /// Of a snapshot that has all of its memory, wherever it will be. The guest stands still.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn all(machine: &'a Machine) -> Result<Self, Failure> {
        Self::new(machine, &Extent::All, Path::new(""))
    }

    /// Of a snapshot that will be at `path`. The guest stands still.
    ///
    /// # Errors
    ///
    /// There is no such snapshot to build on, or the log is another one's.
    pub fn new(machine: &'a Machine, extent: &Extent, path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("no snapshot can be named: {error}"));
        let mut lineage = Lineage::draw(None).map_err(failed)?;
        let mut tracker = machine.tracker();
        let is_move = matches!(*tracker, Some(Tracker::Move));
        if is_move && *extent != Extent::All {
            return Err(Failure::refused("what it writes is kept for its move").next(MOVES));
        }
        let mut is_new = false;
        let kept = match (&mut *tracker, extent) {
            (None | Some(Tracker::Move), Extent::Since(older)) => return Err(not_kept(older)),
            (None, Extent::Tracked) => {
                machine.log_writes(true).map_err(machine.origin().failed("tell what is written"))?;
                is_new = true;
                None
            }
            (Some(Tracker::Snapshots(newest)), Extent::Tracked | Extent::Since(_)) => {
                let written = machine.written();
                // Whatever becomes of this snapshot: KVM does not tell it again.
                newest.add(&written.map_err(machine.origin().failed("tell what is written"))?);
                Some(newest.clone())
            }
            (None | Some(Tracker::Move | Tracker::Snapshots(_)), Extent::All) | (Some(Tracker::Move), _) => {
                None
            }
        };
        drop(tracker);
        let (base, mut chain, pages) = match (extent, kept) {
            (Extent::Since(older), Some(newest)) => {
                let base = newest.base(older, path)?;
                (Some(base), newest.chain, Some(newest.written))
            }
            _ => (None, Vec::new(), None),
        };
        lineage.base = base;
        chain.push(lineage.id);
        let is_tracked = *extent != Extent::All;
        Ok(Self { machine, lineage, pages, is_tracked, chain, is_new })
    }

    /// The snapshot is there, and this is its digest. The guest stands still yet.
    pub fn keep(mut self, digest: Option<Digest>) {
        let mut tracker = self.machine.tracker();
        self.is_new = false;
        let is_move = matches!(*tracker, Some(Tracker::Move));
        match digest.filter(|_| self.is_tracked) {
            Some(digest) => {
                let (chain, written) = (std::mem::take(&mut self.chain), Written::default());
                *tracker = Some(Tracker::Snapshots(Newest { chain, digest, written }));
            }
            None if is_move => {}
            None => {
                if tracker.take().is_some() {
                    let _ = self.machine.log_writes(false);
                }
            }
        }
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        if self.is_new {
            let _ = self.machine.log_writes(false);
        }
    }
}

impl Newest {
    fn add(&mut self, written: &Written) {
        match self.written.0.is_empty() {
            true => self.written = written.clone(),
            false => self.written.add(written),
        }
    }

    /// What a snapshot builds on that will be at `path`: the file `older` must be this one.
    fn base(&self, older: &Path, path: &Path) -> Result<Base, Failure> {
        let found = chain::lineage(older)?;
        let id = self.chain.last().copied().filter(|id| found.as_ref().is_some_and(|found| found.id == *id));
        let Some(id) = id else { return Err(not_kept(older)) };
        if CHAIN_MAX <= self.chain.len() {
            let what = format!(
                "{} builds on {} others, and {CHAIN_MAX} is the longest chain",
                older.display(),
                self.chain.len().saturating_sub(1)
            );
            return Err(Failure::refused(what).next("begin a new one: take one with --track."));
        }
        let there = chain::lineage(path).ok().flatten().filter(|there| self.chain.contains(&there.id));
        if there.is_some() {
            let what =
                format!("the new snapshot would take the place of {}, on which it builds", path.display());
            return Err(Failure::refused(what).next("give it another name."));
        }
        let name = name_of(older).ok_or_else(|| {
            Failure::usage(format!("{} has no name in UTF-8 of 255 bytes at most", older.display()))
        })?;
        Ok(Base { id, digest: self.digest, name })
    }
}

/// It is not known what was written since that snapshot.
fn not_kept(older: &Path) -> Failure {
    let what = format!("it is not kept what the guest has written since {} was taken", older.display());
    let next = "take one with --track; the next one may be --since that, while the guest's process runs and \
                it does not reset.";
    Failure::refused(what).next(next)
}
