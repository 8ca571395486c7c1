//! The thread that writes what is safe into the backing store (I10; S4-03, S4-05; X13).
//!
//! In rounds: what is dirty in memory at its start, or the next piece of the log when some of it is only
//! there, is written in the order of its places, each volume is flushed, and only then it is called applied.
//! A block that was written ten times since the last round is written once. A store that failed is not
//! written again: nobody knows what it has (F5).

use super::compare::differing;
use super::dirty::{Dirty, Era};
use super::extents::{Content, Placed};
use super::fill::Compared;
use super::handle::lock;
use super::logged::{Logged, Reader, placed};
use super::store::Store;
use crate::replication::words::{Blocks, Digest};
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::Volume;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What it is asked.
#[derive(Debug)]
pub enum Job {
    /// Every dirty extent of writes up to `upto` is to be in the store; answered by [`Done::Applied`].
    Apply {
        /// The store has every write up to this one.
        applied: Seq,
        /// The last one.
        upto: Seq,
        /// When it is asked.
        era: Era,
    },
    /// As many writes of the log as are read at once are to be in the store; answered by [`Done::Applied`].
    ApplyLogged(Box<Logged>),
    /// Blocks that a primary fills this store with.
    Fill(Placed),
    /// What was filled is to be durable; answered by [`Done::Filled`].
    Sync {
        /// Which fill.
        number: u64,
    },
    /// The store is to be compared with another one; answered by [`Done::Compared`].
    Compare {
        /// Which fill.
        number: u64,
        /// What.
        blocks: Blocks,
        /// What the other one has there.
        digests: Vec<Digest>,
    },
    /// A volume was deleted.
    Remove(Volume),
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Every write up to this one is durable in the store.
    Applied(Seq),
    /// What this fill filled is.
    Filled(u64),
    /// The store was compared.
    Compared(Compared),
    /// The store failed, or the log, and why. Said once.
    Failed(String),
}

/// The thread.
#[derive(Debug)]
pub struct Applier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Jobs {
    queue: VecDeque<Job>,
    over: bool,
}

impl Applier {
    /// Begins; `tell` is called from its thread.
    ///
    /// # Errors
    ///
    /// There are no threads.
    pub fn start(
        store: Arc<Store>,
        dirty: Arc<Mutex<Dirty>>,
        reader: Option<Reader>,
        tell: impl Fn(Done) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("applier".into());
        let jobs = Arc::clone(&shared);
        let thread = thread.spawn(move || run(&jobs, (&store, &dirty), reader, &tell))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks for something. Jobs are done in the order they come in.
    pub fn ask(&self, job: Job) {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).queue.push_back(job);
        self.shared.wake.notify_one();
    }
}

