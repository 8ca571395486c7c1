//! The engine where the kernel has no `io_uring`, or a sandbox forbids it: a few threads with `pwritev2` and
//! `preadv`.

use super::job::{Durably, Job, Work};
use super::raw::{DEPTH, DROP_MAX};
use crate::cluster::wake::Wake;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fdatasync;
use rustix::io::{Errno, IoSlice, ReadWriteFlags, pread, pwritev2};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Enough to keep two batches, a superblock and a read under way.
const THREADS: usize = 4;

#[derive(Debug)]
pub(super) struct Threads {
    shared: Arc<Shared>,
    wake: Wake,
    under_way: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked: VecDeque<Job>,
    done: Vec<(Job, Result<usize, Errno>)>,
    stop: bool,
    running: usize,
}

impl Shared {
    /// The state is whole between any two statements under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    /// Starts them; `wake` is woken when something is done.
    pub(super) fn new(file: &Arc<File>, wake: Wake) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() });
        let threads = Self { shared, wake, under_way: 0 };
        for _ in 0..THREADS {
            let (shared, file, wake) = (Arc::clone(&threads.shared), Arc::clone(file), threads.wake.clone());
            let thread = std::thread::Builder::new().name("disk".into()).stack_size(256 << 10);
            // Counted here, so that a drop before it runs waits for it.
            let mut state = threads.shared.lock();
            thread.spawn(move || work(&shared, &file, &wake))?;
            state.running = state.running.saturating_add(1);
        }
        Ok(threads)
    }

    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn start(&mut self, job: Job) -> Result<(), Job> {
        if DEPTH <= self.under_way {
            return Err(job);
        }
        self.under_way = self.under_way.saturating_add(1);
        self.shared.lock().asked.push_back(job);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Waits until something is done or somebody wakes it, so long at most. Which of them it was, nobody can
    /// tell.
    pub(super) fn wait(
        &mut self,
        most: Duration,
        done: &mut Vec<(Job, Result<usize, Errno>)>,
    ) -> std::io::Result<bool> {
        if self.shared.lock().done.is_empty() {
            let most = Timespec::try_from(most).map_err(std::io::Error::other)?;
            match poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], Some(&most)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.wake.clear();
        let news = std::mem::take(&mut self.shared.lock().done);
        self.under_way = self.under_way.saturating_sub(news.len());
        done.extend(news);
        Ok(true)
    }
}

impl Drop for Threads {
    /// Waits for what is under way, unless the disk hangs: then its thread ends with the disk's answer, or
    /// the process.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.changed.notify_all();
        let ended = self.shared.changed.wait_timeout_while(state, DROP_MAX, |state| state.running != 0);
        let (mut state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        // Its memory is free now, and not when the last thread has let go of what they share.
        state.done.clear();
    }
}

fn work(shared: &Shared, file: &File, wake: &Wake) {
    loop {
        let mut state = shared.lock();
        let job = loop {
            match state.asked.pop_front() {
                Some(job) => break Some(job),
                None if state.stop => break None,
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let Some(mut job) = job else {
            state.running = state.running.saturating_sub(1);
            drop(state);
            shared.changed.notify_all();
            return;
        };
        drop(state);
        let result = attempt(file, &mut job);
        shared.lock().done.push((job, result));
        wake.wake();
    }
}

/// Does as much of a job as one call does.
fn attempt(file: &File, job: &mut Job) -> Result<usize, Errno> {
    let (at, done) = (job.offset(), job.done);
    match &mut job.work {
        Work::Read { span } => pread(file, span.bytes_mut().get_mut(done..).unwrap_or_default(), at),
        Work::Flush => fdatasync(file).map(|()| 0),
        Work::Write { durably, .. } => {
            let durably = *durably;
            let slices: Vec<_> = job.rest().map(IoSlice::new).collect();
            let flags = match durably {
                Durably::Dsync => ReadWriteFlags::DSYNC,
                Durably::No | Durably::Linked => ReadWriteFlags::empty(),
            };
            let wrote = pwritev2(file, &slices, at, flags)?;
            if durably.is_linked() {
                // A flush is not asked for twice (V13).
                fdatasync(file).map_err(|error| match error {
                    Errno::INTR | Errno::AGAIN => Errno::IO,
                    other => other,
                })?;
            }
            Ok(wrote)
        }
    }
}
