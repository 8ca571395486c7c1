//! The thread that writes what is safe into the backing store (I10; S4-03, S4-05; X13).
//!
//! In rounds: what is dirty in memory at its start, or the next piece of the log when some of it is only
//! there, is written in the order of its places, each volume is flushed, and only then it is called applied.
//! A block that was written ten times since the last round is written once. A store that failed is not
//! written again: nobody knows what it has (F5). One that is full is: it took nothing, and says so before
//! anything is called durable (F12); until it has room the log bounds what guests can write.

use super::compare::differing;
use super::dirty::{Dirty, Era};
use super::extents::{Content, Placed};
use super::fill::Compared;
use super::handle::lock;
use super::logged::{Logged, Reader, placed};
use super::store::Store;
use super::tenancy::{Said, Wish};
use crate::replication::words::{Blocks, Digest};
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::Volume;
use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A store that is full is tried again after so long.
const AGAIN: Duration = Duration::from_millis(500);

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
    /// Whose a store is that other holders reach, too.
    Tenancy(Wish),
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
    /// The store is full, and is tried again and again; `None`: it has room now.
    Full(Option<String>),
    /// Whose the store is.
    Tenancy(Said),
    /// The store failed, or the log, and why. Said once.
    Failed(String),
}

/// The thread.
#[derive(Debug)]
pub struct Applier {
    shared: Arc<Shared>,
    store: Arc<Store>,
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
        let (jobs, own) = (Arc::clone(&shared), Arc::clone(&store));
        let thread = thread.spawn(move || run(&jobs, (&own, &dirty), reader, &tell))?;
        Ok(Self { shared, store, thread: Some(thread) })
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
        // It may wait for a store that is away.
        self.store.claims().stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        leave(&self.store);
    }
}

/// Whoever writes nothing there any more lets another holder have it.
fn leave(store: &Store) {
    // It is never refused.
    let _ = store.tenancy(Wish::Leave);
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
        match carry_out(job, &Hand { store, jobs: shared, tell }, dirty, reader.as_mut(), &mut filled) {
            Ok(done) => done.into_iter().for_each(tell),
            Err(Halt::Over) => return,
            Err(Halt::Failed(_)) if lock(&shared.jobs).over => return,
            Err(Halt::Failed(why)) => {
                leave(store);
                tell(Done::Failed(why));
                return;
            }
            // What found no room is in the log of whoever leads next.
            Err(Halt::Left) => [Done::Full(None), Done::Applied(Seq(0))].into_iter().for_each(tell),
        }
    }
}

/// Why it goes on no further.
#[derive(Debug, PartialEq, Eq)]
enum Halt {
    /// It was told to.
    Over,
    /// It is to leave the store, which is full.
    Left,
    /// The store or the log failed.
    Failed(String),
}

fn carry_out(
    job: Job,
    hand: &Hand<'_>,
    dirty: &Mutex<Dirty>,
    reader: Option<&mut Reader>,
    filled: &mut BTreeSet<Volume>,
) -> Result<Option<Done>, Halt> {
    let store = hand.store;
    let failed = |error: std::io::Error| hand.failed(&error);
    match job {
        Job::Apply { applied, upto, era } => {
            let now = lock(dirty);
            // Something went from memory since this was asked for: what is in memory is not all.
            if applied < now.sunk() || now.era() != era {
                return Ok(Some(Done::Applied(applied)));
            }
            let placed = now.upto(upto);
            drop(now);
            hand.put_all(&placed)?;
            lock(dirty).settle(&placed);
            Ok(Some(Done::Applied(upto)))
        }
        Job::ApplyLogged(logged) => {
            let reader = reader.ok_or_else(|| Halt::Failed("there is no log to read".into()))?;
            let nothing = Ok(Some(Done::Applied(logged.applied)));
            let entries = match reader.next(&logged) {
                Ok(entries) => entries,
                // The log is another one by now.
                Err(_) if lock(dirty).era() != logged.era => return nothing,
                Err(why) => return Err(Halt::Failed(why)),
            };
            let Some(placed) = placed(&entries, dirty, logged.era) else { return nothing };
            hand.put_all(&placed)?;
            let mut dirty = lock(dirty);
            entries.iter().for_each(|entry| dirty.settle_logged(entry));
            Ok(entries.last().map(|last| Done::Applied(last.seq)))
        }
        Job::Fill(placed) => {
            if filled.is_empty() {
                store.begin_fill().map_err(failed)?;
            }
            filled.insert(placed.volume);
            hand.put(&placed).map(|()| None)
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
        Job::Tenancy(wish) => store.tenancy(wish).map(|said| said.map(Done::Tenancy)).map_err(failed),
    }
}

/// What writes into the store.
struct Hand<'a> {
    store: &'a Store,
    jobs: &'a Shared,
    tell: &'a dyn Fn(Done),
}