impl Drop for Applier {
    /// Ends after the job that is being done.
    fn drop(&mut self) {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn run(
    shared: &Shared,
    (store, dirty): (&Store, &Mutex<Dirty>),
    mut reader: Option<Reader>,
    tell: &dyn Fn(Done),
) {
    let mut filled = BTreeSet::new();
    loop {
        let mut jobs = shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            if jobs.over {
                return;
            }
            match jobs.queue.pop_front() {
                Some(job) => break job,
                None => jobs = shared.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(jobs);
        match carry_out(job, (store, dirty), reader.as_mut(), &mut filled) {
            Ok(done) => done.into_iter().for_each(tell),
            Err(why) => {
                tell(Done::Failed(why));
                return;
            }
        }
    }
}

fn carry_out(
    job: Job,
    (store, dirty): (&Store, &Mutex<Dirty>),
    reader: Option<&mut Reader>,
    filled: &mut BTreeSet<Volume>,
) -> Result<Option<Done>, String> {
    let failed = |error: std::io::Error| format!("{} failed: {error}", store.directory().display());
    match job {
        Job::Apply { applied, upto, era } => {
            let now = lock(dirty);
            // Something went from memory since this was asked for: what is in memory is not all.
            if applied < now.sunk() || now.era() != era {
                return Ok(Some(Done::Applied(applied)));
            }
            let placed = now.upto(upto);
            drop(now);
            put_all(store, &placed).map_err(failed)?;
            lock(dirty).settle(&placed);
            Ok(Some(Done::Applied(upto)))
        }
        Job::ApplyLogged(logged) => {
            let reader = reader.ok_or("there is no log to read")?;
            let nothing = Ok(Some(Done::Applied(logged.applied)));
            let entries = match reader.next(&logged) {
                Ok(entries) => entries,
                // The log is another one by now.
                Err(_) if lock(dirty).era() != logged.era => return nothing,
                Err(why) => return Err(why),
            };
            let Some(placed) = placed(&entries, dirty, logged.era) else { return nothing };
            put_all(store, &placed).map_err(failed)?;
            let mut dirty = lock(dirty);
            entries.iter().for_each(|entry| dirty.settle_logged(entry));
            Ok(entries.last().map(|last| Done::Applied(last.seq)))
        }
        Job::Fill(placed) => {
            if filled.is_empty() {
                store.begin_fill().map_err(failed)?;
            }
            filled.insert(placed.volume);
            put(store, &placed).map(|()| None).map_err(failed)
        }
        Job::Sync { number } => {
            let volumes = std::mem::take(filled);
            volumes.into_iter().try_for_each(|volume| store.sync(volume)).map_err(failed)?;
            Ok(Some(Done::Filled(number)))
        }
        Job::Compare { number, blocks, digests } => {
            let differing = differing(store, blocks, &digests);
            Ok(Some(Done::Compared(Compared { number, blocks, differing })))
        }
        Job::Remove(volume) => store.remove(volume).map(|()| None).map_err(failed),
    }
}

/// Writes, and makes durable.
fn put_all(store: &Store, placed: &[Placed]) -> Result<(), std::io::Error> {
    let volumes: BTreeSet<_> = placed.iter().map(|one| one.volume).collect();
    placed.iter().try_for_each(|one| put(store, one))?;
    volumes.into_iter().try_for_each(|volume| store.sync(volume))
}

fn put(store: &Store, Placed { volume, first, extent }: &Placed) -> Result<(), std::io::Error> {
    let content: &Content = &extent.content;
    store.write(*volume, *first, extent.blocks, content)
}

#[cfg(test)]
mod tests {
    use super::super::backing::How;
    use super::super::window::{Entry, testing::entry};
    use super::*;
    use crate::storage::buffers::Pool;
    use bulkhead_core::log::batch::{BlockIndex, Kind, Write};
    use bulkhead_core::log::ring::{BLOCKS_MIN, Position, Ring};
    use std::sync::mpsc::channel;

    fn apply(upto: u64) -> Job {
        Job::Apply { applied: Seq(0), upto: Seq(upto), era: Era::default() }
    }

    /// I10, V1: memory is short between a round's begin and the moment at which the applier comes to it. What
    /// went to the log meanwhile is not called applied; the next round reads it there.
    #[test]
    fn what_leaves_memory_before_its_round_is_not_called_applied() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let ring = Ring::new(BLOCKS_MIN).unwrap();
        let dirty = Mutex::new(Dirty::over(ring).unwrap());
        let pool = Pool::new(1 << 20).unwrap();
        for seq in 1..=2 {
            let write = Write::new(Volume(1), BlockIndex(seq), 1, Kind::Data).unwrap();
            let piece = Some(pool.take(1).unwrap().keep().piece());
            dirty.lock().unwrap().insert(&Entry { at: Some(Position(seq)), ..entry(seq, write, piece) });
        }
        dirty.lock().unwrap().sink(Seq(2), 1);
        let done = carry_out(apply(2), (&store, &dirty), None, &mut BTreeSet::new());
        assert_eq!(done, Ok(Some(Done::Applied(Seq(0)))));
        assert_eq!(dirty.lock().unwrap().data_blocks(), 2, "one in memory, one in the log");
    }

    /// I10: a primary began to fill this store, or the log was made anew: what is not there any more was not
    /// written.
    #[test]
    fn what_became_void_before_its_round_is_not_called_applied() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let dirty = Mutex::new(Dirty::default());
        let write = Write::new(Volume(1), BlockIndex(0), 1, Kind::Zeroes).unwrap();
        dirty.lock().unwrap().insert(&entry(1, write, None));
        dirty.lock().unwrap().clear();
        let done = carry_out(apply(1), (&store, &dirty), None, &mut BTreeSet::new());
        assert_eq!(done, Ok(Some(Done::Applied(Seq(0)))));
        assert!(placed(&[entry(1, write, None)], &dirty, Era::default()).is_none());
    }

    #[test]
    fn a_round_is_in_the_store_and_durable_before_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let dirty = Arc::new(Mutex::new(Dirty::default()));
        let (tell, told) = channel();
        let applier = Applier::start(Arc::clone(&store), Arc::clone(&dirty), None, move |done| {
            tell.send(done).unwrap()
        })
        .unwrap();
        let pool = Pool::new(1 << 20).unwrap();
        let write = |seq: u64, first, byte| {
            let mut buffer = pool.take(1).unwrap();
            buffer.bytes_mut().fill(byte);
            let write = Write::new(Volume(1), BlockIndex(first), 1, Kind::Data).unwrap();
            dirty.lock().unwrap().insert(&entry(seq, write, Some(buffer.keep().piece())));
        };
        write(1, 4, 1);
        write(2, 4, 2);
        write(3, 5, 3);
        applier.ask(apply(2));
        assert_eq!(told.recv().unwrap(), Done::Applied(Seq(2)));
        let mut bytes = vec![0; 2 * 4096];
        store.read(Volume(1), 4, &mut bytes, How::Waiting).unwrap();
        assert_eq!((bytes[0], bytes[4096]), (2, 0), "write 3 is not safe yet");
        assert_eq!(dirty.lock().unwrap().data_blocks(), 1);
        applier.ask(apply(3));
        applier.ask(Job::Sync { number: 7 });
        assert_eq!(told.recv().unwrap(), Done::Applied(Seq(3)));
        assert_eq!(told.recv().unwrap(), Done::Filled(7));
        applier.ask(Job::Remove(Volume(1)));
        drop(applier);
    }

    /// F13: the store is full, or away. It is said once, and nothing is called applied.
    #[test]
    fn a_store_that_fails_is_not_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("gone")).unwrap());
        std::fs::remove_dir(directory.path().join("gone")).unwrap();
        let dirty = Arc::new(Mutex::new(Dirty::default()));
        let (tell, told) = channel();
        let applier =
            Applier::start(store, Arc::clone(&dirty), None, move |done| tell.send(done).unwrap()).unwrap();
        let write = Write::new(Volume(1), BlockIndex(0), 1, Kind::Data).unwrap();
        let piece = Pool::new(1 << 20).unwrap().take(1).unwrap().keep().piece();
        dirty.lock().unwrap().insert(&entry(1, write, Some(piece)));
        applier.ask(apply(1));
        applier.ask(apply(1));
        assert!(matches!(told.recv().unwrap(), Done::Failed(why) if why.contains("gone")));
        assert!(told.recv().is_err());
        assert_eq!(dirty.lock().unwrap().data_blocks(), 1);
    }
}
