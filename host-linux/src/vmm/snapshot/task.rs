//! A snapshot that is taken by a thread of its own, so that the guest's process answers meanwhile: how far it
//! is, and that it is not to be (S3-06).

use super::super::begins::Kept;
use super::super::machine::Machine;
use super::Progress;
use super::tracked::Extent;
use crate::failure::Failure;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

const STACK: usize = 512 << 10;

/// A snapshot that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub to: Kept,
    /// With so much of its memory.
    pub extent: Extent,
    /// It does not go on behind it.
    pub is_end: bool,
}

impl Settings {
    /// Whether there can be such a snapshot.
    ///
    /// # Errors
    ///
    /// One that others are to build on, or that builds on another one, is in a file.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.to {
            Kept::Own(_) if self.extent != Extent::All => {
                let what = "a guest's own volume has only snapshots that build on no others";
                let next = "name a FILE, or leave --track and --since out.";
                Err(Failure::usage(what).next(next))
            }
            Kept::Own(_) | Kept::File(_) => Ok(()),
        }
    }
}

/// A snapshot that is being taken.
#[derive(Debug)]
pub struct Task {
    settings: Settings,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), Failure>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: AtomicU64,
    total: AtomicU64,
    is_cancelled: AtomicBool,
    is_over: AtomicBool,
}

impl Shared {
    fn look(&self, Progress { done, total }: Progress) -> std::io::Result<()> {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        match self.is_cancelled.load(Ordering::SeqCst) {
            true => Err(std::io::Error::other("it was cancelled")),
            false => Ok(()),
        }
    }
}

impl Task {
    /// Begins to take it. The agent at this socket seals the guest's volumes, and has its own one; `None`:
    /// nobody does. `tell` is called when that has come to its end, whatever it is.
    ///
    /// # Errors
    ///
    /// There can be no such snapshot, or the system has no thread.
    pub fn begin(
        machine: &Arc<Machine>,
        settings: Settings,
        agent: Option<PathBuf>,
        tell: impl FnOnce() + Send + 'static,
    ) -> Result<Self, Failure> {
        settings.check()?;
        let shared = Arc::new(Shared::default());
        // What the thread has is gone before somebody hears that it is over.
        let (machine, own, asked) = (Arc::clone(machine), Arc::clone(&shared), settings.clone());
        let work = move || {
            let taken = take(&machine, &asked, agent.as_deref(), &own);
            drop(machine);
            own.is_over.store(true, Ordering::SeqCst);
            tell();
            taken
        };
        let thread = std::thread::Builder::new().name("snapshot".into()).stack_size(STACK).spawn(work);
        let thread = thread.map_err(|error| Failure::failed(format!("no thread for a snapshot: {error}")))?;
        Ok(Self { settings, shared, thread })
    }

    /// It is not to be taken any more. Whether it is not there already.
    pub fn cancel(&self) -> bool {
        self.shared.is_cancelled.store(true, Ordering::SeqCst);
        !self.is_over()
    }

    /// How far it is.
    #[must_use]
    pub fn view(&self) -> Value {
        let [done, total] =
            [&self.shared.done, &self.shared.total].map(|bytes| bytes.load(Ordering::Relaxed));
        let state = match (done, total) {
            _ if self.shared.is_cancelled.load(Ordering::SeqCst) => "cancelled",
            (_, 0) => "stopping",
            (done, total) if done < total => "writing",
            (_, _) => "flushing",
        };
        let to = &self.settings.to;
        json!({ "state": state, "bytes": done, "of": total, "file": to.file(), "own": to.own() })
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::SeqCst)
    }

    /// What came of it, and whether the guest ends with it: cancelled, if that is still possible.
    ///
    /// # Errors
    ///
    /// There is none: why.
    pub fn end(self) -> Result<bool, Failure> {
        self.cancel();
        let broken = || Err(Failure::failed("the snapshot broke off").left(""));
        self.thread.join().unwrap_or_else(|_| broken()).map(|()| self.settings.is_end)
    }
}

fn take(
    machine: &Machine,
    settings: &Settings,
    agent: Option<&Path>,
    shared: &Shared,
) -> Result<(), Failure> {
    let Settings { to, extent, is_end } = settings;
    let saved = to.save(machine, extent, agent, &mut |progress| shared.look(progress));
    match saved {
        Ok(still) => {
            if *is_end {
                // None of its instructions is carried out behind what is in it.
                still.end();
            }
            Ok(())
        }
        Err(_) if shared.is_cancelled.load(Ordering::SeqCst) => {
            let what = format!("the snapshot of guest {} was cancelled", machine.origin().description.name);
            Err(Failure::failed(what).left("Nothing was written; the guest goes on."))
        }
        Err(why) => Err(why),
    }
}
