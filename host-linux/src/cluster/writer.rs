//! Writes votes in a thread of its own, so that a slow disk stalls no heartbeat (F13, X07). Whatever was
//! asked for while a flush was under way goes into the next one.

use super::medium::Medium;
use super::pressure::{Thread, protect_thread};
use super::store::{Bytes, Store};
use super::wake::Wake;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What became of the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything up to this number is durable; it is the number the loop gave.
    Durable(u64),
    /// A write or a flush failed: final.
    Failed,
}

/// The loop's end of the writer.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
}

/// A stop waits this long for the disk: a clean stop takes 5 s at most (BLACKBOX 6).
const STOP_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The newest state of each place: at most one a place, however slow the disk is (V16).
    wanted: BTreeMap<u16, Bytes>,
    /// The number of the newest one of them.
    asked: u64,
    /// What the loop has not been told yet.
    news: Option<Progress>,
    stop: bool,
    ended: bool,
}

impl Writer {
    /// Starts the thread. `wake` is woken when there is [`Progress`].
    ///
    /// # Errors
    ///
    /// No thread could be started.
    pub fn start<M: Medium + Send + 'static>(store: Store<M>, wake: Wake) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("votes".into()).stack_size(256 << 10);
        thread.spawn(move || {
            // What it lacks, the loop lacks too, and says so.
            let _ = protect_thread(Thread::Writer);
            write_all(store, &theirs, &wake);
            theirs.lock().ended = true;
            theirs.changed.notify_all();
        })?;
        Ok(Self { shared })
    }

    /// Asks for `bytes` at `place` to become durable, as number `id`.
    pub fn persist(&self, id: u64, place: u16, bytes: Bytes) {
        let mut state = self.shared.lock();
        state.wanted.insert(place, bytes);
        state.asked = id;
        drop(state);
        self.shared.changed.notify_one();
    }

    /// What happened since the last call.
    pub fn progress(&self) -> Option<Progress> {
        self.shared.lock().news.take()
    }
}

impl Drop for Writer {
    /// Finishes what was asked for, unless the disk hangs.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.changed.notify_one();
        let ended = self.shared.changed.wait_timeout_while(state, STOP_MAX, |state| !state.ended);
        drop(ended);
    }
}

impl Shared {
    /// The state is whole between any two statements under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch; an empty one when there is time to settle; `None` when it is over.
    fn next(&self, is_settled: bool) -> Option<(BTreeMap<u16, Bytes>, u64)> {
        let mut state = self.lock();
        while state.wanted.is_empty() && is_settled && !state.stop {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let is_over = state.stop && state.wanted.is_empty() && is_settled;
        (!is_over).then(|| (std::mem::take(&mut state.wanted), state.asked))
    }
}

fn write_all<M: Medium>(mut store: Store<M>, shared: &Shared, wake: &Wake) {
    let mut is_settled = true;
    while let Some((batch, asked)) = shared.next(is_settled) {
        let done = if batch.is_empty() {
            is_settled = true;
            store.settle().map(|()| None)
        } else {
            is_settled = false;
            store.persist(&batch).map(|()| Some(Progress::Durable(asked)))
        };
        // A failure is told again with every later batch: the loop cannot miss it.
        if let Some(news) = done.unwrap_or(Some(Progress::Failed)) {
            is_settled |= news == Progress::Failed;
            shared.lock().news = Some(news);
            wake.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::store::open_on;
    use bulkhead_core::id::{NodeId, RegisterId, SiteId};
    use bulkhead_core::register::ballot::Ballot;
    use bulkhead_core::register::store::{Owner, STORED_LEN, Stored};
    use bulkhead_core::register::voters::Life;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    const OWNER: Owner = Owner { site: SiteId([1; 16]), node: NodeId(1), life: Life(1) };

    /// A disk in memory whose flushes can be held up, and made to fail.
    #[derive(Clone, Default)]
    struct Slow {
        held: Arc<AtomicBool>,
        fails: Arc<AtomicBool>,
        bytes: Arc<Mutex<BTreeMap<u64, Vec<u8>>>>,
    }

    impl Medium for Slow {
        fn read(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
            let zeros = vec![0; STORED_LEN];
            buffer.copy_from_slice(self.bytes.lock().unwrap().get(&at).unwrap_or(&zeros));
            Ok(())
        }

        fn write(&mut self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
            self.bytes.lock().unwrap().insert(at, bytes.to_vec());
            Ok(())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            while self.held.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            if self.fails.load(Ordering::SeqCst) { Err(std::io::ErrorKind::Other.into()) } else { Ok(()) }
        }
    }

    fn bytes(seq: u64) -> Bytes {
        let promised = Ballot::new(seq, NodeId(1));
        Stored { register: RegisterId(1), seq, promised, accepted: None }.encode(&OWNER)
    }

    fn wait(writer: &Writer) -> Progress {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if let Some(progress) = writer.progress() {
                return progress;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no progress");
    }

    #[test]
    fn a_slow_disk_holds_up_nobody_and_what_waited_becomes_durable_together() {
        let disk = Slow::default();
        let store = open_on(disk.clone(), OWNER, 4).unwrap().store;
        let writer = Writer::start(store, Wake::new().unwrap()).unwrap();
        disk.held.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        for id in 1..=1000 {
            writer.persist(id, 0, bytes(id));
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "the loop waited for the disk");
        assert_eq!(writer.progress(), None, "called durable before the flush");
        disk.held.store(false, Ordering::SeqCst);
        let mut last = wait(&writer);
        while last != Progress::Durable(1000) {
            last = wait(&writer);
        }
        drop(writer);
        assert_eq!(open_on(disk, OWNER, 4).unwrap().registers[0].1.seq, 1000);
    }

    #[test]
    fn a_failed_flush_is_told_for_ever() {
        let disk = Slow::default();
        let store = open_on(disk.clone(), OWNER, 4).unwrap().store;
        let writer = Writer::start(store, Wake::new().unwrap()).unwrap();
        disk.fails.store(true, Ordering::SeqCst);
        writer.persist(1, 0, bytes(1));
        assert_eq!(wait(&writer), Progress::Failed);
        disk.fails.store(false, Ordering::SeqCst);
        writer.persist(2, 1, bytes(2));
        assert_eq!(wait(&writer), Progress::Failed);
    }
}
