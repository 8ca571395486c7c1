//! The thread that writes what is safe into the backing store (I10; S4-03, S4-05; X13).
//!
//! In rounds: what is dirty at its start is written in the order of its places, each volume is flushed, and
//! only then it is called applied. A block that was written ten times since the last round is written once.
//! A store that failed is not written again: nobody knows what it has (F5).

use super::dirty::{Content, Dirty, Placed};
use super::store::Store;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::Volume;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What it is asked.
#[derive(Debug)]
pub enum Job {
    /// Every dirty extent of writes up to this one is to be in the store; answered by [`Done::Applied`].
    Apply(Seq),
    /// Blocks that a primary fills this store with.
    Fill(Placed),
    /// What was filled is to be durable; answered by [`Done::Filled`].
    Sync,
    /// A volume was deleted.
    Remove(Volume),
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Every write up to this one is durable in the store.
    Applied(Seq),
    /// What was filled is.
    Filled,
    /// The store failed, and why. Said once.
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
        tell: impl Fn(Done) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("applier".into());
        let jobs = Arc::clone(&shared);
        let thread = thread.spawn(move || run(&jobs, &store, &dirty, &tell))?;
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

fn run(shared: &Shared, store: &Store, dirty: &Mutex<Dirty>, tell: &dyn Fn(Done)) {
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
        match carry_out(job, store, dirty, &mut filled) {
            Ok(done) => done.into_iter().for_each(tell),
            Err(error) => {
                tell(Done::Failed(format!("{} failed: {error}", store.directory().display())));
                return;
            }
        }
    }
}

fn carry_out(
    job: Job,
    store: &Store,
    dirty: &Mutex<Dirty>,
    filled: &mut BTreeSet<Volume>,
) -> Result<Option<Done>, std::io::Error> {
    match job {
        Job::Apply(upto) => {
            let placed = dirty.lock().unwrap_or_else(PoisonError::into_inner).upto(upto);
            let volumes: BTreeSet<_> = placed.iter().map(|one| one.volume).collect();
            placed.iter().try_for_each(|one| put(store, one))?;
            volumes.into_iter().try_for_each(|volume| store.sync(volume))?;
            dirty.lock().unwrap_or_else(PoisonError::into_inner).settle(&placed);
            Ok(Some(Done::Applied(upto)))
        }
        Job::Fill(placed) => {
            filled.insert(placed.volume);
            put(store, &placed).map(|()| None)
        }
        Job::Sync => {
            std::mem::take(filled).into_iter().try_for_each(|volume| store.sync(volume))?;
            Ok(Some(Done::Filled))
        }
        Job::Remove(volume) => store.remove(volume).map(|()| None),
    }
}

fn put(store: &Store, Placed { volume, first, extent }: &Placed) -> Result<(), std::io::Error> {
    let content: &Content = &extent.content;
    store.write(*volume, *first, extent.blocks, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::buffers::Pool;
    use bulkhead_core::log::batch::{BlockIndex, Kind, Write};
    use std::sync::mpsc::channel;

    #[test]
    fn a_round_is_in_the_store_and_durable_before_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let dirty = Arc::new(Mutex::new(Dirty::default()));
        let (tell, told) = channel();
        let applier =
            Applier::start(Arc::clone(&store), Arc::clone(&dirty), move |done| tell.send(done).unwrap())
                .unwrap();
        let pool = Pool::new(1 << 20).unwrap();
        let write = |seq: u64, first, byte| {
            let mut buffer = pool.take(1).unwrap();
            buffer.bytes_mut().fill(byte);
            let write = Write::new(Volume(1), BlockIndex(first), 1, Kind::Data).unwrap();
            dirty.lock().unwrap().insert(Seq(seq), &write, Some(buffer.keep().piece()));
        };
        write(1, 4, 1);
        write(2, 4, 2);
        write(3, 5, 3);
        applier.ask(Job::Apply(Seq(2)));
        assert_eq!(told.recv().unwrap(), Done::Applied(Seq(2)));
        let mut bytes = vec![0; 2 * 4096];
        store.read(Volume(1), 4, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[4096]), (2, 0), "write 3 is not safe yet");
        assert_eq!(dirty.lock().unwrap().data_blocks(), 1);
        applier.ask(Job::Apply(Seq(3)));
        applier.ask(Job::Sync);
        assert_eq!(told.recv().unwrap(), Done::Applied(Seq(3)));
        assert_eq!(told.recv().unwrap(), Done::Filled);
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
            Applier::start(store, Arc::clone(&dirty), move |done| tell.send(done).unwrap()).unwrap();
        let write = Write::new(Volume(1), BlockIndex(0), 1, Kind::Data).unwrap();
        let piece = Pool::new(1 << 20).unwrap().take(1).unwrap().keep().piece();
        dirty.lock().unwrap().insert(Seq(1), &write, Some(piece));
        applier.ask(Job::Apply(Seq(1)));
        applier.ask(Job::Apply(Seq(1)));
        assert!(matches!(told.recv().unwrap(), Done::Failed(why) if why.contains("gone")));
        assert!(told.recv().is_err());
        assert_eq!(dirty.lock().unwrap().data_blocks(), 1);
    }
}