impl Hand<'_> {
    fn failed(&self, error: &std::io::Error) -> Halt {
        Halt::Failed(format!("{} failed: {error}", self.store.directory().display()))
    }

    /// Writes, and makes durable.
    fn put_all(&self, placed: &[Placed]) -> Result<(), Halt> {
        let volumes: BTreeSet<_> = placed.iter().map(|one| one.volume).collect();
        placed.iter().try_for_each(|one| self.put(one))?;
        // A flush that finds no room has lost what it was to flush: it is a failure as any other one.
        volumes
            .into_iter()
            .try_for_each(|volume| self.store.sync(volume))
            .map_err(|error| self.failed(&error))
    }

    /// Writes, as soon as there is room for it.
    fn put(&self, Placed { volume, first, extent }: &Placed) -> Result<(), Halt> {
        let mut is_told = false;
        loop {
            let content: &Content = &extent.content;
            match self.store.write(*volume, *first, extent.blocks, content) {
                Ok(()) => {
                    if is_told {
                        (self.tell)(Done::Full(None));
                    }
                    return Ok(());
                }
                Err(error) if is_full(&error) => {
                    if !is_told {
                        let place = self.store.directory().display();
                        (self.tell)(Done::Full(Some(format!("{place} is full: {error}"))));
                    }
                    is_told = true;
                    self.wait_for_room()?;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Waits for a while. A volume that was deleted gives its room now, and once more in its turn, for some
    /// of it may still come there before.
    fn wait_for_room(&self) -> Result<(), Halt> {
        let jobs = lock(&self.jobs.jobs);
        let removed = |job: &Job| if let Job::Remove(volume) = job { Some(*volume) } else { None };
        let removed: Vec<_> = jobs.queue.iter().filter_map(removed).collect();
        let is_over = |jobs: &mut Jobs| !jobs.over;
        let waited = self.jobs.wake.wait_timeout_while(jobs, AGAIN, is_over);
        let (jobs, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if jobs.over {
            return Err(Halt::Over);
        }
        if jobs.queue.iter().any(|job| matches!(job, Job::Tenancy(Wish::Leave))) {
            return Err(Halt::Left);
        }
        drop(jobs);
        removed
            .into_iter()
            .try_for_each(|volume| self.store.remove(volume))
            .map_err(|error| self.failed(&error))
    }
}

/// Whether there is no room, now, for what was to be written.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
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

    /// A store that is never full.
    fn alone<'a>(store: &'a Store, jobs: &'a Shared) -> Hand<'a> {
        Hand { store, jobs, tell: &|done| panic!("{done:?}") }
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
        let jobs = Shared::default();
        let done = carry_out(apply(2), &alone(&store, &jobs), &dirty, None, &mut BTreeSet::new());
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
        let jobs = Shared::default();
        let done = carry_out(apply(1), &alone(&store, &jobs), &dirty, None, &mut BTreeSet::new());
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
